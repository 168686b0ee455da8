//! The log's owner: takes changes from everywhere, puts them in one order, writes them in
//! batches, and applies and acknowledges them in that order.
//!
//! Group commit needs no timer: while two batches are in flight, requests gather. Nothing is
//! encoded (in the sense of the pipeline) and no hook runs here.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::core::{
    Change, Commit, Core, MoveRequest, NewBuffer, PageCommit, Payload, ReleaseRequest, Share,
    Source,
};
use crate::error::{Error, ErrorKind, Result};
use crate::index::state::{Buffer, Checks};
use crate::index::table::to_record;
use crate::io::buffer::AlignedBuf;
use crate::io::wait::{Sender, WaitList, Wakes};
use crate::limits::{UNFLUSHED_MAX, VALUE_LEN_MAX};
use crate::log::batch::{BatchIdentity, BatchItem, encode, layout};
use crate::log::record::{BufferDef, Record, SegmentKind};
use crate::log::superblock::Superblock;
use crate::log::tail::{Ahead, LogTail};
use crate::shard::apply::{self, Ack};
use crate::shard::checkpoint::{Checkpointer, STEPS};
use crate::shard::copies::{Copies, copy_tier};
use crate::shard::{LogSeed, ShardContext, flush, poison_on_error};
use crate::tier::space::Purpose;
use crate::tier::written::WrittenBytes;
use crate::types::{
    BatchSeq, BucketId, BufferId, Durability, Location, TierSegment, Uuid, Version,
};

/// Target size of a batch: beyond it latency grows and throughput does not.
const BATCH_BYTES_TARGET: usize = 1 << 20;
/// Callers woken between two looks at what is to be done.
const WAKES_PER_TURN: usize = 8;
/// Records of one batch.
pub(super) const BATCH_RECORDS_MAX: usize = 1024;

/// A blob, across buckets.
type BlobKey = (BucketId, Arc<[u8]>);

/// A record on its way into the log.
pub(super) struct Queued {
    record: Record,
    payloads: Vec<(usize, Payload)>,
    effect: Effect,
    level: Durability,
    /// Checked against what was queued before it; its place in the order is fixed.
    checked: bool,
}

/// What follows once the record is in the log.
pub enum Effect {
    /// A blob has a new state.
    Blob(Box<Commit>),
    /// An extent page is in use.
    Page(Box<PageCommit>),
    /// An extent page is gone.
    Release(ReleaseRequest),
    /// Buffers stand in the table, for all to name.
    Share(Box<Share>),
    /// A buffer has moved.
    Move(MoveRequest),
    /// A bucket has come or gone.
    Bucket(Record, Sender<Result<()>>),
    /// Somebody waits for the record to be durable.
    Flush(Sender<Result<()>>),
    /// Nothing.
    Quiet,
}

impl Effect {
    /// The buffers that appear with the record.
    fn new_buffers(&mut self) -> &mut [NewBuffer] {
        match self {
            Effect::Blob(commit) => match &mut commit.change {
                Change::Put { buffers, .. } => buffers,
                Change::Paged { .. } | Change::Delete => &mut [],
            },
            Effect::Page(commit) => &mut commit.buffers,
            _ => &mut [],
        }
    }
}

/// A batch being written.
pub(super) struct Flight {
    seq: BatchSeq,
    pub(super) items: Vec<(Effect, Durability)>,
    pub(super) written: Option<Result<()>>,
    /// Its write is durable, and it names no data outside itself.
    dsync: bool,
}

/// A batch ready for the device.
struct Encoded {
    /// Items that it holds, from the first on.
    count: usize,
    buf: AlignedBuf,
    len: usize,
    /// Where it goes on the log's tier.
    offset: u64,
    seq: BatchSeq,
    /// The W that it names.
    watermark: BatchSeq,
    /// Its own write shall be durable.
    dsync: bool,
}

/// See the module.
pub struct LogOwner {
    /// The shard.
    pub(super) context: Rc<ShardContext>,
    /// The log's end.
    pub(super) tail: RefCell<LogTail>,
    pub(super) queue: RefCell<VecDeque<Queued>>,
    /// Records with payloads that wait for room in the log's tier.
    held: RefCell<VecDeque<Queued>>,
    pub(super) flights: RefCell<VecDeque<Flight>>,
    /// Newest version per key in batches that are not applied yet.
    appended: RefCell<HashMap<BlobKey, Version>>,
    /// Where buffers go that batches in flight move.
    moving: RefCell<HashMap<BufferId, Location>>,
    /// Acknowledgements that wait for the watermark.
    pub(super) unflushed_acks: RefCell<VecDeque<(BatchSeq, Ack)>>,
    /// Applied batches above W that wait for nothing but their predecessors to be durable.
    self_durable: RefCell<VecDeque<BatchSeq>>,
    /// The newest batch that only a flush makes durable.
    last_plain: Cell<BatchSeq>,
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
            superblocks: RefCell::new(seed.superblocks),
            checkpointer: Checkpointer::new(seed.checkpoints),
            context,
        });
        owner.context.core.space.set_applied(last);
        flush::start(&owner);
        owner.clone().keep_segments_ahead();
        owner
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.context.core
    }

    /// Queues a blob's change.
    pub fn queue_commit(&self, commit: Commit) {
        let level = commit.level;
        let mut commit = Box::new(commit);
        let (record, payloads) = record_of(&mut commit);
        self.push(record, payloads, Effect::Blob(commit), level);
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
        self.push(record, payloads, Effect::Page(Box::new(commit)), Durability::Written);
    }

    /// Queues the end of an extent page.
    pub fn queue_release(&self, request: ReleaseRequest) {
        let record = Record::Release { page: request.page, names: request.names.clone() };
        self.push(record, Vec::new(), Effect::Release(request), Durability::Written);
    }

    /// Queues a move.
    pub fn queue_move(&self, request: MoveRequest) {
        let record =
            Record::Move { subject: request.subject.clone(), from: request.from, to: request.to };
        self.push(record, Vec::new(), Effect::Move(request), Durability::Written);
    }

    /// Queues a change of the list of buckets.
    pub fn queue_bucket(&self, record: Record, reply: Sender<Result<()>>) {
        let effect = Effect::Bucket(record.clone(), reply);
        self.push(record, Vec::new(), effect, Durability::Written);
    }

    /// Queues the opening of a segment.
    pub fn queue_segment_opened(&self, segment: TierSegment, generation: u32, kind: SegmentKind) {
        let record = Record::SegmentOpen { segment, generation, kind };
        self.push(record, Vec::new(), Effect::Quiet, Durability::Written);
    }

    /// Queues the freeing of segments.
    pub(super) fn queue_segments_freed(&self, freed: Vec<TierSegment>) {
        for segment in freed {
            let generation =
                self.core().space.tier(segment.tier).segment(segment.segment).generation();
            let record = Record::SegmentFree { segment, generation };
            self.push(record, Vec::new(), Effect::Quiet, Durability::Written);
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
        self.push(Record::Marker, Vec::new(), Effect::Flush(reply), Durability::Durable);
    }

    /// Queues a batch that does nothing but name W.
    pub(super) fn queue_marker(&self, level: Durability) {
        self.push(Record::Marker, Vec::new(), Effect::Quiet, level);
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

    fn push(
        &self,
        record: Record,
        payloads: Vec<(usize, Payload)>,
        effect: Effect,
        level: Durability,
    ) {
        let queued = Queued { record, payloads, effect, level, checked: false };
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

    /// Whether payloads must wait: what is free of the log's tier is for cleaning, moves,
    /// deletes and checkpoints, which make room.
    fn is_short_of_room(&self) -> bool {
        let tier = self.core().space.tier(self.tail.borrow().segment.tier);
        tier.free_segments() <= tier.floor(Purpose::Data) as usize
    }

    /// Records wait for room: the organizer empties segments, and two rotations of checkpoints let
    /// go of the log that only recovery needs. An idle log would never become due for them.
    fn make_room(&self) {
        self.core().organizer.kick();
        if self.held.borrow().is_empty() {
            self.checkpointer.want(2 * STEPS);
            self.stirred.wake_all();
        }
    }

    fn release_held(&self) -> bool {
        if self.held.borrow().is_empty() {
            return false;
        }
        if self.is_short_of_room() && self.core().poisoned().is_none() {
            return false;
        }
        // Behind the records whose place is fixed already. Changes of one key that overtook these
        // were claimed before or make these stale.
        let mut queue = self.queue.borrow_mut();
        let fixed = queue.iter().take_while(|item| item.checked).count();
        let later = queue.split_off(fixed);
        queue.extend(self.held.borrow_mut().drain(..));
        queue.extend(later);
        true
    }

    /// Builds the next batch and starts its write. False if it has to wait for a segment.
    fn write_batch(self: &Rc<Self>) -> Result<bool> {
        if self.tail.borrow().ahead.is_none() {
            self.stirred.wake_all();
            return Ok(false);
        }
        let mut items = self.check_queue();
        if items.is_empty() {
            return Ok(true);
        }
        let encoded = match self.encode_batch(&mut items) {
            Err(error) if error.kind() == ErrorKind::LimitExceeded => {
                let first = items.remove(0);
                self.forget(&first.effect);
                apply::fail(self.core(), first.effect, &error);
                self.give_back(items);
                return Ok(true);
            }
            Err(error) => {
                for item in items {
                    self.forget(&item.effect);
                    apply::fail(self.core(), item.effect, &error);
                }
                return Err(error);
            }
            Ok(encoded) => encoded,
        };
        let Some(encoded) = encoded else {
            self.give_back(items);
            return Ok(false);
        };
        let rest = items.split_off(encoded.count);
        self.give_back(rest);
        let items = items.into_iter().map(|item| (item.effect, item.level)).collect();
        let Encoded { seq, dsync, .. } = encoded;
        self.flights.borrow_mut().push_back(Flight { seq, items, written: None, dsync });
        self.start_write(encoded);
        Ok(true)
    }

    fn give_back(&self, items: Vec<Queued>) {
        let mut queue = self.queue.borrow_mut();
        items.into_iter().rev().for_each(|item| queue.push_front(item));
    }

    /// Takes records that hold against everything before them; answers those that do not.
    fn check_queue(&self) -> Vec<Queued> {
        let mut items = Vec::new();
        let mut bytes = 0;
        let short = self.is_short_of_room();
        while items.len() < BATCH_RECORDS_MAX && bytes < BATCH_BYTES_TARGET {
            let Some(mut item) = self.queue.borrow_mut().pop_front() else { break };
            if short && !item.checked && !item.payloads.is_empty() {
                self.make_room();
                self.held.borrow_mut().push_back(item);
                continue;
            }
            if !item.checked {
                match self.check(item) {
                    Some(checked) => item = checked,
                    None => continue,
                }
                if let Some(share) = self.share_before(&item) {
                    bytes += share.record.encoded_len();
                    items.push(share);
                }
            }
            let payload: usize =
                item.payloads.iter().map(|(_, payload)| payload.bytes().len()).sum();
            bytes += item.record.encoded_len() + payload;
            items.push(item);
        }
        items
    }

    /// Whether the record still makes sense after all that precede it in the log.
    fn check(&self, mut item: Queued) -> Option<Queued> {
        item.checked = true;
        match &mut item.effect {
            Effect::Blob(commit) => {
                let key = (commit.bucket, commit.key.clone());
                let before = self.appended.borrow().get(&key).copied();
                if let Some(refused) = apply::refuse_stale(self.core(), commit, before) {
                    let Effect::Blob(commit) = item.effect else { return None };
                    apply::drop_commit(self.core(), *commit, refused);
                    return None;
                }
                self.shorten(&mut item.record, commit, before);
                self.resolve(&mut item.record, commit);
                self.appended.borrow_mut().insert(key, commit.version);
            }
            Effect::Move(request) => {
                let id = apply::subject_id(&request.subject);
                let in_flight = self.moving.borrow().contains_key(&id);
                if in_flight || !apply::is_at(self.core(), &request.subject, request.from) {
                    let Effect::Move(request) = item.effect else { return None };
                    apply::refuse_move(self.core(), request);
                    return None;
                }
                self.moving.borrow_mut().insert(id, request.to);
            }
            Effect::Page(_)
            | Effect::Release(_)
            | Effect::Share(_)
            | Effect::Bucket(..)
            | Effect::Flush(_)
            | Effect::Quiet => {}
        }
        Some(item)
    }

    /// Uses the difference instead of the whole map where the log holds exactly its base.
    fn shorten(&self, record: &mut Record, commit: &mut Commit, in_flight: Option<Version>) {
        let is_base = |base: Version| {
            in_flight.is_none() && apply::logged_version(self.core(), commit) == Some(base)
        };
        match (&mut *record, &commit.change) {
            (_, Change::Put { splice: Some(splice), .. }) if !is_base(splice.base) => {}
            (_, Change::Paged { splice: Some(splice), .. }) if !is_base(splice.base) => {}
            (
                Record::Put { bucket, key, version, len, buffers, .. },
                Change::Put { splice: Some(splice), .. },
            ) => {
                *record = Record::Splice {
                    bucket: *bucket,
                    key: std::mem::take(key),
                    base: splice.base,
                    version: *version,
                    len: *len,
                    cut: splice.cut.clone(),
                    extents: splice.extents.clone(),
                    buffers: std::mem::take(buffers),
                };
            }
            (
                Record::Paged { base, cut, pages, .. },
                Change::Paged { splice: Some(splice), .. },
            ) => {
                *base = Some(splice.base);
                *cut = splice.cut.clone();
                *pages = splice.pages.clone();
            }
            _ => {}
        }
        // Of no use any more.
        match &mut commit.change {
            Change::Put { splice, .. } => *splice = None,
            Change::Paged { splice, .. } => *splice = None,
            Change::Delete => {}
        }
    }

    /// Inherited buffers are logged where they are after the moves before this record.
    fn resolve(&self, record: &mut Record, commit: &mut Commit) {
        let Change::Put { buffers, .. } = &mut commit.change else { return };
        for (new, def) in buffers.iter_mut().zip(record.buffers_mut()) {
            if matches!(new.source, Source::Inherited) {
                let moved = self.moving.borrow().get(&new.buffer.id).copied();
                let now = moved.or_else(|| {
                    apply::inherited_location(
                        self.core(),
                        commit.hash,
                        commit.bucket,
                        &commit.key,
                        new.buffer.id,
                    )
                });
                if let Some(location) = now {
                    new.buffer.location = location;
                    def.location = location;
                }
            }
        }
    }

    /// What must stand in the log before a blob's new map: definitions of the buffers it names whose
    /// checksums the log has in extent pages alone. A map that was large when it was written behind
    /// may be small by now.
    fn share_before(&self, item: &Queued) -> Option<Queued> {
        let (Effect::Blob(commit), Record::Put { extents, .. } | Record::Splice { extents, .. }) =
            (&item.effect, &item.record)
        else {
            return None;
        };
        let defined = item.record.buffers();
        let mut named: Vec<BufferId> = extents.iter().map(|extent| extent.buffer).collect();
        named.sort_unstable();
        named.dedup();
        named.retain(|id| defined.binary_search_by_key(id, |def| def.id).is_err());
        let buffers = named.into_iter().filter_map(|id| self.core().table.logged_by_page(id));
        // Without its checksums only a destroyed bucket can name it.
        let buffers = buffers.filter(|buffer| buffer.checks != Checks::InPages);
        let buffers: Vec<Buffer> = buffers.map(|buffer| self.after_moves(buffer)).collect();
        if buffers.is_empty() {
            return None;
        }
        let (hash, bucket, key) = (commit.hash, commit.bucket, commit.key.clone());
        let record = Record::Share {
            bucket,
            key: (*key).into(),
            buffers: buffers.iter().map(to_record).collect(),
        };
        let effect = Effect::Share(Box::new(Share { hash, bucket, key, buffers }));
        let (payloads, level) = (Vec::new(), Durability::Written);
        Some(Queued { record, payloads, effect, level, checked: true })
    }

    /// Where a buffer is once the moves in flight are done.
    fn after_moves(&self, buffer: Buffer) -> Buffer {
        let location = self.moving.borrow().get(&buffer.id).copied().unwrap_or(buffer.location);
        Buffer { location, ..buffer }
    }

    /// Encodes those of the items that fit the segment. `None` if the segment that must come first
    /// is not ready.
    fn encode_batch(&self, items: &mut [Queued]) -> Result<Option<Encoded>> {
        // The records go into the batch and come back, whatever becomes of it: nothing is copied.
        let mut batch: Vec<BatchItem<'_>> = Vec::with_capacity(items.len());
        for Queued { record, payloads, .. } in items.iter_mut() {
            let record = std::mem::replace(record, Record::Marker);
            let payloads = payloads.iter().map(|(at, payload)| (*at, payload.bytes())).collect();
            batch.push(BatchItem { record, payloads });
        }
        let encoded = self.encode_items(&mut batch);
        let records: Vec<Record> = batch.into_iter().map(|item| item.record).collect();
        items.iter_mut().zip(records).for_each(|(item, record)| item.record = record);
        let Some(mut encoded) = encoded? else { return Ok(None) };
        let core = self.core();
        let mut external = false;
        let mut durable = false;
        for item in &mut items[..encoded.count] {
            external |= place_inline(core, item);
            durable |= item.level == Durability::Durable;
            item.payloads.clear();
        }
        encoded.dsync = durable && !external && self.is_covered_before(encoded.watermark);
        if !encoded.dsync {
            self.last_plain.set(encoded.seq);
        }
        self.names.borrow_mut().push_back((encoded.seq, encoded.watermark));
        self.checkpointer.count_bytes(encoded.len as u64);
        core.counters.batches.fetch_add(1, Ordering::Relaxed);
        core.counters.records.fetch_add(encoded.count as u64, Ordering::Relaxed);
        Ok(Some(encoded))
    }

    /// Lays the items out, encodes those that fit and advances the tail over them.
    fn encode_items(&self, batch: &mut [BatchItem<'_>]) -> Result<Option<Encoded>> {
        let core = self.core();
        let mut tail = self.tail.borrow_mut();
        let segment_size = core.space.tier(tail.segment.tier).segment_size;
        let room = |tail: &LogTail| usize::try_from(tail.room(segment_size)).unwrap_or(usize::MAX);
        let mut plan = layout(batch, room(&tail))?;
        if plan.items() == 0 {
            if !tail.ahead.is_some_and(|ahead| ahead.ready) {
                return Ok(None);
            }
            self.switch_segment(&mut tail, segment_size);
            plan = layout(batch, room(&tail))?;
            if plan.items() == 0 {
                let kind = batch[0].record.kind();
                return Err(Error::new(
                    ErrorKind::LimitExceeded,
                    format!("a {kind:?} record does not fit a log segment of {segment_size} bytes"),
                ));
            }
            if tail.ahead.is_none() {
                // The next segment is named by every batch, so this one waits for it too.
                return Ok(None);
            }
        }
        let len = plan.total_len();
        let offset = core.space.tier(tail.segment.tier).offset_of(tail.segment.segment) + tail.used;
        let identity = self.identity(&tail, offset);
        let (seq, watermark) = (identity.seq, identity.watermark);
        let mut buf = self.context.io.memory(len);
        let crc = encode(&plan, batch, &identity, &mut buf.as_mut_slice()[..len])?;
        tail.advance(len as u64, crc);
        Ok(Some(Encoded { count: plan.items(), buf, len, offset, seq, watermark, dsync: false }))
    }

    fn identity(&self, tail: &LogTail, device_offset: u64) -> BatchIdentity {
        let core = self.core();
        BatchIdentity {
            store: core.settings.store,
            device: self.devices[tail.segment.tier.index()],
            epoch: core.settings.epoch,
            stream: 0,
            seq: tail.next_seq,
            watermark: core.log.watermark(),
            chain: tail.chain,
            segment: tail.segment,
            generation: tail.generation,
            device_offset,
            next: tail.ahead.map(|ahead| (ahead.segment, ahead.generation)),
            wall_clock: core.runtime.wall_clock_s(),
        }
    }

    /// Whether a batch that comes now is durable as soon as its own write and its predecessors'
    /// are: none of those above W wants a flush that is not under way. Its segment was flushed
    /// before its use, and what its records name in other batches, those batches answer for.
    /// Without this its write would be durable in vain: it would wait for a flush all the same.
    fn is_covered_before(&self, watermark: BatchSeq) -> bool {
        self.last_plain.get() <= watermark.max(self.flushing.get())
    }

    fn start_write(self: &Rc<Self>, batch: Encoded) {
        let Encoded { buf, len, offset, seq, dsync, .. } = batch;
        let owner = self.clone();
        let tier = self.tail.borrow().segment.tier;
        self.context.spawner.spawn(Box::pin(async move {
            let written = owner.context.io.write(tier, offset, len, buf, dsync).await.map(drop);
            if let Some(flight) =
                owner.flights.borrow_mut().iter_mut().find(|flight| flight.seq == seq)
            {
                flight.written = Some(written);
            }
        }));
    }

    /// Whether the oldest batch in flight has been written.
    pub(super) fn has_landed(&self) -> bool {
        self.flights.borrow().front().is_some_and(|flight| flight.written.is_some())
    }

    /// Applies and acknowledges, in order, the batches whose writes are done.
    pub(super) fn land(self: &Rc<Self>) {
        loop {
            let flight = {
                let mut flights = self.flights.borrow_mut();
                match flights.front() {
                    Some(flight) if flight.written.is_some() => flights.pop_front(),
                    _ => None,
                }
            };
            let Some(flight) = flight else { break };
            match &flight.written {
                // A batch after one that failed is beyond the log's end: recovery will not see it.
                Some(Ok(())) if self.core().poisoned().is_none() => self.apply(flight),
                Some(Ok(())) => self.fail_flight(flight),
                Some(Err(error)) => {
                    let error = error.clone();
                    poison_on_error(self.core(), "a log write failed", Err(error));
                    self.fail_flight(flight);
                }
                None => break,
            }
        }
        self.tell_if_stopping();
    }

    /// Tasks that end when nothing is left to do look again.
    fn tell_if_stopping(&self) {
        if self.context.is_stopping() {
            self.stirred.wake_all();
        }
    }

    fn fail_flight(&self, flight: Flight) {
        let unknown = || Error::new(ErrorKind::DeviceFailed, "the log failed");
        let reason = self.core().poisoned().cloned().unwrap_or_else(unknown);
        for (effect, _) in flight.items {
            self.forget(&effect);
            apply::fail(self.core(), effect, &reason);
        }
    }

    fn apply(self: &Rc<Self>, flight: Flight) {
        let core = self.core();
        core.space.set_applied(flight.seq);
        let mut acks = Vec::with_capacity(flight.items.len());
        for (effect, level) in flight.items {
            self.forget(&effect);
            acks.push((apply::apply(core, effect), level));
        }
        self.applied.set(flight.seq);
        self.checkpointer.count_records(acks.len());
        if flight.dsync {
            self.self_durable.borrow_mut().push_back(flight.seq);
            self.raise_watermark(core.log.watermark());
        }
        let flushed = core.log.watermark() >= flight.seq;
        if flushed && self.reclaim_asked.get() {
            self.reclaim_wanted.set(true);
            self.stirred.wake_all();
        }
        // Acknowledgements follow the order of the batches: what is visible is never newer than
        // what is not. Somebody who waits for a flush keeps nobody else waiting.
        let overtakes = self.unflushed_acks.borrow().iter().any(|(_, ack)| ack.is_change());
        for (ack, level) in acks {
            if flushed || (level < Durability::Durable && !overtakes) {
                ack.send(core, &self.wakes);
            } else {
                self.unflushed_acks.borrow_mut().push_back((flight.seq, ack));
            }
        }
        if flushed {
            flush::arm_marker(self);
        } else if !self.unflushed_acks.borrow().is_empty() {
            self.stirred.wake_all();
        }
        if self.checkpointer.is_due(self) {
            self.stirred.wake_all();
        }
    }

    /// The record is applied: the index knows what the owner kept for it.
    fn forget(&self, effect: &Effect) {
        match effect {
            Effect::Blob(commit) => {
                let key = (commit.bucket, commit.key.clone());
                let mut appended = self.appended.borrow_mut();
                if appended.get(&key) == Some(&commit.version) {
                    appended.remove(&key);
                }
            }
            Effect::Move(request) => {
                self.moving.borrow_mut().remove(&apply::subject_id(&request.subject));
            }
            Effect::Page(_)
            | Effect::Release(_)
            | Effect::Share(_)
            | Effect::Bucket(..)
            | Effect::Flush(_)
            | Effect::Quiet => {}
        }
    }

    /// Raises W, and with it what recovery would find named: to a batch that flushes cover with
    /// all its predecessors, and on over the batches behind it whose own writes were durable.
    /// These name nothing outside themselves that their predecessors have not named.
    pub(super) fn raise_watermark(&self, to: BatchSeq) {
        let mut to = to.max(self.core().log.watermark());
        {
            let mut behind = self.self_durable.borrow_mut();
            while let Some(seq) = behind.front().copied().filter(|seq| *seq <= to.next()) {
                to = to.max(seq);
                behind.pop_front();
            }
        }
        // A flush that began with nothing to cover ends after a batch whose own write was durable.
        if to <= self.core().log.watermark() {
            return;
        }
        self.core().log.raise_watermark(to);
        let mut names = self.names.borrow_mut();
        while names.front().is_some_and(|(seq, _)| *seq <= to) {
            if let Some((_, named)) = names.pop_front() {
                self.named_watermark.set(self.named_watermark.get().max(named));
            }
        }
    }

    /// The newest W that any batch names.
    pub(super) fn named_in_log(&self) -> BatchSeq {
        self.names.borrow().back().map_or(self.named_watermark.get(), |(_, named)| *named)
    }

    /// After the engine has been poisoned: everybody who waits is told.
    /// Returns whether anybody did.
    pub(super) fn fail_queue(&self, error: &Error) -> bool {
        let any = !self.queue.borrow().is_empty()
            || !self.held.borrow().is_empty()
            || !self.unflushed_acks.borrow().is_empty();
        self.release_held();
        for item in std::mem::take(&mut *self.queue.borrow_mut()) {
            self.forget(&item.effect);
            apply::fail(self.core(), item.effect, error);
        }
        for (_, ack) in std::mem::take(&mut *self.unflushed_acks.borrow_mut()) {
            ack.fail(self.core(), error);
        }
        if any {
            self.tell_if_stopping();
        }
        any
    }
}

/// Sets the locations of the buffers that ride in the batch; their bytes are live from now on.
/// Returns whether the record names data outside its batch.
fn place_inline(core: &Core, item: &mut Queued) -> bool {
    let mut external = matches!(item.effect, Effect::Move(_) | Effect::Share(_));
    for (new, def) in item.effect.new_buffers().iter_mut().zip(item.record.buffers()) {
        match new.source {
            Source::Inline(_) => {
                new.buffer.location = def.location;
                core.space.bytes_live(def.location, def.stored_len);
                // From here on the bytes are as if written apart: dead if the batch fails.
                let written = WrittenBytes::new(&core.space, def.location, def.stored_len);
                new.source = Source::Written(written);
            }
            Source::Written(_) | Source::Inherited => external = true,
        }
    }
    external
}

/// The record of a change, and the bytes that ride with it.
fn record_of(commit: &mut Commit) -> (Record, Vec<(usize, Payload)>) {
    let (bucket, version) = (commit.bucket, commit.version);
    let key: Box<[u8]> = (*commit.key).into();
    match &mut commit.change {
        Change::Delete => (Record::Delete { bucket, key, version }, Vec::new()),
        Change::Put { len, extents, buffers, .. } => {
            let (defs, payloads) = definitions(buffers);
            let (len, extents) = (*len, extents.clone());
            (Record::Put { bucket, key, version, len, extents, buffers: defs }, payloads)
        }
        Change::Paged { len, pages, .. } => {
            let (len, pages, cut) = (*len, pages.clone(), 0..VALUE_LEN_MAX);
            (Record::Paged { bucket, key, base: None, version, len, cut, pages }, Vec::new())
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
