//! The second copy of a buffer whose bytes on a device are rotten: the DRAM tier has some of what the
//! devices have.

use crate::core::Core;
use crate::organizer::occupants::Occupant;
use crate::organizer::reading::verify;

/// The buffer's bytes in DRAM, if it has them and they match the checksums. Looked for under the blob
/// that the occupant is named by: other blobs that share the buffer are not asked.
pub fn copy_in_dram(core: &Core, occupant: &Occupant) -> Option<Vec<u8>> {
    let Occupant { name, buffer, .. } = occupant;
    let hash = core.index.hash(name.bucket, &name.key);
    let pin = {
        let stripe = core.index.lock(hash);
        let head = core.dram.lookup(&stripe.dir, hash, name.bucket, &name.key)?;
        let mut pins = head.ranges().filter_map(|range| core.dram.pin_owned(range.slot));
        pins.find(|pin| pin.buffer() == buffer.id)?
    };
    // DRAM has raw bytes; these are the stored ones only while nothing encodes any.
    verify(buffer, &pin).then(|| pin.to_vec())
}
