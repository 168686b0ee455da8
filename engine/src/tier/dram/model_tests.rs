//! Random operations against a map that cannot be wrong.

use std::collections::HashMap;

use super::tests::{BUCKET, Rig, bytes, hash};
use super::*;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Miri is slow: it sees fewer steps, in which hardly anything has to make room.
const STEPS: u64 = if cfg!(miri) { 250 } else { 30_000 };
const SEEDS: std::ops::Range<u64> = if cfg!(miri) { 1..2 } else { 1..6 };

#[test]
fn random_operations_never_show_anything_but_the_last_put() {
    for seed in SEEDS {
        let mut random = Random(seed * 0x1234_5678_9ABC);
        let mut rig = Rig::new(10 << 20, 8);
        let mut model: HashMap<Vec<u8>, (u64, Vec<u8>)> = HashMap::new();
        let (mut hits, mut evictions, mut admissions) = (0, 0, 0);
        for step in 1..STEPS {
            let key = format!("k{}", random.below(if cfg!(miri) { 20 } else { 300 })).into_bytes();
            match random.below(10) {
                0..4 => {
                    let len = 1usize << random.below(if cfg!(miri) { 10 } else { 18 });
                    let len = len + random.below(len as u64) as usize;
                    let value = bytes(step, len);
                    let piece = len.div_ceil(1 + random.below(4) as usize);
                    if rig.put(&key, step, &value, piece, false) {
                        model.insert(key, (step, value));
                    } else {
                        let starved = if rig.dram.free_estimate(128) == 0 { 128 } else { piece };
                        evictions += rig.make_room(starved, 1);
                    }
                }
                4 => {
                    let had = rig.remove(&key);
                    assert!(model.remove(&key).is_some() || !had);
                }
                _ if check(&rig, &model, &key, &mut random) => hits += 1,
                // What was evicted, a read brings back.
                _ => {
                    if let Some((version, value)) = model.get(&key) {
                        admissions += usize::from(rig.admit(&key, *version, value));
                    }
                }
            }
        }
        if !cfg!(miri) {
            assert!(hits > 1000 && evictions > 100, "{hits} hits, {evictions} evictions");
            assert!(admissions > 10, "{admissions} admissions");
        }
        println!("{hits} hits, {evictions} evictions, {admissions} admissions");
        let keys: Vec<Vec<u8>> = model.keys().cloned().collect();
        keys.iter().for_each(|key| _ = rig.remove(key));
        assert_eq!((rig.dram.used_bytes(), rig.dram.resident_keys()), (0, 0));
    }
}

fn check(
    rig: &Rig,
    model: &HashMap<Vec<u8>, (u64, Vec<u8>)>,
    key: &[u8],
    random: &mut Random,
) -> bool {
    let Some((version, value)) = model.get(key) else {
        assert_eq!(rig.get(key, 0, 10), Err(DramGet::Miss));
        return false;
    };
    let from = random.below(value.len() as u64 + 1) as usize;
    let len = random.below(value.len() as u64 + 10) as usize;
    if let Some((seen, value_len)) = rig.dram.head_info(hash(key), BUCKET, key) {
        assert_eq!((seen.0, value_len), (*version, value.len() as u64));
    }
    match rig.get(key, from as u64, len) {
        Ok(got) => {
            assert_eq!(got, value[from..value.len().min(from + len)]);
            true
        }
        Err(_) => false,
    }
}
