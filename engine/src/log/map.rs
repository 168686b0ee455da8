//! Extents and buffer definitions: what a value is made of. Records and checkpoint entries share
//! these bytes and their rules.

use std::ops::Range;

use super::codec::{Decoder, Encoder, check_location, pad8};
use crate::error::{ErrorKind, Result};
use crate::limits::{
    BUCKET_NAME_LEN_MAX, BUFFER_SIZE_MAX, CHECK_BLOCK, KEY_LEN_MAX, VALUE_LEN_MAX,
};
use crate::types::{BufferId, Location};

/// Bytes of an extent.
pub const EXTENT_LEN: usize = 24;
/// Bytes of a buffer definition before its check vector.
pub const BUFFER_DEF_LEN: usize = 32;
/// Bytes of a page reference.
pub const PAGE_REF_LEN: usize = 24;
/// The stored bytes are the raw bytes.
pub const ENCODING_RAW: u8 = 0;

/// Flag of a definition: its checks stand in the extent pages that name the buffer.
const CHECKS_IN_PAGES: u16 = 1;

/// Base-2 logarithm of the check block, written with each definition so that another size is
/// refused, not misread.
const CHECK_BLOCK_LOG2: u8 = CHECK_BLOCK.trailing_zeros() as u8;
const _: () = assert!(CHECK_BLOCK.is_power_of_two());
const _: () = assert!(EXTENT_LEN.is_multiple_of(8) && BUFFER_DEF_LEN.is_multiple_of(8));
const _: () = assert!(PAGE_REF_LEN.is_multiple_of(8));

/// More extents than a page of the largest buffer has.
const PAGE_EXTENTS_END: usize = BUFFER_SIZE_MAX / EXTENT_LEN;

/// What is wrong, in words. Decoders report it as damage, encoders as a defect of the engine.
pub(super) type Fault = String;

/// A range of a value that is a slice of a buffer. Ranges without extent are holes: zeros.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// First byte of the range in the value.
    pub value_offset: u64,
    /// Length of the range, at least 1.
    pub len: u32,
    /// The buffer.
    pub buffer: BufferId,
    /// First byte of the slice in the buffer's raw bytes.
    pub buffer_offset: u32,
}

/// A part of a large map: the value from `start` to the start of the next reference is what the
/// extents of the page say, as far as they lie there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageRef {
    /// First byte of the part in the value.
    pub start: u64,
    /// The page, a buffer of the buffer table; `None`: the part is a hole.
    pub page: Option<BufferId>,
    /// How many extents the page has, for questions that are not worth reading it.
    pub extents: u32,
}

/// All that a reader needs to fetch, verify and decode a buffer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BufferDef {
    /// The buffer.
    pub id: BufferId,
    /// Length before encoding, 1..=[`BUFFER_SIZE_MAX`].
    pub raw_len: u32,
    /// Length on the device.
    pub stored_len: u32,
    /// Where the stored bytes begin: a byte of a device.
    pub location: Location,
    /// How raw became stored: [`ENCODING_RAW`].
    pub encoding: u8,
    /// CRC-32 of all raw bytes.
    pub logical_crc: u32,
    /// CRC-32 of each check block (16 KiB, the last one shorter) of the stored bytes. None: they
    /// stand in the extent pages that name the buffer.
    pub checks: Vec<u32>,
}

impl PageRef {
    pub(super) fn encode(&self, out: &mut Encoder<'_>) {
        out.u64(self.start);
        out.u64(self.page.map_or(0, |page| page.0));
        out.u32(self.extents);
        out.u32(0);
    }

    pub(super) fn decode(input: &mut Decoder<'_>) -> Result<PageRef> {
        let start = input.u64("page.start")?;
        let page = input.u64("page.buffer")?;
        let extents = input.u32("page.extents")?;
        input.zeros(4, "page.reserved")?;
        Ok(PageRef { start, page: (page != 0).then_some(BufferId(page)), extents })
    }
}

impl Extent {
    pub(super) fn encode(&self, out: &mut Encoder<'_>) {
        out.u64(self.value_offset);
        out.u64(self.buffer.0);
        out.u32(self.len);
        out.u32(self.buffer_offset);
    }

    pub(super) fn decode(input: &mut Decoder<'_>) -> Result<Extent> {
        Ok(Extent {
            value_offset: input.u64("extent.value_offset")?,
            buffer: BufferId(input.u64("extent.buffer")?),
            len: input.u32("extent.len")?,
            buffer_offset: input.u32("extent.buffer_offset")?,
        })
    }
}

impl BufferDef {
    /// How many checks a buffer of this stored length has.
    pub const fn check_count(stored_len: u32) -> usize {
        (stored_len as usize).div_ceil(CHECK_BLOCK)
    }

    /// The checks of these stored bytes.
    pub fn checks_of(stored: &[u8]) -> Vec<u32> {
        stored.chunks(CHECK_BLOCK).map(crc32fast::hash).collect()
    }

    /// Whether these are the stored bytes, as far as this definition can tell: by its checks, or
    /// by the checksum of the whole where they stand elsewhere.
    pub fn matches(&self, stored: &[u8]) -> bool {
        stored.len() == self.stored_len as usize
            && match self.checks.is_empty() {
                true => crc32fast::hash(stored) == self.logical_crc,
                false => {
                    stored.chunks(CHECK_BLOCK).map(crc32fast::hash).eq(self.checks.iter().copied())
                }
            }
    }

    /// Bytes of this definition when encoded.
    pub fn encoded_len(&self) -> usize {
        BUFFER_DEF_LEN + pad8(4 * self.checks.len())
    }

    pub(super) fn encode(&self, out: &mut Encoder<'_>) {
        out.u64(self.id.0);
        out.location(self.location);
        out.u32(self.raw_len);
        out.u32(self.stored_len);
        out.u32(self.logical_crc);
        out.u8(self.encoding);
        out.u8(CHECK_BLOCK_LOG2);
        out.u16(if self.checks.is_empty() { CHECKS_IN_PAGES } else { 0 });
        self.checks.iter().for_each(|&check| out.u32(check));
        out.pad_to_8();
    }

    pub(super) fn decode(input: &mut Decoder<'_>) -> Result<BufferDef> {
        let id = BufferId(input.u64("buffer.id")?);
        let location = input.location("buffer.location")?;
        let raw_len = input.u32("buffer.raw_len")?;
        let stored_len = input.u32("buffer.stored_len")?;
        let logical_crc = input.u32("buffer.logical_crc")?;
        let encoding = input.u8("buffer.encoding")?;
        let check_block_log2 = input.u8("buffer.check_block_log2")?;
        let flags = input.u16("buffer.flags")?;
        if flags & !CHECKS_IN_PAGES != 0 {
            let message = format!("buffer.flags {flags:#x} are not known to this version");
            return Err(input.error(ErrorKind::Format, message));
        }
        if encoding != ENCODING_RAW {
            let message = format!("buffer.encoding {encoding} is not known to this version");
            return Err(input.error(ErrorKind::Format, message));
        }
        if check_block_log2 != CHECK_BLOCK_LOG2 {
            let message = format!("check blocks of 2^{check_block_log2} bytes are not known");
            return Err(input.error(ErrorKind::Format, message));
        }
        // Taking the bytes first keeps a hostile stored_len from allocating.
        let count = if flags == CHECKS_IN_PAGES { 0 } else { Self::check_count(stored_len) };
        let bytes = input.bytes(4 * count, "buffer.checks")?;
        let checks = bytes
            .chunks_exact(4)
            .map(|check| u32::from_le_bytes([check[0], check[1], check[2], check[3]]))
            .collect();
        input.pad_to_8()?;
        let def = BufferDef { id, raw_len, stored_len, location, encoding, logical_crc, checks };
        def.validate().map_err(|fault| input.corrupt(fault))?;
        Ok(def)
    }

    /// What is wrong with this definition, if anything.
    pub(super) fn validate(&self) -> std::result::Result<(), Fault> {
        let id = self.id.0;
        for (name, len) in [("raw_len", self.raw_len), ("stored_len", self.stored_len)] {
            if len == 0 || len as usize > BUFFER_SIZE_MAX {
                return Err(format!("buffer {id}: {name} is {len}, not 1..={BUFFER_SIZE_MAX}"));
            }
        }
        if self.encoding == ENCODING_RAW && self.raw_len != self.stored_len {
            let (raw, stored) = (self.raw_len, self.stored_len);
            return Err(format!("buffer {id}: raw, yet {raw} bytes are stored as {stored}"));
        }
        let (have, need) = (self.checks.len(), Self::check_count(self.stored_len));
        if have != 0 && have != need {
            return Err(format!("buffer {id}: {have} checks for {need} check blocks"));
        }
        check_location(self.location, u64::from(self.stored_len))
            .map_err(|fault| format!("buffer {id}: {fault}"))
    }
}

/// Bytes of extents and definitions when encoded.
pub(super) fn map_len(extents: &[Extent], buffers: &[BufferDef]) -> usize {
    EXTENT_LEN * extents.len() + buffers.iter().map(BufferDef::encoded_len).sum::<usize>()
}

pub(super) fn encode_map(out: &mut Encoder<'_>, extents: &[Extent], buffers: &[BufferDef]) {
    extents.iter().for_each(|extent| extent.encode(out));
    buffers.iter().for_each(|buffer| buffer.encode(out));
}

/// The two counts of a map, as read from a fixed part. Together with the rest of the input they
/// bound what [`decode_map`] allocates.
pub(super) fn decode_counts(input: &mut Decoder<'_>) -> Result<(usize, usize)> {
    let extents = input.count(EXTENT_LEN, "extent_count")?;
    let buffers = input.count(BUFFER_DEF_LEN, "buffer_count")?;
    Ok((extents, buffers))
}

pub(super) fn decode_map(
    input: &mut Decoder<'_>,
    (extents, buffers): (usize, usize),
) -> Result<(Vec<Extent>, Vec<BufferDef>)> {
    let extents = (0..extents).map(|_| Extent::decode(input)).collect::<Result<_>>()?;
    let buffers = (0..buffers).map(|_| BufferDef::decode(input)).collect::<Result<_>>()?;
    Ok((extents, buffers))
}

/// What is wrong with a map, if anything: extents ascending, apart, inside `within` and below
/// `len`; definitions valid and ascending by id; slices inside the buffers defined here.
pub(super) fn check_map(
    len: u64,
    within: Range<u64>,
    extents: &[Extent],
    buffers: &[BufferDef],
) -> std::result::Result<(), Fault> {
    if len > VALUE_LEN_MAX || within.end > VALUE_LEN_MAX || within.start > within.end {
        return Err(format!("length {len}, range {within:?}: beyond {VALUE_LEN_MAX} or reversed"));
    }
    check_buffers(buffers)?;
    if let Some(def) = buffers.iter().find(|def| def.checks.is_empty()) {
        return Err(format!("buffer {} has no checks, and no page has them", def.id.0));
    }
    check_extents(extents, within.start..len.min(within.end), buffers)
}

/// What is wrong with a list of definitions, if anything: each valid, ascending by id.
pub(super) fn check_buffers(buffers: &[BufferDef]) -> std::result::Result<(), Fault> {
    buffers.iter().try_for_each(BufferDef::validate)?;
    match buffers.windows(2).find(|pair| pair[0].id >= pair[1].id) {
        Some(pair) => Err(format!("buffer {} precedes buffer {}", pair[0].id.0, pair[1].id.0)),
        None => Ok(()),
    }
}

/// What is wrong with extents that are to lie in a range, if anything.
pub(super) fn check_extents(
    extents: &[Extent],
    within: Range<u64>,
    buffers: &[BufferDef],
) -> std::result::Result<(), Fault> {
    let mut free_from = within.start;
    for extent in extents {
        free_from = check_extent(extent, free_from, within.end, buffers)?;
    }
    Ok(())
}

/// What is wrong with references to pages that are to begin in a range, if anything.
pub(super) fn check_pages(
    len: u64,
    within: &Range<u64>,
    pages: &[PageRef],
) -> std::result::Result<(), Fault> {
    if len > VALUE_LEN_MAX || within.end > VALUE_LEN_MAX || within.start > within.end {
        return Err(format!("length {len}, range {within:?}: beyond {VALUE_LEN_MAX} or reversed"));
    }
    if let Some(pair) = pages.windows(2).find(|pair| pair[0].start >= pair[1].start) {
        return Err(format!("the page at {} precedes that at {}", pair[0].start, pair[1].start));
    }
    for page in pages {
        if !within.contains(&page.start) {
            return Err(format!("the page at {} begins outside {within:?}", page.start));
        }
        if page.page.is_some() != (page.extents > 0) || page.extents as usize > PAGE_EXTENTS_END {
            return Err(format!("the page at {} with {} extents", page.start, page.extents));
        }
    }
    Ok(())
}

/// What is wrong with a list of buffers' ids, if anything: ascending, none twice.
pub(super) fn check_names(names: &[BufferId]) -> std::result::Result<(), Fault> {
    match names.windows(2).find(|pair| pair[0] >= pair[1]) {
        Some(pair) => Err(format!("buffer {} is named before {}", pair[0].0, pair[1].0)),
        None => Ok(()),
    }
}

/// Checks one extent between `free_from` and `end`; returns the byte after it.
fn check_extent(
    extent: &Extent,
    free_from: u64,
    end: u64,
    buffers: &[BufferDef],
) -> std::result::Result<u64, Fault> {
    let Extent { value_offset, len, buffer, buffer_offset } = *extent;
    if len == 0 {
        return Err(format!("the extent at {value_offset} is empty"));
    }
    if value_offset < free_from {
        return Err(format!("the extent at {value_offset} begins before {free_from}"));
    }
    let extent_end = value_offset.saturating_add(u64::from(len));
    if extent_end > end {
        return Err(format!("the extent at {value_offset} ends at {extent_end}, beyond {end}"));
    }
    let raw_len = match buffers.binary_search_by_key(&buffer, |def| def.id) {
        Ok(index) => u64::from(buffers[index].raw_len),
        Err(_) => BUFFER_SIZE_MAX as u64,
    };
    let slice_end = u64::from(buffer_offset) + u64::from(len);
    if slice_end > raw_len {
        let id = buffer.0;
        return Err(format!(
            "a slice ends at byte {slice_end} of buffer {id}, which has {raw_len}"
        ));
    }
    Ok(extent_end)
}

/// What is wrong with a key, if anything.
pub(super) fn check_key(key: &[u8]) -> std::result::Result<(), Fault> {
    match key.len() {
        1..=KEY_LEN_MAX => Ok(()),
        len => Err(format!("a key of {len} bytes, not 1..={KEY_LEN_MAX}")),
    }
}

/// What is wrong with a bucket's name, if anything.
pub(super) fn check_name(name: &[u8]) -> std::result::Result<(), Fault> {
    match name.len() {
        1..=BUCKET_NAME_LEN_MAX => Ok(()),
        len => Err(format!("a bucket name of {len} bytes, not 1..={BUCKET_NAME_LEN_MAX}")),
    }
}
