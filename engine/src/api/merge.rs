//! Keeps the slices of a value in DRAM few, in a store that has nothing else.
//!
//! Where there are devices, a span with too many slices is rewritten above Memory level. Without
//! them the change that would make it one more takes the old bytes around its own along, and
//! replaces all of them with one buffer.

use std::ops::Range;
use std::sync::Arc;

use crate::api::crowded::SLICES_PER_SPAN_MAX;
use crate::api::held::{Held, hold_state};
use crate::buckets::BucketState;
use crate::core::Core;
use crate::index::entry::Entry;
use crate::index::extents::{Extent, clip, count_in};
use crate::index::state::{BlobState, Value};
use crate::paging::load::View;
use crate::tier::dram::DirStripe;

/// What one change adds to the slices of a span at most: itself, and the rest of the one it cuts.
const SLICES_PER_CHANGE_MAX: usize = 2;
/// Slices that a merge may leave beside its own.
const SLICES_LEFT_MAX: usize = SLICES_PER_SPAN_MAX / 2;
/// How much longer than what it joins a slice may be.
const JOIN_FACTOR: u64 = 2;

/// The old bytes on both sides of a change, as far as they are to be merged with its own.
pub(super) struct Surroundings {
    sides: Vec<Side>,
}

/// Old bytes, kept in place until they are copied.
struct Side {
    range: Range<u64>,
    held: Held,
}

impl Surroundings {
    /// Of a change of `cut`. `None` if no span that it touches has too many slices. Under the
    /// stripe lock.
    pub(super) fn of(
        core: &Arc<Core>,
        dir: &DirStripe,
        bucket: &BucketState,
        entry: &Entry,
        cut: &Range<u64>,
        buffer_size: u32,
    ) -> Option<Surroundings> {
        let whole = joined_range(&entry.visible, cut, buffer_size);
        let ranges = [whole.start..cut.start, cut.end..whole.end];
        let hold = |range: Range<u64>| {
            let (key, state) = (entry.key.clone(), entry.visible.clone());
            let held = hold_state(core, dir, bucket, entry.hash, key, state, range.clone());
            Side { range, held }
        };
        let ranges = ranges.into_iter().filter(|side| side.start < side.end);
        let sides: Vec<Side> = ranges.map(hold).collect();
        (!sides.is_empty()).then_some(Surroundings { sides })
    }

    /// The bytes of the change with the old ones around them, and the range that these replace.
    /// `None` if some are not in memory.
    pub(super) fn merge(&self, cut: &Range<u64>, data: &[u8]) -> Option<(Range<u64>, Vec<u8>)> {
        let ranges = self.sides.iter().map(|side| &side.range);
        let whole = ranges.fold(cut.clone(), |whole, range| {
            whole.start.min(range.start)..whole.end.max(range.end)
        });
        let within = |range: &Range<u64>| {
            (range.start - whole.start) as usize..(range.end - whole.start) as usize
        };
        let mut bytes = vec![0; (whole.end - whole.start) as usize];
        for Side { range, held } in &self.sides {
            let view = View::of_memory(held.state.extents_in_memory().into());
            let cold = held.copy_resident(&view, range.clone(), &mut bytes[within(range)]);
            if !cold.is_empty() {
                return None;
            }
        }
        bytes[within(cut)].copy_from_slice(data);
        Some((whole, bytes))
    }
}

/// A cut, and the old bytes before and behind it that are merged with it where a span has too many
/// slices.
fn joined_range(state: &BlobState, cut: &Range<u64>, buffer_size: u32) -> Range<u64> {
    let Value::Mapped(map) = &state.value else { return cut.clone() };
    let extents = map.extents();
    let size = u64::from(buffer_size);
    let span_of = |at: u64| at / size * size..at / size * size + size;
    let is_crowded = |span: &Range<u64>| {
        count_in(extents, span.clone()) + SLICES_PER_CHANGE_MAX > SLICES_PER_SPAN_MAX
    };
    let (first, last) = (span_of(cut.start), span_of(cut.end.saturating_sub(1)));
    let (crowded_before, crowded_behind) = (is_crowded(&first), is_crowded(&last));
    let mut whole = cut.clone();
    if crowded_before {
        whole.start = joined_before(extents, &first, cut);
    }
    if crowded_behind {
        whole.end = joined_behind(extents, &last, cut);
    }
    let before = count_in(extents, first.start..whole.start);
    let behind = count_in(extents, whole.end..last.end);
    let together = if first == last { before + behind } else { before.max(behind) };
    if together > SLICES_LEFT_MAX {
        // Not enough: all of what is crowded.
        whole.start = if crowded_before { first.start } else { whole.start };
        whole.end = if crowded_behind { last.end.min(state.len).max(cut.end) } else { whole.end };
    }
    whole
}

/// Where the slices begin that join a change from before it. Each joins that is not much longer
/// than all behind it, so that of a blob that grows by small appends each byte is copied a few
/// times only.
fn joined_before(extents: &[Extent], span: &Range<u64>, cut: &Range<u64>) -> u64 {
    let before: Vec<Extent> = clip(extents, span.start..cut.start).collect();
    let mut start = cut.start;
    for slice in before.iter().rev() {
        if start - slice.value_offset > JOIN_FACTOR * (cut.end - start) {
            break;
        }
        start = slice.value_offset;
    }
    start
}

/// Where the slices end that join a change from behind it.
fn joined_behind(extents: &[Extent], span: &Range<u64>, cut: &Range<u64>) -> u64 {
    let mut end = cut.end;
    for slice in clip(extents, cut.end..span.end) {
        let slice_end = slice.value_offset + u64::from(slice.len);
        if slice_end - end > JOIN_FACTOR * (end - cut.start) {
            break;
        }
        end = slice_end;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::MemoryBudget;
    use crate::index::state::{Buffer, Map};
    use crate::index::table::BufferTable;
    use crate::tier::space::{Space, footprint};
    use crate::types::{BufferId, Location, SlotId, Version};

    const SIZE: u32 = 4096;

    fn state(slices: u64) -> BlobState {
        state_of(&vec![8; slices as usize])
    }

    fn state_of(lens: &[u32]) -> BlobState {
        let budget = Arc::new(MemoryBudget::new(1 << 20));
        let space = Arc::new(Space::new(Vec::new(), Box::new(|_, _| Ok(()))));
        let table = Arc::new(BufferTable::new(16, space.clone(), budget));
        let mut len = 0;
        let extents = lens.iter().enumerate().map(|(n, slice)| {
            let (buffer, value_offset) = (BufferId(n as u64), len);
            space.reserve_unchecked(footprint(*slice));
            table.define(Buffer::dirty(buffer, Location::dram(SlotId(n as u32)), *slice));
            len += u64::from(*slice);
            Extent { value_offset, len: *slice, buffer, buffer_offset: 0 }
        });
        let map = Arc::new(Map::new(extents.collect(), &table));
        BlobState { version: Version(1), len, value: Value::Mapped(map), attributes: None }
    }

    #[test]
    fn only_a_span_with_too_many_slices_is_merged_and_only_around_the_change() {
        let most = (SLICES_PER_SPAN_MAX - SLICES_PER_CHANGE_MAX) as u64;
        assert_eq!(joined_range(&state(most), &(80..90), SIZE), 80..90);
        let crowded = state(most + 1);
        let len = crowded.len;
        let joined = |cut: Range<u64>| joined_range(&crowded, &cut, SIZE);
        assert_eq!(joined(80..90), 0..len);
        assert_eq!(joined(len..len + 9), 0..len + 9, "an append");
        assert_eq!(joined(0..len), 0..len, "all of it is replaced");
        assert_eq!(joined(80..5000), 0..5000, "beyond is the next span");
        assert_eq!(joined(9000..9009), 9000..9009, "another span");
        // Zeros between the old end and the change are old bytes as well.
        assert_eq!(joined(len + 100..len + 109), 0..len + 109);
    }

    #[test]
    fn an_append_copies_the_small_slices_before_it_and_leaves_the_large_ones() {
        let mut lens = vec![2000, 900];
        lens.resize(SLICES_PER_SPAN_MAX - 1, 10);
        let crowded = state_of(&lens);
        let len = crowded.len;
        assert_eq!(joined_range(&crowded, &(len..len + 10), SIZE), 2900..len + 10);
        // Where the large ones are too many, they go along.
        let crowded = state_of(&[&[100; SLICES_LEFT_MAX + 1][..], &[1; SLICES_LEFT_MAX]].concat());
        let len = crowded.len;
        assert_eq!(joined_range(&crowded, &(len..len + 1), SIZE), 0..len + 1);
    }
}
