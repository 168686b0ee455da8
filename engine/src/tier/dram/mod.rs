//! The DRAM tier: raw bytes of buffers in slots, and a directory from keys to slots.
//!
//! One mapping, position-free: offsets instead of pointers, so that it can become a file of
//! shared memory. `arena.rs` allocates slots, `slot.rs` says who may touch them, `directory.rs`
//! changes heads under the stripe locks, `get.rs` reads without any, `sweep.rs` makes room,
//! `drain.rs` moves it between sizes, `ahead.rs` loads for a publish what it will
//! look at. Very short values are also in their heads (`record.rs`),
//! whose accesses `heat.rs` counts.
//!
//! A put allocates its slots and its head, fills them without a lock, and publishes under the
//! stripe lock, where nothing can fail any more. Nothing here waits, and after construction
//! nothing allocates.

mod admit;
mod ahead;
mod arena;
mod batch;
mod class;
mod copy;
mod directory;
mod drain;
mod free;
mod get;
mod heat;
mod lane;
mod layout;
mod mapping;
mod pin;
mod pool;
mod record;
mod slot;
mod sweep;
mod view;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod stress_tests;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};

pub use directory::{DirRange, DirStripe, Fresh, PublishHead};
pub use get::DramGet;
pub use pin::{OwnedPin, Pin};
pub use record::ZERO_SLOT;
pub use sweep::{Victim, VictimList};
pub use view::{HeadView, ViewRange};

use crate::error::Result;
use crate::types::{BufferId, SlotId};
use arena::Arena;
use slot::{State, Word};

/// The DRAM tier. All methods may be called from any thread; those that take a [`DirStripe`]
/// only by the holder of that stripe's lock.
pub struct Dram {
    arena: Arena,
    retries: AtomicU64,
}

impl Dram {
    /// Reserves a tier of `capacity` bytes of slots (rounded down to whole MiB) and up to 41 % on
    /// top for metadata, as far as small slots need it. Touches next to nothing.
    ///
    /// # Errors
    /// `InvalidArgument` for a capacity below 1 MiB or beyond 2^32 slot units, or a number of
    /// stripes that is not a power of two up to 1024; `NoMemory` without address space.
    pub fn new(capacity: u64, stripes: usize) -> Result<Dram> {
        Ok(Dram { arena: Arena::new(capacity, stripes)?, retries: AtomicU64::new(0) })
    }

    /// Bytes to allocate for the head of a key with this many ranges.
    pub fn head_len(key_len: usize, ranges: usize) -> usize {
        record::record_len(key_len, ranges)
    }

    /// Bytes to allocate for the head of a key whose value is one slot's bytes from its begin. If
    /// the value is short they include room for a copy of it, which gets answer from.
    pub fn whole_head_len(key_len: usize, value_len: usize) -> usize {
        record::copied_record_len(key_len, value_len as u64)
    }

    /// A slot for `len` bytes (1..=1 MiB), the caller's alone until it is published or
    /// discarded. `None` if there is no room without evicting, or for lengths out of range.
    pub fn alloc(&self, len: usize) -> Option<SlotId> {
        self.arena.alloc(len)
    }

    /// Copies bytes into a slot that has been allocated and not yet published. Its holder calls
    /// this from one thread at a time.
    pub fn fill(&self, slot: SlotId, at: usize, bytes: &[u8]) {
        self.arena.fill(slot, at, bytes);
    }

    /// Gives back a slot that has been allocated and not published.
    pub fn discard(&self, slot: SlotId) {
        self.arena.discard(slot);
    }

    /// Notes that a device holds the slot's bytes. `false` if the slot does not hold this
    /// buffer as dirty any more.
    pub fn mark_clean(&self, slot: SlotId, buffer: BufferId) -> bool {
        let arena = &self.arena;
        let Some(place) = arena.try_place(slot) else { return false };
        let state = arena.state(place);
        let mut seen = state.load(Ordering::Acquire);
        loop {
            let word = Word(seen);
            let same = arena.slot_of(place) == slot
                && word.state() == State::Dirty
                && arena.buffer(place).load(Ordering::Relaxed) == buffer.0;
            if !same {
                return false;
            }
            // The generation is part of the word: the buffer read belongs to this use.
            let new = word.with_state(State::Clean).0;
            match state.compare_exchange_weak(seen, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        arena.add_dirty(place.class, -1);
        true
    }

    /// Backs one more chunk with memory, if fewer than the target are ready. Takes about a
    /// millisecond; for a background thread. Returns whether it did something.
    pub fn fault_ahead(&self) -> bool {
        self.arena.fault_ahead()
    }

    /// Whether [`fault_ahead`](Self::fault_ahead) has work.
    pub fn wants_faulting(&self) -> bool {
        self.arena.wants_faulting()
    }

    /// Bytes of slots the tier can hold.
    pub fn capacity(&self) -> u64 {
        (self.arena.layout.chunks * class::CHUNK) as u64
    }

    /// Bytes of slots in use, heads included. Walks the chunks: for statistics and the organizer.
    pub fn used_bytes(&self) -> u64 {
        self.arena.used_and_free().0
    }

    /// Bytes free or without a class, in all classes together. Walks the chunks.
    pub fn free_bytes(&self) -> u64 {
        self.arena.used_and_free().1
    }

    /// Bytes of slots whose content no device holds.
    pub fn dirty_bytes(&self) -> u64 {
        self.arena.dirty_bytes()
    }

    /// Bytes of chunks backed with memory so far.
    pub fn faulted_bytes(&self) -> u64 {
        self.arena.faulted_bytes()
    }

    /// Bytes of memory that the tier takes beside its slots; grows while these get smaller.
    pub fn metadata_bytes(&self) -> u64 {
        self.arena.metadata_bytes()
    }

    /// Keys with a head.
    pub fn resident_keys(&self) -> u64 {
        let stripes = 0..self.arena.layout.stripes;
        stripes.map(|stripe| self.arena.resident(stripe).load(Ordering::Relaxed)).sum()
    }

    /// Slots for `len` bytes that can be had without evicting anything. Walks the chunks.
    pub fn free_estimate(&self, len: usize) -> u64 {
        self.arena.free_estimate(len)
    }

    /// How often a reader without a lock had to look again.
    pub fn read_retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }
}
