//! A superblock, or the two slots of a tier.

use isotherm::log::codec::seal;
use isotherm::log::superblock::{COMPAT_SUPPLEMENT, SUPERBLOCK_LEN, Superblock};

use super::require_same;

pub(super) const CHECKSUM_AT: usize = SUPERBLOCK_LEN - 4;
/// What version 1.1 has added begins here, if the block announces it.
const SUPPLEMENT_AT: usize = 2560;
/// From here on a version to come may say more, and this one reads nothing.
const KNOWN_END: usize = SUPPLEMENT_AT + 64 + 16 * 64;

/// A superblock that decodes is written again as it was, as far as this version reads it. Of two
/// slots the newer one counts.
pub fn superblock(bytes: &[u8]) {
    let mut slots = [Vec::new(), Vec::new()];
    for (slot, part) in slots.iter_mut().zip(bytes.chunks(SUPERBLOCK_LEN)) {
        *slot = one_slot(part);
    }
    let found = slots.each_ref().map(|slot| Superblock::decode(slot).ok());
    if let Ok(newest) = Superblock::newest(slots.each_ref().map(Vec::as_slice)) {
        let is_newest = |other: &Superblock| other.generation <= newest.generation;
        assert!(found.iter().flatten().all(is_newest));
        assert!(found.contains(&Some(newest)));
    }
}

/// The slot with the checksum that its bytes give.
fn one_slot(bytes: &[u8]) -> Vec<u8> {
    let as_it_is = Superblock::decode(bytes);
    let mut block = bytes.to_vec();
    if block.len() == SUPERBLOCK_LEN {
        seal(&mut block, CHECKSUM_AT);
    }
    let Ok(superblock) = Superblock::decode(&block) else {
        assert!(as_it_is.is_err());
        return block;
    };
    let written = match superblock.encode() {
        Ok(written) => written,
        Err(error) => panic!("a superblock that was read cannot be written: {error}"),
    };
    let is_announced = superblock.features.compat & COMPAT_SUPPLEMENT != 0;
    let end = if is_announced { KNOWN_END } else { SUPPLEMENT_AT };
    require_same("superblock", &written[..end], &block[..end]);
    match Superblock::decode(&written) {
        Ok(again) => assert_eq!(again, superblock),
        Err(error) => panic!("a superblock that was written cannot be read: {error}"),
    }
    block
}
