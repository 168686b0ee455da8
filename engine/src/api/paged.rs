//! Changes above Memory level of values whose maps are large: these stand in extent pages.
//!
//! A map goes to pages when it outgrows the record of its blob, and stays there until the value is
//! replaced. A change then writes the pages that it touches anew, and names the others.

use std::collections::{HashMap, HashSet};
use std::mem::take;
use std::ops::Range;
use std::sync::Arc;

use crate::api::change::{Claim, Draft, Way, start_piece};
use crate::api::crowded::rewrite_crowded;
use crate::api::predecessor::{Predecessor, first_offset, ids_before};
use crate::api::read;
use crate::buckets::BucketState;
use crate::core::{Change, Core, NewBuffer, PagedSplice, Source};
use crate::error::{Result, fail};
use crate::index::extents;
use crate::index::pages::{self, PageRef, hole, part, touched};
use crate::index::state::{Buffer, Checks, PagedMap};
use crate::limits::{BLOCK, VALUE_LEN_MAX};
use crate::log::map::EXTENT_LEN;
use crate::log::page::{PAGE_HEADER_LEN, PageBuffer};
use crate::paging::load::{self, View};
use crate::paging::write::{Author, Material, PageHold, Written, write_pages};
use crate::plant::{Plant, planted};
use crate::tier::space::footprint;
use crate::types::BufferId;

/// The change to a map that is the draft's, all of it in new pages.
pub(super) async fn whole(
    core: &Arc<Core>,
    claim: &mut Claim<'_>,
    draft: Draft,
    len: u64,
    material: Material,
) -> Result<Change> {
    let Written { mut pages, holds } = write(core, claim, draft, true, material).await?;
    match pages.first_mut() {
        Some(first) => first.start = 0,
        None => fail!(Internal, "a map without extents goes to pages"),
    }
    Ok(Change::Paged { len, pages, splice: None, holds })
}

/// Writes the draft's extents as pages.
async fn write(
    core: &Arc<Core>,
    claim: &mut Claim<'_>,
    draft: Draft,
    at_end: bool,
    mut material: Material,
) -> Result<Written> {
    for new in draft.buffers {
        // What pages name does not ride in the log: the record of a page must not wait for room.
        let new = match &new.source {
            Source::Inline(payload) => {
                let id = new.buffer.id;
                let offset = first_offset(&draft.extents, id);
                start_piece(core, claim, id, offset, payload.bytes(), Way::Held)
                    .await
                    .finish()
                    .await?
            }
            Source::Written(_) | Source::Held(_) | Source::Inherited => new,
        };
        material.new.insert(new.buffer.id, new);
    }
    let bytes = pages_bytes(core, claim, draft.extents.len(), &material);
    claim.reserve(bytes).await?;
    let author = Author {
        hash: claim.hash,
        bucket: claim.bucket.id,
        key: &claim.key,
        version: claim.version,
        keep: &claim.before,
    };
    write_pages(core, &author, &draft.extents, at_end, material).await
}

/// Device bytes that the pages of a draft take at most, those apart that the change of a large
/// value has set aside with its data.
fn pages_bytes(core: &Core, claim: &Claim<'_>, extents: usize, material: &Material) -> u64 {
    let known = material.old.values().map(|(stored_len, _)| *stored_len);
    let new = material.new.values().map(|new| new.buffer.stored_len);
    let is_large = material.new.len() > core.settings.inline_extents_max();
    if is_large && material.old.is_empty() {
        return 0;
    }
    let lens: Vec<u32> = known.chain(new.filter(|_| !is_large)).collect();
    let extents = if is_large { extents.saturating_sub(material.new.len()) } else { extents };
    pages_footprint(core, claim.key.len(), extents, lens.into_iter())
}

/// Device bytes that pages of so many extents, of buffers of these lengths, take at most.
pub(super) fn pages_footprint(
    core: &Core,
    key_len: usize,
    extents: usize,
    stored_lens: impl Iterator<Item = u32>,
) -> u64 {
    let pages = extents.div_ceil(core.settings.page_extents as usize) + 1;
    let header = PAGE_HEADER_LEN + key_len.next_multiple_of(8) + BLOCK;
    // A buffer whose slices lie on both sides of a cut stands in two pages.
    let buffers: usize = stored_lens.map(PageBuffer::encoded_len_of).sum::<usize>() * 2;
    (pages * header + extents * EXTENT_LEN + buffers) as u64
}

/// Device bytes of the pages that a change with so much data makes, if it is large.
pub(super) fn pages_of_data(core: &Core, key_len: usize, data_len: usize, buffer_size: u32) -> u64 {
    pages_of_pieces(core, key_len, data_len.div_ceil(buffer_size as usize), buffer_size)
}

/// The same of a change that writes so many buffers of at most this size.
pub(super) fn pages_of_pieces(core: &Core, key_len: usize, pieces: usize, buffer_size: u32) -> u64 {
    let lens = std::iter::repeat_n(buffer_size, pieces + 1);
    match pieces > core.settings.inline_extents_max() {
        true => pages_footprint(core, key_len, pieces + 1, lens),
        false => 0,
    }
}

/// The change to a map that has been small: the draft's extents, some of them of buffers that the
/// predecessor has in memory.
pub(super) async fn from_memory(
    core: &Arc<Core>,
    bucket: &BucketState,
    claim: &mut Claim<'_>,
    mut draft: Draft,
    len: u64,
) -> Result<Change> {
    let mut material = Material::default();
    for id in ids_before(&draft) {
        let (entered, pin) = match claim.predecessor(id)? {
            Predecessor::Known => {
                let Some(row) = core.table.get(id) else {
                    fail!(Internal, "buffer {} of a claimed blob is gone", id.0)
                };
                material.old.insert(id, (row.stored_len, row.checks));
                continue;
            }
            Predecessor::Lone(lone) => {
                copy_lone(core, bucket, claim, &mut draft, &lone).await?;
                continue;
            }
            Predecessor::Dirty(buffer, pin) => (buffer, pin),
        };
        let (slot, bytes) = (pin.slot(), pin.to_vec());
        drop(pin);
        if claim.before.lone().is_some() {
            // Not a row of the table: under the same id it would become one.
            let checks = write_anew(core, claim, &mut draft, id, &bytes).await?;
            entered.check_entered(&checks)?;
            continue;
        }
        // It keeps its id: write-behind and newer versions find it on a device then.
        material.slots.insert(id, slot);
        let offset = first_offset(&draft.extents, id);
        let new = write_apart(core, claim, id, offset, &bytes, Way::Known).await?;
        entered.check_entered(&new.buffer.checks)?;
        draft.buffers.push(new);
    }
    whole(core, claim, draft, len, material).await
}

/// Writes bytes that the caller has not brought.
async fn write_apart(
    core: &Arc<Core>,
    claim: &mut Claim<'_>,
    id: BufferId,
    offset: u64,
    bytes: &[u8],
    way: Way,
) -> Result<NewBuffer> {
    claim.reserve(footprint(bytes.len() as u32)).await?;
    start_piece(core, claim, id, offset, bytes, way).await.finish().await
}

/// Copies a lone buffer, under another id: its definition stands with the blob, and a page that is
/// logged before the blob must not define it a second time.
async fn copy_lone(
    core: &Arc<Core>,
    bucket: &BucketState,
    claim: &mut Claim<'_>,
    draft: &mut Draft,
    lone: &Buffer,
) -> Result<()> {
    let mut bytes = vec![0; lone.raw_len as usize];
    let range = 0..u64::from(lone.raw_len);
    let held = claim.hold(range.clone())?;
    read::read_held(core, bucket, &held, range, &mut bytes, claim.reader).await?;
    // Nothing is pinned while this waits for room.
    drop(held);
    write_anew(core, claim, draft, lone.id, &bytes).await.map(drop)
}

/// Writes a buffer of the predecessor under another id, by which the draft names it from now on.
/// Returns its checksums.
async fn write_anew(
    core: &Arc<Core>,
    claim: &mut Claim<'_>,
    draft: &mut Draft,
    old: BufferId,
    bytes: &[u8],
) -> Result<Checks> {
    let id = core.next_buffer();
    let new = write_apart(core, claim, id, 0, bytes, Way::Held).await?;
    let checks = new.buffer.checks.clone();
    draft.buffers.push(new);
    let renamed = draft.extents.iter_mut().filter(|extent| extent.buffer == old);
    renamed.for_each(|extent| extent.buffer = id);
    Ok(checks)
}

/// The change to a map that stands in pages: the draft's extents fill the cuts.
pub(super) async fn edit(
    core: &Arc<Core>,
    bucket: &BucketState,
    claim: &mut Claim<'_>,
    map: &PagedMap,
    mut draft: Draft,
    (cuts, len): (&[Range<u64>], u64),
    buffer_size: u32,
) -> Result<Change> {
    if draft.extents.is_empty() {
        // A truncation rewrites nothing; what is longer by zeros has the same map.
        let (cut, insert) = match len < claim.before.len {
            true if !planted(Plant::TruncationLeavesBytes) => (len..VALUE_LEN_MAX, vec![hole(len)]),
            true => (VALUE_LEN_MAX..VALUE_LEN_MAX, Vec::new()),
            false => (VALUE_LEN_MAX..VALUE_LEN_MAX, Vec::new()),
        };
        return Ok(spliced(claim, map.pages(), cut, insert, len, Vec::new()));
    }
    let mut pages = map.pages().to_vec();
    let mut holds = Vec::new();
    let mut whole: Option<Range<u64>> = None;
    for cluster in clusters(core, map.pages(), cuts, buffer_size) {
        let own = take_draft(&mut draft, &cuts[cluster.cuts.clone()]);
        let (range, written) =
            rewrite(core, bucket, claim, map, own, (cuts, len), cluster, buffer_size).await?;
        pages = pages::splice(&pages, &range, &written.pages);
        holds.extend(written.holds);
        whole = Some(whole.map_or(range.start, |whole| whole.start)..range.end);
    }
    let Some(whole) = whole else { fail!(Internal, "a change of a paged map touches no page") };
    let between = pages.into_iter().filter(|page| whole.contains(&page.start));
    Ok(spliced(claim, map.pages(), whole.clone(), between.collect(), len, holds))
}

/// Cuts that lie in one run of parts, which is written anew.
struct Cluster {
    parts: Range<usize>,
    cuts: Range<usize>,
}

/// The runs of parts that the cuts touch: what lies between them stays.
fn clusters(core: &Core, old: &[PageRef], cuts: &[Range<u64>], buffer_size: u32) -> Vec<Cluster> {
    let size = u64::from(buffer_size);
    let mut clusters: Vec<Cluster> = Vec::new();
    for (at, cut) in cuts.iter().enumerate() {
        let spans = cut.start / size * size..cut.end.next_multiple_of(size);
        let parts = with_small_neighbour(core, old, touched(old, &spans));
        match clusters.last_mut() {
            Some(last) if parts.start <= last.parts.end => {
                last.parts.end = last.parts.end.max(parts.end);
                last.cuts.end = at + 1;
            }
            _ => clusters.push(Cluster { parts, cuts: at..at + 1 }),
        }
    }
    clusters
}

/// The part of a draft that fills these cuts, the first of those left. Each of its extents is a
/// buffer of its own.
fn take_draft(draft: &mut Draft, cuts: &[Range<u64>]) -> Draft {
    let end = cuts.last().map_or(0, |cut| cut.end);
    let count = draft.extents.partition_point(|extent| extent.value_offset < end);
    let extents = draft.extents.drain(..count).collect();
    Draft { extents, buffers: draft.buffers.drain(..count).collect() }
}

/// Writes a run of parts anew, with the draft's extents in their cuts. Returns the range of the
/// value that they are about, and the new ones.
#[expect(clippy::too_many_arguments, reason = "what a change is made of")]
async fn rewrite(
    core: &Arc<Core>,
    bucket: &BucketState,
    claim: &mut Claim<'_>,
    map: &PagedMap,
    mut draft: Draft,
    (cuts, len): (&[Range<u64>], u64),
    Cluster { parts, cuts: own }: Cluster,
    buffer_size: u32,
) -> Result<(Range<u64>, Written)> {
    let old = map.pages();
    let range = part(old, parts.start).start..part(old, parts.end - 1).end;
    let at_end = parts.end == old.len();
    let view = load::view(core, map, &range, claim.reader).await?;
    let inserted = take(&mut draft.extents);
    draft.extents = extents::overlay(&view.extents, &inserted, len);
    rewrite_crowded(core, bucket, claim, &mut draft, &cuts[own], len, buffer_size).await?;
    let material = Material { old: known_of(core, &draft, &view)?, ..Material::default() };
    let mut written = write(core, claim, draft, at_end, material).await?;
    match written.pages.first_mut() {
        Some(first) => first.start = range.start,
        None => written.pages.push(hole(range.start)),
    }
    Ok((range, written))
}

/// A part beside small ones joins them: many changes must not leave many small pages.
fn with_small_neighbour(core: &Core, old: &[PageRef], parts: Range<usize>) -> Range<usize> {
    let Some(before) = parts.start.checked_sub(1) else { return parts };
    let extents: u64 = old[before..parts.end].iter().map(|part| u64::from(part.extents)).sum();
    match extents <= u64::from(core.settings.page_extents / 2) {
        true => before..parts.end,
        false => parts,
    }
}

/// Lengths and checksums of the draft's old buffers, from their pages.
fn known_of(
    core: &Core,
    draft: &Draft,
    view: &View<'_>,
) -> Result<HashMap<BufferId, (u32, Checks)>> {
    let mut known = HashMap::new();
    let new: HashSet<BufferId> = draft.buffers.iter().map(|new| new.buffer.id).collect();
    for extent in &draft.extents {
        let id = extent.buffer;
        if known.contains_key(&id) || new.contains(&id) {
            continue;
        }
        let (Some(row), Some(checks)) = (core.table.get(id), view.checks_of(extent)) else {
            fail!(Internal, "buffer {} of a claimed blob is gone", id.0)
        };
        known.insert(id, (row.stored_len, checks.clone()));
    }
    Ok(known)
}

/// The change that replaces the references in `cut`.
fn spliced(
    claim: &Claim<'_>,
    old: &[PageRef],
    cut: Range<u64>,
    mut insert: Vec<PageRef>,
    len: u64,
    holds: Vec<Arc<PageHold>>,
) -> Change {
    // Two holes in a row are one.
    let before = old.partition_point(|page| page.start < cut.start).checked_sub(1);
    let follows_hole = before.is_some_and(|before| old[before].page.is_none());
    if follows_hole && insert.first().is_some_and(|first| first.page.is_none()) {
        insert.remove(0);
    }
    let pages = pages::splice(old, &cut, &insert);
    if pages.iter().all(|page| page.page.is_none()) {
        let (extents, buffers) = (Vec::new(), Vec::new());
        return Change::Put { len, extents, buffers, splice: None, dram: None };
    }
    let base = claim.before.version;
    let splice = Some(PagedSplice { base, cut, pages: insert });
    Change::Paged { len, pages, splice, holds }
}
