//! Extent maps as values: cutting, splicing and walking sorted lists of extents. Pure.

use std::ops::Range;

pub use crate::log::record::Extent;

/// The end of an extent in the value.
pub fn end(extent: &Extent) -> u64 {
    extent.value_offset + u64::from(extent.len)
}

/// A stretch of a value's range: bytes of a buffer, or a hole, which reads as zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stretch {
    /// `len` bytes that no extent covers.
    Hole {
        /// Bytes.
        len: u64,
    },
    /// A slice of one extent.
    Data(Extent),
}

/// The extents that overlap `range`, clipped to it.
pub fn clip(extents: &[Extent], range: Range<u64>) -> impl Iterator<Item = Extent> + '_ {
    // An empty range overlaps nothing, also in the middle of an extent.
    let bound = if range.is_empty() { 0 } else { range.end };
    let first = extents.partition_point(|extent| end(extent) <= range.start);
    extents[first..].iter().take_while(move |extent| extent.value_offset < bound).map(
        move |extent| {
            let from = extent.value_offset.max(range.start);
            let to = end(extent).min(range.end);
            Extent {
                value_offset: from,
                // Both differences are within the extent, whose length is a u32.
                len: (to - from) as u32,
                buffer: extent.buffer,
                buffer_offset: extent.buffer_offset + (from - extent.value_offset) as u32,
            }
        },
    )
}

/// `range` as an unbroken sequence of data and holes.
pub fn stretches(extents: &[Extent], range: Range<u64>) -> Vec<Stretch> {
    let mut at = range.start;
    let mut out = Vec::new();
    for extent in clip(extents, range.clone()) {
        if extent.value_offset > at {
            out.push(Stretch::Hole { len: extent.value_offset - at });
        }
        at = end(&extent);
        out.push(Stretch::Data(extent));
    }
    if at < range.end {
        out.push(Stretch::Hole { len: range.end - at });
    }
    out
}

/// The list with `cut` replaced by `insert`, whose extents lie inside `cut`, and everything at or
/// beyond `len` dropped.
pub fn splice(extents: &[Extent], cut: Range<u64>, insert: &[Extent], len: u64) -> Vec<Extent> {
    debug_assert!(insert.iter().all(|e| cut.start <= e.value_offset && end(e) <= cut.end));
    let head = clip(extents, 0..cut.start.min(len));
    let tail = clip(extents, cut.end.min(len)..len);
    head.chain(insert.iter().copied()).chain(tail).collect()
}

/// The list with others over it, which ascend and do not overlap, and everything at or beyond
/// `len` dropped.
pub fn overlay(extents: &[Extent], over: &[Extent], len: u64) -> Vec<Extent> {
    let mut out = Vec::with_capacity(extents.len() + over.len());
    let mut at = 0;
    for extent in over {
        out.extend(clip(extents, at..extent.value_offset));
        out.push(*extent);
        at = end(extent);
    }
    out.extend(clip(extents, at..len));
    out
}

/// How many extents overlap `span`.
pub fn count_in(extents: &[Extent], span: Range<u64>) -> usize {
    clip(extents, span).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::BufferId;

    fn extent(value_offset: u64, len: u32, buffer: u64, buffer_offset: u32) -> Extent {
        Extent { value_offset, len, buffer: BufferId(buffer), buffer_offset }
    }

    #[test]
    fn a_splice_in_the_middle_of_an_extent_leaves_its_two_ends() {
        let spliced = splice(&[extent(0, 100, 1, 0)], 40..60, &[extent(40, 20, 2, 0)], 100);
        assert_eq!(spliced, [extent(0, 40, 1, 0), extent(40, 20, 2, 0), extent(60, 40, 1, 60)]);
    }

    #[test]
    fn truncation_is_a_splice_without_extents() {
        let list = [extent(0, 10, 1, 0), extent(10, 10, 2, 0)];
        assert_eq!(splice(&list, 12..20, &[], 12), [extent(0, 10, 1, 0), extent(10, 2, 2, 0)]);
        assert_eq!(splice(&list, 0..20, &[], 0), []);
    }

    #[test]
    fn what_lies_over_a_list_cuts_it_wherever_it_lies() {
        let list = [extent(0, 100, 1, 0), extent(100, 100, 2, 0)];
        let over = [extent(10, 10, 3, 0), extent(20, 5, 4, 0), extent(95, 10, 5, 0)];
        let left = [extent(25, 70, 1, 25), extent(105, 45, 2, 5)];
        let expected = [extent(0, 10, 1, 0), over[0], over[1], left[0], over[2], left[1]];
        assert_eq!(overlay(&list, &over, 150), expected);
        assert_eq!(overlay(&list, &[], 100), list[..1]);
        assert_eq!(overlay(&[], &over, 105), over);
    }

    #[test]
    fn gaps_are_holes_and_a_range_beyond_the_last_extent_is_one() {
        let list = [extent(10, 10, 1, 5), extent(30, 10, 2, 0)];
        assert_eq!(
            stretches(&list, 5..50),
            [
                Stretch::Hole { len: 5 },
                Stretch::Data(extent(10, 10, 1, 5)),
                Stretch::Hole { len: 10 },
                Stretch::Data(extent(30, 10, 2, 0)),
                Stretch::Hole { len: 10 },
            ]
        );
    }

    #[test]
    fn random_splices_agree_with_an_array_of_bytes() {
        // Each byte of the model holds (buffer, offset in buffer), 0 for a hole.
        let mut random = 7u64;
        let mut next = |bound: u64| {
            random = crate::io::runtime::splitmix64(random);
            random % bound
        };
        let mut model: Vec<(u64, u32)> = Vec::new();
        let mut list: Vec<Extent> = Vec::new();
        for buffer in 1..2000u64 {
            let start = next(300);
            let count = 1 + next(80);
            let len =
                if next(10) == 0 { next(300) } else { (model.len() as u64).max(start + count) };
            let cut = start..start + count;
            let insert =
                if len >= cut.end { vec![extent(start, count as u32, buffer, 3)] } else { vec![] };
            list = splice(&list, cut.clone(), &insert, len);
            model.resize(len.max(cut.end) as usize, (0, 0));
            for at in cut {
                let value = insert.first().map_or((0, 0), |_| (buffer, 3 + (at - start) as u32));
                model[at as usize] = value;
            }
            model.truncate(len as usize);
            let mut seen = vec![(0, 0); model.len()];
            for e in &list {
                assert!(e.len > 0, "an empty extent after splice {buffer}");
                for i in 0..e.len {
                    seen[(e.value_offset + u64::from(i)) as usize] =
                        (e.buffer.0, e.buffer_offset + i);
                }
            }
            assert_eq!(seen, model, "after splice {buffer}");
        }
    }
}
