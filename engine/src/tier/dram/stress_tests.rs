//! Readers without locks against writers, removers and evictors, on few keys and little room.
//!
//! Every value tells its key, its version and a checksum of both in each of its words, so a torn
//! read, one of a reused slot, or one of another key's bytes shows. Every get must show the state
//! left by the last change that had ended when it began, or a later one, so an outdated copy in a
//! head shows too.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::tests::{BUCKET, fresh, hash, new_head};
use super::*;

const KEYS: u64 = 24;
const STRIPES: usize = 4;
#[cfg(not(miri))]
const SIZES: [usize; 9] = [8, 64, 512, 40, 1024, 4096, 70_000, 16, 300_000];
/// Miri is slow: it copies less, and has done enough earlier.
#[cfg(miri)]
const SIZES: [usize; 4] = [8, 64, 320, 40];
const SHORTENED: u64 = if cfg!(miri) { 500 } else { 1 };
const PATIENCE: Duration = Duration::from_secs(if cfg!(miri) { 600 } else { 20 });

struct Shared {
    dram: Dram,
    stripes: Vec<Mutex<DirStripe>>,
    stop: AtomicBool,
    versions: AtomicU64,
    /// Of each key, the version of its last change that has ended.
    floors: Vec<AtomicU64>,
    hits: AtomicU64,
    evictions: AtomicU64,
}

fn key_of(number: u64) -> [u8; 16] {
    let mut key = *b"stress-key------";
    key[8..].copy_from_slice(&number.to_le_bytes());
    key
}

fn word_of(key: u64, version: u64, at: usize) -> u64 {
    (key << 56 | version << 20 | (at as u64 / 8))
        ^ (version.wrapping_mul(0x9E37_79B9_7F4A_7C15) & 0xF_FFFF)
}

fn value_of(key: u64, version: u64) -> Vec<u8> {
    let size = SIZES[((key + version) % SIZES.len() as u64) as usize];
    (0..size).step_by(8).flat_map(|at| word_of(key, version, at).to_le_bytes()).take(size).collect()
}

/// The bytes must agree on a version, and it must not be older than this one.
fn judge(key: u64, floor: u64, offset: usize, bytes: &[u8]) {
    let first = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let version = (first >> 20) & 0xF_FFFF_FFFF;
    for (index, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
        let expected = word_of(key, version, offset + index * 8);
        assert_eq!(u64::from_le_bytes(*word), expected, "key {key}: torn or foreign at {index}");
    }
    assert!(version >= floor, "key {key}: version {version} after {floor}");
}

impl Shared {
    fn put(&self, number: u64) {
        let version = self.versions.fetch_add(1, Ordering::Relaxed);
        let (key, value) = (key_of(number), value_of(number, version));
        let piece =
            if version.is_multiple_of(3) { value.len().div_ceil(32) * 8 } else { value.len() };
        let count = value.len().div_ceil(piece);
        let head_len = match count {
            1 => Dram::whole_head_len(16, value.len()),
            _ => Dram::head_len(16, count),
        };
        let Some(head) = self.dram.alloc(head_len) else {
            return self.make_room(head_len);
        };
        let mut ranges = Vec::new();
        for (index, part) in value.chunks(piece).enumerate() {
            let Some(slot) = self.dram.alloc(part.len()) else {
                ranges.iter().for_each(|range: &DirRange| self.dram.discard(range.slot));
                self.dram.discard(head);
                return self.make_room(part.len());
            };
            self.dram.fill(slot, 0, part);
            ranges.push(fresh(index * piece, part.len(), slot, version, version.is_multiple_of(2)));
        }
        let new = new_head(head, &key, version, value.len(), &ranges);
        let mut stripe = self.stripes[hash(&key) as usize % STRIPES].lock().unwrap();
        let floor = &self.floors[number as usize];
        if floor.load(Ordering::Relaxed) > version {
            // A later change was faster.
            ranges.iter().for_each(|range| self.dram.discard(range.slot));
            return self.dram.discard(head);
        }
        if !version.is_multiple_of(2) && version.is_multiple_of(5) {
            // As a read does: where the key is in DRAM already, nothing is admitted.
            self.dram.remove(&mut stripe, hash(&key), BUCKET, &key);
            assert!(self.dram.admit(&mut stripe, &new));
        } else {
            self.dram.publish(&mut stripe, &new);
        }
        floor.store(version, Ordering::Release);
        drop(stripe);
        for range in ranges.iter().filter(|_| version.is_multiple_of(2)) {
            self.dram.mark_clean(range.slot, BufferId(version));
        }
    }

    fn make_room(&self, len: usize) {
        let mut victims = VictimList::new();
        self.dram.sweep(len, 64, &mut victims);
        for victim in victims.as_slice() {
            let mut stripe = self.stripes[usize::from(victim.stripe)].lock().unwrap();
            let gone = self.dram.evict(&mut stripe, victim);
            self.evictions.fetch_add(u64::from(gone), Ordering::Relaxed);
        }
    }

    fn write(&self, seed: u64) {
        for step in (0..).take_while(|_| !self.stop.load(Ordering::Relaxed)) {
            let number = (step * 7 + seed) % KEYS;
            match step % 16 {
                0 => {
                    let key = key_of(number);
                    let mut stripe = self.stripes[hash(&key) as usize % STRIPES].lock().unwrap();
                    let version = self.versions.fetch_add(1, Ordering::Relaxed);
                    self.dram.remove(&mut stripe, hash(&key), BUCKET, &key);
                    self.floors[number as usize].store(version, Ordering::Release);
                }
                1 | 9 => self.make_room(SIZES[step as usize / 16 % SIZES.len()]),
                _ => self.put(number),
            }
        }
    }

    fn read(&self, seed: u64) {
        let mut dst = vec![0; 300_000];
        for step in (0..).take_while(|_| !self.stop.load(Ordering::Relaxed)) {
            let number = (step * 5 + seed) % KEYS;
            let key = key_of(number);
            let offset = match step % 4 {
                0 | 2 => 0,
                1 => 8 * (step as usize % 97),
                _ => 8 * (step as usize / 4 % 7),
            };
            let floor = self.floors[number as usize].load(Ordering::Acquire);
            let asked = if step % 3 == 0 { dst.len() } else { 640 };
            let got = self.dram.get(hash(&key), BUCKET, &key, offset as u64, &mut dst[..asked]);
            if let DramGet::Hit { copied, .. } = got
                && copied >= 8
            {
                judge(number, floor, offset, &dst[..copied]);
                self.hits.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[test]
fn readers_without_a_lock_see_whole_values_of_their_key_only() {
    let dram = Dram::new(4 << 20, STRIPES).unwrap();
    let stripes = (0..STRIPES).map(|index| Mutex::new(dram.dir_stripe(index))).collect();
    let shared = Shared {
        dram,
        stripes,
        stop: AtomicBool::new(false),
        versions: AtomicU64::new(1),
        floors: (0..KEYS).map(|_| AtomicU64::new(0)).collect(),
        hits: AtomicU64::new(0),
        evictions: AtomicU64::new(0),
    };
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for seed in 0..2 {
            threads.push(scope.spawn({
                let shared = &shared;
                move || shared.write(seed)
            }));
            threads.push(scope.spawn({
                let shared = &shared;
                move || shared.read(seed)
            }));
        }
        let begin = Instant::now();
        let enough = || {
            shared.hits.load(Ordering::Relaxed) > 100_000 / SHORTENED
                && shared.evictions.load(Ordering::Relaxed) > 1000 / SHORTENED
                && (cfg!(miri) || shared.dram.read_retries() > 20)
        };
        while begin.elapsed() < PATIENCE
            && (begin.elapsed() < Duration::from_secs(2) || !enough())
            && !threads.iter().any(|thread| thread.is_finished())
        {
            std::thread::sleep(Duration::from_millis(10));
        }
        shared.stop.store(true, Ordering::Relaxed);
    });
    let (hits, evictions) = (shared.hits.into_inner(), shared.evictions.into_inner());
    let retries = shared.dram.read_retries();
    assert!(hits > 1000 / SHORTENED, "{hits} hits");
    assert!(evictions > 100 / SHORTENED, "{evictions} evictions");
    assert!(retries > 0 || cfg!(miri), "no retries");
    println!("{hits} hits, {evictions} evictions, {retries} retries");

    for number in 0..KEYS {
        let key = key_of(number);
        let mut stripe = shared.stripes[hash(&key) as usize % STRIPES].lock().unwrap();
        shared.dram.remove(&mut stripe, hash(&key), BUCKET, &key);
    }
    assert_eq!((shared.dram.used_bytes(), shared.dram.dirty_bytes()), (0, 0), "slots leaked");
}
