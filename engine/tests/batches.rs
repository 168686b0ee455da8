//! Changes of several blobs that take place together, and conditions.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use isotherm::config::{Config, Tier};
use isotherm::{Batch, BucketOptions, Condition, Durability, ErrorKind, ScanRange, Store};

fn open(place: &tempfile::TempDir) -> Store {
    let config = Config::builder()
        .tier(Tier::dram("8MiB"))
        .tier(Tier::nvme("128MiB"))
        .shards(1)
        .page_extents(4)
        .build();
    Store::open(place.path().join("store"), config.unwrap()).unwrap()
}

fn value(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| ((at * 31) ^ (at >> 7) ^ seed) as u8).collect()
}

#[test]
fn every_kind_of_step_takes_place_in_every_bucket_and_is_found_again() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let (a, b) = (store.bucket("a").unwrap(), store.bucket("b").unwrap());
    for level in [Durability::Memory, Durability::Written, Durability::Durable] {
        for key in [b"at", b"ap", b"tr", b"de", b"kp"] {
            a.put_with(key, &value(1, 40_000), level.into()).unwrap();
        }
        let (large, huge) = (value(2, 300_000), value(3, 6 << 20));
        let mut batch = Batch::new();
        batch.put(&a, b"small", &b"value"[..]).put(&b, b"large", &large).put(&a, b"huge", huge);
        batch.put(&b, b"empty", Vec::new()).put_at(&a, b"at", 39_999, &large[..]);
        batch.append(&a, b"ap", &large[..]).truncate(&a, b"tr", 7).delete(&a, b"de");
        batch.require(&a, b"kp", Condition::Present);
        let versions = store.commit(&batch, None).unwrap();
        assert_eq!(versions.len(), batch.len());
        assert_eq!(a.stat(b"small").unwrap().version, versions[0]);
        assert_eq!(a.stat(b"kp").unwrap().version, versions[8]);
        let store = match level {
            Durability::Durable => {
                store.close().unwrap();
                open(&place)
            }
            _ => store.clone(),
        };
        let (a, b) = (store.bucket("a").unwrap(), store.bucket("b").unwrap());
        assert_eq!(a.get(b"small").unwrap(), b"value");
        assert!(b.get(b"large").unwrap() == large);
        assert!(a.get(b"huge").unwrap() == value(3, 6 << 20));
        assert_eq!(b.get(b"empty").unwrap(), b"");
        assert!(a.get(b"at").unwrap() == [&value(1, 39_999)[..], &large].concat());
        assert!(a.get(b"ap").unwrap() == [&value(1, 40_000)[..], &large].concat());
        assert!(a.get(b"tr").unwrap() == value(1, 7));
        assert_eq!(a.get(b"de").unwrap_err().kind(), ErrorKind::NotFound);
        assert!(a.get(b"kp").unwrap() == value(1, 40_000));
    }
}

#[test]
fn a_batch_that_cannot_be_made_changes_nothing() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let bucket = store.bucket("b").unwrap();
    let version = bucket.put(b"there", b"before").unwrap();
    let refused = |batch: &Batch<'_>, kind: ErrorKind| {
        let error = store.commit(batch, None).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(bucket.scan(ScanRange::all()).count(), 1);
        assert_eq!(bucket.get(b"there").unwrap(), b"before");
        assert_eq!(bucket.stat(b"there").unwrap().version, version);
    };
    let two = || {
        let mut batch = Batch::new();
        batch.put(&bucket, b"new", &b"v"[..]).put(&bucket, b"there", &b"after"[..]);
        batch
    };
    refused(two().when(Condition::Absent), ErrorKind::Exists);
    refused(two().when(Condition::Version(isotherm::Version(1))), ErrorKind::VersionMismatch);
    refused(two().require(&bucket, b"gone", Condition::Present), ErrorKind::NotFound);
    refused(two().delete(&bucket, b"gone"), ErrorKind::NotFound);
    refused(two().put(&bucket, b"new", &b"again"[..]), ErrorKind::InvalidArgument);
    refused(two().put(&bucket, b"", &b"v"[..]), ErrorKind::InvalidArgument);
    refused(two().put_at(&bucket, b"far", u64::MAX, &b"v"[..]), ErrorKind::InvalidArgument);
    let mut too_large = Batch::new();
    let keys: Vec<Vec<u8>> = (0..20_000u32).map(|n| format!("{n:01000}").into_bytes()).collect();
    for key in &keys {
        too_large.put(&bucket, key, &b"v"[..]);
    }
    refused(&too_large, ErrorKind::LimitExceeded);
    let mut much = Batch::new();
    much.put(&bucket, b"much", vec![1; 100 << 20]).put(&bucket, b"more", vec![1; 100 << 20]);
    refused(&much, ErrorKind::NoSpace);
    drop(store.create_bucket("gone", BucketOptions::default()).unwrap());
    let gone = store.open_bucket("gone").unwrap();
    store.destroy_bucket("gone").unwrap();
    refused(two().put(&gone, b"k", &b"v"[..]), ErrorKind::BucketNotFound);
    // And none of that is in the way of what can be.
    store.commit(two().when(Condition::Version(version)), None).unwrap();
    assert_eq!(bucket.get(b"there").unwrap(), b"after");
    store.commit(&Batch::new(), Some(Durability::Durable)).unwrap();
}

#[test]
fn conditions_hold_at_every_level_or_nothing_is_changed() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let bucket = store.bucket("b").unwrap();
    for (number, level) in
        [Durability::Memory, Durability::Written, Durability::Durable].into_iter().enumerate()
    {
        let key = [number as u8];
        let put = |value: &[u8], condition: Condition| {
            let options = isotherm::PutOptions { durability: Some(level), condition };
            bucket.put_with(&key, value, options)
        };
        assert_eq!(put(b"0", Condition::Present).unwrap_err().kind(), ErrorKind::NotFound);
        let first = put(b"1", Condition::Absent).unwrap();
        assert_eq!(put(b"2", Condition::Absent).unwrap_err().kind(), ErrorKind::Exists);
        let second = put(b"3", Condition::Version(first)).unwrap();
        let late = put(b"4", Condition::Version(first)).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::VersionMismatch);
        assert_eq!(bucket.get(&key).unwrap(), b"3");
        assert_eq!(bucket.stat(&key).unwrap().version, second);
    }
}

#[test]
fn a_counter_of_many_threads_loses_no_increment() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let bucket = store.bucket("b").unwrap();
    bucket.put(b"n", &0u64.to_le_bytes()).unwrap();
    const EACH: u64 = 200;
    thread::scope(|scope| {
        for thread in 0..4 {
            let bucket = &bucket;
            scope.spawn(move || {
                let level = [Durability::Memory, Durability::Written][thread % 2];
                let mut made = 0;
                while made < EACH {
                    let version = bucket.stat(b"n").unwrap().version;
                    let n = u64::from_le_bytes(bucket.get(b"n").unwrap().try_into().unwrap());
                    let condition = Condition::Version(version);
                    let options = isotherm::PutOptions { durability: Some(level), condition };
                    match bucket.put_with(b"n", &(n + 1).to_le_bytes(), options) {
                        Ok(_) => made += 1,
                        Err(error) => assert_eq!(error.kind(), ErrorKind::VersionMismatch),
                    }
                }
            });
        }
    });
    assert_eq!(bucket.get(b"n").unwrap(), (4 * EACH).to_le_bytes());
}

#[test]
fn two_batches_never_wait_for_each_other_and_readers_see_whole_ones() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let buckets = [store.bucket("a").unwrap(), store.bucket("b").unwrap()];
    let keys: Vec<[u8; 1]> = (0..20u8).map(|n| [n]).collect();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..3u8 {
            let (store, buckets, keys, over) = (&store, &buckets, &keys, &over);
            scope.spawn(move || {
                for round in 0..100u8 {
                    let value = vec![round.wrapping_mul(3).wrapping_add(writer); 50];
                    let mut batch = Batch::new();
                    // In an order of each writer's own.
                    for at in 0..keys.len() {
                        let at = (at * 7 + usize::from(writer) * 5) % keys.len();
                        for bucket in buckets {
                            batch.put(bucket, &keys[at], value.clone());
                        }
                    }
                    store.commit(&batch, None).unwrap();
                }
                over.store(true, Ordering::SeqCst);
            });
        }
        let (store, buckets, keys, over) = (&store, &buckets, &keys, &over);
        scope.spawn(move || {
            let all: Vec<_> =
                buckets.iter().flat_map(|b| keys.iter().map(move |key| (b, &key[..]))).collect();
            while !over.load(Ordering::SeqCst) {
                let values = store.get_many(&all).unwrap();
                let first = values[0].as_ref().ok();
                assert!(values.iter().all(|value| value.as_ref().ok() == first));
            }
        });
    });
}
