//! What callers, shards and the organizer share, and (`messages`) what they tell each other.

mod messages;

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::api::admit::Warmth;
use crate::buckets::Buckets;
use crate::config::ScrubSettings;
pub use crate::core::messages::{
    BufferName, Change, Commit, DramImage, Group, Member, Mend, MoveRequest, NewBuffer, Origin,
    PageCommit, PagedSplice, Payload, ReadRequest, ReleaseRequest, Request, ShardTask, Share,
    Source, Splice, WriteRequest,
};
use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Gate, Pass};
use crate::index::Index;
use crate::index::entry::Entry;
use crate::index::table::BufferTable;
use crate::io::Devices;
use crate::io::buffer::BufferPool;
use crate::io::gate::ByteGate;
use crate::io::runtime::Runtime;
use crate::io::wait::{Receiver, Sender, WaitList};
use crate::limits::UNFLUSHED_MAX;
use crate::mailbox::Mailbox;
use crate::organizer::Kick;
use crate::paging::cache::PageCache;
use crate::shard::behind::{DirtyQueue, Queued};
use crate::stats::Counters;
use crate::tier::dram::Dram;
use crate::tier::space::Space;
use crate::types::{BatchSeq, BufferId, Durability, Epoch, Uuid, Version};

/// One store, open.
pub struct Core {
    /// Clock, randomness, waiting.
    pub runtime: Runtime,
    /// The tiers' files.
    pub devices: Devices,
    /// Aligned memory for device I/O.
    pub pool: Arc<BufferPool>,
    /// Segments.
    pub space: Arc<Space>,
    /// Buffers by id.
    pub table: Arc<BufferTable>,
    /// Extent pages in memory.
    pub pages: PageCache,
    /// Keys.
    pub index: Index,
    /// The arena and its directory.
    pub dram: Arc<Dram>,
    /// What a newcomer to it competes with.
    pub warmth: Warmth,
    /// Buckets by id and name.
    pub buckets: Buckets,
    /// Queues of callers may have kernel rings of their own: the shards have.
    pub rings_for_callers: AtomicBool,
    /// One queue per shard; shard 0 owns the log. Empty in a store without devices.
    pub shards: Box<[Mailbox<Request>]>,
    /// Bytes left in the segments that each shard has open: of the roomiest.
    pub open_room: Box<[AtomicU64]>,
    /// Keys that wait to be written behind, per shard.
    pub dirty: Box<[DirtyQueue]>,
    /// The log as others see it.
    pub log: LogView,
    /// Wakes the organizer.
    pub organizer: Kick,
    /// What has been counted.
    pub counters: Counters,
    /// Identity and settings.
    pub settings: Settings,
    next_version: AtomicU64,
    /// Operations under way that may wait for a shard. Closed with the store.
    operations: Gate,
    /// Memory of reads that shards do for callers.
    pub reads: ByteGate,
    poison: OnceLock<Error>,
}

/// What does not change while the store is open.
pub struct Settings {
    /// The store's identity.
    pub store: Uuid,
    /// This open's number.
    pub epoch: Epoch,
    /// The level of puts that name none, in buckets that name none.
    pub durability: Durability,
    /// Largest buffer.
    pub buffer_size: u32,
    /// A dirty key is written behind after this long.
    pub flush_interval: Duration,
    /// Checksum Memory puts when they enter, not only when they are written behind.
    pub checksum_at_entry: bool,
    /// Bytes of memory for everything together.
    pub memory_budget: u64,
    /// Shares of the DRAM tier: slots are taken out down to the first, above the second.
    pub dram_watermarks: (f64, f64),
    /// Why nothing may be changed, if so.
    pub read_only: Option<String>,
    /// How the background scrub goes about it.
    pub scrub: ScrubSettings,
    /// Most extents of an extent page.
    pub page_extents: u32,
}

impl Settings {
    /// Most extents of a map that stands in memory, and whole in one record.
    pub fn inline_extents_max(&self) -> usize {
        self.page_extents as usize / 2
    }
}

/// The log's positions, for those who do not own it.
#[derive(Default)]
pub struct LogView {
    watermark: AtomicU64,
    /// Woken when the watermark rises, and when the engine is poisoned.
    pub flushed: WaitList,
}

impl LogView {
    /// W: flushes cover every batch up to this one and all the data they name.
    pub fn watermark(&self) -> BatchSeq {
        BatchSeq(self.watermark.load(Ordering::Acquire))
    }

    /// Raises W. For the log's owner.
    pub fn raise_watermark(&self, to: BatchSeq) {
        let before = self.watermark.fetch_max(to.0, Ordering::AcqRel);
        assert!(before <= to.0, "the watermark sank from {before} to {to:?}");
        self.flushed.wake_all();
    }
}

/// The parts of a [`Core`] that the store's opening has made.
pub struct Parts {
    /// See the fields of [`Core`].
    pub runtime: Runtime,
    /// The tiers' files.
    pub devices: Devices,
    /// Aligned memory for device I/O.
    pub pool: Arc<BufferPool>,
    /// Bytes that shards may hold for callers that read many buffers.
    pub reads_bytes: usize,
    /// Segments.
    pub space: Arc<Space>,
    /// Buffers by id.
    pub table: Arc<BufferTable>,
    /// Extent pages in memory.
    pub pages: PageCache,
    /// Keys.
    pub index: Index,
    /// The arena and its directory.
    pub dram: Arc<Dram>,
    /// Buckets by id and name.
    pub buckets: Buckets,
    /// Shards to make room for.
    pub shards: usize,
    /// Identity and settings.
    pub settings: Settings,
    /// The first version of this epoch.
    pub first_version: Version,
    /// What recovery found to be flushed.
    pub watermark: BatchSeq,
}

impl Core {
    /// A store of these parts, with no shard running yet.
    pub fn new(parts: Parts) -> Core {
        let log = LogView::default();
        log.raise_watermark(parts.watermark);
        Core {
            runtime: parts.runtime,
            devices: parts.devices,
            pool: parts.pool,
            space: parts.space,
            table: parts.table,
            pages: parts.pages,
            index: parts.index,
            dram: parts.dram,
            warmth: Warmth::default(),
            buckets: parts.buckets,
            shards: (0..parts.shards).map(|_| Mailbox::default()).collect(),
            rings_for_callers: AtomicBool::new(false),
            open_room: (0..parts.shards).map(|_| AtomicU64::new(0)).collect(),
            dirty: (0..parts.shards).map(|_| Default::default()).collect(),
            log,
            organizer: Kick::default(),
            counters: Counters::default(),
            settings: parts.settings,
            next_version: AtomicU64::new(parts.first_version.0),
            operations: Gate::default(),
            reads: ByteGate::new(parts.reads_bytes),
            poison: OnceLock::new(),
        }
    }

    /// The next version. For a key's change, called under the key's stripe lock.
    pub fn next_version(&self) -> Version {
        Version(self.next_version.fetch_add(1, Ordering::Relaxed))
    }

    /// Above every version and buffer id used so far.
    pub fn peek_version(&self) -> Version {
        Version(self.next_version.load(Ordering::Relaxed))
    }

    /// An id for a buffer that is not a whole value.
    pub fn next_buffer(&self) -> BufferId {
        BufferId(self.next_version().0)
    }

    /// Whether there is a device tier.
    pub fn is_persistent(&self) -> bool {
        !self.shards.is_empty()
    }

    /// Whether a shard owns a log: there is a device tier, and it may be written.
    pub fn has_log(&self) -> bool {
        self.is_persistent() && self.settings.read_only.is_none()
    }

    /// Sets device space aside for dirty bytes. A store without devices needs none.
    pub fn reserve_dirty(&self, bytes: u64) -> bool {
        if self.is_persistent() {
            return self.space.reserve(bytes);
        }
        self.space.reserve_unchecked(bytes);
        true
    }

    /// Queues a dirty key for write-behind, unless it is queued. Under its stripe lock.
    pub fn queue_if_dirty(&self, entry: &mut Entry) -> Option<Queued<'_>> {
        if !entry.is_dirty() || entry.queued_dirty {
            return None;
        }
        entry.queued_dirty = true;
        Some(self.dirty[self.shard_of(entry.hash)].push(entry.hash, self.runtime.now()))
    }

    /// The shard that serves a hash.
    pub fn shard_of(&self, hash: u64) -> usize {
        (hash >> 32) as usize % self.shards.len().max(1)
    }

    /// Refuses calls once the store is closing or poisoned.
    #[inline]
    pub fn check_open(&self) -> Result<()> {
        if self.operations.is_closed() {
            return Err(Error::new(ErrorKind::Closed, "the store is closed"));
        }
        Ok(())
    }

    /// Refuses changes once the store is closing, or the engine is poisoned; verified reads go
    /// on.
    pub fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        if let Some(reason) = &self.settings.read_only {
            let message = format!("the store is open for reading only: {reason}");
            return Err(Error::new(ErrorKind::ReadOnly, message));
        }
        self.check_poison()
    }

    /// Refuses device writes once the engine is poisoned; a closing store still writes.
    pub fn check_poison(&self) -> Result<()> {
        self.poison.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Begins an operation that may wait for a shard: closing waits for its end.
    pub fn begin_operation(&self) -> Result<Pass<'_>> {
        self.operations.enter().ok_or_else(|| Error::new(ErrorKind::Closed, "the store is closed"))
    }

    /// Waits until no operation is under way, once no new ones are let in.
    pub async fn wait_for_operations(&self) {
        self.operations.wait_until_empty().await;
    }

    /// From now on calls are refused. False if that was so before.
    pub fn begin_close(&self) -> bool {
        self.operations.close()
    }

    /// Stops all changes: a device failed in a way that must not be retried, or an invariant
    /// broke. The first reason stays.
    pub fn poison(&self, error: Error) {
        if self.poison.set(error).is_ok() {
            self.log.flushed.wake_all();
            self.space.changed.wake_all();
            self.table.pages_changed.wake_all();
            self.shards.iter().for_each(Mailbox::ring);
            self.index.wake_all_waiting();
        }
    }

    /// Stops all changes should this thread unwind before what is returned is dropped.
    pub fn poison_on_panic(self: &Arc<Self>, who: &'static str) -> PoisonOnPanic {
        PoisonOnPanic { core: self.clone(), who }
    }

    /// Why changes are refused, if they are.
    pub fn poisoned(&self) -> Option<&Error> {
        self.poison.get()
    }

    /// Bytes written to any device and not yet covered by a flush.
    pub fn unflushed_bytes(&self) -> u64 {
        self.space
            .tiers()
            .iter()
            .map(|tier| tier.counters.unflushed_bytes.load(Ordering::Acquire))
            .sum()
    }

    /// A tier's file whose file system has no space for it, if there is one.
    pub fn full_host(&self) -> Option<String> {
        let tier = self.space.tiers().iter().find(|tier| tier.is_host_full())?;
        Some(self.devices[tier.id.index()].path().display().to_string())
    }

    /// Waits until less than the bound is unflushed, asking for a flush.
    pub async fn wait_for_flush_room(&self) -> Result<()> {
        while self.unflushed_bytes() > UNFLUSHED_MAX {
            let ticket = self.log.flushed.ticket();
            self.check_poison()?;
            if self.unflushed_bytes() <= UNFLUSHED_MAX {
                break;
            }
            self.shards[0].ring();
            ticket.await;
        }
        Ok(())
    }

    /// Sends a request to a shard and waits for the answer.
    pub async fn ask<T>(
        &self,
        shard: usize,
        request: impl FnOnce(Sender<Result<T>>) -> Request,
    ) -> Result<T> {
        let answer = self.send(shard, request).await;
        self.answered(answer).await
    }

    /// Sends a request to a shard; [`answered`](Self::answered) waits for the answer.
    pub async fn send<T>(
        &self,
        shard: usize,
        request: impl FnOnce(Sender<Result<T>>) -> Request,
    ) -> Receiver<Result<T>> {
        let (sender, receiver) = crate::io::wait::oneshot();
        self.shards[shard].push(request(sender)).await;
        receiver
    }

    /// Waits for an answer.
    pub async fn answered<T>(&self, answer: Receiver<Result<T>>) -> Result<T> {
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(self.poison.get().cloned().unwrap_or_else(|| {
                Error::new(ErrorKind::Closed, "the store closed before the request was done")
            })),
        }
    }
}

/// See [`Core::poison_on_panic`].
pub struct PoisonOnPanic {
    core: Arc<Core>,
    who: &'static str,
}

impl Drop for PoisonOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let who = self.who;
            let message =
                format!("{who} met a breach of the engine's invariants; reopen the store");
            self.core.poison(Error::new(ErrorKind::Internal, message));
        }
    }
}
