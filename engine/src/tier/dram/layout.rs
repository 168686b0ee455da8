//! Where things are in the mapping.
//!
//! ```text
//! header | stripes: a line each | table: a head per entry | class per chunk | free list per chunk
//! | heat of heads: a byte per slot unit | slot metadata: room for the smallest slots in every chunk, touched as needed | chunks
//! ```
//! Metadata stands apart from data and never becomes data, so a reader with an outdated idea of
//! a chunk's class still finds a state word where it looks for one.

use super::class::{CHUNK, CHUNK_UNITS};
use super::mapping::HUGE_PAGE;
use crate::error::{Result, fail};

/// First word of the mapping: says what it is.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"isoDRAM1");
/// Bytes of a stripe's line: sequence, resident keys.
pub(super) const STRIPE_LINE: usize = 64;
/// Bytes of metadata of a slot: state, buffer, info.
pub(super) const META: usize = 24;
/// The last chunk number whose slots have numbers below the reserved ones.
const CHUNKS_MAX: usize = u32::MAX as usize / CHUNK_UNITS;
/// Bytes of arena per entry of the hash table: with smaller values chains grow to 2-3.
const BYTES_PER_ENTRY: usize = 512;

/// Byte offsets of the regions, and their counts.
pub(super) struct Layout {
    pub(super) chunks: usize,
    pub(super) stripes: usize,
    /// Bits of a hash that choose the stripe.
    pub(super) stripe_bits: u32,
    pub(super) stripes_at: usize,
    pub(super) table_at: usize,
    /// Table entries of a stripe, a power of two.
    pub(super) entries: usize,
    pub(super) classes_at: usize,
    pub(super) free_at: usize,
    pub(super) heats_at: usize,
    pub(super) metas_at: usize,
    pub(super) data_at: usize,
    pub(super) total: usize,
}

impl Layout {
    pub(super) fn new(capacity: u64, stripes: usize) -> Result<Layout> {
        let chunks = usize::try_from(capacity / CHUNK as u64).unwrap_or(usize::MAX);
        if chunks == 0 || chunks > CHUNKS_MAX {
            fail!(InvalidArgument, "DRAM capacity {capacity} is not 1 MiB..{CHUNKS_MAX} MiB");
        }
        if !stripes.is_power_of_two() || stripes > 1024 {
            fail!(InvalidArgument, "{stripes} stripes is not a power of two up to 1024");
        }
        let entries = (chunks * CHUNK / BYTES_PER_ENTRY / stripes).next_power_of_two().max(16);
        let stripes_at = 4096;
        let table_at = stripes_at + stripes * STRIPE_LINE;
        let classes_at = (table_at + stripes * entries * 4).next_multiple_of(4096);
        let free_at = (classes_at + chunks * 4).next_multiple_of(4096);
        let heats_at = (free_at + chunks * 8).next_multiple_of(4096);
        let metas_at = (heats_at + chunks * CHUNK_UNITS).next_multiple_of(4096);
        let data_at = (metas_at + chunks * CHUNK_UNITS * META).next_multiple_of(HUGE_PAGE);
        let total = data_at + chunks * CHUNK;
        Ok(Layout {
            chunks,
            stripes,
            stripe_bits: stripes.trailing_zeros(),
            stripes_at,
            table_at,
            entries,
            classes_at,
            free_at,
            heats_at,
            metas_at,
            data_at,
            total,
        })
    }
}
