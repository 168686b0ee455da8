//! Gathers the facts that plans are made of.

use crate::core::Core;
use crate::io::runtime::Nanos;
use crate::limits::STRIPES;
use crate::organizer::backoff::BackOff;
use crate::organizer::plan::{Facts, SegmentFacts, TierFacts, is_demoting};
use crate::tier::space::{Purpose, Segment, SegmentState, Tier};
use crate::types::{SegmentId, TierId, TierSegment};

/// Stripes, and entries of each, of a sample of the heat.
const SAMPLE_STRIPES: usize = 8;
const SAMPLE_ENTRIES: usize = 64;

/// What the organizer remembers between two plans.
pub struct Memory {
    /// Per tier: demotion has begun and not ended.
    demoting: Vec<bool>,
    /// Per tier: demoting the cold has moved nothing.
    pub demote_all: Vec<bool>,
    /// What could not be emptied.
    pub backoff: BackOff,
    /// Empty segments could not be freed.
    pub reclaim_stuck: bool,
}

impl Memory {
    /// Of nothing yet.
    pub fn new(tiers: usize) -> Memory {
        Memory {
            demoting: vec![false; tiers],
            demote_all: vec![false; tiers],
            backoff: BackOff::default(),
            reclaim_stuck: false,
        }
    }
}

/// The facts now. Segments are looked at only where their tier needs something.
pub fn gather(core: &Core, memory: &mut Memory) -> Facts {
    let now = core.runtime.now();
    let mut tiers = Vec::new();
    // A lost tier needs nothing and takes nothing.
    for tier in core.space.tiers().iter().filter(|tier| !tier.is_lost()) {
        let mut facts = of_tier(tier);
        let demoting = &mut memory.demoting[tier.id.index()];
        *demoting = is_demoting(
            *demoting,
            facts.live_bytes,
            facts.usable_bytes,
            facts.watermark_low,
            facts.watermark_high,
        );
        facts.demoting = *demoting;
        if facts.is_needy() {
            facts.sealed = sealed(core, tier, &memory.backoff, now);
        }
        tiers.push(facts);
    }
    Facts { tiers, reclaim_stuck: memory.reclaim_stuck }
}

/// The facts now, with the segments of all tiers.
pub fn gather_all(core: &Core, memory: &mut Memory) -> Facts {
    let mut facts = gather(core, memory);
    let now = core.runtime.now();
    for facts in &mut facts.tiers {
        let tier = core.space.tier(facts.tier);
        facts.sealed = sealed(core, tier, &memory.backoff, now);
        facts.open_segments = open(tier);
    }
    facts
}

/// The facts of a tier, its segments apart.
pub fn of_tier(tier: &Tier) -> TierFacts {
    TierFacts {
        tier: tier.id,
        segment_size: tier.segment_size,
        free_segments: tier.free_segments(),
        floor_segments: tier.floor(Purpose::Data) as usize,
        floor_of_moves: tier.floor(Purpose::Move) as usize,
        live_bytes: tier.live_bytes(),
        usable_bytes: tier.usable_bytes(),
        watermark_high: tier.watermark_high,
        watermark_low: tier.watermark_low,
        demoting: false,
        open_segments: 0,
        sealed: Vec::new(),
    }
}

fn open(tier: &Tier) -> usize {
    tier.segments().iter().filter(|segment| segment.state() == SegmentState::Open).count()
}

fn sealed(core: &Core, tier: &Tier, backoff: &BackOff, now: Nanos) -> Vec<SegmentFacts> {
    let segments = tier.segments().iter().enumerate();
    // Where all that lives is damaged, nothing can be moved.
    let is_movable = |number: usize, segment: &Segment| {
        let damaged = core.organizer.damage.live_bytes_in(core, tier.id, SegmentId(number as u32));
        damaged == 0 || segment.live_bytes() > damaged
    };
    segments
        .filter(|(_, segment)| segment.state() == SegmentState::Sealed)
        .filter(|(number, segment)| is_movable(*number, segment))
        .map(|(number, segment)| {
            let id = SegmentId(number as u32);
            let at = TierSegment { tier: tier.id, segment: id };
            SegmentFacts {
                segment: id,
                live_bytes: segment.live_bytes(),
                age: now.since(Nanos(segment.sealed_at_ns())),
                retry_after: backoff.retry_after(at, segment.generation(), now),
            }
        })
        .collect()
}

/// The fastest tier, if it is faster than `than` and may be filled by promotion.
pub fn tier_to_promote_to(core: &Core, than: TierId) -> Option<TierId> {
    let fastest = core.space.tiers().first()?;
    (fastest.id < than && of_tier(fastest).welcomes_promotions()).then_some(fastest.id)
}

/// The mean heat of some blobs.
pub fn sample_mean_score(core: &Core) -> f32 {
    let now = core.runtime.now();
    let (mut sum, mut count) = (0.0, 0);
    for _ in 0..SAMPLE_STRIPES {
        let number = core.runtime.random() as usize % STRIPES;
        let mut stripe = core.index.lock_number(number);
        let (entries, dir) = stripe.iter_with_dir();
        for entry in entries.filter(|entry| entry.visible.exists()).take(SAMPLE_ENTRIES) {
            sum += entry.score(&core.dram, dir, now);
            count += 1;
        }
    }
    if count == 0 { 0.0 } else { sum / count as f32 }
}
