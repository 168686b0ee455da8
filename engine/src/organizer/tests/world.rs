//! A store of two tiers in the simulator, with a stand-in for the log's owner.

use std::sync::Arc;
use std::time::Duration;

use crate::buckets::Buckets;
use crate::config::{OrganizerChoice, ScrubSettings, default_watermarks};
use crate::core::{BufferName, Core, Parts, Request, Settings};
use crate::index::state::{BlobState, Buffer, Checks, Value, checksums};
use crate::index::table::{BufferTable, from_record};
use crate::index::{Index, MemoryBudget};
use crate::io::buffer::BufferPool;
use crate::io::exec::Started;
use crate::io::runtime::{Actor, Runtime, Turn};
use crate::io::sim::SimWorld;
use crate::io::sim_device::SimDevice;
use crate::io::{Device, Devices};
use crate::limits::{BLOCK, PAGE_EXTENTS_DEFAULT, PARTITIONS, STRIPES};
use crate::log::batch::{BatchIdentity, BatchItem, encode, layout};
use crate::log::record::{BufferDef, Extent, Record, SegmentKind};
use crate::log::segment::{SegmentHeader, SegmentIdentity};
use crate::organizer::start;
use crate::paging::cache::PageCache;
use crate::shard::apply;
use crate::shard::log_owner::Effect;
use crate::tier::dram::Dram;
use crate::tier::space::{Purpose, SegmentState, Space, Tier};
use crate::tier::writer::{SegmentWriter, WriterIdentity};
use crate::types::{
    BatchSeq, BucketId, BufferId, Durability, Epoch, Location, Place, TierId, TierKind,
    TierSegment, Uuid, Version,
};

pub(super) const SEGMENT: u64 = 4 << 20;
pub(super) const CAPACITY: u64 = 64 << 20;
pub(super) const BUCKET: BucketId = BucketId(1);
pub(super) const FAST: TierId = TierId(0);
pub(super) const SLOW: TierId = TierId(1);

/// Answers what the organizer asks of shard 0.
struct Owner {
    core: Arc<Core>,
    refuse_moves: bool,
}

impl Actor for Owner {
    fn turn(&mut self, _may_sleep: bool) -> Turn {
        let mut requests = Vec::new();
        self.core.shards[0].drain(16, &mut requests);
        let any = !requests.is_empty();
        for request in requests {
            match request {
                Request::Move(request) => {
                    let lost = self.refuse_moves
                        || !apply::is_at(&self.core, &request.subject, request.from);
                    match lost {
                        true => apply::refuse_move(&self.core, request),
                        false => drop(apply::apply(&self.core, Effect::Move(request))),
                    }
                }
                Request::Reclaim => drop(self.core.space.reclaim(BatchSeq(0))),
                Request::SegmentOpened(..) | Request::SealOpen => {}
                _ => panic!("the organizer asked for something else"),
            }
        }
        if any { Turn::Progress } else { Turn::Idle(None) }
    }
}

/// A store of two tiers with nothing in it.
pub(super) struct World {
    pub(super) sim: Arc<SimWorld>,
    pub(super) core: Arc<Core>,
    next: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        World::with_dram_watermarks(seed, default_watermarks(Some(TierKind::Dram)))
    }

    pub(super) fn with_dram_watermarks(seed: u64, dram_watermarks: (f64, f64)) -> World {
        let sim = SimWorld::new(seed);
        let runtime = Runtime::Sim(sim.clone());
        let devices: Devices =
            (0..2).map(|n| SimDevice::new(sim.clone(), n, CAPACITY) as Arc<dyn Device>).collect();
        let tier = |id, kind| Tier::new(id, kind, CAPACITY, SEGMENT, (0.7, 0.85));
        let tiers = vec![tier(FAST, TierKind::Nvme), tier(SLOW, TierKind::Hdd)];
        tiers.iter().for_each(|tier| tier.set_reserve(2, 1, 1));
        let space = Arc::new(Space::new(tiers, Box::new(|_, _| Ok(()))));
        let budget = Arc::new(MemoryBudget::new(1 << 30));
        let dram = Arc::new(Dram::new(8 << 20, STRIPES).unwrap());
        let core = Arc::new(Core::new(Parts {
            runtime,
            devices,
            pool: BufferPool::new(16 << 20),
            reads_bytes: 16 << 20,
            table: Arc::new(BufferTable::new(PARTITIONS, space.clone(), budget.clone())),
            pages: PageCache::new(1 << 20),
            index: Index::new(7, &dram, budget),
            space,
            dram,
            buckets: Buckets::default(),
            shards: 1,
            settings: Settings {
                store: Uuid([1; 16]),
                epoch: Epoch(1),
                durability: Durability::Written,
                buffer_size: 1 << 20,
                flush_interval: Duration::from_secs(1),
                checksum_at_entry: false,
                scrub: ScrubSettings::OFF,
                page_extents: PAGE_EXTENTS_DEFAULT,
                memory_budget: 1 << 30,
                dram_watermarks,
                read_only: None,
            },
            first_version: Version::first_of(Epoch(1)),
            watermark: BatchSeq(0),
        }));
        World { sim, core, next: 1 }
    }

    pub(super) fn writer(&self, tier: TierId) -> SegmentWriter {
        let identity = WriterIdentity {
            store: Uuid([1; 16]),
            device: Uuid([10 + tier.0; 16]),
            epoch: Epoch(1),
            writer: 0,
        };
        SegmentWriter::new(self.core.space.clone(), identity, tier, Purpose::Data)
    }

    /// A sealed segment of lone blobs of these lengths.
    pub(super) fn segment(&mut self, tier: TierId, lens: &[usize]) -> (TierSegment, Vec<u64>) {
        let mut writer = self.writer(tier);
        let device = self.core.devices[tier.index()].clone();
        let (at, _, header) = writer.open(0).unwrap().unwrap();
        write(&*device, header.offset, &header.bytes);
        let mut ids = Vec::new();
        for len in lens {
            let bytes = content(self.next, *len);
            let (checks, logical_crc) = checksums(&bytes);
            let mut buffer = Buffer {
                id: BufferId(self.next),
                location: Location::device(tier, 0),
                raw_len: *len as u32,
                stored_len: *len as u32,
                encoding: 0,
                logical_crc,
                checks: Checks::from_slice(&checks),
            };
            let name = BufferName {
                bucket: BUCKET,
                key: key(self.next),
                version: Version(self.next),
                value_offset: 0,
                table: false,
            };
            let padded = len.next_multiple_of(BLOCK);
            let start = writer.place(padded, &[(&name, 0, &buffer)]).unwrap();
            buffer.location = Location::device(tier, start);
            write(&*device, start, &[bytes, vec![0; padded - len]].concat());
            self.define(buffer);
            ids.push(self.next);
            self.next += 1;
        }
        let (at_closed, tail) = writer.close().unwrap().unwrap();
        assert_eq!(at, at_closed);
        write(&*device, tail.offset, &tail.bytes);
        self.core.space.seal(at, self.core.runtime.now().0);
        (at, ids)
    }

    pub(super) fn define(&self, buffer: Buffer) {
        let key = key(buffer.id.0);
        let hash = self.core.index.hash(BUCKET, &key);
        let mut stripe = self.core.index.lock(hash);
        let entry = self.core.index.get_or_insert(&mut stripe, hash, BUCKET, &key);
        let state = BlobState {
            version: Version(buffer.id.0),
            len: u64::from(buffer.raw_len),
            value: Value::Lone(buffer),
            attributes: None,
        };
        drop(entry.set_logged(state, &self.core.table));
        drop(entry.publish(&self.core.table));
    }

    pub(super) fn delete(&self, id: u64) {
        let key = key(id);
        let hash = self.core.index.hash(BUCKET, &key);
        let mut stripe = self.core.index.lock(hash);
        let entry = stripe.get(hash, BUCKET, &key).unwrap();
        drop(entry.set_logged(BlobState::absent(Version(id + 1_000_000)), &self.core.table));
        drop(entry.publish(&self.core.table));
    }

    /// Hands a lone buffer to the table, as a copy of the blob does.
    pub(super) fn share(&self, id: u64) {
        let key = key(id);
        let hash = self.core.index.hash(BUCKET, &key);
        let mut stripe = self.core.index.lock(hash);
        stripe.get(hash, BUCKET, &key).unwrap().hand_over_lone(BufferId(id), &self.core.table);
    }

    pub(super) fn buffer(&self, id: u64) -> Buffer {
        if let Some(row) = self.core.table.get(BufferId(id)) {
            return row;
        }
        let key = key(id);
        let hash = self.core.index.hash(BUCKET, &key);
        let mut stripe = self.core.index.lock(hash);
        stripe.get(hash, BUCKET, &key).unwrap().visible.lone().unwrap().clone()
    }

    pub(super) fn heat(&self, id: u64) {
        let key = key(id);
        let hash = self.core.index.hash(BUCKET, &key);
        let mut stripe = self.core.index.lock(hash);
        let entry = stripe.get(hash, BUCKET, &key).unwrap();
        for _ in 0..8 {
            entry.heat = entry.heat.touched(self.core.runtime.now());
        }
    }

    /// The bytes of a buffer are where the index says.
    pub(super) fn check(&self, id: u64) {
        let buffer = self.buffer(id);
        let Place::Device { tier, offset } = buffer.location.place() else { panic!("in DRAM") };
        let start = offset / BLOCK as u64 * BLOCK as u64;
        let skip = (offset - start) as usize;
        let len = buffer.stored_len as usize;
        let mut bytes = vec![0; (skip + len).next_multiple_of(BLOCK)];
        self.core.devices[tier.index()].read_at(start, &mut bytes).unwrap();
        assert!(
            bytes[skip..skip + len] == content(id, len),
            "buffer {id} at {:?}",
            buffer.location
        );
    }

    /// Takes free segments away until `left` of the tier remain.
    pub(super) fn crowd(&self, tier: TierId, left: usize) {
        while self.core.space.tier(tier).free_segments() > left {
            self.core.space.allocate(tier, Purpose::Meta).unwrap();
        }
    }

    pub(super) fn run(&self, refuse_moves: bool) -> Started {
        let owner = Owner { core: self.core.clone(), refuse_moves };
        self.sim.add_actor("owner", Box::new(owner));
        let devices = Arc::from([Uuid([10; 16]), Uuid([11; 16])]);
        start(self.core.clone(), OrganizerChoice::Auto, devices).unwrap()
    }

    pub(super) fn run_until(&self, what: &str, done: impl Fn() -> bool) {
        for _ in 0..200_000 {
            if done() {
                return;
            }
            self.sim.step();
        }
        panic!("not in time: {what}; notes: {:?}", self.core.counters.notes());
    }

    pub(super) fn stop(&self, started: Started) {
        self.core.organizer.stop();
        assert!(started.handle.join());
        let open = |tier: &Tier| {
            tier.segments().iter().filter(|segment| segment.state() == SegmentState::Open).count()
        };
        assert_eq!(
            self.core.space.tiers().iter().map(open).sum::<usize>(),
            0,
            "segments left open"
        );
    }

    pub(super) fn state(&self, at: TierSegment) -> SegmentState {
        self.core.space.tier(at.tier).segment(at.segment).state()
    }

    pub(super) fn tier_of(&self, id: u64) -> TierId {
        match self.buffer(id).location.place() {
            Place::Device { tier, .. } => tier,
            Place::Dram(_) => panic!("buffer {id} is in DRAM"),
        }
    }
}

pub(super) fn key(id: u64) -> Arc<[u8]> {
    format!("key {id}").into_bytes().into()
}

pub(super) fn content(id: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|n| (n.wrapping_mul(31) ^ (n >> 8) ^ id) as u8).collect()
}

pub(super) fn write(device: &dyn Device, offset: u64, bytes: &[u8]) {
    device.write_at(offset, bytes).unwrap();
}

impl World {
    /// A former log segment whose one batch carries lone blobs of these lengths.
    pub(super) fn log_segment(&mut self, lens: &[usize]) -> (TierSegment, Vec<u64>) {
        let space = self.core.space.clone();
        let at = space.allocate(FAST, Purpose::Log).unwrap();
        let generation = space.tier(FAST).segment(at.segment).generation();
        let start = space.tier(FAST).offset_of(at.segment);
        let (store, device) = (Uuid([1; 16]), Uuid([10; 16]));
        let header = SegmentHeader {
            identity: SegmentIdentity { store, device, segment: at, generation },
            kind: SegmentKind::Log,
            epoch: Epoch(1),
            writer: 0,
            wall_clock: 0,
        };
        write(&*self.core.devices[0], start, &header.encode().unwrap());
        let ids: Vec<u64> = (self.next..).take(lens.len()).collect();
        self.next += lens.len() as u64;
        let bytes: Vec<Vec<u8>> =
            ids.iter().zip(lens).map(|(id, len)| content(*id, *len)).collect();
        let item = |(id, bytes): (&u64, &'_ Vec<u8>)| {
            let (checks, logical_crc) = checksums(bytes);
            let buffer = BufferDef {
                id: BufferId(*id),
                raw_len: bytes.len() as u32,
                stored_len: bytes.len() as u32,
                location: Location::device(FAST, 0),
                encoding: 0,
                logical_crc,
                checks,
            };
            let extent = Extent {
                value_offset: 0,
                len: buffer.raw_len,
                buffer: buffer.id,
                buffer_offset: 0,
            };
            Record::Put {
                bucket: BUCKET,
                key: (*key(*id)).into(),
                version: Version(*id),
                len: bytes.len() as u64,
                extents: vec![extent],
                buffers: vec![buffer],
                attributes: None,
            }
        };
        let mut items: Vec<BatchItem<'_>> = ids
            .iter()
            .zip(&bytes)
            .map(|pair| BatchItem { record: item(pair), payloads: vec![(0, pair.1)] })
            .collect();
        let plan = layout(&items, SEGMENT as usize - BLOCK).unwrap();
        let identity = BatchIdentity {
            store,
            device,
            epoch: Epoch(1),
            stream: 0,
            seq: BatchSeq(5),
            watermark: BatchSeq(0),
            chain: 77,
            segment: at,
            generation,
            device_offset: start + BLOCK as u64,
            next: None,
            wall_clock: 0,
        };
        let mut batch = vec![0; plan.total_len()];
        encode(&plan, &mut items, &identity, &mut batch).unwrap();
        write(&*self.core.devices[0], start + BLOCK as u64, &batch);
        for item in &items {
            let buffer = from_record(&item.record.buffers()[0]);
            space.bytes_live(buffer.location, buffer.stored_len);
            self.define(buffer);
        }
        space.seal(at, self.core.runtime.now().0);
        (at, ids)
    }
}
