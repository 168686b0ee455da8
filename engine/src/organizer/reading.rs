//! Reads occupants of a device as many at a time as lie together, and verifies each.

use std::ops::Range;
use std::sync::atomic::Ordering;

use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::index::state::{Buffer, Checks};
use crate::index::table::to_record;
use crate::io::buffer::AlignedBuf;
use crate::io::exec::Exec;
use crate::limits::{BLOCK, BUFFER_SIZE_MAX};
use crate::organizer::device::read;
use crate::organizer::occupants::Occupant;
use crate::types::{Place, TierId};

/// Most bytes of one read.
const SPAN_MAX: u64 = BUFFER_SIZE_MAX as u64;
/// Dead bytes worth reading rather than starting another read.
const GAP_MAX: u64 = 64 << 10;
/// How often bytes are read again before they are called corrupt.
const READ_RETRIES: usize = 2;

/// Occupants that one read covers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// How many.
    pub count: usize,
    /// Whole blocks of the device.
    pub bytes: Range<u64>,
}

impl Span {
    /// Takes the next buffer by place in, unless it lies too far away.
    pub fn take(&mut self, buffer: &Buffer) -> bool {
        let blocks = blocks_of(buffer);
        if self.count == 0 {
            *self = Span { count: 1, bytes: blocks };
            return true;
        }
        let far = blocks.start > self.bytes.end + GAP_MAX;
        if far || blocks.end - self.bytes.start > SPAN_MAX {
            return false;
        }
        self.count += 1;
        self.bytes.end = self.bytes.end.max(blocks.end);
        true
    }
}

/// The whole blocks that a buffer lies in.
fn blocks_of(buffer: &Buffer) -> Range<u64> {
    let Place::Device { offset, .. } = buffer.location.place() else { return 0..0 };
    let block = BLOCK as u64;
    offset / block * block..(offset + u64::from(buffer.stored_len)).next_multiple_of(block)
}

/// The first few of these, which are sorted by place.
pub fn next_span(occupants: &[Occupant]) -> Span {
    let mut span = Span::default();
    for occupant in occupants {
        if !span.take(&occupant.buffer) {
            break;
        }
    }
    span
}

/// What a read has come to.
#[derive(Default)]
pub struct Reading {
    /// Those that match their checksums, with their bytes.
    pub verified: Vec<(Occupant, Vec<u8>)>,
    /// Those that do not, however often they are read, or that cannot be read.
    pub damaged: Vec<(Occupant, Error)>,
    /// Bytes read from the device.
    pub read_bytes: u64,
}

/// Reads and verifies the occupants of a span. Somebody keeps them where they are.
pub async fn read_span(
    core: &Core,
    exec: &dyn Exec,
    tier: TierId,
    bytes: &Range<u64>,
    occupants: Vec<Occupant>,
) -> Reading {
    let mut reading = Reading { read_bytes: bytes.end - bytes.start, ..Reading::default() };
    let whole = read_bytes(core, exec, tier, bytes).await;
    for occupant in occupants {
        let stored = whole.as_ref().map(|memory| stored_bytes(&occupant.buffer, bytes, memory));
        if let Ok(stored) = stored
            && verify(&occupant.buffer, stored)
        {
            let stored = stored.to_vec();
            reading.verified.push((occupant, stored));
            continue;
        }
        // One bad block must not keep its neighbours from being saved.
        let own = blocks_of(&occupant.buffer);
        match read_again(core, exec, tier, &own, &occupant.buffer, &mut reading.read_bytes).await {
            Ok(stored) => reading.verified.push((occupant, stored)),
            Err(error) => {
                let is_corrupt = error.kind() == ErrorKind::Corrupt;
                core.counters.corruptions.fetch_add(u64::from(is_corrupt), Ordering::Relaxed);
                reading.damaged.push((occupant, error));
            }
        }
    }
    reading
}

/// Reads and verifies one buffer.
pub async fn read_one(core: &Core, exec: &dyn Exec, tier: TierId, occupant: Occupant) -> Reading {
    let blocks = blocks_of(&occupant.buffer);
    read_span(core, exec, tier, &blocks, vec![occupant]).await
}

async fn read_again(
    core: &Core,
    exec: &dyn Exec,
    tier: TierId,
    own: &Range<u64>,
    buffer: &Buffer,
    read_bytes_so_far: &mut u64,
) -> Result<Vec<u8>> {
    let mut last = corrupt(buffer);
    for _ in 0..READ_RETRIES {
        *read_bytes_so_far += own.end - own.start;
        last = match read_bytes(core, exec, tier, own).await {
            Ok(memory) => {
                let stored = stored_bytes(buffer, own, &memory);
                if verify(buffer, stored) {
                    return Ok(stored.to_vec());
                }
                corrupt(buffer)
            }
            Err(error) => error,
        };
    }
    Err(last)
}

async fn read_bytes(
    core: &Core,
    exec: &dyn Exec,
    tier: TierId,
    bytes: &Range<u64>,
) -> Result<AlignedBuf> {
    let len = (bytes.end - bytes.start) as usize;
    read(core, exec, tier, bytes.start, len).await
}

/// A buffer's stored bytes in memory that holds these bytes of the device.
fn stored_bytes<'a>(buffer: &Buffer, bytes: &Range<u64>, memory: &'a AlignedBuf) -> &'a [u8] {
    let Place::Device { offset, .. } = buffer.location.place() else { return &[] };
    let at = (offset - bytes.start) as usize;
    &memory.as_slice()[at..at + buffer.stored_len as usize]
}

/// Whether these are all of a buffer's stored bytes: by its checksums, or by that of the whole
/// where the others stand in a page.
pub fn verify(buffer: &Buffer, stored: &[u8]) -> bool {
    buffer.checks != Checks::Unwritten && to_record(buffer).matches(stored)
}

fn corrupt(buffer: &Buffer) -> Error {
    let message =
        format!("buffer {} at {:?} does not match its checksums", buffer.id.0, buffer.location);
    Error::new(ErrorKind::Corrupt, message)
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
