//! The model test in the simulator: callers, shards and organizer as steps of one thread, in an
//! order that follows from the seed.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::{Duration, Instant};

use isotherm::Store;
use isotherm::config::{
    IoChoice, MissingTiers, OrganizerChoice, ResolvedConfig, ResolvedDram, ResolvedTier,
    ScrubSettings,
};
use isotherm::engine::Identity;
use isotherm::io::runtime::Runtime;
use isotherm::io::sim::SimWorld;
use isotherm::io::sim_device::SimDevice;
use isotherm::io::{Device, Devices};
use isotherm::types::{Durability, TierKind, Uuid};

use crate::caller::{Caller, Plan};
use crate::kinds::Kinds;
use crate::session::{Mode, Session};
use crate::support::rng::Rng;
use crate::tally::Tally;
use crate::{TellSeed, setting};

const CALLERS: u8 = 4;
const DRAM: u64 = 8 << 20;
const NVME: u64 = 64 << 20;
const HDD: u64 = 256 << 20;
const SEGMENT: u64 = 4 << 20;
const OPENS: u64 = 5;
const OPS: u64 = 20_000;

/// What a run has come to: equal for equal seeds.
#[derive(PartialEq, Eq, Debug)]
struct Trace {
    hash: u64,
    len: u64,
}

/// Tells what the engine was doing when a run failed.
struct TellStats<'a>(&'a Session);

impl Drop for TellStats<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let stats = self.0.store.stats();
            eprintln!(
                "tiers {:#?}\norganizer {:#?}\nmemory {:#?}\nnotes {:#?}",
                stats.tiers, stats.organizer, stats.memory, stats.notes
            );
        }
    }
}

fn tier(kind: TierKind, number: usize, capacity: u64) -> ResolvedTier {
    ResolvedTier {
        kind,
        file: format!("sim:{number}").into(),
        capacity,
        segment_size: SEGMENT,
        watermark_low: 0.8,
        watermark_high: 0.9,
    }
}

fn config(shards: usize) -> ResolvedConfig {
    ResolvedConfig {
        dram: Some(ResolvedDram { capacity: DRAM, watermark_low: 0.875, watermark_high: 0.9375 }),
        devices: vec![tier(TierKind::Nvme, 0, NVME), tier(TierKind::Hdd, 1, HDD)],
        shards,
        buffer_size: 1 << 20,
        durability: Durability::Written,
        flush_interval: Duration::from_millis(200),
        memory_budget: DRAM + (128 << 20),
        io: IoChoice::Auto,
        organizer: OrganizerChoice::Auto,
        checksum_at_entry: false,
        read_only: None,
        missing_tiers: MissingTiers::Fail,
        page_extents: 2,
        scrub: ScrubSettings::OFF,
    }
}

fn run(seed: u64, operations: u64) -> (Trace, Tally, Kinds) {
    let _tell = TellSeed("model in the simulator", seed);
    let world = SimWorld::new(seed);
    let runtime = Runtime::Sim(world.clone());
    let mut rng = Rng::new(seed);
    let plan = Plan { value_max: 2 << 20, live: 2 * NVME / u64::from(CALLERS), keys: 300 };
    let mut callers: Vec<Caller> =
        (1..=CALLERS).map(|id| Caller::new(id, seed, &mut rng, plan)).collect();
    let device = |number: u64, len| SimDevice::new(world.clone(), number, len) as Arc<dyn Device>;
    let devices: Devices = [device(0, NVME), device(1, HDD)].into();
    let mut identity = || Uuid([rng.next() as u8; 16]);
    let identity = Identity { store: identity(), devices: [identity(), identity()].into() };
    let mut tally = Tally::default();
    for open in 0..OPENS {
        tally.reopens += u64::from(open > 0);
        let config = config(1 + (open % 3) as usize);
        let (devices, identity) = (devices.clone(), identity.clone());
        let store = Store::open_on(runtime.clone(), devices, config, identity, open == 0).unwrap();
        // A store cannot close in a world that has panicked.
        let session = ManuallyDrop::new(Session { store, mode: Mode::Futures });
        let stats_on_failure = TellStats(&session);
        let part = operations / OPENS / u64::from(CALLERS);
        tally.operations += part * u64::from(CALLERS);
        let steps = callers.iter_mut().map(|caller| {
            let session = &*session;
            Box::pin(async move {
                caller.enter(session).await;
                caller.run(session, part).await;
                if open + 1 == OPENS {
                    caller.compare_all(session).await;
                }
                caller.leave();
            }) as isotherm::io::exec::LocalFuture<'_, ()>
        });
        world.run(steps.collect());
        session.require_sound();
        tally.add(&session.store.stats());
        session.store.close().unwrap();
        drop(stats_on_failure);
        drop(ManuallyDrop::into_inner(session));
    }
    let mut kinds = Kinds::default();
    callers.iter().for_each(|caller| kinds.add(&caller.kinds));
    (Trace { hash: world.trace_hash(), len: world.trace_len() }, tally, kinds)
}

/// On a thread of its own: what an earlier run left in thread-local state must not matter.
fn run_on_a_new_thread(seed: u64, operations: u64) -> (Trace, Tally, Kinds) {
    std::thread::spawn(move || run(seed, operations)).join().expect("the run failed")
}

#[test]
fn no_answer_differs_from_the_model_in_the_simulator_and_a_seed_repeats_its_trace() {
    let seed = crate::seed();
    let operations = setting("ISOTHERM_SIM_OPS", OPS);
    let start = Instant::now();
    let (first, tally, kinds) = run_on_a_new_thread(seed, operations);
    let seconds = start.elapsed().as_secs();
    println!("model in the simulator: seed {seed}, {seconds} s, {first:?}\n{tally:#?}");
    tally.require_everything();
    println!("{kinds:?}");
    kinds.require_all();
    let (second, ..) = run_on_a_new_thread(seed, operations);
    assert_eq!(first, second, "seed {seed} took another course the second time");
    let (other, ..) = run_on_a_new_thread(seed + 1, operations / 10);
    assert_ne!(first, other, "two seeds took the same course");
}
