//! What was read from a device gets a place in DRAM, if it is hotter than what would go for it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::api::held::{Cold, Held};
use crate::api::room;
use crate::buckets::BucketState;
use crate::core::Core;
use crate::limits::STRIPES;
use crate::paging::load::View;
use crate::placement::policy::{AdmissionFacts, admits};
use crate::plant::{Plant, planted};
use crate::tier::dram::{DirRange, Dram, Fresh, PublishHead};

/// A read of more buffers than this does not enter DRAM: it would wash the hot set out.
pub(super) const ADMIT_BUFFERS_MAX: usize = 8;
/// Reads between two samples of the heat, and blobs of each.
const SAMPLE_READS: u32 = 64;
const SAMPLE_BLOBS: usize = 32;
/// A sample counts for this part of the mean.
const SAMPLE_PART: f32 = 0.125;
/// Samples between two looks at the whole arena.
const LOOK_SAMPLES: u32 = 64;
/// The organizer looks at the watermark once in so many admissions.
const KICK_ADMISSIONS: u32 = 64;
/// The arena is not full any more once this part of it is free. The organizer keeps half of it free.
const ROOMY_PART: u64 = 4;

/// How warm the blobs are that a newcomer competes with.
#[derive(Default)]
pub struct Warmth {
    reads: AtomicU32,
    admissions: AtomicU32,
    /// A float's bits.
    mean_score: AtomicU32,
    /// A slot could not be had without taking out another.
    is_full: AtomicBool,
}

impl Warmth {
    /// The DRAM tier has no slot left.
    pub fn set_full(&self) {
        if !self.is_full.load(Ordering::Relaxed) {
            self.is_full.store(true, Ordering::Relaxed);
        }
    }

    /// What is admitted fills DRAM, perhaps above its watermark.
    fn count_admission(&self, core: &Core) {
        if self.admissions.fetch_add(1, Ordering::Relaxed).is_multiple_of(KICK_ADMISSIONS) {
            core.organizer.kick();
        }
    }

    fn mean_score(&self) -> f32 {
        f32::from_bits(self.mean_score.load(Ordering::Relaxed))
    }

    /// One more read. Now and then it brings the mean up to date. Two at once may lose a sample.
    fn count_read(&self, core: &Core) {
        let reads = self.reads.fetch_add(1, Ordering::Relaxed);
        if !reads.is_multiple_of(SAMPLE_READS) {
            return;
        }
        if let Some(sample) = sample(core) {
            let before = self.mean_score();
            let mean_score = before + (sample - before) * SAMPLE_PART;
            self.mean_score.store(mean_score.to_bits(), Ordering::Relaxed);
        }
        let is_time = reads.is_multiple_of(SAMPLE_READS * LOOK_SAMPLES);
        if is_time && core.dram.free_bytes() > core.dram.capacity() / ROOMY_PART {
            self.is_full.store(false, Ordering::Relaxed);
        }
    }
}

/// The mean heat of the first blobs of a stripe.
fn sample(core: &Core) -> Option<f32> {
    let now = core.runtime.recent();
    let mut stripe = core.index.lock_number(core.runtime.random() as usize % STRIPES);
    let (entries, dir) = stripe.iter_with_dir();
    let (mut sum, mut count) = (0.0, 0);
    for entry in entries.filter(|entry| entry.visible.exists()).take(SAMPLE_BLOBS) {
        sum += entry.score(&core.dram, dir, now);
        count += 1;
    }
    (count > 0).then(|| sum / count as f32)
}

fn is_worth_it(core: &Core, held: &Held) -> bool {
    let warmth = &core.warmth;
    warmth.count_read(core);
    admits(&AdmissionFacts {
        is_full: warmth.is_full.load(Ordering::Relaxed),
        score: held.score,
        mean_score: warmth.mean_score(),
    })
}

/// Puts buffers that were read whole into DRAM, if they are worth it, there is room and the version is
/// still the visible one. Never waits.
pub(super) fn admit(
    core: &Core,
    bucket: &BucketState,
    held: &Held,
    view: &View<'_>,
    cold: &[Cold],
    dst: &[u8],
) {
    if !is_worth_it(core, held) {
        core.counters.dram_refusals.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let mut ranges = Vec::with_capacity(cold.len());
    for piece in cold {
        let Ok((buffer, _)) = held.locate(core, view, &piece.extent) else { continue };
        let is_whole = piece.extent.buffer_offset == 0 && piece.extent.len == buffer.raw_len;
        if !is_whole {
            continue;
        }
        let Some(slot) = room::allocate(core, buffer.raw_len as usize) else { break };
        core.dram.fill(slot, 0, &dst[piece.target.clone()]);
        let fresh = Fresh { buffer: buffer.id, dirty: false, len: buffer.raw_len };
        ranges.push(DirRange {
            value_offset: piece.extent.value_offset,
            len: piece.extent.len,
            slot,
            slot_offset: 0,
            fresh: Some(fresh),
        });
    }
    if ranges.is_empty() {
        return;
    }
    let ranges_max = held.resident.len() + ranges.len() + ADMIT_BUFFERS_MAX;
    let Some(head) = room::allocate(core, Dram::head_len(held.key.len(), ranges_max)) else {
        ranges.iter().for_each(|range| core.dram.discard(range.slot));
        return;
    };
    let mut stripe = core.index.lock(held.hash);
    let (entry, dir) = stripe.get_with_dir(held.hash, bucket.id, &held.key);
    let current = entry.is_some_and(|entry| entry.visible.version == held.state.version)
        || planted(Plant::AdmitOverNewer);
    let fits = core
        .dram
        .lookup(dir, held.hash, bucket.id, &held.key)
        .is_none_or(|old| old.range_count() + ranges.len() <= ranges_max);
    if current && fits {
        core.dram.admit(
            dir,
            &PublishHead {
                head,
                hash: held.hash,
                bucket: bucket.id,
                key: &held.key,
                version: held.state.version,
                len: held.state.len,
                ranges: &ranges,
            },
        );
        drop(stripe);
        // Waking takes a system call: under no lock.
        core.warmth.count_admission(core);
    } else {
        drop(stripe);
        core.dram.discard(head);
        ranges.iter().for_each(|range| core.dram.discard(range.slot));
    }
}

#[cfg(test)]
mod tests {
    use crate::api::Bucket;
    use crate::testing::{SimStore, config};

    const HOT: usize = 400;
    const ALL: usize = 3300;

    fn get(bucket: &Bucket, blobs: std::ops::Range<usize>) {
        for number in blobs {
            let value = bucket.get(format!("{number}").as_bytes()).unwrap();
            assert!(value == [number as u8; 4096], "blob {number}");
        }
    }

    /// A store that has been reopened: nothing is in DRAM, and all blobs together are larger than it.
    fn store() -> SimStore {
        let sim = SimStore::new(1, config(1));
        let bucket = sim.bucket("b");
        for number in 0..ALL {
            bucket.put(format!("{number}").as_bytes(), &[number as u8; 4096]).unwrap();
        }
        drop(bucket);
        sim.reopen()
    }

    #[test]
    fn a_scan_does_not_wash_the_hot_set_out() {
        let sim = store();
        let bucket = sim.store.open_bucket("b").unwrap();
        (0..8).for_each(|_| get(&bucket, 0..HOT));
        get(&bucket, HOT..ALL);
        get(&bucket, HOT..ALL);
        let before = sim.store.stats();
        get(&bucket, 0..HOT);
        let after = sim.store.stats();
        assert_eq!(after.dram_misses - before.dram_misses, 0);
        assert!(after.dram_refusals > 1000, "the scan has found room: {}", after.dram_refusals);
        drop(bucket);
        sim.store.close().unwrap();
    }

    #[test]
    fn what_becomes_hot_finds_a_place_in_a_full_tier() {
        let sim = store();
        let bucket = sim.store.open_bucket("b").unwrap();
        (0..2).for_each(|_| get(&bucket, HOT..ALL));
        (0..8).for_each(|_| get(&bucket, 0..HOT));
        let before = sim.store.stats();
        get(&bucket, 0..HOT);
        let misses = sim.store.stats().dram_misses - before.dram_misses;
        assert!(misses < HOT as u64 / 20, "{misses} misses");
        drop(bucket);
        sim.store.close().unwrap();
    }
}
