//! How much of a tier data may never use: what the log's tail, the checkpoints, cleaning and
//! deletes need to go on when the tier is full.

use crate::tier::space::Tier;

/// Segments that cleaning, demotion and promotion copy into: hot, cold, promoted.
const CLEANING_SEGMENTS: u32 = 3;
/// Most bytes of log between two rotations of the checkpoint.
const LOG_BYTES_MAX: u64 = 1 << 30;

/// Segments of log that may stand between checkpoints.
pub fn log_segments(capacity: u64, segment_size: u64) -> u64 {
    ((capacity / 16).min(LOG_BYTES_MAX) / segment_size).max(2)
}

/// Sets the reserve of the log's tier, given how many bytes one checkpoint takes. Beside the newest
/// images stand those that the last step has replaced, and those that the next one writes, half as
/// many together; and all of them may begin and end within a segment.
pub fn apply(tier: &Tier, checkpoint_bytes: u64) {
    let log = log_segments(tier.capacity, tier.segment_size) + 1;
    let meta = (checkpoint_bytes / 2 * 3).div_ceil(tier.segment_size).max(1) + 1;
    tier.set_reserve(CLEANING_SEGMENTS, log as u32, meta as u32);
}

/// Copies of checkpoints take at most this part of a tier.
const COPIES_PART: u64 = 8;
/// Two copies are kept while the next is made.
const COPIES: u64 = 3;

/// Whether a tier beside the log's has room for copies of checkpoints.
pub fn has_room_for_copies(tier: &Tier) -> bool {
    tier.segments().len() as u64 >= 2 * COPIES * COPIES_PART
}

/// Sets the reserve of the tier that takes them, given how many segments one takes. False if
/// that is too much for it.
pub fn apply_to_copy_tier(tier: &Tier, copy_segments: u64) -> bool {
    // A copy may end in a segment more than the last one did.
    let segments = COPIES * (copy_segments + 1);
    // What data has filled already cannot be set aside: cleaning would find no segment either.
    let room = tier.free_segments() as u64 + u64::from(tier.meta_segments());
    let fits = segments * COPIES_PART <= tier.segments().len() as u64
        && u64::from(CLEANING_SEGMENTS) + segments < room;
    tier.set_reserve(CLEANING_SEGMENTS, 0, if fits { segments as u32 } else { 0 });
    fits
}

/// Sets the reserve of a tier that holds data alone.
pub fn apply_to_data_tier(tier: &Tier) {
    tier.set_reserve(CLEANING_SEGMENTS, 0, 0);
}
