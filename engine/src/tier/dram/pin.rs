//! Pins: a slot's bytes, held in place.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Dram;
use super::arena::{Arena, Place};
use super::slot::{State, Word};
use crate::types::{BufferId, SlotId};

/// A pin without its guard: somebody must call [`Arena::unpin`] exactly once.
#[derive(Clone, Copy)]
pub(super) struct RawPin {
    place: Place,
    slot: SlotId,
    len: u32,
}

impl Arena {
    /// Pins a resident slot; of this generation, if one is given. Counts as an access.
    pub(super) fn try_pin(&self, slot: SlotId, generation: Option<u32>) -> Option<RawPin> {
        let place = self.try_place(slot)?;
        let state = self.state(place);
        let mut seen = state.load(Ordering::Acquire);
        loop {
            let word = Word(seen);
            let other = generation.is_some_and(|wanted| wanted != word.generation());
            if other || !word.is_resident() || word.pins() == Word::PINS_MAX {
                return None;
            }
            let new = word.warmer().0 + Word::PIN;
            match state.compare_exchange_weak(seen, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        let pin = RawPin { place, slot, len: self.info(place).len };
        if self.slot_of(place) != slot {
            // The chunk changed its class since the caller learnt the slot's number.
            self.unpin(pin);
            return None;
        }
        Some(pin)
    }

    /// Gives a pin back; the last one of a retired slot frees it.
    pub(super) fn unpin(&self, pin: RawPin) {
        let word = Word(self.state(pin.place).fetch_sub(Word::PIN, Ordering::AcqRel));
        assert!(word.pins() > 0, "unpinned a slot without pins");
        if word.pins() == 1 && word.state() == State::Retired {
            self.free(pin.place);
        }
    }

    /// The buffer in a pinned slot.
    pub(super) fn pinned_bytes(&self, pin: &RawPin) -> &[u8] {
        let len = pin.len as usize;
        assert!(len <= pin.place.class.bytes(), "a buffer is longer than its slot");
        let start = self.map.pointer(self.data_at(pin.slot), len);
        // SAFETY: inside the mapping; the pin keeps the slot Clean, Dirty or Retired, in which
        // states nobody writes its bytes; the fill happened before the state was set.
        unsafe { std::slice::from_raw_parts(start, len) }
    }
}

/// A pinned slot: its bytes stay what and where they are until drop.
///
/// Taken under the stripe lock or not, dropped wherever. Keep it for the time of a copy or a
/// device write: the slot can neither be evicted nor reused meanwhile.
pub struct Pin<'a> {
    arena: &'a Arena,
    pin: RawPin,
}

impl Pin<'_> {
    /// The buffer.
    pub fn bytes(&self) -> &[u8] {
        self.arena.pinned_bytes(&self.pin)
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        self.arena.unpin(self.pin);
    }
}

/// A [`Pin`] that keeps the tier alive and may go to another thread.
pub struct OwnedPin {
    dram: Arc<Dram>,
    pin: RawPin,
}

impl OwnedPin {
    /// The slot.
    pub fn slot(&self) -> SlotId {
        self.pin.slot
    }

    /// The buffer in it.
    pub fn buffer(&self) -> BufferId {
        BufferId(self.dram.arena.buffer(self.pin.place).load(Ordering::Relaxed))
    }
}

impl Deref for OwnedPin {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.dram.arena.pinned_bytes(&self.pin)
    }
}

impl Drop for OwnedPin {
    fn drop(&mut self) {
        self.dram.arena.unpin(self.pin);
    }
}

impl Dram {
    /// Pins a slot that holds a buffer of some key. `None` if it does not (any more), so call it
    /// under the stripe lock under which the slot was looked up.
    pub fn pin(&self, slot: SlotId) -> Option<Pin<'_>> {
        let pin = self.arena.try_pin(slot, None)?;
        Some(Pin { arena: &self.arena, pin })
    }

    /// [`pin`](Self::pin), for use on another thread.
    pub fn pin_owned(self: &Arc<Self>, slot: SlotId) -> Option<OwnedPin> {
        let pin = self.arena.try_pin(slot, None)?;
        Some(OwnedPin { dram: Arc::clone(self), pin })
    }
}
