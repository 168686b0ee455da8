//! The state of a damaged store, as images and records say it, with what is missing between them.
//!
//! Each blob and bucket carries the batch up to which its state is *known*: the cut of its image, or
//! the record that says it whole, or that changes exactly the version at hand. A batch that is missing
//! can have changed whatever is known only up to a batch before it.
//!
//! A version never takes the place of a newer one: versions order one key.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Result, fail};
use crate::index::Index;
use crate::index::extents;
use crate::index::pages;
use crate::limits::PARTITIONS;
use crate::log::attributes::Attributes;
use crate::log::checkpoint::{BlobMap, PartitionView};
use crate::log::record::{BucketRecord, BufferDef, Extent, MoveSubject, PageRef, Record};
use crate::log::root::Root;
use crate::salvage::buffers::Buffers;
use crate::types::{BatchSeq, BucketId, Version};

/// What a value is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Map {
    Extents(Vec<Extent>),
    Pages(Vec<PageRef>),
}

/// A blob.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Blob {
    pub version: Version,
    pub len: u64,
    pub map: Map,
    pub attributes: Option<Attributes>,
    /// Up to this batch nothing can have changed it.
    pub known_at: BatchSeq,
    /// There is a newer version, which cannot be made out.
    pub is_superseded: bool,
    /// Found in a segment alone: no record says that it was ever committed.
    pub is_scanned: bool,
}

/// A bucket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Bucket {
    pub name: Box<[u8]>,
    pub options: BucketRecord,
    /// Up to this batch nothing can have changed it.
    pub known_at: BatchSeq,
    /// Two buckets have been made under its number.
    pub is_disputed: bool,
}

/// Blobs of one bucket.
type Keys<T> = BTreeMap<Box<[u8]>, T>;

/// See the module.
#[derive(Default)]
pub(super) struct State {
    pub buffers: Buffers,
    pub blobs: BTreeMap<BucketId, Keys<Blob>>,
    pub buckets: BTreeMap<BucketId, Bucket>,
    /// Blobs whose newest version cannot be made out, and why.
    pub lost: BTreeMap<BucketId, Keys<String>>,
    deleted: BTreeMap<BucketId, Keys<Version>>,
    cleared: BTreeMap<BucketId, Version>,
    destroyed: BTreeSet<BucketId>,
    /// Buckets and their names are those after this batch, and all numbers below that one are known.
    root_seq: BatchSeq,
    next_bucket: u32,
    /// Above all versions that were issued up to the root.
    pub next_version: Option<Version>,
    /// By partition: the batch that its image is a cut at.
    pub cuts: Vec<BatchSeq>,
    /// What puts keys into partitions.
    hash_seed: u64,
}

impl State {
    /// Nothing yet.
    pub fn new() -> State {
        State { cuts: vec![BatchSeq(0); PARTITIONS], ..State::default() }
    }

    // ---- checkpoints ----------------------------------------------------------------------

    /// What a root says of buckets and counters.
    pub fn load_root(&mut self, root: &Root, hash_seed: u64) {
        self.hash_seed = hash_seed;
        (self.root_seq, self.next_bucket) = (root.seq, root.next_bucket.0);
        self.next_version = Some(root.next_version);
        for entry in &root.buckets {
            self.name(root.seq, entry.bucket, &entry.name, &entry.options);
        }
    }

    /// The partition of a key, by the seed of the root.
    pub fn partition(&self, bucket: BucketId, key: &[u8]) -> usize {
        Index::partition(Index::hash_with(self.hash_seed, bucket, key))
    }

    /// An image: all of it, or nothing and why. `next_version`: what its root says.
    pub fn load_image(&mut self, view: &PartitionView<'_>, next_version: Version) -> Result<()> {
        let number = usize::from(view.identity().partition);
        let cut = view.identity().cut;
        let blobs = view.blobs().collect::<Result<Vec<_>>>()?;
        let buffers = view.buffers().collect::<Result<Vec<_>>>()?;
        for blob in &blobs {
            if self.partition(blob.bucket, blob.key) != number || blob.version >= next_version {
                fail!(Corrupt, "a blob that cannot be there stands in partition {number}");
            }
        }
        for blob in blobs {
            let map = match blob.map {
                BlobMap::Paged(pages) => Map::Pages(pages),
                BlobMap::Inline { extents, buffers } => {
                    self.define(&buffers);
                    Map::Extents(extents)
                }
            };
            let (version, len, attributes) = (blob.version, blob.len, blob.attributes);
            let (known_at, key) = (cut, blob.key.into());
            let blob_of = Blob {
                version,
                len,
                map,
                attributes,
                known_at,
                is_superseded: false,
                is_scanned: false,
            };
            self.blobs.entry(blob.bucket).or_default().insert(key, blob_of);
        }
        buffers.iter().for_each(|entry| self.buffers.define(&entry.def, entry.is_page));
        self.cuts[number] = cut;
        Ok(())
    }

    fn name(&mut self, known_at: BatchSeq, id: BucketId, name: &[u8], options: &BucketRecord) {
        let is_disputed = self.buckets.get(&id).is_some_and(|known| known.is_disputed);
        let (name, options) = (name.into(), *options);
        self.buckets.insert(id, Bucket { name, options, known_at, is_disputed });
    }

    fn define(&mut self, buffers: &[BufferDef]) {
        buffers.iter().for_each(|def| self.buffers.define(def, false));
    }

    // ---- records --------------------------------------------------------------------------

    /// A record of batch `seq`. Those of a batch that an image has seen say where buffers are, no more.
    pub fn apply(&mut self, seq: BatchSeq, record: &Record) {
        if let Record::Page { page, buffers, .. } = record {
            buffers.iter().for_each(|def| self.buffers.define(def, def.id == *page));
        } else {
            self.define(record.buffers());
        }
        match record {
            Record::Put { bucket, key, version, len, extents, attributes, .. } => {
                let map = Map::Extents(extents.clone());
                self.put(seq, *bucket, key, *version, *len, map, attributes.clone());
            }
            Record::Splice { bucket, key, base, version, len, cut, extents, .. } => {
                self.change(seq, *bucket, key, *base, *version, |blob| {
                    let Map::Extents(old) = &blob.map else { return false };
                    blob.map = Map::Extents(extents::splice(old, cut.clone(), extents, *len));
                    blob.len = *len;
                    true
                });
            }
            Record::Paged { bucket, key, base: None, version, len, pages, attributes, .. } => {
                let map = Map::Pages(pages.clone());
                self.put(seq, *bucket, key, *version, *len, map, attributes.clone());
            }
            Record::Paged { bucket, key, base: Some(base), version, len, cut, pages, .. } => {
                self.change(seq, *bucket, key, *base, *version, |blob| {
                    let Map::Pages(old) = &blob.map else { return false };
                    blob.map = Map::Pages(pages::splice(old, cut, pages));
                    blob.len = *len;
                    true
                });
            }
            Record::Attributes { bucket, key, base, version, attributes } => {
                self.change(seq, *bucket, key, *base, *version, |blob| {
                    blob.attributes = attributes.clone();
                    true
                });
            }
            Record::Delete { bucket, key, version } => self.delete(seq, *bucket, key, *version),
            Record::Move { subject, to, .. } => {
                let (MoveSubject::Lone { buffer, .. } | MoveSubject::Table { buffer }) = subject;
                self.buffers.place(*buffer, *to);
            }
            Record::BucketCreate { bucket, name, options } if seq > self.root_seq => {
                // Numbers are never used again.
                if let Some(known) = self.buckets.get_mut(bucket) {
                    known.is_disputed = true;
                } else if !self.is_gone(*bucket) {
                    self.name(seq, *bucket, name, options);
                }
            }
            Record::BucketChange { bucket, name, options } if seq > self.root_seq => {
                self.name(seq, *bucket, name, options);
            }
            Record::BucketDestroy { bucket } if seq > self.root_seq => {
                self.buckets.remove(bucket);
                self.destroyed.insert(*bucket);
            }
            Record::BucketClear { bucket, version } => self.clear(*bucket, *version),
            Record::BucketCreate { .. }
            | Record::BucketChange { .. }
            | Record::BucketDestroy { .. }
            | Record::SegmentOpen { .. }
            | Record::SegmentFree { .. }
            | Record::Marker
            | Record::Page { .. }
            | Record::Release { .. }
            | Record::Share { .. } => {}
        }
    }

    /// Whether the image of a key's partition lacks a batch.
    fn is_beyond_cut(&self, seq: BatchSeq, bucket: BucketId, key: &[u8]) -> bool {
        seq > self.cuts[self.partition(bucket, key)]
    }

    /// Whether a version is newer than all that is known of a key.
    fn is_newer(&self, bucket: BucketId, key: &[u8], version: Version) -> bool {
        let known = self.blobs.get(&bucket).and_then(|blobs| blobs.get(key));
        let deleted = self.deleted.get(&bucket).and_then(|keys| keys.get(key));
        let cleared = self.cleared.get(&bucket);
        known.is_none_or(|blob| blob.version < version)
            && deleted.into_iter().chain(cleared).all(|gone| *gone < version)
    }

    #[expect(clippy::too_many_arguments, reason = "what the records of whole states say")]
    fn put(
        &mut self,
        seq: BatchSeq,
        bucket: BucketId,
        key: &[u8],
        version: Version,
        len: u64,
        map: Map,
        attributes: Option<Attributes>,
    ) {
        if !self.is_beyond_cut(seq, bucket, key) || !self.is_newer(bucket, key, version) {
            return;
        }
        let (is_superseded, is_scanned, known_at) = (false, false, seq);
        let blob = Blob { version, len, map, attributes, known_at, is_superseded, is_scanned };
        self.blobs.entry(bucket).or_default().insert(key.into(), blob);
        self.forget_loss(bucket, key);
    }

    /// A change of one version into another. If that version is not at hand, the new one is lost.
    fn change(
        &mut self,
        seq: BatchSeq,
        bucket: BucketId,
        key: &[u8],
        base: Version,
        version: Version,
        change: impl FnOnce(&mut Blob) -> bool,
    ) {
        if !self.is_beyond_cut(seq, bucket, key) || !self.is_newer(bucket, key, version) {
            return;
        }
        let known = self.blobs.get_mut(&bucket).and_then(|blobs| blobs.get_mut(key));
        if let Some(blob) = known {
            if blob.version == base && !blob.is_superseded && change(blob) {
                (blob.version, blob.known_at) = (version, seq);
                return self.forget_loss(bucket, key);
            }
            blob.is_superseded = true;
        }
        let why = format!(
            "batch {} makes version {} of version {}, which is lost",
            seq.0, version.0, base.0
        );
        self.lost.entry(bucket).or_default().insert(key.into(), why);
    }

    fn delete(&mut self, seq: BatchSeq, bucket: BucketId, key: &[u8], version: Version) {
        if !self.is_beyond_cut(seq, bucket, key) || !self.is_newer(bucket, key, version) {
            return;
        }
        if let Some(blobs) = self.blobs.get_mut(&bucket) {
            blobs.remove(key);
        }
        self.deleted.entry(bucket).or_default().insert(key.into(), version);
        self.forget_loss(bucket, key);
    }

    fn forget_loss(&mut self, bucket: BucketId, key: &[u8]) {
        if let Some(lost) = self.lost.get_mut(&bucket) {
            lost.remove(key);
        }
    }

    fn clear(&mut self, bucket: BucketId, version: Version) {
        if let Some(blobs) = self.blobs.get_mut(&bucket) {
            blobs.retain(|_, blob| blob.version >= version);
        }
        self.lost.remove(&bucket);
        let cleared = self.cleared.entry(bucket).or_insert(version);
        *cleared = (*cleared).max(version);
    }

    // ---- what was found in segments -------------------------------------------------------

    /// A value that a segment holds under this name, if it may be the newest that there is: no batch
    /// that could be read says that it is gone, and a missing one may have committed it.
    pub fn add_scanned(
        &mut self,
        bucket: BucketId,
        key: &[u8],
        version: Version,
        extent: Extent,
        last_missing: BatchSeq,
    ) {
        let known_at = self.cuts[self.partition(bucket, key)];
        let is_gone = self.is_gone(bucket) || self.next_version.is_some_and(|next| version < next);
        let known = self.blobs.get(&bucket).and_then(|blobs| blobs.get(key));
        let may_stand = known.is_none_or(|blob| blob.is_scanned);
        if known_at >= last_missing || is_gone || !may_stand || !self.is_newer(bucket, key, version)
        {
            return;
        }
        let blob = Blob {
            version,
            len: u64::from(extent.len),
            map: Map::Extents(vec![extent]),
            attributes: None,
            known_at,
            is_superseded: false,
            is_scanned: true,
        };
        self.blobs.entry(bucket).or_default().insert(key.into(), blob);
    }

    // ---- the end --------------------------------------------------------------------------

    /// Whether a bucket is known to have been destroyed.
    fn is_gone(&self, bucket: BucketId) -> bool {
        let was_gone = bucket.0 < self.next_bucket && !self.buckets.contains_key(&bucket);
        was_gone || self.destroyed.contains(&bucket)
    }

    /// Drops what went with its bucket.
    pub fn finish(&mut self) {
        let buckets = self.blobs.keys().chain(self.lost.keys()).copied();
        let gone: Vec<BucketId> = buckets.filter(|bucket| self.is_gone(*bucket)).collect();
        for bucket in gone {
            self.blobs.remove(&bucket);
            self.lost.remove(&bucket);
        }
        self.blobs.retain(|_, blobs| !blobs.is_empty());
        self.lost.retain(|_, keys| !keys.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{BufferId, Location, TierId};

    const BUCKET: BucketId = BucketId(1);

    fn def(id: u64) -> BufferDef {
        BufferDef {
            id: BufferId(id),
            raw_len: 10,
            stored_len: 10,
            location: Location::device(TierId(0), (4 << 20) + 4096 * id),
            encoding: 0,
            logical_crc: id as u32,
            checks: vec![id as u32],
        }
    }

    fn extent(id: u64) -> Extent {
        Extent { value_offset: 0, len: 10, buffer: BufferId(id), buffer_offset: 0 }
    }

    fn put(version: u64) -> Record {
        Record::Put {
            bucket: BUCKET,
            key: b"k"[..].into(),
            version: Version(version),
            len: 10,
            extents: vec![extent(version)],
            buffers: vec![def(version)],
            attributes: None,
        }
    }

    fn append(base: u64, version: u64) -> Record {
        let extents = vec![Extent { value_offset: 10, ..extent(version) }];
        Record::Splice {
            bucket: BUCKET,
            key: b"k"[..].into(),
            base: Version(base),
            version: Version(version),
            len: 20,
            cut: 10..20,
            extents,
            buffers: vec![def(version)],
        }
    }

    fn after(records: &[(u64, Record)]) -> State {
        let mut state = State::new();
        records.iter().for_each(|(seq, record)| state.apply(BatchSeq(*seq), record));
        state
    }

    fn blob(state: &State) -> Option<&Blob> {
        state.blobs.get(&BUCKET)?.get(&b"k"[..])
    }

    #[test]
    fn a_change_of_the_version_at_hand_shows_that_nothing_lies_between() {
        let state = after(&[(1, put(10)), (9, append(10, 20))]);
        let blob = blob(&state).unwrap();
        assert_eq!((blob.version, blob.known_at, blob.len), (Version(20), BatchSeq(9), 20));
        assert!(!blob.is_superseded && state.lost.is_empty());
    }

    #[test]
    fn a_change_of_a_lost_version_is_lost_and_the_one_before_is_not_the_newest() {
        let state = after(&[(1, put(10)), (9, append(15, 20))]);
        let blob = blob(&state).unwrap();
        assert_eq!((blob.version, blob.known_at), (Version(10), BatchSeq(1)));
        assert!(blob.is_superseded);
        assert!(state.lost[&BUCKET][&b"k"[..]].contains("batch 9"));
        // Another change of it does not make it whole, a whole state does.
        let later = [(1, put(10)), (9, append(15, 20)), (10, append(20, 30))];
        assert!(self::blob(&after(&later)).unwrap().is_superseded);
        let whole = after(&[&later[..], &[(11, put(40))]].concat());
        assert!(!self::blob(&whole).unwrap().is_superseded);
        assert!(whole.lost[&BUCKET].is_empty());
    }

    #[test]
    fn an_older_version_never_takes_the_place_of_a_newer_one_or_of_its_deletion() {
        let delete = |version| Record::Delete {
            bucket: BUCKET,
            key: b"k"[..].into(),
            version: Version(version),
        };
        let state = after(&[(1, put(10)), (2, put(5)), (3, delete(7))]);
        assert_eq!(blob(&state).unwrap().version, Version(10));
        assert!(blob(&after(&[(1, put(10)), (2, delete(20)), (3, put(15))])).is_none());
        let clear = Record::BucketClear { bucket: BUCKET, version: Version(30) };
        assert!(blob(&after(&[(1, put(10)), (2, clear), (3, put(15))])).is_none());
    }

    #[test]
    fn what_a_segment_holds_counts_where_a_missing_batch_may_have_committed_it() {
        let scanned = |state: &mut State, version, last_missing| {
            let missing = BatchSeq(last_missing);
            state.add_scanned(BUCKET, b"k", Version(version), extent(version), missing);
        };
        let mut state = State::new();
        scanned(&mut state, 10, 0);
        assert!(blob(&state).is_none(), "nothing is missing, so nobody has committed it");
        scanned(&mut state, 10, 5);
        scanned(&mut state, 8, 5);
        assert_eq!(
            blob(&state).map(|blob| (blob.version, blob.is_scanned)),
            Some((Version(10), true))
        );
        let mut state = after(&[(1, put(10))]);
        scanned(&mut state, 20, 5);
        assert_eq!(blob(&state).unwrap().version, Version(10), "what is logged stands");
        let clear = Record::BucketClear { bucket: BUCKET, version: Version(30) };
        let mut state = after(&[(2, clear)]);
        scanned(&mut state, 20, 5);
        assert!(blob(&state).is_none(), "it is older than the clearing of its bucket");
    }
}
