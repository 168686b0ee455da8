//! The arena: slots of 47 sizes in chunks of 1 MiB.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering, fence};

use super::class::{CHUNK, CHUNK_UNITS, Class};
use super::copy;
use super::free::FreeList;
use super::lane::{LANES, Padded, lane};
use super::layout::{Layout, MAGIC, META};
use super::mapping::Mapping;
use super::pool::{ClassHints, Pool};
use super::slot::{State, Word};
use crate::error::Result;
use crate::limits::SLOT_UNIT;
use crate::types::SlotId;

/// The mapping with the allocator over it. Lists, states and records are in the mapping; the
/// hints that only this process needs, all derivable, are beside it.
pub(super) struct Arena {
    pub(super) map: Mapping,
    pub(super) layout: Layout,
    pub(super) hints: Box<[ClassHints]>,
    pub(super) pool: Pool,
    dirty: [Padded<AtomicI64>; LANES],
    /// Bytes of slot metadata that were ever in use, by chunk and in all.
    metas_touched: Box<[AtomicU32]>,
    metas_touched_all: AtomicU64,
}

/// A slot's chunk, its number in it, and its size.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) chunk: usize,
    pub(super) index: usize,
    pub(super) class: Class,
}

/// Length, stripe and owner of a slot, in one word so that a sweep reads them together.
#[derive(Clone, Copy)]
pub(super) struct Info {
    /// The slot of the head that names this slot; a head names itself; while free, the link.
    pub(super) owner: u32,
    /// Bytes of the buffer.
    pub(super) len: u32,
    /// The stripe of the head's key.
    pub(super) stripe: u16,
}

impl Info {
    fn pack(self) -> u64 {
        u64::from(self.stripe) << 53 | u64::from(self.len) << 32 | u64::from(self.owner)
    }

    fn unpack(word: u64) -> Info {
        Info {
            owner: word as u32,
            len: (word >> 32) as u32 & ((1 << 21) - 1),
            stripe: (word >> 53) as u16,
        }
    }
}

impl Arena {
    pub(super) fn new(capacity: u64, stripes: usize) -> Result<Arena> {
        let layout = Layout::new(capacity, stripes)?;
        let map = Mapping::anonymous(layout.total)?;
        // Not the metadata between them, of which most pages are never touched.
        map.want_huge_pages(0, layout.metas_at);
        map.want_huge_pages(layout.data_at, layout.total - layout.data_at);
        map.word(0).store(MAGIC, Ordering::Relaxed);
        map.word(8).store(layout.chunks as u64, Ordering::Relaxed);
        for chunk in 0..layout.chunks {
            let word = map.word(layout.free_at + chunk * 8);
            word.store(FreeList(0).unassigned().0, Ordering::Relaxed);
        }
        let hints = (0..Class::COUNT).map(|_| ClassHints::new(layout.chunks)).collect();
        let pool = Pool::new(layout.chunks);
        let metas_touched = (0..layout.chunks).map(|_| AtomicU32::new(0)).collect();
        let (dirty, metas_touched_all) = Default::default();
        Ok(Arena { map, layout, hints, pool, dirty, metas_touched, metas_touched_all })
    }

    /// A chunk uses so many bytes of metadata: the system has memory behind them from now on.
    pub(super) fn touched_metas(&self, chunk: usize, bytes: usize) {
        let before = self.metas_touched[chunk].fetch_max(bytes as u32, Ordering::Relaxed);
        let more = (bytes as u64).saturating_sub(u64::from(before));
        self.metas_touched_all.fetch_add(more, Ordering::Relaxed);
    }

    /// Bytes of memory that the arena takes beside its slots.
    pub(super) fn metadata_bytes(&self) -> u64 {
        self.layout.metas_at as u64 + self.metas_touched_all.load(Ordering::Relaxed)
    }

    /// The free list of a chunk.
    #[inline]
    pub(super) fn free_word(&self, chunk: usize) -> &AtomicU64 {
        self.map.word(self.layout.free_at + chunk * 8)
    }

    /// The class of a chunk (its code, 0 while it has none), apart from the free list, whose line
    /// every allocation writes.
    #[inline]
    pub(super) fn class_word(&self, chunk: usize) -> &AtomicU32 {
        self.map.half(self.layout.classes_at + chunk * 4)
    }

    /// Where the state, buffer and info of a slot lie.
    #[inline]
    pub(super) fn meta_at(&self, chunk: usize, index: usize) -> usize {
        self.layout.metas_at + (chunk * CHUNK_UNITS + index) * META
    }

    #[inline]
    fn meta(&self, chunk: usize, index: usize, field: usize) -> &AtomicU64 {
        self.map.word(self.meta_at(chunk, index) + field * 8)
    }

    /// The state word.
    #[inline]
    pub(super) fn state(&self, place: Place) -> &AtomicU64 {
        self.meta(place.chunk, place.index, 0)
    }

    /// The id of the buffer in the slot.
    #[inline]
    pub(super) fn buffer(&self, place: Place) -> &AtomicU64 {
        self.meta(place.chunk, place.index, 1)
    }

    pub(super) fn info(&self, place: Place) -> Info {
        Info::unpack(self.meta(place.chunk, place.index, 2).load(Ordering::Relaxed))
    }

    pub(super) fn set_info(&self, place: Place, info: Info) {
        self.meta(place.chunk, place.index, 2).store(info.pack(), Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn link(&self, chunk: usize, index: usize) -> &AtomicU64 {
        self.meta(chunk, index, 2)
    }

    /// Where a slot is, by its chunk's class of this moment. `None` if the number cannot be a
    /// slot; with an outdated number the answer is some slot, to be told by its generation.
    #[inline]
    pub(super) fn try_place(&self, slot: SlotId) -> Option<Place> {
        let chunk = slot.0 as usize / CHUNK_UNITS;
        if chunk >= self.layout.chunks {
            return None;
        }
        let class = Class::from_code(self.class_word(chunk).load(Ordering::Acquire))?;
        let index = class.slot_at_unit(slot.0 as usize % CHUNK_UNITS);
        (index < class.slots()).then_some(Place { chunk, index, class })
    }

    /// Where a slot is that the caller knows to be in use.
    #[inline]
    pub(super) fn place(&self, slot: SlotId) -> Place {
        let place = self.try_place(slot);
        let Some(place) = place else { panic!("slot {} is not in use", slot.0) };
        assert!(self.slot_of(place) == slot, "slot {} is not the begin of one", slot.0);
        place
    }

    /// The inverse of [`place`](Self::place).
    #[inline]
    pub(super) fn slot_of(&self, place: Place) -> SlotId {
        SlotId((place.chunk * CHUNK_UNITS + place.index * place.class.units()) as u32)
    }

    /// Offset in the mapping of a slot's first byte.
    #[inline]
    pub(super) fn data_at(&self, slot: SlotId) -> usize {
        self.layout.data_at + slot.0 as usize * SLOT_UNIT
    }

    /// Takes a free slot of the class of `len`: Filling, and the caller's alone.
    pub(super) fn alloc(&self, len: usize) -> Option<SlotId> {
        let class = Class::holding(len)?;
        let lane = lane();
        let place = self.hints[class.index()]
            .hinted(lane)
            .and_then(|chunk| self.pop(chunk, class))
            .or_else(|| self.alloc_slow(class, lane))?;
        let state = self.state(place);
        let old = Word(state.load(Ordering::Relaxed));
        assert!(old.state() == State::Free, "a slot in use was on a free list");
        let generation = old.generation().wrapping_add(1);
        state.store(Word::new(generation, State::Filling, 0).0, Ordering::Release);
        Some(self.slot_of(place))
    }

    /// Pops from a chunk, if it is of this class and not being drained.
    pub(super) fn pop(&self, chunk: usize, class: Class) -> Option<Place> {
        let word = self.free_word(chunk);
        let mut seen = word.load(Ordering::Acquire);
        loop {
            let list = FreeList(seen);
            if list.draining() || list.class() != Some(class) {
                return None;
            }
            let index = list.head()?;
            let next = self.link(chunk, index).load(Ordering::Relaxed) as u32;
            let popped = list.popped(next);
            match word.compare_exchange_weak(seen, popped.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    if list.is_empty_chunk() {
                        self.pool.empties.fetch_sub(1, Ordering::Relaxed);
                    }
                    return Some(Place { chunk, index, class });
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Gives back a slot that the caller owns alone (Filling, Head, or Retired without pins).
    pub(super) fn free(&self, place: Place) {
        let state = self.state(place);
        let old = Word(state.load(Ordering::Relaxed));
        assert!(
            matches!(old.state(), State::Filling | State::Head | State::Retired) && old.pins() == 0,
            "freed a slot that is not its caller's"
        );
        state.store(Word::new(old.generation(), State::Free, 0).0, Ordering::Release);
        let word = self.free_word(place.chunk);
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            let list = FreeList(seen);
            let next = list.head().map_or(u32::MAX, |head| head as u32);
            self.link(place.chunk, place.index).store(u64::from(next), Ordering::Relaxed);
            let pushed = list.pushed(place.index);
            match word.compare_exchange_weak(seen, pushed.0, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => return self.after_free(place, list, pushed),
                Err(now) => seen = now,
            }
        }
    }

    fn after_free(&self, place: Place, before: FreeList, after: FreeList) {
        if after.is_empty_chunk() {
            self.pool.empties.fetch_add(1, Ordering::Relaxed);
            if after.draining() {
                self.reclaim(place.chunk);
                return;
            }
        }
        // What was just freed is in this core's cache: the lane takes it again first, which also
        // leads threads that replace values of different chunks apart.
        let hints = &self.hints[place.class.index()];
        hints.hint(lane(), place.chunk);
        if before.count() == 0 {
            hints.room.set(place.chunk);
        }
    }

    /// Copies into a slot that the caller is filling.
    pub(super) fn fill(&self, slot: SlotId, at: usize, bytes: &[u8]) {
        let place = self.place(slot);
        let state = Word(self.state(place).load(Ordering::Relaxed)).state();
        assert!(state == State::Filling, "filled a slot that is {state:?}");
        let room = place.class.bytes();
        assert!(at <= room && bytes.len() <= room - at, "fill beyond the slot's end");
        let to = self.map.pointer(self.data_at(slot) + at, bytes.len());
        order_reuse();
        // SAFETY: inside the slot, whose size is whole words; Filling makes the caller its only
        // writer, and readers that may still look (outdated ones) use atomic words.
        unsafe { copy::store(to, bytes) }
    }

    /// Filling -> Free.
    pub(super) fn discard(&self, slot: SlotId) {
        let place = self.place(slot);
        let state = Word(self.state(place).load(Ordering::Relaxed)).state();
        assert!(state == State::Filling, "discarded a slot that is {state:?}");
        self.free(place);
    }

    /// Takes a slot out of a head: freed now, or by the last unpin. Under the stripe lock.
    pub(super) fn release(&self, place: Place) {
        let state = self.state(place);
        let mut seen = state.load(Ordering::Acquire);
        loop {
            let word = Word(seen);
            assert!(word.is_resident(), "released a slot that no head names");
            let next = if word.pins() == 0 { State::Filling } else { State::Retired };
            let new = word.with_state(next).0;
            match state.compare_exchange_weak(seen, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    if word.state() == State::Dirty {
                        self.add_dirty(place.class, -1);
                    }
                    if next == State::Filling {
                        self.free(place);
                    }
                    return;
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Counts a slot that became dirty (1) or ceased to be (-1).
    pub(super) fn add_dirty(&self, class: Class, sign: i64) {
        self.dirty[lane()].0.fetch_add(sign * class.bytes() as i64, Ordering::Relaxed);
    }

    /// Arena bytes in dirty slots.
    pub(super) fn dirty_bytes(&self) -> u64 {
        let sum: i64 = self.dirty.iter().map(|lane| lane.0.load(Ordering::Relaxed)).sum();
        sum.max(0) as u64
    }

    /// Bytes of slots in use, and bytes in which something can be allocated at once or after
    /// faulting. Sums over the chunks: exact only while nothing changes.
    pub(super) fn used_and_free(&self) -> (u64, u64) {
        (0..self.layout.chunks).fold((0, 0), |(used, free), chunk| {
            let list = FreeList(self.free_word(chunk).load(Ordering::Relaxed));
            match list.class() {
                None => (used, free + CHUNK as u64),
                Some(class) => {
                    let taken = class.slots().saturating_sub(list.count());
                    let size = class.bytes() as u64;
                    (used + taken as u64 * size, free + list.count() as u64 * size)
                }
            }
        })
    }

    /// Slots for `len` bytes that can be had without evicting anything.
    pub(super) fn free_estimate(&self, len: usize) -> u64 {
        let Some(class) = Class::holding(len) else { return 0 };
        let slots = (0..self.layout.chunks).map(|chunk| {
            let list = FreeList(self.free_word(chunk).load(Ordering::Relaxed));
            match list.class() {
                Some(own) if own == class && !list.draining() => list.count(),
                None => class.slots(),
                Some(_) if list.is_empty_chunk() => class.slots(),
                Some(_) => 0,
            }
        });
        slots.sum::<usize>() as u64
    }
}

/// Comes before the first write to a reused slot, on the writing thread: an optimistic reader
/// that meets such a write then also sees that the slot's release has moved the sequence.
#[inline]
pub(super) fn order_reuse() {
    fence(Ordering::Release);
}
