//! The check of a store in use: nothing in a healthy one, every planted fault in another.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use isotherm::{
    CheckOptions, CheckReport, Durability, ErrorKind, Fault, FaultyPart, PutOptions, Recount,
    Scope, Store,
};
use support::rot::{TIER, config, flip, noise, tier_file};

const CHECK_BLOCK: u64 = 16 << 10;
/// A blob of each shape: in the log, a lone buffer, a map in memory, a map in pages.
const SHAPES: [(&str, usize); 5] = [
    ("empty", 0),
    ("in the log", 3000),
    ("one buffer", 40_000),
    ("several buffers", 100_000),
    ("pages", 900_000),
];

fn open(path: &Path) -> Store {
    Store::open(path, config().build().unwrap()).unwrap()
}

fn fill(store: &Store) {
    let bucket = store.bucket("b").unwrap();
    for (key, len) in SHAPES {
        bucket.put(key.as_bytes(), &noise(len as u64, len)).unwrap();
    }
}

fn check(store: &Store) -> CheckReport {
    store.check(&CheckOptions::default(), |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn a_healthy_store_has_no_fault_and_every_buffer_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("s"));
    assert!(check(&store).is_clean());
    fill(&store);
    let bucket = store.open_bucket("b").unwrap();
    bucket.copy(b"pages", &bucket, b"shared", PutOptions::default()).unwrap();
    bucket.truncate(b"shared", 500_000).unwrap();
    store.flush(Scope::Store).unwrap();
    let read_before = store.stats().tiers[0].read_bytes;
    let report = check(&store);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.buckets, report.blobs), (1, 6));
    // 14 buffers of 64 KiB in the pages, 8 of them in what the copy has kept.
    assert_eq!((report.buffers, report.in_memory), (1 + 1 + 2 + 14 + 8, 0), "{report:?}");
    assert!(report.pages >= 4 + 2, "{report:?}");
    let values: usize = SHAPES.iter().map(|(_, len)| len).sum();
    assert!(report.bytes >= values as u64 + 500_000, "{report:?}");
    assert!(store.stats().tiers[0].read_bytes - read_before >= report.bytes);
    assert_eq!(report.recount, Recount::Made(Vec::new()));
    // What no device has yet is counted, and no fault.
    bucket.put_with(b"dirty", &noise(9, 50_000), Durability::Memory.into()).unwrap();
    let report = check(&store);
    assert_eq!((report.in_memory + report.buffers, report.fault_count), (27, 0), "{report:?}");
}

#[test]
fn a_flipped_byte_of_any_shape_is_found_at_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("s"));
    fill(&store);
    let (bucket, file) = (store.open_bucket("b").unwrap(), tier_file(&store));
    let mut planted = Vec::new();
    for (key, _) in &SHAPES[1..] {
        let places = bucket.locate(key.as_bytes()).unwrap();
        let place = &places[places.len() / 2];
        let into = place.len * 3 / 4;
        let start = place.device_offset.unwrap();
        flip(&file, start + into);
        let block = start + into / CHECK_BLOCK * CHECK_BLOCK;
        planted.push((key.as_bytes().to_vec(), place.buffer, place.value_offset, block, into));
    }
    let report = check(&store);
    assert_eq!(report.fault_count, planted.len() as u64, "{report:?}");
    assert_eq!((report.blobs, report.is_clean()), (SHAPES.len() as u64, false));
    for (key, buffer, value_offset, block, _) in &planted {
        let is_it = |fault: &&Fault| *fault.key == **key;
        let fault = report.faults.iter().find(is_it).unwrap();
        let kind = (fault.kind, fault.part, fault.buffer);
        assert_eq!(kind, (ErrorKind::Corrupt, FaultyPart::Buffer, *buffer), "{fault:?}");
        assert_eq!(fault.bucket, "b");
        assert_eq!((fault.value_offset, fault.device_offset), (*value_offset, Some(*block)));
        assert_eq!(fault.tier.map(|tier| tier.0), Some(0));
    }
    for (key, _, value_offset, _, into) in &planted {
        let places = bucket.locate(key).unwrap();
        let place = places.iter().find(|place| place.value_offset == *value_offset).unwrap();
        flip(&file, place.device_offset.unwrap() + into);
    }
    assert!(check(&store).is_clean());
}

#[test]
fn a_flipped_byte_of_an_extent_page_is_found_though_memory_has_the_page() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("s"));
    fill(&store);
    assert!(store.stats().memory.pages > 0);
    let file = tier_file(&store);
    let mut bytes = vec![0; TIER as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let page = bytes.windows(8).position(|window| window == b"iso-page").unwrap() as u64;
    flip(&file, page + 70);
    let report = check(&store);
    assert_eq!(report.fault_count, 1, "{report:?}");
    let fault = &report.faults[0];
    assert_eq!((&*fault.key, fault.part), (b"pages".as_slice(), FaultyPart::ExtentPage));
    assert_eq!((fault.kind, fault.device_offset), (ErrorKind::Corrupt, Some(page)));
    flip(&file, page + 70);
    assert!(check(&store).is_clean());
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_checked() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("s"));
    fill(&store);
    // The pages of the large value were written last.
    let bucket = store.open_bucket("b").unwrap();
    let places = bucket.locate(b"pages").unwrap();
    let last = places.iter().filter_map(|place| place.device_offset).max().unwrap();
    tier_file(&store).set_len(last).unwrap();
    let report = check(&store);
    assert_eq!((report.blobs, report.buffers), (SHAPES.len() as u64, 4), "{report:?}");
    assert!(report.fault_count >= 4 && report.faults.len() as u64 == report.fault_count);
    for fault in &report.faults {
        assert_eq!((&*fault.key, fault.kind), (b"pages".as_slice(), ErrorKind::Io), "{fault:?}");
        assert!(fault.device_offset >= Some(last) && fault.tier.is_some(), "{fault:?}");
    }
}

#[test]
fn a_check_keeps_to_its_rate_and_ends_when_it_is_told_to() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("s"));
    fill(&store);
    let slow = CheckOptions { bytes_per_second_max: 4 << 20 };
    let start = Instant::now();
    let mut last = Default::default();
    let report = store.check(&slow, |progress| {
        last = *progress;
        ControlFlow::Continue(())
    });
    assert!(report.unwrap().is_clean() && start.elapsed() > Duration::from_millis(200));
    assert_eq!((last.blobs, last.blobs_total), (5, 5));
    assert!(last.bytes > 1_000_000 && last.bytes_total >= 1_000_000, "{last:?}");

    let crawl = CheckOptions { bytes_per_second_max: 1 };
    let mut asked = 0;
    let report = store.check(&crawl, |_| {
        asked += 1;
        if asked == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let report = report.unwrap();
    assert!(report.cancelled && !report.is_clean());
    let none = CheckOptions { bytes_per_second_max: 0 };
    let refused = store.check(&none, |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    // Closing does not wait for a check.
    let handle = store.clone();
    let checker = std::thread::spawn(move || handle.check(&crawl, |_| ControlFlow::Continue(())));
    std::thread::sleep(Duration::from_millis(20));
    store.close().unwrap();
    drop(checker);
}

#[test]
fn a_check_beside_writers_finds_nothing_and_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("s"));
    let bucket = store.bucket("b").unwrap();
    let (ended, puts) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for writer in 0..2u64 {
            let (bucket, ended, puts) = (&bucket, &ended, &puts);
            scope.spawn(move || {
                let mut round = writer;
                while !ended.load(Ordering::Relaxed) {
                    round += 2;
                    let key = format!("k{}", round % 17);
                    let len = [10, 3000, 50_000, 150_000, 400_000][round as usize % 5];
                    let level = [Durability::Memory, Durability::Written][round as usize % 2];
                    match round % 7 {
                        3 => drop(bucket.delete(key.as_bytes())),
                        _ => drop(
                            bucket
                                .put_with(key.as_bytes(), &noise(round, len), level.into())
                                .unwrap(),
                        ),
                    }
                    puts.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(700) {
            let report = check(&store);
            assert_eq!((report.faults, report.fault_count), (Vec::new(), 0));
        }
        ended.store(true, Ordering::Relaxed);
    });
    assert!(puts.into_inner() > 20);
    assert_eq!(store.stats().notes, Vec::<String>::new());
    store.flush(Scope::Store).unwrap();
    store.close().unwrap();
}
