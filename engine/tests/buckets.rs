//! Whole buckets: renamed, limited, cleared, and what they survive.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod small_store;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use isotherm::config::{Config, Tier};
use isotherm::{
    AttributeChanges, Batch, Bucket, BucketOptions, Durability, Error, ErrorKind, PutOptions,
    ScanRange, Scope, Store,
};

use small_store::{crashed, open, value};

const LEVELS: [Durability; 3] = [Durability::Memory, Durability::Written, Durability::Durable];

fn limits(bytes: u64, blobs: u64) -> BucketOptions {
    BucketOptions { quota_bytes: Some(bytes), quota_blobs: Some(blobs), ..BucketOptions::default() }
}

fn holds(bucket: &Bucket, blobs: u64, bytes: u64) {
    let stat = bucket.bucket_stat().unwrap();
    assert_eq!((stat.blobs, stat.bytes), (blobs, bytes));
    let found: Vec<_> = bucket.scan(ScanRange::all()).map(Result::unwrap).collect();
    let sum: u64 = found.iter().map(|item| item.len).sum();
    assert_eq!((found.len() as u64, sum), (blobs, bytes));
}

fn exceeded<T: std::fmt::Debug>(result: Result<T, Error>) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded, "{error}");
}

#[test]
fn a_renamed_bucket_keeps_its_blobs_and_handles_and_gives_its_name_away() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let bucket = store.create_bucket("old", limits(1000, 10)).unwrap();
    bucket.put_with(b"k", b"v", Durability::Memory.into()).unwrap();
    store.bucket("taken").unwrap();
    store.rename_bucket("old", "new").unwrap();
    assert_eq!(&*bucket.name(), b"new");
    bucket.put(b"l", b"later").unwrap();
    let kinds = [
        (store.rename_bucket("old", "x"), ErrorKind::BucketNotFound),
        (store.rename_bucket("new", "taken"), ErrorKind::BucketExists),
        (store.rename_bucket("new", "new"), ErrorKind::InvalidArgument),
        (store.rename_bucket("new", ""), ErrorKind::InvalidArgument),
    ];
    for (refused, kind) in kinds {
        assert_eq!(refused.unwrap_err().kind(), kind);
    }
    store.bucket("old").unwrap().put(b"other", b"bucket").unwrap();
    store.flush(Scope::Store).unwrap();
    let check = |store: &Store| {
        let names: Vec<_> = store.list_buckets().unwrap().into_iter().map(|b| b.name).collect();
        assert_eq!(names, ["new", "old", "taken"]);
        let bucket = store.open_bucket("new").unwrap();
        assert_eq!(bucket.get(b"k").unwrap(), b"v");
        assert_eq!(bucket.get(b"l").unwrap(), b"later");
        assert_eq!(bucket.bucket_stat().unwrap().options, limits(1000, 10));
        assert_eq!(store.open_bucket("old").unwrap().get(b"other").unwrap(), b"bucket");
    };
    check(&store);
    check(&crashed(&place, 0));
    store.close().unwrap();
    check(&open(&place));
}

#[test]
fn options_hold_for_changes_that_follow_and_are_found_again() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let bucket = store.bucket("b").unwrap();
    let options = BucketOptions {
        durability: Some(Durability::Memory),
        buffer_size: Some(128 << 10),
        quota_bytes: Some(1 << 20),
        quota_blobs: Some(3),
    };
    store.set_bucket_options("b", options).unwrap();
    bucket.put(b"k", &value(1, 128 << 10)).unwrap();
    assert!(bucket.locate(b"k").unwrap()[0].dirty, "the put was not one of Memory level");
    assert_eq!(bucket.stat(b"k").unwrap().buffers, 1);
    let wrong = |options| store.set_bucket_options("b", options).unwrap_err().kind();
    let default = BucketOptions::default;
    let too_small = BucketOptions { buffer_size: Some(1), ..default() };
    let none = BucketOptions { quota_blobs: Some(0), ..default() };
    assert_eq!([wrong(too_small), wrong(none)], [ErrorKind::InvalidArgument; 2]);
    let missing = store.set_bucket_options("c", options).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::BucketNotFound);
    let check = |store: &Store| {
        let info = store.list_buckets().unwrap().remove(0);
        assert_eq!((info.options, &*info.name), (options, "b"));
        assert_eq!(store.bucket("b").unwrap().bucket_stat().unwrap().options, options);
    };
    check(&store);
    check(&crashed(&place, 0));
    store.close().unwrap();
    check(&open(&place));
}

#[test]
fn every_kind_of_growth_beyond_a_quota_is_refused_at_every_level() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    for level in LEVELS {
        let name = format!("{level:?}");
        let bucket = store.create_bucket(&name, limits(100, 2)).unwrap();
        let at = || PutOptions::from(level);
        bucket.put_with(b"a", &[1; 60], at()).unwrap();
        exceeded(bucket.put_with(b"b", &[1; 41], at()));
        bucket.put_with(b"b", &[1; 40], at()).unwrap();
        exceeded(bucket.put_with(b"c", b"", at()));
        exceeded(bucket.put_at_with(b"a", 60, b"x", at()));
        exceeded(bucket.put_at_with(b"c", 0, b"", at()));
        exceeded(bucket.append_with(b"b", b"x", at()));
        exceeded(bucket.append_with(b"c", b"", at()));
        exceeded(bucket.truncate_with(b"a", 61, at()));
        exceeded(bucket.put_with(b"a", &[1; 61], at()));
        exceeded(bucket.copy(b"b", &bucket, b"c", at()));
        exceeded(bucket.copy(b"a", &bucket, b"b", at()));
        assert_eq!(bucket.delete_with(b"c", at()).unwrap_err().kind(), ErrorKind::NotFound);
        holds(&bucket, 2, 100);
        // What does not grow goes on, and what is given back is there at once.
        bucket.put_with(b"a", &[2; 60], at()).unwrap();
        bucket.set_attribute(b"a", "n", 1).unwrap();
        bucket.rename(b"a", &bucket, b"c", at()).unwrap();
        bucket.truncate_with(b"c", 50, at()).unwrap();
        bucket.append_with(b"b", &[1; 10], at()).unwrap();
        bucket.delete_with(b"c", at()).unwrap();
        bucket.put_with(b"d", &[1; 50], at()).unwrap();
        holds(&bucket, 2, 100);
    }
    store.close().unwrap();
    let store = open(&place);
    for level in LEVELS {
        let bucket = store.open_bucket(&format!("{level:?}")).unwrap();
        holds(&bucket, 2, 100);
        exceeded(bucket.append(b"b", b"x"));
    }
}

#[test]
fn a_change_that_wants_a_blob_says_that_there_is_none_however_full_the_bucket() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let bucket = store.create_bucket("b", limits(10, 1)).unwrap();
    bucket.put(b"k", &[1; 10]).unwrap();
    for level in LEVELS {
        let changes = AttributeChanges::new().set("a", 1);
        let refused = [
            bucket.truncate_with(b"none", 5, level.into()).map(drop),
            bucket.delete_with(b"none", level.into()),
            bucket.set_attributes_with(b"none", &changes, level.into()).map(drop),
        ];
        for result in refused {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound, "{level:?}");
        }
    }
}

#[test]
fn a_batch_counts_as_a_whole_and_is_refused_as_a_whole() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let full = store.create_bucket("full", limits(100, 2)).unwrap();
    let other = store.bucket("other").unwrap();
    full.put(b"a", &[1; 50]).unwrap();
    full.put(b"b", &[1; 50]).unwrap();
    let mut batch = Batch::new();
    batch.put(&other, b"o", &b"v"[..]).put(&full, b"c", vec![2; 30]).put(&full, b"d", vec![2; 70]);
    exceeded(store.commit(&batch, None));
    batch.delete(&full, b"a");
    exceeded(store.commit(&batch, None));
    holds(&full, 2, 100);
    assert!(!other.exists(b"o").unwrap());
    batch.delete(&full, b"b");
    store.commit(&batch, None).unwrap();
    holds(&full, 2, 100);
    assert!(other.exists(b"o").unwrap());
    // Out of one bucket into another.
    other.put(b"long", &[1; 50]).unwrap();
    exceeded(other.rename(b"long", &full, b"e", PutOptions::default()));
    other.rename(b"long", &full, b"c", PutOptions::default()).unwrap_err();
    full.truncate(b"d", 10).unwrap();
    other.rename(b"long", &full, b"c", PutOptions::default()).unwrap();
    holds(&full, 2, 60);
}

#[test]
fn a_quota_below_what_is_there_refuses_growth_alone() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let bucket = store.bucket("b").unwrap();
    for key in [b"a", b"b", b"c"] {
        bucket.put(key, &[1; 100]).unwrap();
    }
    store.set_bucket_options("b", limits(50, 1)).unwrap();
    holds(&bucket, 3, 300);
    bucket.put(b"a", &[2; 100]).unwrap();
    bucket.truncate(b"a", 10).unwrap();
    exceeded(bucket.append(b"a", b"x"));
    bucket.delete(b"b").unwrap();
    exceeded(bucket.put(b"b", b""));
    store.set_bucket_options("b", BucketOptions::default()).unwrap();
    bucket.put(b"b", &[1; 1000]).unwrap();
    holds(&bucket, 3, 1110);
}

#[test]
fn threads_never_exceed_a_quota_together_nor_are_refused_for_room_given_back() {
    const EACH: u64 = 100;
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    for level in [Durability::Memory, Durability::Written] {
        let name = format!("{level:?}");
        let bucket = store.create_bucket(&name, limits(40 * EACH, 40)).unwrap();
        let over = AtomicBool::new(false);
        let made: usize = thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let stat = bucket.bucket_stat().unwrap();
                    assert!(stat.blobs <= 40 && stat.bytes <= 40 * EACH, "{stat:?}");
                }
            });
            let writers: Vec<_> = (0..4u8)
                .map(|writer| {
                    let bucket = &bucket;
                    scope.spawn(move || {
                        let mut made = 0;
                        for n in 0..30u8 {
                            match bucket.put_with(&[writer, n], &[n; EACH as usize], level.into()) {
                                Ok(_) => made += 1,
                                Err(error) => assert_eq!(error.kind(), ErrorKind::QuotaExceeded),
                            }
                        }
                        made
                    })
                })
                .collect();
            let made = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
            over.store(true, Ordering::SeqCst);
            watcher.join().unwrap();
            made
        });
        assert_eq!(made, 40);
        holds(&bucket, 40, 40 * EACH);
        // Each takes away one of its own, then there is room for one.
        let keys: Vec<_> = bucket.scan(ScanRange::all()).map(|item| item.unwrap().key).collect();
        thread::scope(|scope| {
            for part in keys.chunks(10) {
                let bucket = &bucket;
                scope.spawn(move || {
                    for _ in 0..10 {
                        for key in part {
                            bucket.delete_with(key, level.into()).unwrap();
                            bucket.put_with(key, &[7; EACH as usize], level.into()).unwrap();
                        }
                    }
                });
            }
        });
        holds(&bucket, 40, 40 * EACH);
    }
}

/// Blobs of every shape at a level.
fn fill(bucket: &Bucket, level: Durability) {
    for (number, len) in [0, 9000, 60_000, 100_000, 500_000].into_iter().enumerate() {
        bucket.put_with(&[number as u8], &value(number, len), level.into()).unwrap();
        bucket.set_attributes(&[number as u8], &AttributeChanges::new().score(0.5)).unwrap();
        bucket.put_with(&[b'n', number as u8], &value(number, len), level.into()).unwrap();
    }
}

#[test]
fn a_cleared_bucket_is_empty_after_crash_and_close_and_takes_new_blobs() {
    for level in LEVELS {
        let place = tempfile::tempdir().unwrap();
        let store = open(&place);
        let (bucket, kept) = (store.bucket("b").unwrap(), store.bucket("kept").unwrap());
        fill(&bucket, level);
        fill(&kept, level);
        // A blob in another bucket shares its bytes.
        bucket.copy(&[3], &kept, b"shared", PutOptions::default()).unwrap();
        store.clear_bucket("b").unwrap();
        holds(&bucket, 0, 0);
        assert_eq!(bucket.get(&[3]).unwrap_err().kind(), ErrorKind::NotFound);
        holds(&crashed(&place, 0).bucket("b").unwrap(), 0, 0);
        bucket.put_with(&[3], b"new", level.into()).unwrap();
        bucket.append_with(&[3], b"er", level.into()).unwrap();
        store.flush(Scope::Store).unwrap();
        let check = |store: &Store| {
            let (bucket, kept) = (store.bucket("b").unwrap(), store.bucket("kept").unwrap());
            holds(&bucket, 1, 5);
            assert_eq!(bucket.get(&[3]).unwrap(), b"newer");
            assert_eq!(bucket.stat(&[3]).unwrap().score, None);
            assert_eq!(kept.bucket_stat().unwrap().blobs, 11);
            assert!(kept.get(b"shared").unwrap() == value(3, 100_000));
            assert!(kept.get(&[4]).unwrap() == value(4, 500_000));
        };
        check(&store);
        check(&crashed(&place, 1));
        store.close().unwrap();
        check(&open(&place));
    }
}

#[test]
fn space_comes_back_from_cleared_buckets() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let bucket = store.bucket("b").unwrap();
    // What pages name comes back when they are released, a little later.
    let comes_back = |store: &Store| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while store.info().tiers[1].live > 0 {
            let live = store.info().tiers[1].live;
            assert!(Instant::now() < deadline, "{live} bytes never came back");
            thread::sleep(Duration::from_millis(5));
        }
    };
    for round in 0..16 {
        // Together far more than the tier holds.
        for number in 0..10u8 {
            bucket.put(&[number], &value(round, 900_000)).unwrap();
        }
        bucket.put(b"lone", &value(round, 50_000)).unwrap();
        store.clear_bucket("b").unwrap();
        comes_back(&store);
    }
    bucket.put(b"last", &value(1, 900_000)).unwrap();
    store.clear_bucket("b").unwrap();
    store.close().unwrap();
    comes_back(&open(&place));
}

#[test]
fn clears_amid_readers_and_writers_show_whole_values_or_none() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let bucket = store.bucket("b").unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..2u8 {
            let (store, bucket, over) = (&store, &bucket, &over);
            scope.spawn(move || {
                let mut seed = 0;
                while !over.load(Ordering::SeqCst) {
                    seed += 1;
                    let level = LEVELS[seed % 2];
                    let bytes = vec![seed as u8; 3000 * (seed % 40)];
                    bucket.put_with(&[writer, seed as u8 % 20], &bytes, level.into()).unwrap();
                    let mut batch = Batch::new();
                    batch.put(bucket, b"one", vec![seed as u8; 9]);
                    batch.put(bucket, b"two", vec![seed as u8; 9]);
                    if seed % 7 == 0 {
                        store.commit(&batch, None).unwrap();
                    }
                }
            });
        }
        let reader = scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                for key in [[0u8, 3], [1, 7], [0, 19]] {
                    match bucket.get(&key) {
                        Ok(bytes) => assert!(bytes.windows(2).all(|two| two[0] == two[1])),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
                    }
                }
            }
        });
        for _ in 0..60 {
            store.clear_bucket("b").unwrap();
        }
        over.store(true, Ordering::SeqCst);
        reader.join().unwrap();
    });
    store.clear_bucket("b").unwrap();
    bucket.put_with(b"k", b"v", Durability::Memory.into()).unwrap();
    store.close().unwrap();
    let store = open(&place);
    holds(&store.bucket("b").unwrap(), 1, 1);
    let missing = store.clear_bucket("none").unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::BucketNotFound);
}

#[test]
fn a_store_of_dram_alone_has_quotas_renames_and_clears_too() {
    let place = tempfile::tempdir().unwrap();
    let config = Config::builder().tier(Tier::dram("8MiB")).shards(1).build().unwrap();
    let store = Store::open(place.path().join("store"), config).unwrap();
    let bucket = store.bucket("b").unwrap();
    store.set_bucket_options("b", limits(100, 2)).unwrap();
    bucket.put(b"a", &[1; 100]).unwrap();
    exceeded(bucket.append(b"a", b"x"));
    store.rename_bucket("b", "c").unwrap();
    store.clear_bucket("c").unwrap();
    holds(&bucket, 0, 0);
    bucket.put(b"a", &[2; 100]).unwrap();
    assert_eq!(bucket.get(b"a").unwrap(), [2; 100]);
}
