//! Values whose maps stand in extent pages.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use isotherm::config::{Config, ConfigBuilder, Tier};
use isotherm::{Bucket, Durability, ErrorKind, ScanRange, Scope, Store};

const BUFFER: usize = 64 << 10;
const TIER: u64 = 64 << 20;

/// Pages of four extents, over buffers of 64 KiB: a value of 128 KiB and more has pages.
fn builder() -> ConfigBuilder {
    let tiers = [Tier::dram("8MiB"), Tier::nvme(TIER)];
    let builder = tiers.into_iter().fold(Config::builder(), |builder, tier| builder.tier(tier));
    builder.shards(2).buffer_size("64KiB").page_extents(4)
}

fn open(path: &Path) -> Store {
    Store::open(path.join("s"), builder().build().unwrap()).unwrap()
}

fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    (0..len).map(next).collect()
}

/// What every way of asking for a value answers.
fn check(bucket: &Bucket, key: &[u8], expected: &[u8]) {
    assert!(bucket.get(key).unwrap() == expected, "the whole value");
    for n in 0..20 {
        let at = n * 7_654_321 % expected.len();
        let mut part = vec![0; 5000.min(expected.len() - at)];
        assert_eq!(bucket.get_at(key, at as u64, &mut part).unwrap(), part.len());
        assert!(part == expected[at..at + part.len()], "{} bytes at {at}", part.len());
    }
    let places = bucket.locate(key).unwrap();
    assert!(places.windows(2).all(|pair| pair[0].value_offset < pair[1].value_offset));
    let placed: u64 = places.iter().map(|place| place.len).sum();
    assert!(placed <= expected.len() as u64);
    assert_eq!(bucket.stat(key).unwrap().len, expected.len() as u64);
    let item = bucket.scan(ScanRange::prefix(key)).next().unwrap().unwrap();
    assert_eq!(item.len, expected.len() as u64);
}

/// Waits until no page is left to be released: a put that needs the room does the same.
fn settle(store: &Store, live_max: u64) {
    for _ in 0..500 {
        if store.stats().tiers[0].live <= live_max {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{} bytes live, expected {live_max} at most", store.stats().tiers[0].live);
}

#[test]
fn every_kind_of_change_of_a_large_map_makes_the_value_one_expects() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = pattern(1, 40 * BUFFER + 777);
    {
        let store = open(dir.path());
        let bucket = store.bucket("b").unwrap();
        bucket.put(b"k", &expected).unwrap();
        assert_eq!(bucket.stat(b"k").unwrap().buffers, 41);
        check(&bucket, b"k", &expected);
        for (n, level) in
            [Durability::Memory, Durability::Written, Durability::Durable].iter().enumerate()
        {
            let at = (3 + 11 * n) * BUFFER - 100;
            let patch = pattern(n as u64 + 7, 3 * BUFFER);
            bucket.put_at_with(b"k", at as u64, &patch, (*level).into()).unwrap();
            expected[at..at + patch.len()].copy_from_slice(&patch);
            let tail = pattern(n as u64 + 70, BUFFER / 2);
            bucket.append_with(b"k", &tail, (*level).into()).unwrap();
            expected.extend_from_slice(&tail);
            check(&bucket, b"k", &expected);
        }
        // Down into the middle of a page, and up again: zeros, not the old bytes.
        bucket.truncate(b"k", (17 * BUFFER + 5) as u64).unwrap();
        expected.truncate(17 * BUFFER + 5);
        bucket.truncate(b"k", (30 * BUFFER) as u64).unwrap();
        expected.resize(30 * BUFFER, 0);
        check(&bucket, b"k", &expected);
        bucket.put_at(b"k", (33 * BUFFER) as u64, b"behind the end").unwrap();
        expected.resize(33 * BUFFER, 0);
        expected.extend_from_slice(b"behind the end");
        check(&bucket, b"k", &expected);
        store.close().unwrap();
    }
    let store = open(dir.path());
    let bucket = store.open_bucket("b").unwrap();
    check(&bucket, b"k", &expected);
    assert!(store.stats().page_misses > 0, "no page was read");
    bucket.truncate(b"k", 0).unwrap();
    assert_eq!(bucket.get(b"k").unwrap(), b"");
    settle(&store, 0);
}

#[test]
fn small_values_grow_into_pages_whatever_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let starts: [(&str, usize, Durability); 6] = [
        ("nothing", 0, Durability::Written),
        ("zeros", 0, Durability::Memory),
        ("a lone buffer", 9000, Durability::Written),
        ("a dirty lone buffer", 9000, Durability::Memory),
        ("a small map", BUFFER + 9, Durability::Written),
        ("a dirty small map", BUFFER + 9, Durability::Memory),
    ];
    let expected = |seed: usize, len: usize| {
        let mut value = pattern(seed as u64, len);
        value.extend(pattern(seed as u64 + 50, 6 * BUFFER));
        value
    };
    {
        let store = open(dir.path());
        let bucket = store.bucket("b").unwrap();
        for (seed, (name, len, level)) in starts.into_iter().enumerate() {
            if name != "nothing" {
                let value = pattern(seed as u64, len);
                bucket.put_with(name.as_bytes(), &value, level.into()).unwrap();
            }
            bucket.append(name.as_bytes(), &pattern(seed as u64 + 50, 6 * BUFFER)).unwrap();
            check(&bucket, name.as_bytes(), &expected(seed, len));
        }
        store.flush(Scope::Store).unwrap();
    }
    let store = open(dir.path());
    let bucket = store.open_bucket("b").unwrap();
    for (seed, (name, len, _)) in starts.into_iter().enumerate() {
        check(&bucket, name.as_bytes(), &expected(seed, len));
    }
}

#[test]
fn a_large_memory_put_is_written_behind_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = pattern(3, 20 * BUFFER);
    {
        let store = open(dir.path());
        let bucket = store.bucket("b").unwrap();
        bucket.put_with(b"k", &expected, Durability::Memory.into()).unwrap();
        bucket.put_at_with(b"k", 100_000, b"patched in DRAM", Durability::Memory.into()).unwrap();
        expected[100_000..100_015].copy_from_slice(b"patched in DRAM");
        check(&bucket, b"k", &expected);
        store.flush(Scope::Store).unwrap();
        assert_eq!(store.stats().memory.dram_dirty, 0);
        check(&bucket, b"k", &expected);
        bucket.put_at_with(b"k", 300_000, b"and once more", Durability::Memory.into()).unwrap();
        expected[300_000..300_013].copy_from_slice(b"and once more");
        check(&bucket, b"k", &expected);
        store.close().unwrap();
    }
    let store = open(dir.path());
    check(&store.open_bucket("b").unwrap(), b"k", &expected);
}

#[test]
fn what_a_deleted_value_held_is_free_for_the_next_put() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bucket = store.bucket("b").unwrap();
    // More than half of what the tier takes: two of them do not fit.
    let value = pattern(9, 10 << 20);
    for round in 0..8 {
        bucket.put(b"k", &value).unwrap();
        assert!(bucket.get(b"k").unwrap() == value, "round {round}");
        bucket.delete(b"k").unwrap();
    }
    settle(&store, 0);
    let stats = store.stats();
    assert!(stats.organizer.released_pages >= 8 * 40, "{:?}", stats.organizer);
    assert_eq!(stats.notes, Vec::<String>::new());
}

#[test]
fn a_destroyed_bucket_releases_its_pages() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bucket = store.bucket("b").unwrap();
    for key in [b"x", b"y"] {
        bucket.put(key, &pattern(4, 12 * BUFFER)).unwrap();
    }
    store.destroy_bucket("b").unwrap();
    settle(&store, 0);
}

#[test]
fn the_index_holds_a_small_row_for_each_buffer_of_a_large_value() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::builder().tier(Tier::dram("8MiB")).tier(Tier::nvme("512MiB"));
    let config = config.buffer_size("64KiB").build().unwrap();
    let store = Store::open(dir.path().join("s"), config).unwrap();
    let bucket = store.bucket("b").unwrap();
    bucket.put(b"small", b"x").unwrap();
    let before = store.stats().memory;
    // A dozen for each shard of the table: fewer would share the least that one takes.
    let buffers = 3000;
    bucket.put(b"large", &pattern(5, buffers * (64 << 10))).unwrap();
    let after = store.stats().memory;
    // An inline map would take an extent and a list of checksums more for each: over 100 bytes.
    let each = (after.index - before.index) / buffers as u64;
    assert!(each <= 96, "{each} bytes of index for each buffer");
    assert!(after.pages > before.pages && after.pages <= after.pages_max, "{after:?}");
}

#[test]
fn no_flipped_bit_of_a_page_goes_unnoticed() {
    let dir = tempfile::tempdir().unwrap();
    let value = pattern(6, 10 * BUFFER);
    {
        let store = open(dir.path());
        store.bucket("b").unwrap().put(b"k", &value).unwrap();
        store.close().unwrap();
    }
    let file = std::fs::read_dir(dir.path().join("s"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.metadata().unwrap().len() == TIER)
        .unwrap();
    let file = OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut bytes = vec![0; TIER as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let magic = bytes.windows(8).position(|window| window == b"iso-page").unwrap() as u64;
    for at in [0, 13, 33, 64, 90, 130, 200] {
        let good = bytes[(magic + at) as usize];
        file.write_all_at(&[good ^ 4], magic + at).unwrap();
        {
            let store = open(dir.path());
            let error = store.open_bucket("b").unwrap().get(b"k").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at}: {error}");
        }
        file.write_all_at(&[good], magic + at).unwrap();
    }
    let store = open(dir.path());
    assert!(store.open_bucket("b").unwrap().get(b"k").unwrap() == value);
}
