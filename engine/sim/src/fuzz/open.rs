//! The opening of a store, and of all it shows, where any structure of it has been patched.
//!
//! An input is a byte of flags and patches: the number of a structure (two bytes), the place in it
//! (two bytes), how many bytes follow, less one (one byte, of 32), the bytes.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use isotherm::Error;

use super::parts::{Image, Patch};
use crate::small::{Blob, Small, capacities, make, show};
use crate::verdict::{Verdict, judge};

/// Flag: the devices are those of a store that was closed, not of one that crashed.
pub(super) const CLOSED: u8 = 1;
/// Flag: checksums are repaired.
pub(super) const REPAIRED: u8 = 2;
/// Bytes of a patch before those that it writes.
const PATCH_HEADER_LEN: usize = 5;
const PATCH_LEN_MAX: usize = 32;
/// More patches are not looked at.
const PATCHES_MAX: usize = 16;

/// The store that is patched, made once a process.
pub(super) struct Bench {
    pub(super) crashed: Image,
    pub(super) closed: Image,
    blobs: BTreeSet<Blob>,
    lens: Vec<u64>,
}

pub(super) fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| match make_bench() {
        Ok(bench) => bench,
        Err(error) => panic!("the store that is to be patched: {error}"),
    })
}

fn make_bench() -> Result<Bench, Error> {
    let Small { crashed, closed, blobs, .. } = make()?;
    let (crashed, closed) = (Image::of(&crashed)?, Image::of(&closed)?);
    let blobs = blobs.into_iter().collect();
    Ok(Bench { crashed, closed, blobs, lens: capacities() })
}

/// A store with any patches opens and shows what it has, or says why not. If but one structure is
/// patched, and its checksum says so, then what is shown is right.
pub fn open(bytes: &[u8]) {
    let Some((flags, bytes)) = bytes.split_first() else { return };
    let bench = bench();
    let image = if flags & CLOSED != 0 { &bench.closed } else { &bench.crashed };
    let is_repaired = flags & REPAIRED != 0;
    let patches = patches_of(bytes, image);
    let shown = show(&image.patched(&patches, is_repaired), &bench.lens);
    let is_one = patches.windows(2).all(|pair| pair[0].part == pair[1].part);
    if is_one && (!is_repaired || patches.is_empty()) {
        let most = if patches.is_empty() { Verdict::Right } else { Verdict::StoreRefused };
        let judgement = judge(&bench.blobs, shown);
        assert!(judgement.verdict <= most, "{judgement:?}");
    }
}

fn patches_of<'a>(mut bytes: &'a [u8], image: &Image) -> Vec<Patch<'a>> {
    let mut patches = Vec::new();
    while patches.len() < PATCHES_MAX
        && let Some((header, rest)) = bytes.split_first_chunk::<PATCH_HEADER_LEN>()
    {
        let part = usize::from(u16::from_le_bytes([header[0], header[1]])) % image.len();
        let at = usize::from(u16::from_le_bytes([header[2], header[3]]));
        let len = rest.len().min(usize::from(header[4]) % PATCH_LEN_MAX + 1);
        let (written, rest) = rest.split_at(len);
        patches.push(Patch { part, at, bytes: written });
        bytes = rest;
    }
    patches
}
