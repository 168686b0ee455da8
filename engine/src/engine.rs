//! From devices to a running engine, and back.
//!
//! The same code runs over files and over simulated devices: it is given devices, identities and
//! settings, and starts shards and organizer through the runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::buckets::Buckets;
use crate::config::{IoChoice, ResolvedConfig};
use crate::core::{Core, Parts, Request, Settings};
use crate::error::{Error, ErrorKind, Result, fail};
use crate::index::table::BufferTable;
use crate::index::{Index, MemoryBudget};
use crate::io::buffer::{AlignedBuf, BufferPool};
use crate::io::runtime::{ActorHandle, Runtime};
use crate::io::sim_ring::SimRing;
use crate::io::threads::ThreadsRing;
use crate::io::uring::{self, UringRing};
use crate::io::wait::{WaitList, oneshot};
use crate::io::{Device, Devices, Ring};
use crate::limits::{BLOCK, DRAM_CAPACITY_MIN, PARTITIONS, RING_DEPTH, RING_WORKERS_MAX, STRIPES};
use crate::log::FORMAT_MINOR;
use crate::log::record::SegmentKind;
use crate::log::segment::{SegmentHeader, SegmentIdentity};
use crate::log::superblock::{
    CUTS_MAX, Cut, Features, LogStart, SUPERBLOCK_LEN, SUPERBLOCK_SLOTS, Superblock,
};
use crate::organizer;
use crate::recover::{self, Target};
use crate::shard::{LogSeed, Shard, ShardSeed};
use crate::tier::dram::Dram;
use crate::tier::reserve;
use crate::tier::space::{Space, Tier};
use crate::types::{BatchSeq, Epoch, TierId, Uuid, Version};

/// Memory for device I/O.
const POOL_BYTES: u64 = 64 << 20;
/// The part of the memory beside the arena that device I/O may take.
const POOL_PART: u64 = 4;
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

/// Which I/O backend runs, and why not the better one.
#[derive(Clone, Debug)]
pub struct IoBackend {
    /// `uring`, `threads` or `sim`.
    pub name: &'static str,
    /// Why io_uring is not in use, or what the kernel refused of it.
    pub reason: Option<String>,
}

/// A running engine.
pub struct Engine {
    /// What everybody shares.
    pub core: Arc<Core>,
    /// The shards' I/O.
    pub io: IoBackend,
    /// Why the organizer does not run on glommio, if so.
    pub organizer_reason: Option<String>,
    organizer: Mutex<Option<ActorHandle>>,
    shards: Mutex<Vec<ActorHandle>>,
    /// Set, and its waiters woken, when the engine has ended.
    ended: (AtomicBool, WaitList),
    config: ResolvedConfig,
    identity: Identity,
}

/// Writes the superblocks of a new store. Nothing is flushed twice; nothing exists before.
pub fn format(
    runtime: &Runtime,
    devices: &Devices,
    config: &ResolvedConfig,
    identity: &Identity,
) -> Result<()> {
    let seed = runtime.random_identity()?;
    let hash_seed = u64::from_le_bytes([
        seed[0], seed[1], seed[2], seed[3], seed[4], seed[5], seed[6], seed[7],
    ]);
    for (number, tier) in config.devices.iter().enumerate() {
        let segment_size = config.devices[LOG_TIER.index()].segment_size;
        let superblock = Superblock {
            minor: FORMAT_MINOR,
            features: Features { compat: 0, ro_compat: 0, incompat: 0 },
            store: identity.store,
            device: identity.devices[number],
            tier: TierId(number as u8),
            tier_kind: tier.kind,
            tiers: identity.devices.to_vec(),
            capacity: tier.capacity,
            segment_size: tier.segment_size,
            hash_seed,
            epoch: Epoch(1),
            generation: 1,
            watermark: BatchSeq(0),
            clean: true,
            log_start: first_log_start(segment_size),
            cuts: Vec::new(),
            checkpoint: None,
        };
        if number == LOG_TIER.index() {
            write_first_log_header(&*devices[number], identity, segment_size, runtime)?;
        }
        store_superblock(&*devices[number], &superblock)?;
    }
    Ok(())
}

fn first_log_start(segment_size: u64) -> LogStart {
    let segment = crate::types::TierSegment { tier: LOG_TIER, segment: crate::types::SegmentId(1) };
    LogStart {
        segment,
        generation: 1,
        offset: segment_size + BLOCK as u64,
        seq: BatchSeq(1),
        chain: 0,
    }
}

fn write_first_log_header(
    device: &dyn Device,
    identity: &Identity,
    segment_size: u64,
    runtime: &Runtime,
) -> Result<()> {
    let start = first_log_start(segment_size);
    let header = SegmentHeader {
        identity: SegmentIdentity {
            store: identity.store,
            device: identity.devices[LOG_TIER.index()],
            segment: start.segment,
            generation: start.generation,
        },
        kind: SegmentKind::Log,
        epoch: Epoch(1),
        writer: 0,
        wall_clock: runtime.wall_clock_s(),
    };
    write_block(device, segment_size, &header.encode()?)
}

fn write_block(device: &dyn Device, offset: u64, bytes: &[u8]) -> Result<()> {
    let mut buf = AlignedBuf::alloc(bytes.len());
    buf.as_mut_slice()[..bytes.len()].copy_from_slice(bytes);
    device.write_at(offset, &buf.as_slice()[..bytes.len()]).map_err(|error| {
        Error::from_io(
            format!("write of {} bytes at {offset} of {}", bytes.len(), device.path().display()),
            &error,
        )
    })
}

fn store_superblock(device: &dyn Device, superblock: &Superblock) -> Result<()> {
    let offset = SUPERBLOCK_SLOTS[Superblock::slot_of(superblock.generation)];
    write_block(device, offset, &superblock.encode()?)?;
    flush(device)
}

fn flush(device: &dyn Device) -> Result<()> {
    device
        .flush()
        .map_err(|error| Error::from_io(format!("flush of {}", device.path().display()), &error))
}

/// The valid superblocks of a device, newest first.
fn load_superblocks(device: &dyn Device) -> Result<Vec<Superblock>> {
    let mut slots = [[0u8; SUPERBLOCK_LEN]; 2];
    for (slot, offset) in slots.iter_mut().zip(SUPERBLOCK_SLOTS) {
        let mut buf = AlignedBuf::alloc(SUPERBLOCK_LEN);
        if let Err(error) = device.read_at(offset, &mut buf.as_mut_slice()[..SUPERBLOCK_LEN]) {
            return Err(Error::from_io(
                format!("superblock of {}", device.path().display()),
                &error,
            ));
        }
        slot.copy_from_slice(&buf.as_slice()[..SUPERBLOCK_LEN]);
    }
    let place = |error: Error| {
        Error::new(error.kind(), format!("{}: {}", device.path().display(), error.message()))
    };
    let newest = Superblock::newest([&slots[0], &slots[1]]).map_err(place)?;
    if let Some(reason) = newest.read_only_reason() {
        return Err(place(Error::new(ErrorKind::Format, reason)));
    }
    let older = slots.iter().filter_map(|slot| Superblock::decode(slot).ok());
    let older = older.filter(|block| block.generation < newest.generation).collect::<Vec<_>>();
    Ok(std::iter::once(newest).chain(older).collect())
}

/// Checks that a tier's superblock is that of this store and of this tier.
fn check_superblock(
    superblock: &Superblock,
    config: &ResolvedConfig,
    identity: &Identity,
    number: usize,
    device: &dyn Device,
) -> Result<()> {
    let place = device.path().display();
    if superblock.store != identity.store {
        fail!(
            TierMissing,
            "{place} belongs to store {}, this is store {}",
            superblock.store,
            identity.store
        );
    }
    if superblock.device != identity.devices[number] || superblock.tier.index() != number {
        fail!(
            TierMissing,
            "{place} is tier {} (device {}) of this store, tier {number} (device {}) is expected there; were files exchanged?",
            superblock.tier.0,
            superblock.device,
            identity.devices[number]
        );
    }
    let tier = &config.devices[number];
    if superblock.capacity != tier.capacity || superblock.segment_size != tier.segment_size {
        fail!(
            Format,
            "{place} was made with {} bytes in segments of {}, the manifest says {} in {}",
            superblock.capacity,
            superblock.segment_size,
            tier.capacity,
            tier.segment_size
        );
    }
    if device.len() < tier.capacity {
        fail!(TierMissing, "{place} has {} bytes, the store needs {}", device.len(), tier.capacity);
    }
    Ok(())
}

struct Loaded {
    /// Per tier, newest first.
    superblocks: Vec<Vec<Superblock>>,
}

fn load(devices: &Devices, config: &ResolvedConfig, identity: &Identity) -> Result<Loaded> {
    let mut superblocks = Vec::new();
    for (number, device) in devices.iter().enumerate() {
        // What an earlier process wrote and did not flush is made safe before it is believed.
        flush(&**device)?;
        let found = load_superblocks(&**device)?;
        check_superblock(&found[0], config, identity, number, &**device)?;
        superblocks.push(found);
    }
    if let Some(log) = superblocks.first() {
        let epoch = log[0].epoch;
        for (found, device) in superblocks.iter().zip(devices.iter()) {
            if found[0].epoch < epoch {
                fail!(
                    TierMissing,
                    "{} is an old copy: it was last used in open {}, the store is at {}",
                    device.path().display(),
                    found[0].epoch.0,
                    epoch.0
                );
            }
        }
    }
    Ok(Loaded { superblocks })
}

fn tiers_of(config: &ResolvedConfig) -> Vec<Tier> {
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
        made
    };
    config.devices.iter().enumerate().map(tier).collect()
}

impl Engine {
    /// Starts an engine on devices that hold a formatted store.
    pub fn start(
        runtime: Runtime,
        devices: Devices,
        config: ResolvedConfig,
        identity: Identity,
    ) -> Result<Engine> {
        let loaded = load(&devices, &config, &identity)?;
        let dram_bytes = config.dram.map_or(DRAM_CAPACITY_MIN, |dram| dram.capacity);
        let beside = config.memory_budget.saturating_sub(dram_bytes);
        let pool_bytes = (beside / POOL_PART).clamp(8 << 20, POOL_BYTES);
        let budget = Arc::new(MemoryBudget::new(beside.saturating_sub(pool_bytes)));
        let dram = Arc::new(Dram::new(dram_bytes, STRIPES)?);
        let space = Arc::new(Space::new(tiers_of(&config)));
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
        let (log, epoch) = match loaded.superblocks.is_empty() {
            true => (None, Epoch(1)),
            false => {
                let (seed, epoch) = begin_epoch(&target, loaded)?;
                (Some(seed), epoch)
            }
        };
        let watermark = log.as_ref().map_or(BatchSeq(0), |log| log.tail.last_seq());
        let parts = Parts {
            runtime: runtime.clone(),
            pool: BufferPool::new(pool_bytes as usize),
            shards: if devices.is_empty() { 0 } else { config.shards },
            settings: Settings {
                store: identity.store,
                epoch,
                durability: config.durability,
                buffer_size: config.buffer_size,
                flush_interval: config.flush_interval,
                checksum_at_entry: config.checksum_at_entry,
                memory_budget: config.memory_budget,
            },
            first_version: Version::first_of(epoch),
            watermark,
            devices,
            space,
            table,
            index,
            dram,
            buckets,
        };
        let core = Arc::new(Core::new(parts));
        let io = choose_io(&runtime, &core.devices, config.io)?;
        let (shards, all_run) = start_shards(&core, &io, &identity, log);
        let started = all_run.and_then(|()| {
            organizer::start(core.clone(), config.organizer, identity.devices.clone())
        });
        let started = match started {
            Ok(started) => started,
            Err(error) => {
                stop_shards(&core, shards);
                return Err(error);
            }
        };
        let organizer = Mutex::new(Some(started.handle));
        let organizer_reason = started.fallback;
        Ok(Engine {
            core,
            io,
            organizer_reason,
            organizer,
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
        let flushed = match core.is_persistent() {
            true => runtime.block_on(flush_everything(core)),
            false => Ok(()),
        };
        core.organizer.stop();
        let organizer = self.organizer.lock().take();
        let organizer_ended =
            organizer.is_none_or(|handle| handle.join_nudging(|| core.organizer.kick()));
        // What the organizer moved and sealed since is made durable too.
        let flushed = match core.is_persistent() {
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
        self.mark_clean()
    }

    fn mark_clean(&self) -> Result<()> {
        for (number, device) in self.core.devices.iter().enumerate() {
            let mut newest = load_superblocks(&**device)?.remove(0);
            newest.generation += 1;
            newest.watermark = self.core.log.watermark().max(newest.watermark);
            newest.clean = true;
            debug_assert_eq!(newest.device, self.identity.devices[number]);
            store_superblock(&**device, &newest)?;
        }
        Ok(())
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

/// Recovers, and makes the new epoch and the log's cut durable on every tier, the log's tier
/// last: before that, nothing of the new epoch exists.
fn begin_epoch(target: &Target<'_>, loaded: Loaded) -> Result<(LogSeed, Epoch)> {
    let mut superblocks: Vec<Superblock> =
        loaded.superblocks.iter().map(|blocks| blocks[0].clone()).collect();
    let log_tier = LOG_TIER.index();
    let epoch = Epoch(superblocks.iter().map(|block| block.epoch.0).max().unwrap_or(0) + 1);
    let found = recover::recover(target, LOG_TIER, &loaded.superblocks[log_tier])?;
    let (tail, checkpoints) = (found.tail, found.checkpoints);
    let newest = superblocks[log_tier].clone();
    if found.superblock.generation != newest.generation {
        // The newest checkpoint is damaged. The next superblock names the older one, and takes
        // the place of the newest, so that the good one stays.
        superblocks[log_tier] = Superblock {
            generation: newest.generation + 1,
            epoch: newest.epoch,
            cuts: newest.cuts,
            watermark: newest.watermark,
            ..found.superblock
        };
    }
    let last = tail.last_seq();
    for number in (0..superblocks.len()).rev() {
        let superblock = &mut superblocks[number];
        if number == log_tier {
            let cut = Cut { epoch: superblock.epoch, seq: last };
            if superblock.cuts.len() == CUTS_MAX {
                superblock.cuts.remove(0);
            }
            superblock.cuts.push(cut);
        }
        superblock.epoch = epoch;
        superblock.generation += 1;
        superblock.watermark = last;
        superblock.clean = false;
        store_superblock(&*target.devices[number], superblock)?;
    }
    Ok((LogSeed { tail, superblocks, checkpoints }, epoch))
}

fn choose_io(runtime: &Runtime, devices: &Devices, choice: IoChoice) -> Result<IoBackend> {
    if matches!(runtime, Runtime::Sim(_)) {
        return Ok(IoBackend { name: "sim", reason: None });
    }
    if choice == IoChoice::Threads {
        let reason = Some("the configuration says io = \"threads\"".to_owned());
        return Ok(IoBackend { name: "threads", reason });
    }
    match uring::available(devices) {
        Ok(()) => Ok(IoBackend { name: "uring", reason: None }),
        Err(reason) if choice == IoChoice::Uring => {
            fail!(Unsupported, "io = \"uring\" is configured, but {reason}")
        }
        Err(reason) => Ok(IoBackend { name: "threads", reason: Some(reason) }),
    }
}

/// Starts the shards: those that run, and whether all do.
fn start_shards(
    core: &Arc<Core>,
    io: &IoBackend,
    identity: &Identity,
    mut log: Option<LogSeed>,
) -> (Vec<ActorHandle>, Result<()>) {
    let mut handles = Vec::new();
    for number in 0..core.shards.len() {
        let seed = ShardSeed { number, devices: identity.devices.clone(), log: log.take() };
        let core = core.clone();
        let runtime = core.runtime.clone();
        let name = io.name;
        let factory = Box::new(move || {
            let ring = make_ring(&core, name);
            Box::new(Shard::start(core, ring, seed)) as Box<dyn crate::io::runtime::Actor>
        });
        match runtime.spawn(&format!("isotherm-{number}"), factory) {
            Ok(handle) => handles.push(handle),
            Err(error) => return (handles, Err(error)),
        }
    }
    (handles, Ok(()))
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

/// The ring of a shard, on its own thread. A ring that fails here although the probe passed (out
/// of memory, out of descriptors) is replaced by threads.
fn make_ring(core: &Core, name: &str) -> Box<dyn Ring> {
    let runtime = core.runtime.clone();
    if let Runtime::Sim(world) = &runtime {
        return Box::new(SimRing::new(world.clone(), core.devices.clone()));
    }
    if name == "uring" {
        match UringRing::new(core.devices.clone(), RING_DEPTH as u32, runtime.clone()) {
            Ok(ring) => return Box::new(ring),
            Err(error) => core.counters.note(format!("a shard runs on threads: io_uring: {error}")),
        }
    }
    Box::new(ThreadsRing::new(core.devices.clone(), RING_WORKERS_MAX, runtime))
}
