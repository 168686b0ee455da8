//! Cleaning that somebody has asked for: not until there is room enough, but until no more can be
//! freed.

use std::time::Duration;

use crate::io::wait::Sender;
use crate::organizer::plan::{
    Facts, Need, Plan, SegmentFacts, TierFacts, UTILISATION_MAX, candidates, packs_better,
    utilisation,
};
use crate::types::TierSegment;

/// How long to wait for open segments to be sealed, and how often: others go on writing.
const SEAL_WAIT: Duration = Duration::from_millis(10);
const SEAL_WAITS_MAX: usize = 20;

/// What has been asked for, as far as it is not done.
#[derive(Default)]
pub struct Compaction {
    /// Told when it is over.
    asked: Vec<Sender<()>>,
    has_sealed: bool,
    waits_left: usize,
    /// Each frees a segment or fails to: with others at work it might go on for ever.
    steps_left: usize,
}

impl Compaction {
    /// Begins for these who ask, and anew for those before them.
    pub fn begin(&mut self, asked: Vec<Sender<()>>, segments: usize) {
        self.asked.extend(asked);
        (self.has_sealed, self.waits_left) = (false, SEAL_WAITS_MAX);
        self.steps_left = 2 * segments;
    }

    /// Whether somebody waits for more.
    pub fn is_under_way(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Tells everybody that it is over.
    pub fn end(&mut self) {
        self.asked.drain(..).for_each(|asked| asked.send(()));
    }

    /// Nobody is told anything any more.
    pub fn give_up(&mut self) {
        self.asked.clear();
    }

    /// What to do next; nothing once it is over.
    pub fn plan(&mut self, facts: &Facts) -> Plan {
        if !self.has_sealed {
            self.has_sealed = true;
            return Plan::SealOpen;
        }
        let are_open = facts.tiers.iter().any(|tier| tier.open_segments > 0);
        if are_open && self.waits_left > 0 {
            self.waits_left -= 1;
            return Plan::Wait(SEAL_WAIT);
        }
        // From now on open ones are those that the moves go to.
        self.waits_left = 0;
        let Some(left) = self.steps_left.checked_sub(1) else { return Plan::Nothing };
        self.steps_left = left;
        let mut plans = facts.tiers.iter().map(|tier| plan_tier(tier, facts.reclaim_stuck));
        plans.find(|plan| *plan != Plan::Nothing).unwrap_or(Plan::Nothing)
    }
}

fn plan_tier(tier: &TierFacts, reclaim_stuck: bool) -> Plan {
    if !reclaim_stuck && tier.sealed.iter().any(|segment| segment.live_bytes == 0) {
        return Plan::Reclaim;
    }
    match emptiest(tier).filter(|_| packs_better(tier)) {
        Some(victim) => Plan::Relocate {
            victim: TierSegment { tier: tier.tier, segment: victim.segment },
            demote_to: None,
            need: Need::Room,
        },
        None => Plan::Nothing,
    }
}

fn emptiest(tier: &TierFacts) -> Option<&SegmentFacts> {
    candidates(tier)
        .filter(|segment| utilisation(tier, segment) <= UTILISATION_MAX)
        .min_by_key(|segment| segment.live_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::wait::oneshot;
    use crate::types::{SegmentId, TierId};

    const SIZE: u64 = 4 << 20;

    fn facts(live: &[u64], open_segments: usize) -> Facts {
        let segment = |(number, live_bytes): (usize, &u64)| SegmentFacts {
            segment: SegmentId(number as u32),
            live_bytes: *live_bytes,
            age: Duration::ZERO,
            retry_after: None,
        };
        let tier = TierFacts {
            tier: TierId(0),
            segment_size: SIZE,
            free_segments: 9,
            floor_segments: 3,
            floor_of_moves: 0,
            live_bytes: live.iter().sum(),
            usable_bytes: 40 * SIZE,
            watermark_high: 0.9,
            watermark_low: 0.8,
            demoting: false,
            open_segments,
            sealed: live.iter().enumerate().map(segment).collect(),
        };
        Facts { tiers: vec![tier], reclaim_stuck: false }
    }

    fn begun() -> Compaction {
        let mut compaction = Compaction::default();
        compaction.begin(vec![oneshot().0], 40);
        assert_eq!(compaction.plan(&facts(&[SIZE / 9; 4], 1)), Plan::SealOpen);
        compaction
    }

    fn victim(plan: Plan) -> u32 {
        match plan {
            Plan::Relocate { victim, demote_to: None, .. } => victim.segment.0,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_empty_is_freed_and_what_is_sparse_is_packed_the_emptiest_first() {
        let mut compaction = begun();
        assert_eq!(compaction.plan(&facts(&[SIZE / 4, 0], 0)), Plan::Reclaim);
        let sparse = facts(&[SIZE / 4, SIZE / 8, SIZE / 4, SIZE / 2], 0);
        assert_eq!(victim(compaction.plan(&sparse)), 1);
    }

    #[test]
    fn it_is_over_when_packing_frees_no_more_or_the_bound_is_reached() {
        let mut compaction = begun();
        assert_eq!(compaction.plan(&facts(&[SIZE / 4, SIZE / 4], 0)), Plan::Nothing);
        let full = SIZE / 16 * 15;
        assert_eq!(compaction.plan(&facts(&[full; 6], 0)), Plan::Nothing);
        let sparse = facts(&[SIZE / 9; 5], 1);
        let steps = (0..1000).take_while(|_| compaction.plan(&sparse) != Plan::Nothing).count();
        assert!((40..=80).contains(&steps), "{steps} steps");
    }

    #[test]
    fn open_segments_are_waited_for_but_not_for_long() {
        let mut compaction = begun();
        let sparse = facts(&[SIZE / 9; 4], 1);
        let waits = (0..100).take_while(|_| compaction.plan(&sparse) == Plan::Wait(SEAL_WAIT));
        assert_eq!(waits.count(), SEAL_WAITS_MAX);
    }
}
