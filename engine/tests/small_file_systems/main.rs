//! Stores whose capacity others have taken of the file system: filled until there is no space, emptied,
//! compacted, again and again, on ext4, xfs and btrfs in images. Nothing leaks, and what is read is right
//! all the time. Needs root, loop devices and mkfs; `make test-full` runs it.
//! `ISOTHERM_FILL_CYCLES` says how often.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../support/mod.rs"]
mod support;

mod mounted;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use isotherm::config::{Config, Tier};
use isotherm::{Bucket, Durability, ErrorKind, Store};

use crate::mounted::Mounted;
use crate::support::content::fill;
use crate::support::rng::{Rng, mix};

/// Bytes that others leave to a store, once it is there with a capacity of twice as many.
const FREE: u64 = 96 << 20;
const CAPACITY: u64 = 2 * FREE;
const SEGMENT: u64 = 4 << 20;
const VALUE_LEN_MAX: u64 = 600_000;
/// Blobs that are there through all cycles.
const KEPT: u64 = 10;
/// Cycles until everything is as large as it gets.
const WARM_UP: u64 = 3;
const CYCLES: u64 = 100;
/// What the allocator may keep for itself from one look to the next.
const RESIDENT_SLACK: u64 = 8 << 20;

/// What a cycle leaves of file system and process.
#[derive(Clone, Copy, Debug)]
struct Left {
    /// Blobs that found room in the cycle.
    filled: u64,
    free_bytes: u64,
    used_bytes: u64,
    resident_bytes: u64,
    descriptors: u64,
}

#[test]
#[ignore = "needs root; scripts/test.sh --full"]
fn an_ext4_file_system_can_be_filled_and_emptied_for_ever() {
    fill_and_empty("ext4");
}

#[test]
#[ignore = "needs root; scripts/test.sh --full"]
fn an_xfs_file_system_can_be_filled_and_emptied_for_ever() {
    fill_and_empty("xfs");
}

#[test]
#[ignore = "needs root; scripts/test.sh --full"]
fn a_btrfs_file_system_can_be_filled_and_emptied_for_ever() {
    fill_and_empty("btrfs");
}

fn say(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

fn fill_and_empty(kind: &str) {
    // Descriptors and memory are the process's.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mounted = match Mounted::new(kind) {
        Ok(mounted) => mounted,
        Err(reason) => return say(&format!("NOT RUN: a full file system of {kind}: {reason}\n")),
    };
    let cycles = std::env::var("ISOTHERM_FILL_CYCLES").map_or(CYCLES, |text| text.parse().unwrap());
    let path = mounted.path().join("store");
    let mut store = open(&path);
    mounted.leave(FREE);
    let bucket = store.bucket("b").unwrap();
    (0..KEPT).for_each(|number| put(&bucket, number).unwrap());
    drop(bucket);
    let mut first = None;
    let mut last = None;
    for cycle in 0..cycles {
        let left = run_cycle(&store, &mounted, 1000 * (cycle + 1));
        if cycle == WARM_UP {
            first = Some(left);
        }
        last = Some(left);
        if cycle == cycles / 2 {
            store.close().unwrap();
            store = open(&path);
        }
    }
    store.close().unwrap();
    let (first, last) = (first.unwrap(), last.unwrap());
    say(&format!("{kind}, {cycles} cycles: after the first {first:?}, after the last {last:?}\n"));
    assert!(last.filled >= first.filled * 9 / 10, "there is less and less room");
    assert!(last.free_bytes + 2 * SEGMENT >= first.free_bytes, "the file system fills up");
    assert!(last.used_bytes <= first.used_bytes + 2 * SEGMENT, "segments are lost");
    assert!(last.resident_bytes <= first.resident_bytes + RESIDENT_SLACK, "memory is lost");
    assert!(last.descriptors <= first.descriptors, "descriptors are lost");
}

fn open(path: &Path) -> Store {
    let config = Config::builder()
        .tier(Tier::dram("8MiB"))
        .tier(Tier::nvme(CAPACITY))
        .segment_size(SEGMENT)
        .build();
    Store::open(path, config.unwrap()).unwrap()
}

/// Fills the file system, reads all of it, deletes what the cycle has put, and compacts.
fn run_cycle(store: &Store, mounted: &Mounted, from: u64) -> Left {
    let bucket = store.open_bucket("b").unwrap();
    let refused = |number: &u64| {
        put(&bucket, *number).is_err_and(|error| {
            assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
            true
        })
    };
    let end = (from..).find(refused).unwrap();
    assert!(end > from + 20, "only {} blobs in {FREE} bytes", end - from);
    assert_eq!(bucket.get(&key(end)).unwrap_err().kind(), ErrorKind::NotFound);
    (0..KEPT).chain(from..end).for_each(|number| check(&bucket, number));
    for number in from..end {
        bucket.delete_with(&key(number), level(number).into()).unwrap();
    }
    store.compact().unwrap();
    (0..KEPT).for_each(|number| check(&bucket, number));
    let stats = store.stats();
    assert_eq!((stats.blobs, stats.corruptions), (KEPT, 0));
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    Left {
        filled: end - from,
        free_bytes: mounted.free(),
        used_bytes: stats.tiers.iter().map(|tier| tier.used).sum(),
        resident_bytes: pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096,
        descriptors: fs::read_dir("/proc/self/fd").unwrap().count() as u64,
    }
}

fn key(number: u64) -> Vec<u8> {
    number.to_le_bytes().to_vec()
}

fn level(number: u64) -> Durability {
    if number.is_multiple_of(2) { Durability::Durable } else { Durability::Written }
}

fn value(number: u64) -> Vec<u8> {
    let len = VALUE_LEN_MAX / 2 + Rng::new(mix(number)).below(VALUE_LEN_MAX / 2);
    let mut value = vec![0; len as usize];
    fill(number, 0, &mut value);
    value
}

fn put(bucket: &Bucket, number: u64) -> isotherm::Result<()> {
    bucket.put_with(&key(number), &value(number), level(number).into()).map(drop)
}

fn check(bucket: &Bucket, number: u64) {
    assert!(bucket.get(&key(number)).unwrap() == value(number), "blob {number}");
}
