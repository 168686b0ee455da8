//! Opening a store that has been used: from checkpoint and log to the logged state.
//!
//! 1. The newest superblock of the log's tier names the newest checkpoint root and the log's
//!    start. A damaged root or image falls back to the older superblock's.
//! 2. The log is read to its end ([`scan`]). A bad batch at or below the durable watermark W is
//!    corruption; above W the log is cut at the first batch that is bad or whose data did not
//!    land.
//! 3. Records apply above the cut of the partition they concern ([`Replay`]).
//! 4. Counts, live bytes and the states of segments are derived from what the index holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::buckets::Buckets;
use crate::error::{Error, ErrorKind, Result, fail};
use crate::index::Index;
use crate::index::entry::Logged;
use crate::index::extents::{self, Extent};
use crate::index::state::{BlobState, Buffer, Map, Value, is_lone, whole};
use crate::index::table::{BufferTable, from_record};
use crate::io::Devices;
use crate::io::buffer::AlignedBuf;
use crate::limits::{BLOCK, PARTITIONS};
use crate::log::batch::BatchView;
use crate::log::checkpoint::{PartitionIdentity, PartitionView};
use crate::log::record::{BufferDef, MoveSubject, Record, SegmentKind};
use crate::log::root::{PartitionRef, Root};
use crate::log::scan::{Landing, LogExpect, Scan, scan};
use crate::log::superblock::{Chunk, RootRef, Superblock};
use crate::log::tail::LogTail;
use crate::shard::checkpoint::{CheckpointSeed, segment_of};
use crate::tier::space::{SegmentState, Space};
use crate::types::{BatchSeq, BucketId, BufferId, Location, Place, TierId, TierSegment, Version};

/// What recovery works on: all of it empty.
pub struct Target<'a> {
    /// The tiers' files, flushed before anything is read.
    pub devices: &'a Devices,
    /// Segments, all free.
    pub space: &'a Arc<Space>,
    /// Buffers.
    pub table: &'a Arc<BufferTable>,
    /// Keys.
    pub index: &'a Index,
    /// Buckets.
    pub buckets: &'a Buckets,
}

/// What recovery found.
pub struct Recovered {
    /// Where the log goes on.
    pub tail: LogTail,
    /// What the checkpointer continues from.
    pub checkpoints: CheckpointSeed,
    /// The superblock that all this is from: not the newest if its checkpoint is damaged.
    pub superblock: Superblock,
    /// Batches of the log that were read.
    pub batches: usize,
    /// Batches that were discarded.
    pub discarded: usize,
}

/// Fills the target. `superblocks` are those of the log's tier, newest first.
pub fn recover(
    target: &Target<'_>,
    log_tier: TierId,
    superblocks: &[Superblock],
) -> Result<Recovered> {
    let mut first_error = None;
    for superblock in superblocks {
        match load_checkpoint(target, superblock) {
            Ok(replay) => return replay_log(target, log_tier, superblock, superblocks, replay),
            Err(error) if superblock.checkpoint.is_some() => {
                first_error.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(first_error.unwrap_or_else(|| Error::new(ErrorKind::Corrupt, "there is no superblock")))
}

fn replay_log(
    target: &Target<'_>,
    log_tier: TierId,
    superblock: &Superblock,
    superblocks: &[Superblock],
    mut replay: Replay,
) -> Result<Recovered> {
    let segment_size = superblock.segment_size;
    let device = &target.devices[log_tier.index()];
    let expect = LogExpect {
        store: superblock.store,
        device_uuid: superblock.device,
        epoch: superblock.epoch,
        cuts: &superblock.cuts,
        segment_size,
        clean: superblock.clean,
    };
    let mut log = scan(&**device, superblock.log_start, &expect)?;
    let named = superblocks.iter().map(|block| block.watermark).max().unwrap_or_default();
    let watermark = log.watermark.max(named);
    check_end(&log, watermark, log_tier)?;
    let found = log.batches.len();
    let mut records = 0;
    let mut not_landed = None;
    {
        let mut landing = Landing::new(target.devices);
        for (at, batch) in log.batches.iter().enumerate() {
            if batch.identity.seq > watermark && !replay.has_landed(batch, &mut landing)? {
                not_landed = Some(at);
                break;
            }
            for record in batch.records() {
                replay.apply(batch.identity.seq, record.clone())?;
                records += 1;
            }
        }
    }
    if let Some(at) = not_landed {
        log.cut(at, segment_size);
    }
    let log_bytes = log.batches.iter().map(|batch| u64::from(batch.shape.total_len)).sum();
    let (kept, tail) = (log.batches.len(), log.tail);
    let kept_segments = [replay.kept.clone(), kept_by_other(target, superblock, superblocks)];
    let partitions = replay.partitions.clone();
    replay.finish(target, log_tier, &tail, &kept_segments)?;
    let checkpoints = CheckpointSeed { partitions, kept: kept_segments, records, log_bytes };
    let superblock = superblock.clone();
    Ok(Recovered { tail, checkpoints, superblock, batches: kept, discarded: found - kept })
}

/// A log that ends at or below what was flushed has lost batches that were acknowledged.
fn check_end(log: &Scan, watermark: BatchSeq, tier: TierId) -> Result<()> {
    if log.tail.last_seq() >= watermark {
        return Ok(());
    }
    let place = format!(
        "batch {} of the log, segment {} of tier {}, offset {}",
        log.tail.next_seq.0, log.tail.segment.segment.0, tier.0, log.tail.used
    );
    let detail = log.fault.to_error(place);
    fail!(
        Corrupt,
        "the log was flushed up to batch {} and cannot be read beyond {}: {}",
        watermark.0,
        log.tail.last_seq().0,
        detail.message()
    );
}

/// Segments of the other superblock's checkpoint: it stays readable until the next but one.
fn kept_by_other(
    target: &Target<'_>,
    used: &Superblock,
    all: &[Superblock],
) -> BTreeSet<TierSegment> {
    let other = all.iter().find(|block| block.generation != used.generation);
    let Some(root_ref) = other.and_then(|block| block.checkpoint.as_ref()) else {
        return BTreeSet::new();
    };
    let Ok(root) = load_root(target, used, root_ref) else { return BTreeSet::new() };
    segments_named(target.space, &root, root_ref)
}

fn segments_named(space: &Space, root: &Root, root_ref: &RootRef) -> BTreeSet<TierSegment> {
    let images = root.partitions.iter().flat_map(|part| &part.chunks);
    images.chain(&root_ref.chunks).filter_map(|chunk| segment_of(space, chunk)).collect()
}

/// A blob as it is rebuilt.
struct Staged {
    version: Version,
    len: u64,
    extents: Vec<Extent>,
    /// The buffer, if it is the whole value and no table holds it.
    lone: Option<BufferDef>,
}

/// The logged state while records are applied to it.
struct Replay {
    root_seq: BatchSeq,
    partitions: Vec<PartitionRef>,
    kept: BTreeSet<TierSegment>,
    blobs: HashMap<(BucketId, Box<[u8]>), Staged>,
    rows: HashMap<BufferId, BufferDef>,
    buckets: BTreeMap<BucketId, (Box<[u8]>, crate::log::record::BucketRecord)>,
    buckets_used: BucketId,
    segments: BTreeMap<TierSegment, (u32, SegmentKind)>,
    next_generation: u32,
    seed: u64,
}

fn load_root(target: &Target<'_>, superblock: &Superblock, root_ref: &RootRef) -> Result<Root> {
    let bytes = read_chunks(target, &root_ref.chunks, root_ref.len)?;
    if Root::crc_of(&bytes)? != root_ref.crc {
        fail!(Corrupt, "the checkpoint root is not the one that the superblock names");
    }
    Root::decode(&bytes, superblock.store)
}

fn load_checkpoint(target: &Target<'_>, superblock: &Superblock) -> Result<Replay> {
    let empty = PartitionRef { cut: BatchSeq(0), len: 0, crc: 0, chunks: Vec::new() };
    let mut replay = Replay {
        root_seq: BatchSeq(0),
        partitions: vec![empty; PARTITIONS],
        kept: BTreeSet::new(),
        blobs: HashMap::new(),
        rows: HashMap::new(),
        buckets: BTreeMap::new(),
        buckets_used: BucketId(0),
        segments: BTreeMap::new(),
        next_generation: 1,
        seed: superblock.hash_seed,
    };
    let Some(root_ref) = &superblock.checkpoint else { return Ok(replay) };
    let root = load_root(target, superblock, root_ref)?;
    if root.partitions.len() != PARTITIONS {
        fail!(
            Format,
            "a checkpoint of {} partitions, this version has {PARTITIONS}",
            root.partitions.len()
        );
    }
    replay.kept = segments_named(target.space, &root, root_ref);
    for (number, part) in root.partitions.iter().enumerate() {
        if !part.chunks.is_empty() {
            replay.load_partition(target, superblock, number, part)?;
        }
    }
    replay.root_seq = root.seq;
    replay.next_generation = root.next_generation;
    replay.buckets_used = BucketId(root.next_bucket.0.saturating_sub(1));
    replay.segments =
        root.segments.iter().map(|entry| (entry.segment, (entry.generation, entry.kind))).collect();
    replay.buckets =
        root.buckets.into_iter().map(|entry| (entry.bucket, (entry.name, entry.options))).collect();
    replay.partitions = root.partitions;
    Ok(replay)
}

/// Bytes that lie in chunks.
fn read_chunks(target: &Target<'_>, chunks: &[Chunk], len: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    for chunk in chunks {
        let Place::Device { tier, offset } = chunk.location.place() else {
            fail!(Corrupt, "a checkpoint chunk lies in DRAM");
        };
        let Some(device) = target.devices.get(tier.index()) else {
            fail!(Corrupt, "a checkpoint chunk lies on tier {}, which does not exist", tier.0);
        };
        // Exactly the chunk: images are small, and there are hundreds.
        let blocks = (chunk.len as usize).next_multiple_of(BLOCK);
        let mut buf = AlignedBuf::alloc(blocks);
        let read = device.read_at(offset, &mut buf.as_mut_slice()[..blocks]);
        read.map_err(|error| {
            Error::from_io(format!("checkpoint chunk at {offset} of tier {}", tier.0), &error)
        })?;
        bytes.extend_from_slice(&buf.as_slice()[..chunk.len as usize]);
    }
    if bytes.len() as u64 != len {
        fail!(Corrupt, "a checkpoint of {len} bytes has {} in its chunks", bytes.len());
    }
    Ok(bytes)
}

impl Replay {
    fn load_partition(
        &mut self,
        target: &Target<'_>,
        superblock: &Superblock,
        number: usize,
        part: &PartitionRef,
    ) -> Result<()> {
        let bytes = read_chunks(target, &part.chunks, part.len)?;
        let identity =
            PartitionIdentity { store: superblock.store, partition: number as u16, cut: part.cut };
        let view = PartitionView::decode(&bytes, &identity)?;
        if view.crc() != part.crc {
            fail!(
                Corrupt,
                "partition {number} of the checkpoint is not the one that the root names"
            );
        }
        for blob in view.blobs() {
            let blob = blob?;
            let lone = blob.buffers.into_iter().next();
            let staged =
                Staged { version: blob.version, len: blob.len, extents: blob.extents, lone };
            self.blobs.insert((blob.bucket, blob.key.into()), staged);
        }
        for def in view.buffers() {
            let def = def?;
            self.rows.insert(def.id, def);
        }
        Ok(())
    }

    /// Whether the partition of a key is older than batch `seq`.
    fn concerns_key(&self, seq: BatchSeq, bucket: BucketId, key: &[u8]) -> bool {
        let hash = Index::hash_with(self.seed, bucket, key);
        seq > self.partitions[Index::partition(hash)].cut
    }

    fn concerns_buffer(&self, seq: BatchSeq, id: BufferId) -> bool {
        seq > self.partitions[id.0 as usize % PARTITIONS].cut
    }

    fn define(&mut self, seq: BatchSeq, buffers: &[BufferDef]) {
        for def in buffers {
            if self.concerns_buffer(seq, def.id) {
                self.rows.insert(def.id, def.clone());
            }
        }
    }

    fn apply(&mut self, seq: BatchSeq, record: Record) -> Result<()> {
        match record {
            Record::Put { bucket, key, version, len, extents, mut buffers } => {
                self.define(seq, &buffers);
                if self.concerns_key(seq, bucket, &key) {
                    let lone = match &buffers[..] {
                        [only] if is_lone(&extents, &from_record(only), len) => buffers.pop(),
                        _ => None,
                    };
                    self.blobs.insert((bucket, key), Staged { version, len, extents, lone });
                }
            }
            Record::Splice { bucket, key, base, version, len, cut, extents, buffers } => {
                self.define(seq, &buffers);
                if self.concerns_key(seq, bucket, &key) {
                    self.splice(
                        seq,
                        bucket,
                        key,
                        base,
                        Staged { version, len, extents, lone: None },
                        cut,
                    )?;
                }
            }
            Record::Delete { bucket, key, .. } => {
                if self.concerns_key(seq, bucket, &key) {
                    self.blobs.remove(&(bucket, key));
                }
            }
            Record::Move { subject, from, to } => self.relocate(seq, &subject, from, to),
            Record::BucketCreate { bucket, name, options } => {
                self.buckets_used = self.buckets_used.max(bucket);
                if seq > self.root_seq {
                    self.buckets.insert(bucket, (name, options));
                }
            }
            Record::BucketDestroy { bucket } => {
                if seq > self.root_seq {
                    self.buckets.remove(&bucket);
                }
            }
            Record::SegmentOpen { segment, generation, kind } => {
                self.next_generation = self.next_generation.max(generation + 1);
                if seq > self.root_seq {
                    self.segments.insert(segment, (generation, kind));
                }
            }
            Record::SegmentFree { .. } | Record::Marker => {}
        }
        Ok(())
    }

    fn splice(
        &mut self,
        seq: BatchSeq,
        bucket: BucketId,
        key: Box<[u8]>,
        base: Version,
        new: Staged,
        cut: std::ops::Range<u64>,
    ) -> Result<()> {
        let before = self.blobs.get(&(bucket, key.clone()));
        if before.map(|staged| staged.version) != Some(base) {
            fail!(
                Corrupt,
                "batch {} changes version {} of a blob, recovery has version {:?}",
                seq.0,
                base.0,
                before.map(|staged| staged.version.0)
            );
        }
        let old = before.map_or(&[][..], |staged| &staged.extents);
        let extents = extents::splice(old, cut, &new.extents, new.len);
        self.blobs.insert((bucket, key), Staged { extents, ..new });
        Ok(())
    }

    /// Whether all data that a batch names has reached its device: the buffers it defines, and the
    /// copies that its moves lead to.
    fn has_landed(&mut self, batch: &BatchView, landing: &mut Landing<'_>) -> Result<bool> {
        for record in batch.records() {
            for def in record.buffers() {
                if !landing.has(def)? {
                    return Ok(false);
                }
            }
            if let Record::Move { subject, from, to } = record
                && let Some(def) = self.definition(batch.identity.seq, subject, *from)
                && !landing.has(&BufferDef { location: *to, ..def.clone() })?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The definition that a move changes; `None` if the buffer is gone or elsewhere.
    fn definition(
        &mut self,
        seq: BatchSeq,
        subject: &MoveSubject,
        from: Location,
    ) -> Option<&mut BufferDef> {
        let def = match subject {
            MoveSubject::Table { buffer } if self.concerns_buffer(seq, *buffer) => {
                self.rows.get_mut(buffer)
            }
            MoveSubject::Lone { bucket, key, buffer } if self.concerns_key(seq, *bucket, key) => {
                self.blobs
                    .get_mut(&(*bucket, key.clone()))
                    .and_then(|staged| staged.lone.as_mut())
                    .filter(|lone| lone.id == *buffer)
            }
            _ => None,
        };
        def.filter(|def| def.location == from)
    }

    fn relocate(&mut self, seq: BatchSeq, subject: &MoveSubject, from: Location, to: Location) {
        if let Some(def) = self.definition(seq, subject, from) {
            def.location = to;
        }
    }

    /// Builds the index and everything derived from it.
    fn finish(
        self,
        target: &Target<'_>,
        log_tier: TierId,
        tail: &LogTail,
        kept: &[BTreeSet<TierSegment>; 2],
    ) -> Result<()> {
        target.buckets.raise_ids(self.buckets_used);
        for (id, (name, options)) in &self.buckets {
            target.buckets.insert(*id, name, *options);
        }
        // The order of a hash map differs from run to run; the simulator must not.
        let mut rows: Vec<_> = self.rows.into_values().collect();
        rows.sort_unstable_by_key(|def| def.id);
        rows.iter().for_each(|def| target.table.define(from_record(def)));
        let mut blobs: Vec<_> = self.blobs.into_iter().collect();
        blobs.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for ((bucket, key), staged) in blobs {
            if self.buckets.contains_key(&bucket) {
                insert_blob(target, bucket, key, staged)?;
            }
        }
        target.table.forget_uncounted();
        count_live_rows(target);
        let in_log = tail.history.iter().map(|start| start.generation + 1);
        let ahead = tail.ahead.map(|ahead| ahead.generation + 1);
        let next = in_log.chain(ahead).max().unwrap_or(1).max(self.next_generation);
        target.space.raise_generation(next);
        restore_segments(target.space, log_tier, &self.segments, tail, kept);
        Ok(())
    }
}

fn insert_blob(
    target: &Target<'_>,
    bucket: BucketId,
    key: Box<[u8]>,
    staged: Staged,
) -> Result<()> {
    let value = match staged.lone {
        Some(def) => {
            let buffer: Buffer = from_record(&def);
            check_place(target.space, &buffer)?;
            target.space.bytes_live(buffer.location, buffer.stored_len);
            debug_assert_eq!(staged.extents, [whole(&buffer)]);
            Value::Lone(buffer)
        }
        None if staged.extents.is_empty() => Value::Zeros,
        None => {
            for extent in &staged.extents {
                if target.table.get(extent.buffer).is_none() {
                    fail!(
                        Corrupt,
                        "a blob names buffer {}, which no record defines",
                        extent.buffer.0
                    );
                }
            }
            Value::Mapped(Arc::new(Map::new(staged.extents, target.table)))
        }
    };
    let state = BlobState { version: staged.version, len: staged.len, value };
    let hash = target.index.hash(bucket, &key);
    let mut stripe = target.index.lock(hash);
    let entry = target.index.get_or_insert(&mut stripe, hash, bucket, &key);
    target.buckets.note_change(bucket, &entry.key, &entry.visible, &state);
    entry.visible = state;
    entry.logged = Logged::Same;
    Ok(())
}

fn check_place(space: &Space, buffer: &Buffer) -> Result<()> {
    let inside = match buffer.location.place() {
        Place::Device { tier, offset } => space.tiers().get(tier.index()).is_some_and(|tier| {
            offset >= tier.segment_size
                && offset
                    .checked_add(u64::from(buffer.stored_len))
                    .is_some_and(|end| end <= tier.capacity)
        }),
        Place::Dram(_) => false,
    };
    if !inside {
        fail!(
            Corrupt,
            "buffer {} lies at {:?}, which is no place of this store",
            buffer.id.0,
            buffer.location
        );
    }
    Ok(())
}

fn count_live_rows(target: &Target<'_>) {
    for shard in 0..PARTITIONS {
        target.table.for_each_in(shard, |buffer| {
            target.space.bytes_live(buffer.location, buffer.stored_len);
        });
    }
}

/// What every segment is, from what lies in it.
fn restore_segments(
    space: &Space,
    log_tier: TierId,
    known: &BTreeMap<TierSegment, (u32, SegmentKind)>,
    tail: &LogTail,
    kept: &[BTreeSet<TierSegment>; 2],
) {
    let mut log: BTreeSet<TierSegment> = tail.history.iter().map(|start| start.segment).collect();
    log.insert(tail.segment);
    log.extend(tail.ahead.map(|ahead| TierSegment { tier: log_tier, segment: ahead.segment }));
    for tier in space.tiers() {
        for number in 1..tier.segments().len() {
            let at = TierSegment { tier: tier.id, segment: crate::types::SegmentId(number as u32) };
            let of_log = tail.history.iter().find(|start| start.segment == at);
            let generation = of_log.map_or(0, |start| start.generation);
            let generation = known.get(&at).map_or(generation, |(known, _)| generation.max(*known));
            let state = if log.contains(&at) {
                SegmentState::Log
            } else if kept.iter().any(|segments| segments.contains(&at)) {
                SegmentState::Meta
            } else if tier.segment(at.segment).live_bytes() > 0 {
                SegmentState::Sealed
            } else {
                SegmentState::Free
            };
            space.restore(at, state, generation);
        }
    }
}
