//! Loads ahead of a publish.
//!
//! A publish follows its key through table, head, slot and their states, each of which it finds
//! out from the one before: five waits for memory in a row, under the stripe lock. Whoever is
//! about to publish asks for each of them while it does something else. Nothing here changes
//! anything or decides anything: what is read without the lock is only an address to load.

use std::sync::atomic::Ordering;

use super::Dram;
use super::arena::Arena;
use crate::types::SlotId;

/// Bytes of a cache line.
const LINE: usize = 64;

impl Arena {
    fn expected_head(&self, hash: u64) -> Option<SlotId> {
        let word = self.entry_word(self.entry(hash)).load(Ordering::Relaxed);
        word.checked_sub(1).map(SlotId)
    }

    fn prefetch_meta(&self, slot: SlotId) {
        if let Some(place) = self.try_place(slot) {
            self.map.prefetch(self.meta_at(place.chunk, place.index));
        }
    }
}

impl Dram {
    /// The first step: the key's entry of the table.
    #[inline]
    pub fn expect_entry(&self, hash: u64) {
        let arena = &self.arena;
        arena.map.prefetch(arena.entry_at(arena.entry(hash)));
        arena.map.prefetch(arena.sequence_at(arena.stripe_of(hash)));
    }

    /// The second: the head that it names.
    #[inline]
    pub fn expect_head(&self, hash: u64) {
        let arena = &self.arena;
        let Some(head) = arena.expected_head(hash) else { return };
        let at = arena.data_at(head);
        arena.map.prefetch(at);
        arena.map.prefetch(at + LINE);
        arena.prefetch_meta(head);
    }

    /// The third: the slot that the head names, if it is one of a whole value.
    #[inline]
    pub fn expect_slot(&self, hash: u64, key_len: usize) {
        let arena = &self.arena;
        let Some(head) = arena.expected_head(hash) else { return };
        if let Some(slot) = arena.expected_slot(head, key_len) {
            arena.prefetch_meta(slot);
        }
    }
}
