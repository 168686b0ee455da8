//! Where a buffer shall live, given what is known of it. Facts in, decision out, no I/O.

use crate::types::TierId;

/// Accesses, decayed, from which on a buffer pays for its move to a faster tier.
pub const PROMOTE_SCORE: f32 = 2.0;
/// Accesses, decayed, below which nothing goes from DRAM for a buffer: two, of which one is a little
/// while ago.
const ADMIT_SCORE_MIN: f32 = 1.5;
/// A buffer this many times as hot as the sampled mean stays when its segment is demoted.
const HOT_FACTOR: f32 = 2.0;
/// Below this a buffer is cold, however cold the others are: one access a few half-lives ago
/// is no reason to stay.
const HOT_SCORE_MIN: f32 = 0.25;

/// What a policy knows of a buffer whose segment is being emptied, or that was just read.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BufferFacts {
    /// The tier it is on.
    pub tier: TierId,
    /// The tier to demote to. `None`: nothing needs to leave the tier, or nothing slower has room.
    pub slower: Option<TierId>,
    /// The tier to promote to. `None`: there is no faster one, or it is not below its low watermark.
    pub faster: Option<TierId>,
    /// Its decayed access score.
    pub score: f32,
    /// The mean score of a sample.
    pub mean_score: f32,
    /// Demoting what is cold has not made room: everything must go.
    pub demote_all: bool,
    /// Stored bytes.
    pub stored_len: u32,
}

impl BufferFacts {
    /// Whether it is hotter than most: hot and cold buffers go to segments of their own.
    pub fn is_hot(&self) -> bool {
        self.score >= HOT_SCORE_MIN && self.score >= HOT_FACTOR * self.mean_score
    }
}

/// What is known of a buffer that was just read from a device.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AdmissionFacts {
    /// The DRAM tier has no room but what others give up.
    pub is_full: bool,
    /// The decayed access score of its blob, this read included.
    pub score: f32,
    /// The mean score of a sample.
    pub mean_score: f32,
}

/// Whether it gets a place in DRAM. Where others must go for it, only if it is hotter than most: a scan
/// does not wash the hot set out, and where all are read alike nothing is copied in vain. Cf. TinyLFU
/// (Einziger, Friedman and Manes, ACM Trans. Storage 2017), which compares with the victim itself.
pub fn admits(facts: &AdmissionFacts) -> bool {
    !facts.is_full || facts.score >= ADMIT_SCORE_MIN && facts.score >= HOT_FACTOR * facts.mean_score
}

/// Decides where a buffer goes.
pub trait PlacementPolicy: Send + Sync {
    /// One of the tiers that the facts name; the present one if it is to stay there.
    fn decide(&self, facts: &BufferFacts) -> TierId;
}

/// The default: what is accessed often lives on fast tiers.
#[derive(Clone, Copy, Default, Debug)]
pub struct HeatPolicy;

impl PlacementPolicy for HeatPolicy {
    fn decide(&self, facts: &BufferFacts) -> TierId {
        if let Some(faster) = facts.faster
            && facts.score >= PROMOTE_SCORE
        {
            return faster;
        }
        match facts.slower {
            Some(slower) if facts.demote_all || !facts.is_hot() => slower,
            _ => facts.tier,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: BufferFacts = BufferFacts {
        tier: TierId(1),
        slower: None,
        faster: None,
        score: 0.0,
        mean_score: 0.0,
        demote_all: false,
        stored_len: 4096,
    };

    #[test]
    fn a_full_dram_tier_admits_what_was_read_before_and_is_hotter_than_most() {
        let facts = AdmissionFacts { is_full: true, score: 1.9, mean_score: 0.5 };
        assert!(admits(&facts));
        assert!(!admits(&AdmissionFacts { score: 1.0, mean_score: 0.0, ..facts }), "a scan");
        assert!(!admits(&AdmissionFacts { score: 9.0, mean_score: 8.0, ..facts }), "all alike");
        assert!(admits(&AdmissionFacts { is_full: false, score: 0.0, ..facts }), "there is room");
    }

    #[test]
    fn without_another_tier_a_buffer_stays() {
        assert_eq!(HeatPolicy.decide(&FACTS), TierId(1));
        assert_eq!(HeatPolicy.decide(&BufferFacts { score: 9.0, ..FACTS }), TierId(1));
    }

    #[test]
    fn demotion_keeps_the_hot_and_moves_the_cold() {
        let facts = BufferFacts { slower: Some(TierId(2)), mean_score: 1.0, ..FACTS };
        assert_eq!(HeatPolicy.decide(&facts), TierId(2));
        assert_eq!(HeatPolicy.decide(&BufferFacts { score: 1.5, ..facts }), TierId(2));
        assert_eq!(HeatPolicy.decide(&BufferFacts { score: 3.0, ..facts }), TierId(1));
    }

    #[test]
    fn a_trace_of_an_old_access_does_not_make_a_buffer_hot() {
        let facts = BufferFacts { slower: Some(TierId(2)), score: 0.01, ..FACTS };
        assert_eq!(HeatPolicy.decide(&facts), TierId(2));
    }

    #[test]
    fn where_only_hot_buffers_are_left_even_they_must_go() {
        let facts = BufferFacts { slower: Some(TierId(2)), score: 3.0, demote_all: true, ..FACTS };
        assert_eq!(HeatPolicy.decide(&facts), TierId(2));
    }

    #[test]
    fn two_accesses_pay_for_a_promotion_where_the_faster_tier_has_room() {
        let facts = BufferFacts { faster: Some(TierId(0)), score: 1.9, ..FACTS };
        assert_eq!(HeatPolicy.decide(&facts), TierId(1));
        assert_eq!(HeatPolicy.decide(&BufferFacts { score: 2.0, ..facts }), TierId(0));
    }
}
