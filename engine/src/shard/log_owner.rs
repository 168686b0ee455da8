//! The log's owner: takes changes from everywhere, puts them in one order, writes them in
//! batches, and applies and acknowledges them in that order.
//!
//! Group commit needs no timer: while two batches are in flight, requests gather. Nothing is
//! encoded (in the sense of the pipeline) and no hook runs here.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use crate::buckets::Whole;
use crate::core::{
    Change, Commit, Core, Group, Member, MoveRequest, NewBuffer, Origin, PageCommit, Payload,
    ReleaseRequest, Share, Source,
};
use crate::error::Result;
use crate::index::state::BlobState;
use crate::index::table::to_record;
use crate::io::wait::{Sender, WaitList, Wakes};
use crate::limits::{UNFLUSHED_MAX, VALUE_LEN_MAX};
use crate::log::record::{BufferDef, Record, SegmentKind};
use crate::log::superblock::Superblock;
use crate::log::tail::{Ahead, LogTail};
use crate::plant::{Plant, planted};
use crate::shard::apply::Ack;
use crate::shard::checkpoint::Checkpointer;
use crate::shard::copies::{Copies, copy_tier};
use crate::shard::mending::Mending;
use crate::shard::{LogSeed, ShardContext, flush, poison_on_error};
use crate::types::{
    BatchSeq, BucketId, BufferId, Durability, Location, TierSegment, Uuid, Version,
};

/// Callers woken between two looks at what is to be done.
const WAKES_PER_TURN: usize = 8;
/// Records of one batch.
pub(super) const BATCH_RECORDS_MAX: usize = 1024;

/// A blob, across buckets.
type BlobKey = (BucketId, Arc<[u8]>);

/// A record on its way into the log, or several that one batch must hold.
pub(super) struct Queued {
    pub(super) first: Part,
    /// The others of a group.
    pub(super) more: Vec<Part>,
    pub(super) effect: Effect,
    pub(super) level: Durability,
    /// Checked against what was queued before it; its place in the order is fixed.
    pub(super) checked: bool,
}

/// A record, and the bytes that ride with it.
pub(super) struct Part {
    pub(super) record: Record,
    pub(super) payloads: Vec<(usize, Payload)>,
}

impl Part {
    pub(super) fn of(record: Record) -> Part {
        Part { record, payloads: Vec::new() }
    }

    /// Bytes that it takes of a batch, about.
    pub(super) fn len(&self) -> usize {
        let payloads = self.payloads.iter().map(|(_, payload)| payload.bytes().len());
        self.record.encoded_len() + payloads.sum::<usize>()
    }
}

impl Queued {
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// Whether it is for payloads to wait for room in the log's tier, and nothing that it has written
    /// is in the way of that room. What may not wait takes little of the log: at most what may ride
    /// with one blob.
    pub(super) fn may_wait(&self) -> bool {
        let has_payloads = self.parts().any(|part| !part.payloads.is_empty());
        has_payloads && !self.effect.commits().any(Commit::holds_segments)
    }

    pub(super) fn parts_mut(&mut self) -> impl Iterator<Item = &mut Part> {
        std::iter::once(&mut self.first).chain(&mut self.more)
    }
}

/// What follows once the record is in the log.
pub enum Effect {
    /// A blob has a new state.
    Blob(Box<Commit>, Sender<Result<()>>),
    /// Several blobs have, together. A record each, in this order.
    Group(Vec<Member>, Vec<BlobState>, Sender<Result<()>>),
    /// An extent page is in use.
    Page(Box<PageCommit>),
    /// An extent page is gone.
    Release(ReleaseRequest),
    /// Buffers stand in the table, for all to name.
    Share(Box<Share>),
    /// A buffer has moved.
    Move(MoveRequest),
    /// A bucket has come, changed or gone.
    Bucket(Record, Option<Whole>, Sender<Result<()>>),
    /// Somebody waits for the record to be durable.
    Flush(Sender<Result<()>>),
    /// Nothing.
    Quiet,
}

impl Effect {
    /// The buffers that appear with the record, of a group with the record of this number.
    pub(super) fn new_buffers(&mut self, part: usize) -> &mut [NewBuffer] {
        match self {
            Effect::Blob(commit, _) => commit.new_buffers(),
            Effect::Group(members, ..) => match members.get_mut(part) {
                Some(Member::Blob(commit)) => commit.new_buffers(),
                Some(Member::Share(_)) | None => &mut [],
            },
            Effect::Page(commit) => &mut commit.buffers,
            _ => &mut [],
        }
    }

    /// The changes of blobs, in the order of their records.
    pub(super) fn commits(&self) -> impl Iterator<Item = &Commit> {
        let (one, many) = match self {
            Effect::Blob(commit, _) => (Some(&**commit), &[][..]),
            Effect::Group(members, ..) => (None, &members[..]),
            _ => (None, &[][..]),
        };
        one.into_iter().chain(many.iter().filter_map(Member::commit))
    }
}

/// A batch being written.
pub(super) struct Flight {
    pub(super) seq: BatchSeq,
    pub(super) items: Vec<(Effect, Durability)>,
    pub(super) written: Option<Result<()>>,
    /// Its write is durable, and it names no data outside itself.
    pub(super) dsync: bool,
}

/// See the module.
pub struct LogOwner {
    /// The shard.
    pub(super) context: Rc<ShardContext>,
    /// The log's end.
    pub(super) tail: RefCell<LogTail>,
    pub(super) queue: RefCell<VecDeque<Queued>>,
    /// Records with payloads that wait for room in the log's tier.
    pub(super) held: RefCell<VecDeque<Queued>>,
    pub(super) flights: RefCell<VecDeque<Flight>>,
    /// Newest version per key in batches that are not applied yet.
    pub(super) appended: RefCell<HashMap<BlobKey, Version>>,
    /// Buckets that batches in flight clear: older changes come too late.
    pub(super) clearing: RefCell<HashMap<BucketId, Version>>,
    /// Where buffers go that batches in flight move.
    pub(super) moving: RefCell<HashMap<BufferId, Location>>,
    /// Acknowledgements that wait for the watermark.
    pub(super) unflushed_acks: RefCell<VecDeque<(BatchSeq, Ack)>>,
    /// Applied batches above W that wait for nothing but their predecessors to be durable.
    pub(super) self_durable: RefCell<VecDeque<BatchSeq>>,
    /// The newest batch that only a flush makes durable.
    pub(super) last_plain: Cell<BatchSeq>,
    /// The batch that the flush under way, or the last one, covers.
    pub(super) flushing: Cell<BatchSeq>,
    /// The newest batch applied.
    pub(super) applied: Cell<BatchSeq>,
    /// The newest W that a batch at or below the present W names: what recovery would find.
    pub(super) named_watermark: Cell<BatchSeq>,
    /// Callers that have their answer and are still asleep.
    pub(super) wakes: Arc<Wakes>,
    /// Batches and the W they name, until they are durable.
    pub(super) names: RefCell<VecDeque<(BatchSeq, BatchSeq)>>,
    /// Wakes the flush task and those who wait for the log's segments.
    pub(super) stirred: WaitList,
    /// The flush task shall run for the sake of reclaiming.
    pub(super) reclaim_wanted: Cell<bool>,
    /// Somebody asked for segments and has not got any yet.
    pub(super) reclaim_asked: Cell<bool>,
    pub(super) marker_armed: Cell<bool>,
    /// Superblocks as last written.
    pub(super) superblocks: RefCell<Vec<Option<Superblock>>>,
    pub(super) checkpointer: Checkpointer,
    pub(super) copies: Copies,
    pub(super) mending: Mending,
    pub(super) devices: Arc<[Uuid]>,
    /// Log segments behind the one ahead.
    pub(super) spares: RefCell<VecDeque<Ahead>>,
    /// How often the log has moved on to another segment.
    pub(super) switches: Cell<usize>,
}

impl LogOwner {
    /// Starts the owner and its tasks.
    pub fn start(context: Rc<ShardContext>, mut seed: LogSeed) -> Rc<LogOwner> {
        let last = seed.tail.last_seq();
        let copy_tier = copy_tier(&context.core.space, seed.tail.segment.tier);
        let kept_copies = std::mem::take(&mut seed.checkpoints.copies);
        let owner = Rc::new(LogOwner {
            tail: RefCell::new(seed.tail),
            queue: RefCell::default(),
            held: RefCell::default(),
            flights: RefCell::default(),
            appended: RefCell::default(),
            clearing: RefCell::default(),
            moving: RefCell::default(),
            unflushed_acks: RefCell::default(),
            self_durable: RefCell::default(),
            // What was found in the log was flushed by the opening.
            last_plain: Cell::new(context.core.log.watermark()),
            flushing: Cell::new(context.core.log.watermark()),
            applied: Cell::new(last),
            named_watermark: Cell::new(context.core.log.watermark()),
            names: RefCell::default(),
            wakes: Arc::default(),
            stirred: WaitList::default(),
            reclaim_wanted: Cell::new(false),
            reclaim_asked: Cell::new(false),
            marker_armed: Cell::new(false),
            copies: Copies::new(copy_tier, kept_copies),
            devices: seed.devices,
            spares: RefCell::default(),
            switches: Cell::new(0),
            mending: Mending::default(),
            superblocks: RefCell::new(seed.superblocks),
            checkpointer: Checkpointer::new(seed.checkpoints),
            context,
        });
        owner.context.core.space.set_applied(last);
        let log_tier = owner.tail.borrow().segment.tier;
        if owner.core().space.tier(log_tier).log_is_over() {
            owner.ask_for_room();
        }
        flush::start(&owner);
        owner.clone().keep_segments_ahead();
        owner
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.context.core
    }

    /// Queues a blob's change.
    pub fn queue_commit(
        &self,
        mut commit: Box<Commit>,
        level: Durability,
        reply: Sender<Result<()>>,
    ) {
        let part = part_of(&mut commit);
        self.push(part, Effect::Blob(commit, reply), level);
    }

    /// Queues changes that one batch will hold.
    pub fn queue_group(&self, group: Group) {
        let Group { mut members, keep, level, reply } = group;
        let mut parts = members.iter_mut().map(|member| match member {
            Member::Blob(commit) => part_of(commit),
            Member::Share(share) => Part::of(share.record()),
        });
        let Some(first) = parts.next() else { return reply.send(Ok(())) };
        let mut more: Vec<Part> = parts.collect();
        if planted(Plant::GroupLoggedInPart)
            && let Some(last) = more.last_mut()
        {
            *last = Part::of(Record::Marker);
        }
        let effect = Effect::Group(members, keep, reply);
        self.queue.borrow_mut().push_back(Queued { first, more, effect, level, checked: false });
    }

    /// Queues an extent page. Its record carries no payloads, nor does that of the blob: so neither
    /// waits for room, which their data might be in the way of, and they keep their order.
    pub fn queue_page(&self, mut commit: PageCommit) {
        let (mut defs, payloads) = definitions(&mut commit.buffers);
        assert!(payloads.is_empty(), "a buffer of extent page {:?} rides in the log", commit.page);
        // The page has the checks of the others.
        let others = defs.iter_mut().filter(|def| def.id != commit.page);
        others.for_each(|def| def.checks = Vec::new());
        let record = Record::Page {
            bucket: commit.bucket,
            key: (*commit.key).into(),
            version: commit.version,
            page: commit.page,
            names: commit.names.clone(),
            buffers: defs,
        };
        self.push(Part { record, payloads }, Effect::Page(Box::new(commit)), Durability::Written);
    }

    /// Queues the end of an extent page.
    pub fn queue_release(&self, request: ReleaseRequest) {
        let record = Record::Release { page: request.page, names: request.names.clone() };
        self.push(Part::of(record), Effect::Release(request), Durability::Written);
    }

    /// Queues a move.
    pub fn queue_move(&self, request: MoveRequest) {
        let MoveRequest { subject, from, to, .. } = &request;
        let record = match planted(Plant::MoveNotLogged) {
            true => Record::Marker,
            false => Record::Move { subject: subject.clone(), from: *from, to: *to },
        };
        self.push(Part::of(record), Effect::Move(request), Durability::Written);
    }

    /// Queues a change of the list of buckets.
    pub fn queue_bucket(&self, record: Record, whole: Option<Whole>, reply: Sender<Result<()>>) {
        let effect = Effect::Bucket(record.clone(), whole, reply);
        self.push(Part::of(record), effect, Durability::Written);
    }

    /// Queues the opening of a segment.
    pub fn queue_segment_opened(&self, segment: TierSegment, generation: u32, kind: SegmentKind) {
        let record = Record::SegmentOpen { segment, generation, kind };
        self.push(Part::of(record), Effect::Quiet, Durability::Written);
    }

    /// Queues the freeing of segments.
    pub(super) fn queue_segments_freed(&self, freed: Vec<TierSegment>) {
        for segment in freed {
            let generation =
                self.core().space.tier(segment.tier).segment(segment.segment).generation();
            let record = Record::SegmentFree { segment, generation };
            self.push(Part::of(record), Effect::Quiet, Durability::Written);
        }
    }

    /// Makes everything queued so far, and all that was before, durable.
    pub fn flush(&self, reply: Sender<Result<()>>) {
        if let Err(error) = self.core().check_poison() {
            return reply.send(Err(error));
        }
        let idle = self.queue.borrow().is_empty() && self.flights.borrow().is_empty();
        if idle && self.core().log.watermark() == self.tail.borrow().last_seq() {
            return reply.send(Ok(()));
        }
        self.push(Part::of(Record::Marker), Effect::Flush(reply), Durability::Durable);
    }

    /// Queues a batch that does nothing but name W.
    pub(super) fn queue_marker(&self, level: Durability) {
        self.push(Part::of(Record::Marker), Effect::Quiet, level);
    }

    /// Frees what may be reused, soon.
    pub fn reclaim_soon(&self) {
        self.reclaim_asked.set(true);
        self.reclaim_wanted.set(true);
        self.stirred.wake_all();
    }

    /// Ends the owner's tasks once nothing is left to do.
    pub fn stop(&self) {
        self.stirred.wake_all();
    }

    pub(super) fn push(&self, part: Part, effect: Effect, level: Durability) {
        let queued = Queued { first: part, more: Vec::new(), effect, level, checked: false };
        self.queue.borrow_mut().push_back(queued);
    }

    /// Whether everything queued has been written and acknowledged.
    pub(super) fn is_quiet(&self) -> bool {
        self.queue.borrow().is_empty()
            && self.held.borrow().is_empty()
            && self.flights.borrow().is_empty()
            && self.unflushed_acks.borrow().is_empty()
    }

    /// Writes batches while there is something to write and room in flight.
    pub fn pump(self: &Rc<Self>) -> bool {
        if let Some(error) = self.core().poisoned().cloned() {
            return self.fail_queue(&error);
        }
        let mut progress = self.release_held();
        while self.may_start() {
            if self.core().unflushed_bytes() > UNFLUSHED_MAX {
                self.stirred.wake_all();
                break;
            }
            match self.write_batch() {
                Ok(true) => progress = true,
                Ok(false) => break,
                Err(error) => {
                    poison_on_error(self.core(), "the log cannot be written", Err(error));
                }
            }
        }
        if self.core().unflushed_bytes() > UNFLUSHED_MAX / 2 {
            self.stirred.wake_all();
        }
        progress
    }

    /// Wakes some of those who have their answer. Returns whether there were any.
    pub(super) fn wake_some(&self) -> bool {
        self.wakes.wake(WAKES_PER_TURN)
    }

    /// Wakes everybody who has an answer: nobody will come to do it later.
    pub(super) fn wake_everybody(&self) {
        self.wakes.wake(usize::MAX);
    }
}

/// The record of a change, and the bytes that ride with it.
fn part_of(commit: &mut Commit) -> Part {
    let (bucket, version) = (commit.bucket, commit.version);
    let key: Box<[u8]> = (*commit.key).into();
    let attributes = commit.attributes.as_ref().map(|shared| (**shared).clone());
    let is_behind = matches!(commit.origin, Origin::Behind(_));
    let attributes = attributes.filter(|_| !(is_behind && planted(Plant::AttributesForgotten)));
    match &mut commit.change {
        Change::Delete => Part::of(Record::Delete { bucket, key, version }),
        Change::Put { len, extents, buffers, .. } => {
            let (defs, payloads) = definitions(buffers);
            let (len, extents) = (*len, extents.clone());
            let record =
                Record::Put { bucket, key, version, len, extents, buffers: defs, attributes };
            Part { record, payloads }
        }
        Change::Paged { len, pages, .. } => {
            let (len, pages, cut) = (*len, pages.clone(), 0..VALUE_LEN_MAX);
            let base = None;
            Part::of(Record::Paged { bucket, key, base, version, len, cut, pages, attributes })
        }
        Change::Attributes { base } => {
            Part::of(Record::Attributes { bucket, key, base: *base, version, attributes })
        }
    }
}

/// The definitions of new buffers, ascending by id as the format wants them, and the bytes of
/// those that ride in the batch.
fn definitions(buffers: &mut [NewBuffer]) -> (Vec<BufferDef>, Vec<(usize, Payload)>) {
    buffers.sort_by_key(|new| new.buffer.id);
    let mut payloads = Vec::new();
    let mut defs = Vec::with_capacity(buffers.len());
    for (at, new) in buffers.iter_mut().enumerate() {
        let source =
            std::mem::replace(&mut new.source, Source::Inline(Payload::Owned(Box::default())));
        match source {
            Source::Inline(payload) => {
                // Any device place will do until the batch is laid out.
                new.buffer.location = Location::device(crate::types::TierId(0), 0);
                payloads.push((at, payload));
            }
            other => new.source = other,
        }
        defs.push(to_record(&new.buffer));
    }
    (defs, payloads)
}
