//! Head records: what the directory knows about a key, in a slot of the arena.
//!
//! ```text
//! 0 next head (u32, plus one) | bucket (u32)    8 hash    16 version    24 value length
//! 32 key length (u16) | whole (bit 16) | ranges (u32, from bit 32)    40 key, padded to 8
//! then per range: value offset | slot (u32), length (u32) | slot offset (u32), generation (u32)
//! or, if whole: slot (u32), generation (u32) of the one range, which is the whole value from
//! the begin of its slot, and, if copied (bit 17): the bytes of the value, padded to 8
//! ```
//! So the head of a small value with a key of up to 16 bytes is one cache line, and with the copy
//! of a value of up to [`COPY_MAX`] bytes two: a get of it reads nothing else, so it waits for
//! memory once less often, and touches half as many lines.
//!
//! All words are atomic. A record does not change while linked, except `next`, the version, which
//! becomes that of a newer state with the same value, and the slot of a range, which becomes [`ABSENT`] when evicted and a slot again when admitted. The copy is
//! written before the record is linked and is of the record's own version, so it is right for as
//! long as the record is linked, whatever becomes of the slot.

use std::sync::atomic::{AtomicU64, Ordering};

use super::arena::{Arena, order_reuse};
use super::class::CHUNK;
use crate::limits::{KEY_LEN_MAX, SLOT_UNIT};
use crate::types::{BucketId, SlotId, Version};

/// The slot of a range that reads as zeros.
pub const ZERO_SLOT: SlotId = SlotId(u32::MAX);
/// The slot of a range that has been evicted.
pub(super) const ABSENT: SlotId = SlotId(u32::MAX - 1);

const HEAD_WORDS: usize = 5;
const KEY_AT: usize = HEAD_WORDS * 8;
const RANGE: usize = 24;
const WHOLE_RANGE: usize = 8;
/// The bit of the shape word that says so.
const WHOLE: u64 = 1 << 16;
/// The bit that says that a copy of the value follows the range.
const COPIED: u64 = 1 << 17;
/// Values up to this long are copied into their heads, where there is room. The slot stays: it is
/// what is pinned, written behind and evicted.
pub(super) const COPY_MAX: usize = 64;

/// Bytes of a head record.
pub(super) fn record_len(key_len: usize, ranges: usize) -> usize {
    KEY_AT + key_len.next_multiple_of(8) + ranges * RANGE
}

/// Bytes of the head record of a value that is one range in one slot.
pub(super) fn whole_record_len(key_len: usize) -> usize {
    KEY_AT + key_len.next_multiple_of(8) + WHOLE_RANGE
}

/// Bytes of the head record of such a value with room for the copy, if it is to have one.
pub(super) fn copied_record_len(key_len: usize, value_len: u64) -> usize {
    match may_copy(value_len) {
        true => whole_record_len(key_len) + (value_len as usize).next_multiple_of(8),
        false => whole_record_len(key_len),
    }
}

/// Whether a value of this length is copied into a head with room for it.
fn may_copy(value_len: u64) -> bool {
    (1..=COPY_MAX as u64).contains(&value_len)
}

/// A key and the hash of it and its bucket.
#[derive(Clone, Copy)]
pub(super) struct KeyRef<'a> {
    pub(super) hash: u64,
    pub(super) bucket: BucketId,
    pub(super) key: &'a [u8],
}

/// A record, as read at some moment.
#[derive(Clone, Copy)]
pub(super) struct Record {
    pub(super) slot: SlotId,
    pub(super) at: usize,
    ranges_at: usize,
    pub(super) ranges: usize,
    pub(super) whole: bool,
    pub(super) copied: bool,
    pub(super) version: Version,
    pub(super) len: u64,
}

impl Record {
    /// Bytes of the ranges.
    fn ranges_len(&self) -> usize {
        if self.whole { WHOLE_RANGE } else { self.ranges * RANGE }
    }
}

/// One range of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawRange {
    pub(super) value_offset: u64,
    pub(super) len: u32,
    pub(super) slot: SlotId,
    pub(super) slot_offset: u32,
    pub(super) generation: u32,
}

impl RawRange {
    pub(super) fn end(&self) -> u64 {
        self.value_offset.saturating_add(u64::from(self.len))
    }

    /// Whether it can be read from here.
    pub(super) fn is_resident(&self) -> bool {
        self.slot != ABSENT
    }

    /// Whether a slot of the arena backs it.
    pub(super) fn has_slot(&self) -> bool {
        self.slot != ZERO_SLOT && self.slot != ABSENT
    }
}

/// What a look at one record of a chain says.
pub(super) enum Look {
    Match(Record),
    Other(Option<SlotId>),
    /// Not a record: only possible without the stripe lock.
    Broken,
}

impl Arena {
    #[inline]
    fn get_word(&self, at: usize) -> u64 {
        self.map.word(at).load(Ordering::Relaxed)
    }

    fn put_word(&self, at: usize, value: u64) {
        self.map.word(at).store(value, Ordering::Relaxed);
    }

    /// Compares the record in `slot` with a key. Safe on any slot number, whatever it holds.
    #[inline(always)]
    pub(super) fn look(&self, slot: SlotId, wanted: &KeyRef<'_>) -> Look {
        let at = self.data_at(slot);
        // Of the length asked for: the address of what follows the key does not wait for the
        // record's own. If they differ that is seen, and nothing but the head is looked at.
        let key_len = wanted.key.len();
        let key_words = key_len.div_ceil(8);
        let words = self.map.words(at, KEY_AT / 8 + key_words);
        let Some((head, key)) = words.and_then(|words| words.split_first_chunk::<HEAD_WORDS>())
        else {
            return Look::Broken;
        };
        let [first, hash, version, len, shape] = head.each_ref();
        let first = first.load(Ordering::Relaxed);
        let shape = shape.load(Ordering::Relaxed);
        let next = (first as u32).checked_sub(1).map(SlotId);
        if hash.load(Ordering::Relaxed) != wanted.hash
            || (first >> 32) as u32 != wanted.bucket.0
            || shape as usize & 0xFFFF != key_len
            || !key_equals(key, wanted.key)
        {
            return Look::Other(next);
        }
        let len = len.load(Ordering::Relaxed);
        let record = Record {
            slot,
            at,
            ranges_at: at + KEY_AT + key_words * 8,
            ranges: (shape >> 32) as usize,
            whole: shape & WHOLE != 0,
            copied: shape & COPIED != 0,
            version: Version(version.load(Ordering::Relaxed)),
            len,
        };
        let fits = match shape == 1 << 32 | COPIED | WHOLE | key_len as u64 {
            // Where the copy ends is checked when it is read.
            true => may_copy(len),
            false => self.fits_uncopied(&record, key_len),
        };
        if fits { Look::Match(record) } else { Look::Broken }
    }

    #[inline]
    fn fits_uncopied(&self, record: &Record, key_len: usize) -> bool {
        // Records lie within a chunk.
        let room = CHUNK - record.slot.0 as usize * SLOT_UNIT % CHUNK;
        let inside = record.slot.0 as usize * SLOT_UNIT / CHUNK < self.layout.chunks;
        let fits = match record.whole {
            true => record.ranges == 1 && whole_record_len(key_len) <= room,
            false => record_len(key_len, record.ranges) <= room,
        };
        inside && fits && !record.copied
    }

    /// The record in a slot that the caller knows to hold one, by the stripe lock.
    pub(super) fn record(&self, slot: SlotId) -> Record {
        let at = self.data_at(slot);
        let shape = self.get_word(at + 32);
        let key_len = shape as usize & 0xFFFF;
        Record {
            slot,
            at,
            ranges_at: at + KEY_AT + key_len.next_multiple_of(8),
            ranges: (shape >> 32) as usize,
            whole: shape & WHOLE != 0,
            copied: shape & COPIED != 0,
            version: Version(self.get_word(at + 16)),
            len: self.get_word(at + 24),
        }
    }

    /// Whether a record read without the lock lies within its slot.
    pub(super) fn record_fits(&self, room: usize, record: &Record) -> bool {
        (record.whole || record.ranges <= room / RANGE)
            && record.ranges_at - record.at + record.ranges_len() <= room
    }

    /// The hash stored in a record.
    pub(super) fn record_hash(&self, record: &Record) -> u64 {
        self.get_word(record.at + 8)
    }

    /// Gives a record another version.
    pub(super) fn set_version(&self, record: &Record, version: Version) {
        self.put_word(record.at + 16, version.0);
    }

    /// Writes all of a record but its ranges and `next`, into a slot the caller is filling. A
    /// whole one has one range, which is the value from the begin of its slot; if it is short and
    /// there is room, the record is to be `copied`, and the caller fills the copy in.
    pub(super) fn write_record(
        &self,
        slot: SlotId,
        key: &KeyRef<'_>,
        version: Version,
        len: u64,
        ranges: usize,
        whole: bool,
    ) -> Record {
        let room = self.place(slot).class.bytes();
        assert!(ranges == 1 || !whole, "a whole value is one range");
        let needed = match whole {
            true => whole_record_len(key.key.len()),
            false => record_len(key.key.len(), ranges),
        };
        assert!(needed <= room, "the head's slot is too small");
        assert!(key.key.len() <= KEY_LEN_MAX, "a key of {} bytes", key.key.len());
        order_reuse();
        let at = self.data_at(slot);
        self.put_word(at, u64::from(key.bucket.0) << 32);
        self.put_word(at + 8, key.hash);
        self.put_word(at + 16, version.0);
        self.put_word(at + 24, len);
        let copied = whole && may_copy(len) && copied_record_len(key.key.len(), len) <= room;
        let flags = if whole { WHOLE } else { 0 } | if copied { COPIED } else { 0 };
        self.put_word(at + 32, (ranges as u64) << 32 | flags | key.key.len() as u64);
        self.set_heat(slot, 0);
        for (index, part) in key.key.chunks(8).enumerate() {
            let word = part.try_into().map_or_else(|_| padded(part), u64::from_ne_bytes);
            self.put_word(at + KEY_AT + index * 8, word);
        }
        self.record(slot)
    }

    /// What is probably the slot of a whole value, if the head in this slot is one and has a key
    /// of this length.
    #[inline]
    pub(super) fn expected_slot(&self, head: SlotId, key_len: usize) -> Option<SlotId> {
        let at = self.data_at(head) + KEY_AT + key_len.next_multiple_of(8);
        let words = self.map.words(at, 1)?;
        Some(SlotId(words.first()?.load(Ordering::Relaxed) as u32))
    }

    /// Range `index`. Of a record read without the lock it may be anything.
    #[inline(always)]
    pub(super) fn range(&self, record: &Record, index: usize) -> RawRange {
        if record.whole {
            let slice = self.get_word(record.ranges_at);
            return RawRange {
                value_offset: 0,
                slot: SlotId(slice as u32),
                len: record.len as u32,
                slot_offset: 0,
                generation: (slice >> 32) as u32,
            };
        }
        let at = record.ranges_at + index * RANGE;
        let place = self.get_word(at + 8);
        let slice = self.get_word(at + 16);
        RawRange {
            value_offset: self.get_word(at),
            slot: SlotId(place as u32),
            len: (place >> 32) as u32,
            slot_offset: slice as u32,
            generation: (slice >> 32) as u32,
        }
    }

    pub(super) fn set_range(&self, record: &Record, index: usize, range: &RawRange) {
        assert!(index < record.ranges, "more ranges than the head has room for");
        let slice = u64::from(range.generation) << 32;
        if record.whole {
            assert!(range.slot_offset == 0, "a whole value begins where its slot does");
            return self.put_word(record.ranges_at, slice | u64::from(range.slot.0));
        }
        let at = record.ranges_at + index * RANGE;
        self.put_word(at, range.value_offset);
        self.put_word(at + 8, u64::from(range.len) << 32 | u64::from(range.slot.0));
        self.put_word(at + 16, slice | u64::from(range.slot_offset));
    }

    /// Copies the value into a record that is `copied` and not linked yet, from the slot of its
    /// range, whose bytes are final.
    pub(super) fn fill_copy(&self, record: &Record, from: SlotId) {
        let to = self.copy_of(record);
        let from = to.and_then(|to| self.map.words(self.data_at(from), to.len()));
        let (Some(from), Some(to)) = (from, to) else { panic!("a copy outside of the arena") };
        for (from, to) in from.iter().zip(to) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// The words of the copy in a record. Of one read without the lock they may be anything;
    /// `None` if they cannot be one.
    #[inline]
    pub(super) fn copy_of(&self, record: &Record) -> Option<&[AtomicU64]> {
        self.map.words(record.ranges_at + WHOLE_RANGE, (record.len as usize).div_ceil(8))
    }

    /// The first range that ends beyond `offset`.
    #[inline]
    pub(super) fn range_from(&self, record: &Record, offset: u64) -> usize {
        let (mut low, mut high) = (0, record.ranges);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.range(record, middle).end() <= offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The next head of the chain.
    pub(super) fn next_head(&self, record: &Record) -> Option<SlotId> {
        (self.get_word(record.at) as u32).checked_sub(1).map(SlotId)
    }

    pub(super) fn set_next_head(&self, record: &Record, next: Option<SlotId>) {
        let bucket = self.get_word(record.at) >> 32 << 32;
        self.put_word(record.at, bucket | next.map_or(0, |slot| u64::from(slot.0) + 1));
    }
}

#[inline]
fn key_equals(stored: &[AtomicU64], key: &[u8]) -> bool {
    let (words, tail) = key.as_chunks::<8>();
    let same = |(stored, word): (&AtomicU64, &[u8; 8])| {
        stored.load(Ordering::Relaxed) == u64::from_ne_bytes(*word)
    };
    let last = stored.get(words.len());
    stored.iter().zip(words).all(same)
        && last.is_none_or(|last| last.load(Ordering::Relaxed) == padded(tail))
}

/// The last bytes of a key, fewer than 8, as the word they are stored as. No `memcpy`: a call
/// costs more than all of the comparison.
#[inline]
fn padded(part: &[u8]) -> u64 {
    let word = part.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    u64::to_le(word)
}
