//! Values far smaller than a block: the log's batches are mostly air, so segments must be cleaned
//! again and again for the store to hold what it promises.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use isotherm::config::{Config, Tier};
use isotherm::{Durability, Store};

const ROUNDS: u32 = 30_000;

/// Most rounds overwrite a few hot keys; every sixteenth leaves a cold one behind, so that no
/// segment dies by itself.
fn slot(round: u32) -> u32 {
    if round.is_multiple_of(16) { 1_000_000 + round } else { round % 1000 }
}

#[test]
fn overwriting_tiny_values_for_long_never_fills_the_device() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::builder().tier(Tier::dram("16MiB")).tier(Tier::nvme("128MiB")).build();
    let store = Store::open(dir.path().join("s"), config.unwrap()).unwrap();
    let bucket = store.bucket("b").unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let bucket = &bucket;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let key = [thread, slot(round)].map(u32::to_le_bytes).concat();
                    let value = [round; 15].map(u32::to_le_bytes).concat();
                    bucket.put_with(&key, &value, Durability::Written.into()).unwrap();
                }
            });
        }
    });
    let stats = store.stats();
    assert!(stats.organizer.cleanings > 0, "nothing was cleaned: {stats:?}");
    for thread in 0..4u32 {
        // The last round that wrote a slot decides.
        let last: HashMap<u32, u32> = (0..ROUNDS).map(|round| (slot(round), round)).collect();
        for (slot, round) in last {
            let key = [thread, slot].map(u32::to_le_bytes).concat();
            assert_eq!(bucket.get(&key).unwrap(), [round; 15].map(u32::to_le_bytes).concat());
        }
    }
    store.close().unwrap();
}
