//! Seeded random structures. A failing test prints its seed; `ISOTHERM_SEED` repeats it.

use std::hash::{BuildHasher, RandomState};

use crate::limits::{BUFFER_SIZE_MAX, KEY_LEN_MAX, PARTITIONS, VALUE_LEN_MAX};
use crate::log::attributes::{AttributeList, AttributeValue, Attributes};
use crate::log::batch::{BatchExpect, BatchIdentity};
use crate::log::record::{
    BucketRecord, BufferDef, ENCODING_RAW, Extent, MoveSubject, PageRef, Record, RecordKind,
    SegmentKind,
};
use crate::log::root::{BucketEntry, PartitionRef, Root, SegmentEntry};
use crate::log::superblock::{
    COMPAT_SUPPLEMENT, Chunk, Cut, Features, LogStart, Previous, RootRef, Superblock,
};
use crate::types::{
    BatchSeq, BucketId, BufferId, Durability, Epoch, Location, SegmentId, TierId, TierKind,
    TierSegment, Uuid, Version,
};

pub struct Random(u64);

impl Random {
    /// From `ISOTHERM_SEED`, or a new seed; printed where the test fails.
    pub fn new() -> Random {
        let seed = std::env::var("ISOTHERM_SEED")
            .map(|seed| seed.parse().expect("ISOTHERM_SEED is a number"))
            .unwrap_or_else(|_| RandomState::new().hash_one(0u8));
        println!("ISOTHERM_SEED={seed}");
        Random(seed)
    }

    /// splitmix64
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn u32(&mut self) -> u32 {
        self.next() as u32
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    pub fn uuid(&mut self) -> Uuid {
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&self.bytes(16));
        Uuid(uuid)
    }

    pub fn key(&mut self) -> Box<[u8]> {
        let end = if self.below(10) == 0 { KEY_LEN_MAX as u64 } else { 40 };
        let len = 1 + self.below(end) as usize;
        self.bytes(len).into()
    }

    pub fn location(&mut self) -> Location {
        Location::device(TierId(self.below(16) as u8), self.below(1 << 50))
    }

    pub fn buffer_def(&mut self, id: u64) -> BufferDef {
        let len = 1 + match self.below(3) {
            0 => self.below(100),
            1 => self.below(40_000),
            _ => self.below(BUFFER_SIZE_MAX as u64),
        } as u32;
        BufferDef {
            id: BufferId(id),
            raw_len: len,
            stored_len: len,
            location: self.location(),
            encoding: ENCODING_RAW,
            logical_crc: self.u32(),
            checks: (0..BufferDef::check_count(len)).map(|_| self.u32()).collect(),
        }
    }

    /// Definitions ascending by id; extents ascending from `start`, of them and of others.
    pub fn map(&mut self, start: u64) -> (u64, Vec<Extent>, Vec<BufferDef>) {
        let mut id = self.below(1 << 60);
        let mut buffers = Vec::new();
        for _ in 0..self.below(4) {
            id += 1 + self.below(9);
            buffers.push(self.buffer_def(id));
        }
        let mut end = start;
        let mut extents = Vec::new();
        for _ in 0..self.below(6) {
            let (buffer, raw_len) = match self.below(buffers.len() as u64 + 1) as usize {
                known if known < buffers.len() => (buffers[known].id, buffers[known].raw_len),
                _ => (BufferId(id + 1000), BUFFER_SIZE_MAX as u32),
            };
            let buffer_offset = self.below(u64::from(raw_len)) as u32;
            let len = 1 + self.below(u64::from(raw_len - buffer_offset)) as u32;
            let value_offset = end + self.below(2) * self.below(1 << 20);
            end = value_offset + u64::from(len);
            extents.push(Extent { value_offset, len, buffer, buffer_offset });
        }
        (end + self.below(3), extents, buffers)
    }

    /// References to pages and holes, ascending from `start` on, and where they end.
    pub fn pages(&mut self, start: u64) -> (u64, Vec<PageRef>) {
        let mut end = start;
        let count = 1 + self.below(5);
        let pages = (0..count).map(|_| {
            let start = end;
            end += 1 + self.below(1 << 30);
            match self.below(4) {
                0 => PageRef { start, page: None, extents: 0 },
                _ => {
                    let page = Some(BufferId(1 + self.below(1 << 60)));
                    PageRef { start, page, extents: 1 + self.below(43_690) as u32 }
                }
            }
        });
        let pages = pages.collect();
        (end, pages)
    }

    /// Ids, ascending, above `from`.
    pub fn names(&mut self, from: u64) -> Vec<BufferId> {
        let mut id = from;
        let count = self.below(6);
        let mut next = || {
            id += 1 + self.below(1 << 20);
            BufferId(id)
        };
        (0..count).map(|_| next()).collect()
    }

    /// A page's record: the page comes after the buffers that it names, or before them.
    fn page_record(&mut self) -> Record {
        let names = self.names(1000);
        let page = match self.below(2) {
            0 => self.below(1000),
            _ => (1 << 40) + self.below(1000),
        };
        let mut buffers = vec![self.buffer_def(page)];
        for name in &names {
            if self.below(2) == 0 {
                buffers.push(BufferDef { checks: Vec::new(), ..self.buffer_def(name.0) });
            }
        }
        buffers.sort_by_key(|def| def.id);
        let (bucket, key, version) = (BucketId(self.u32()), self.key(), Version(self.next()));
        Record::Page { bucket, key, version, page: BufferId(page), names, buffers }
    }

    fn paged_record(&mut self, bucket: BucketId, version: Version) -> Record {
        let (base, start) = match self.below(2) {
            0 => (None, 0),
            _ => (Some(Version(1 + self.below(1 << 60))), self.below(1 << 40)),
        };
        let version = base.map_or(version, |base| Version(base.0 + 1));
        let (end, pages) = self.pages(start);
        let cut = match base {
            None => 0..VALUE_LEN_MAX,
            Some(_) => start..end,
        };
        let (key, len) = (self.key(), self.below(VALUE_LEN_MAX));
        let attributes = if base.is_none() { self.attributes() } else { None };
        Record::Paged { bucket, key, base, version, len, cut, pages, attributes }
    }

    /// The score, some values of every type, both, or nothing.
    pub fn attributes(&mut self) -> Option<Attributes> {
        let score = (self.below(3) == 0).then(|| self.below(1001) as f32 / 1000.0);
        let mut values = AttributeList::new();
        for number in 0..self.below(2) * self.below(8) {
            let name = format!("{number}{}", "n".repeat(self.below(60) as usize));
            let value = match self.below(3) {
                0 => AttributeValue::Integer(self.next() as i64),
                1 => AttributeValue::Float(self.next() as f64 / 7.0 - 1e18),
                _ => AttributeValue::Text("ä".repeat(self.below(200) as usize)),
            };
            values.push((name, value));
        }
        Attributes::new(score, &values).unwrap()
    }

    pub fn segment(&mut self) -> TierSegment {
        TierSegment { tier: TierId(self.below(16) as u8), segment: SegmentId(self.u32()) }
    }

    pub fn segment_kind(&mut self) -> SegmentKind {
        [SegmentKind::Log, SegmentKind::Data, SegmentKind::Meta][self.below(3) as usize]
    }

    pub fn bucket_options(&mut self) -> BucketRecord {
        use Durability::{Durable, Memory, Written};
        BucketRecord {
            durability: [None, Some(Memory), Some(Written), Some(Durable)][self.below(4) as usize],
            buffer_size: [0, 64 << 10, 1 << 20][self.below(3) as usize],
            quota_bytes: self.next(),
            quota_blobs: self.next(),
        }
    }

    pub fn record(&mut self, kind: RecordKind) -> Record {
        let bucket = BucketId(self.u32());
        let version = Version(self.below(u64::MAX - 10) + 1);
        match kind {
            RecordKind::Put => {
                let (len, extents, buffers) = self.map(0);
                let (key, attributes) = (self.key(), self.attributes());
                Record::Put { bucket, key, version, len, extents, buffers, attributes }
            }
            RecordKind::Splice => {
                let start = self.below(1 << 40);
                let (end, extents, buffers) = self.map(start);
                let base = Version(self.below(version.0));
                let (key, len) = (self.key(), end + self.below(1 << 30));
                let cut = start..end;
                Record::Splice { bucket, key, base, version, len, cut, extents, buffers }
            }
            RecordKind::Delete => Record::Delete { bucket, key: self.key(), version },
            RecordKind::Move => {
                let (buffer, from) = (BufferId(self.next()), self.location());
                let subject = match self.below(2) {
                    0 => MoveSubject::Lone { bucket, key: self.key(), buffer },
                    _ => MoveSubject::Table { buffer },
                };
                let to = Location::from_bits(from.to_bits() ^ 4096);
                Record::Move { subject, from, to }
            }
            RecordKind::BucketCreate => {
                let len = 1 + self.below(255) as usize;
                let options = self.bucket_options();
                Record::BucketCreate { bucket, name: self.bytes(len).into(), options }
            }
            RecordKind::BucketChange => {
                let len = 1 + self.below(255) as usize;
                let options = self.bucket_options();
                Record::BucketChange { bucket, name: self.bytes(len).into(), options }
            }
            RecordKind::BucketDestroy => Record::BucketDestroy { bucket },
            RecordKind::BucketClear => Record::BucketClear { bucket, version },
            RecordKind::SegmentOpen => Record::SegmentOpen {
                segment: self.segment(),
                generation: self.u32(),
                kind: self.segment_kind(),
            },
            RecordKind::SegmentFree => {
                Record::SegmentFree { segment: self.segment(), generation: self.u32() }
            }
            RecordKind::Marker => Record::Marker,
            RecordKind::Page => self.page_record(),
            RecordKind::Paged => self.paged_record(bucket, version),
            RecordKind::Release => {
                Record::Release { page: BufferId(self.next()), names: self.names(0) }
            }
            RecordKind::Share => {
                let ids: Vec<_> =
                    (1..2 + self.below(3)).map(|n| n * 1000 + self.below(999)).collect();
                let buffers = ids.into_iter().map(|id| self.buffer_def(id)).collect();
                Record::Share { bucket, key: self.key(), buffers }
            }
            RecordKind::Attributes => {
                let base = Version(self.below(version.0));
                let (key, attributes) = (self.key(), self.attributes());
                Record::Attributes { bucket, key, base, version, attributes }
            }
        }
    }

    pub fn any_record(&mut self) -> Record {
        let kind = Record::KINDS[self.below(Record::KINDS.len() as u64) as usize];
        self.record(kind)
    }

    pub fn batch_identity(&mut self) -> BatchIdentity {
        let seq = 1 + self.below(1 << 60);
        BatchIdentity {
            store: self.uuid(),
            device: self.uuid(),
            epoch: Epoch(1 + self.below(1 << 20) as u32),
            stream: 0,
            seq: BatchSeq(seq),
            watermark: BatchSeq(self.below(seq)),
            chain: self.u32(),
            segment: self.segment(),
            generation: self.u32(),
            device_offset: self.below(1 << 40) * 4096,
            next: (self.below(2) == 0).then(|| (SegmentId(self.u32() / 2), self.u32())),
            wall_clock: self.next(),
        }
    }

    pub fn log_start(&mut self) -> LogStart {
        LogStart {
            segment: self.segment(),
            generation: self.u32(),
            offset: self.below(1 << 40) * 4096,
            seq: BatchSeq(1 + self.below(1 << 60)),
            chain: self.u32(),
        }
    }

    /// Chunks and the sum of their lengths.
    pub fn chunks(&mut self, most: u64) -> (Vec<Chunk>, u64) {
        let chunks: Vec<_> = (0..self.below(most + 1))
            .map(|_| Chunk { location: self.location(), len: 1 + self.u32() / 2 })
            .collect();
        let len = chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
        (chunks, len)
    }

    pub fn superblock(&mut self) -> Superblock {
        let tiers: Vec<_> = (0..1 + self.below(16)).map(|_| self.uuid()).collect();
        let tier = self.below(tiers.len() as u64) as u8;
        let cut_count = self.below(65) as u32;
        let (chunks, len) = self.chunks(64);
        let root = RootRef { seq: BatchSeq(self.next()), len, crc: self.u32(), chunks };
        let epoch = cut_count + 1 + self.below(1000) as u32;
        let compat = self.next();
        let has_supplement = compat & COMPAT_SUPPLEMENT != 0;
        let previous = (has_supplement && self.below(3) > 0).then(|| {
            let (chunks, len) = self.chunks(64);
            let root = RootRef { seq: BatchSeq(self.next()), len, crc: self.u32(), chunks };
            let checkpoint = (!root.chunks.is_empty()).then_some(root);
            Previous { checkpoint, log_start: self.log_start() }
        });
        let begun = if has_supplement { self.below(u64::from(epoch) + 1) as u32 } else { 0 };
        Superblock {
            minor: self.u32() as u16,
            features: Features { compat, ro_compat: self.next(), incompat: 0 },
            store: self.uuid(),
            device: tiers[usize::from(tier)],
            tier: TierId(tier),
            tier_kind: [TierKind::Nvme, TierKind::Hdd][self.below(2) as usize],
            tier_epochs: tiers
                .iter()
                .map(|_| Epoch(self.below(u64::from(epoch) + 1) as u32))
                .collect(),
            tiers,
            capacity: (64 << 20) + self.below(1 << 45),
            segment_size: [4 << 20, 64 << 20][self.below(2) as usize],
            hash_seed: self.next(),
            epoch: Epoch(epoch),
            generation: 1 + self.below(1 << 60),
            watermark: BatchSeq(self.below(1 << 60)),
            clean: self.below(2) == 0,
            log_start: self.log_start(),
            cuts: (1..=cut_count)
                .map(|epoch| Cut { epoch: Epoch(epoch), seq: BatchSeq(self.below(1 << 60)) })
                .collect(),
            checkpoint: (!root.chunks.is_empty()).then_some(root),
            previous,
            begun: Epoch(begun),
        }
    }

    pub fn root(&mut self) -> Root {
        let mut number = 0;
        let mut ascending = |random: &mut Random| {
            number += 1 + random.below(5) as u32;
            number
        };
        let buckets: Vec<_> = (0..self.below(5))
            .map(|_| BucketEntry {
                bucket: BucketId(ascending(self)),
                name: self.key()[..1].into(),
                options: self.bucket_options(),
            })
            .collect();
        let segments = (0..self.below(9))
            .map(|_| SegmentEntry {
                segment: TierSegment { tier: TierId(2), segment: SegmentId(ascending(self)) },
                generation: self.u32() / 2,
                kind: self.segment_kind(),
            })
            .collect();
        let partitions = (0..PARTITIONS).map(|_| {
            let (chunks, len) = self.chunks(2);
            let crc = if chunks.is_empty() { 0 } else { self.u32() };
            PartitionRef { cut: BatchSeq(self.next()), len, crc, chunks }
        });
        Root {
            partitions: partitions.collect(),
            store: self.uuid(),
            seq: BatchSeq(self.next()),
            next_version: Version(self.next()),
            next_bucket: BucketId(buckets.last().map_or(1, |last| last.bucket.0 + 1)),
            next_generation: u32::MAX,
            log_start: self.log_start(),
            buckets,
            segments,
        }
    }
}

/// What the reader of this batch, and no other, expects.
pub fn expect_of(identity: &BatchIdentity) -> BatchExpect<'static> {
    BatchExpect {
        store: identity.store,
        device: identity.device,
        segment: identity.segment,
        generation: identity.generation,
        device_offset: identity.device_offset,
        seq: Some(identity.seq),
        chain: Some(identity.chain),
        epochs: identity.epoch..=identity.epoch,
        cuts: &[],
    }
}
