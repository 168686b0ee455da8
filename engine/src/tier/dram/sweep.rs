//! Making room: finding slots that can go, and taking them out.
//!
//! Finding is lock-free and only proposes; taking out happens under the stripe lock of the slot's
//! key and checks everything again. A sweep of a class is a CLOCK with a 2-bit frequency; that
//! memory also moves between classes is the matter of `drain.rs`.

use std::sync::atomic::Ordering;

use super::Dram;
use super::arena::{Arena, Place};
use super::class::Class;
use super::directory::DirStripe;
use super::pool::BORROW;
use super::record::{ABSENT, RawRange, Record};
use super::slot::{State, Word};
use crate::types::SlotId;

/// A slot that was clean, unpinned and cold when a sweep looked at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Victim {
    /// The slot.
    pub slot: SlotId,
    /// The stripe whose lock [`Dram::evict`] wants.
    pub stripe: u16,
    /// The use of the slot that was looked at.
    pub generation: u32,
}

/// A bounded list of victims, on the caller's stack.
pub struct VictimList {
    victims: [Victim; VictimList::CAPACITY],
    len: usize,
}

impl VictimList {
    /// Most victims of one sweep.
    pub const CAPACITY: usize = 64;

    /// An empty list.
    pub fn new() -> VictimList {
        let none = Victim { slot: SlotId(0), stripe: 0, generation: 0 };
        VictimList { victims: [none; Self::CAPACITY], len: 0 }
    }

    /// The victims.
    pub fn as_slice(&self) -> &[Victim] {
        &self.victims[..self.len]
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn room(&self) -> usize {
        Self::CAPACITY - self.len
    }

    fn push(&mut self, victim: Victim) {
        self.victims[self.len] = victim;
        self.len += 1;
    }
}

impl Default for VictimList {
    fn default() -> VictimList {
        VictimList::new()
    }
}

/// Slots that a sweeper claims at a time, so that several do not look at the same ones.
const RUN: usize = 32;
/// Ranges of a head that decide whether it is cold.
const HEAD_SAMPLE: usize = 16;

impl Arena {
    fn sweep_class(&self, class: Class, budget: &mut usize, out: &mut VictimList) {
        let hints = &self.hints[class.index()];
        // Not more than a round: the second visit would propose the same victims again.
        let mut round = hints.chunks.load(Ordering::Relaxed) * class.slots();
        while round > 0 && *budget > 0 && out.room() > 0 {
            let seen = hints.hand.load(Ordering::Relaxed);
            let (at, index) = ((seen >> 32) as usize, seen as u32 as usize);
            let Some(chunk) = hints.members.next(at % self.layout.chunks) else { return };
            let index = if chunk == at { index } else { 0 };
            let end = (index + RUN.min(*budget).min(out.room())).min(class.slots());
            let after = if end < class.slots() { (chunk, end) } else { (chunk + 1, 0) };
            let hand = (after.0 as u64) << 32 | after.1 as u64;
            let claimed =
                hints.hand.compare_exchange(seen, hand, Ordering::Relaxed, Ordering::Relaxed);
            *budget = budget.saturating_sub((end - index).max(1));
            round = round.saturating_sub((end - index).max(1));
            hints.swept(((end - index) * class.units()) as u64);
            if claimed.is_ok() && self.class_word(chunk).load(Ordering::Acquire) == class.code() {
                for index in index..end {
                    self.visit(Place { chunk, index, class }, false, out);
                }
            }
        }
    }

    /// Looks at a slot: cools it, or proposes it. Draining spares nothing for being warm.
    pub(super) fn visit(&self, place: Place, draining: bool, out: &mut VictimList) {
        let state = self.state(place);
        let seen = state.load(Ordering::Acquire);
        let word = Word(seen);
        let cold = match word.state() {
            State::Clean if word.pins() > 0 => false,
            State::Clean => draining || !self.cool(place, seen),
            State::Head => self.head_is_cold(place, draining),
            _ => false,
        };
        if cold {
            // Read after the state: if this use of the slot is over, the generation will tell.
            let stripe = self.info(place).stripe;
            let generation = word.generation();
            out.push(Victim { slot: self.slot_of(place), stripe, generation });
        }
    }

    /// Cools a slot, and its head where gets count there. Returns whether either was warm.
    fn cool(&self, place: Place, seen: u64) -> bool {
        let word = Word(seen);
        if word.frequency() > 0 {
            let (state, cooler) = (self.state(place), word.cooler().0);
            _ = state.compare_exchange(seen, cooler, Ordering::Relaxed, Ordering::Relaxed);
        }
        let head_was_warm = self.cool_head(SlotId(self.info(place).owner));
        word.frequency() > 0 || head_was_warm
    }

    /// A head goes with its whole key, so its ranges decide: none dirty or pinned among the
    /// first few, and none warm. Warm ones are cooled, which is the head's own pass of the hand.
    fn head_is_cold(&self, place: Place, draining: bool) -> bool {
        let record = self.record(self.slot_of(place));
        if !self.record_fits(place.class.bytes(), &record) {
            return false;
        }
        let mut cold = true;
        for index in 0..record.ranges.min(HEAD_SAMPLE) {
            let range = self.range(&record, index);
            if !range.has_slot() {
                continue;
            }
            let Some(at) = self.try_place(range.slot) else { return false };
            let seen = self.state(at).load(Ordering::Relaxed);
            let word = Word(seen);
            if word.generation() != range.generation || !word.is_evictable() {
                return false;
            }
            if !draining && self.cool(at, seen) {
                cold = false;
            }
        }
        cold
    }

    /// Clean and unpinned -> the caller's, if it is still this use of the slot.
    fn claim(&self, place: Place, generation: u32) -> bool {
        let state = self.state(place);
        let mut seen = state.load(Ordering::Acquire);
        loop {
            let word = Word(seen);
            if word.generation() != generation || !word.is_evictable() {
                return false;
            }
            let new = word.with_state(State::Filling).0;
            match state.compare_exchange_weak(seen, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// Marks every range of a head that names a slot as evicted.
    fn forget_slot(&self, record: &Record, slot: SlotId) {
        for index in 0..record.ranges {
            let range = self.range(record, index);
            if range.slot == slot {
                self.set_range(record, index, &RawRange { slot: ABSENT, ..range });
            }
        }
    }

    fn has_slots(&self, record: &Record) -> bool {
        (0..record.ranges).any(|index| self.range(record, index).has_slot())
    }

    fn evict_slot(&self, stripe: &mut DirStripe, place: Place, victim: &Victim) -> bool {
        if !self.claim(place, victim.generation) {
            return false;
        }
        // The slot is ours, and so is its info: it belongs to a head of this stripe.
        let info = self.info(place);
        assert!(usize::from(info.stripe) == stripe.index, "evicted under another stripe's lock");
        let head = SlotId(info.owner);
        let record = self.record(head);
        self.change(stripe, || self.forget_slot(&record, victim.slot));
        self.free(place);
        if !self.has_slots(&record) {
            self.unlink_head(stripe, head);
        }
        true
    }

    /// Evicts what can be evicted of a key, and the head with it if nothing stays.
    fn evict_head(&self, stripe: &mut DirStripe, place: Place, victim: &Victim) -> bool {
        let word = Word(self.state(place).load(Ordering::Acquire));
        if word.state() != State::Head || word.generation() != victim.generation {
            return false;
        }
        if usize::from(self.info(place).stripe) != stripe.index {
            return false;
        }
        let record = self.record(victim.slot);
        let mut any = false;
        for index in 0..record.ranges {
            let range = self.range(&record, index);
            if range.has_slot()
                && let Some(at) = self.try_place(range.slot)
                && self.claim(at, range.generation)
            {
                self.change(stripe, || self.forget_slot(&record, range.slot));
                self.free(at);
                any = true;
            }
        }
        if !self.has_slots(&record) {
            self.unlink_head(stripe, victim.slot);
            any = true;
        }
        any
    }

    /// Unlinks a head that names no slots.
    fn unlink_head(&self, stripe: &mut DirStripe, head: SlotId) {
        let (link, record) = self.find_slot(stripe, head);
        self.unlink(stripe, &link, &record);
    }
}

impl Dram {
    /// Proposes slots whose eviction makes room for `len` bytes. Looks at about `budget` slots,
    /// adds to `out` until it is full, takes no lock and does not allocate.
    ///
    /// An empty list does not mean that nothing can be evicted: the hand may just have cooled
    /// what it met. After `4 * slots of the class / budget` empty sweeps nothing can.
    pub fn sweep(&self, len: usize, budget: usize, out: &mut VictimList) {
        let Some(class) = Class::holding(len) else { return };
        let arena = &self.arena;
        let mut budget = budget;
        if let Some(most) = arena.drain_share(class) {
            arena.sweep_drain(class, &mut budget, out, most);
        }
        let before = out.len();
        arena.sweep_class(class, &mut budget, out);
        if arena.may_borrow() {
            for larger in class.larger().take(BORROW) {
                arena.sweep_class(larger, &mut budget, out);
            }
        }
        arena.hints[class.index()].found(out.len() > before);
    }

    /// Takes a victim out, if nothing about it has changed: unlinks it from its head, frees it,
    /// and frees the head too when it names no slot any more. `stripe` must be the victim's.
    /// Returns whether anything was freed.
    pub fn evict(&self, stripe: &mut DirStripe, victim: &Victim) -> bool {
        assert!(usize::from(victim.stripe) == stripe.index, "evicted under another stripe's lock");
        let Some(place) = self.arena.try_place(victim.slot) else { return false };
        if self.arena.slot_of(place) != victim.slot {
            return false;
        }
        let word = Word(self.arena.state(place).load(Ordering::Acquire));
        match word.state() {
            State::Head => self.arena.evict_head(stripe, place, victim),
            State::Clean => self.arena.evict_slot(stripe, place, victim),
            _ => false,
        }
    }
}
