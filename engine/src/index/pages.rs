//! Lists of page references as values: which parts a range touches, what a change makes of them,
//! how extents are cut into pages. Pure.

use std::ops::Range;

use crate::index::extents::Extent;
use crate::limits::VALUE_LEN_MAX;
pub use crate::log::record::PageRef;

/// The part of the value that a reference is about.
pub fn part(pages: &[PageRef], at: usize) -> Range<u64> {
    let end = pages.get(at + 1).map_or(VALUE_LEN_MAX, |next| next.start);
    pages[at].start..end
}

/// The references whose parts overlap a range, by index. At least one: an empty range and one
/// behind all data belong to some part, too.
pub fn touched(pages: &[PageRef], range: &Range<u64>) -> Range<usize> {
    let first = pages.partition_point(|page| page.start <= range.start).saturating_sub(1);
    let end = pages.partition_point(|page| page.start < range.end);
    first..end.max(first + 1).min(pages.len())
}

/// A hole from `start` on.
pub fn hole(start: u64) -> PageRef {
    PageRef { start, page: None, extents: 0 }
}

/// The list with those references replaced that begin in `cut`.
pub fn splice(pages: &[PageRef], cut: &Range<u64>, insert: &[PageRef]) -> Vec<PageRef> {
    let head = &pages[..pages.partition_point(|page| page.start < cut.start)];
    let tail = &pages[pages.partition_point(|page| page.start < cut.end)..];
    [head, insert, tail].concat()
}

/// Cuts extents into pages of at most `most`. At the end of a value pages are filled, for what is
/// appended follows; elsewhere they are cut evenly, so that each has room for more.
pub fn cut_into_pages(extents: &[Extent], most: usize, at_end: bool) -> Vec<&[Extent]> {
    if extents.is_empty() {
        return Vec::new();
    }
    let count = extents.len().div_ceil(most);
    let size = if at_end { most } else { extents.len().div_ceil(count) };
    extents.chunks(size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::BufferId;

    fn page(start: u64, id: u64) -> PageRef {
        PageRef { start, page: Some(BufferId(id)), extents: 3 }
    }

    fn extents(count: u64) -> Vec<Extent> {
        (0..count)
            .map(|n| Extent { value_offset: n, len: 1, buffer: BufferId(n), buffer_offset: 0 })
            .collect()
    }

    #[test]
    fn a_range_touches_the_parts_it_overlaps_and_always_one() {
        let pages = [page(0, 1), page(100, 2), hole(250)];
        assert_eq!(touched(&pages, &(0..100)), 0..1);
        assert_eq!(touched(&pages, &(99..101)), 0..2);
        assert_eq!(touched(&pages, &(100..100)), 1..2);
        assert_eq!(touched(&pages, &(150..300)), 1..3);
        assert_eq!(touched(&pages, &(900..950)), 2..3);
        assert_eq!(part(&pages, 1), 100..250);
        assert_eq!(part(&pages, 2), 250..VALUE_LEN_MAX);
    }

    #[test]
    fn a_splice_replaces_what_begins_in_the_cut() {
        let pages = [page(0, 1), page(100, 2), page(200, 3)];
        let new = [page(100, 7), page(150, 8)];
        assert_eq!(
            splice(&pages, &(100..200), &new),
            [page(0, 1), page(100, 7), page(150, 8), page(200, 3)]
        );
        // A truncation in the middle of a part: the part stays, as far as the hole.
        assert_eq!(
            splice(&pages, &(120..VALUE_LEN_MAX), &[hole(120)]),
            [page(0, 1), page(100, 2), hole(120)]
        );
    }

    #[test]
    fn pages_are_filled_at_the_end_and_even_elsewhere() {
        let sizes = |count, at_end| -> Vec<usize> {
            cut_into_pages(&extents(count), 10, at_end).iter().map(|page| page.len()).collect()
        };
        assert_eq!(sizes(11, true), [10, 1]);
        assert_eq!(sizes(11, false), [6, 5]);
        assert_eq!(sizes(10, false), [10]);
        assert!(sizes(0, true).is_empty());
    }
}
