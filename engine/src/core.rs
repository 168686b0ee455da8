//! What callers, shards and the organizer share, and the messages between them.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::buckets::{Buckets, Whole};
use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Gate, Pass};
use crate::index::Index;
use crate::index::attributes::SharedAttributes;
use crate::index::entry::Entry;
use crate::index::extents::Extent;
use crate::index::pages::PageRef;
use crate::index::state::{BlobState, Buffer};
use crate::index::table::{BufferTable, to_record};
use crate::io::Devices;
use crate::io::buffer::{AlignedBuf, BufferPool};
use crate::io::exec::LocalFuture;
use crate::io::gate::ByteGate;
use crate::io::runtime::Runtime;
use crate::io::wait::{Receiver, Sender, WaitList};
use crate::limits::UNFLUSHED_MAX;
use crate::log::record::{MoveSubject, Record, SegmentKind};
use crate::mailbox::Mailbox;
use crate::organizer::Kick;
use crate::paging::cache::PageCache;
use crate::paging::write::PageHold;
use crate::shard::behind::{DirtyQueue, Queued};
use crate::stats::Counters;
use crate::tier::dram::{DirRange, Dram, OwnedPin};
use crate::tier::space::Space;
use crate::tier::written::WrittenBytes;
use crate::types::{
    BatchSeq, BucketId, BufferId, Durability, Epoch, Location, SlotId, TierId, TierSegment, Uuid,
    Version,
};
use crate::usage::Hold;

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
    /// Buckets by id and name.
    pub buckets: Buckets,
    /// One queue per shard; shard 0 owns the log. Empty in a store without devices.
    pub shards: Box<[Mailbox<Request>]>,
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
            buckets: parts.buckets,
            shards: (0..parts.shards).map(|_| Mailbox::default()).collect(),
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

/// What is asked of a shard.
pub enum Request {
    /// Append one buffer to a segment.
    Write(WriteRequest),
    /// Read and verify ranges of devices.
    Read(ReadRequest),
    /// Write behind everything dirty as of now; answer when it is logged.
    WriteBehind(Sender<Result<()>>),
    /// Log a change of one blob; answer when it is acknowledged at this level. Shard 0.
    Commit(Box<Commit>, Durability, Sender<Result<()>>),
    /// Log changes of several blobs, all or none. Shard 0.
    Group(Box<Group>),
    /// Log an extent page. Shard 0. What names the page follows it.
    Page(Box<PageCommit>),
    /// Log that a condemned extent page is gone. Shard 0.
    Release(ReleaseRequest),
    /// Log a move of a buffer, if it still is where it was. Shard 0.
    Move(MoveRequest),
    /// Log a change of the list of buckets, or of a whole one. Shard 0.
    Bucket(Record, Option<Whole>, Sender<Result<()>>),
    /// Log that a segment was opened. Shard 0. Not answered: what names the segment follows it.
    SegmentOpened(TierSegment, u32, SegmentKind),
    /// Make everything acknowledged durable. Shard 0.
    Flush(Sender<Result<()>>),
    /// Free what may be reused, now. Shard 0.
    Reclaim,
    /// Let go of the log that only an older checkpoint needs; answer when that is done. Shard 0.
    Trim(Sender<Result<()>>),
    /// Seal the segments that the shard writes to, so that they can be cleaned: nothing else can.
    SealOpen,
    /// Run a caller's operation.
    Run(ShardTask),
    /// End: write what is left, then stop.
    Stop,
}

/// What a shard runs for a caller, given the shard.
pub type ShardTask =
    Box<dyn FnOnce(Rc<crate::shard::ShardContext>) -> LocalFuture<'static, ()> + Send>;

/// A buffer on its way to a segment.
pub struct WriteRequest {
    /// The stored bytes.
    pub buf: AlignedBuf,
    /// Its facts; the location is still to come.
    pub buffer: Buffer,
    /// For the segment's summary.
    pub name: BufferName,
    /// Answered once the device has the bytes.
    pub reply: Sender<Result<WrittenBytes>>,
}

/// What a segment summary says of a buffer.
#[derive(Clone)]
pub struct BufferName {
    /// The bucket of the blob it was written for.
    pub bucket: BucketId,
    /// The key of that blob.
    pub key: Arc<[u8]>,
    /// The version of that blob.
    pub version: Version,
    /// The byte of the value that the buffer begins with.
    pub value_offset: u64,
    /// Whether it goes to the buffer table.
    pub table: bool,
}

/// Aligned device ranges to read.
pub struct ReadRequest {
    /// Tier, offset, length: multiples of the block.
    pub ranges: Vec<(TierId, u64, usize)>,
    /// The bytes, range by range, or the first error.
    pub reply: Sender<Result<Vec<AlignedBuf>>>,
}

/// Changes of several blobs that stand in one batch of the log, and become visible together.
pub struct Group {
    /// In the order of the log.
    pub members: Vec<Member>,
    /// Keeps what the members name until they do so themselves.
    pub keep: Vec<BlobState>,
    /// The level at which all of it is acknowledged.
    pub level: Durability,
    /// Answered once for all.
    pub reply: Sender<Result<()>>,
}

/// A record of a group.
pub enum Member {
    /// A blob changes, whose key is claimed.
    Blob(Commit),
    /// A blob's buffers are about to be named by another.
    Share(Share),
}

/// A change of one blob, ready to be logged.
pub struct Commit {
    /// Hash of bucket and key.
    pub hash: u64,
    /// The bucket.
    pub bucket: BucketId,
    /// The key.
    pub key: Arc<[u8]>,
    /// The version it makes.
    pub version: Version,
    /// The new state.
    pub change: Change,
    /// Its attributes.
    pub attributes: Option<Arc<SharedAttributes>>,
    /// The growth of its bucket that is set aside until the change is visible; of a group's changes
    /// in one bucket, the first has it.
    pub hold: Option<Hold>,
    /// Who sent it.
    pub origin: Origin,
}

impl Commit {
    /// Whether its record names buffers.
    pub fn changes_map(&self) -> bool {
        matches!(self.change, Change::Put { .. })
    }

    /// The buffers that the log does not know yet.
    pub fn new_buffers(&mut self) -> &mut [NewBuffer] {
        match &mut self.change {
            Change::Put { buffers, .. } => buffers,
            Change::Paged { .. } | Change::Attributes { .. } | Change::Delete => &mut [],
        }
    }
}

impl Member {
    /// The change of a blob, if it is one.
    pub fn commit(&self) -> Option<&Commit> {
        match self {
            Member::Blob(commit) => Some(commit),
            Member::Share(_) => None,
        }
    }
}

/// The new state of a blob.
pub enum Change {
    /// There is no blob any more.
    Delete,
    /// This is the value.
    Put {
        /// Its length.
        len: u64,
        /// Its whole extent map.
        extents: Vec<Extent>,
        /// The buffers of the map that the log does not know yet.
        buffers: Vec<NewBuffer>,
        /// The same change against the logged predecessor, where that is shorter.
        splice: Option<Splice>,
        /// Slots already filled with the value, to become its DRAM copy.
        dram: Option<DramImage>,
    },
    /// This is the value, and its map stands in pages that are logged, or queued to be.
    Paged {
        /// Its length.
        len: u64,
        /// Its whole map.
        pages: Vec<PageRef>,
        /// The same change against the logged predecessor, where that is shorter.
        splice: Option<PagedSplice>,
        /// Keep the new ones of these pages.
        holds: Vec<Arc<PageHold>>,
    },
    /// The value is that of the logged predecessor.
    Attributes {
        /// The version it applies to.
        base: Version,
    },
}

impl Change {
    /// The length of the value after it; `None`: there is no blob.
    pub fn len_after(&self, before: &BlobState) -> Option<u64> {
        match self {
            Change::Delete => None,
            Change::Put { len, .. } | Change::Paged { len, .. } => Some(*len),
            Change::Attributes { .. } => Some(before.len),
        }
    }
}

/// A change of a paged map as a difference.
pub struct PagedSplice {
    /// The version it applies to.
    pub base: Version,
    /// References that begin here are replaced.
    pub cut: std::ops::Range<u64>,
    /// What comes there.
    pub pages: Vec<PageRef>,
}

/// An extent page that a device has, ready to be logged.
pub struct PageCommit {
    /// The bucket of the blob it was written for.
    pub bucket: BucketId,
    /// The key of that blob.
    pub key: Arc<[u8]>,
    /// The version of that blob.
    pub version: Version,
    /// The page.
    pub page: BufferId,
    /// The buffers its extents name, ascending.
    pub names: Vec<BufferId>,
    /// The page, and those of the named buffers that the log does not know yet.
    pub buffers: Vec<NewBuffer>,
    /// Dirty slots whose buffers are among these.
    pub slots: Vec<(SlotId, BufferId)>,
    /// Keeps the other buffers that the page names.
    pub keep: BlobState,
    /// Keeps the page.
    pub hold: Arc<PageHold>,
    /// Answered when the page stands in the buffer table.
    pub reply: Sender<Result<()>>,
}

/// Buffers of a blob that others than it, or than extent pages, are about to name.
pub struct Share {
    /// Hash of bucket and key.
    pub hash: u64,
    /// The bucket.
    pub bucket: BucketId,
    /// The key.
    pub key: Arc<[u8]>,
    /// The buffers, with their checksums, ascending by id.
    pub buffers: Vec<Buffer>,
}

impl Share {
    /// The record of it.
    pub fn record(&self) -> Record {
        let buffers = self.buffers.iter().map(to_record).collect();
        Record::Share { bucket: self.bucket, key: (*self.key).into(), buffers }
    }
}

/// A condemned extent page that has been read.
pub struct ReleaseRequest {
    /// The page.
    pub page: BufferId,
    /// The buffers its extents name, ascending.
    pub names: Vec<BufferId>,
    /// Answered when the page is gone.
    pub reply: Sender<Result<()>>,
}

/// A change of a map as a difference.
pub struct Splice {
    /// The version it applies to.
    pub base: Version,
    /// The range of the value it replaces.
    pub cut: std::ops::Range<u64>,
    /// What comes there.
    pub extents: Vec<Extent>,
}

/// A buffer that a commit defines.
pub struct NewBuffer {
    /// Its facts. The location counts unless the bytes ride in the batch.
    pub buffer: Buffer,
    /// Where the bytes are.
    pub source: Source,
}

impl NewBuffer {
    /// A buffer whose bytes have been written for this commit.
    pub fn written(buffer: Buffer, written: WrittenBytes) -> NewBuffer {
        let buffer = Buffer { location: written.location(), ..buffer };
        NewBuffer { buffer, source: Source::Written(written) }
    }

    /// The index takes charge of it.
    pub fn keep(self) -> Buffer {
        if let Source::Written(written) = self.source {
            written.keep();
        }
        self.buffer
    }
}

/// Where a new buffer's bytes are when its commit is logged.
pub enum Source {
    /// On a device, written for this commit; dead if the commit fails or is dropped.
    Written(WrittenBytes),
    /// On a device since long: the lone buffer of the predecessor, handed to the table.
    Inherited,
    /// In memory, to ride in the batch.
    Inline(Payload),
}

/// Bytes that ride in a batch.
pub enum Payload {
    /// Copied from the caller.
    Owned(Box<[u8]>),
    /// In a pinned slot.
    Slot(OwnedPin),
}

impl Payload {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Payload::Owned(bytes) => bytes,
            Payload::Slot(pin) => pin,
        }
    }
}

/// Who sent a commit.
pub enum Origin {
    /// An operation that has claimed the key; the claim ends with the acknowledgement.
    Claimed,
    /// Write-behind of a Memory change. Dropped unless newer than what is logged. The slots turn
    /// clean when it is logged.
    Behind(Vec<(SlotId, BufferId)>),
}

/// A DRAM copy made ready by the caller; its slots are discarded unless it is published.
pub struct DramImage {
    dram: Arc<Dram>,
    slots: Option<(SlotId, Vec<DirRange>)>,
}

impl DramImage {
    /// Takes charge of a head slot and of filled slots.
    pub fn new(dram: Arc<Dram>, head: SlotId, ranges: Vec<DirRange>) -> DramImage {
        DramImage { dram, slots: Some((head, ranges)) }
    }

    /// Gives the slots to a publication.
    pub fn take(mut self) -> Option<(SlotId, Vec<DirRange>)> {
        self.slots.take()
    }
}

impl Drop for DramImage {
    fn drop(&mut self) {
        if let Some((head, ranges)) = self.slots.take() {
            self.dram.discard(head);
            ranges.iter().for_each(|range| self.dram.discard(range.slot));
        }
    }
}

/// A buffer that the organizer has copied.
pub struct MoveRequest {
    /// Which buffer.
    pub subject: MoveSubject,
    /// Where it was.
    pub from: Location,
    /// Where the copy is, written but perhaps not flushed.
    pub to: Location,
    /// Its stored length.
    pub stored_len: u32,
    /// True if the move took place; the copy is dead otherwise.
    pub reply: Sender<Result<bool>>,
}
