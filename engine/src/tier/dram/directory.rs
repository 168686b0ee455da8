//! The directory: from a key to the slots that hold its value.
//!
//! Changed by the holder of the key's stripe lock alone, who makes the stripe's sequence odd for
//! as long as the chain or a record is between two states (a few stores). What a change takes
//! out is freed after the sequence is even again, so a reader without the lock that finds the
//! sequence unchanged has read bytes that were the key's throughout.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::Dram;
use super::arena::{Arena, Info};
use super::layout::STRIPE_LINE;
use super::record::{ABSENT, KeyRef, Look, RawRange, Record, ZERO_SLOT};
use super::slot::{State, Word};
use crate::types::{BucketId, BufferId, SlotId, Version};

/// The right to change one stripe of the directory. Kept inside that stripe's mutex, so that
/// `&mut DirStripe` proves that the lock is held.
#[derive(Debug)]
pub struct DirStripe {
    pub(super) index: usize,
}

/// A buffer that a publish brings in, in a slot that is still being filled.
#[derive(Clone, Copy, Debug)]
pub struct Fresh {
    /// The id that the slot carries from now on.
    pub buffer: BufferId,
    /// Whether these bytes are nowhere else: the slot stays until [`Dram::mark_clean`].
    pub dirty: bool,
    /// Bytes of the whole buffer.
    pub len: u32,
}

/// A range of a value and the slice of a slot that holds it.
#[derive(Clone, Copy, Debug)]
pub struct DirRange {
    /// Byte offset in the value.
    pub value_offset: u64,
    /// Bytes.
    pub len: u32,
    /// The slot, or [`ZERO_SLOT`].
    pub slot: SlotId,
    /// Byte offset in the slot's buffer.
    pub slot_offset: u32,
    /// For the first range that names a slot the caller has filled; else the slot must be one
    /// that the key's present head names.
    pub fresh: Option<Fresh>,
}

/// The new state of a key in the directory.
#[derive(Clone, Copy, Debug)]
pub struct PublishHead<'a> {
    /// A slot from `alloc(head_len(..))`, or of
    /// [`whole_head_len`](Dram::whole_head_len) where that is enough, which becomes the directory's.
    pub head: SlotId,
    /// Hash of bucket and key; its low bits choose the stripe.
    pub hash: u64,
    /// The key's bucket.
    pub bucket: BucketId,
    /// The key.
    pub key: &'a [u8],
    /// The visible version.
    pub version: Version,
    /// Length of the value in bytes.
    pub len: u64,
    /// Resident ranges, ascending, not overlapping. What they leave out is not resident.
    pub ranges: &'a [DirRange],
}

impl<'a> PublishHead<'a> {
    pub(super) fn key_ref(&self) -> KeyRef<'a> {
        KeyRef { hash: self.hash, bucket: self.bucket, key: self.key }
    }

    /// Whether the one range is the whole value, from the begin of its slot.
    fn is_whole(&self) -> bool {
        let [only] = self.ranges else { return false };
        only.value_offset == 0
            && only.slot_offset == 0
            && only.slot != ZERO_SLOT
            && u64::from(only.len) == self.len
    }

    fn check(&self) {
        let mut end = 0;
        for range in self.ranges {
            assert!(range.len > 0 && range.value_offset >= end, "ranges empty or out of order");
            end = range.value_offset + u64::from(range.len);
        }
        assert!(end <= self.len, "a range lies beyond the value's end");
    }
}

/// New slots of a put have been used once; those that a read admits never, so that a scan does
/// not wash the hot set out.
pub(super) const HEAT_OF_PUT: u32 = 1;
pub(super) const HEAT_OF_READ: u32 = 0;

/// What points to a head: an entry of the table, or the head before it.
pub(super) enum Link {
    Entry(usize),
    After(Record),
}

impl Arena {
    #[inline]
    pub(super) fn stripe_of(&self, hash: u64) -> usize {
        hash as usize & (self.layout.stripes - 1)
    }

    #[inline]
    pub(super) fn sequence_at(&self, stripe: usize) -> usize {
        self.layout.stripes_at + stripe * STRIPE_LINE
    }

    #[inline]
    pub(super) fn sequence(&self, stripe: usize) -> &AtomicU64 {
        self.map.word(self.sequence_at(stripe))
    }

    pub(super) fn resident(&self, stripe: usize) -> &AtomicU64 {
        self.map.word(self.layout.stripes_at + stripe * STRIPE_LINE + 8)
    }

    /// The table entry of a hash: number, and word (slot plus one).
    #[inline]
    pub(super) fn entry(&self, hash: u64) -> usize {
        let within = (hash as usize >> self.layout.stripe_bits) & (self.layout.entries - 1);
        self.stripe_of(hash) * self.layout.entries + within
    }

    #[inline]
    pub(super) fn entry_at(&self, entry: usize) -> usize {
        self.layout.table_at + entry * 4
    }

    #[inline]
    pub(super) fn entry_word(&self, entry: usize) -> &AtomicU32 {
        self.map.half(self.entry_at(entry))
    }

    /// Runs a change that readers must not see half done. Nothing in it may panic or wait.
    pub(super) fn change(&self, stripe: &mut DirStripe, change: impl FnOnce()) {
        let sequence = self.sequence(stripe.index);
        let even = sequence.load(Ordering::Relaxed);
        assert!(even.is_multiple_of(2), "two changes of one stripe at once");
        sequence.store(even + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        change();
        sequence.store(even + 2, Ordering::Release);
    }

    /// The head of a key and what points to it. Under the stripe lock.
    pub(super) fn find(&self, stripe: &DirStripe, key: &KeyRef<'_>) -> (Link, Option<Record>) {
        assert!(stripe.index == self.stripe_of(key.hash), "the key is of another stripe");
        let entry = self.entry(key.hash);
        let mut link = Link::Entry(entry);
        let first = self.entry_word(entry).load(Ordering::Relaxed);
        let mut next = first.checked_sub(1).map(SlotId);
        while let Some(slot) = next {
            match self.look(slot, key) {
                Look::Match(record) => return (link, Some(record)),
                Look::Other(after) => {
                    link = Link::After(self.record(slot));
                    next = after;
                }
                Look::Broken => panic!("the directory's chain is broken at slot {}", slot.0),
            }
        }
        (link, None)
    }

    /// The record in a head's slot, and what points to it. Under the stripe lock.
    pub(super) fn find_slot(&self, stripe: &DirStripe, head: SlotId) -> (Link, Record) {
        let record = self.record(head);
        let hash = self.record_hash(&record);
        assert!(stripe.index == self.stripe_of(hash), "the head is of another stripe");
        let entry = self.entry(hash);
        let mut link = Link::Entry(entry);
        let first = self.entry_word(entry).load(Ordering::Relaxed);
        let mut next = first.checked_sub(1).map(SlotId);
        while let Some(slot) = next {
            if slot == head {
                return (link, record);
            }
            let passed = self.record(slot);
            next = self.next_head(&passed);
            link = Link::After(passed);
        }
        panic!("the head in slot {} is not in its chain", head.0)
    }

    pub(super) fn set_link(&self, link: &Link, to: Option<SlotId>) {
        match link {
            Link::Entry(entry) => {
                let word = to.map_or(0, |slot| slot.0 + 1);
                self.entry_word(*entry).store(word, Ordering::Relaxed);
            }
            Link::After(record) => self.set_next_head(record, to),
        }
    }

    /// Filling -> Head.
    pub(super) fn own_head(&self, stripe: usize, head: SlotId) {
        let place = self.place(head);
        let state = self.state(place);
        let word = Word(state.load(Ordering::Relaxed));
        assert!(word.state() == State::Filling, "published a head that is {:?}", word.state());
        self.set_info(place, Info { owner: head.0, len: 0, stripe: stripe as u16 });
        state.store(word.with_state(State::Head).0, Ordering::Release);
    }

    /// Filling -> Clean or Dirty, owned by a head.
    fn own_fresh(&self, stripe: usize, head: SlotId, slot: SlotId, fresh: Fresh, heat: u32) -> u32 {
        let place = self.place(slot);
        let state = self.state(place);
        let word = Word(state.load(Ordering::Relaxed));
        assert!(word.state() == State::Filling, "published a slot that is {:?}", word.state());
        assert!(fresh.len as usize <= place.class.bytes(), "a buffer is longer than its slot");
        self.buffer(place).store(fresh.buffer.0, Ordering::Relaxed);
        self.set_info(place, Info { owner: head.0, len: fresh.len, stripe: stripe as u16 });
        if fresh.dirty {
            self.add_dirty(place.class, 1);
        }
        let kind = if fresh.dirty { State::Dirty } else { State::Clean };
        state.store(Word::new(word.generation(), kind, heat).0, Ordering::Release);
        word.generation()
    }

    /// Passes a slot that the old head names on to the new one.
    pub(super) fn keep(&self, old: Option<&Record>, head: SlotId, slot: SlotId) -> u32 {
        let place = self.place(slot);
        let word = Word(self.state(place).load(Ordering::Acquire));
        assert!(word.is_resident(), "published a slot that is {:?}", word.state());
        let info = self.info(place);
        let known = info.owner == head.0 || old.is_some_and(|old| old.slot.0 == info.owner);
        assert!(known, "published a slot of another key");
        self.set_info(place, Info { owner: head.0, ..info });
        word.generation()
    }

    /// Makes a range of a new head real.
    pub(super) fn take_range(
        &self,
        stripe: usize,
        old: Option<&Record>,
        head: SlotId,
        range: &DirRange,
        heat: u32,
    ) -> RawRange {
        let generation = match range.fresh {
            _ if range.slot == ZERO_SLOT => 0,
            Some(fresh) => self.own_fresh(stripe, head, range.slot, fresh, heat),
            None => self.keep(old, head, range.slot),
        };
        if range.slot != ZERO_SLOT {
            let end = u64::from(range.slot_offset) + u64::from(range.len);
            let len = self.info(self.place(range.slot)).len;
            assert!(end <= u64::from(len), "a range lies beyond its buffer");
        }
        RawRange {
            value_offset: range.value_offset,
            len: range.len,
            slot: range.slot,
            slot_offset: range.slot_offset,
            generation,
        }
    }

    /// Links a complete head in the place of the old one, and frees what only the old one named.
    pub(super) fn replace(
        &self,
        stripe: &mut DirStripe,
        link: &Link,
        old: Option<&Record>,
        new: &Record,
    ) {
        self.own_head(stripe.index, new.slot);
        self.set_next_head(new, old.and_then(|old| self.next_head(old)));
        self.change(stripe, || self.set_link(link, Some(new.slot)));
        match old {
            Some(old) => self.drop_head(old),
            None => _ = self.resident(stripe.index).fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Unlinks a head and frees it and its slots.
    pub(super) fn unlink(&self, stripe: &mut DirStripe, link: &Link, old: &Record) {
        let next = self.next_head(old);
        self.change(stripe, || self.set_link(link, next));
        self.resident(stripe.index).fetch_sub(1, Ordering::Relaxed);
        self.drop_head(old);
    }

    /// Frees an unlinked head, and the slots that are still its own.
    fn drop_head(&self, old: &Record) {
        for index in 0..old.ranges {
            let range = self.range(old, index);
            if !range.has_slot() {
                continue;
            }
            let place = self.place_if_owned(range.slot, range.generation, old.slot);
            if let Some(place) = place {
                self.release(place);
            }
        }
        self.free(self.place(old.slot));
    }

    /// The place of a slot, if it is still this use of it and this head's. A slot named by two
    /// ranges is released with the first; its second mention fails here.
    fn place_if_owned(
        &self,
        slot: SlotId,
        generation: u32,
        head: SlotId,
    ) -> Option<super::arena::Place> {
        let place = self.try_place(slot)?;
        let word = Word(self.state(place).load(Ordering::Acquire));
        let owned = self.slot_of(place) == slot
            && word.generation() == generation
            && word.is_resident()
            && self.info(place).owner == head.0;
        owned.then_some(place)
    }

    /// Where evicted ranges lie in a record, for `admit` to fill in.
    pub(super) fn absent_at(&self, record: &Record, value_offset: u64, len: u32) -> Option<usize> {
        let index = self.range_from(record, value_offset);
        let range = (index < record.ranges).then(|| self.range(record, index))?;
        (range.slot == ABSENT && range.value_offset == value_offset && range.len == len)
            .then_some(index)
    }
}

impl Dram {
    /// The token of a stripe. Call it once per stripe, when the stripes' mutexes are made.
    pub fn dir_stripe(&self, index: usize) -> DirStripe {
        assert!(index < self.arena.layout.stripes, "stripe {index} does not exist");
        DirStripe { index }
    }

    /// Makes `new` the state of its key: fresh slots become resident, slots that the old head
    /// names and the new one does not are freed (pinned ones by their last unpin). Cannot fail;
    /// panics where the caller broke the rules of [`DirRange`].
    pub fn publish(&self, stripe: &mut DirStripe, new: &PublishHead<'_>) {
        self.publish_with(stripe, new, HEAT_OF_PUT);
    }

    /// [`publish`](Self::publish), its fresh slots as hot as said.
    pub(super) fn publish_with(&self, stripe: &mut DirStripe, new: &PublishHead<'_>, heat: u32) {
        new.check();
        let arena = &self.arena;
        let key = new.key_ref();
        let (link, old) = arena.find(stripe, &key);
        let record = arena.write_record(
            new.head,
            &key,
            new.version,
            new.len,
            new.ranges.len(),
            new.is_whole(),
        );
        for (index, range) in new.ranges.iter().enumerate() {
            let range = arena.take_range(stripe.index, old.as_ref(), new.head, range, heat);
            arena.set_range(&record, index, &range);
        }
        if let [only] = new.ranges
            && record.copied
        {
            arena.fill_copy(&record, only.slot);
            let kept = old.as_ref().filter(|_| only.fresh.is_none());
            arena.set_heat(new.head, kept.map_or(heat, |old| arena.heat(old.slot)));
        }
        arena.replace(stripe, &link, old.as_ref(), &record);
    }

    /// Takes a key out of the directory. `false` if it was not in it.
    pub fn remove(&self, stripe: &mut DirStripe, hash: u64, bucket: BucketId, key: &[u8]) -> bool {
        let (link, old) = self.arena.find(stripe, &KeyRef { hash, bucket, key });
        let Some(old) = old else { return false };
        self.arena.unlink(stripe, &link, &old);
        true
    }

    /// The value is that of a newer version as well.
    pub fn renew(
        &self,
        stripe: &mut DirStripe,
        hash: u64,
        bucket: BucketId,
        key: &[u8],
        version: Version,
    ) {
        let (_, found) = self.arena.find(stripe, &KeyRef { hash, bucket, key });
        if let Some(record) = found {
            self.arena.change(stripe, || self.arena.set_version(&record, version));
        }
    }
}
