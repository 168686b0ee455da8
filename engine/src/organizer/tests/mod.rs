//! The organizer against a whole index, in the simulator, with a stand-in for the log's owner.

mod heat;
mod scrub;
mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::core::Core;
use crate::io::buffer::AlignedBuf;
use crate::io::exec::{Class, Exec, LocalFuture};
use crate::limits::BLOCK;
use crate::organizer::tests::world::{BUCKET, FAST, SEGMENT, SLOW, World, key, write};
use crate::organizer::{HINTS_MAX, OrganizerHandle, census};
use crate::tier::dram::{DirRange, Dram, Fresh, PublishHead};
use crate::tier::space::{SegmentState, footprint};
use crate::types::{BufferId, Place, TierId, Uuid, Version};

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
fn clean_slots_are_taken_out_of_a_full_arena_down_to_the_low_watermark() {
    for (low, high) in [(0.875, 0.9375), (0.4, 0.6)] {
        let world = World::with_dram_watermarks(10, (low, high));
        fill_with_clean_slots(&world);
        let dram = &world.core.dram;
        let free_at = |share: f64| (dram.capacity() as f64 * (1.0 - share)) as u64;
        assert!(dram.free_bytes() < free_at(high));
        let started = world.run(false);
        let wanted = free_at(low);
        world.run_until("the low watermark is reached", || dram.free_bytes() >= wanted);
        assert!(world.core.organizer.stats().dram_evictions > 0);
        assert!(dram.free_bytes() < wanted + dram.capacity() * 3 / 8, "and not much more");
        world.stop(started);
    }
}

fn fill_with_clean_slots(world: &World) {
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
    let looked = || {
        world.core.organizer.kick();
        let until = world.sim.now().after(Duration::from_secs(1));
        while world.sim.now() < until {
            world.sim.step_until(until);
        }
        world.core.organizer.exec.read_bytes.load(Ordering::Relaxed)
    };
    let read = looked();
    assert!((0..20).all(|_| looked() == read), "it is read again and again, in vain");
    assert_eq!(world.core.organizer.damage.list(&world.core).len(), 1);
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
