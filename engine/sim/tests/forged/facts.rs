//! What the small store has, for those who forge something about it.

use std::collections::{BTreeMap, BTreeSet};

use isotherm::ScanRange;
use isotherm::index::pages::splice;
use isotherm::index::state::checksums;
use isotherm::io::sim_disk::Disk;
use isotherm::log::checkpoint::BlobMap;
use isotherm::log::record::{BufferDef, ENCODING_RAW, Extent, PageRef, Record};
use isotherm::types::{BucketId, BufferId, Location, Place, Version};
use isotherm_sim::forge::{Forged, Stored};
use isotherm_sim::small::{Opened, Small, capacities, make};
use isotherm_sim::trial::Touched;

use crate::bench::Bench;
use crate::touch;

/// A bucket and a key.
type Name = (BucketId, Vec<u8>);

/// The small store as a close left it, and what it has.
pub struct Facts {
    pub small: Small,
    pub stored: Stored,
    pub bucket: BucketId,
    pub other_bucket: BucketId,
    /// Blobs of one buffer that stands with them: bucket, key, version, buffer.
    pub lone: Vec<(BucketId, Vec<u8>, Version, BufferDef)>,
    /// Buffers of the buffer table, with their checksums.
    pub shared: Vec<BufferDef>,
    /// Extent pages in use, and what they name.
    pub pages: BTreeMap<BufferId, (BufferDef, Vec<BufferId>)>,
    /// A blob in pages.
    pub paged: (BucketId, Vec<u8>, Version, u64, Vec<PageRef>),
    /// A number that has been issued, and that nothing has.
    pub fresh: u64,
}

/// Follows the log from the checkpoint on, as far as these tests need it.
#[derive(Default)]
struct Reading {
    lone: BTreeMap<Name, (Version, BufferDef)>,
    table: BTreeMap<BufferId, BufferDef>,
    names: BTreeMap<BufferId, Vec<BufferId>>,
    paged: BTreeMap<Name, (Version, u64, Vec<PageRef>)>,
    last: u64,
}

impl Reading {
    fn see(&mut self, version: Version) {
        self.last = self.last.max(version.0);
    }

    fn define(&mut self, defs: &[BufferDef]) {
        for def in defs {
            self.last = self.last.max(def.id.0);
            if !def.checks.is_empty() {
                self.table.insert(def.id, def.clone());
            }
        }
    }

    fn record(&mut self, record: &Record) {
        self.define(record.buffers());
        match record {
            Record::Put { bucket, key, version, len, extents, buffers, .. } => {
                self.see(*version);
                let name = (*bucket, key.to_vec());
                self.paged.remove(&name);
                self.lone.remove(&name);
                if let ([extent], [def]) = (&extents[..], &buffers[..])
                    && u64::from(extent.len) == *len
                    && extent.len == def.raw_len
                {
                    self.lone.insert(name, (*version, def.clone()));
                }
            }
            Record::Attributes { bucket, key, version, .. } => {
                self.see(*version);
                let name = (*bucket, key.to_vec());
                self.lone.entry(name.clone()).and_modify(|lone| lone.0 = *version);
                self.paged.entry(name).and_modify(|paged| paged.0 = *version);
            }
            Record::Splice { bucket, key, version, .. }
            | Record::Delete { bucket, key, version } => {
                self.see(*version);
                self.lone.remove(&(*bucket, key.to_vec()));
                self.paged.remove(&(*bucket, key.to_vec()));
            }
            Record::Paged { bucket, key, base: None, version, len, pages, .. } => {
                self.see(*version);
                self.paged.insert((*bucket, key.to_vec()), (*version, *len, pages.clone()));
            }
            Record::Paged { bucket, key, version, len, cut, pages, .. } => {
                self.see(*version);
                if let Some(paged) = self.paged.get_mut(&(*bucket, key.to_vec())) {
                    *paged = (*version, *len, splice(&paged.2, cut, pages));
                }
            }
            Record::Page { page, names, .. } => drop(self.names.insert(*page, names.clone())),
            Record::Share { bucket, key, .. } => {
                self.lone.remove(&(*bucket, key.to_vec()));
            }
            Record::BucketClear { version, .. } => self.see(*version),
            Record::Move { .. }
            | Record::BucketCreate { .. }
            | Record::BucketChange { .. }
            | Record::BucketDestroy { .. }
            | Record::SegmentOpen { .. }
            | Record::SegmentFree { .. }
            | Record::Release { .. }
            | Record::Marker => {}
        }
    }
}

impl Facts {
    pub fn read() -> Facts {
        let small = make().unwrap();
        let stored = Stored::read(&small.closed).unwrap();
        let mut reading = Reading::default();
        for image in &stored.images {
            let view = stored.view(image).unwrap();
            for blob in view.blobs().map(Result::unwrap) {
                reading.see(blob.version);
                let name = (blob.bucket, blob.key.to_vec());
                match blob.map {
                    BlobMap::Inline { buffers, .. } if buffers.len() == 1 => {
                        reading.lone.insert(name, (blob.version, buffers[0].clone()));
                    }
                    BlobMap::Inline { .. } => {}
                    BlobMap::Paged(pages) => {
                        reading.paged.insert(name, (blob.version, blob.len, pages));
                    }
                }
            }
            for entry in view.buffers().map(Result::unwrap) {
                reading.define(&[entry.def]);
            }
        }
        let records = stored.batches.iter().flat_map(|batch| batch.view.records());
        records.for_each(|record| reading.record(record));
        let named = |name: &str| {
            let entry = stored.root.buckets.iter().find(|entry| *entry.name == *name.as_bytes());
            entry.unwrap().bucket
        };
        let (bucket, other_bucket) = (named("first"), named("second"));
        let ours = |id: &BucketId| [bucket, other_bucket].contains(id);
        // Moves are not followed: what has been moved is left out.
        let is_there =
            |def: &BufferDef| def.matches(&bytes_at(&stored.disks, def.location, def.stored_len));
        let lone = reading.lone.into_iter().filter(|((id, _), (_, def))| ours(id) && is_there(def));
        let lone: Vec<_> =
            lone.map(|((id, key), (version, def))| (id, key, version, def)).collect();
        let paged = reading.paged.into_iter().find(|((id, _), _)| ours(id)).unwrap();
        let ((id, key), (version, len, parts)) = paged;
        let paged = (id, key, version, len, parts);
        let pages: BTreeMap<_, _> = (reading.names.into_iter())
            .filter(|(id, _)| paged.4.iter().any(|part| part.page == Some(*id)))
            .filter_map(|(id, names)| Some((id, (reading.table.get(&id)?.clone(), names))))
            .collect();
        let in_use = located(&small.closed);
        let is_data = |def: &&BufferDef| {
            in_use.contains(&def.id) && lone.iter().all(|(.., lone)| lone.id != def.id)
        };
        let shared: Vec<_> =
            reading.table.values().filter(is_data).filter(|def| is_there(def)).cloned().collect();
        let fresh = reading.last + 1000;
        assert!(lone.len() > 1 && shared.len() > 1 && !pages.is_empty());
        Facts { small, stored, bucket, other_bucket, lone, shared, pages, paged, fresh }
    }

    pub fn bench(&self) -> Bench {
        Bench::new(&self.small, &self.small.closed)
    }

    /// A buffer that these bytes are, at a place.
    pub fn buffer(&self, number: u64, stored: &[u8], location: Location) -> BufferDef {
        let (checks, logical_crc) = checksums(stored);
        BufferDef {
            id: BufferId(self.fresh + number),
            raw_len: stored.len() as u32,
            stored_len: stored.len() as u32,
            location,
            encoding: ENCODING_RAW,
            logical_crc,
            checks,
        }
    }

    /// A buffer that what stands at a place is.
    pub fn buffer_at(&self, number: u64, location: Location, len: u32) -> BufferDef {
        let bytes = bytes_at(&self.stored.disks, location, len);
        self.buffer(number, &bytes, location)
    }

    /// A blob that nobody put.
    pub fn put(&self, len: u64, extents: Vec<Extent>, buffers: Vec<BufferDef>) -> Record {
        Record::Put {
            bucket: self.bucket,
            key: b"forged"[..].into(),
            version: Version(self.fresh + 500),
            len,
            extents,
            buffers,
            attributes: None,
        }
    }

    /// A blob that one buffer is.
    pub fn put_whole(&self, def: BufferDef) -> Record {
        let extent = Extent { value_offset: 0, len: def.raw_len, buffer: def.id, buffer_offset: 0 };
        self.put(u64::from(def.raw_len), vec![extent], vec![def])
    }

    /// Tries records behind those of the log.
    pub fn try_records(&self, bench: &mut Bench, what: &str, records: Vec<Record>) {
        let mut touched = Touched::default();
        records.iter().for_each(|record| touch(record, &mut touched));
        let records: Vec<Forged> = records.into_iter().map(Forged::from).collect();
        let late = self.stored.with_late_batch(&records).unwrap();
        bench.try_one("late records", what, &late, &touched);
        let disks = self.stored.with_batch(records).unwrap();
        bench.try_one("records", what, &disks, &touched);
    }
}

/// The buffers that blobs of the store are made of, pages apart.
fn located(disks: &[Disk]) -> BTreeSet<BufferId> {
    let opened = Opened::over(disks, &capacities(), 7).unwrap();
    let mut found = BTreeSet::new();
    for info in opened.store.list_buckets().unwrap() {
        let bucket = opened.store.open_bucket(&info.name).unwrap();
        let items = bucket.scan(ScanRange::all()).next_page(1000).unwrap();
        for item in items {
            let places = bucket.locate(&item.key).unwrap();
            found.extend(places.into_iter().map(|place| place.buffer));
        }
    }
    opened.lose();
    found
}

pub fn bytes_at(disks: &[Disk], location: Location, len: u32) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    if let Place::Device { tier, offset } = location.place()
        && let Some(disk) = disks.get(tier.index())
    {
        disk.read(offset, &mut bytes);
    }
    bytes
}
