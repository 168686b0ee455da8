//! Moving memory between size classes: emptying a chunk of one so that another can have it.
//!
//! The measure is how fast the clocks' hands turn. A class whose hand goes round twice as fast
//! as another's keeps its slots half as long, so a chunk moves from the slow to the fast one. A
//! chunk being drained gives out no slots; once its last slot is free it belongs to nobody.
//!
//! Chunks full of heads stay: with a head goes its key, so emptying one throws out the values of
//! thousands of keys for the sake of one chunk. They empty by themselves when their keys go.

use std::sync::atomic::Ordering;

use super::arena::{Arena, Place};
use super::class::{CHUNK_UNITS, Class};
use super::free::FreeList;
use super::pool::{BORROW, ClassHints};
use super::slot::{State, Word};
use super::sweep::VictimList;
use crate::types::SlotId;

/// Slots that a sweeper claims at a time.
const RUN: usize = 32;
/// Every how many sweeps of a class it asks whether another class should give a chunk.
const REBALANCE_EVERY: u32 = 16;
/// Chunks that a drain chooses from, and slots it judges each by.
const CANDIDATES: usize = 4;
const SAMPLE: usize = 32;
/// Rounds of the hand without a victim after which a class may take from any other.
const FRUITLESS_ROUNDS: u64 = 8;
/// After this many rounds of the fastest hand, all are halved: the past fades.
const ROUNDS_MAX: u64 = 8;

/// Which chunks may be drained.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Donors {
    /// Of classes whose hand turns at most half as fast.
    Slower,
    /// Of any class.
    Any,
    /// Of any class, also chunks full of heads.
    Heads,
}

impl ClassHints {
    /// Notes that the hand passed this many units.
    pub(super) fn swept(&self, units: u64) {
        self.passed.fetch_add(units, Ordering::Relaxed);
        self.fruitless.fetch_add(units, Ordering::Relaxed);
    }

    /// Notes whether a sweep of the class found a victim.
    pub(super) fn found(&self, any: bool) {
        if any && self.fruitless.load(Ordering::Relaxed) > 0 {
            self.fruitless.store(0, Ordering::Relaxed);
        }
    }

    fn units(&self) -> u64 {
        (self.chunks.load(Ordering::Relaxed) * CHUNK_UNITS) as u64
    }

    fn is_fruitless(&self) -> bool {
        self.fruitless.load(Ordering::Relaxed) >= FRUITLESS_ROUNDS * self.units()
    }
}

impl Arena {
    /// How many victims of this sweep may be for a drain: all, where the class can expect little
    /// from itself, else half; none where there is no reason for one.
    pub(super) fn drain_share(&self, class: Class) -> Option<usize> {
        if self.has_spare_chunks() {
            return None;
        }
        let hints = &self.hints[class.index()];
        if self.has_few(class) || hints.is_fruitless() {
            return Some(VictimList::CAPACITY);
        }
        let turn = hints.sweeps.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let active = self.pool.drain.load(Ordering::Relaxed) != 0;
        (active || turn.is_multiple_of(REBALANCE_EVERY)).then_some(VictimList::CAPACITY / 2)
    }

    /// Whether a class has less than it can live on. All classes' minima together are at most
    /// half of the arena, unless it is tiny.
    fn has_few(&self, class: Class) -> bool {
        let few = (self.layout.chunks / (2 * Class::COUNT)).clamp(2, 16);
        let borrowing = self.may_borrow()
            && class
                .larger()
                .take(BORROW)
                .any(|larger| self.hints[larger.index()].chunks.load(Ordering::Relaxed) > 0);
        !borrowing && self.hints[class.index()].chunks.load(Ordering::Relaxed) < few
    }

    /// Begins or goes on with draining a chunk of another class, up to `most` victims in `out`.
    pub(super) fn sweep_drain(
        &self,
        wanted: Class,
        budget: &mut usize,
        out: &mut VictimList,
        most: usize,
    ) {
        while *budget > 0 && out.len() < most {
            let seen = self.pool.drain.load(Ordering::Acquire);
            let Some(chunk) = ((seen >> 32) as usize).checked_sub(1) else {
                if !self.begin_drain(wanted) {
                    return;
                }
                continue;
            };
            let list = FreeList(self.free_word(chunk).load(Ordering::Acquire));
            let index = seen as u32 as usize;
            let live = list.class().filter(|_| list.draining());
            let Some(class) = live.filter(|class| index < class.slots()) else {
                self.end_drain(seen, chunk);
                return;
            };
            let end = (index + RUN.min(*budget).min(out.room())).min(class.slots());
            let next = seen & !u64::from(u32::MAX) | end as u64;
            *budget = budget.saturating_sub(end - index);
            let drain = &self.pool.drain;
            if drain.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                for index in index..end {
                    self.visit(Place { chunk, index, class }, true, out);
                }
            }
        }
    }

    /// Chooses a chunk and marks it. `false` if there is none to be had.
    fn begin_drain(&self, wanted: Class) -> bool {
        let hints = &self.hints[wanted.index()];
        let chosen = if self.has_few(wanted) || hints.is_fruitless() {
            self.choose(wanted, Donors::Any).or_else(|| {
                let none = hints.chunks.load(Ordering::Relaxed) == 0 || hints.is_fruitless();
                none.then(|| self.choose(wanted, Donors::Heads)).flatten()
            })
        } else {
            self.choose(wanted, Donors::Slower)
        };
        hints.fruitless.store(0, Ordering::Relaxed);
        let Some(chunk) = chosen else { return false };
        if !self.mark_draining(chunk) {
            return false;
        }
        let drain = (chunk as u64 + 1) << 32;
        let pool = &self.pool.drain;
        if pool.compare_exchange(0, drain, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            // Someone else began one; go on with theirs.
            self.unmark_draining(chunk);
        }
        true
    }

    /// The coldest of a few chunks, going round the arena.
    fn choose(&self, wanted: Class, donors: Donors) -> Option<usize> {
        let chunks = self.layout.chunks;
        let mut best: Option<(usize, usize)> = None;
        let mut candidates = 0;
        for _ in 0..chunks {
            let chunk = self.pool.drain_hand.fetch_add(1, Ordering::Relaxed) % chunks;
            let list = FreeList(self.free_word(chunk).load(Ordering::Acquire));
            let Some(class) = list.class().filter(|class| *class != wanted) else { continue };
            let slow = donors != Donors::Slower || self.is_slower(class, wanted);
            if !slow || list.draining() || list.is_empty_chunk() {
                continue;
            }
            let Some(heat) = self.heat_of_chunk(chunk, class, donors) else { continue };
            if best.is_none_or(|(least, _)| heat < least) {
                best = Some((heat, chunk));
            }
            candidates += 1;
            if candidates == CANDIDATES {
                break;
            }
        }
        best.map(|(_, chunk)| chunk)
    }

    /// Whether one class's hand turns at most half as fast as another's.
    fn is_slower(&self, class: Class, than: Class) -> bool {
        let (slow, fast) = (&self.hints[class.index()], &self.hints[than.index()]);
        let passed = |hints: &ClassHints| hints.passed.load(Ordering::Relaxed);
        if passed(fast) > ROUNDS_MAX * fast.units() {
            for hints in &self.hints {
                // A count lost to a concurrent sweep does not matter.
                hints.passed.store(passed(hints) / 2, Ordering::Relaxed);
            }
        }
        let slow_rounds = u128::from(passed(slow)) * u128::from(fast.units());
        let fast_rounds = u128::from(passed(fast)) * u128::from(slow.units());
        slow_rounds * 2 < fast_rounds
    }

    /// The mean frequency of a sample, times 100; `None` if too little of it could be evicted,
    /// or too many keys would go with it.
    fn heat_of_chunk(&self, chunk: usize, class: Class, donors: Donors) -> Option<usize> {
        let slots = class.slots();
        let step = slots.div_ceil(SAMPLE);
        let (mut seen, mut stuck, mut heads, mut heat) = (0, 0, 0, 0);
        for index in (0..slots).step_by(step) {
            let place = Place { chunk, index, class };
            let word = Word(self.state(place).load(Ordering::Relaxed));
            seen += 1;
            match word.state() {
                State::Clean if word.pins() == 0 => {
                    let of_head = self.heat(SlotId(self.info(place).owner));
                    heat += word.frequency().max(of_head) as usize;
                }
                State::Head => heads += 1,
                State::Free => {}
                _ => stuck += 1,
            }
        }
        heat += heads * Word::FREQUENCY_MAX as usize;
        let fit = stuck * 4 <= seen && (heads == 0 || donors == Donors::Heads);
        fit.then_some(heat * 100 / seen)
    }

    fn mark_draining(&self, chunk: usize) -> bool {
        let word = self.free_word(chunk);
        let change = |seen| {
            let list = FreeList(seen);
            let fit = list.class().is_some() && !list.draining() && !list.is_empty_chunk();
            fit.then(|| list.with_draining(true).0)
        };
        word.fetch_update(Ordering::AcqRel, Ordering::Acquire, change).is_ok()
    }

    fn unmark_draining(&self, chunk: usize) {
        let word = self.free_word(chunk);
        let change = |seen| {
            let list = FreeList(seen);
            list.draining().then(|| list.with_draining(false).0)
        };
        if let Ok(seen) = word.fetch_update(Ordering::SeqCst, Ordering::Acquire, change)
            && let Some(class) = FreeList(seen).class()
        {
            self.hints[class.index()].room.set(chunk);
        }
    }

    /// The pass is over: what could be evicted has been proposed. If something stayed, the
    /// chunk goes on in its class.
    fn end_drain(&self, seen: u64, chunk: usize) {
        let drain = &self.pool.drain;
        if drain.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.unmark_draining(chunk);
        }
    }
}
