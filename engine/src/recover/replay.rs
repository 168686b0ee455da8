//! The logged state while records are applied to it.
//!
//! Blobs stand in the index, buffers in the table, as they will when the store runs, with two
//! exceptions: maps are lists of extents until every buffer they may name is known, and nothing
//! is counted as live yet. Partitions do not depend on each other: a lane applies to its own what
//! concerns them, in the log's order.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashTable;
use parking_lot::Mutex;

use crate::error::{Result, fail};
use crate::index::Index;
use crate::index::entry::Logged;
use crate::index::extents::{self, Extent};
use crate::index::state::{BlobState, Buffer, Value, is_lone, whole};
use crate::index::table::{BufferTable, from_record};
use crate::io::runtime::Runtime;
use crate::limits::PARTITIONS;
use crate::log::batch::BatchView;
use crate::log::record::{BucketRecord, BufferDef, MoveSubject, Record, SegmentKind};
use crate::log::root::PartitionRef;
use crate::log::scan::Landing;
use crate::recover::Target;
use crate::types::{BatchSeq, BucketId, BufferId, Location, TierSegment, Version};

/// Records that are worth more than one thread.
const PARALLEL_MIN: usize = 8192;

/// What a blob's value is, as long as the buffers of maps are not all known.
pub(super) enum Content {
    Zeros,
    Lone(Buffer),
    Mapped(Vec<Extent>),
}

/// A blob as a record or an image describes it.
pub(super) struct Blob {
    pub version: Version,
    pub len: u64,
    pub value: Content,
}

/// The map of a blob that will have one.
pub(super) struct StagedMap {
    pub hash: u64,
    pub bucket: BucketId,
    pub key: Arc<[u8]>,
    pub extents: Vec<Extent>,
}

impl StagedMap {
    fn is(&self, hash: u64, bucket: BucketId, key: &[u8]) -> bool {
        self.hash == hash && self.bucket == bucket && *self.key == *key
    }
}

/// The partitions that one thread takes care of.
#[derive(Clone, Copy)]
struct Lane {
    number: usize,
    count: usize,
}

impl Lane {
    const ALL: Lane = Lane { number: 0, count: 1 };

    fn has(self, partition: usize) -> bool {
        partition % self.count == self.number
    }
}

/// See the module.
pub(super) struct Replay<'a> {
    index: &'a Index,
    table: &'a BufferTable,
    /// The buckets and segments are those after this batch.
    pub root_seq: BatchSeq,
    /// The image that each partition was loaded from.
    pub partitions: Vec<PartitionRef>,
    /// Segments that the checkpoint lies in.
    pub kept: BTreeSet<TierSegment>,
    /// By partition.
    pub maps: Vec<Mutex<HashTable<StagedMap>>>,
    pub buckets: BTreeMap<BucketId, (Box<[u8]>, BucketRecord)>,
    pub buckets_used: BucketId,
    pub segments: BTreeMap<TierSegment, (u32, SegmentKind)>,
    pub next_generation: u32,
}

impl<'a> Replay<'a> {
    /// Nothing yet, with these cuts.
    pub fn new(target: &Target<'a>, partitions: Vec<PartitionRef>) -> Replay<'a> {
        Replay {
            index: target.index,
            table: target.table,
            root_seq: BatchSeq(0),
            partitions,
            kept: BTreeSet::new(),
            maps: (0..PARTITIONS).map(|_| Mutex::default()).collect(),
            buckets: BTreeMap::new(),
            buckets_used: BucketId(0),
            segments: BTreeMap::new(),
            next_generation: 1,
        }
    }

    // ---- blobs ----------------------------------------------------------------------------

    /// The new state of a blob.
    pub fn put(&self, hash: u64, bucket: BucketId, key: &[u8], blob: Blob) {
        let mut stripe = self.index.lock(hash);
        let entry = self.index.get_or_insert(&mut stripe, hash, bucket, key);
        let mut maps = self.maps[Index::partition(hash)].lock();
        if let Ok(old) = maps.find_entry(hash, |map| map.is(hash, bucket, key)) {
            old.remove();
        }
        let value = match blob.value {
            Content::Zeros => Value::Zeros,
            Content::Lone(buffer) => Value::Lone(buffer),
            Content::Mapped(extents) => {
                let map = StagedMap { hash, bucket, key: entry.key.clone(), extents };
                maps.insert_unique(hash, map, |map| map.hash);
                Value::Zeros
            }
        };
        entry.visible = BlobState { version: blob.version, len: blob.len, value };
        entry.logged = Logged::Same;
    }

    fn remove(&self, hash: u64, bucket: BucketId, key: &[u8], version: Version) {
        let mut stripe = self.index.lock(hash);
        if let Some(entry) = stripe.get(hash, bucket, key) {
            entry.visible = BlobState::absent(version);
            self.index.remove_if_vacant(&mut stripe, hash, bucket, key);
        }
        let mut maps = self.maps[Index::partition(hash)].lock();
        if let Ok(old) = maps.find_entry(hash, |map| map.is(hash, bucket, key)) {
            old.remove();
        }
    }

    /// Version and extents of a blob.
    fn state(&self, hash: u64, bucket: BucketId, key: &[u8]) -> Option<(Version, Vec<Extent>)> {
        let mut stripe = self.index.lock(hash);
        let entry = stripe.get(hash, bucket, key)?;
        let maps = self.maps[Index::partition(hash)].lock();
        let extents = match entry.visible.lone() {
            Some(lone) => vec![whole(lone)],
            None => maps
                .find(hash, |map| map.is(hash, bucket, key))
                .map_or_else(Vec::new, |map| map.extents.clone()),
        };
        Some((entry.visible.version, extents))
    }

    // ---- records --------------------------------------------------------------------------

    /// Applies batches whose data is known to have landed.
    pub fn apply_all(&mut self, runtime: &Runtime, batches: &[BatchView]) -> Result<()> {
        for batch in batches {
            for record in batch.records() {
                self.apply_to_tables(batch.identity.seq, record);
            }
        }
        let records: usize = batches.iter().map(|batch| batch.records().len()).sum();
        if records < PARALLEL_MIN {
            return self.apply_lane(Lane::ALL, batches);
        }
        let (this, count) = (&*self, runtime.lanes());
        runtime.in_parallel(count, &|number| this.apply_lane(Lane { number, count }, batches))
    }

    fn apply_lane(&self, lane: Lane, batches: &[BatchView]) -> Result<()> {
        for batch in batches {
            for record in batch.records() {
                self.apply(lane, batch.identity.seq, record)?;
            }
        }
        Ok(())
    }

    /// The hash of a key, if its partition is of this lane and older than batch `seq`.
    fn concerns(&self, lane: Lane, seq: BatchSeq, bucket: BucketId, key: &[u8]) -> Option<u64> {
        let hash = self.index.hash(bucket, key);
        let partition = Index::partition(hash);
        (lane.has(partition) && seq > self.partitions[partition].cut).then_some(hash)
    }

    fn concerns_buffer(&self, lane: Lane, seq: BatchSeq, id: BufferId) -> bool {
        let partition = self.table.shard_of(id);
        lane.has(partition) && seq > self.partitions[partition].cut
    }

    fn define(&self, lane: Lane, seq: BatchSeq, buffers: &[BufferDef]) {
        for def in buffers {
            if self.concerns_buffer(lane, seq, def.id) {
                self.table.load(from_record(def));
            }
        }
    }

    fn apply(&self, lane: Lane, seq: BatchSeq, record: &Record) -> Result<()> {
        match record {
            Record::Put { bucket, key, version, len, extents, buffers } => {
                // A lone buffer stands with its blob; the record that makes it a part of a map
                // will define it.
                let lone = lone_of(extents, buffers, *len);
                if lone.is_none() {
                    self.define(lane, seq, buffers);
                }
                if let Some(hash) = self.concerns(lane, seq, *bucket, key) {
                    let value = lone.map_or_else(|| Content::of(extents.clone()), Content::Lone);
                    self.put(hash, *bucket, key, Blob { version: *version, len: *len, value });
                }
            }
            Record::Splice { bucket, key, base, version, len, cut, extents, buffers } => {
                self.define(lane, seq, buffers);
                if let Some(hash) = self.concerns(lane, seq, *bucket, key) {
                    let old = self.state(hash, *bucket, key);
                    let extents = spliced(seq, old, *base, cut.clone(), extents, *len)?;
                    let value = Content::of(extents);
                    self.put(hash, *bucket, key, Blob { version: *version, len: *len, value });
                }
            }
            Record::Delete { bucket, key, version } => {
                if let Some(hash) = self.concerns(lane, seq, *bucket, key) {
                    self.remove(hash, *bucket, key, *version);
                }
            }
            Record::Move { subject, from, to } => {
                self.with_buffer(lane, seq, subject, *from, |buffer| buffer.location = *to);
            }
            Record::BucketCreate { .. }
            | Record::BucketDestroy { .. }
            | Record::SegmentOpen { .. }
            | Record::SegmentFree { .. }
            | Record::Marker => {}
        }
        Ok(())
    }

    /// What a record changes apart from blobs and buffers.
    fn apply_to_tables(&mut self, seq: BatchSeq, record: &Record) {
        match record {
            Record::BucketCreate { bucket, name, options } => {
                self.buckets_used = self.buckets_used.max(*bucket);
                if seq > self.root_seq {
                    self.buckets.insert(*bucket, (name.clone(), *options));
                }
            }
            Record::BucketDestroy { bucket } if seq > self.root_seq => {
                self.buckets.remove(bucket);
            }
            Record::SegmentOpen { segment, generation, kind } => {
                self.next_generation = self.next_generation.max(generation + 1);
                if seq > self.root_seq {
                    self.segments.insert(*segment, (*generation, *kind));
                }
            }
            _ => {}
        }
    }

    // ---- buffers --------------------------------------------------------------------------

    /// Whether all data that a batch names has reached its device: the buffers it defines, and the
    /// copies that its moves lead to.
    pub fn has_landed(&self, batch: &BatchView, landing: &mut Landing<'_>) -> Result<bool> {
        for record in batch.records() {
            for def in record.buffers() {
                if !landing.has(def.location, def.stored_len, &def.checks)? {
                    return Ok(false);
                }
            }
            let Record::Move { subject, from, to } = record else { continue };
            let seq = batch.identity.seq;
            let moved = self.with_buffer(Lane::ALL, seq, subject, *from, |buffer| buffer.clone());
            if let Some(moved) = moved
                && !landing.has(*to, moved.stored_len, moved.checks.as_slice())?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Works on the buffer that a move changes; `None` if it is gone or elsewhere.
    fn with_buffer<T>(
        &self,
        lane: Lane,
        seq: BatchSeq,
        subject: &MoveSubject,
        from: Location,
        work: impl FnOnce(&mut Buffer) -> T,
    ) -> Option<T> {
        match subject {
            MoveSubject::Table { buffer } => {
                if !self.concerns_buffer(lane, seq, *buffer) {
                    return None;
                }
                self.table
                    .with_row(*buffer, |buffer| (buffer.location == from).then(|| work(buffer)))?
            }
            MoveSubject::Lone { bucket, key, buffer } => {
                let hash = self.concerns(lane, seq, *bucket, key)?;
                let mut stripe = self.index.lock(hash);
                match &mut stripe.get(hash, *bucket, key)?.visible.value {
                    Value::Lone(lone) if lone.id == *buffer && lone.location == from => {
                        Some(work(lone))
                    }
                    _ => None,
                }
            }
        }
    }
}

impl Content {
    /// A value without a buffer of its own.
    pub fn of(extents: Vec<Extent>) -> Content {
        if extents.is_empty() { Content::Zeros } else { Content::Mapped(extents) }
    }
}

/// The buffer that alone is the whole value, if there is one.
pub(super) fn lone_of(extents: &[Extent], buffers: &[BufferDef], len: u64) -> Option<Buffer> {
    let [only] = buffers else { return None };
    let buffer = from_record(only);
    is_lone(extents, &buffer, len).then_some(buffer)
}

/// The extents of a blob after a splice.
fn spliced(
    seq: BatchSeq,
    old: Option<(Version, Vec<Extent>)>,
    base: Version,
    cut: Range<u64>,
    insert: &[Extent],
    len: u64,
) -> Result<Vec<Extent>> {
    match old {
        Some((version, extents)) if version == base => {
            Ok(extents::splice(&extents, cut, insert, len))
        }
        other => fail!(
            Corrupt,
            "batch {} changes version {} of a blob, recovery has version {:?}",
            seq.0,
            base.0,
            other.map(|(version, _)| version.0)
        ),
    }
}
