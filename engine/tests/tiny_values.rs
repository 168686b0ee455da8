//! Values far smaller than a block: the log's batches are mostly air, so segments must be cleaned
//! again and again for the store to hold what it promises.
#![allow(clippy::unwrap_used)]

use isotherm::config::{Config, Tier};
use isotherm::{Durability, Store};

#[test]
fn overwriting_tiny_values_for_long_never_fills_the_device() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::builder().tier(Tier::dram("16MiB")).tier(Tier::nvme("128MiB")).build();
    let store = Store::open(dir.path().join("s"), config.unwrap()).unwrap();
    let bucket = store.bucket("b").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..16u32 {
            let bucket = &bucket;
            scope.spawn(move || {
                for round in 0..8000u32 {
                    let key = [thread, round % 500].map(u32::to_le_bytes).concat();
                    let value = [round; 15].map(u32::to_le_bytes).concat();
                    bucket.put_with(&key, &value, Durability::Written.into()).unwrap();
                }
            });
        }
    });
    let stats = store.stats();
    assert!(stats.organizer.cleanings > 0, "nothing was cleaned: {stats:?}");
    for thread in 0..16u32 {
        for slot in 0..500u32 {
            let key = [thread, slot].map(u32::to_le_bytes).concat();
            let last = 7500 + slot;
            assert_eq!(bucket.get(&key).unwrap(), [last; 15].map(u32::to_le_bytes).concat());
        }
    }
    store.close().unwrap();
}
