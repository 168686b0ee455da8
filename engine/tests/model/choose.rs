//! What a caller does next to one blob.

use isotherm::Durability;

use crate::blobs::Op;
use crate::caller::Caller;
use crate::change::{Change, Range};
use crate::marks::MarkChanges;
use crate::support::content::Content;

/// Sizes above this are drawn for one value in [`BIG_ONE_IN`]: else nothing but big ones would
/// fit in the time there is.
const BIG: u64 = 128 << 10;
const BIG_ONE_IN: u64 = 16;
/// Ranges of one call at most, and bytes of one of them.
const RANGES_MAX: u64 = 6;
const RANGE_LEN_MAX: u64 = 64 << 10;

impl Caller {
    pub fn level(&mut self) -> Option<Durability> {
        self.rng.pick(&[
            None,
            Some(Durability::Memory),
            Some(Durability::Memory),
            Some(Durability::Memory),
            Some(Durability::Written),
            Some(Durability::Written),
            Some(Durability::Written),
            Some(Durability::Durable),
        ])
    }

    pub fn choose(&mut self, part: usize) -> (Vec<u8>, Op) {
        let full = self.live > self.plan.live;
        if full && self.rng.one_in(4) {
            // Any key, also a cold one: they hold most of the bytes.
            let keys = self.parts[part].universe.len() as u64;
            let key = self.parts[part].universe[self.rng.below(keys) as usize].clone();
            return (key, Op::Change { level: self.level(), change: Change::Delete });
        }
        let key = self.key_of(part);
        let len = self.parts[part].content(&key).map_or(0, Content::len);
        let op = match self.rng.below(100) {
            0..48 => {
                let change = self.choose_change(part, &key);
                Op::Change { level: self.level(), change }
            }
            48..66 => Op::Get,
            66..73 => {
                let spare = self.rng.log_uniform(4096);
                let room = if self.rng.one_in(4) { self.rng.below(len) } else { len + spare };
                Op::GetInto { room }
            }
            73..86 => Op::GetAt { at: self.offset(len), len: self.rng.log_uniform(256 << 10) },
            86..90 => Op::GetRanges(self.ranges_to_get(len)),
            90..95 => Op::Stat,
            95..97 => Op::Attributes,
            _ => Op::Locate,
        };
        (key, op)
    }

    pub fn choose_change(&mut self, part: usize, key: &[u8]) -> Change {
        let full = self.live > self.plan.live;
        let len = self.parts[part].content(key).map_or(0, Content::len);
        let seed = self.rng.next();
        match self.rng.below(48) {
            0..17 => Change::Put { seed, len: self.size(full) },
            17..26 => {
                let size = self.size(full);
                let at = self.offset(len).min(self.plan.value_max - size);
                Change::PutAt { at, seed, len: size }
            }
            26..33 => {
                let size = self.size(full).min(self.plan.value_max.saturating_sub(len));
                Change::Append { seed, len: size }
            }
            33..37 => Change::Truncate { len: self.offset(len).min(self.plan.value_max) },
            37..41 => Change::Delete,
            41..44 => Change::PutRanges(self.ranges_to_put(len)),
            _ => Change::Attributes(MarkChanges::draw(&mut self.rng)),
        }
    }

    pub fn size(&mut self, full: bool) -> u64 {
        let size = self.rng.log_uniform(self.plan.value_max);
        if size > BIG && (full || !self.rng.one_in(BIG_ONE_IN)) {
            return self.rng.log_uniform(BIG);
        }
        size
    }

    /// Mostly within a value of this length, at times at its end or beyond.
    pub fn offset(&mut self, len: u64) -> u64 {
        match self.rng.below(16) {
            0 => len,
            1 => len + self.rng.log_uniform(4 << 20),
            2 => self.rng.below(len) / 4096 * 4096,
            _ => self.rng.below(len),
        }
    }

    /// Offsets and lengths; in any order, apart or not, some beyond the end.
    pub fn ranges_to_get(&mut self, len: u64) -> Vec<(u64, u64)> {
        let range = |_| match self.rng.below(40) {
            0 => (u64::MAX, 1 + self.rng.below(9)),
            _ => (self.offset(len), self.rng.log_uniform(RANGE_LEN_MAX)),
        };
        (0..1 + RANGES_MAX / 2).map(range).collect()
    }

    fn ranges_to_put(&mut self, now: u64) -> Vec<Range> {
        let count = self.rng.below(RANGES_MAX + 1);
        let range = |_| {
            let (seed, len) = (self.rng.next(), self.rng.log_uniform(RANGE_LEN_MAX));
            Range { at: self.offset(now).min(self.plan.value_max - len), seed, len }
        };
        (0..count).map(range).collect()
    }
}
