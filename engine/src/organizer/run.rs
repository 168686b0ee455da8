//! The organizer's loops. Idle means idle: they wait for kicks, not for time, except while a need
//! is there that could not be met.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::core::{Core, Request};
use crate::io::exec::{Class, Exec, LocalFuture};
use crate::io::wait::{Receiver, first, oneshot};
use crate::organizer::compact::Compaction;
use crate::organizer::facts::{
    Memory, gather, gather_all, of_tier, sample_mean_score, tier_to_promote_to,
};
use crate::organizer::mover::Mover;
use crate::organizer::plan::{Need, Plan, plan};
use crate::organizer::promote::serve_hints;
use crate::organizer::release::release_pages;
use crate::organizer::relocate::{Job, Outcome, relocate};
use crate::organizer::reserve::{fault_ahead, keep_slots_free};
use crate::organizer::scrub::scrub;
use crate::placement::policy::PlacementPolicy;
use crate::tier::space::SegmentState;
use crate::types::{TierId, TierSegment, Uuid};

/// How long to wait for a flush to free segments before asking again, and how often.
const RECLAIM_WAIT: Duration = Duration::from_millis(100);
const RECLAIM_TRIES: usize = 5;
/// After an attempt that got nowhere.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The organizer's body: ends when it is told to stop and all its tasks have ended.
pub async fn run(
    core: Arc<Core>,
    exec: Rc<dyn Exec>,
    devices: Arc<[Uuid]>,
    policy: Box<dyn PlacementPolicy>,
) {
    // Puts wait for what is done here.
    let _watch = core.poison_on_panic("the organizer");
    let policy: Rc<dyn PlacementPolicy> = Rc::from(policy);
    let keeping = Box::pin(keep_slots_free(core.clone(), exec.clone()));
    let faulting = Box::pin(fault_ahead(core.clone(), exec.clone()));
    let mut ends =
        vec![start(&*exec, Class::Space, keeping), start(&*exec, Class::Background, faulting)];
    if core.is_persistent() {
        let promoting = serve_hints(core.clone(), exec.clone(), devices.clone(), policy.clone());
        ends.push(start(&*exec, Class::Background, Box::pin(promoting)));
        let releasing = release_pages(core.clone(), exec.clone());
        ends.push(start(&*exec, Class::Space, Box::pin(releasing)));
        let scrubbing = scrub(core.clone(), exec.clone(), devices.clone());
        ends.push(start(&*exec, Class::Background, Box::pin(scrubbing)));
        Organizer::new(core, exec, devices, policy).keep_space_free().await;
    }
    for end in ends {
        // Abandoned is ended, too.
        let _ = end.await;
    }
}

fn start(exec: &dyn Exec, class: Class, task: LocalFuture<'static, ()>) -> Receiver<()> {
    let (sender, receiver) = oneshot();
    let noted = async move {
        task.await;
        sender.send(());
    };
    exec.spawn(class, Box::pin(noted));
    receiver
}

struct Organizer {
    core: Arc<Core>,
    exec: Rc<dyn Exec>,
    devices: Arc<[Uuid]>,
    policy: Rc<dyn PlacementPolicy>,
    mover: Mover,
    memory: Memory,
    compaction: Compaction,
    pause: Duration,
}

impl Organizer {
    fn new(
        core: Arc<Core>,
        exec: Rc<dyn Exec>,
        devices: Arc<[Uuid]>,
        policy: Rc<dyn PlacementPolicy>,
    ) -> Organizer {
        let mover = Mover::new(core.clone(), exec.clone(), Class::Space, devices.clone());
        let memory = Memory::new(core.space.tiers().len());
        let (compaction, pause) = (Compaction::default(), PAUSE_FIRST);
        Organizer { core, exec, devices, policy, mover, memory, compaction, pause }
    }

    async fn keep_space_free(mut self) {
        let core = self.core.clone();
        loop {
            // Before the look at the flag: a stop between the two would be slept over.
            let ticket = core.organizer.ticket();
            if core.organizer.is_stopping() {
                break;
            }
            core.space.back_reserve();
            let done = match self.next_plan() {
                Plan::Nothing => {
                    ticket.await;
                    continue;
                }
                Plan::Wait(duration) => {
                    first(ticket, self.exec.sleep(duration)).await;
                    continue;
                }
                Plan::Reclaim => self.reclaim().await,
                Plan::SealOpen => self.seal_open().await,
                Plan::Relocate { victim, demote_to, need } => {
                    self.empty(victim, demote_to, need).await
                }
            };
            if done {
                self.pause = PAUSE_FIRST;
            } else {
                first(ticket, self.exec.sleep(self.pause)).await;
                self.pause = (self.pause * 2).min(PAUSE_MAX);
            }
        }
        self.mover.close().await;
    }

    /// What is needed; where nothing is, what was asked for.
    fn next_plan(&mut self) -> Plan {
        let core = self.core.clone();
        let asked = core.organizer.take_compactions();
        // Once the engine is poisoned nothing may be written any more.
        if core.check_poison().is_err() {
            self.compaction.give_up();
            return Plan::Nothing;
        }
        if !asked.is_empty() {
            let segments = core.space.tiers().iter().map(|tier| tier.segments().len()).sum();
            self.compaction.begin(asked, segments);
            self.memory.reclaim_stuck = false;
        }
        let needed = plan(&gather(&core, &mut self.memory));
        let is_idle = matches!(needed, Plan::Nothing | Plan::Wait(_));
        if !is_idle || !self.compaction.is_under_way() {
            return needed;
        }
        let plan = self.compaction.plan(&gather_all(&core, &mut self.memory));
        if plan == Plan::Nothing {
            self.compaction.end();
            return needed;
        }
        plan
    }

    /// Has the segments sealed that anybody writes to. The next plan sees them.
    async fn seal_open(&mut self) -> bool {
        self.mover.close().await;
        for shard in &self.core.shards {
            shard.push(Request::SealOpen).await;
        }
        false
    }

    /// Has empty segments freed. False if none was.
    async fn reclaim(&mut self) -> bool {
        let core = &self.core;
        self.memory.reclaim_stuck = true;
        for _ in 0..RECLAIM_TRIES {
            let changed = core.space.changed.ticket();
            if core.organizer.is_stopping() || core.check_poison().is_err() {
                break;
            }
            core.shards[0].push(Request::Reclaim).await;
            let freed = Cell::new(false);
            let noted = async {
                changed.await;
                freed.set(true);
            };
            first(noted, self.exec.sleep(RECLAIM_WAIT)).await;
            if freed.get() && core.check_poison().is_ok() {
                self.memory.reclaim_stuck = false;
                break;
            }
        }
        !self.memory.reclaim_stuck
    }

    /// Empties a segment and has it freed. False if that got nowhere.
    async fn empty(&mut self, victim: TierSegment, slower: Option<TierId>, need: Need) -> bool {
        let segment = self.core.space.tier(victim.tier).segment(victim.segment);
        let generation = segment.generation();
        let tier = victim.tier.index();
        let job = Job {
            victim,
            device: self.devices[tier],
            slower,
            faster: tier_to_promote_to(&self.core, victim.tier),
            mean_score: sample_mean_score(&self.core),
            demote_all: self.memory.demote_all[tier]
                || of_tier(self.core.space.tier(victim.tier)).has_no_room_for_moves(),
            thorough: self.memory.backoff.tries(victim, generation) > 0,
        };
        let result = relocate(&self.core, &*self.exec, &mut self.mover, &*self.policy, &job).await;
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(error) => {
                self.core.counters.note(format!("moving {victim:?}: {error}"));
                return false;
            }
        };
        if need == Need::Watermark {
            let tally = &outcome.tally;
            self.memory.demote_all[tier] = tally.moved_bytes > 0 && tally.demoted_bytes == 0;
        }
        self.judge(victim, generation, &outcome).await
    }

    /// Frees what has become empty, and remembers what has not.
    async fn judge(&mut self, victim: TierSegment, generation: u32, outcome: &Outcome) -> bool {
        let core = self.core.clone();
        let segment = core.space.tier(victim.tier).segment(victim.segment);
        let is_same = segment.state() == SegmentState::Sealed && segment.generation() == generation;
        if !is_same || segment.live_bytes() == 0 {
            core.organizer.counters.cleanings.fetch_add(1, Ordering::Relaxed);
            self.memory.backoff.emptied(victim);
            return !is_same || self.reclaim().await;
        }
        let tally = &outcome.tally;
        if tally.no_room {
            return tally.moved_bytes > 0;
        }
        if !outcome.truncated || tally.moved_bytes == 0 {
            self.memory.backoff.failed(victim, generation, core.runtime.now());
        }
        // The back-off decides when this one is tried again; others may be tried now.
        tally.failed == 0
    }
}
