//! The logged state while records are applied to it.
//!
//! Blobs stand in the index, buffers in the table, as they will when the store runs, with two
//! exceptions: maps are lists of extents until every buffer they may name is known, and nothing
//! is counted as live yet. Partitions do not depend on each other: a lane applies to its own what
//! concerns them, in the log's order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashTable;
use parking_lot::Mutex;

use crate::error::{Result, fail};
use crate::index::Index;
use crate::index::attributes::SharedAttributes;
use crate::index::extents::{self, Extent};
use crate::index::pages::{self, PageRef};
use crate::index::state::{BlobState, Buffer, Value, is_lone, whole};
use crate::index::table::{BufferTable, from_record, to_record};
use crate::io::runtime::Runtime;
use crate::limits::PARTITIONS;
use crate::log::attributes::Attributes;
use crate::log::batch::BatchView;
use crate::log::record::{BucketRecord, BufferDef, MoveSubject, Record, SegmentKind};
use crate::log::root::PartitionRef;
use crate::log::scan::Landing;
use crate::plant::{Plant, planted};
use crate::recover::Target;
use crate::recover::sound::Issued;
use crate::types::{BatchSeq, BucketId, BufferId, Location, TierSegment, Version};

/// Records that are worth more than one thread.
const PARALLEL_MIN: usize = 8192;

/// What a blob's value is, as long as the buffers of maps are not all known.
pub(super) enum Content {
    Zeros,
    Lone(Buffer),
    Mapped(Vec<Extent>),
    Paged(Vec<PageRef>),
}

/// A blob as a record or an image describes it.
pub(super) struct Blob {
    pub version: Version,
    pub len: u64,
    pub value: Content,
    pub attributes: Option<Arc<SharedAttributes>>,
}

/// The map of a blob that will have one.
pub(super) struct StagedMap {
    pub hash: u64,
    pub bucket: BucketId,
    pub key: Arc<[u8]>,
    pub parts: Parts,
}

/// What a map is made of.
#[derive(Clone)]
pub(super) enum Parts {
    Extents(Vec<Extent>),
    Pages(Vec<PageRef>),
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
    /// Blobs of older versions than these are gone.
    pub cleared: BTreeMap<BucketId, Version>,
    pub segments: BTreeMap<TierSegment, (u32, SegmentKind)>,
    pub next_generation: u32,
    /// What the checkpoint can name, if there is one.
    pub issued: Option<Issued>,
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
            cleared: BTreeMap::new(),
            segments: BTreeMap::new(),
            next_generation: 1,
            issued: None,
        }
    }

    // ---- blobs ----------------------------------------------------------------------------

    /// The new state of a blob. Whether it had one.
    pub fn put(&self, hash: u64, bucket: BucketId, key: &[u8], blob: Blob) -> bool {
        let mut stripe = self.index.lock(hash);
        let entry = self.index.get_or_insert(&mut stripe, hash, bucket, key);
        let was_there = entry.visible.exists();
        let mut maps = self.maps[Index::partition(hash)].lock();
        if let Ok(old) = maps.find_entry(hash, |map| map.is(hash, bucket, key)) {
            old.remove();
        }
        let (value, parts) = match blob.value {
            Content::Zeros => (Value::Zeros, None),
            Content::Lone(buffer) => (Value::Lone(buffer), None),
            Content::Mapped(extents) => (Value::Zeros, Some(Parts::Extents(extents))),
            Content::Paged(pages) => (Value::Zeros, Some(Parts::Pages(pages))),
        };
        if let Some(parts) = parts {
            let map = StagedMap { hash, bucket, key: entry.key.clone(), parts };
            maps.insert_unique(hash, map, |map| map.hash);
        }
        let Blob { version, len, attributes, .. } = blob;
        entry.load(BlobState { version, len, value, attributes }, self.table);
        was_there
    }

    fn remove(&self, hash: u64, bucket: BucketId, key: &[u8], version: Version) {
        let mut stripe = self.index.lock(hash);
        if let Some(entry) = stripe.get(hash, bucket, key) {
            entry.load(BlobState::absent(version), self.table);
            self.index.remove_if_vacant(&mut stripe, hash, bucket, key);
        }
        let mut maps = self.maps[Index::partition(hash)].lock();
        if let Ok(old) = maps.find_entry(hash, |map| map.is(hash, bucket, key)) {
            old.remove();
        }
    }

    /// What a blob is made of, and its attributes: the version `base` of it, to which a record
    /// applies.
    fn base_of(
        &self,
        seq: BatchSeq,
        base: Version,
        hash: u64,
        bucket: BucketId,
        key: &[u8],
    ) -> Result<(Parts, Option<Arc<SharedAttributes>>)> {
        let mut stripe = self.index.lock(hash);
        let entry = stripe.get(hash, bucket, key);
        let found = entry.as_ref().map(|entry| entry.visible.version);
        let Some(entry) = entry.filter(|_| found == Some(base)) else {
            fail!(
                Corrupt,
                "batch {} changes version {} of a blob, recovery has version {:?}",
                seq.0,
                base.0,
                found.map(|version| version.0)
            )
        };
        let maps = self.maps[Index::partition(hash)].lock();
        let parts = match entry.visible.lone() {
            Some(lone) => Parts::Extents(vec![whole(lone)]),
            None => maps
                .find(hash, |map| map.is(hash, bucket, key))
                .map_or_else(|| Parts::Extents(Vec::new()), |map| map.parts.clone()),
        };
        Ok((parts, entry.visible.attributes.clone()))
    }

    // ---- records --------------------------------------------------------------------------

    /// Applies batches whose data is known to have landed.
    pub fn apply_all(&mut self, runtime: &Runtime, batches: &[BatchView]) -> Result<()> {
        for batch in batches {
            for record in batch.records() {
                self.apply_to_tables(batch.identity.seq, record)?;
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
        (lane.has(partition) && self.is_beyond_cut(partition, seq)).then_some(hash)
    }

    fn concerns_buffer(&self, lane: Lane, seq: BatchSeq, id: BufferId) -> bool {
        let partition = self.table.shard_of(id);
        lane.has(partition) && self.is_beyond_cut(partition, seq)
    }

    /// Whether the image of a partition lacks a batch.
    fn is_beyond_cut(&self, partition: usize, seq: BatchSeq) -> bool {
        let cut = self.partitions[partition].cut;
        seq > cut || (seq == cut && planted(Plant::CutAppliedTwice))
    }

    fn define(&self, lane: Lane, seq: BatchSeq, buffers: &[BufferDef]) -> Result<()> {
        for def in buffers {
            if self.concerns_buffer(lane, seq, def.id) {
                load_buffer(self.table, def)?;
            }
        }
        Ok(())
    }

    fn apply(&self, lane: Lane, seq: BatchSeq, record: &Record) -> Result<()> {
        match record {
            Record::Put { bucket, key, version, len, extents, buffers, attributes } => {
                // A lone buffer stands with its blob; the record that makes it a part of a map
                // will define it.
                let lone = lone_of(extents, buffers, *len);
                if lone.is_none() {
                    self.define(lane, seq, buffers)?;
                }
                if let Some(hash) = self.concerns(lane, seq, *bucket, key) {
                    let value = lone.map_or_else(|| Content::of(extents.clone()), Content::Lone);
                    let (version, len) = (*version, *len);
                    let attributes = self.share(attributes);
                    self.put(hash, *bucket, key, Blob { version, len, value, attributes });
                }
            }
            Record::Splice { bucket, key, base, version, len, cut, extents, buffers } => {
                self.define(lane, seq, buffers)?;
                if let Some(hash) = self.concerns(lane, seq, *bucket, key) {
                    let (old, attributes) = self.base_of(seq, *base, hash, *bucket, key)?;
                    let (mut old, version, len) = (old.extents(seq)?, *version, *len);
                    if planted(Plant::SpliceDropsTail) {
                        old.retain(|extent| extent.value_offset < cut.end);
                    }
                    let value = Content::of(extents::splice(&old, cut.clone(), extents, len));
                    self.put(hash, *bucket, key, Blob { version, len, value, attributes });
                }
            }
            Record::Delete { .. } if planted(Plant::DeleteNotReplayed) => {}
            Record::Delete { bucket, key, version } => {
                if let Some(hash) = self.concerns(lane, seq, *bucket, key) {
                    self.remove(hash, *bucket, key, *version);
                }
            }
            Record::Move { subject, from, to } => {
                self.with_buffer(lane, seq, subject, *from, |buffer| buffer.location = *to);
            }
            Record::Attributes { bucket, key, base, version, attributes } => {
                if let Some(hash) = self.concerns(lane, seq, *bucket, key) {
                    self.base_of(seq, *base, hash, *bucket, key)?;
                    self.describe(hash, *bucket, key, *version, attributes);
                }
            }
            Record::BucketCreate { .. }
            | Record::BucketChange { .. }
            | Record::BucketClear { .. }
            | Record::BucketDestroy { .. }
            | Record::SegmentOpen { .. }
            | Record::SegmentFree { .. }
            | Record::Marker => {}
            Record::Page { page, names, buffers, .. } => {
                self.define(lane, seq, buffers)?;
                if self.concerns_buffer(lane, seq, *page) && !self.table.load_page(*page) {
                    fail!(
                        Corrupt,
                        "batch {}: buffer {} cannot become an extent page",
                        seq.0,
                        page.0
                    );
                }
                self.count_names(lane, seq, *page, names, true)?;
            }
            Record::Release { page, names } => {
                if self.concerns_buffer(lane, seq, *page) && !self.table.unload(*page) {
                    fail!(Corrupt, "batch {} releases {}, which is no extent page", seq.0, page.0);
                }
                self.count_names(lane, seq, *page, names, false)?;
            }
            Record::Share { bucket, key, buffers } => {
                self.define(lane, seq, buffers)?;
                if let Some(hash) = self.concerns(lane, seq, *bucket, key) {
                    self.hand_over_lone(hash, *bucket, key, buffers);
                }
            }
            Record::Paged { bucket, key, base, version, len, cut, pages, attributes } => {
                if let Some(hash) = self.concerns(lane, seq, *bucket, key) {
                    let (pages, attributes) = match base {
                        Some(base) => {
                            let (old, kept) = self.base_of(seq, *base, hash, *bucket, key)?;
                            (pages::splice(&old.pages(seq)?, cut, pages), kept)
                        }
                        None => (pages.clone(), self.share(attributes)),
                    };
                    let (version, len, value) = (*version, *len, Content::Paged(pages));
                    self.put(hash, *bucket, key, Blob { version, len, value, attributes });
                }
            }
        }
        Ok(())
    }

    pub fn share(&self, attributes: &Option<Attributes>) -> Option<Arc<SharedAttributes>> {
        let share = |said: &Attributes| SharedAttributes::new(said.clone(), self.index.budget());
        attributes.as_ref().map(share)
    }

    /// A blob has other attributes, and the value it had.
    fn describe(
        &self,
        hash: u64,
        bucket: BucketId,
        key: &[u8],
        version: Version,
        attributes: &Option<Attributes>,
    ) {
        let mut stripe = self.index.lock(hash);
        if let Some(entry) = stripe.get(hash, bucket, key) {
            entry.visible.version = version;
            if !planted(Plant::AttributesNotReplayed) {
                entry.visible.attributes = self.share(attributes);
            }
        }
    }

    /// A lone buffer that the table has now makes its blob's value a map.
    fn hand_over_lone(&self, hash: u64, bucket: BucketId, key: &[u8], buffers: &[BufferDef]) {
        let (version, len, extents, attributes) = {
            let mut stripe = self.index.lock(hash);
            let Some(entry) = stripe.get(hash, bucket, key) else { return };
            let Some(lone) = entry.visible.lone() else { return };
            if buffers.iter().all(|def| def.id != lone.id) {
                return;
            }
            let attributes = entry.visible.attributes.clone();
            (entry.visible.version, entry.visible.len, vec![whole(lone)], attributes)
        };
        let value = Content::of(extents);
        self.put(hash, bucket, key, Blob { version, len, value, attributes });
    }

    /// A page that names these buffers appears, or is gone.
    fn count_names(
        &self,
        lane: Lane,
        seq: BatchSeq,
        page: BufferId,
        names: &[BufferId],
        appears: bool,
    ) -> Result<()> {
        for id in names {
            if self.concerns_buffer(lane, seq, *id) && !self.table.count_name(*id, appears) {
                let (seq, page, id) = (seq.0, page.0, id.0);
                fail!(Corrupt, "batch {seq}: buffer {id} cannot be counted for extent page {page}");
            }
        }
        Ok(())
    }

    /// What a record changes apart from blobs and buffers.
    fn apply_to_tables(&mut self, seq: BatchSeq, record: &Record) -> Result<()> {
        match record {
            Record::BucketCreate { bucket, name, options } => {
                self.buckets_used = self.buckets_used.max(*bucket);
                if seq > self.root_seq
                    && self.buckets.insert(*bucket, (name.clone(), *options)).is_some()
                {
                    fail!(Corrupt, "batch {} makes bucket {}, which there is", seq.0, bucket.0);
                }
            }
            Record::BucketChange { bucket, name, options } if seq > self.root_seq => {
                if let Some(known) = self.buckets.get_mut(bucket) {
                    *known = (name.clone(), *options);
                }
            }
            // By versions, whatever the cuts: what an image has that is older was there before.
            Record::BucketClear { .. } if planted(Plant::ClearNotReplayed) => {}
            Record::BucketClear { bucket, version } => {
                let cleared = self.cleared.entry(*bucket).or_insert(*version);
                *cleared = (*cleared).max(*version);
            }
            Record::BucketDestroy { .. } if planted(Plant::DestroyNotReplayed) => {}
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
        Ok(())
    }

    // ---- buffers --------------------------------------------------------------------------

    /// Whether all data that a batch names has reached its device: the buffers it defines, and the
    /// copies that its moves lead to. What earlier batches have put in the same place is not looked
    /// at: if it has rotted since, its blob says so when it is read, and the log goes on.
    pub fn has_landed(&self, batch: &BatchView, landing: &mut Landing<'_>) -> Result<bool> {
        for record in batch.records() {
            for def in record.buffers() {
                if !self.is_known(record, def) && !landing.has(def)? {
                    return Ok(false);
                }
            }
            let Record::Move { subject, from, to } = record else { continue };
            let seq = batch.identity.seq;
            let moved = self.with_buffer(Lane::ALL, seq, subject, *from, |buffer| buffer.clone());
            if let Some(moved) = moved
                && !landing.has(&BufferDef { location: *to, ..to_record(&moved) })?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a buffer that a record defines stands in its place since an earlier batch: as a row
    /// of the table, or as the lone buffer of the blob that the record changes.
    fn is_known(&self, record: &Record, def: &BufferDef) -> bool {
        if self.table.get(def.id).is_some_and(|buffer| buffer.location == def.location) {
            return true;
        }
        let (Record::Put { bucket, key, .. }
        | Record::Splice { bucket, key, .. }
        | Record::Share { bucket, key, .. }) = record
        else {
            return false;
        };
        let hash = self.index.hash(*bucket, key);
        let mut stripe = self.index.lock(hash);
        let entry = stripe.get(hash, *bucket, key);
        let lone = entry.as_ref().and_then(|entry| entry.visible.lone());
        lone.is_some_and(|lone| lone.id == def.id && lone.location == def.location)
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

/// Puts a buffer into the table, or gives it its new place.
pub(super) fn load_buffer(table: &BufferTable, def: &BufferDef) -> Result<()> {
    if !table.load(from_record(def)) {
        fail!(Corrupt, "buffer {} is defined again, as other bytes", def.id.0);
    }
    Ok(())
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

impl Parts {
    /// The extents that a splice applies to.
    fn extents(self, seq: BatchSeq) -> Result<Vec<Extent>> {
        match self {
            Parts::Extents(extents) => Ok(extents),
            Parts::Pages(_) => fail!(Corrupt, "batch {} splices extents into pages", seq.0),
        }
    }

    /// The pages that a splice applies to.
    fn pages(self, seq: BatchSeq) -> Result<Vec<PageRef>> {
        match self {
            Parts::Pages(pages) => Ok(pages),
            Parts::Extents(_) => fail!(Corrupt, "batch {} splices pages into extents", seq.0),
        }
    }
}
