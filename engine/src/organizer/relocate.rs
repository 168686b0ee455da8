//! Empties one segment: reads its live buffers, verifies them, and hands them to the mover.

use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::io::exec::Exec;
use crate::organizer::census::{self, Census};
use crate::organizer::mover::{Mover, Tally, Temperature};
use crate::organizer::occupants::Occupant;
use crate::organizer::reading::{next_span, read_span};
use crate::organizer::rescue::copy_in_dram;
use crate::placement::policy::{BufferFacts, PlacementPolicy};
use crate::types::{TierId, TierSegment, Uuid};

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
    // What is known to be damaged would be read in vain, again and again.
    let is_sound = |who: &Occupant| !core.organizer.damage.has(who.buffer.id, who.buffer.location);
    let live: Vec<Occupant> = live.into_iter().filter(is_sound).collect();
    let mut rest = live.into_iter();
    let mut result = Ok(true);
    while matches!(result, Ok(true)) && !core.organizer.is_stopping() {
        let span = next_span(rest.as_slice());
        if span.count == 0 {
            break;
        }
        let occupants: Vec<Occupant> = rest.by_ref().take(span.count).collect();
        let reading = read_span(core, exec, job.victim.tier, &span.bytes, occupants).await;
        let mut verified = reading.verified;
        let damaged = reading.damaged.into_iter();
        verified.extend(damaged.filter_map(|(who, error)| rescue_or_note(core, who, &error)));
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

/// Tells of a buffer that could not be read as it should be, or brings its bytes from a second copy.
pub fn rescue_or_note(
    core: &Core,
    mut occupant: Occupant,
    error: &Error,
) -> Option<(Occupant, Vec<u8>)> {
    if error.kind() == ErrorKind::Corrupt {
        core.organizer.note_damage(core, &occupant.name, &occupant.buffer, error);
    } else {
        core.counters.note(error.to_string());
    }
    let bytes = copy_in_dram(core, &occupant)?;
    occupant.is_rescued = true;
    Some((occupant, bytes))
}
