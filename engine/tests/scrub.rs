//! The background scrub: it finds planted rot before anybody reads it, repairs what has a second copy,
//! leaves the rest alone, and everything else goes on.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use isotherm::config::{Config, OrganizerChoice, Tier};
use isotherm::{Bucket, CheckOptions, ErrorKind, Scope, Stats, Store};
use support::rot::{TIER, config, flip, noise, tier_file};

/// A blob of each shape: in the log, a lone buffer, a map in memory, a map in pages.
const SHAPES: [(&str, usize); 4] =
    [("in the log", 3000), ("one buffer", 40_000), ("several", 100_000), ("pages", 900_000)];
/// What the organizer can run on here.
const RUNS_ON: [OrganizerChoice; 2] = [OrganizerChoice::Auto, OrganizerChoice::Threads];
/// Far longer than any pass takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Passes follow each other at once, as fast as the device is.
fn open(path: &Path, organizer: OrganizerChoice) -> Store {
    let config = config().organizer(organizer);
    let scrub = config.scrub_bytes_per_second("100GiB").scrub_interval(Duration::from_millis(10));
    Store::open(path, scrub.build().unwrap()).unwrap()
}

fn fill(store: &Store) -> Bucket {
    let bucket = store.bucket("b").unwrap();
    for (key, len) in SHAPES {
        bucket.put(key.as_bytes(), &noise(len as u64, len)).unwrap();
    }
    store.flush(Scope::Store).unwrap();
    bucket
}

/// A byte of the value's middle buffer on the device.
fn middle_of(bucket: &Bucket, key: &str) -> u64 {
    let places = bucket.locate(key.as_bytes()).unwrap();
    let place = &places[places.len() / 2];
    place.device_offset.unwrap() + place.len / 2
}

/// A buffer that is read whole enters DRAM.
fn bring_middle_into_dram(bucket: &Bucket, key: &str) {
    let places = bucket.locate(key.as_bytes()).unwrap();
    let place = &places[places.len() / 2];
    let mut bytes = vec![0; place.len as usize];
    bucket.get_at(key.as_bytes(), place.value_offset, &mut bytes).unwrap();
    let places = bucket.locate(key.as_bytes()).unwrap();
    assert!(places[places.len() / 2].in_dram, "{key}: {places:?}");
}

fn wait_for(store: &Store, what: &str, is_so: impl Fn(&Stats) -> bool) -> Stats {
    let start = Instant::now();
    loop {
        let stats = store.stats();
        if is_so(&stats) {
            return stats;
        }
        assert!(start.elapsed() < PATIENCE, "not in time: {what}; {stats:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until a pass that begins after now has ended.
fn wait_for_a_pass(store: &Store) -> Stats {
    let passes = store.stats().organizer.scrub.passes;
    wait_for(store, "a pass", |stats| stats.organizer.scrub.passes >= passes + 2)
}

fn damaged_keys(store: &Store) -> Vec<Vec<u8>> {
    let damaged = store.damaged();
    assert!(damaged.iter().all(|one| one.bucket.as_deref() == Some("b")), "{damaged:?}");
    let mut keys: Vec<_> = damaged.iter().map(|one| one.key.clone().unwrap().to_vec()).collect();
    keys.sort_unstable();
    keys
}

fn all_keys() -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = SHAPES.iter().map(|(key, _)| key.as_bytes().to_vec()).collect();
    keys.sort_unstable();
    keys
}

fn check_values(bucket: &Bucket) {
    for (key, len) in SHAPES {
        assert!(bucket.get(key.as_bytes()).unwrap() == noise(len as u64, len), "{key}");
    }
}

#[test]
fn every_live_byte_is_read_and_nothing_is_found_in_a_healthy_store() {
    for organizer in RUNS_ON {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory.path().join("s"), organizer);
        let bucket = fill(&store);
        let stats = wait_for_a_pass(&store);
        let scrub = stats.organizer.scrub;
        let live: usize = SHAPES.iter().map(|(_, len)| len).sum();
        assert!(scrub.bytes > live as u64, "{scrub:?}");
        assert!(scrub.last_pass_s > 1_700_000_000, "{scrub:?}");
        assert_eq!((stats.organizer.corrupt_buffers, stats.corruptions), (0, 0));
        assert_eq!((stats.notes, store.damaged()), (Vec::new(), Vec::new()));
        check_values(&bucket);
        store.close().unwrap();
    }
}

#[test]
fn rot_without_a_second_copy_is_found_unread_and_left_alone_and_everything_else_goes_on() {
    for organizer in RUNS_ON {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let store = open(&path, organizer);
        fill(&store);
        store.close().unwrap();
        // What was put is in DRAM no more.
        let store = open(&path, organizer);
        let bucket = store.open_bucket("b").unwrap();
        let planted = SHAPES.map(|(key, _)| middle_of(&bucket, key));
        planted.iter().for_each(|at| flip(&tier_file(&store), *at));
        let shapes = SHAPES.len() as u64;
        let stats =
            wait_for(&store, "all is found", |stats| stats.organizer.corrupt_buffers >= shapes);
        assert_eq!((stats.dram_hits, stats.dram_misses), (0, 0), "nobody has read");
        assert_eq!(damaged_keys(&store), all_keys());
        let stats = wait_for_a_pass(&store);
        let organizer = &stats.organizer;
        assert_eq!((organizer.corrupt_buffers, organizer.quarantined_buffers), (shapes, shapes));
        assert_eq!((organizer.repaired_buffers, organizer.moved_bytes), (0, 0));
        assert!(stats.notes.len() >= SHAPES.len(), "{:?}", stats.notes);
        for (key, _) in SHAPES {
            let refused = bucket.get(key.as_bytes()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Corrupt);
            assert!(refused.message().contains(key) && refused.message().contains("\"b\""));
        }
        bucket.put(b"new", &noise(5, 50_000)).unwrap();
        assert!(bucket.get(b"new").unwrap() == noise(5, 50_000));
        // A blob that is put again is whole, and so are bytes that come back.
        bucket.put(SHAPES[1].0.as_bytes(), &noise(40_000, 40_000)).unwrap();
        [0, 2, 3].iter().for_each(|shape| flip(&tier_file(&store), planted[*shape]));
        wait_for_a_pass(&store);
        assert_eq!(store.damaged(), Vec::new());
        check_values(&bucket);
        store.close().unwrap();
    }
}

#[test]
fn a_rotten_buffer_that_dram_has_is_written_elsewhere_and_read_from_there_after_a_reopening() {
    for organizer in RUNS_ON {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let store = open(&path, organizer);
        let bucket = fill(&store);
        SHAPES.iter().for_each(|(key, _)| bring_middle_into_dram(&bucket, key));
        let planted = SHAPES.map(|(key, _)| middle_of(&bucket, key));
        planted.iter().for_each(|at| flip(&tier_file(&store), *at));
        let shapes = SHAPES.len() as u64;
        let stats =
            wait_for(&store, "all is repaired", |stats| stats.organizer.repaired_buffers >= shapes);
        assert_eq!(stats.organizer.corrupt_buffers, shapes, "{stats:?}");
        let stats = wait_for_a_pass(&store);
        let figures = (stats.organizer.repaired_buffers, stats.organizer.quarantined_buffers);
        assert_eq!((figures, store.damaged()), ((shapes, 0), Vec::new()));
        for (at, (key, _)) in planted.iter().zip(SHAPES) {
            assert_ne!(middle_of(&bucket, key), *at, "{key} is where it was");
        }
        store.close().unwrap();
        let store = open(&path, organizer);
        let options = CheckOptions::default();
        let report = store.check(&options, |_| std::ops::ControlFlow::Continue(())).unwrap();
        assert!(report.is_clean(), "{report:?}");
        check_values(&store.open_bucket("b").unwrap());
        store.close().unwrap();
    }
}

/// Where structures with this magic begin, in whole blocks of the fast tier.
fn places_of(store: &Store, magic: &[u8; 8]) -> Vec<u64> {
    let path = store.info().tiers[1].path.clone().unwrap();
    let bytes = std::fs::read(path).unwrap();
    let blocks = bytes.chunks(4096).enumerate();
    blocks.filter(|(_, block)| block.starts_with(magic)).map(|(at, _)| at as u64 * 4096).collect()
}

/// The numbers of batches, and where they are.
fn batches(store: &Store) -> Vec<(u64, u64)> {
    let path = store.info().tiers[1].path.clone().unwrap();
    let bytes = std::fs::read(path).unwrap();
    let seq =
        |at: u64| u64::from_le_bytes(bytes[at as usize + 56..at as usize + 64].try_into().unwrap());
    let mut found: Vec<_> =
        places_of(store, b"isobatch").into_iter().map(|at| (seq(at), at)).collect();
    found.sort_unstable();
    found
}

/// Every kind of structure: where one byte of it is, or of all those that might be kept.
fn structures(store: &Store) -> [(&'static str, Vec<u64>); 5] {
    let batches = batches(store);
    // The last one may not be flushed: whether it is torn, nobody knows.
    let batch = batches[batches.len() - 3].1;
    let inside = |places: Vec<u64>| places.into_iter().map(|at| at + 70).collect();
    [
        ("superblock", vec![100]),
        ("superblock", vec![65_536 + 100]),
        ("checkpoint image", inside(places_of(store, b"iso-part"))),
        ("checkpoint root", inside(places_of(store, b"iso-root"))),
        ("log batch", vec![batch + 70]),
    ]
}

#[test]
fn rotten_superblocks_checkpoints_and_batches_are_found_and_written_anew() {
    for organizer in RUNS_ON {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let store = open(&path, organizer);
        let bucket = fill(&store);
        store.compact().unwrap();
        for round in 0..8 {
            bucket.put(b"more", &noise(round, 3000)).unwrap();
            store.flush(Scope::Store).unwrap();
        }
        for kind in 0..structures(&store).len() {
            let (what, planted) = structures(&store)[kind].clone();
            let before = wait_for_a_pass(&store).organizer.scrub;
            assert_eq!(before.bad_structures, before.repaired_structures, "{what}");
            planted.iter().for_each(|at| flip(&tier_file(&store), *at));
            let stats = wait_for(&store, what, |stats| {
                let scrub = &stats.organizer.scrub;
                scrub.bad_structures > before.bad_structures
                    && scrub.repaired_structures == scrub.bad_structures
            });
            let is_told = |note: &String| note.contains(what) && note.contains("of tier 0");
            assert!(stats.notes.iter().any(is_told), "{what}: {:?}", stats.notes);
        }
        store.close().unwrap();
        let store = open(&path, organizer);
        check_values(&store.open_bucket("b").unwrap());
        let options = CheckOptions::default();
        let report = store.check(&options, |_| std::ops::ControlFlow::Continue(())).unwrap();
        assert!(report.is_clean(), "{report:?}");
        store.close().unwrap();
    }
}

#[test]
fn a_check_names_rotten_superblocks_checkpoints_and_batches() {
    let directory = tempfile::tempdir().unwrap();
    let tiers = Config::builder().tier(Tier::dram("8MiB")).tier(Tier::nvme(TIER));
    let config = tiers.shards(1).buffer_size("64KiB").scrub_bytes_per_second(0u64);
    let store = Store::open(directory.path().join("s"), config.build().unwrap()).unwrap();
    let bucket = fill(&store);
    store.compact().unwrap();
    for round in 0..8 {
        bucket.put(b"more", &noise(round, 3000)).unwrap();
        store.flush(Scope::Store).unwrap();
    }
    let check = || {
        let options = CheckOptions::default();
        store.check(&options, |_| std::ops::ControlFlow::Continue(())).unwrap()
    };
    let clean = check();
    assert!(clean.is_clean(), "{clean:?}");
    let seen = &clean.structures;
    assert!(seen.superblocks == 2 && seen.checkpoint_parts > 2 && seen.batches > 8, "{seen:?}");
    for (what, planted) in structures(&store) {
        planted.iter().for_each(|at| flip(&tier_file(&store), *at));
        let report = check();
        assert!(!report.is_clean() && report.fault_count == 0, "{what}: {report:?}");
        let faults = &report.structures.faults;
        let is_it = |place: &u64| {
            let mut named = faults.iter().filter(|fault| fault.structure.name() == what);
            named.any(|fault| (fault.device_offset..=fault.device_offset + 100).contains(place))
        };
        assert!(planted.iter().any(is_it), "{what}: {faults:?}");
        planted.iter().for_each(|at| flip(&tier_file(&store), *at));
        assert!(check().is_clean(), "{what}");
    }
    store.close().unwrap();
}
