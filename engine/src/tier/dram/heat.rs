//! How often heads with a copy of their value were read.
//!
//! A get that the copy answers does not touch the slot's state word, where other accesses count,
//! nor the record itself: the head's slot may be anything by then, and its bytes belong to whoever
//! has it. So there is a byte per slot unit that is never anything else. One that is late, or lost
//! to another thread's, makes some other head a little warmer, or this one a little less.
//!
//! Gets that DRAM answers touch no entry of the index either. Whoever wants to know how hot a blob
//! is asks here how often its slots were used since the question before: [`Dram::take_uses`].

use std::sync::atomic::{AtomicU8, Ordering};

use super::Dram;
use super::arena::Arena;
use super::class::CHUNK_UNITS;
use super::directory::DirStripe;
use super::record::{KeyRef, RawRange};
use super::slot::Word;
use crate::types::{BucketId, SlotId};

/// As for slots: hot heads are not written.
const HEAT_MAX: u8 = Word::FREQUENCY_MAX as u8;
/// As for slots: the head was not used since its uses were last counted.
const COUNTED: u8 = 1 << 7;
/// Slots of a key that are asked: most keys have one.
const SLOTS_ASKED_MAX: usize = 64;

impl Arena {
    /// Safe on any number: what is called a head's slot may be outdated.
    #[inline]
    fn heat_byte(&self, head: SlotId) -> Option<&AtomicU8> {
        let known = (head.0 as usize) < self.layout.chunks * CHUNK_UNITS;
        known.then(|| self.map.byte(self.layout.heats_at + head.0 as usize))
    }

    /// How warm a head is. 0 for those without a copy.
    pub(super) fn heat(&self, head: SlotId) -> u32 {
        self.heat_byte(head).map_or(0, |byte| u32::from(byte.load(Ordering::Relaxed) & !COUNTED))
    }

    /// Of a head that is being made.
    pub(super) fn set_heat(&self, head: SlotId, heat: u32) {
        if let Some(byte) = self.heat_byte(head) {
            byte.store(heat.min(Word::FREQUENCY_MAX) as u8 | COUNTED, Ordering::Relaxed);
        }
    }

    /// One access more.
    #[inline]
    pub(super) fn warm_head(&self, head: SlotId) {
        if let Some(byte) = self.heat_byte(head) {
            let heat = byte.load(Ordering::Relaxed);
            // Also to clear the mark of one that has been counted.
            if heat != HEAT_MAX {
                byte.store(((heat & !COUNTED) + 1).min(HEAT_MAX), Ordering::Relaxed);
            }
        }
    }

    /// One pass of the clock's hand. Returns whether the head was warm.
    pub(super) fn cool_head(&self, head: SlotId) -> bool {
        let Some(byte) = self.heat_byte(head) else { return false };
        let heat = byte.load(Ordering::Relaxed);
        let was_warm = heat & !COUNTED > 0;
        if was_warm {
            byte.store(heat - 1, Ordering::Relaxed);
        }
        was_warm
    }

    /// Uses of a head with a copy since they were last counted, up to the most that it counts.
    fn take_uses_of_head(&self, head: SlotId) -> u32 {
        let Some(byte) = self.heat_byte(head) else { return 0 };
        let heat = byte.load(Ordering::Relaxed);
        byte.store(heat | COUNTED, Ordering::Relaxed);
        if heat & COUNTED == 0 { u32::from(heat).max(1) } else { 0 }
    }

    /// The same of a slot.
    fn take_uses_of_slot(&self, range: &RawRange) -> u32 {
        let Some(place) = self.try_place(range.slot).filter(|_| range.has_slot()) else { return 0 };
        let state = self.state(place);
        let seen = state.load(Ordering::Relaxed);
        let word = Word(seen);
        if word.generation() != range.generation || !word.is_resident() || !word.is_used() {
            return 0;
        }
        // Losing to another change of the word: it is counted the next time.
        let counted = word.counted().0;
        match state.compare_exchange(seen, counted, Ordering::Relaxed, Ordering::Relaxed) {
            // A sweep may have cooled it since.
            Ok(_) => word.frequency().max(1),
            Err(_) => 0,
        }
    }
}

impl Dram {
    /// How often a key's slots were used since the last call, as far as they count: a few times
    /// stand for any number. What made a slot does not count.
    pub fn take_uses(
        &self,
        stripe: &mut DirStripe,
        hash: u64,
        bucket: BucketId,
        key: &[u8],
    ) -> u32 {
        let arena = &self.arena;
        let (_, record) = arena.find(stripe, &KeyRef { hash, bucket, key });
        let Some(record) = record else { return 0 };
        let of_head = if record.copied { arena.take_uses_of_head(record.slot) } else { 0 };
        let ranges = (0..record.ranges.min(SLOTS_ASKED_MAX)).map(|at| arena.range(&record, at));
        ranges.map(|range| arena.take_uses_of_slot(&range)).fold(of_head, u32::max)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::{BUCKET, Rig, bytes, hash};

    fn take_uses(rig: &mut Rig, key: &[u8]) -> u32 {
        let dram = Arc::clone(&rig.dram);
        let stripe = hash(key) as usize % rig.stripes.len();
        dram.take_uses(&mut rig.stripes[stripe], hash(key), BUCKET, key)
    }

    #[test]
    fn uses_are_counted_once_and_noticed_again_of_the_hottest() {
        let mut rig = Rig::new(8 << 20, 16);
        // Read from the head, from one slot, and from several.
        for (key, len) in [(&b"short"[..], 40), (b"small", 4000), (b"large", 100_000)] {
            assert_eq!(take_uses(&mut rig, key), 0, "it is not there");
            assert!(rig.put(key, 1, &bytes(1, len), 32 << 10, false));
            assert_eq!(take_uses(&mut rig, key), 0, "a put is no use");
            for _ in 0..10 {
                rig.get(key, 0, len).unwrap();
            }
            assert_eq!((take_uses(&mut rig, key), take_uses(&mut rig, key)), (3, 0));
            rig.get(key, 0, len).unwrap();
            assert!(take_uses(&mut rig, key) > 0, "it was hot before");
            assert_eq!(take_uses(&mut rig, key), 0);
        }
    }
}
