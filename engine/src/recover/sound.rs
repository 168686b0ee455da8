//! What checkpoint and log say, held against what can be: numbers that the store has issued, places
//! that it has. Checksums tell damage; these tell a defect, or somebody who wrote structures of his
//! own.
//!
//! Nothing here knows what is true, only what would lead the engine astray: a version that it is
//! about to issue, a log that goes on over the superblocks.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use crate::error::{Result, fail};
use crate::limits::{BLOCK, BUCKET_NUMBER_MAX, SEQ_END};
use crate::log::batch::BatchView;
use crate::log::record::Record;
use crate::log::root::Root;
use crate::log::superblock::{Chunk, LogStart, Superblock};
use crate::log::tail::LogTail;
use crate::tier::space::Space;
use crate::types::{BatchSeq, BufferId, Epoch, Place, SegmentId, TierId, TierSegment, Version};

/// Versions and ids of buffers that can have been issued, from one counter.
pub(super) struct Issued(RangeInclusive<u64>);

impl Issued {
    /// Up to the end of an epoch.
    fn until(epoch: Epoch) -> Issued {
        Issued(Version::first_of(Epoch(1)).0..=Version::last_of(epoch).0)
    }

    /// Up to what a root says.
    pub(super) fn below(root: &Root) -> Issued {
        Issued(Version::first_of(Epoch(1)).0..=root.next_version.0.saturating_sub(1))
    }

    fn check(&self, what: &str, number: u64) -> Result<()> {
        if self.0.contains(&number) {
            return Ok(());
        }
        fail!(
            Corrupt,
            "{what} {number} is none that has been issued, the last is {}",
            self.0.end()
        );
    }

    pub(super) fn check_version(&self, version: Version) -> Result<()> {
        self.check("version", version.0)
    }

    pub(super) fn check_buffer(&self, id: BufferId) -> Result<()> {
        self.check("buffer", id.0)
    }
}

/// Refuses a batch whose records name numbers that nobody had issued when it was written.
pub(crate) fn check_batch(batch: &BatchView) -> Result<()> {
    let issued = Issued::until(batch.identity.epoch);
    for record in batch.records() {
        check_record(&issued, record).map_err(|error| {
            let (seq, kind) = (batch.identity.seq.0, record.kind());
            crate::error::Error::new(
                error.kind(),
                format!("batch {seq}, {kind:?} record: {}", error.message()),
            )
        })?;
    }
    Ok(())
}

fn check_record(issued: &Issued, record: &Record) -> Result<()> {
    record.buffers().iter().try_for_each(|def| issued.check_buffer(def.id))?;
    match record {
        Record::Put { version, .. }
        | Record::Splice { version, .. }
        | Record::Delete { version, .. }
        | Record::Paged { version, .. }
        | Record::Attributes { version, .. }
        | Record::BucketClear { version, .. } => issued.check_version(*version),
        Record::Page { version, page, .. } => {
            issued.check_version(*version)?;
            issued.check_buffer(*page)
        }
        Record::SegmentOpen { generation, .. } => check_generation(*generation),
        Record::BucketCreate { bucket, .. } if bucket.0 > BUCKET_NUMBER_MAX => {
            fail!(Corrupt, "bucket {}: no bucket has this number", bucket.0)
        }
        // What they name must be there.
        Record::Move { .. }
        | Record::BucketCreate { .. }
        | Record::BucketDestroy { .. }
        | Record::BucketChange { .. }
        | Record::SegmentFree { .. }
        | Record::Marker
        | Record::Release { .. }
        | Record::Share { .. } => Ok(()),
    }
}

fn check_generation(generation: u32) -> Result<()> {
    if generation == u32::MAX {
        fail!(Corrupt, "segment generation {generation} has no next one");
    }
    Ok(())
}

/// Refuses a root whose counters cannot be, or that the log does not follow.
pub(super) fn check_root(root: &Root, superblock: &Superblock, newest: Epoch) -> Result<()> {
    let last = Version::last_of(newest);
    if root.next_version < Version::first_of(Epoch(1)) || root.next_version > last {
        fail!(
            Corrupt,
            "the checkpoint says that version {} comes next, after {} opens",
            root.next_version.0,
            newest.0
        );
    }
    check_generation(root.next_generation)?;
    let cuts = root.partitions.iter().map(|part| part.cut);
    let oldest = cuts.chain([root.seq]).min().unwrap_or_default();
    let start = superblock.log_start.seq;
    if oldest.0.saturating_add(1) < start.0 {
        fail!(
            Corrupt,
            "a part of the checkpoint is one of batch {}, and the log begins with batch {}",
            oldest.0,
            start.0
        );
    }
    Ok(())
}

/// Refuses a beginning of the log that is no place for one.
pub(super) fn check_start(space: &Space, log_tier: TierId, start: &LogStart) -> Result<()> {
    let size = space.tier(log_tier).segment_size;
    let within = start.offset % size;
    let is_inside = start.seq.0 < SEQ_END / 2
        && start.segment.tier == log_tier
        && start.offset / size == u64::from(start.segment.segment.0)
        && within >= BLOCK as u64;
    if !is_inside || !is_segment(space, start.segment) {
        fail!(
            Corrupt,
            "the log begins with batch {} in segment {} of tier {} at offset {:#x}, which cannot be",
            start.seq.0,
            start.segment.segment.0,
            start.segment.tier.0,
            start.offset
        );
    }
    check_generation(start.generation)
}

/// Refuses a log that goes on where the store has no segment, or in one that it has gone through.
pub(super) fn check_tail(space: &Space, tail: &LogTail) -> Result<()> {
    let ahead = tail
        .ahead
        .map(|ahead| (TierSegment { segment: ahead.segment, ..tail.segment }, ahead.generation));
    let used = tail.history.iter().map(|start| (start.segment, start.generation));
    let mut seen = BTreeSet::new();
    for (at, generation) in used.chain(ahead) {
        let (tier, segment) = (at.tier.0, at.segment.0);
        if !is_segment(space, at) {
            fail!(Corrupt, "the log goes on in segment {segment} of tier {tier}, which is none");
        }
        if !seen.insert(at) {
            fail!(Corrupt, "the log comes to segment {segment} of tier {tier} twice");
        }
        check_generation(generation)?;
    }
    Ok(())
}

/// Refuses the pieces of a structure if one is no place for it, or lies over another.
pub(super) fn check_chunks(space: &Space, chunks: &[Chunk]) -> Result<()> {
    let mut places = Vec::with_capacity(chunks.len());
    for Chunk { location, len } in chunks {
        let found = match location.place() {
            Place::Device { tier, offset } => segment_of(space, tier, offset, *len)
                .filter(|_| offset.is_multiple_of(BLOCK as u64))
                .map(|_| (tier, offset, offset + u64::from(*len))),
            Place::Dram(_) => None,
        };
        let Some(found) = found else {
            fail!(
                Corrupt,
                "a checkpoint chunk of {len} bytes lies at {location:?}, which is no place for it"
            );
        };
        places.push(found);
    }
    places.sort_unstable();
    match places.windows(2).find(|pair| pair[0].0 == pair[1].0 && pair[0].2 > pair[1].1) {
        Some(pair) => fail!(
            Corrupt,
            "two chunks of the checkpoint lie over each other at {:#x} of tier {}",
            pair[1].1,
            pair[1].0.0
        ),
        None => Ok(()),
    }
}

/// The segment that so many bytes lie in, if it is one and all of them do.
pub(super) fn segment_of(
    space: &Space,
    tier: TierId,
    offset: u64,
    len: u32,
) -> Option<TierSegment> {
    let facts = space.tiers().get(tier.index())?;
    let number = u32::try_from(offset / facts.segment_size).ok()?;
    let at = TierSegment { tier, segment: SegmentId(number) };
    let fits = offset % facts.segment_size + u64::from(len) <= facts.segment_size;
    (fits && is_segment(space, at)).then_some(at)
}

/// Whether the store has this segment, and it is not that of the superblocks.
fn is_segment(space: &Space, at: TierSegment) -> bool {
    let count = space.tiers().get(at.tier.index()).map_or(0, |tier| tier.segments().len());
    (1..count as u64).contains(&u64::from(at.segment.0))
}

/// Refuses what lies over the checkpoint that the store has been recovered from.
pub(super) fn refuse_overlap(at: TierSegment, seq: BatchSeq) -> Result<()> {
    fail!(
        Corrupt,
        "segment {} of tier {} holds the checkpoint of batch {}, and the log or data over it",
        at.segment.0,
        at.tier.0,
        seq.0
    );
}
