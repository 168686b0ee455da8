//! The organizer at work under a whole store: what it moves stays what it was.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::HashMap;

use isotherm::config::{Config, OrganizerChoice, Tier};
use isotherm::{Bucket, Durability, Store};

fn config(tiers: &[Tier], organizer: OrganizerChoice) -> Config {
    let mut builder = Config::builder().shards(2).organizer(organizer).segment_size("4MiB");
    for tier in tiers {
        builder = builder.tier(tier.clone());
    }
    builder.build().unwrap()
}

fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state >> 11
    };
    let mut bytes = vec![0; len];
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&next().to_le_bytes()[..chunk.len()]);
    }
    bytes
}

/// Keys and what they hold: seed and length of the pattern.
struct Model {
    values: HashMap<u64, (u64, usize)>,
    random: u64,
}

impl Model {
    fn new() -> Model {
        Model { values: HashMap::new(), random: 1 }
    }

    fn next(&mut self, bound: u64) -> u64 {
        self.random =
            self.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.random >> 33) % bound
    }

    /// Puts, now and then deletes, until so many bytes have been put.
    fn churn(&mut self, bucket: &Bucket, keys: u64, total: usize) {
        const LENS: [usize; 6] = [60, 900, 5000, 16_384, 200_000, 1 << 20];
        let mut put = 0;
        while put < total {
            let key = self.next(keys);
            if self.next(10) == 0 && self.values.remove(&key).is_some() {
                bucket.delete(&key.to_le_bytes()).unwrap();
                continue;
            }
            let len = LENS[self.next(LENS.len() as u64) as usize];
            let seed = self.next(1 << 30);
            let level = match self.next(3) {
                0 => Durability::Memory,
                _ => Durability::Written,
            };
            bucket.put_with(&key.to_le_bytes(), &pattern(seed, len), level.into()).unwrap();
            self.values.insert(key, (seed, len));
            put += len;
        }
    }

    fn check(&self, bucket: &Bucket) {
        for (key, (seed, len)) in &self.values {
            let value = bucket.get(&key.to_le_bytes()).unwrap();
            assert!(value == pattern(*seed, *len), "key {key}");
        }
    }
}

fn churn_and_check(tiers: &[Tier], organizer: OrganizerChoice, keys: u64, total: usize) {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::new();
    {
        let store = Store::open(dir.path().join("s"), config(tiers, organizer)).unwrap();
        let bucket = store.bucket("b").unwrap();
        model.churn(&bucket, keys, total);
        model.check(&bucket);
        let stats = store.stats();
        assert!(stats.organizer.cleanings > 0, "{:?}", stats.organizer);
        assert!(stats.organizer.written_bytes > 0 && stats.organizer.read_bytes > 0);
        assert_eq!(
            (stats.organizer.corrupt_buffers, stats.notes.len()),
            (0, 0),
            "{:?}",
            stats.notes
        );
        store.close().unwrap();
    }
    let store = Store::open(dir.path().join("s"), config(tiers, organizer)).unwrap();
    model.check(&store.open_bucket("b").unwrap());
    store.close().unwrap();
}

#[test]
fn overwriting_a_store_many_times_its_size_never_runs_out_of_room() {
    let tiers = [Tier::dram("8MiB"), Tier::nvme("256MiB")];
    churn_and_check(&tiers, OrganizerChoice::Auto, 600, 1 << 30);
}

#[test]
fn the_same_holds_on_threads() {
    let tiers = [Tier::dram("8MiB"), Tier::nvme("256MiB")];
    churn_and_check(&tiers, OrganizerChoice::Threads, 600, 1 << 29);
}

#[test]
fn two_tiers_hold_together_what_one_cannot() {
    let tiers = [Tier::dram("8MiB"), Tier::nvme("128MiB"), Tier::hdd("256MiB")];
    churn_and_check(&tiers, OrganizerChoice::Auto, 500, 1 << 30);
}
