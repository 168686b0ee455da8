//! The log of a damaged store: which batches are of it, what they say, and whether more may have followed.

use crate::log::record::{MoveSubject, Record, SegmentKind};
use crate::log::root::Root;
use crate::log::superblock::{LogStart, Superblock};
use crate::recover::History;
use crate::salvage::LOG_TIER;
use crate::salvage::batches::{Batches, Search};
use crate::salvage::buffers::has_landed;
use crate::salvage::chain::{self, Chosen, Link};
use crate::salvage::medium::Medium;
use crate::salvage::report::LogFound;
use crate::salvage::state::State;
use crate::types::{BatchSeq, Epoch, TierSegment};

/// Reads the log and applies it: first what was flushed, then what came to its place beyond that.
pub(super) fn read(
    medium: &Medium,
    superblocks: &[Vec<Superblock>],
    history: &History,
    roots: &[Root],
    state: &mut State,
) -> LogFound {
    let oldest = state.cuts.iter().copied().min().unwrap_or_default();
    let from = roots.first().map_or(oldest, |root| root.seq.min(oldest)).next();
    let starts = starts_of(superblocks, roots);
    let uses = uses_of(roots);
    let search =
        Search { medium, tier: LOG_TIER, starts: &starts, uses: &uses, cuts: &history.cuts, from };
    let found = search.run();
    let named = found.views.iter().map(|view| view.identity.watermark).max();
    let watermark = history.watermark.max(named.unwrap_or_default());
    let newest = found.views.iter().map(|view| view.identity.epoch).max().unwrap_or(Epoch(0));
    // Without any superblock the newest epoch is the newest one that has left a batch.
    let epoch = if history.epoch == Epoch(0) { newest } else { history.epoch };
    let links: Vec<Link> = found.views.iter().map(Link::of).collect();
    let known = chain::Known { starts: &starts, epoch, cuts: &history.cuts, from, watermark };
    let mut chosen = chain::choose(&links, &known);
    apply(medium, &found, &mut chosen, watermark, state);
    let end_unknown = why_end_is_unknown(medium, superblocks, history, &found, &chosen, &starts);
    LogFound {
        batches: chosen.batches.len() as u64,
        gaps: chosen.missing,
        last: chosen.last,
        end_unknown,
    }
}

/// Every place that is named as a beginning of the log.
fn starts_of(superblocks: &[Vec<Superblock>], roots: &[Root]) -> Vec<LogStart> {
    let blocks = superblocks.iter().flatten();
    let of_blocks = blocks.flat_map(|block| {
        let previous = block.previous.as_ref().map(|previous| previous.log_start);
        [Some(block.log_start), previous]
    });
    of_blocks.flatten().chain(roots.iter().map(|root| root.log_start)).collect()
}

/// Segments that roots know as the log's.
fn uses_of(roots: &[Root]) -> Vec<(TierSegment, u32)> {
    let entries = roots.iter().flat_map(|root| &root.segments);
    let log = entries.filter(|entry| entry.kind == SegmentKind::Log);
    log.map(|entry| (entry.segment, entry.generation)).collect()
}

/// Applies the batches that were chosen. Above the watermark the log ends at the first one whose data
/// did not land, as it does for recovery.
fn apply(
    medium: &Medium,
    found: &Batches,
    chosen: &mut Chosen,
    watermark: BatchSeq,
    state: &mut State,
) {
    for (at, number) in chosen.batches.iter().enumerate() {
        let view = &found.views[*number];
        let seq = view.identity.seq;
        let is_late = seq > watermark;
        if is_late && !view.records().all(|record| is_landed(medium, record, state)) {
            chosen.batches.truncate(at);
            chosen.last = BatchSeq(seq.0 - 1);
            return;
        }
        view.records().for_each(|record| state.apply(seq, record));
    }
}

/// Whether the data that a record names is there, as far as no earlier record has put it there.
fn is_landed(medium: &Medium, record: &Record, state: &State) -> bool {
    let buffers = &state.buffers;
    let mut defs = record.buffers().iter();
    let defs_landed =
        defs.all(|def| buffers.is_at(def.id, def.location) || has_landed(medium, def));
    let arrived = match record {
        Record::Move { subject, to, .. } => {
            let (MoveSubject::Lone { buffer, .. } | MoveSubject::Table { buffer }) = subject;
            buffers.has_arrived(medium, *buffer, *to)
        }
        _ => true,
    };
    defs_landed && arrived
}

/// Why the log may have gone on behind the last batch that is known, if it may: nothing but the log's
/// tier says how far it goes, so all of that which could say so must be there.
fn why_end_is_unknown(
    medium: &Medium,
    superblocks: &[Vec<Superblock>],
    history: &History,
    found: &Batches,
    chosen: &Chosen,
    starts: &[LogStart],
) -> Option<String> {
    let log = &superblocks[LOG_TIER.index()];
    if let Err(error) = medium.device(LOG_TIER) {
        return Some(error.message().to_owned());
    }
    if let Some(len) = medium.cut_to_bytes(LOG_TIER) {
        return Some(format!("the log's tier has been cut to {len} bytes"));
    }
    let [newest, _] = &log[..] else {
        return Some(format!("the log's tier has {} good superblocks of two", log.len()));
    };
    if let Some(block) = superblocks.iter().flatten().find(|block| block.begun > newest.epoch) {
        return Some(format!(
            "the log's tier is an old copy: open {} has begun, it knows open {}",
            block.begun.0, newest.epoch.0
        ));
    }
    if log[0].generation == log[1].generation && log[0] != log[1] {
        return Some("the superblocks of the log's tier differ".to_owned());
    }
    if let Some(segment) = found.unreadable.first() {
        return Some(format!("segment {} of the log cannot be read to its end", segment.0));
    }
    if chosen.missing.last().is_some_and(|gap| *gap.end() == chosen.last.0) {
        return Some(format!("batch {}, the last one known, is missing", chosen.last.0));
    }
    let last = chosen.batches.last().map(|at| &found.views[*at].identity);
    if last.is_some_and(|last| last.epoch > history.epoch) {
        return Some("the log is newer than all superblocks".to_owned());
    }
    let segment = match last {
        Some(last) => Some((last.segment.segment, last.generation)),
        None => starts.first().map(|start| (start.segment.segment, start.generation)),
    };
    match segment {
        Some(at) if found.headers.contains(&at) => None,
        _ => Some("the header of the segment where the log ends is damaged".to_owned()),
    }
}
