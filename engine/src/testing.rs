//! A whole store in the simulator, for tests that look inside it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::api::Bucket;
use crate::config::{
    IoChoice, MissingTiers, OrganizerChoice, ResolvedConfig, ResolvedDram, ResolvedTier,
    ScrubSettings,
};
use crate::core::Core;
use crate::engine::Identity;
use crate::io::runtime::{Actor, Runtime, Turn};
use crate::io::sim::SimWorld;
use crate::io::sim_device::SimDevice;
use crate::io::sim_disk::Fate;
use crate::io::{Device, Devices};
use crate::limits::PAGE_EXTENTS_DEFAULT;
use crate::store::{BucketOptions, Store};
use crate::types::{Durability, TierKind, Uuid};

/// A store on one or more simulated tiers.
pub struct SimStore {
    pub world: Arc<SimWorld>,
    pub store: Store,
    devices: Devices,
    config: ResolvedConfig,
}

/// 8 MiB of DRAM and one tier of 64 MiB, in segments of 4 MiB.
pub fn config(shards: usize) -> ResolvedConfig {
    ResolvedConfig {
        dram: Some(ResolvedDram {
            capacity: 8 << 20,
            watermark_low: 0.875,
            watermark_high: 0.9375,
        }),
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
        scrub: ScrubSettings::OFF,
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

impl SimStore {
    pub fn new(seed: u64, config: ResolvedConfig) -> SimStore {
        let world = SimWorld::new(seed);
        world.add_actor("clock", Box::new(Clock(world.clone())));
        let device = |(number, tier): (usize, &ResolvedTier)| {
            SimDevice::new(world.clone(), number as u64, tier.capacity) as Arc<dyn Device>
        };
        let devices: Devices = config.devices.iter().enumerate().map(device).collect();
        SimStore::open(world, devices, config, true)
    }

    fn open(
        world: Arc<SimWorld>,
        devices: Devices,
        config: ResolvedConfig,
        create: bool,
    ) -> SimStore {
        let ids = (0..config.devices.len()).map(|number| Uuid([10 + number as u8; 16]));
        let identity = Identity { store: Uuid([1; 16]), devices: ids.collect() };
        let runtime = Runtime::Sim(world.clone());
        let store =
            Store::open_on(runtime, devices.clone(), config.clone(), identity, create).unwrap();
        SimStore { world, store, devices, config }
    }

    /// Closes it, and opens it again.
    pub fn reopen(self) -> SimStore {
        self.store.close().unwrap();
        let SimStore { world, store, devices, config } = self;
        drop(store);
        SimStore::open(world, devices, config, false)
    }

    /// The process is killed: a new one opens what the devices have. They lose nothing.
    pub fn kill(self) -> SimStore {
        let SimStore { store, devices, config, .. } = self;
        let world = SimWorld::new(1);
        world.add_actor("clock", Box::new(Clock(world.clone())));
        let survivor = |(number, device): (usize, &Arc<dyn Device>)| {
            let device = device.simulated().unwrap();
            let disk = device.disk().after_crash(|_| Fate::Kept);
            device.switch_off();
            SimDevice::over(world.clone(), number as u64, device.len(), disk) as Arc<dyn Device>
        };
        let survivors = devices.iter().enumerate().map(survivor).collect();
        assert!(store.close().is_err(), "a store closed without its devices");
        SimStore::open(world, survivors, config, false)
    }

    pub fn core(&self) -> &Arc<Core> {
        self.store.core()
    }

    /// A new bucket.
    pub fn bucket(&self, name: &str) -> Bucket {
        self.store.create_bucket(name, BucketOptions::default()).unwrap()
    }

    /// Waits for an asynchronous call while the world goes on.
    pub fn wait<T>(&self, call: impl Future<Output = T>) -> T {
        self.core().runtime.block_on(call)
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
