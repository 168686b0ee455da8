//! Empties one segment: reads its live buffers, verifies them, and hands them to the mover.

use std::ops::Range;
use std::sync::atomic::Ordering;

use crate::core::Core;
use crate::error::Result;
use crate::index::state::{Buffer, Checks};
use crate::index::table::to_record;
use crate::io::exec::Exec;
use crate::limits::{BLOCK, BUFFER_SIZE_MAX};
use crate::organizer::census::{self, Census, corrupt};
use crate::organizer::device::read;
use crate::organizer::mover::{Mover, Tally, Temperature};
use crate::organizer::occupants::Occupant;
use crate::placement::policy::{BufferFacts, PlacementPolicy};
use crate::types::{Place, TierId, TierSegment, Uuid};

/// Most bytes of one read.
const SPAN_MAX: u64 = BUFFER_SIZE_MAX as u64;
/// Dead bytes worth reading rather than starting another read.
const GAP_MAX: u64 = 64 << 10;

/// What to empty, and what is known beforehand.
pub struct Job {
    /// The segment.
    pub victim: TierSegment,
    /// The identity of its device.
    pub device: Uuid,
    /// Where cold buffers go.
    pub slower: Option<TierId>,
    /// Where hot ones go.
    pub faster: Option<TierId>,
    /// The mean heat of a sample.
    pub mean_score: f32,
    /// Hot ones go down too.
    pub demote_all: bool,
    /// Ask the index, not the segment, who lives there.
    pub thorough: bool,
}

/// What came of it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Outcome {
    /// What came of the copies.
    pub tally: Tally,
    /// Buffers that could not be read or did not match.
    pub unreadable: u64,
    /// There is more to do in the segment.
    pub truncated: bool,
}

/// Empties a segment as far as it goes. Buffers that cannot be verified stay where they are.
pub async fn relocate(
    core: &Core,
    exec: &dyn Exec,
    mover: &mut Mover,
    policy: &dyn PlacementPolicy,
    job: &Job,
) -> Result<Outcome> {
    let census = census::take(core, exec, job.device, job.victim, job.thorough).await;
    let Census { live, pin, truncated } = census;
    let mut outcome = Outcome { truncated, ..Outcome::default() };
    let mut rest = live.into_iter();
    let mut result = Ok(true);
    while matches!(result, Ok(true)) && !core.organizer.is_stopping() {
        let span = next_span(rest.as_slice());
        if span.count == 0 {
            break;
        }
        let occupants: Vec<Occupant> = rest.by_ref().take(span.count).collect();
        let verified = read_span(core, exec, job.victim.tier, &span.bytes, occupants).await;
        outcome.unreadable += (span.count - verified.len()) as u64;
        result = hand_over(mover, policy, job, verified).await;
    }
    let stopped = rest.len() > 0;
    outcome.tally = mover.finish().await?;
    outcome.truncated |= stopped;
    drop(pin);
    result.map(|_| outcome)
}

async fn hand_over(
    mover: &mut Mover,
    policy: &dyn PlacementPolicy,
    job: &Job,
    verified: Vec<(Occupant, Vec<u8>)>,
) -> Result<bool> {
    for (occupant, bytes) in verified {
        let facts = BufferFacts {
            tier: job.victim.tier,
            slower: job.slower,
            faster: job.faster,
            score: occupant.score,
            mean_score: job.mean_score,
            demote_all: job.demote_all,
            stored_len: occupant.buffer.stored_len,
        };
        let to = policy.decide(&facts);
        let temperature = if facts.is_hot() { Temperature::Hot } else { Temperature::Cold };
        if !mover.add(to, temperature, occupant, &bytes).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Occupants that one read covers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Span {
    count: usize,
    /// Whole blocks of the device.
    bytes: Range<u64>,
}

/// The whole blocks that a buffer lies in.
fn blocks_of(buffer: &Buffer) -> Range<u64> {
    let Place::Device { offset, .. } = buffer.location.place() else { return 0..0 };
    let block = BLOCK as u64;
    offset / block * block..(offset + u64::from(buffer.stored_len)).next_multiple_of(block)
}

/// The first few of these, which are sorted by place.
fn next_span(occupants: &[Occupant]) -> Span {
    let mut span = Span::default();
    for occupant in occupants {
        let blocks = blocks_of(&occupant.buffer);
        if span.count == 0 {
            span = Span { count: 1, bytes: blocks };
            continue;
        }
        let far = blocks.start > span.bytes.end + GAP_MAX;
        if far || blocks.end - span.bytes.start > SPAN_MAX {
            break;
        }
        span.count += 1;
        span.bytes.end = span.bytes.end.max(blocks.end);
    }
    span
}

/// Reads the occupants of a span; those that match their checksums, with their bytes.
async fn read_span(
    core: &Core,
    exec: &dyn Exec,
    tier: TierId,
    bytes: &Range<u64>,
    occupants: Vec<Occupant>,
) -> Vec<(Occupant, Vec<u8>)> {
    let whole = read_bytes(core, exec, tier, bytes).await;
    let mut verified = Vec::with_capacity(occupants.len());
    let alone = whole.is_err() && occupants.len() > 1;
    for occupant in occupants {
        let own = blocks_of(&occupant.buffer);
        // One bad block must not keep its neighbours from being saved.
        let single = if alone { Some(read_bytes(core, exec, tier, &own).await) } else { None };
        let (start, source) = match &single {
            Some(single) => (own.start, single),
            None => (bytes.start, &whole),
        };
        let stored = match source {
            Ok(memory) => stored_bytes(&occupant.buffer, start, memory),
            Err(error) => {
                core.counters.note(error.to_string());
                continue;
            }
        };
        if verify(&occupant.buffer, stored) {
            let stored = stored.to_vec();
            verified.push((occupant, stored));
        } else if core.organizer.note_damage(occupant.buffer.location) {
            core.counters.corruptions.fetch_add(1, Ordering::Relaxed);
            core.counters.note(corrupt(&occupant).to_string());
        }
    }
    verified
}

/// Reads and verifies one buffer.
pub async fn read_span_of(
    core: &Core,
    exec: &dyn Exec,
    tier: TierId,
    occupant: Occupant,
) -> Option<(Occupant, Vec<u8>)> {
    let blocks = blocks_of(&occupant.buffer);
    read_span(core, exec, tier, &blocks, vec![occupant]).await.pop()
}

async fn read_bytes(
    core: &Core,
    exec: &dyn Exec,
    tier: TierId,
    bytes: &Range<u64>,
) -> Result<crate::io::buffer::AlignedBuf> {
    let len = (bytes.end - bytes.start) as usize;
    read(core, exec, tier, bytes.start, len).await
}

/// A buffer's stored bytes in memory that was read from `start` on.
fn stored_bytes<'a>(
    buffer: &Buffer,
    start: u64,
    memory: &'a crate::io::buffer::AlignedBuf,
) -> &'a [u8] {
    let Place::Device { offset, .. } = buffer.location.place() else { return &[] };
    let at = (offset - start) as usize;
    &memory.as_slice()[at..at + buffer.stored_len as usize]
}

/// Whether these are all of a buffer's stored bytes: by its checksums, or by that of the whole
/// where the others stand in a page.
pub fn verify(buffer: &Buffer, stored: &[u8]) -> bool {
    buffer.checks != Checks::Unwritten && to_record(buffer).matches(stored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::state::checksums;
    use crate::organizer::occupants::testing::occupant;
    use crate::types::Location;

    fn at(offset: u64, len: u32) -> Occupant {
        let mut occupant = occupant(offset, len);
        occupant.buffer.location = Location::device(TierId(0), offset);
        occupant
    }

    #[test]
    fn neighbours_are_read_together_and_large_gaps_are_skipped() {
        let occupants = [at(4096, 100), at(4200, 100), at(16384, 8192), at(900_000, 10)];
        assert_eq!(next_span(&occupants), Span { count: 3, bytes: 4096..24576 });
        assert_eq!(next_span(&occupants[3..]), Span { count: 1, bytes: 897_024..901_120 });
        assert_eq!(next_span(&[]).count, 0);
    }

    #[test]
    fn a_span_is_at_most_a_mebibyte() {
        let occupants: Vec<Occupant> = (1..200).map(|n| at(n * 16384, 16384)).collect();
        assert_eq!(next_span(&occupants).count, 64);
        assert_eq!(next_span(&[at(4096, 1 << 20), at(4096 + (1 << 20), 10)]).count, 1);
    }

    #[test]
    fn bytes_are_moved_only_if_every_check_block_matches() {
        let mut bytes: Vec<u8> = (0..50_000u32).map(|n| n as u8).collect();
        let (checks, logical_crc) = checksums(&bytes);
        let whole = Buffer { logical_crc, ..at(4096, 50_000).buffer };
        let buffer = Buffer { checks: Checks::from_slice(&checks), ..whole.clone() };
        let in_page = Buffer { checks: Checks::InPages, ..whole.clone() };
        assert!(verify(&buffer, &bytes) && verify(&in_page, &bytes));
        bytes[40_000] ^= 1;
        assert!(!verify(&buffer, &bytes) && !verify(&in_page, &bytes));
        assert!(!verify(&buffer, &bytes[..16384]), "too short");
        assert!(!verify(&Buffer { checks: Checks::Unwritten, ..whole }, &bytes));
    }
}
