//! What follows from the logged state: maps with their counts, live bytes, keys in order, the
//! states of segments.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Result, fail};
use crate::index::Index;
use crate::index::entry::Entry;
use crate::index::state::{Buffer, Map, PagedMap, Value};
use crate::index::table::RowView;
use crate::limits::{BLOCK, PARTITIONS};
use crate::log::record::SegmentKind;
use crate::log::tail::LogTail;
use crate::recover::replay::{Parts, Replay, StagedMap};
use crate::recover::{Target, sound};
use crate::tier::space::{SegmentState, Space, footprint};
use crate::types::{BucketId, BufferId, Place, SegmentId, TierId, TierSegment};

/// What one thread has found in its partitions.
struct Sums {
    /// By tier and segment.
    live_bytes: Vec<Vec<u64>>,
    buckets: BTreeMap<BucketId, BucketSums>,
    /// Of the buffers that stand with their blobs, by partition of the table.
    lone: Vec<Vec<BufferId>>,
}

#[derive(Default)]
struct BucketSums {
    keys: Vec<Arc<[u8]>>,
    bytes: u64,
}

/// Completes index, table, buckets and segments.
pub(super) fn finish(
    target: &Target<'_>,
    replay: Replay<'_>,
    log_tier: TierId,
    tail: &LogTail,
    kept: &BTreeSet<TierSegment>,
) -> Result<()> {
    target.buckets.raise_ids(replay.buckets_used);
    for (id, (name, options)) in &replay.buckets {
        if let Some(other) = target.buckets.by_name(name) {
            fail!(Corrupt, "buckets {} and {} have one name", other.id.0, id.0);
        }
        target.buckets.insert(*id, name, *options);
    }
    let (runtime, lanes) = (target.runtime, target.runtime.lanes());
    let all_sums = Mutex::new(Vec::new());
    runtime.in_parallel(lanes, &|lane| {
        let mut sums = Sums::new(target.space);
        for partition in (lane..PARTITIONS).step_by(lanes) {
            sums.visit_partition(target, &replay, tail, partition)?;
        }
        all_sums.lock().push(sums);
        Ok(())
    })?;
    // Every map counts its buffers by now.
    target.table.forget_uncounted();
    runtime.in_parallel(lanes, &|lane| {
        let mut sums = Sums::new(target.space);
        for shard in (lane..PARTITIONS).step_by(lanes) {
            let mut result = Ok(());
            target.table.for_each_in(shard, |RowView { buffer, .. }| {
                if result.is_ok() {
                    result = check_place(target.space, tail, buffer);
                }
                if result.is_ok() {
                    sums.count_live(target.space, buffer);
                }
            });
            result?;
        }
        all_sums.lock().push(sums);
        Ok(())
    })?;
    let all_sums = all_sums.into_inner();
    runtime.in_parallel(lanes, &|lane| {
        (lane..PARTITIONS)
            .step_by(lanes)
            .try_for_each(|shard| check_apart(target, &all_sums, shard))
    })?;
    let mut buckets: BTreeMap<BucketId, BucketSums> = BTreeMap::new();
    for sums in all_sums {
        target.space.restore_live(&sums.live_bytes);
        for (bucket, found) in sums.buckets {
            let sum = buckets.entry(bucket).or_default();
            sum.keys.extend(found.keys);
            sum.bytes = sum.bytes.wrapping_add(found.bytes);
        }
    }
    for (bucket, found) in buckets {
        target.buckets.restore(bucket, found.keys, found.bytes);
    }
    let in_log = tail.history.iter().map(|start| start.generation + 1);
    let ahead = tail.ahead.map(|ahead| ahead.generation + 1);
    let next = in_log.chain(ahead).max().unwrap_or(1).max(replay.next_generation);
    target.space.raise_generation(next);
    restore_segments(target.space, log_tier, &replay.segments, tail, kept)
}

impl Sums {
    fn new(space: &Space) -> Sums {
        let segments = |tier: &crate::tier::space::Tier| vec![0; tier.segments().len()];
        Sums {
            live_bytes: space.tiers().iter().map(segments).collect(),
            buckets: BTreeMap::new(),
            lone: vec![Vec::new(); PARTITIONS],
        }
    }

    /// Makes the maps of a partition and adds up what its blobs hold.
    fn visit_partition(
        &mut self,
        target: &Target<'_>,
        replay: &Replay<'_>,
        tail: &LogTail,
        partition: usize,
    ) -> Result<()> {
        for number in Index::stripes_of(partition) {
            let mut stripe = target.index.lock_number(number);
            // What a destroyed or cleared bucket held is not live: nothing has been counted for it.
            if stripe.iter().any(|entry| is_gone(replay, entry)) {
                target.index.remove_where(&mut stripe, |entry| is_gone(replay, entry));
            }
        }
        let maps = std::mem::take(&mut *replay.maps[partition].lock());
        for map in maps {
            make_map(target, map)?;
        }
        for number in Index::stripes_of(partition) {
            let stripe = target.index.lock_number(number);
            for entry in stripe.iter() {
                if let Some(lone) = entry.visible.lone() {
                    check_place(target.space, tail, lone)?;
                    self.lone[target.table.shard_of(lone.id)].push(lone.id);
                    self.count_live(target.space, lone);
                }
                let sums = self.buckets.entry(entry.bucket).or_default();
                sums.keys.push(entry.key.clone());
                sums.bytes = sums.bytes.wrapping_add(entry.visible.len);
            }
        }
        Ok(())
    }

    fn count_live(&mut self, space: &Space, buffer: &Buffer) {
        let Place::Device { tier, offset } = buffer.location.place() else { return };
        let segment = space.tier(tier).segment_at(offset);
        self.live_bytes[tier.index()][segment.0 as usize] += footprint(buffer.stored_len);
    }
}

/// Refuses one lone buffer of two blobs, and one that maps or pages name: once it has become a part
/// of a map, one would read the other's bytes.
fn check_apart(target: &Target<'_>, all: &[Sums], shard: usize) -> Result<()> {
    let mut ids: Vec<BufferId> = all.iter().flat_map(|sums| &sums.lone[shard]).copied().collect();
    ids.sort_unstable();
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        fail!(Corrupt, "two blobs have buffer {} for themselves", pair[0].0);
    }
    match ids.iter().find(|id| target.table.get_location(**id).is_some()) {
        Some(id) => fail!(Corrupt, "buffer {} is a blob's own, and others name it", id.0),
        None => Ok(()),
    }
}

/// Whether a blob has gone with its bucket, or with all others of it.
fn is_gone(replay: &Replay<'_>, entry: &Entry) -> bool {
    let cleared = replay.cleared.get(&entry.bucket);
    !replay.buckets.contains_key(&entry.bucket)
        || cleared.is_some_and(|version| entry.visible.version < *version)
}

/// Makes the map of a blob, unless that has gone.
fn make_map(target: &Target<'_>, staged: StagedMap) -> Result<()> {
    if target.index.lock(staged.hash).get(staged.hash, staged.bucket, &staged.key).is_none() {
        return Ok(());
    }
    let value = match staged.parts {
        Parts::Extents(extents) => {
            target.table.check_extents(&extents, false)?;
            Value::Mapped(Arc::new(Map::new(extents, target.table)))
        }
        Parts::Pages(pages) => {
            if pages.first().is_none_or(|first| first.start != 0) {
                fail!(Corrupt, "the pages of a blob in bucket {} lack the first", staged.bucket.0);
            }
            for id in pages.iter().filter_map(|part| part.page) {
                if !target.table.is_page(id) {
                    fail!(Corrupt, "a blob names extent page {}, which no record defines", id.0);
                }
            }
            Value::Paged(Arc::new(PagedMap::new(pages, target.table)))
        }
    };
    let mut stripe = target.index.lock(staged.hash);
    if let Some(entry) = stripe.get(staged.hash, staged.bucket, &staged.key) {
        entry.visible.value = value;
    }
    Ok(())
}

/// Refuses a buffer that does not lie in a segment, behind its header, or where the log has yet to go.
fn check_place(space: &Space, tail: &LogTail, buffer: &Buffer) -> Result<()> {
    let inside = match buffer.location.place() {
        Place::Device { tier, offset } => {
            let at = sound::segment_of(space, tier, offset, buffer.stored_len);
            at.is_some_and(|at| {
                let segment_size = space.tier(at.tier).segment_size;
                let begin = offset % segment_size;
                let end_max = if at == tail.segment { tail.used } else { segment_size };
                begin >= BLOCK as u64 && begin + u64::from(buffer.stored_len) <= end_max
            })
        }
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

/// What every segment is, from what lies in it.
fn restore_segments(
    space: &Space,
    log_tier: TierId,
    known: &BTreeMap<TierSegment, (u32, SegmentKind)>,
    tail: &LogTail,
    kept: &BTreeSet<TierSegment>,
) -> Result<()> {
    let mut log: BTreeSet<TierSegment> = tail.history.iter().map(|start| start.segment).collect();
    log.insert(tail.segment);
    let ahead = tail.ahead.map(|ahead| TierSegment { tier: log_tier, segment: ahead.segment });
    if let Some(at) = ahead
        && space.tier(at.tier).segment(at.segment).live_bytes() > 0
    {
        fail!(Corrupt, "the log goes on in segment {}, which is in use", at.segment.0);
    }
    log.extend(ahead);
    for tier in space.tiers() {
        for number in 1..tier.segments().len() {
            let at = TierSegment { tier: tier.id, segment: SegmentId(number as u32) };
            let of_log = tail.history.iter().find(|start| start.segment == at);
            let generation = of_log.map_or(0, |start| start.generation);
            let generation = known.get(&at).map_or(generation, |(known, _)| generation.max(*known));
            let state = if log.contains(&at) {
                SegmentState::Log
            } else if tier.segment(at.segment).live_bytes() > 0 {
                SegmentState::Sealed
            } else if kept.contains(&at) {
                SegmentState::Meta
            } else {
                SegmentState::Free
            };
            space.restore(at, state, generation);
        }
    }
    Ok(())
}
