//! Blobs under other names: copies and renames of every kind of value.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use isotherm::config::{Config, Tier};
use isotherm::{Bucket, Condition, Durability, ErrorKind, PutOptions, Scope, Store};

fn open(place: &tempfile::TempDir) -> Store {
    let config = Config::builder()
        .tier(Tier::dram("8MiB"))
        .tier(Tier::nvme("128MiB"))
        .shards(1)
        .buffer_size("64KiB")
        .page_extents(4)
        .build();
    Store::open(place.path().join("store"), config.unwrap()).unwrap()
}

fn value(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| ((at * 31) ^ (at >> 7) ^ seed) as u8).collect()
}

/// Values of every shape: none, zeros, inline, one buffer, some, in pages; and slices of them.
fn shapes(bucket: &Bucket, level: Durability) -> Vec<(Vec<u8>, Vec<u8>)> {
    let options = || PutOptions::from(level);
    let mut made = Vec::new();
    for (number, len) in [0, 1, 9000, 60_000, 100_000, 500_000].into_iter().enumerate() {
        let (key, bytes) = (vec![b'v', number as u8], value(number, len));
        bucket.put_with(&key, &bytes, options()).unwrap();
        made.push((key, bytes));
    }
    let (key, mut bytes) = (b"zeros".to_vec(), vec![0; 70_000]);
    bucket.put_with(&key, b"", options()).unwrap();
    bucket.truncate_with(&key, 70_000, options()).unwrap();
    made.push((key, bytes.clone()));
    let key = b"sliced".to_vec();
    bytes[3000..8000].copy_from_slice(&value(9, 5000));
    bucket.put_at_with(&key, 3000, &bytes[3000..8000], options()).unwrap();
    bytes.truncate(8000);
    made.push((key, bytes));
    made
}

const LEVELS: [Durability; 3] = [Durability::Memory, Durability::Written, Durability::Durable];

#[test]
fn a_copy_is_the_same_and_a_change_of_either_leaves_the_other() {
    for level in LEVELS {
        let place = tempfile::tempdir().unwrap();
        let store = open(&place);
        let (a, b) = (store.bucket("a").unwrap(), store.bucket("b").unwrap());
        let made = shapes(&a, level);
        let to = |key: &[u8]| [b"to".as_slice(), key].concat();
        for (key, bytes) in &made {
            let version = a.copy(key, &b, &to(key), level.into()).unwrap();
            assert_eq!(b.stat(&to(key)).unwrap().version, version);
            assert!(a.get(key).unwrap() == *bytes && b.get(&to(key)).unwrap() == *bytes);
        }
        let changed = |bytes: &[u8], seed| {
            let mut bytes = bytes.to_vec();
            bytes.resize(bytes.len().max(50), 0);
            bytes[10..50].copy_from_slice(&value(seed, 40));
            bytes
        };
        for (number, (key, _)) in made.iter().enumerate() {
            // The one, or the other.
            match number % 2 {
                0 => a.put_at_with(key, 10, &value(77, 40), level.into()).unwrap(),
                _ => b.put_at_with(&to(key), 10, &value(77, 40), level.into()).unwrap(),
            };
        }
        let check = |store: &Store| {
            let (a, b) = (store.bucket("a").unwrap(), store.bucket("b").unwrap());
            for (number, (key, bytes)) in made.iter().enumerate() {
                let (one, other) = (a.get(key).unwrap(), b.get(&to(key)).unwrap());
                let (is, was) = if number % 2 == 0 { (one, other) } else { (other, one) };
                assert!(is == changed(bytes, 77), "{level:?} {number}");
                assert!(was == *bytes, "{level:?} {number}");
            }
        };
        check(&store);
        store.close().unwrap();
        let store = open(&place);
        check(&store);
        // Without the originals, and all their space back.
        store.destroy_bucket("a").unwrap();
        store.flush(Scope::Store).unwrap();
        store.close().unwrap();
        let store = open(&place);
        let b = store.bucket("b").unwrap();
        for (number, (key, bytes)) in made.iter().enumerate().filter(|(n, _)| n % 2 == 0) {
            assert!(b.get(&to(key)).unwrap() == *bytes, "{level:?} {number}");
        }
        for (key, _) in &made {
            b.delete(&to(key)).unwrap();
        }
        store.flush(Scope::Store).unwrap();
        let live = || store.stats().tiers.iter().map(|tier| tier.live).sum::<u64>();
        for _ in 0..200 {
            if live() == 0 {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(live(), 0, "{level:?}");
    }
}

#[test]
fn a_renamed_blob_is_found_under_its_new_name_only_in_any_bucket_after_any_open() {
    for level in LEVELS {
        let place = tempfile::tempdir().unwrap();
        let store = open(&place);
        let (a, b) = (store.bucket("a").unwrap(), store.bucket("b").unwrap());
        let made = shapes(&a, level);
        b.put(b"v\x03", b"replaced").unwrap();
        for (key, _) in &made {
            a.rename(key, &b, key, level.into()).unwrap();
            assert_eq!(a.get(key).unwrap_err().kind(), ErrorKind::NotFound);
            // And on, within the bucket.
            b.rename(key, &b, &[key, &b"2"[..]].concat(), level.into()).unwrap();
        }
        let check = |store: &Store| {
            let (a, b) = (store.bucket("a").unwrap(), store.bucket("b").unwrap());
            for (key, bytes) in &made {
                assert_eq!(a.get(key).unwrap_err().kind(), ErrorKind::NotFound);
                assert_eq!(b.get(key).unwrap_err().kind(), ErrorKind::NotFound);
                assert!(b.get(&[key, &b"2"[..]].concat()).unwrap() == *bytes, "{level:?}");
            }
            assert_eq!(store.bucket("a").unwrap().bucket_stat().unwrap().blobs, 0);
        };
        check(&store);
        store.close().unwrap();
        let store = open(&place);
        check(&store);
        store.close().unwrap();
    }
}

#[test]
fn what_cannot_be_renamed_or_copied_is_refused_and_nothing_changes() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let bucket = store.bucket("b").unwrap();
    bucket.put(b"one", b"1").unwrap();
    let two = bucket.put(b"two", b"2").unwrap();
    let options = PutOptions::default();
    let kind = |result: isotherm::Result<isotherm::Version>| result.unwrap_err().kind();
    let absent = || PutOptions::from(Condition::Absent);
    assert_eq!(kind(bucket.rename(b"gone", &bucket, b"two", options)), ErrorKind::NotFound);
    assert_eq!(kind(bucket.copy(b"gone", &bucket, b"two", options)), ErrorKind::NotFound);
    assert_eq!(kind(bucket.rename(b"one", &bucket, b"one", options)), ErrorKind::InvalidArgument);
    assert_eq!(kind(bucket.rename(b"one", &bucket, b"", options)), ErrorKind::InvalidArgument);
    assert_eq!(kind(bucket.rename(b"one", &bucket, b"two", absent())), ErrorKind::Exists);
    assert_eq!(kind(bucket.copy(b"one", &bucket, b"two", absent())), ErrorKind::Exists);
    let other = tempfile::tempdir().unwrap();
    let other = open(&other);
    let foreign = other.bucket("b").unwrap();
    assert_eq!(kind(bucket.copy(b"one", &foreign, b"k", options)), ErrorKind::InvalidArgument);
    assert_eq!(bucket.get(b"one").unwrap(), b"1");
    assert_eq!(bucket.stat(b"two").unwrap().version, two);
    bucket.copy(b"one", &bucket, b"three", absent()).unwrap();
    assert_eq!(bucket.get(b"three").unwrap(), b"1");
}
