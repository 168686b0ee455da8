//! What is known of an open store: its info and its statistics. Apart from the store's handle, which
//! closes the store when the last one goes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::core::Core;
use crate::engine::{Engine, IoBackend};
use crate::stats::{MemoryStats, Stats, TierStats};
use crate::store::{Info, TierInfo};
use crate::types::TierKind;

/// See the module.
pub(crate) struct Facts {
    pub core: Arc<Core>,
    io: IoBackend,
    shard_io: Vec<IoBackend>,
    organizer_reason: Option<String>,
    /// Paths and O_DIRECT of the device tiers.
    files: Vec<(PathBuf, bool)>,
    dram_capacity: Option<u64>,
}

impl Facts {
    pub fn of(engine: &Engine, files: Vec<(PathBuf, bool)>, dram_capacity: Option<u64>) -> Facts {
        Facts {
            core: engine.core.clone(),
            io: engine.io.clone(),
            shard_io: engine.shard_io.clone(),
            organizer_reason: engine.organizer_reason.clone(),
            files,
            dram_capacity,
        }
    }

    /// What the store is and how it runs.
    pub fn info(&self) -> Info {
        let core = &self.core;
        let dram = self.dram_capacity.map(|capacity| TierInfo {
            index: None,
            kind: TierKind::Dram,
            path: None,
            capacity,
            used: core.dram.used_bytes(),
            live: core.dram.used_bytes(),
            direct: false,
            lost: None,
        });
        let devices =
            core.space.tiers().iter().zip(&self.files).map(|(tier, (path, direct))| TierInfo {
                index: Some(tier.id.0),
                kind: tier.kind,
                path: Some(path.clone()),
                capacity: tier.capacity,
                used: tier.capacity - tier.free_segments() as u64 * tier.segment_size,
                live: tier.live_bytes(),
                direct: *direct,
                lost: tier.check_there().err().map(|error| error.message().to_owned()),
            });
        Info {
            store_uuid: core.settings.store,
            epoch: core.settings.epoch.0,
            io_backend: self.io.name.to_owned(),
            io_reason: self.io.reason.clone(),
            shard_io: self.shard_io.clone(),
            organizer_backend: core.organizer.backend().unwrap_or_default().to_owned(),
            organizer_reason: self.organizer_reason.clone(),
            shards: core.shards.len(),
            durability: core.settings.durability,
            memory_budget: core.settings.memory_budget,
            tiers: dram.into_iter().chain(devices).collect(),
            poisoned: core.poisoned().map(ToString::to_string),
            read_only: core.settings.read_only.clone(),
        }
    }

    /// Everything counted since the store was opened.
    pub fn stats(&self) -> Stats {
        let core = &self.core;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let tiers = core.space.tiers().iter().map(|tier| TierStats {
            kind: tier.kind,
            capacity: tier.capacity,
            used: tier.capacity - tier.free_segments() as u64 * tier.segment_size,
            live: tier.live_bytes(),
            free_segments: tier.free_segments() as u64,
            reads: count(&tier.counters.reads),
            read_bytes: count(&tier.counters.read_bytes),
            writes: count(&tier.counters.writes),
            written_bytes: count(&tier.counters.written_bytes),
            flushes: count(&tier.counters.flushes),
        });
        let counters = &core.counters;
        Stats {
            tiers: tiers.collect(),
            memory: MemoryStats {
                budget: core.settings.memory_budget,
                dram_capacity: core.dram.capacity(),
                dram_touched: core.dram.faulted_bytes(),
                dram_used: core.dram.used_bytes(),
                dram_dirty: core.dram.dirty_bytes(),
                index: core.index.budget().used_bytes(),
                pages: core.pages.used_bytes(),
                pages_max: core.pages.limit_bytes(),
                io_buffers: core.pool.in_use() as u64,
                io_buffers_max: core.pool.budget() as u64,
            },
            blobs: core.buckets.blob_count(),
            dram_hits: counters.dram_hits.operations(),
            dram_misses: counters.dram_misses.operations(),
            memory_puts: counters.memory_puts.operations(),
            memory_fallbacks: count(&counters.memory_fallbacks),
            logged_changes: count(&counters.logged_changes),
            written_behind: count(&counters.written_behind),
            put_bytes: counters.memory_puts.bytes() + count(&counters.logged_put_bytes),
            get_bytes: counters.dram_hits.bytes() + counters.dram_misses.bytes(),
            spills: count(&counters.spills),
            caller_evictions: count(&counters.caller_evictions),
            dram_refusals: count(&counters.dram_refusals),
            batches: count(&counters.batches),
            records: count(&counters.records),
            corruptions: count(&counters.corruptions),
            page_hits: core.pages.hits_and_misses().0,
            page_misses: core.pages.hits_and_misses().1,
            organizer: core.organizer.stats(),
            get: counters.get.snapshot(),
            put: counters.put.snapshot(),
            device_read: counters.device_read.snapshot(),
            device_write: counters.device_write.snapshot(),
            device_flush: counters.device_flush.snapshot(),
            notes: counters.notes(),
        }
    }
}
