//! Which of the batches that were found belong to the log, and which of the log's batches are
//! missing. Pure.
//!
//! Batches chain: each has the checksum of the one before. A *run* is a chain without a gap. The run
//! that a superblock's or root's log start leads to is the log. A run beyond a gap could be one that
//! an earlier open has discarded: it counts if its last batch cannot have been, because it is of the
//! newest epoch, or of an older one at or before the place where that was cut.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::log::batch::BatchView;
use crate::log::superblock::{Cut, LogStart};
use crate::types::{BatchSeq, Epoch};

/// What the choice needs to know of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Link {
    /// Its number.
    pub seq: BatchSeq,
    /// The epoch that wrote it.
    pub epoch: Epoch,
    /// The checksum of the one before, as it says.
    pub chain: u32,
    /// Its own.
    pub crc: u32,
}

/// What is known of the log beside its batches.
pub(super) struct Known<'a> {
    /// Places that the log leads through, of superblocks and roots.
    pub starts: &'a [LogStart],
    /// The newest epoch that a superblock names.
    pub epoch: Epoch,
    /// What was discarded.
    pub cuts: &'a [Cut],
    /// The first batch that matters.
    pub from: BatchSeq,
    /// The highest watermark that anything names.
    pub watermark: BatchSeq,
}

/// The log, as far as it is there.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Chosen {
    /// Its batches from `from` on, by their places in what was given, in order.
    pub batches: Vec<usize>,
    /// Batches that were flushed, or lie between others, and are not there.
    pub missing: Vec<RangeInclusive<u64>>,
    /// The last batch of the log, there or not.
    pub last: BatchSeq,
}

impl Link {
    /// Of a batch that was read.
    pub fn of(view: &BatchView) -> Link {
        let identity = &view.identity;
        Link { seq: identity.seq, epoch: identity.epoch, chain: identity.chain, crc: view.crc }
    }

    fn follows(&self, before: &Link) -> bool {
        before.seq.next() == self.seq && before.crc == self.chain && before.epoch <= self.epoch
    }
}

/// Batches in a row, each the successor of the one before.
struct Run {
    members: Vec<usize>,
    is_anchored: bool,
}

/// See the module.
pub(super) fn choose(links: &[Link], known: &Known<'_>) -> Chosen {
    let mut runs = runs_of(links, known);
    // The log first; of two runs that cannot both be true, the one of the newer epoch.
    runs.sort_by_key(|run| {
        let last = run.members.last().map(|at| (links[*at].epoch, links[*at].seq));
        (run.is_anchored, last)
    });
    let mut taken: BTreeMap<BatchSeq, usize> = BTreeMap::new();
    for run in runs.iter().rev() {
        if fits(links, &taken, run) {
            taken.extend(run.members.iter().map(|at| (links[*at].seq, *at)));
        }
    }
    // Above the watermark the log ends where it cannot be followed.
    let mut last = known.watermark.max(BatchSeq(known.from.0.saturating_sub(1)));
    while taken.contains_key(&last.next()) {
        last = last.next();
    }
    let mut chosen = Chosen { last, ..Chosen::default() };
    let mut due = known.from.0;
    for (seq, at) in taken.range(known.from..).take_while(|(seq, _)| **seq <= last) {
        if due < seq.0 {
            chosen.missing.push(due..=seq.0 - 1);
        }
        due = seq.0 + 1;
        chosen.batches.push(*at);
    }
    if due <= last.0 {
        chosen.missing.push(due..=last.0);
    }
    chosen
}

/// The runs, as far as they are known to be of the log.
fn runs_of(links: &[Link], known: &Known<'_>) -> Vec<Run> {
    let mut order: Vec<usize> = (0..links.len()).collect();
    // Of two batches that follow the same one, the newer epoch's goes on.
    order.sort_by_key(|at| (links[*at].seq, std::cmp::Reverse(links[*at].epoch)));
    let mut runs: Vec<Run> = Vec::new();
    // By the number and the checksum of the last batch.
    let mut ends: BTreeMap<(BatchSeq, u32), usize> = BTreeMap::new();
    for at in order {
        let link = &links[at];
        let before = (BatchSeq(link.seq.0.saturating_sub(1)), link.chain);
        let goes_on = ends.get(&before).copied().filter(|run| {
            runs[*run].members.last().is_some_and(|last| link.follows(&links[*last]))
        });
        let run = match goes_on {
            Some(run) => {
                ends.remove(&before);
                run
            }
            None => {
                runs.push(Run { members: Vec::new(), is_anchored: false });
                runs.len() - 1
            }
        };
        runs[run].members.push(at);
        ends.insert((link.seq, link.crc), run);
    }
    let anchors: BTreeSet<(u64, u32)> =
        known.starts.iter().map(|start| (start.seq.0, start.chain)).collect();
    for run in &mut runs {
        let is_anchor = |at: &usize| {
            let link = &links[*at];
            anchors.contains(&(link.seq.0, link.chain))
                || anchors.contains(&(link.seq.0 + 1, link.crc))
        };
        run.is_anchored = run.members.iter().any(is_anchor);
        if !run.is_anchored {
            let kept = run.members.iter().rposition(|at| was_kept(&links[*at], known));
            run.members.truncate(kept.map_or(0, |at| at + 1));
        }
    }
    runs.retain(|run| !run.members.is_empty());
    runs
}

/// Whether no open can have discarded a batch: then none can have discarded those before it either.
fn was_kept(link: &Link, known: &Known<'_>) -> bool {
    let is_before_cut = |cut: &Cut| cut.epoch == link.epoch && link.seq <= cut.seq;
    link.epoch == known.epoch || known.cuts.iter().any(is_before_cut)
}

/// Whether a run does not contradict what was taken.
fn fits(links: &[Link], taken: &BTreeMap<BatchSeq, usize>, run: &Run) -> bool {
    let (Some(first), Some(last)) = (run.members.first(), run.members.last()) else { return false };
    let (first, last) = (&links[*first], &links[*last]);
    let is_free = taken.range(first.seq..=last.seq).next().is_none();
    let neighbour = |seq: u64| taken.get(&BatchSeq(seq)).map(|at| &links[*at]);
    is_free
        && neighbour(first.seq.0.saturating_sub(1)).is_none_or(|before| first.follows(before))
        && neighbour(last.seq.0 + 1).is_none_or(|after| after.follows(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{SegmentId, TierId, TierSegment};

    /// Batches `from..=to` of one epoch, each chained to the one before.
    fn run(from: u64, to: u64, epoch: u32, salt: u32) -> Vec<Link> {
        let crc = |seq: u64| seq as u32 * 1000 + salt;
        let link = |seq: u64| Link {
            seq: BatchSeq(seq),
            epoch: Epoch(epoch),
            chain: crc(seq - 1),
            crc: crc(seq),
        };
        (from..=to).map(link).collect()
    }

    fn start(seq: u64, chain: u32) -> LogStart {
        let segment = TierSegment { tier: TierId(0), segment: SegmentId(1) };
        LogStart { segment, generation: 1, offset: 4096, seq: BatchSeq(seq), chain }
    }

    fn chosen(links: &[Link], epoch: u32, cuts: &[(u32, u64)], watermark: u64) -> Chosen {
        let cuts: Vec<Cut> = cuts
            .iter()
            .map(|(epoch, seq)| Cut { epoch: Epoch(*epoch), seq: BatchSeq(*seq) })
            .collect();
        let known = Known {
            starts: &[start(3, 2000)],
            epoch: Epoch(epoch),
            cuts: &cuts,
            from: BatchSeq(3),
            watermark: BatchSeq(watermark),
        };
        choose(links, &known)
    }

    #[test]
    fn a_whole_log_has_no_gap_and_ends_with_its_last_batch() {
        let found = chosen(&run(3, 9, 5, 0), 5, &[], 7);
        assert_eq!(found.batches, (0..7).collect::<Vec<_>>());
        assert_eq!((found.missing, found.last), (vec![], BatchSeq(9)));
    }

    #[test]
    fn a_bad_batch_is_a_gap_and_those_behind_it_count() {
        let links = [run(3, 5, 5, 0), run(7, 9, 5, 0)].concat();
        let found = chosen(&links, 5, &[], 7);
        assert_eq!(found.batches, (0..6).collect::<Vec<_>>());
        assert_eq!((found.missing, found.last), (vec![6..=6], BatchSeq(9)));
    }

    #[test]
    fn the_lost_end_of_the_log_is_a_gap_up_to_the_watermark() {
        let found = chosen(&run(3, 5, 5, 0), 5, &[], 8);
        assert_eq!((found.missing, found.last), (vec![6..=8], BatchSeq(8)));
        let nothing = chosen(&[], 5, &[], 8);
        assert_eq!((nothing.missing, nothing.last), (vec![3..=8], BatchSeq(8)));
    }

    #[test]
    fn above_the_watermark_the_log_ends_at_the_first_bad_batch() {
        let links = [run(3, 5, 5, 0), run(7, 9, 5, 0)].concat();
        let found = chosen(&links, 5, &[], 5);
        assert_eq!((found.missing, found.last), (vec![], BatchSeq(5)));
        assert_eq!(found.batches.len(), 3);
    }

    #[test]
    fn what_an_open_may_have_discarded_does_not_count_beyond_a_gap() {
        let links = [run(3, 5, 4, 0), run(7, 9, 4, 0)].concat();
        // Epoch 4 has ended; where it was cut is not known, then known.
        assert_eq!(chosen(&links, 5, &[], 9).missing, [6..=9]);
        assert_eq!(chosen(&links, 5, &[(4, 8)], 9).missing, [6..=6, 9..=9]);
        assert_eq!(chosen(&links, 5, &[(4, 9)], 9).missing, [6..=6]);
    }

    #[test]
    fn a_run_that_does_not_follow_the_log_is_none_of_it() {
        let links = [run(3, 5, 5, 0), run(6, 9, 5, 77)].concat();
        let found = chosen(&links, 5, &[], 9);
        assert_eq!((found.batches, found.missing), (vec![0, 1, 2], vec![6..=9]));
        // Nor is one over it.
        let links = [run(3, 9, 5, 0), run(5, 8, 5, 77)].concat();
        assert_eq!(chosen(&links, 5, &[], 9).batches, (0..7).collect::<Vec<_>>());
    }

    #[test]
    fn of_two_successors_the_newer_epoch_goes_on() {
        let mut links = run(3, 8, 4, 0);
        // Epoch 4 was cut at batch 5; epoch 5 went on from there.
        let mut newer = run(6, 7, 5, 40);
        newer[0].chain = 5000;
        links.extend(newer);
        let found = chosen(&links, 5, &[], 7);
        assert_eq!(found.missing, []);
        assert_eq!(found.batches, [0, 1, 2, 6, 7]);
    }
}
