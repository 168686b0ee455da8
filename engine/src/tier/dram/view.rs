//! Looking at a head under the stripe lock.

use std::marker::PhantomData;

use super::directory::DirStripe;
use super::record::{ABSENT, KeyRef, RawRange, Record};
use super::{Dram, arena::Arena};
use crate::types::{BucketId, SlotId, Version};

/// The head of a key, for as long as the stripe lock is held.
#[derive(Clone, Copy)]
pub struct HeadView<'a> {
    arena: &'a Arena,
    record: Record,
    lock: PhantomData<&'a DirStripe>,
}

/// A resident range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ViewRange {
    /// Byte offset in the value.
    pub value_offset: u64,
    /// Bytes.
    pub len: u32,
    /// The slot, or [`ZERO_SLOT`](super::ZERO_SLOT).
    pub slot: SlotId,
    /// Byte offset in the slot's buffer.
    pub slot_offset: u32,
}

impl<'a> HeadView<'a> {
    /// The visible version.
    pub fn version(&self) -> Version {
        self.record.version
    }

    /// Length of the value in bytes. May be 0.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> u64 {
        self.record.len
    }

    /// Ranges, resident or not: with the key's length, what sizes a head for `admit`.
    pub fn range_count(&self) -> usize {
        self.record.ranges
    }

    /// The resident ranges, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = ViewRange> + 'a {
        let (arena, record) = (self.arena, self.record);
        (0..record.ranges).filter_map(move |index| resident(arena.range(&record, index)))
    }

    /// The resident range that covers a byte of the value.
    pub fn range_at(&self, offset: u64) -> Option<ViewRange> {
        let index = self.arena.range_from(&self.record, offset);
        let range = (index < self.record.ranges).then(|| self.arena.range(&self.record, index))?;
        resident(range).filter(|range| range.value_offset <= offset)
    }
}

fn resident(range: RawRange) -> Option<ViewRange> {
    (range.slot != ABSENT).then_some(ViewRange {
        value_offset: range.value_offset,
        len: range.len,
        slot: range.slot,
        slot_offset: range.slot_offset,
    })
}

impl Dram {
    /// The head of a key.
    pub fn lookup<'a>(
        &'a self,
        stripe: &'a DirStripe,
        hash: u64,
        bucket: BucketId,
        key: &[u8],
    ) -> Option<HeadView<'a>> {
        let (_, record) = self.arena.find(stripe, &KeyRef { hash, bucket, key });
        Some(HeadView { arena: &self.arena, record: record?, lock: PhantomData })
    }
}
