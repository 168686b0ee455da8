//! Checkpoints: the logged state, written in partitions, in rotation.
//!
//! A step writes a few partitions and then a root that names the newest image of every
//! partition; a flush and a superblock make it count. The images of the last two roots are kept,
//! and the log since the older. The number of records since a step bounds what recovery replays.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use crate::error::{Error, ErrorKind, Result};
use crate::index::Index;
use crate::index::entry::Entry;
use crate::index::table::{RowView, to_record};
use crate::io::wait::Sender;
use crate::limits::{BLOCK, PARTITIONS, UNFLUSHED_MAX};
use crate::log::checkpoint::{
    BlobFacts, BufferEntry, PartitionEncoder, PartitionIdentity, PartitionView,
};
use crate::log::record::SegmentKind;
use crate::log::root::{PartitionRef, Root, SegmentEntry};
use crate::log::superblock::{Chunk, LogStart, RootRef, SUPERBLOCK_SLOTS, Superblock};
use crate::plant::{Plant, planted};
use crate::shard::flush::flush_all;
use crate::shard::io::ShardIo;
use crate::shard::log_owner::LogOwner;
use crate::tier::space::{Purpose, SegmentState};
use crate::types::{BatchSeq, BucketId, Location, Place, TierId, TierSegment};

/// Partitions per step.
const STEP_PARTITIONS: usize = 16;
/// Steps of a rotation.
pub const STEPS: u64 = (PARTITIONS / STEP_PARTITIONS) as u64;
/// Bytes of images that are gathered for one write. In between the shard does something else.
const GATHER_BYTES: usize = 256 << 10;
/// Records after which a step is due, in a small store.
const STEP_RECORDS_MIN: u64 = 4096;

/// What the checkpointer continues from.
#[derive(Default)]
pub struct CheckpointSeed {
    /// The newest image of each partition.
    pub partitions: Vec<PartitionRef>,
    /// Segments that the newest and the older root need.
    pub kept: [BTreeSet<TierSegment>; 2],
    /// Records replayed: they count towards the next step.
    pub records: u64,
    /// Bytes of the log replayed, likewise.
    pub log_bytes: u64,
    /// Segments of the last two copies.
    pub copies: [BTreeSet<TierSegment>; 2],
}

/// Where the next image goes.
struct MetaWriter {
    at: TierSegment,
    used: u64,
}

/// Bytes that have their place and are not written yet: images follow each other on the device,
/// and the small ones of a small store are not worth a write each.
pub(super) struct Gathered {
    tier: TierId,
    is_copy: bool,
    offset: u64,
    bytes: Vec<u8>,
}

impl Gathered {
    fn on(tier: TierId) -> Gathered {
        Gathered { tier, is_copy: false, offset: 0, bytes: Vec::new() }
    }

    /// Of copies, on another tier than the log's.
    pub(super) fn copy(tier: TierId) -> Gathered {
        Gathered { is_copy: true, ..Gathered::on(tier) }
    }

    pub(super) async fn write(&mut self, io: &ShardIo) -> Result<()> {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.is_empty() {
            return Ok(());
        }
        io.write_bytes(self.tier, self.offset, &bytes).await
    }
}

/// See the module.
pub struct Checkpointer {
    records: Cell<u64>,
    log_bytes: Cell<u64>,
    next: Cell<usize>,
    wanted: Cell<u64>,
    /// Who waits for all that is wanted.
    waiting: RefCell<Vec<Sender<Result<()>>>>,
    partitions: RefCell<Vec<PartitionRef>>,
    kept: RefCell<[BTreeSet<TierSegment>; 2]>,
    /// Segments taken since a root counted last.
    taken: RefCell<BTreeSet<TierSegment>>,
    writer: RefCell<Option<MetaWriter>>,
    copy_writer: RefCell<Option<MetaWriter>>,
}

impl Checkpointer {
    /// Continues a rotation.
    pub fn new(seed: CheckpointSeed) -> Checkpointer {
        let empty = PartitionRef { cut: BatchSeq(0), len: 0, crc: 0, chunks: Vec::new() };
        let mut partitions = seed.partitions;
        partitions.resize(PARTITIONS, empty);
        // The rotation goes on where the oldest image is: else a store that is opened for short
        // times only would write the same partitions for ever and never trim its log.
        let oldest = (0..PARTITIONS).min_by_key(|number| partitions[*number].cut).unwrap_or(0);
        let next = oldest / STEP_PARTITIONS * STEP_PARTITIONS;
        Checkpointer {
            records: Cell::new(seed.records),
            log_bytes: Cell::new(seed.log_bytes),
            next: Cell::new(next),
            wanted: Cell::new(0),
            waiting: RefCell::default(),
            partitions: RefCell::new(partitions),
            kept: RefCell::new(seed.kept),
            taken: RefCell::default(),
            writer: RefCell::new(None),
            copy_writer: RefCell::new(None),
        }
    }

    fn writer_for(&self, gathered: &Gathered) -> &RefCell<Option<MetaWriter>> {
        if gathered.is_copy { &self.copy_writer } else { &self.writer }
    }

    /// The copy under way has ended: the next begins in a new segment.
    pub(super) fn end_copy(&self) {
        *self.copy_writer.borrow_mut() = None;
    }

    /// Segments that the newest checkpoint lies in.
    pub(super) fn newest_segments(&self) -> u64 {
        self.kept.borrow()[0].len().max(1) as u64
    }

    /// Counts what a step will have to cover.
    pub fn count_records(&self, records: usize) {
        self.records.set(self.records.get() + records as u64);
    }

    /// Counts what a batch takes of the log.
    pub fn count_bytes(&self, bytes: u64) {
        self.log_bytes.set(self.log_bytes.get() + bytes);
    }

    /// Asks for this many steps, whatever is due.
    pub fn want(&self, steps: u64) {
        self.wanted.set(self.wanted.get().max(steps));
    }

    /// Tells those who wait that their steps are taken, once they are, or why they never will be.
    pub(super) fn answer(&self, failure: Option<&Error>) {
        if failure.is_none() && self.wanted.get() > 0 {
            return;
        }
        for reply in self.waiting.take() {
            reply.send(failure.map_or(Ok(()), |error| Err(error.clone())));
        }
    }

    /// Whether a step should be taken now.
    pub fn is_due(&self, owner: &LogOwner) -> bool {
        if self.wanted.get() > 0 {
            return true;
        }
        let blobs = owner.core().buckets.blob_count();
        let records_max = STEP_RECORDS_MIN.max(blobs / 2 / STEPS);
        self.records.get() >= records_max || self.log_bytes.get() >= owner.log_bytes_per_step()
    }
}

impl LogOwner {
    /// Takes two rotations: the older of the two checkpoints that are kept is a new one then too.
    pub(super) fn trim(&self, reply: Sender<Result<()>>) {
        self.checkpointer.waiting.borrow_mut().push(reply);
        self.checkpointer.want(2 * STEPS);
        self.stirred.wake_all();
    }

    /// Bytes of log after which a step is due: a rotation is done in half of the log's reserve.
    pub(super) fn log_bytes_per_step(&self) -> u64 {
        let tier = self.core().space.tier(self.tail.borrow().segment.tier);
        crate::tier::reserve::log_segments(tier.capacity, tier.segment_size) * tier.segment_size
            / 2
            / STEPS
    }

    /// Writes the next partitions and a root that counts. Of a step that fails only the images stay
    /// that the next root will name.
    pub(super) async fn checkpoint_step(self: &Rc<Self>) -> Result<()> {
        let result = self.try_checkpoint_step().await;
        self.free_unnamed();
        result
    }

    fn free_unnamed(&self) {
        let state = &self.checkpointer;
        let space = &self.core().space;
        let partitions = state.partitions.borrow();
        let chunks = partitions.iter().flat_map(|part| &part.chunks);
        let mut named: BTreeSet<TierSegment> =
            chunks.filter_map(|chunk| segment_of(space, chunk)).collect();
        named.extend(state.kept.borrow().iter().flatten());
        named.extend(state.writer.borrow().as_ref().map(|writer| writer.at));
        let mut taken = state.taken.borrow_mut();
        let unnamed: Vec<TierSegment> = taken.difference(&named).copied().collect();
        for at in unnamed {
            taken.remove(&at);
            space.free(at);
        }
    }

    async fn try_checkpoint_step(self: &Rc<Self>) -> Result<()> {
        let state = &self.checkpointer;
        state.wanted.set(state.wanted.get().saturating_sub(1));
        state.records.set(0);
        state.log_bytes.set(0);
        let tier = self.tail.borrow().segment.tier;
        let mut gathered = Gathered::on(tier);
        let first = state.next.get();
        let mut copies = self.begin_copies(first);
        let mut images = Vec::with_capacity(STEP_PARTITIONS);
        for partition in first..first + STEP_PARTITIONS {
            if self.core().unflushed_bytes() > UNFLUSHED_MAX / 2 {
                // This is the flush task: nobody else would.
                flush_all(self).await?;
            }
            let (cut, image) = self.encode_partition(partition)?;
            images.push(self.write_image(cut, &image, &mut gathered).await?);
            if let Some(copies) = &mut copies {
                self.copy_image(cut, &image, copies).await;
            }
        }
        // A root names images that are written, also the root of a later step if this one fails.
        gathered.write(&self.context.io).await?;
        if let Some(copies) = &mut copies {
            self.write_copies(copies).await;
        }
        for (partition, image) in (first..).zip(images) {
            state.partitions.borrow_mut()[partition] = image;
        }
        state.next.set((first + STEP_PARTITIONS) % PARTITIONS);
        let root = self.root()?;
        let bytes = root.encode()?;
        let chunks = self.write_chunks(&bytes, &mut gathered).await?;
        gathered.write(&self.context.io).await?;
        let is_early = planted(Plant::RootBeforeImages);
        if !is_early {
            flush_all(self).await?;
        }
        let root_ref =
            RootRef { seq: root.seq, len: bytes.len() as u64, crc: Root::crc_of(&bytes)?, chunks };
        let watermark = self.core().log.watermark();
        let outran =
            watermark < root.seq || root.partitions.iter().any(|part| part.cut > watermark);
        if outran && !is_early {
            return Err(Error::new(ErrorKind::Internal, "a checkpoint outran the watermark"));
        }
        let before = self.superblocks.borrow()[tier.index()].as_ref().map(|block| block.watermark);
        self.write_superblock(root.log_start, root_ref.clone()).await?;
        // Not the newest one's: should its slot rot, only the one before tells.
        self.named_watermark.set(self.named_watermark.get().max(before.unwrap_or_default()));
        self.release_superseded(&root, &root_ref);
        match copies {
            Some(copies) => self.end_copies(copies, &root).await,
            None => Ok(()),
        }
    }

    /// The image of a partition, exact at the batch applied last: nothing is applied meanwhile.
    fn encode_partition(&self, partition: usize) -> Result<(BatchSeq, Vec<u8>)> {
        let core = self.core();
        let late = planted(Plant::ImageClaimsLater);
        let cut = if late { self.tail.borrow().last_seq() } else { self.applied.get() };
        let identity =
            PartitionIdentity { store: core.settings.store, partition: partition as u16, cut };
        let mut encoder = PartitionEncoder::new(identity);
        for number in Index::stripes_of(partition) {
            let stripe = core.index.lock_number(number);
            let lacks = |entry: &&Entry| entry.claimed && planted(Plant::ImageLacksClaimed);
            for entry in stripe.iter().filter(|entry| !lacks(entry)) {
                let Some(state) = entry.logged_state() else { continue };
                let blob = BlobFacts {
                    bucket: entry.bucket,
                    key: &entry.key,
                    version: state.version,
                    len: state.len,
                    attributes: state.attributes.as_ref().map(|shared| &***shared),
                };
                if let Some(map) = state.paged() {
                    encoder.push_paged_blob(&blob, map.pages())?;
                    continue;
                }
                let defs: Vec<_> = state.lone().map(to_record).into_iter().collect();
                let extents = state.extents_in_memory();
                encoder.push_blob(&blob, &extents, &defs)?;
            }
        }
        let mut result = Ok(());
        core.table.for_each_in(partition, |RowView { buffer, named, is_page }| {
            let named = if planted(Plant::ImageLacksNames) { 0 } else { named };
            if !buffer.is_dirty() && result.is_ok() {
                result =
                    encoder.push_buffer(&BufferEntry { def: to_record(buffer), named, is_page });
            }
        });
        result?;
        Ok((cut, encoder.finish()))
    }

    pub(super) async fn write_image(
        &self,
        cut: BatchSeq,
        image: &[u8],
        gathered: &mut Gathered,
    ) -> Result<PartitionRef> {
        let crc = PartitionView::crc_of(image)?;
        let chunks = self.write_chunks(image, gathered).await?;
        Ok(PartitionRef { cut, len: image.len() as u64, crc, chunks })
    }

    /// Appends bytes to the metadata segments, each piece padded to whole blocks. Those that are
    /// not written when this returns are in `gathered`.
    pub(super) async fn write_chunks(
        &self,
        bytes: &[u8],
        gathered: &mut Gathered,
    ) -> Result<Vec<Chunk>> {
        let core = self.core();
        let tier_id = gathered.tier;
        let tier = core.space.tier(tier_id);
        let mut chunks = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (offset, room) = self.meta_room(gathered)?;
            let (now, later) = rest.split_at(rest.len().min(room as usize));
            rest = later;
            let follows = gathered.offset + gathered.bytes.len() as u64 == offset;
            if !follows || gathered.bytes.len() >= GATHER_BYTES {
                gathered.write(&self.context.io).await?;
                gathered.offset = offset;
            }
            gathered.bytes.extend_from_slice(now);
            let padded = gathered.bytes.len().next_multiple_of(BLOCK);
            gathered.bytes.resize(padded, 0);
            chunks
                .push(Chunk { location: Location::device(tier_id, offset), len: now.len() as u32 });
            if let Some(writer) = &mut *self.checkpointer.writer_for(gathered).borrow_mut() {
                writer.used += now.len().next_multiple_of(BLOCK) as u64;
                debug_assert!(writer.used <= tier.segment_size);
            }
        }
        Ok(chunks)
    }

    /// Where the next metadata bytes go, and how many fit there.
    fn meta_room(&self, gathered: &Gathered) -> Result<(u64, u64)> {
        let core = self.core();
        let tier_id = gathered.tier;
        let tier = core.space.tier(tier_id);
        let mut writer = self.checkpointer.writer_for(gathered).borrow_mut();
        if writer.as_ref().is_none_or(|writer| writer.used >= tier.segment_size) {
            // A copy leaves cleaning what is set aside for it.
            let refused =
                gathered.is_copy && tier.free_segments() <= tier.lacking_for_cleaning() as usize;
            let found = (!refused).then(|| core.space.allocate(tier_id, Purpose::Meta)).flatten();
            let Some(at) = found else {
                return Err(Error::new(
                    ErrorKind::NoSpace,
                    format!("tier {} has no segment left for a checkpoint", tier_id.0),
                ));
            };
            let generation = tier.segment(at.segment).generation();
            self.queue_segment_opened(at, generation, SegmentKind::Meta);
            match gathered.is_copy {
                true => self.copies.take(at),
                false => drop(self.checkpointer.taken.borrow_mut().insert(at)),
            }
            *writer = Some(MetaWriter { at, used: 0 });
        }
        match &*writer {
            Some(writer) => Ok((
                tier.offset_of(writer.at.segment) + writer.used,
                tier.segment_size - writer.used,
            )),
            None => unreachable!("a metadata segment was just opened"),
        }
    }

    /// The root as of now.
    fn root(&self) -> Result<Root> {
        let core = self.core();
        let tail = self.tail.borrow();
        let partitions = self.checkpointer.partitions.borrow().clone();
        let oldest = partitions.iter().map(|part| part.cut).min().unwrap_or_default();
        let late = tail.history.back().filter(|_| planted(Plant::LogBeginsLate));
        let Some(start) = late.or_else(|| tail.start_for(oldest.next())) else {
            return Err(Error::new(
                ErrorKind::Internal,
                format!("the log after {oldest:?} is gone"),
            ));
        };
        let (next_bucket, buckets) = core.buckets.for_root();
        // Before the counter: others open segments meanwhile, and the counter is to be above all.
        let segments = self.segments_in_use();
        Ok(Root {
            store: core.settings.store,
            seq: self.applied.get(),
            next_version: core.peek_version(),
            next_bucket: BucketId(next_bucket),
            next_generation: core.space.next_generation(),
            log_start: *start,
            buckets,
            segments,
            partitions,
        })
    }

    fn segments_in_use(&self) -> Vec<SegmentEntry> {
        let mut entries = Vec::new();
        for tier in self.core().space.tiers() {
            for (number, segment) in tier.segments().iter().enumerate() {
                let kind = match segment.state() {
                    SegmentState::Open | SegmentState::OpenForMoves | SegmentState::Sealed => {
                        SegmentKind::Data
                    }
                    SegmentState::Log => SegmentKind::Log,
                    SegmentState::Meta => SegmentKind::Meta,
                    SegmentState::Free | SegmentState::Fixed => continue,
                };
                let at =
                    TierSegment { tier: tier.id, segment: crate::types::SegmentId(number as u32) };
                entries.push(SegmentEntry { segment: at, generation: segment.generation(), kind });
            }
        }
        entries
    }

    /// Writes the log tier's next superblock and flushes it.
    pub(super) async fn write_superblock(&self, log_start: LogStart, root: RootRef) -> Result<()> {
        let tier = self.tail.borrow().segment.tier;
        let Some(before) = self.superblocks.borrow()[tier.index()].clone() else {
            return Err(Error::new(ErrorKind::Internal, "the log's tier has no superblock"));
        };
        let mut next = before.with_checkpoint(root, log_start, self.core().log.watermark());
        // A discarded batch may follow a kept one right at the start of the log that is kept.
        next.cuts.retain(|cut| cut.seq.next() >= before.log_start.seq);
        // If it cannot be written, the next attempt goes to the same slot: the other stays good.
        self.store_superblock(tier, &next).await?;
        self.superblocks.borrow_mut()[tier.index()] = Some(next);
        Ok(())
    }

    /// Writes a superblock; durable when this returns.
    pub(super) async fn store_superblock(&self, tier: TierId, block: &Superblock) -> Result<()> {
        let same = planted(Plant::OneSuperblockSlot);
        let offset = SUPERBLOCK_SLOTS[Superblock::slot_of(if same { 0 } else { block.generation })];
        let bytes = block.encode()?;
        let mut buf = self.context.io.memory(bytes.len());
        buf.as_mut_slice()[..bytes.len()].copy_from_slice(&bytes);
        self.context.io.write(tier, offset, bytes.len(), buf, true).await.map(drop)
    }

    /// Frees metadata segments that neither of the last two roots needs, and turns log segments
    /// that recovery will not read any more into data segments.
    fn release_superseded(&self, root: &Root, root_ref: &RootRef) {
        let core = self.core();
        let now = segments_of(core, root, root_ref);
        let mut kept = self.checkpointer.kept.borrow_mut();
        let [newest, older] = &mut *kept;
        let is_needed = |at: &TierSegment| {
            newest.contains(at) && !planted(Plant::ImagesFreedEarly) || now.contains(at)
        };
        let released: Vec<TierSegment> =
            older.iter().filter(|at| !is_needed(at)).copied().collect();
        *older = std::mem::replace(newest, now);
        let writing = self.checkpointer.writer.borrow().as_ref().map(|writer| writer.at);
        released.into_iter().filter(|at| Some(*at) != writing).for_each(|at| core.space.free(at));
        self.checkpointer.taken.borrow_mut().retain(|at| !newest.contains(at));
        let images = root.partitions.iter().map(|part| part.len).chain([root_ref.len]);
        let bytes = images.map(|len| len.next_multiple_of(BLOCK as u64)).sum();
        crate::tier::reserve::apply(core.space.tier(root.log_start.segment.tier), bytes);
        // The checkpoint before still needs the log from its own start on.
        let log_tier = root.log_start.segment.tier;
        let superblocks = self.superblocks.borrow();
        let named = superblocks[log_tier.index()].as_ref();
        if let Some(previous) = named.and_then(|superblock| superblock.previous.as_ref()) {
            for at in self.tail.borrow_mut().forget_before(previous.log_start.seq) {
                core.space.seal(at, core.runtime.now().0);
            }
            core.organizer.kick();
        }
    }
}

/// The metadata segments that a root and its images lie in.
pub fn segments_of(
    core: &crate::core::Core,
    root: &Root,
    root_ref: &RootRef,
) -> BTreeSet<TierSegment> {
    let images = root.partitions.iter().flat_map(|part| &part.chunks);
    images.chain(&root_ref.chunks).filter_map(|chunk| segment_of(&core.space, chunk)).collect()
}

/// The segment a chunk lies in; `None` if that is no place of the store.
pub fn segment_of(space: &crate::tier::space::Space, chunk: &Chunk) -> Option<TierSegment> {
    match chunk.location.place() {
        Place::Device { tier, offset } => {
            let facts = space.tiers().get(tier.index())?;
            // Before it is narrowed to a number.
            let is_inside = offset / facts.segment_size < facts.segments().len() as u64;
            is_inside.then(|| TierSegment { tier, segment: facts.segment_at(offset) })
        }
        Place::Dram(_) => None,
    }
}
