//! What the organizer does next: facts in, decision out. Pure.
//!
//! Two needs. *Room*: a tier is short of free segments, so one with few live bytes is emptied,
//! chosen by cost and benefit as in Rosenblum and Ousterhout's log-structured file system (ACM
//! TOCS 1992). *Watermark*: a tier holds more than it should, so the segments that have lain
//! longest are emptied to the next slower tier, down to the low watermark.

use std::cmp::Reverse;
use std::time::Duration;

use crate::tier::space::packed_bytes;
use crate::types::{SegmentId, TierId, TierSegment};

/// Free segments above what data may use that the organizer keeps ready.
pub const FREE_MARGIN: usize = 2;
/// A fuller segment is not worth copying within its tier. Of what a packed segment holds at least:
/// three buffers of 1 MiB in 4 MiB of segment cannot be packed any better. Admission promises no
/// more than this part, so that where data must fit, some segment is emptier.
pub(super) const UTILISATION_MAX: f64 = 15.0 / 16.0;

/// A sealed segment.
#[derive(Clone, Copy, Debug)]
pub struct SegmentFacts {
    /// Its number.
    pub segment: SegmentId,
    /// Live bytes.
    pub live_bytes: u64,
    /// Time since it was sealed.
    pub age: Duration,
    /// An attempt to empty it has failed: not before this long.
    pub retry_after: Option<Duration>,
}

/// One tier.
#[derive(Clone, Debug)]
pub struct TierFacts {
    /// Which.
    pub tier: TierId,
    /// Bytes of a segment.
    pub segment_size: u64,
    /// Free segments.
    pub free_segments: usize,
    /// Free segments that data must leave.
    pub floor_segments: usize,
    /// Free segments that moves must leave.
    pub floor_of_moves: usize,
    /// Live bytes.
    pub live_bytes: u64,
    /// Bytes that fit, well packed.
    pub usable_bytes: u64,
    /// Demotion begins above this part of the usable bytes.
    pub watermark_high: f64,
    /// Promotion ends at this part, and demotion too.
    pub watermark_low: f64,
    /// The high watermark was passed and the low one is not reached yet.
    pub demoting: bool,
    /// Segments that puts go to, for a compaction; else zero.
    pub open_segments: usize,
    /// The sealed segments; may be left empty where [`is_needy`](Self::is_needy) is false.
    pub sealed: Vec<SegmentFacts>,
}

/// Everything a plan is made of.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The tiers, fastest first.
    pub tiers: Vec<TierFacts>,
    /// Asking for empty segments has not freed any: readers hold them.
    pub reclaim_stuck: bool,
}

/// Why a segment is emptied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    /// Free segments.
    Room,
    /// Fewer live bytes.
    Watermark,
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    /// Nothing, until something changes.
    Nothing,
    /// There is a need, and nothing can be done before this long.
    Wait(Duration),
    /// Free the segments that are empty.
    Reclaim,
    /// Seal all segments that somebody writes to.
    SealOpen,
    /// Empty a segment.
    Relocate {
        /// Which.
        victim: TierSegment,
        /// Where its cold buffers go; `None` keeps all on the tier.
        demote_to: Option<TierId>,
        /// Why.
        need: Need,
    },
}

impl TierFacts {
    fn target_segments(&self) -> usize {
        self.floor_segments + FREE_MARGIN
    }

    fn needs_room(&self) -> bool {
        self.free_segments < self.target_segments()
    }

    /// Whether the tier needs anything.
    pub fn is_needy(&self) -> bool {
        self.needs_room() || self.demoting
    }

    fn is_above(&self, watermark: f64, live_bytes: u64) -> bool {
        live_bytes as f64 > watermark * self.usable_bytes as f64
    }

    /// Whether moves find no segment here: what is emptied must go to another tier. The log and the
    /// checkpoints may have taken all, after many crashes above all, of which each leaves segments
    /// that were hardly begun.
    pub fn has_no_room_for_moves(&self) -> bool {
        self.free_segments <= self.floor_of_moves
    }

    /// Whether promotion may fill this tier.
    pub fn welcomes_promotions(&self) -> bool {
        !self.is_above(self.watermark_low, self.live_bytes)
            && self.free_segments > self.floor_segments + 1
    }

    /// Whether a segment's worth of bytes may come from a faster tier.
    fn has_room_for_demotion(&self, is_last: bool) -> bool {
        // The last tier has nowhere to demote to: it may fill up.
        let limit = if is_last { 1.0 } else { self.watermark_high };
        self.free_segments > self.floor_segments
            && !self.is_above(limit, self.live_bytes + self.segment_size)
    }
}

/// Whether a tier is demoting, given whether it was: on above the high watermark, off below the
/// low one.
pub fn is_demoting(was: bool, live_bytes: u64, usable_bytes: u64, low: f64, high: f64) -> bool {
    let watermark = if was { low } else { high };
    live_bytes as f64 > watermark * usable_bytes as f64
}

/// Decides. The tier that is shortest of room comes first, but not before one that gains more by
/// its plan: what lives in a segment of its own may go from one to the next for ever, for the sake
/// of changes that wait for room, which the other tier would give them.
pub fn plan(facts: &Facts) -> Plan {
    let mut order: Vec<usize> = (0..facts.tiers.len()).collect();
    order.sort_by_key(|&n| {
        let tier = &facts.tiers[n];
        tier.free_segments as i64 - tier.floor_segments as i64
    });
    let mut wait: Option<Duration> = None;
    let mut gainless = None;
    for number in order.into_iter().filter(|&n| facts.tiers[n].is_needy()) {
        let tier = &facts.tiers[number];
        let slower = slower_with_room(&facts.tiers, number);
        match plan_tier(tier, slower, facts.reclaim_stuck) {
            Plan::Nothing => {}
            Plan::Wait(until) => wait = Some(wait.map_or(until, |before| before.min(until))),
            plan if gains(tier, plan) => return plan,
            plan => {
                gainless.get_or_insert(plan);
            }
        }
    }
    gainless.unwrap_or(wait.map_or(Plan::Nothing, Plan::Wait))
}

/// Whether a plan leaves fewer segments in use on its tier.
fn gains(tier: &TierFacts, plan: Plan) -> bool {
    match plan {
        Plan::Relocate { demote_to: None, .. } => {
            !tier.has_no_room_for_moves() && packs_better(tier)
        }
        _ => true,
    }
}

/// Whether the candidates are more than what they are packed into, the hot ones and the cold ones
/// apart.
pub(super) fn packs_better(tier: &TierFacts) -> bool {
    let live: u64 = candidates(tier).map(|segment| segment.live_bytes).sum();
    let packed = live.div_ceil(packed_bytes(tier.segment_size)) + 1;
    candidates(tier).count() as u64 > packed
}

fn slower_with_room(tiers: &[TierFacts], than: usize) -> Option<TierId> {
    let last = tiers.len() - 1;
    let slower = tiers.iter().enumerate().skip(than + 1);
    slower
        .filter(|(number, tier)| tier.has_room_for_demotion(*number == last))
        .map(|(_, tier)| tier.tier)
        .next()
}

fn plan_tier(tier: &TierFacts, slower: Option<TierId>, reclaim_stuck: bool) -> Plan {
    let relocate = |segment: &SegmentFacts, demote_to, need| Plan::Relocate {
        victim: TierSegment { tier: tier.tier, segment: segment.segment },
        demote_to,
        need,
    };
    let reclaimable =
        tier.needs_room() && tier.sealed.iter().any(|segment| segment.live_bytes == 0);
    if reclaimable && !reclaim_stuck {
        return Plan::Reclaim;
    }
    if tier.needs_room()
        && let Some(victim) = cheapest(tier)
    {
        let crowded = tier.is_above(tier.watermark_low, tier.live_bytes);
        let stuck = tier.has_no_room_for_moves();
        return relocate(victim, slower.filter(|_| crowded || stuck), Need::Room);
    }
    // Copying full segments within the tier gains nothing; moving them down does.
    if (tier.demoting || tier.needs_room())
        && slower.is_some()
        && let Some(victim) = oldest(tier)
    {
        let need = if tier.demoting { Need::Watermark } else { Need::Room };
        return relocate(victim, slower, need);
    }
    match tier.sealed.iter().filter_map(|segment| segment.retry_after).min() {
        Some(after) => Plan::Wait(after),
        None if reclaimable => Plan::Reclaim,
        None => Plan::Nothing,
    }
}

pub(super) fn candidates(tier: &TierFacts) -> impl Iterator<Item = &SegmentFacts> {
    tier.sealed.iter().filter(|segment| segment.live_bytes > 0 && segment.retry_after.is_none())
}

/// The part of what a segment holds at least that is live in it.
pub(super) fn utilisation(tier: &TierFacts, segment: &SegmentFacts) -> f64 {
    segment.live_bytes as f64 / packed_bytes(tier.segment_size) as f64
}

/// The segment whose cleaning pays most.
fn cheapest(tier: &TierFacts) -> Option<&SegmentFacts> {
    candidates(tier)
        .filter(|segment| utilisation(tier, segment) <= UTILISATION_MAX)
        .map(|segment| (benefit(utilisation(tier, segment), segment.age), segment))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, segment)| segment)
}

/// Free space gained, times how long it will stay free, over the cost of reading and writing.
fn benefit(utilisation: f64, age: Duration) -> f64 {
    // A second more, so that among new segments the emptiest still wins.
    (1.0 - utilisation) * (age.as_secs_f64() + 1.0) / (1.0 + utilisation)
}

fn oldest(tier: &TierFacts) -> Option<&SegmentFacts> {
    candidates(tier).max_by_key(|segment| (segment.age, Reverse(segment.segment)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 4 << 20;

    fn segment(number: u32, live: f64, age_s: u64) -> SegmentFacts {
        SegmentFacts {
            segment: SegmentId(number),
            live_bytes: (live * SIZE as f64) as u64,
            age: Duration::from_secs(age_s),
            retry_after: None,
        }
    }

    fn tier(number: u8, free: usize, live: f64, sealed: Vec<SegmentFacts>) -> TierFacts {
        let usable = 100 * SIZE;
        TierFacts {
            tier: TierId(number),
            segment_size: SIZE,
            free_segments: free,
            floor_segments: 7,
            floor_of_moves: 4,
            live_bytes: (live * usable as f64) as u64,
            usable_bytes: usable,
            watermark_high: 0.85,
            watermark_low: 0.7,
            demoting: live > 0.85,
            open_segments: 0,
            sealed,
        }
    }

    #[test]
    fn a_tier_without_a_segment_to_move_into_is_emptied_to_the_next_though_it_is_not_crowded() {
        let victim = || vec![segment(3, 0.2, 9), segment(4, 0.2, 5)];
        let demotes = |free, slower_free| {
            let plan =
                plan_of(vec![tier(0, free, 0.2, victim()), tier(1, slower_free, 0.1, vec![])]);
            matches!(plan, Plan::Relocate { demote_to: Some(TierId(1)), need: Need::Room, .. })
        };
        assert!(demotes(4, 50) && demotes(0, 50));
        assert!(!demotes(5, 50), "it can be packed where it is");
        assert!(!demotes(0, 7), "the next has no room");
    }

    #[test]
    fn a_tier_that_can_empty_nothing_gives_way_to_one_that_can() {
        let sealed = || vec![segment(3, 0.2, 9), segment(4, 0.2, 5), segment(5, 0.2, 5)];
        let plan = plan_of(vec![tier(0, 0, 0.2, sealed()), tier(1, 6, 0.2, sealed())]);
        assert!(matches!(plan, Plan::Relocate { victim: TierSegment { tier: TierId(1), .. }, .. }));
    }

    fn plan_of(tiers: Vec<TierFacts>) -> Plan {
        plan(&Facts { tiers, reclaim_stuck: false })
    }

    fn relocate(tier: u8, number: u32, demote_to: Option<u8>, need: Need) -> Plan {
        let victim = TierSegment { tier: TierId(tier), segment: SegmentId(number) };
        Plan::Relocate { victim, demote_to: demote_to.map(TierId), need }
    }

    #[test]
    fn a_tier_with_free_segments_below_its_watermark_needs_nothing() {
        assert_eq!(plan_of(vec![tier(0, 9, 0.8, vec![segment(1, 0.0, 9)])]), Plan::Nothing);
        assert_eq!(plan_of(vec![]), Plan::Nothing);
    }

    #[test]
    fn empty_segments_are_reclaimed_before_anything_is_copied() {
        let sealed = vec![segment(1, 0.5, 9), segment(2, 0.0, 1)];
        assert_eq!(plan_of(vec![tier(0, 8, 0.5, sealed)]), Plan::Reclaim);
    }

    #[test]
    fn empty_segments_that_readers_hold_do_not_stop_the_cleaning() {
        let sealed = vec![segment(1, 0.5, 9), segment(2, 0.0, 1)];
        let facts = Facts { tiers: vec![tier(0, 8, 0.5, sealed)], reclaim_stuck: true };
        assert_eq!(plan(&facts), relocate(0, 1, None, Need::Room));
    }

    #[test]
    fn the_victim_balances_emptiness_and_age() {
        let sealed = vec![segment(1, 0.6, 10), segment(2, 0.3, 10), segment(3, 0.9, 10)];
        assert_eq!(plan_of(vec![tier(0, 8, 0.5, sealed)]), relocate(0, 2, None, Need::Room));
        let sealed = vec![segment(1, 0.6, 1000), segment(2, 0.3, 1)];
        assert_eq!(plan_of(vec![tier(0, 8, 0.5, sealed)]), relocate(0, 1, None, Need::Room));
    }

    #[test]
    fn full_segments_are_never_copied_within_their_tier() {
        let full = || vec![segment(1, 0.99, 1000)];
        assert_eq!(plan_of(vec![tier(0, 3, 0.8, full())]), Plan::Nothing);
        let tiers = vec![tier(0, 3, 0.8, full()), tier(1, 50, 0.1, vec![])];
        assert_eq!(plan_of(tiers), relocate(0, 1, Some(1), Need::Room));
    }

    #[test]
    fn above_the_high_watermark_the_oldest_segment_goes_down() {
        let sealed = || vec![segment(1, 0.99, 10), segment(2, 0.99, 20)];
        let tiers = vec![tier(0, 20, 0.9, sealed()), tier(1, 50, 0.1, vec![])];
        assert_eq!(plan_of(tiers), relocate(0, 2, Some(1), Need::Watermark));
        assert_eq!(plan_of(vec![tier(0, 20, 0.9, sealed())]), Plan::Nothing, "nowhere to go");
        let tiers = vec![tier(0, 20, 0.9, sealed()), tier(1, 7, 0.1, vec![])];
        assert_eq!(plan_of(tiers), Plan::Nothing, "the slower tier has no segment to give");
    }

    #[test]
    fn demotion_goes_on_from_the_high_to_the_low_watermark() {
        let demoting = |was, live| is_demoting(was, live, 100, 0.7, 0.85);
        assert!(!demoting(false, 85) && demoting(false, 86));
        assert!(demoting(true, 71) && !demoting(true, 70));
    }

    #[test]
    fn a_victim_that_could_not_be_emptied_is_left_alone_for_a_while() {
        let after = Duration::from_secs(3);
        let stuck = SegmentFacts { retry_after: Some(after), ..segment(1, 0.2, 9) };
        assert_eq!(plan_of(vec![tier(0, 8, 0.5, vec![stuck])]), Plan::Wait(after));
        let tiers = vec![tier(0, 8, 0.5, vec![stuck, segment(2, 0.6, 1)])];
        assert_eq!(plan_of(tiers), relocate(0, 2, None, Need::Room));
    }

    #[test]
    fn the_tier_shortest_of_room_comes_first() {
        let tiers = vec![
            tier(0, 8, 0.5, vec![segment(1, 0.5, 9)]),
            tier(1, 6, 0.5, vec![segment(2, 0.5, 9)]),
        ];
        assert_eq!(plan_of(tiers), relocate(1, 2, None, Need::Room));
    }

    #[test]
    fn a_tier_that_cannot_be_packed_any_better_does_not_keep_the_others_waiting() {
        let apart = || vec![segment(1, 0.3, 9), segment(2, 0.1, 9)];
        let many = (3..10).map(|number| segment(number, 0.1, 9)).collect();
        let tiers = vec![tier(0, 5, 0.5, apart()), tier(1, 8, 0.5, many)];
        assert_eq!(plan_of(tiers), relocate(1, 9, None, Need::Room));
        let tiers = vec![tier(0, 5, 0.5, apart()), tier(1, 9, 0.5, vec![])];
        assert_eq!(plan_of(tiers), relocate(0, 2, None, Need::Room));
    }

    #[test]
    fn a_crowded_tier_moves_its_cold_buffers_down_when_it_is_cleaned() {
        let tiers = vec![tier(0, 8, 0.8, vec![segment(1, 0.5, 9)]), tier(1, 50, 0.1, vec![])];
        assert_eq!(plan_of(tiers), relocate(0, 1, Some(1), Need::Room));
    }
}
