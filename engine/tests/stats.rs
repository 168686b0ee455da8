//! What the statistics say of a small store whose every operation is known.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

use isotherm::config::{Config, Tier};
use isotherm::{Bucket, Durability, ErrorKind, Scope, Stats, Store};

const LEN: u64 = 1000;
const KEYS: u64 = 100;

fn open(directory: &Path) -> (Store, Bucket) {
    let tiers = [Tier::dram("8MiB"), Tier::nvme("128MiB")];
    let builder = tiers.into_iter().fold(Config::builder(), |builder, tier| builder.tier(tier));
    let store = Store::open(directory.join("s"), builder.shards(1).build().unwrap()).unwrap();
    let bucket = store.bucket("b").unwrap();
    (store, bucket)
}

fn key(number: u64) -> Vec<u8> {
    format!("key{number}").into_bytes()
}

fn put_all(bucket: &Bucket) {
    for number in 0..KEYS {
        bucket.put_with(&key(number), &[7; LEN as usize], Durability::Memory.into()).unwrap();
    }
}

#[test]
fn gets_are_counted_by_where_they_were_answered_with_their_bytes_and_latency() {
    let place = tempfile::tempdir().unwrap();
    let (store, bucket) = open(place.path());
    assert_eq!(store.stats().hit_ratio(), 0.0);
    put_all(&bucket);
    let mut value = vec![0; LEN as usize];
    for number in 0..512 {
        bucket.get_into(&key(number % KEYS), &mut value).unwrap();
        bucket.get(&key(number % KEYS)).unwrap();
    }
    assert_eq!(bucket.get(b"none").unwrap_err().kind(), ErrorKind::NotFound);
    let stats = store.stats();
    assert_eq!((stats.dram_hits, stats.dram_misses, stats.hit_ratio()), (1024, 0, 1.0));
    assert_eq!((stats.get_bytes, stats.get.count), (1024 * LEN, 1024));
    assert!(stats.get.p50_ns > 0 && stats.get.max_ns >= stats.get.p50_ns);
    store.close().unwrap();
    // Now every value is first on the device, then in DRAM.
    let (store, bucket) = open(place.path());
    for number in (0..KEYS).chain(0..KEYS) {
        bucket.get_into(&key(number), &mut value).unwrap();
    }
    let stats = store.stats();
    assert_eq!((stats.dram_hits, stats.dram_misses, stats.hit_ratio()), (KEYS, KEYS, 0.5));
    assert_eq!((stats.get_bytes, stats.get.count), (2 * KEYS * LEN, KEYS));
    store.close().unwrap();
}

#[test]
fn puts_at_memory_level_are_those_that_dram_took() {
    let place = tempfile::tempdir().unwrap();
    let (store, bucket) = open(place.path());
    put_all(&bucket);
    // Too large for DRAM: it runs as Written.
    let large = vec![1; 16 << 20];
    bucket.put_with(b"large", &large, Durability::Memory.into()).unwrap();
    let memory = Durability::Memory.into();
    assert_eq!(bucket.delete_with(b"none", memory).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(bucket.put_with(b"", b"", memory).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let stats = store.stats();
    assert_eq!((stats.memory_puts, stats.memory_fallbacks), (KEYS, 1));
    assert_eq!(stats.put_bytes, KEYS * LEN + large.len() as u64);
    assert_eq!(stats.put.count, 1, "the one that took a device; the others are too few to sample");
    store.close().unwrap();
}

#[test]
fn write_amplification_is_what_devices_wrote_by_what_callers_put() {
    let place = tempfile::tempdir().unwrap();
    let (store, bucket) = open(place.path());
    assert_eq!(store.stats().write_amplification(), 0.0);
    for number in 0..32 {
        bucket.put_with(&key(number), &vec![1; 1 << 20], Durability::Written.into()).unwrap();
    }
    store.flush(Scope::Store).unwrap();
    let stats: Stats = store.stats();
    let written: u64 = stats.tiers.iter().map(|tier| tier.written_bytes).sum();
    assert_eq!(stats.put_bytes, 32 << 20);
    assert_eq!(stats.write_amplification(), written as f64 / f64::from(32 << 20));
    // Every byte once, the log's records, and little else.
    assert!((1.0..1.5).contains(&stats.write_amplification()), "{}", stats.write_amplification());
    store.close().unwrap();
}
