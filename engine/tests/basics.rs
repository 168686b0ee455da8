//! A store as a first-time user meets it.
#![allow(clippy::unwrap_used)]

use isotherm::config::{Config, Tier};
use isotherm::{Durability, ErrorKind, PutOptions, ScanRange, Scope, Store};

fn small() -> Config {
    Config::builder()
        .tier(Tier::dram("32MiB"))
        .tier(Tier::nvme("128MiB"))
        .shards(2)
        .build()
        .unwrap()
}

fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        })
        .collect()
}

#[test]
fn blobs_of_every_size_and_level_come_back_and_survive_a_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let sizes =
        [0, 1, 511, 4095, 4096, 4097, 16_384, 16_385, 100_000, 1 << 20, (1 << 20) + 1, 5 << 20];
    {
        let store = Store::open(dir.path().join("s"), small()).unwrap();
        let bucket = store.bucket("b").unwrap();
        for level in [Durability::Memory, Durability::Written, Durability::Durable] {
            for (n, size) in sizes.iter().enumerate() {
                let key = format!("{level:?}/{n}");
                let value = pattern(n as u64, *size);
                bucket.put_with(key.as_bytes(), &value, level.into()).unwrap();
                assert!(bucket.get(key.as_bytes()).unwrap() == value, "{key}");
            }
        }
        store.close().unwrap();
        assert_eq!(bucket.get(b"x").unwrap_err().kind(), ErrorKind::Closed);
    }
    let store = Store::open(dir.path().join("s"), small()).unwrap();
    let bucket = store.open_bucket("b").unwrap();
    for level in ["Memory", "Written", "Durable"] {
        for (n, size) in sizes.iter().enumerate() {
            let key = format!("{level}/{n}");
            assert!(bucket.get(key.as_bytes()).unwrap() == pattern(n as u64, *size), "{key}");
            assert!(bucket.get(key.as_bytes()).unwrap() == pattern(n as u64, *size), "{key} again");
        }
    }
    let keys: Vec<_> =
        bucket.scan(ScanRange::prefix("Wri")).map(|item| item.unwrap().key).collect();
    assert_eq!(keys.len(), sizes.len());
    assert!(keys.is_sorted());
}

#[test]
fn partial_puts_appends_and_truncation_make_the_value_one_expects() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("s"), small()).unwrap();
    let bucket = store.bucket("b").unwrap();
    for level in [Durability::Memory, Durability::Written] {
        let options = PutOptions::from(level);
        let key = format!("{level:?}");
        let key = key.as_bytes();
        let mut model = pattern(1, 3_000_000);
        bucket.put_with(key, &model, options).unwrap();
        for n in 0..100u64 {
            let at = (n * 37_813) % 3_500_000;
            let piece = pattern(n, 1 + (n as usize * 977) % 60_000);
            bucket.put_at_with(key, at, &piece, options).unwrap();
            let end = at as usize + piece.len();
            if model.len() < end {
                model.resize(end, 0);
            }
            model[at as usize..end].copy_from_slice(&piece);
            if n % 10 == 0 {
                let len = model.len() as u64 - n * 1000;
                bucket.truncate_with(key, len, options).unwrap();
                model.truncate(len as usize);
            }
            if n % 7 == 0 {
                let piece = pattern(n + 1, 5000);
                assert_eq!(bucket.append_with(key, &piece, options).unwrap(), model.len() as u64);
                model.extend_from_slice(&piece);
            }
            if n % 9 == 0 {
                assert!(bucket.get(key).unwrap() == model, "{level:?} {n}");
            }
        }
        store.flush(Scope::Store).unwrap();
        assert!(bucket.get(key).unwrap() == model, "{level:?}");
    }
    bucket.delete(b"Memory").unwrap();
    assert_eq!(bucket.get(b"Memory").unwrap_err().kind(), ErrorKind::NotFound);
    let stats = store.stats();
    assert!(stats.dram_hits > 0 && stats.batches > 0, "{stats:?}");
}
