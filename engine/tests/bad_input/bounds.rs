//! What does not fit: tiers, the index, the memory budget.

use isotherm::config::{Config, Tier};
use isotherm::limits::KEY_LEN_MAX;
use isotherm::{Bucket, Durability, Error, ErrorKind, ScanRange, Scope, Store};

use crate::{Place, expect};

fn fill_until_refused(bucket: &Bucket, prefix: &str, len: usize) -> (u64, Error) {
    let value = vec![9; len];
    for number in 0..100_000 {
        if let Err(error) = bucket.put(format!("{prefix}{number}").as_bytes(), &value) {
            return (number, error);
        }
    }
    panic!("100000 blobs of {len} bytes fit");
}

#[test]
fn full_tiers_say_so_stay_readable_and_deletable_and_take_data_again() {
    let place = Place::new();
    let store = place.open();
    let bucket = store.bucket("b").unwrap();
    for round in 0..3 {
        let (count, error) = fill_until_refused(&bucket, "large", 1 << 20);
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
        assert!(count > 32, "only {count} MiB of 128 fit in round {round}");
        // Smaller ones fit for a while, and at Memory level no more is promised than there is.
        fill_until_refused(&bucket, "small", 20_000);
        let memory = bucket.put_with(b"huge", &vec![1; 4 << 20], Durability::Memory.into());
        expect(memory, ErrorKind::NoSpace, &[]);
        assert!(!bucket.exists(b"huge").unwrap());
        store.flush(Scope::Store).unwrap();
        for item in bucket.scan(ScanRange::all()) {
            let item = item.unwrap();
            let value = bucket.get(&item.key).unwrap();
            assert!(value.len() as u64 == item.len && value.iter().all(|byte| *byte == 9));
        }
        let keys: Vec<_> = bucket.scan(ScanRange::all()).map(|item| item.unwrap().key).collect();
        keys.iter().for_each(|key| bucket.delete(key).unwrap());
    }
    bucket.put(b"again", &vec![3; 16 << 20]).unwrap();
    assert!(bucket.get(b"again").unwrap() == vec![3; 16 << 20]);
    store.close().unwrap();
    let store = place.open();
    assert!(store.open_bucket("b").unwrap().get(b"again").unwrap() == vec![3; 16 << 20]);
}

#[test]
fn an_index_that_outgrows_the_budget_refuses_the_put_and_goes_on_after_deletes() {
    let place = Place::new();
    // 40 MiB, of which the engine's own buffers take their part.
    let config = Config::builder()
        .tier(Tier::dram("8MiB"))
        .tier(Tier::nvme("256MiB"))
        .memory_budget("40MiB")
        .shards(1)
        .build()
        .unwrap();
    let store = Store::open(place.store(), config).unwrap();
    let bucket = store.bucket("b").unwrap();
    let key = |number: u32| {
        let mut key = vec![b'k'; KEY_LEN_MAX];
        key[..4].copy_from_slice(&number.to_be_bytes());
        key
    };
    let refused = (0..100_000).find_map(|number| {
        bucket
            .put_with(&key(number), b"", Durability::Memory.into())
            .err()
            .map(|error| (number, error))
    });
    let (count, error) = refused.expect("100000 keys of 1 KiB fit in 40 MiB");
    assert_eq!(error.kind(), ErrorKind::NoMemory, "{error}");
    assert!(error.message().contains("memory_budget"), "{error}");
    assert!(!bucket.exists(&key(count)).unwrap());
    expect(bucket.put(&key(count), b"v"), ErrorKind::NoMemory, &[]);
    assert_eq!(bucket.get(&key(0)).unwrap(), b"");
    (0..count).for_each(|number| bucket.delete(&key(number)).unwrap());
    store.flush(Scope::Store).unwrap();
    bucket.put(&key(0), b"v").unwrap();
}
