//! The messages between callers, shards and the organizer.

use std::rc::Rc;
use std::sync::Arc;

use crate::buckets::Whole;
use crate::error::Result;
use crate::index::attributes::SharedAttributes;
use crate::index::extents::Extent;
use crate::index::pages::PageRef;
use crate::index::state::{BlobState, Buffer, Map};
use crate::index::table::{RowHold, to_record};
use crate::io::buffer::AlignedBuf;
use crate::io::exec::LocalFuture;
use crate::io::runtime::Nanos;
use crate::io::wait::Sender;
use crate::log::record::{MoveSubject, Record, SegmentKind};
use crate::paging::write::PageHold;
use crate::tier::dram::{DirRange, Dram, OwnedPin};
use crate::tier::room::Room;
use crate::tier::written::WrittenBytes;
use crate::types::{
    BucketId, BufferId, Durability, Location, SlotId, TierId, TierSegment, Version,
};
use crate::usage::Hold;

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
    /// Let go of the log that only an older checkpoint needs, for a write that finds no room. Shard 0.
    MakeRoom,
    /// Let go of the log that only an older checkpoint needs; answer when that is done. Shard 0.
    Trim(Sender<Result<()>>),
    /// Write anew what has rotted on a device; answer when that is done. Shard 0.
    Mend(Mend, Sender<Result<()>>),
    /// Seal the segments that the shard writes to, so that they can be cleaned: nothing else can.
    SealOpen,
    /// The same, of segments that nothing has gone to since this was last asked.
    SealIdle,
    /// Run a caller's operation.
    Run(ShardTask),
    /// End: write what is left, then stop.
    Stop,
}

/// What the log's owner is to write anew, or to leave behind.
#[derive(Clone, Copy, Debug)]
pub enum Mend {
    /// A slot of a tier, with what the newest superblock says.
    Superblock {
        /// The tier.
        tier: TierId,
        /// 0 or 1.
        slot: usize,
    },
    /// The log goes on in another segment, if this is the one in use.
    LeaveSegment(TierSegment),
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
    /// It will stand in the buffer table, under an id that is new: it does so as soon as the device
    /// has it, so that it can be moved while its change is in the making.
    pub in_table: bool,
    /// What is set aside for it until then.
    pub room: Option<Room>,
    /// Since when it waits for room, if another shard had none and handed it on.
    pub waiting_since: Option<Nanos>,
    /// Answered once the device has the bytes.
    pub reply: Sender<Result<NewBuffer>>,
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
    /// Keeps the buffers of the state before until the new one does: write-behind may put that into
    /// pages meanwhile, which then are all that holds them.
    pub keep: Option<Arc<Map>>,
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

    /// Whether it has written what nobody can move before it is logged.
    pub fn holds_segments(&self) -> bool {
        let Change::Put { buffers, .. } = &self.change else { return false };
        buffers.iter().any(|new| matches!(new.source, Source::Written(_)))
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
    /// Its facts. The location counts unless the bytes ride in the batch; of one that the table holds
    /// it is where it was written, until the record gets its place in the log.
    pub buffer: Buffer,
    /// Where the bytes are.
    pub source: Source,
}

impl NewBuffer {
    /// The index takes charge of it: of one that the table holds, once the hold is dropped.
    pub fn keep(self) -> (Buffer, Option<RowHold>) {
        let hold = match self.source {
            Source::Written(written) => {
                written.keep();
                None
            }
            Source::Held(hold) => Some(hold),
            Source::Inherited | Source::Inline(_) => None,
        };
        (self.buffer, hold)
    }
}

/// Where a new buffer's bytes are when its commit is logged.
pub enum Source {
    /// On a device, written for this commit; dead if the commit fails or is dropped.
    Written(WrittenBytes),
    /// The same, and the buffer table knows where: it may have been moved since.
    Held(RowHold),
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
