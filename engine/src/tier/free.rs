//! The free segments of a tier, and which of them the file system has given space to.
//!
//! A tier's file begins sparse, so a file system that others fill may refuse a segment that is
//! free. What log, checkpoints and cleaning need to go on, and deletes with them, is given space
//! before it is needed and never handed to data.

use std::collections::BTreeSet;

use crate::types::SegmentId;

/// Segments given space ahead at most, however much is set aside: with the host full, records of
/// values wait, and deletes take little log.
pub const BACKED_MIN: usize = 8;

/// See the module.
#[derive(Default)]
pub struct FreeSegments {
    backed: BTreeSet<SegmentId>,
    bare: BTreeSet<SegmentId>,
}

impl FreeSegments {
    /// None of these has space yet.
    pub fn bare(segments: impl Iterator<Item = SegmentId>) -> FreeSegments {
        FreeSegments { backed: BTreeSet::new(), bare: segments.collect() }
    }

    /// Segments that can be had.
    pub fn len(&self, host_full: bool) -> usize {
        self.backed.len() + if host_full { 0 } else { self.bare.len() }
    }

    /// Those with space.
    pub fn backed(&self) -> usize {
        self.backed.len()
    }

    /// The next one to take, and whether it has space. Data leaves `keep` with space to the others.
    pub fn next(&self, keep: usize) -> Option<(SegmentId, bool)> {
        let backed = self.backed.first().filter(|_| self.backed.len() > keep);
        let backed = backed.map(|segment| (*segment, true));
        backed.or_else(|| self.bare.first().map(|segment| (*segment, false)))
    }

    /// The first one without space from here on.
    pub fn bare_from(&self, from: SegmentId) -> Option<SegmentId> {
        self.bare.range(from..).next().copied()
    }

    /// Takes one out. False if it is not there.
    pub fn take(&mut self, segment: SegmentId) -> bool {
        self.backed.remove(&segment) || self.bare.remove(&segment)
    }

    /// Puts one in. False if it was there.
    pub fn put(&mut self, segment: SegmentId, backed: bool) -> bool {
        let missing = !self.backed.contains(&segment) && !self.bare.contains(&segment);
        match backed {
            true => self.backed.insert(segment),
            false => self.bare.insert(segment),
        };
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_takes_bare_segments_before_those_that_others_need() {
        let mut free = FreeSegments::bare((1..5).map(SegmentId));
        for number in [1, 2] {
            assert!(free.take(SegmentId(number)) && free.put(SegmentId(number), true));
        }
        assert_eq!(free.next(1), Some((SegmentId(1), true)));
        assert_eq!(free.next(2), Some((SegmentId(3), false)));
        assert_eq!(free.backed(), 2);
        assert_eq!((free.len(false), free.len(true)), (4, 2), "what the host refuses is not free");
    }
}
