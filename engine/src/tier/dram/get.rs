//! Gets without a lock: read, copy, then find out whether it was valid.
//!
//! A very short value is copied out of its head, a short piece out of its one slot. Both are
//! optimistic: nothing is written but, while head or slot is not yet hot, its frequency. A longer one pins the slots it needs, checks that the head was still the
//! key's while it did, and copies in peace. Both retry when the stripe changed meanwhile.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::Dram;
use super::arena::Arena;
use super::batch::{BATCH, Batch};
use super::copy;
use super::record::{KeyRef, Look, RawRange, Record, ZERO_SLOT};
use super::slot::Word;
use crate::types::{BucketId, SlotId, Version};

/// Copies up to this many bytes are optimistic. Beyond it two atomic additions cost little.
const OPTIMISTIC_MAX: usize = 8192;
/// Tries before a get gives up; the caller then looks under the stripe lock.
const ATTEMPTS: usize = 16;
/// Longest chain a reader without the lock follows: while the chain is being changed it may be
/// a circle.
const CHAIN_MAX: usize = 64;

/// What a [`Dram::get`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DramGet {
    /// The bytes are in the caller's buffer.
    Hit {
        /// How many: fewer than asked for at the end of the value.
        copied: usize,
        /// Length of the whole value.
        value_len: u64,
    },
    /// The key has a head, but not all bytes asked for are resident. The buffer is arbitrary.
    Partial,
    /// No head, or too many changes in its stripe to tell. The buffer is arbitrary.
    Miss,
}

enum Walk {
    Found(Record),
    Absent,
    Broken,
}

/// A read of a stripe's part of the directory that began when no change was under way.
#[derive(Clone, Copy)]
struct Reading<'a> {
    sequence: &'a AtomicU64,
    begin: u64,
}

impl Reading<'_> {
    /// Whether all that was read since was the stripe's state at that moment.
    #[inline]
    fn is_valid(self) -> bool {
        fence(Ordering::Acquire);
        self.sequence.load(Ordering::Relaxed) == self.begin
    }
}

impl Arena {
    /// The stripe's sequence, unless a change is under way.
    #[inline]
    fn read_begin(&self, stripe: usize) -> Option<Reading<'_>> {
        let sequence = self.sequence(stripe);
        let begin = sequence.load(Ordering::Acquire);
        begin.is_multiple_of(2).then_some(Reading { sequence, begin })
    }

    #[inline(always)]
    fn walk(&self, key: &KeyRef<'_>) -> Walk {
        let entry = self.entry_word(self.entry(key.hash)).load(Ordering::Relaxed);
        let mut next = entry.checked_sub(1).map(SlotId);
        for _ in 0..CHAIN_MAX {
            let Some(slot) = next else { return Walk::Absent };
            match self.look(slot, key) {
                Look::Match(record) => return Walk::Found(record),
                Look::Other(after) => next = after,
                Look::Broken => return Walk::Broken,
            }
        }
        Walk::Broken
    }

    /// Raises a slot's frequency, unless that changes nothing: hot slots are not written.
    #[inline]
    fn warm(&self, range: &RawRange) {
        let Some(place) = self.try_place(range.slot) else { return };
        let state = self.state(place);
        let seen = state.load(Ordering::Relaxed);
        let word = Word(seen);
        if !word.is_hottest() && word.generation() == range.generation && word.is_resident() {
            // Losing to another change of the word loses one count.
            _ = state.compare_exchange(seen, word.warmer().0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Whether a range read without the lock is usable as an address.
    #[inline]
    fn in_bounds(&self, range: &RawRange, from: usize, len: usize) -> bool {
        let Some(place) = self.try_place(range.slot) else { return false };
        from.checked_add(len).is_some_and(|end| end <= place.class.bytes())
    }
}

/// What one attempt came to.
enum Attempt {
    Done(DramGet),
    Changed,
}

impl Dram {
    /// Copies bytes `offset..` of a value into `dst`, without any lock and without allocating.
    ///
    /// A hit is the state of one moment during the call. `Miss` and `Partial` are answers about
    /// residency, `Miss` also about contention; neither says that the key does not exist.
    pub fn get(
        &self,
        hash: u64,
        bucket: BucketId,
        key: &[u8],
        offset: u64,
        dst: &mut [u8],
    ) -> DramGet {
        let key = KeyRef { hash, bucket, key };
        match self.get_once(&key, offset, dst) {
            Attempt::Done(got) => got,
            Attempt::Changed => self.get_again(&key, offset, dst),
        }
    }

    /// The rest of the attempts.
    #[cold]
    fn get_again(&self, key: &KeyRef<'_>, offset: u64, dst: &mut [u8]) -> DramGet {
        for _ in 1..ATTEMPTS {
            self.count_retry();
            if let Attempt::Done(got) = self.get_once(key, offset, dst) {
                return got;
            }
        }
        self.count_retry();
        DramGet::Miss
    }

    /// Version and length of a resident key's value, without any lock. `None` also when the
    /// stripe changes all the time.
    pub fn head_info(&self, hash: u64, bucket: BucketId, key: &[u8]) -> Option<(Version, u64)> {
        let key = KeyRef { hash, bucket, key };
        let stripe = self.arena.stripe_of(hash);
        for _ in 0..ATTEMPTS {
            let Some(reading) = self.arena.read_begin(stripe) else {
                self.count_retry();
                continue;
            };
            let walk = self.arena.walk(&key);
            if reading.is_valid() {
                match walk {
                    Walk::Found(record) => return Some((record.version, record.len)),
                    Walk::Absent | Walk::Broken => return None,
                }
            }
            self.count_retry();
        }
        None
    }

    #[cold]
    fn count_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
        std::hint::spin_loop();
    }

    #[inline(always)]
    fn get_once(&self, key: &KeyRef<'_>, offset: u64, dst: &mut [u8]) -> Attempt {
        let arena = &self.arena;
        let stripe = arena.stripe_of(key.hash);
        let Some(reading) = arena.read_begin(stripe) else { return Attempt::Changed };
        let record = match arena.walk(key) {
            Walk::Found(record) => record,
            Walk::Absent | Walk::Broken if reading.is_valid() => {
                return Attempt::Done(DramGet::Miss);
            }
            Walk::Absent | Walk::Broken => return Attempt::Changed,
        };
        let want = record.len.saturating_sub(offset).min(dst.len() as u64) as usize;
        if !record.copied || want == 0 {
            return self.get_slot(key, offset, dst, &record, reading);
        }
        let Some(copy) = arena.copy_of(&record) else { return Attempt::Changed };
        copy::load_short(copy, offset as usize, &mut dst[..want]);
        if !reading.is_valid() {
            return Attempt::Changed;
        }
        arena.warm_head(record.slot);
        Attempt::Done(DramGet::Hit { copied: want, value_len: record.len })
    }

    /// Goes on with a get that no copy in the head answers. Apart, so that those that one does
    /// answer get by with few registers.
    #[inline(never)]
    fn get_slot(
        &self,
        key: &KeyRef<'_>,
        offset: u64,
        dst: &mut [u8],
        record: &Record,
        reading: Reading<'_>,
    ) -> Attempt {
        let arena = &self.arena;
        let want = record.len.saturating_sub(offset).min(dst.len() as u64) as usize;
        if want <= OPTIMISTIC_MAX
            && let Some(range) = single_range(arena, record, offset, want)
        {
            let from = range.slot_offset as usize + (offset - range.value_offset) as usize;
            if !arena.in_bounds(&range, from, want) {
                return Attempt::Changed;
            }
            let from = arena.map.pointer(arena.data_at(range.slot) + from, want);
            // SAFETY: inside a slot, so inside the mapping with whole words around it; writers
            // of slots use atomic words or `copy::store`.
            unsafe { copy::load(from, &mut dst[..want]) };
            if !reading.is_valid() {
                return Attempt::Changed;
            }
            arena.warm(&range);
            return Attempt::Done(DramGet::Hit { copied: want, value_len: record.len });
        }
        self.get_pinned(key, offset, dst)
    }

    /// The general case: any number of ranges, a batch of them at a time. Between batches other
    /// keys of the stripe may change; this key is the same if its version is.
    /// Its frame is large: apart from the short gets.
    #[inline(never)]
    fn get_pinned(&self, key: &KeyRef<'_>, offset: u64, dst: &mut [u8]) -> Attempt {
        let mut done = 0;
        let mut first: Option<Version> = None;
        let mut attempts = 0;
        loop {
            let mut batch = Batch::new(&self.arena);
            match self.pin_batch(key, offset, dst.len(), done, &mut batch) {
                Pinned::Changed if attempts < ATTEMPTS => {
                    attempts += 1;
                    self.count_retry();
                }
                Pinned::Changed => return Attempt::Changed,
                Pinned::Absent if first.is_none() => return Attempt::Done(DramGet::Miss),
                Pinned::Absent => return Attempt::Changed,
                Pinned::Ready(record) if first.is_some_and(|had| had != record.version) => {
                    return Attempt::Changed;
                }
                Pinned::Ready(record) => {
                    first = Some(record.version);
                    let want = record.len.saturating_sub(offset).min(dst.len() as u64) as usize;
                    if done < want && batch.bytes() == 0 {
                        return Attempt::Done(DramGet::Partial);
                    }
                    done += batch.copy_to(&mut dst[done..want]);
                    if done == want {
                        let hit = DramGet::Hit { copied: want, value_len: record.len };
                        return Attempt::Done(hit);
                    }
                }
            }
        }
    }

    /// Pins what holds the bytes from `offset + done` on, as far as a batch goes.
    fn pin_batch(
        &self,
        key: &KeyRef<'_>,
        offset: u64,
        asked: usize,
        done: usize,
        batch: &mut Batch<'_>,
    ) -> Pinned {
        let arena = &self.arena;
        let stripe = arena.stripe_of(key.hash);
        let Some(reading) = arena.read_begin(stripe) else { return Pinned::Changed };
        let record = match arena.walk(key) {
            Walk::Found(record) => record,
            Walk::Absent | Walk::Broken if reading.is_valid() => {
                return Pinned::Absent;
            }
            Walk::Absent | Walk::Broken => return Pinned::Changed,
        };
        let want = record.len.saturating_sub(offset).min(asked as u64) as usize;
        let end = offset.saturating_add(want as u64);
        let mut position = offset.saturating_add(done as u64);
        let first = arena.range_from(&record, position);
        for index in first..record.ranges.min(first + BATCH) {
            if position >= end {
                break;
            }
            let range = arena.range(&record, index);
            if range.value_offset > position || range.end() <= position || !range.is_resident() {
                break;
            }
            let part = (range.end().min(end) - position) as usize;
            let from = range.slot_offset as usize + (position - range.value_offset) as usize;
            if !batch.add(&range, from, part) {
                return Pinned::Changed;
            }
            position += part as u64;
        }
        if reading.is_valid() { Pinned::Ready(record) } else { Pinned::Changed }
    }
}

enum Pinned {
    Ready(Record),
    Absent,
    Changed,
}

/// The one range with a slot that holds all of `offset..offset + want`.
#[inline]
fn single_range(arena: &Arena, record: &Record, offset: u64, want: usize) -> Option<RawRange> {
    if want == 0 {
        return None;
    }
    let index = if record.ranges == 1 { 0 } else { arena.range_from(record, offset) };
    if index >= record.ranges {
        return None;
    }
    let range = arena.range(record, index);
    let end = offset.checked_add(want as u64)?;
    (range.slot != ZERO_SLOT
        && range.is_resident()
        && range.value_offset <= offset
        && range.end() >= end)
        .then_some(range)
}
