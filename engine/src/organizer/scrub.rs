//! The background scrub: reads every live byte of the devices at a bounded rate and compares it with
//! its checksums, so that rot is found while a second copy may still be there.
//!
//! A pass begins at a place drawn at random, so that a store which is never open for a whole pass is
//! read in the end, and goes through the devices in the order of places. What is written or moved
//! meanwhile behind the place it has reached is read by the next pass; moves verify what they copy.
//! [`pace`]: how fast (pure). [`treat`]: what is done about a damaged buffer. [`structures`]: what the
//! engine keeps for itself.

pub mod pace;
mod structures;
mod treat;

use std::collections::HashSet;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::core::Core;
use crate::io::exec::{Class, Exec};
use crate::io::wait::first;
use crate::organizer::mover::Mover;
use crate::organizer::muster::{self, Dweller};
use crate::organizer::occupants::Occupant;
use crate::organizer::reading::{Reading, Span, read_span};
use crate::organizer::scrub::pace::{Pace, first_after};
use crate::organizer::scrub::structures::Known;
use crate::tier::space::SegmentPin;
use crate::types::{Location, Place, SegmentId, TierId, Uuid};

/// What the scrub has done.
#[derive(Default, Debug)]
pub struct ScrubCounters {
    /// Bytes it has read from devices.
    pub bytes: AtomicU64,
    /// Passes completed.
    pub passes: AtomicU64,
    /// When the last one ended, in seconds since 1970; 0: none has.
    pub last_pass_s: AtomicU64,
    /// Superblocks, checkpoints and batches found bad, each once.
    pub bad_structures: AtomicU64,
    /// Of these, what has been written anew, or is needed no more.
    pub repaired_structures: AtomicU64,
}

/// The scrub's figures, for the store's statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubStats {
    /// Bytes it has read from devices.
    pub bytes: u64,
    /// Passes completed since the store was opened.
    pub passes: u64,
    /// When the last one ended, in seconds since 1970; 0: none has.
    pub last_pass_s: u64,
    /// Superblocks, parts of checkpoints and batches of the log found bad, each once.
    pub bad_structures: u64,
    /// Of these, what has been written anew, or is needed no more.
    pub repaired_structures: u64,
}

impl ScrubCounters {
    /// The figures so far.
    pub fn stats(&self) -> ScrubStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ScrubStats {
            bytes: get(&self.bytes),
            passes: get(&self.passes),
            last_pass_s: get(&self.last_pass_s),
            bad_structures: get(&self.bad_structures),
            repaired_structures: get(&self.repaired_structures),
        }
    }

    fn count_bad_structure(&self) {
        self.bad_structures.fetch_add(1, Ordering::Relaxed);
    }

    fn count_repaired_structures(&self, count: u64) {
        self.repaired_structures.fetch_add(count, Ordering::Relaxed);
    }
}

/// Scrubs until the organizer ends. Between two passes it sleeps.
pub async fn scrub(core: Arc<Core>, exec: Rc<dyn Exec>, devices: Arc<[Uuid]>) {
    let settings = core.settings.scrub;
    if settings.bytes_per_second == 0 {
        return;
    }
    let mut scrub = Scrub::new(core, exec, devices, settings.bytes_per_second);
    let mut pause = first_after(settings.interval);
    while scrub.sleep(pause).await {
        // Once the engine is poisoned nothing can be done about what is found.
        if scrub.core.check_poison().is_ok() && scrub.pass().await {
            scrub.count_pass();
        }
        scrub.mover.close().await;
        pause = settings.interval;
    }
}

/// See the module.
struct Scrub {
    core: Arc<Core>,
    exec: Rc<dyn Exec>,
    devices: Arc<[Uuid]>,
    /// Writes anew what there is a second copy of.
    mover: Mover,
    pace: Pace,
    /// What is known to be bad: each is told of once.
    bad_structures: HashSet<Known>,
}

/// Buffers that are kept where they are while they are read together.
struct Pinned {
    tier: TierId,
    span: Span,
    occupants: Vec<Occupant>,
    pins: Vec<SegmentPin>,
}

impl Scrub {
    fn new(core: Arc<Core>, exec: Rc<dyn Exec>, devices: Arc<[Uuid]>, rate: u64) -> Scrub {
        let mover = Mover::new(core.clone(), exec.clone(), Class::Background, devices.clone());
        let (pace, bad_structures) = (Pace::new(rate), HashSet::new());
        Scrub { core, exec, devices, mover, pace, bad_structures }
    }

    fn count_pass(&self) {
        let counters = &self.core.organizer.counters.scrub;
        counters.last_pass_s.store(self.core.runtime.wall_clock_s(), Ordering::Relaxed);
        counters.passes.fetch_add(1, Ordering::Relaxed);
        self.core.organizer.damage.prune(&self.core);
    }

    /// Sleeps, but not over the organizer's end. False if that has come.
    async fn sleep(&self, pause: Duration) -> bool {
        let stopped = self.core.organizer.stopped_ticket();
        if !self.core.organizer.is_stopping() {
            first(stopped, self.exec.sleep(pause)).await;
        }
        !self.core.organizer.is_stopping()
    }

    /// Accounts for a read, and waits as long as it costs. False if the organizer ends.
    async fn pay(&mut self, bytes: u64, took: Duration) -> bool {
        self.core.organizer.counters.scrub.bytes.fetch_add(bytes, Ordering::Relaxed);
        match self.pace.owe(bytes, took) {
            Some(pause) => self.sleep(pause).await,
            None => !self.core.organizer.is_stopping(),
        }
    }

    /// Reads everything once. False if the organizer ends before.
    async fn pass(&mut self) -> bool {
        let (begin, start) = (Location::from_bits(0), self.start());
        let end = Location::dram(crate::types::SlotId(0));
        self.read_structures().await
            && self.read_range(start..end).await
            && self.read_range(begin..start).await
    }

    /// The begin of any segment.
    fn start(&self) -> Location {
        let tiers = self.core.space.tiers();
        let all: usize = tiers.iter().map(|tier| tier.segments().len()).sum();
        let mut number = self.core.runtime.random() as usize % all.max(1);
        for tier in tiers {
            if number < tier.segments().len() {
                return Location::device(tier.id, tier.offset_of(SegmentId(number as u32)));
            }
            number -= tier.segments().len();
        }
        Location::from_bits(0)
    }

    async fn read_range(&mut self, range: Range<Location>) -> bool {
        let mut rest = Some(range.start);
        while let Some(from) = rest {
            let batch = muster::next(&self.core, &*self.exec, from..range.end).await;
            if !self.read_batch(&batch.dwellers).await {
                return false;
            }
            rest = batch.rest;
        }
        true
    }

    async fn read_batch(&mut self, mut dwellers: &[Dweller]) -> bool {
        while !dwellers.is_empty() {
            let (pinned, passed) = self.pin_some(dwellers);
            dwellers = &dwellers[passed..];
            let Some(Pinned { tier, span, occupants, pins }) = pinned else {
                self.exec.yield_now().await;
                continue;
            };
            let began = self.core.runtime.now();
            let reading = read_span(&self.core, &*self.exec, tier, &span.bytes, occupants).await;
            let took = self.core.runtime.now().since(began);
            drop(pins);
            let bytes = reading.read_bytes;
            self.judge(reading).await;
            if !self.pay(bytes, took).await {
                return false;
            }
        }
        true
    }

    /// The first few that one read covers and that are still there, and how many were looked at.
    fn pin_some(&self, dwellers: &[Dweller]) -> (Option<Pinned>, usize) {
        let mut pinned: Option<Pinned> = None;
        for (number, dweller) in dwellers.iter().enumerate() {
            let Place::Device { tier, .. } = dweller.location.place() else { continue };
            if self.core.space.tier(tier).is_lost() {
                continue;
            }
            if pinned.as_ref().is_some_and(|pinned| pinned.tier != tier) {
                return (pinned, number);
            }
            let Some((occupant, pin)) = muster::find(&self.core, dweller) else { continue };
            let so_far = pinned.get_or_insert_with(|| Pinned {
                tier,
                span: Span::default(),
                occupants: Vec::new(),
                pins: Vec::new(),
            });
            if !so_far.span.take(&occupant.buffer) {
                return (pinned, number);
            }
            so_far.occupants.push(occupant);
            so_far.pins.push(pin);
        }
        (pinned, dwellers.len())
    }

    async fn judge(&mut self, reading: Reading) {
        for (occupant, _) in &reading.verified {
            self.core.organizer.damage.forget(occupant.buffer.location);
        }
        for (occupant, error) in reading.damaged {
            self.treat(occupant, &error).await;
        }
    }
}
