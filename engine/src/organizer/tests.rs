//! The organizer against a whole index, in the simulator, with a stand-in for the log's owner.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::buckets::Buckets;
use crate::config::OrganizerChoice;
use crate::core::{BufferName, Core, Parts, Request, Settings};
use crate::index::state::{BlobState, Buffer, Checks, Value, checksums};
use crate::index::table::{BufferTable, from_record};
use crate::index::{Index, MemoryBudget};
use crate::io::buffer::{AlignedBuf, BufferPool};
use crate::io::exec::{Class, Exec, LocalFuture, Started};
use crate::io::runtime::{Actor, Runtime, Turn};
use crate::io::sim::SimWorld;
use crate::io::sim_device::SimDevice;
use crate::io::{Device, Devices};
use crate::limits::{BLOCK, PAGE_EXTENTS_DEFAULT, PARTITIONS, STRIPES};
use crate::log::batch::{BatchIdentity, BatchItem, encode, layout};
use crate::log::record::{BufferDef, Extent, Record, SegmentKind};
use crate::log::segment::{SegmentHeader, SegmentIdentity};
use crate::organizer::{HINTS_MAX, OrganizerHandle, census, start};
use crate::paging::cache::PageCache;
use crate::shard::apply;
use crate::shard::log_owner::Effect;
use crate::tier::dram::{DirRange, Dram, Fresh, PublishHead};
use crate::tier::space::{Purpose, SegmentState, Space, Tier, footprint};
use crate::tier::writer::{SegmentWriter, WriterIdentity};
use crate::types::{
    BatchSeq, BucketId, BufferId, Durability, Epoch, Location, Place, TierId, TierKind,
    TierSegment, Uuid, Version,
};

const SEGMENT: u64 = 4 << 20;
const CAPACITY: u64 = 64 << 20;
const BUCKET: BucketId = BucketId(1);
const FAST: TierId = TierId(0);
const SLOW: TierId = TierId(1);

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
struct World {
    sim: Arc<SimWorld>,
    core: Arc<Core>,
    next: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let sim = SimWorld::new(seed);
        let runtime = Runtime::Sim(sim.clone());
        let devices: Devices =
            (0..2).map(|n| SimDevice::new(sim.clone(), n, CAPACITY) as Arc<dyn Device>).collect();
        let tier = |id, kind| Tier::new(id, kind, CAPACITY, SEGMENT, (0.7, 0.85));
        let tiers = vec![tier(FAST, TierKind::Nvme), tier(SLOW, TierKind::Hdd)];
        tiers.iter().for_each(|tier| tier.set_reserve(2, 1, 1));
        let space = Arc::new(Space::new(tiers));
        let budget = Arc::new(MemoryBudget::new(1 << 30));
        let dram = Arc::new(Dram::new(8 << 20, STRIPES).unwrap());
        let core = Arc::new(Core::new(Parts {
            runtime,
            devices,
            pool: BufferPool::new(16 << 20),
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
                page_extents: PAGE_EXTENTS_DEFAULT,
                memory_budget: 1 << 30,
                read_only: None,
            },
            first_version: Version::first_of(Epoch(1)),
            watermark: BatchSeq(0),
        }));
        World { sim, core, next: 1 }
    }

    fn writer(&self, tier: TierId) -> SegmentWriter {
        let identity = WriterIdentity {
            store: Uuid([1; 16]),
            device: Uuid([10 + tier.0; 16]),
            epoch: Epoch(1),
            writer: 0,
        };
        SegmentWriter::new(self.core.space.clone(), identity, tier, Purpose::Data)
    }

    /// A sealed segment of lone blobs of these lengths.
    fn segment(&mut self, tier: TierId, lens: &[usize]) -> (TierSegment, Vec<u64>) {
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

    fn define(&self, buffer: Buffer) {
        let key = key(buffer.id.0);
        let hash = self.core.index.hash(BUCKET, &key);
        let mut stripe = self.core.index.lock(hash);
        let entry = self.core.index.get_or_insert(&mut stripe, hash, BUCKET, &key);
        let state = BlobState {
            version: Version(buffer.id.0),
            len: u64::from(buffer.raw_len),
            value: Value::Lone(buffer),
        };
        drop(entry.set_logged(state, &self.core.space));
        drop(entry.publish(&self.core.space));
    }

    fn delete(&self, id: u64) {
        let key = key(id);
        let hash = self.core.index.hash(BUCKET, &key);
        let mut stripe = self.core.index.lock(hash);
        let entry = stripe.get(hash, BUCKET, &key).unwrap();
        drop(entry.set_logged(BlobState::absent(Version(id + 1_000_000)), &self.core.space));
        drop(entry.publish(&self.core.space));
    }

    /// Hands a lone buffer to the table, as a copy of the blob does.
    fn share(&self, id: u64) {
        let key = key(id);
        let hash = self.core.index.hash(BUCKET, &key);
        let mut stripe = self.core.index.lock(hash);
        stripe.get(hash, BUCKET, &key).unwrap().hand_over_lone(BufferId(id), &self.core.table);
    }

    fn buffer(&self, id: u64) -> Buffer {
        if let Some(row) = self.core.table.get(BufferId(id)) {
            return row;
        }
        let key = key(id);
        let hash = self.core.index.hash(BUCKET, &key);
        let mut stripe = self.core.index.lock(hash);
        stripe.get(hash, BUCKET, &key).unwrap().visible.lone().unwrap().clone()
    }

    fn heat(&self, id: u64) {
        let key = key(id);
        let hash = self.core.index.hash(BUCKET, &key);
        let mut stripe = self.core.index.lock(hash);
        let entry = stripe.get(hash, BUCKET, &key).unwrap();
        for _ in 0..8 {
            entry.heat = entry.heat.touched(self.core.runtime.now());
        }
    }

    /// The bytes of a buffer are where the index says.
    fn check(&self, id: u64) {
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
    fn crowd(&self, tier: TierId, left: usize) {
        while self.core.space.tier(tier).free_segments() > left {
            self.core.space.allocate(tier, Purpose::Meta).unwrap();
        }
    }

    fn run(&self, refuse_moves: bool) -> Started {
        let owner = Owner { core: self.core.clone(), refuse_moves };
        self.sim.add_actor("owner", Box::new(owner));
        let devices = Arc::from([Uuid([10; 16]), Uuid([11; 16])]);
        start(self.core.clone(), OrganizerChoice::Auto, devices).unwrap()
    }

    fn run_until(&self, what: &str, done: impl Fn() -> bool) {
        for _ in 0..200_000 {
            if done() {
                return;
            }
            self.sim.step();
        }
        panic!("not in time: {what}; notes: {:?}", self.core.counters.notes());
    }

    fn stop(&self, started: Started) {
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

    fn state(&self, at: TierSegment) -> SegmentState {
        self.core.space.tier(at.tier).segment(at.segment).state()
    }

    fn tier_of(&self, id: u64) -> TierId {
        match self.buffer(id).location.place() {
            Place::Device { tier, .. } => tier,
            Place::Dram(_) => panic!("buffer {id} is in DRAM"),
        }
    }
}

fn key(id: u64) -> Arc<[u8]> {
    format!("key {id}").into_bytes().into()
}

fn content(id: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|n| (n.wrapping_mul(31) ^ (n >> 8) ^ id) as u8).collect()
}

fn write(device: &dyn Device, offset: u64, bytes: &[u8]) {
    device.write_at(offset, bytes).unwrap();
}

impl World {
    /// A former log segment whose one batch carries lone blobs of these lengths.
    fn log_segment(&mut self, lens: &[usize]) -> (TierSegment, Vec<u64>) {
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

const LENS: [usize; 12] =
    [100, 5000, 1 << 20, 4096, 20, 300_000, 16_384, 16_385, 1, 64 << 10, 4095, 700_000];

#[test]
fn a_segment_is_emptied_and_freed_when_its_tier_is_short_of_room() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        let (victim, ids) = world.segment(FAST, &LENS);
        ids.iter().step_by(3).for_each(|id| world.delete(*id));
        let live: Vec<u64> = ids.iter().copied().filter(|id| (id - 1) % 3 != 0).collect();
        world.share(live[0]);
        world.share(live[3]);
        world.crowd(FAST, 5);
        let before = world.core.space.tiers()[0].live_bytes();
        let started = world.run(false);
        world.run_until("the segment is freed", || world.state(victim) == SegmentState::Free);
        live.iter().for_each(|id| world.check(*id));
        assert_eq!(
            world.core.space.tiers()[0].live_bytes(),
            before,
            "no byte lost or counted twice"
        );
        let stats = world.core.organizer.stats();
        assert_eq!((stats.cleanings, stats.corrupt_buffers, stats.lost_races), (1, 0, 0));
        assert!(stats.moved_bytes > 0 && stats.read_bytes > 0 && stats.written_bytes > 0);
        world.stop(started);
    }
}

#[test]
fn a_segment_without_a_summary_is_emptied_by_way_of_the_index() {
    let mut world = World::new(3);
    let (victim, ids) = world.segment(FAST, &LENS[3..]);
    world.share(ids[2]);
    let end = world.core.space.tier(FAST).offset_of(victim.segment) + SEGMENT;
    write(&*world.core.devices[0], end - BLOCK as u64, &vec![7; BLOCK]);
    world.crowd(FAST, 5);
    let started = world.run(false);
    world.run_until("the segment is freed", || world.state(victim) == SegmentState::Free);
    ids.iter().for_each(|id| world.check(*id));
    world.stop(started);
}

#[test]
fn a_former_log_segment_is_emptied_by_way_of_its_batches() {
    let mut world = World::new(9);
    let (victim, ids) = world.log_segment(&[100, 5000, 4096, 16_384, 1, 900]);
    world.delete(ids[1]);
    world.share(ids[3]);
    let exec = LogReader(world.core.clone());
    let taken = census::take(&world.core, &exec, Uuid([10; 16]), victim, false);
    let found = world.core.runtime.block_on(taken);
    let mut live: Vec<u64> = found.live.iter().map(|occupant| occupant.buffer.id.0).collect();
    live.sort_unstable();
    let expected: Vec<u64> = ids.iter().copied().filter(|id| *id != ids[1]).collect();
    assert_eq!(live, expected);
    drop(found);
    world.crowd(FAST, 5);
    let started = world.run(false);
    world.run_until("the segment is freed", || world.state(victim) == SegmentState::Free);
    expected.iter().for_each(|id| world.check(*id));
    world.stop(started);
}

/// Reads a segment's words, and nothing else: a walk through the index would yield.
struct LogReader(Arc<Core>);

impl Exec for LogReader {
    fn spawn(&self, _class: Class, _task: LocalFuture<'static, ()>) {
        panic!("a census needs no tasks");
    }
    fn sleep(&self, _duration: Duration) -> LocalFuture<'_, ()> {
        panic!("a census does not sleep");
    }
    fn yield_now(&self) -> LocalFuture<'_, ()> {
        panic!("the index was walked");
    }
    fn read(
        &self,
        tier: TierId,
        offset: u64,
        len: usize,
    ) -> LocalFuture<'_, std::io::Result<AlignedBuf>> {
        let mut buf = AlignedBuf::alloc(len);
        let result = self.0.devices[tier.index()].read_at(offset, &mut buf.as_mut_slice()[..len]);
        Box::pin(async move { result.map(|()| buf) })
    }
    fn write(
        &self,
        _tier: TierId,
        _offset: u64,
        _len: usize,
        _buf: AlignedBuf,
    ) -> LocalFuture<'_, std::io::Result<AlignedBuf>> {
        panic!("a census does not write");
    }
    fn flush(&self, _tier: TierId) -> LocalFuture<'_, std::io::Result<()>> {
        panic!("a census does not flush");
    }
    fn backend(&self) -> &'static str {
        "test"
    }
}

#[test]
fn clean_slots_are_taken_out_of_a_full_arena() {
    let world = World::new(10);
    let dram = &world.core.dram;
    let mut id = 0;
    loop {
        let key = key(id);
        let len = 4000;
        let (Some(head), Some(slot)) = (dram.alloc(Dram::head_len(key.len(), 1)), dram.alloc(len))
        else {
            break;
        };
        let hash = world.core.index.hash(BUCKET, &key);
        let fresh = Fresh { buffer: BufferId(id), len: len as u32, dirty: false };
        let range =
            DirRange { value_offset: 0, len: len as u32, slot, slot_offset: 0, fresh: Some(fresh) };
        let mut stripe = world.core.index.lock(hash);
        dram.publish(
            &mut stripe.dir,
            &PublishHead {
                head,
                hash,
                bucket: BUCKET,
                key: &key,
                version: Version(id),
                len: len as u64,
                ranges: &[range],
            },
        );
        id += 1;
    }
    // The rest of the chunk of heads counts as free, too.
    while dram.alloc(Dram::head_len(5, 1)).is_some() {}
    assert!(dram.free_bytes() < dram.capacity() / 16);
    let started = world.run(false);
    world.run_until("an eighth is free", || dram.free_bytes() >= dram.capacity() / 8);
    assert!(world.core.organizer.stats().dram_evictions > 0);
    assert!(dram.free_bytes() < dram.capacity() / 2, "and not much more");
    world.stop(started);
}

#[test]
fn a_damaged_buffer_is_left_where_it_is_and_the_others_are_moved() {
    let mut world = World::new(4);
    let (victim, ids) = world.segment(FAST, &LENS[3..]);
    let damaged = world.buffer(ids[2]);
    let Place::Device { offset, .. } = damaged.location.place() else { panic!() };
    let mut bytes = vec![0; BLOCK];
    world.core.devices[0].read_at(offset, &mut bytes).unwrap();
    bytes[5] ^= 1;
    write(&*world.core.devices[0], offset, &bytes);
    world.crowd(FAST, 5);
    let started = world.run(false);
    let moved = |id: &u64| world.buffer(*id).location != damaged.location;
    world.run_until("all others are moved", || {
        let stats = world.core.organizer.stats();
        let segment = world.core.space.tier(FAST).segment(victim.segment);
        stats.corrupt_buffers > 0 && segment.live_bytes() == footprint(damaged.stored_len)
    });
    let attempts = world.core.organizer.exec.read_bytes.load(Ordering::Relaxed);
    world.run_until("another attempt", || {
        world.core.organizer.exec.read_bytes.load(Ordering::Relaxed) > attempts + 300_000
    });
    assert_eq!(world.core.organizer.stats().corrupt_buffers, 1, "counted once");
    assert_eq!(world.buffer(ids[2]).location, damaged.location);
    let others: Vec<u64> = ids.iter().copied().filter(|id| *id != ids[2]).collect();
    assert!(others.iter().all(moved));
    others.iter().for_each(|id| world.check(*id));
    assert_eq!(world.state(victim), SegmentState::Sealed);
    world.stop(started);
}

#[test]
fn lost_races_leave_no_live_copies_and_the_victim_alone_for_a_while() {
    let mut world = World::new(5);
    let (victim, ids) = world.segment(FAST, &LENS[3..]);
    world.crowd(FAST, 5);
    let before = world.core.space.tiers()[0].live_bytes();
    let started = world.run(true);
    let lost = || world.core.organizer.stats().lost_races;
    world.run_until("every move is refused", || lost() >= ids.len() as u64);
    world.run_until("the copies are dead", || world.core.space.tiers()[0].live_bytes() == before);
    let refused_at = world.sim.now();
    world.run_until("the second attempt", || lost() > ids.len() as u64);
    assert!(world.sim.now().since(refused_at) > Duration::from_millis(90), "tried again at once");
    assert_eq!(world.state(victim), SegmentState::Sealed);
    ids.iter().for_each(|id| world.check(*id));
    world.stop(started);
}

#[test]
fn above_the_high_watermark_cold_buffers_go_down_and_hot_ones_stay() {
    let mut world = World::new(6);
    let mut ids = Vec::new();
    while !is_above(&world, 0.85) {
        ids.extend(world.segment(FAST, &[1 << 20, 1 << 20, 16_384, 500_000]).1);
    }
    let hot = ids[2];
    world.heat(hot);
    let started = world.run(false);
    world.run_until("the low watermark", || !is_above(&world, 0.7));
    world.run_until("rest", || world.core.organizer.stats().demotions > 0);
    ids.iter().for_each(|id| world.check(*id));
    assert_eq!(world.tier_of(hot), FAST);
    assert_eq!(world.tier_of(ids[0]), SLOW, "the oldest goes first");
    world.stop(started);
}

fn is_above(world: &World, watermark: f64) -> bool {
    let tier = world.core.space.tier(FAST);
    tier.live_bytes() as f64 > watermark * tier.usable_bytes() as f64
}

#[test]
fn what_is_read_often_from_a_slow_tier_moves_up() {
    let mut world = World::new(7);
    let (_, ids) = world.segment(SLOW, &LENS);
    world.share(ids[5]);
    world.heat(ids[2]);
    world.heat(ids[5]);
    let started = world.run(false);
    for id in &ids {
        world.core.organizer.hint_promotion(world.core.index.hash(BUCKET, &key(*id)));
    }
    world.run_until("two promotions", || world.core.organizer.stats().promotions == 2);
    ids.iter().for_each(|id| world.check(*id));
    assert_eq!((world.tier_of(ids[2]), world.tier_of(ids[5])), (FAST, FAST));
    assert_eq!(world.tier_of(ids[0]), SLOW);
    world.stop(started);
}

#[test]
fn hints_are_bounded_and_never_wait() {
    let handle = OrganizerHandle::default();
    (0..HINTS_MAX as u64 + 5).for_each(|hash| handle.hint_promotion(hash));
    assert_eq!(handle.counters.hints_dropped.load(Ordering::Relaxed), 5);
    assert_eq!(handle.take_hints().len(), HINTS_MAX);
    assert!(handle.take_hints().is_empty());
}
