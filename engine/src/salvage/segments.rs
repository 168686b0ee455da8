//! What sealed data segments say of themselves: their summaries name every buffer, with its place and
//! its blob. They never say what is live; so they add places where buffers may lie, and, where batches
//! are missing, values that one of these may have committed.

use crate::limits::BLOCK;
use crate::log::map::ENCODING_RAW;
use crate::log::record::{BufferDef, Extent};
use crate::log::segment::{Footer, SummaryEntry};
use crate::salvage::medium::Medium;
use crate::salvage::state::State;
use crate::types::{BatchSeq, Location, SegmentId, TierId, TierSegment};

/// A summary's entry, with the bytes of the summary gone.
type Entry = SummaryEntry<Box<[u8]>>;

/// Takes in all summaries. Returns how many there are.
pub(super) fn scan(medium: &Medium, state: &mut State, last_missing: BatchSeq) -> u64 {
    let mut found = 0;
    for number in 0..medium.tiers.len() {
        let tier = TierId(number as u8);
        for segment in 1..medium.segments(tier) {
            let at = TierSegment { tier, segment: SegmentId(segment) };
            let Some(entries) = summary(medium, at) else { continue };
            found += 1;
            entries.iter().for_each(|entry| take_in(medium, state, at, entry, last_missing));
        }
    }
    found
}

/// The summary of a segment, if it has one that was written for it.
fn summary(medium: &Medium, at: TierSegment) -> Option<Vec<Entry>> {
    let segment_size = medium.tiers[at.tier.index()].segment_size;
    let start = u64::from(at.segment.0) * segment_size;
    let block = medium.read(at.tier, start + segment_size - BLOCK as u64, BLOCK).ok()?;
    let footer = Footer::decode(&block, None, segment_size).ok()?;
    let identity = footer.identity;
    let device = medium.devices[at.tier.index()];
    if (identity.store, identity.device, identity.segment) != (medium.store, device, at) {
        return None;
    }
    let offset = start + u64::from(footer.summary_offset);
    let bytes = medium.read(at.tier, offset, footer.summary_len as usize).ok()?;
    let owned = |entry: SummaryEntry<&[u8]>| Entry {
        buffer: entry.buffer,
        bucket: entry.bucket,
        key: entry.key.into(),
        version: entry.version,
        value_offset: entry.value_offset,
        offset: entry.offset,
        stored_len: entry.stored_len,
        raw_len: entry.raw_len,
        logical_crc: entry.logical_crc,
        encoding: entry.encoding,
        table: entry.table,
    };
    let entries = footer.entries(&bytes).ok()?;
    entries.map(|entry| entry.map(owned)).collect::<Result<_, _>>().ok()
}

fn take_in(
    medium: &Medium,
    state: &mut State,
    at: TierSegment,
    entry: &Entry,
    last_missing: BatchSeq,
) {
    let start = u64::from(at.segment.0) * medium.tiers[at.tier.index()].segment_size;
    let location = Location::device(at.tier, start + u64::from(entry.offset));
    state.buffers.find(entry.buffer, location);
    // A value in one buffer: the whole of it is here.
    let is_value = !entry.table && !entry.key.is_empty() && entry.value_offset == 0;
    if !is_value || entry.encoding != ENCODING_RAW || entry.raw_len != entry.stored_len {
        return;
    }
    let (id, version) = (entry.buffer, entry.version);
    let extent = Extent { value_offset: 0, len: entry.raw_len, buffer: id, buffer_offset: 0 };
    if state.buffers.define_unless_known(&definition(entry, location)) {
        state.add_scanned(entry.bucket, &entry.key, version, extent, last_missing);
    }
}

/// The definition of a buffer that no record has one of: the checksum of the whole must do.
fn definition(entry: &Entry, location: Location) -> BufferDef {
    BufferDef {
        id: entry.buffer,
        raw_len: entry.raw_len,
        stored_len: entry.stored_len,
        location,
        encoding: entry.encoding,
        logical_crc: entry.logical_crc,
        checks: Vec::new(),
    }
}
