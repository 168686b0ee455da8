//! A whole engine in the simulator, for tests that look inside it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::api::Bucket;
use crate::config::{
    IoChoice, MissingTiers, OrganizerChoice, ResolvedConfig, ResolvedDram, ResolvedTier,
};
use crate::core::{Core, Request};
use crate::engine::{Engine, Identity, format};
use crate::io::runtime::{Actor, Runtime, Turn};
use crate::io::sim::SimWorld;
use crate::io::sim_device::SimDevice;
use crate::io::{Device, Devices};
use crate::limits::PAGE_EXTENTS_DEFAULT;
use crate::log::record::{BucketRecord, Record};
use crate::types::{Durability, TierKind, Uuid};

/// An engine on one or more simulated tiers.
pub struct SimEngine {
    pub world: Arc<SimWorld>,
    pub engine: Engine,
}

/// 8 MiB of DRAM and one tier of 64 MiB, in segments of 4 MiB.
pub fn config(shards: usize) -> ResolvedConfig {
    ResolvedConfig {
        dram: Some(ResolvedDram { capacity: 8 << 20, watermark_low: 0.8, watermark_high: 0.9 }),
        devices: vec![tier(TierKind::Nvme, 0)],
        shards,
        buffer_size: 1 << 20,
        durability: Durability::Written,
        flush_interval: Duration::from_secs(1000),
        memory_budget: 256 << 20,
        io: IoChoice::Auto,
        organizer: OrganizerChoice::Auto,
        checksum_at_entry: false,
        read_only: None,
        missing_tiers: MissingTiers::Fail,
        page_extents: PAGE_EXTENTS_DEFAULT,
    }
}

/// A tier of 64 MiB.
pub fn tier(kind: TierKind, number: usize) -> ResolvedTier {
    ResolvedTier {
        kind,
        file: format!("sim:{number}").into(),
        capacity: 64 << 20,
        segment_size: 4 << 20,
        watermark_low: 0.8,
        watermark_high: 0.9,
    }
}

/// Lets time pass: a step of an engine that waits for nothing is no deadlock here.
struct Clock(Arc<SimWorld>);

impl Actor for Clock {
    fn turn(&mut self, _may_sleep: bool) -> Turn {
        Turn::Idle(Some(self.0.now().after(Duration::from_millis(1))))
    }
}

impl SimEngine {
    pub fn new(seed: u64, config: ResolvedConfig) -> SimEngine {
        let world = SimWorld::new(seed);
        let runtime = Runtime::Sim(world.clone());
        world.add_actor("clock", Box::new(Clock(world.clone())));
        let device = |(number, tier): (usize, &ResolvedTier)| {
            SimDevice::new(world.clone(), number as u64, tier.capacity) as Arc<dyn Device>
        };
        let devices: Devices = config.devices.iter().enumerate().map(device).collect();
        let ids = (0..config.devices.len()).map(|number| Uuid([10 + number as u8; 16]));
        let identity = Identity { store: Uuid([1; 16]), devices: ids.collect() };
        format(&runtime, &devices, &config, &identity).unwrap();
        let engine = Engine::start(runtime, devices, config, identity).unwrap();
        SimEngine { world, engine }
    }

    pub fn core(&self) -> &Arc<Core> {
        &self.engine.core
    }

    /// A new bucket.
    pub fn bucket(&self, name: &str) -> Bucket {
        let core = self.core();
        let options =
            BucketRecord { durability: None, buffer_size: 0, quota_bytes: 0, quota_blobs: 0 };
        let record = Record::BucketCreate {
            bucket: core.buckets.take_id(),
            name: name.as_bytes().into(),
            options,
        };
        core.runtime.block_on(core.ask(0, |reply| Request::Bucket(record, reply))).unwrap();
        Bucket::new(core.clone(), core.buckets.by_name(name.as_bytes()).unwrap())
    }

    /// Steps a number of times.
    pub fn steps(&self, count: usize) {
        (0..count).for_each(|_| self.world.step());
    }
}

/// Polls a future once, with a waker that does nothing: step and poll again.
pub fn poll<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}
