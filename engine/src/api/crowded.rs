//! Spans of a value, each as long as a buffer, that many changes have cut into too many slices: the
//! change that finds one writes it anew.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use crate::api::admission::device_bytes;
use crate::api::change::{Claim, Draft, write_pieces};
use crate::api::read;
use crate::buckets::BucketState;
use crate::core::{Core, Source};
use crate::error::Result;
use crate::index::extents::{self, Extent};
use crate::types::BufferId;

/// Slices of buffers that one buffer's span of a value may be made of; beyond, it is rewritten.
pub const SLICES_PER_SPAN_MAX: usize = 32;

/// Writes spans of too many slices anew, and lets go of the new buffers that are not needed then.
/// Returns the range of the value within which it has changed.
pub(super) async fn rewrite_crowded(
    core: &Arc<Core>,
    bucket: &BucketState,
    claim: &mut Claim<'_>,
    draft: &mut Draft,
    cuts: &[Range<u64>],
    len: u64,
    buffer_size: u32,
) -> Result<Range<u64>> {
    let (first, last) = (cuts.first(), cuts.last());
    let mut whole_cut = first.map_or(0, |cut| cut.start)..last.map_or(0, |cut| cut.end);
    for span in crowded_spans(&draft.extents, cuts, buffer_size) {
        let old = span.start..span.end.min(len);
        let bytes = device_bytes(span.start, (old.end - old.start) as usize, buffer_size);
        claim.reserve(bytes).await?;
        let bytes = read_span(core, bucket, claim, draft, old).await?;
        let mut rewritten = Draft::default();
        write_pieces(core, claim, &mut rewritten, span.start, &bytes, buffer_size, true).await?;
        draft.buffers.append(&mut rewritten.buffers);
        draft.extents = extents::splice(&draft.extents, span.clone(), &rewritten.extents, len);
        whole_cut = whole_cut.start.min(span.start)..whole_cut.end.max(span.end);
    }
    drop_unnamed(draft);
    Ok(whole_cut)
}

/// Spans of the value that the edit touched and that have too many slices now. The cuts ascend.
pub fn crowded_spans(extents: &[Extent], cuts: &[Range<u64>], buffer_size: u32) -> Vec<Range<u64>> {
    let size = u64::from(buffer_size);
    // Only the first and the last span of a cut can hold old slices beside the new bytes.
    let ends = cuts.iter().flat_map(|cut| {
        let first = cut.start / size * size;
        [first, (cut.end.saturating_sub(1) / size * size).max(first)]
    });
    let mut starts: Vec<u64> = ends.collect();
    starts.dedup();
    let spans = starts.into_iter().map(|start| start..start + size);
    spans.filter(|span| extents::count_in(extents, span.clone()) > SLICES_PER_SPAN_MAX).collect()
}

/// The bytes of a span after the edit: the predecessor's, with the new pieces over them.
async fn read_span(
    core: &Arc<Core>,
    bucket: &BucketState,
    claim: &Claim<'_>,
    draft: &Draft,
    span: Range<u64>,
) -> Result<Vec<u8>> {
    let mut bytes = vec![0; (span.end - span.start) as usize];
    let held = claim.hold(span.clone())?;
    claim.check_entered(extents::clip(&claim.before.extents_in_memory(), span.clone()))?;
    let old = span.start..span.end.min(held.state.len);
    if old.start < old.end {
        let target = &mut bytes[..(old.end - old.start) as usize];
        read::read_held(core, bucket, &held, old, target, claim.reader).await?;
    }
    for extent in extents::clip(&draft.extents, span.clone()) {
        let Some(new) = draft.buffers.iter().find(|new| new.buffer.id == extent.buffer) else {
            continue;
        };
        let at = (extent.value_offset - span.start) as usize;
        let target = &mut bytes[at..at + extent.len as usize];
        let from = extent.buffer_offset as usize;
        match &new.source {
            Source::Inline(payload) => {
                target.copy_from_slice(&payload.bytes()[from..from + extent.len as usize]);
            }
            source => {
                let from = extent.buffer_offset;
                let (now, _pin) = match source {
                    Source::Held(hold) => hold.pin()?,
                    _ => (new.buffer.clone(), None),
                };
                read::read_buffer(core, bucket, &held, &now, from, target, claim.reader).await?;
            }
        }
    }
    // Bytes that the edit cut away and nothing replaced are zeros.
    Ok(bytes)
}

/// New buffers that a rewritten span has made superfluous are dead.
fn drop_unnamed(draft: &mut Draft) {
    let named: HashSet<BufferId> = draft.extents.iter().map(|extent| extent.buffer).collect();
    draft.buffers.retain(|new| named.contains(&new.buffer.id));
}
