//! The records of maps that stand in extent pages: a page written, a blob's new list of pages, a
//! page released.

use super::codec::{Decoder, Encoder, pad8};
use super::map::{
    BUFFER_DEF_LEN, Fault, PAGE_REF_LEN, check_buffers, check_key, check_names, check_pages,
};
use super::record::{
    BufferDef, PageRef, Record, check_follows, decode_blob_name, encode_blob_name,
};
use crate::error::Result;
use crate::limits::VALUE_LEN_MAX;
use crate::types::{BufferId, Version};

const PAGE_FIXED: usize = 32;
const PAGED_FIXED: usize = 56;
const RELEASE_FIXED: usize = 16;
/// Bytes of a buffer's id.
const NAME_LEN: usize = 8;

const _: () = assert!(PAGE_FIXED.is_multiple_of(8) && PAGED_FIXED.is_multiple_of(8));
const _: () = assert!(RELEASE_FIXED.is_multiple_of(8));

/// Bytes of a Page record after its header.
pub(super) fn page_len(key: &[u8], names: &[BufferId], buffers: &[BufferDef]) -> usize {
    let defs: usize = buffers.iter().map(BufferDef::encoded_len).sum();
    PAGE_FIXED + pad8(key.len()) + NAME_LEN * names.len() + defs
}

/// Bytes of a Paged record after its header.
pub(super) fn paged_len(key: &[u8], pages: &[PageRef]) -> usize {
    PAGED_FIXED + pad8(key.len()) + PAGE_REF_LEN * pages.len()
}

/// Bytes of a Release record after its header.
pub(super) fn release_len(names: &[BufferId]) -> usize {
    RELEASE_FIXED + NAME_LEN * names.len()
}

/// Appends the body of one of the three.
pub(super) fn encode(record: &Record, out: &mut Encoder<'_>) {
    match record {
        Record::Page { bucket, key, version, page, names, buffers } => {
            encode_blob_name(out, *bucket, key);
            out.u64(version.0);
            out.u64(page.0);
            out.len32(names.len());
            out.len32(buffers.len());
            out.bytes(key);
            out.pad_to_8();
            names.iter().for_each(|name| out.u64(name.0));
            buffers.iter().for_each(|def| def.encode(out));
        }
        Record::Paged { bucket, key, base, version, len, cut, pages, .. } => {
            encode_blob_name(out, *bucket, key);
            out.u64(base.map_or(0, |base| base.0));
            [version.0, *len, cut.start, cut.end].into_iter().for_each(|v| out.u64(v));
            out.len32(pages.len());
            out.u32(0);
            out.bytes(key);
            out.pad_to_8();
            pages.iter().for_each(|page| page.encode(out));
        }
        Record::Release { page, names } => {
            out.u64(page.0);
            out.len32(names.len());
            out.u32(0);
            names.iter().for_each(|name| out.u64(name.0));
        }
        _ => unreachable!("not a record of extent pages"),
    }
}

pub(super) fn decode_page(input: &mut Decoder<'_>) -> Result<Record> {
    let (bucket, key_len) = decode_blob_name(input)?;
    let version = Version(input.u64("version")?);
    let page = BufferId(input.u64("page")?);
    let names = input.count(NAME_LEN, "name_count")?;
    let buffers = input.count(BUFFER_DEF_LEN, "buffer_count")?;
    let key = input.bytes(key_len, "key")?.into();
    input.pad_to_8()?;
    let names = decode_names(input, names)?;
    let buffers = (0..buffers).map(|_| BufferDef::decode(input)).collect::<Result<_>>()?;
    Ok(Record::Page { bucket, key, version, page, names, buffers })
}

pub(super) fn decode_paged(input: &mut Decoder<'_>) -> Result<Record> {
    let (bucket, key_len) = decode_blob_name(input)?;
    let base = input.u64("base")?;
    let base = (base != 0).then_some(Version(base));
    let version = Version(input.u64("version")?);
    let len = input.u64("len")?;
    let cut = input.u64("cut.start")?..input.u64("cut.end")?;
    let pages = input.count(PAGE_REF_LEN, "page_count")?;
    input.zeros(4, "reserved")?;
    let key = input.bytes(key_len, "key")?.into();
    input.pad_to_8()?;
    let pages = (0..pages).map(|_| PageRef::decode(input)).collect::<Result<_>>()?;
    Ok(Record::Paged { bucket, key, base, version, len, cut, pages, attributes: None })
}

pub(super) fn decode_release(input: &mut Decoder<'_>) -> Result<Record> {
    let page = BufferId(input.u64("page")?);
    let names = input.count(NAME_LEN, "name_count")?;
    input.zeros(4, "reserved")?;
    Ok(Record::Release { page, names: decode_names(input, names)? })
}

fn decode_names(input: &mut Decoder<'_>, count: usize) -> Result<Vec<BufferId>> {
    (0..count).map(|_| input.u64("name").map(BufferId)).collect()
}

/// What is wrong with one of the three, if anything.
pub(super) fn validate(record: &Record) -> std::result::Result<(), Fault> {
    match record {
        Record::Page { key, page, names, buffers, .. } => {
            check_key(key)?;
            check_names(names)?;
            check_buffers(buffers)?;
            check_definitions(*page, names, buffers)
        }
        Record::Paged { key, base, version, len, cut, pages, attributes, .. } => {
            check_key(key)?;
            check_pages(*len, cut, pages)?;
            match base {
                Some(_) if attributes.is_some() => {
                    Err("a change of a map that says attributes".into())
                }
                Some(base) => check_follows(*base, *version),
                None if *cut != (0..VALUE_LEN_MAX) => {
                    Err(format!("a whole map that replaces {cut:?}"))
                }
                None if pages.first().is_none_or(|page| page.start != 0) => {
                    Err("a whole map without a page at 0".into())
                }
                _ => Ok(()),
            }
        }
        Record::Release { names, .. } => check_names(names),
        _ => unreachable!("not a record of extent pages"),
    }
}

/// The page's definition has checks; those of the buffers, which it names, have none.
fn check_definitions(
    page: BufferId,
    names: &[BufferId],
    buffers: &[BufferDef],
) -> std::result::Result<(), Fault> {
    if buffers.binary_search_by_key(&page, |def| def.id).is_err() {
        return Err(format!("page {} is not defined", page.0));
    }
    for def in buffers {
        let is_page = def.id == page;
        if is_page == def.checks.is_empty() {
            return Err(format!("buffer {} of page {}: checks misplaced", def.id.0, page.0));
        }
        if is_page == names.binary_search(&def.id).is_ok() {
            return Err(format!("buffer {} is defined with page {}, wrongly", def.id.0, page.0));
        }
    }
    Ok(())
}
