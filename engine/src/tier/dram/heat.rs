//! How often heads with a copy of their value were read.
//!
//! A get that the copy answers does not touch the slot's state word, where other accesses count,
//! nor the record itself: the head's slot may be anything by then, and its bytes belong to whoever
//! has it. So there is a byte per slot unit that is never anything else. One that is late, or lost
//! to another thread's, makes some other head a little warmer, or this one a little less.

use std::sync::atomic::{AtomicU8, Ordering};

use super::arena::Arena;
use super::class::CHUNK_UNITS;
use super::slot::Word;
use crate::types::SlotId;

/// As for slots: hot heads are not written.
const HEAT_MAX: u8 = Word::FREQUENCY_MAX as u8;

impl Arena {
    /// Safe on any number: what is called a head's slot may be outdated.
    #[inline]
    fn heat_byte(&self, head: SlotId) -> Option<&AtomicU8> {
        let known = (head.0 as usize) < self.layout.chunks * CHUNK_UNITS;
        known.then(|| self.map.byte(self.layout.heats_at + head.0 as usize))
    }

    /// How warm a head is. 0 for those without a copy.
    pub(super) fn heat(&self, head: SlotId) -> u32 {
        self.heat_byte(head).map_or(0, |byte| u32::from(byte.load(Ordering::Relaxed)))
    }

    /// Of a head that is being made.
    pub(super) fn set_heat(&self, head: SlotId, heat: u32) {
        if let Some(byte) = self.heat_byte(head) {
            byte.store(heat.min(Word::FREQUENCY_MAX) as u8, Ordering::Relaxed);
        }
    }

    /// One access more.
    #[inline]
    pub(super) fn warm_head(&self, head: SlotId) {
        if let Some(byte) = self.heat_byte(head) {
            let heat = byte.load(Ordering::Relaxed);
            if heat < HEAT_MAX {
                byte.store(heat + 1, Ordering::Relaxed);
            }
        }
    }

    /// One pass of the clock's hand. Returns whether the head was warm.
    pub(super) fn cool_head(&self, head: SlotId) -> bool {
        let Some(byte) = self.heat_byte(head) else { return false };
        let heat = byte.load(Ordering::Relaxed);
        if heat > 0 {
            byte.store(heat - 1, Ordering::Relaxed);
        }
        heat > 0
    }
}
