//! From devices to a running engine, and back.
//!
//! The same code runs over files and over simulated devices: it is given devices, identities and
//! settings, and starts shards and organizer through the runtime.

mod backend;
mod format;
mod open;
mod superblocks;

pub use backend::IoBackend;
pub use format::{format, is_formatted_as};
pub(crate) use open::history_of;
pub use open::read_only_reason;
pub(crate) use superblocks::check_identity;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::buckets::Buckets;
use crate::config::{ResolvedConfig, default_watermarks};
use crate::core::{Core, Parts, Request, Settings};
use crate::engine::superblocks::{load_superblocks, store_next};
use crate::error::{Error, ErrorKind, Result, fail};
use crate::index::table::BufferTable;
use crate::index::{Index, MemoryBudget};
use crate::io::buffer::BufferPool;
use crate::io::runtime::{ActorHandle, Runtime};
use crate::io::wait::{WaitList, oneshot};
use crate::io::{Device, Devices};
use crate::limits::{
    DRAM_CAPACITY_MIN, PAGE_CACHE_BYTES_MAX, PAGE_CACHE_BYTES_MIN, PAGE_CACHE_PART, PARTITIONS,
    STRIPES,
};
use crate::organizer;
use crate::paging::cache::PageCache;
use crate::recover::Target;
use crate::shard::{LogSeed, Shard, ShardSeed};
use crate::tier::dram::Dram;
use crate::tier::reserve;
use crate::tier::space::{Backing, Space, Tier};
use crate::types::{BatchSeq, Epoch, TierId, TierKind, Uuid, Version};

/// Memory for device I/O.
const POOL_BYTES: u64 = 64 << 20;
/// The part of the memory beside the arena that device I/O may take.
const POOL_PART: u64 = 4;
/// Memory that shards may hold for callers that read many buffers: two windows of a get at least.
const READS_BYTES_MAX: u64 = 32 << 20;
/// See [`READS_BYTES_MAX`].
const READS_BYTES_MIN: u64 = 8 << 20;
/// The part of the memory beside the arena that it may be.
const READS_PART: u64 = 8;
/// The log and the metadata live on the fastest device tier.
const LOG_TIER: TierId = TierId(0);

/// What identifies a store.
#[derive(Clone)]
pub struct Identity {
    /// The store.
    pub store: Uuid,
    /// Its device tiers, in order.
    pub devices: Arc<[Uuid]>,
}

/// A running engine.
pub struct Engine {
    /// What everybody shares.
    pub core: Arc<Core>,
    /// What the shards' I/O runs on, taken together.
    pub io: IoBackend,
    /// What each shard's runs on.
    pub shard_io: Vec<IoBackend>,
    /// Why the organizer does not run on glommio, if so.
    pub organizer_reason: Option<String>,
    organizer: Mutex<Option<ActorHandle>>,
    shards: Mutex<Vec<ActorHandle>>,
    /// Set, and its waiters woken, when the engine has ended.
    ended: (AtomicBool, WaitList),
    config: ResolvedConfig,
    identity: Identity,
}

/// The DRAM tier's; the default's for a store without one, whose values are staged in memory.
fn dram_watermarks(config: &ResolvedConfig) -> (f64, f64) {
    match config.dram {
        Some(dram) => (dram.watermark_low, dram.watermark_high),
        None => default_watermarks(Some(TierKind::Dram)),
    }
}

fn tiers_of(config: &ResolvedConfig, lost: &[Option<Error>]) -> Vec<Tier> {
    let tier = |(number, tier): (usize, &crate::config::ResolvedTier)| {
        let made = Tier::new(
            TierId(number as u8),
            tier.kind,
            tier.capacity,
            tier.segment_size,
            (tier.watermark_low, tier.watermark_high),
        );
        match number {
            0 => reserve::apply(&made, 0),
            _ => reserve::apply_to_data_tier(&made),
        }
        match lost.get(number).cloned().flatten() {
            Some(error) => made.lost(error),
            None => made,
        }
    };
    config.devices.iter().enumerate().map(tier).collect()
}

fn backing(devices: &Devices) -> Backing {
    let devices = devices.clone();
    Box::new(move |tier, range| {
        devices[tier.index()].allocate(range.start, range.end - range.start)
    })
}

impl Engine {
    /// Starts an engine on devices that hold a formatted store.
    pub fn start(
        runtime: Runtime,
        devices: Devices,
        config: ResolvedConfig,
        identity: Identity,
    ) -> Result<Engine> {
        let loaded = open::load(&devices, &config, &identity)?;
        let devices = loaded.devices.clone();
        let dram_bytes = config.dram.map_or(DRAM_CAPACITY_MIN, |dram| dram.capacity);
        let beside = config.memory_budget.saturating_sub(dram_bytes);
        let pool_bytes = (beside / POOL_PART).clamp(8 << 20, POOL_BYTES);
        let page_bytes =
            (beside / PAGE_CACHE_PART).clamp(PAGE_CACHE_BYTES_MIN, PAGE_CACHE_BYTES_MAX);
        let reads_bytes = (beside / READS_PART).clamp(READS_BYTES_MIN, READS_BYTES_MAX);
        // The arena's metadata grows with use: admission takes it off what is left.
        let left = beside.saturating_sub(pool_bytes + page_bytes + reads_bytes);
        let budget = Arc::new(MemoryBudget::new(left));
        let dram = Arc::new(Dram::new(dram_bytes, STRIPES)?);
        let space = Arc::new(Space::new(tiers_of(&config, &loaded.lost), backing(&devices)));
        let table = Arc::new(BufferTable::new(PARTITIONS, space.clone(), budget.clone()));
        let hash_seed = loaded.superblocks.first().map_or(0, |blocks| blocks[0].hash_seed);
        let index = Index::new(hash_seed, &dram, budget);
        let buckets = Buckets::default();
        let target = Target {
            runtime: &runtime,
            devices: &devices,
            space: &space,
            table: &table,
            index: &index,
            buckets: &buckets,
        };
        let (log, epoch, watermark) = if loaded.superblocks.is_empty() {
            (None, Epoch(1), BatchSeq(0))
        } else if config.read_only.is_some() {
            let (epoch, last) = open::recover_only(&target, &loaded)?;
            (None, epoch, last)
        } else {
            let (seed, epoch) = open::begin_epoch(&target, loaded, &identity.devices)?;
            let last = seed.tail.last_seq();
            space.back_reserve();
            (Some(seed), epoch, last)
        };
        let parts = Parts {
            runtime: runtime.clone(),
            pool: BufferPool::new(pool_bytes as usize),
            reads_bytes: reads_bytes as usize,
            shards: if devices.is_empty() { 0 } else { config.shards },
            settings: Settings {
                store: identity.store,
                epoch,
                durability: config.durability,
                buffer_size: config.buffer_size,
                flush_interval: config.flush_interval,
                checksum_at_entry: config.checksum_at_entry,
                memory_budget: config.memory_budget,
                dram_watermarks: dram_watermarks(&config),
                read_only: config.read_only.clone(),
                scrub: config.scrub,
                page_extents: config.page_extents,
            },
            first_version: Version::first_of(epoch),
            watermark,
            devices,
            space,
            table,
            pages: PageCache::new(page_bytes),
            index,
            dram,
            buckets,
        };
        let core = Arc::new(Core::new(parts));
        let chosen = backend::choose(&runtime, &core.devices, config.io)?;
        let (Started { handles: shards, io: shard_io }, all_run) =
            start_shards(&core, &chosen, &identity, log);
        let all_run = all_run.and_then(|()| backend::check(config.io, &shard_io));
        core.rings_for_callers.store(chosen.name == "uring", Ordering::Relaxed);
        let started = all_run.and_then(|()| match config.read_only {
            // It moves buffers, and there is nothing to make room for.
            Some(_) => Ok(None),
            None => {
                organizer::start(core.clone(), config.organizer, identity.devices.clone()).map(Some)
            }
        });
        let (organizer, organizer_reason) = match started {
            Ok(Some(started)) => (Some(started.handle), started.fallback),
            Ok(None) => (None, Some("the store is open for reading only".to_owned())),
            Err(error) => {
                stop_shards(&core, shards);
                return Err(error);
            }
        };
        Ok(Engine {
            core,
            io: IoBackend::of_all(&chosen, &shard_io),
            shard_io,
            organizer_reason,
            organizer: Mutex::new(organizer),
            shards: Mutex::new(shards),
            ended: Default::default(),
            config,
            identity,
        })
    }

    /// Ends the engine: everything is made durable, threads end, superblocks say clean.
    ///
    /// `None` if it was stopped before; it has ended then too when this returns.
    pub fn stop(&self) -> Option<Result<()>> {
        if !self.core.begin_close() {
            let runtime = &self.core.runtime;
            runtime.block_on(async {
                loop {
                    let ticket = self.ended.1.ticket();
                    if self.ended.0.load(Ordering::Acquire) {
                        break;
                    }
                    ticket.await;
                }
            });
            return None;
        }
        let result = self.stop_once();
        self.ended.0.store(true, Ordering::Release);
        self.ended.1.wake_all();
        Some(result)
    }

    fn stop_once(&self) -> Result<()> {
        let core = &self.core;
        let runtime = core.runtime.clone();
        runtime.block_on(core.wait_for_operations());
        let flushed = match core.has_log() {
            true => runtime.block_on(flush_everything(core)),
            false => Ok(()),
        };
        core.organizer.stop();
        let organizer = self.organizer.lock().take();
        let organizer_ended =
            organizer.is_none_or(|handle| handle.join_nudging(|| core.organizer.kick()));
        // What the organizer moved and sealed since is made durable too.
        let flushed = match core.has_log() {
            true => flushed.and_then(|()| runtime.block_on(flush_everything(core))),
            false => flushed,
        };
        let handles = std::mem::take(&mut *self.shards.lock());
        let alive = stop_shards(core, handles) && organizer_ended;
        if !alive {
            fail!(Internal, "a thread of the engine ended by a panic; reopen the store to recover");
        }
        flushed?;
        core.check_poison()?;
        if core.has_log() { self.mark_clean() } else { Ok(()) }
    }

    /// Says in every superblock that nothing lies beyond the watermark. The log's tier comes first:
    /// a data tier that fails now has lost nothing that was acknowledged.
    fn mark_clean(&self) -> Result<()> {
        let devices = self.core.devices.iter().enumerate();
        let mut result = Ok(());
        for (number, device) in devices.filter(|(_, device)| device.lost().is_none()) {
            let marked = self.mark_tier_clean(number, &**device);
            result = result.and(marked);
        }
        result
    }

    fn mark_tier_clean(&self, number: usize, device: &dyn Device) -> Result<()> {
        let mut newest = load_superblocks(device)?.remove(0);
        newest.watermark = self.core.log.watermark().max(newest.watermark);
        newest.clean = true;
        debug_assert_eq!(newest.device, self.identity.devices[number]);
        // Both slots: the loss of one loses nothing.
        store_next(device, &mut newest)?;
        store_next(device, &mut newest)
    }

    /// The configuration in force.
    pub fn config(&self) -> &ResolvedConfig {
        &self.config
    }
}

/// Makes everything acknowledged durable.
pub async fn flush_everything(core: &Arc<Core>) -> Result<()> {
    let mut answers = Vec::with_capacity(core.shards.len());
    for mailbox in &core.shards {
        let (reply, answer) = oneshot();
        mailbox.push(Request::WriteBehind(reply)).await;
        answers.push(answer);
    }
    for answer in answers {
        match answer.await {
            Ok(written) => written?,
            Err(_) => fail!(Closed, "the store closed during a flush"),
        }
    }
    core.ask(0, Request::Flush).await
}

/// Shards that run, and what each of them runs on.
#[derive(Default)]
struct Started {
    handles: Vec<ActorHandle>,
    io: Vec<IoBackend>,
}

/// Starts the shards: those that run, and whether all do.
fn start_shards(
    core: &Arc<Core>,
    chosen: &IoBackend,
    identity: &Identity,
    mut log: Option<LogSeed>,
) -> (Started, Result<()>) {
    let (mut started, mut answers) = (Started::default(), Vec::new());
    for number in 0..core.shards.len() {
        let seed = ShardSeed { number, devices: identity.devices.clone(), log: log.take() };
        let (core, chosen, runtime) = (core.clone(), chosen.clone(), core.runtime.clone());
        let (sender, answer) = oneshot();
        let factory = Box::new(move || {
            let (ring, runs_on) = backend::make_ring(&core, &chosen);
            sender.send(runs_on);
            Box::new(Shard::start(core, ring, seed)) as Box<dyn crate::io::runtime::Actor>
        });
        match runtime.spawn(&format!("isotherm-{number}"), factory) {
            Ok(handle) => started.handles.push(handle),
            Err(error) => return (started, Err(error)),
        }
        answers.push(answer);
    }
    for (number, answer) in answers.into_iter().enumerate() {
        match core.runtime.block_on(answer) {
            Ok(runs_on) => started.io.push(runs_on),
            Err(_) => {
                let message = format!("shard {number} ended by a panic while it started");
                return (started, Err(Error::new(ErrorKind::Internal, message)));
            }
        }
    }
    (started, Ok(()))
}

/// Ends the shards that run. Returns whether none had panicked.
fn stop_shards(core: &Arc<Core>, handles: Vec<ActorHandle>) -> bool {
    // The log's owner last: the others may still have something to log.
    let numbered = handles.into_iter().enumerate().rev();
    numbered.fold(true, |all, (number, handle)| {
        core.runtime.block_on(core.shards[number].push(Request::Stop));
        handle.join() && all
    })
}
