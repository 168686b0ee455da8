//! The organizer: keeps room in DRAM, demotes, promotes, cleans. It proposes, the log's owner
//! commits; no put or get waits for it while there is room.
//!
//! * [`plan`]: what to do next (pure), from [`facts`]. [`backoff`]: what to leave alone for now.
//! * [`relocate`]: empties a segment: [`census`] and [`occupants`] find who lives there, [`pack`]
//!   and [`mover`] take them elsewhere.
//! * [`promote`]: what was read from a slow tier. [`reserve`]: free slots in DRAM. [`release`]:
//!   extent pages that no blob refers to any more.
//! * [`scrub`]: reads everything, at a bounded rate, to find rot before anybody reads it. [`muster`]:
//!   what there is to read; [`reading`]: reads and verifies; [`damage`]: what is known to be rotten;
//!   [`rescue`]: second copies.
//! * [`compact`]: cleaning that somebody has asked for.
//! * [`run`]: the loops.

pub mod backoff;
pub mod census;
pub mod compact;
pub mod damage;
pub mod device;
pub mod facts;
pub mod mover;
pub mod muster;
pub mod occupants;
pub mod pack;
pub mod plan;
pub mod promote;
pub mod reading;
pub mod release;
pub mod relocate;
pub mod rescue;
pub mod reserve;
pub mod run;
pub mod scrub;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::config::OrganizerChoice;
use crate::core::{BufferName, Core};
use crate::error::{Error, ErrorKind, Result};
use crate::index::state::Buffer;
use crate::io::exec::{self, Body, ExecCounters, Started};
use crate::io::exec_ring;
use crate::io::runtime::Runtime;
use crate::io::wait::{Receiver, Sender, Ticket, WaitList, oneshot};
use crate::organizer::damage::Damage;
use crate::organizer::scrub::{ScrubCounters, ScrubStats};
use crate::placement::policy::{HeatPolicy, PlacementPolicy};
use crate::types::Uuid;

/// Hints that may wait: a few seconds' worth of cold gets.
const HINTS_MAX: usize = 1024;

/// What the organizer has done.
#[derive(Default, Debug)]
pub struct OrganizerCounters {
    /// Segments emptied.
    pub cleanings: AtomicU64,
    /// Buffers moved to a slower tier.
    pub demotions: AtomicU64,
    /// Buffers moved to a faster device tier.
    pub promotions: AtomicU64,
    /// Stored bytes moved, within a tier too.
    pub moved_bytes: AtomicU64,
    /// Copies that came too late.
    pub lost_races: AtomicU64,
    /// Extent pages released.
    pub released_pages: AtomicU64,
    /// Slots taken out of DRAM.
    pub dram_evictions: AtomicU64,
    /// Buffers found not to match their checksums, or unreadable by the scrub, each once.
    pub corrupt_buffers: AtomicU64,
    /// Of these, buffers that were written elsewhere from a second copy.
    pub repaired_buffers: AtomicU64,
    /// What the scrub has done.
    pub scrub: ScrubCounters,
    /// Hints dropped because too many waited.
    pub hints_dropped: AtomicU64,
}

/// The organizer's figures, for the store's statistics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrganizerStats {
    /// `glommio`, `threads` or `sim`; empty before it runs.
    pub backend: String,
    /// Bytes its backend has read from devices.
    pub read_bytes: u64,
    /// Bytes its backend has written.
    pub written_bytes: u64,
    /// Segments emptied.
    pub cleanings: u64,
    /// Buffers moved to a slower tier.
    pub demotions: u64,
    /// Buffers moved to a faster device tier.
    pub promotions: u64,
    /// Stored bytes moved, within a tier too.
    pub moved_bytes: u64,
    /// Copies that came too late.
    pub lost_races: u64,
    /// Extent pages released.
    pub released_pages: u64,
    /// Slots taken out of DRAM.
    pub dram_evictions: u64,
    /// Buffers found not to match their checksums, or unreadable by the scrub, each once.
    pub corrupt_buffers: u64,
    /// Of these, buffers that were written elsewhere from a second copy.
    pub repaired_buffers: u64,
    /// Buffers that are known to be damaged and left where they are.
    pub quarantined_buffers: u64,
    /// What the scrub has done.
    pub scrub: ScrubStats,
}

/// The organizer as the others see it.
#[derive(Default)]
pub struct OrganizerHandle {
    list: WaitList,
    stopping: AtomicBool,
    hints: Mutex<Vec<u64>>,
    /// Who has asked for a compaction that has not begun.
    compactions: Mutex<Vec<Sender<()>>>,
    /// Woken at the end alone.
    stopped: WaitList,
    /// Buffers known to be damaged.
    pub damage: Damage,
    backend: OnceLock<&'static str>,
    /// What it has done.
    pub counters: OrganizerCounters,
    /// Its device traffic.
    pub exec: Arc<ExecCounters>,
}

/// The handle's name in [`Core`].
pub type Kick = OrganizerHandle;

impl OrganizerHandle {
    /// Something may need the organizer: look again.
    pub fn kick(&self) {
        self.list.wake_all();
    }

    /// Waits for the next kick, from now on.
    pub fn ticket(&self) -> Ticket<'_> {
        self.list.ticket()
    }

    /// Ends the organizer: it abandons what it does and closes its segments.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.stopped.wake_all();
        self.kick();
    }

    /// Whether it is to end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// The blob of this hash was read from a slower tier: it may be worth moving up. Never waits;
    /// dropped when too many wait.
    pub fn hint_promotion(&self, hash: u64) {
        let first = {
            let mut hints = self.hints.lock();
            if hints.len() >= HINTS_MAX {
                self.counters.hints_dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            hints.push(hash);
            hints.len() == 1
        };
        if first {
            self.kick();
        }
    }

    /// Asks for all that can be freed now. Answered when it is; abandoned after a failure.
    pub fn compact(&self) -> Receiver<()> {
        let (asked, answer) = oneshot();
        self.compactions.lock().push(asked);
        self.kick();
        answer
    }

    /// Waits for the end, from now on: who sleeps for long is not woken by every kick.
    pub fn stopped_ticket(&self) -> Ticket<'_> {
        self.stopped.ticket()
    }

    fn take_compactions(&self) -> Vec<Sender<()>> {
        std::mem::take(&mut *self.compactions.lock())
    }

    /// Remembers a damaged buffer; the first time, counts it and tells of it.
    pub fn note_damage(&self, core: &Core, name: &BufferName, buffer: &Buffer, error: &Error) {
        if !self.damage.note(core, name, buffer, error.kind()) {
            return;
        }
        self.counters.corrupt_buffers.fetch_add(1, Ordering::Relaxed);
        core.counters.note(format!("{error}; it is left where it is"));
    }

    /// All hints that wait.
    fn take_hints(&self) -> Vec<u64> {
        std::mem::take(&mut *self.hints.lock())
    }

    /// The figures so far.
    pub fn stats(&self) -> OrganizerStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        OrganizerStats {
            backend: self.backend().unwrap_or_default().to_owned(),
            read_bytes: get(&self.exec.read_bytes),
            written_bytes: get(&self.exec.written_bytes),
            cleanings: get(&counters.cleanings),
            demotions: get(&counters.demotions),
            promotions: get(&counters.promotions),
            moved_bytes: get(&counters.moved_bytes),
            lost_races: get(&counters.lost_races),
            released_pages: get(&counters.released_pages),
            dram_evictions: get(&counters.dram_evictions),
            corrupt_buffers: get(&counters.corrupt_buffers),
            repaired_buffers: get(&counters.repaired_buffers),
            quarantined_buffers: self.damage.count() as u64,
            scrub: counters.scrub.stats(),
        }
    }

    fn runs_on(&self, backend: &'static str) {
        let first = self.backend.set(backend).is_ok();
        assert!(first, "a store has one organizer");
    }

    /// `glommio`, `threads` or `sim`; nothing before it runs.
    pub fn backend(&self) -> Option<&'static str> {
        self.backend.get().copied()
    }
}

/// Runs the organizer with the default placement. `devices`: the identities of the tiers' devices.
///
/// # Errors
/// `Unsupported` if glommio is asked for and does not run here; `NoMemory` without threads.
pub fn start(core: Arc<Core>, choice: OrganizerChoice, devices: Arc<[Uuid]>) -> Result<Started> {
    start_with(core, choice, devices, Box::new(HeatPolicy))
}

/// Runs the organizer with a placement policy.
///
/// # Errors
/// As [`start`].
pub fn start_with(
    core: Arc<Core>,
    choice: OrganizerChoice,
    devices: Arc<[Uuid]>,
    policy: Box<dyn PlacementPolicy>,
) -> Result<Started> {
    let of_body = core.clone();
    let body: Body = Box::new(move |exec| Box::pin(run::run(of_body, exec, devices, policy)));
    let (runtime, counters) = (core.runtime.clone(), core.organizer.exec.clone());
    let (files, pool) = (core.devices.clone(), core.pool.clone());
    let is_simulated = matches!(runtime, Runtime::Sim(_));
    if choice == OrganizerChoice::Threads && !is_simulated {
        let handle = exec_ring::spawn(&runtime, files, pool, counters, body)?;
        let backend = exec_ring::backend(&runtime);
        core.organizer.runs_on(backend);
        return Ok(Started { handle, backend, fallback: None });
    }
    let started = exec::start(&runtime, files, pool, counters, body)?;
    core.organizer.runs_on(started.backend);
    match started.fallback {
        Some(reason) if choice == OrganizerChoice::Glommio => {
            core.organizer.stop();
            started.handle.join();
            Err(Error::new(
                ErrorKind::Unsupported,
                format!("glommio does not run here ({reason}); set organizer = \"auto\""),
            ))
        }
        fallback => Ok(Started { fallback, ..started }),
    }
}
