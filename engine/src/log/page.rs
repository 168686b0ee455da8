//! An extent page: a part of a large map, with the checks of the buffers that it names.
//!
//! It is the raw bytes of a buffer of its own, whose definition has the page's checks. What it
//! says of its blob serves salvage: a page that moved on to another blob keeps the old name.

use super::checkpoint::{check_format, check_start};
use super::codec::{Decoder, Encoder, pad8};
use super::map::{BufferDef, EXTENT_LEN, Extent, check_extents, check_key};
use super::{FORMAT_MAJOR, FORMAT_MINOR};
use crate::error::{Result, fail};
use crate::limits::{BUFFER_SIZE_MAX, VALUE_LEN_MAX};
use crate::types::{BucketId, BufferId, Uuid, Version};

/// First bytes of a page.
pub const PAGE_MAGIC: [u8; 8] = *b"iso-page";
/// Bytes of a page before its key.
pub const PAGE_HEADER_LEN: usize = 72;
/// Bytes of a page's word on a buffer before its checks.
pub const PAGE_BUFFER_LEN: usize = 16;
const _: () = assert!(PAGE_HEADER_LEN.is_multiple_of(8) && PAGE_BUFFER_LEN.is_multiple_of(8));

/// What a page says of a buffer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageBuffer {
    /// The buffer.
    pub id: BufferId,
    /// Its length on the device.
    pub stored_len: u32,
    /// CRC-32 of each check block of its stored bytes.
    pub checks: Vec<u32>,
}

/// An extent page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageImage {
    /// The store.
    pub store: Uuid,
    /// The page's own id.
    pub id: BufferId,
    /// The blob it was written for: its bucket.
    pub bucket: BucketId,
    /// Its key.
    pub key: Box<[u8]>,
    /// Its version.
    pub version: Version,
    /// The map's extents that the page has, ascending.
    pub extents: Vec<Extent>,
    /// The buffers they name, ascending by id.
    pub buffers: Vec<PageBuffer>,
}

impl PageBuffer {
    /// Bytes of what a page says of a buffer of this length.
    pub fn encoded_len_of(stored_len: u32) -> usize {
        PAGE_BUFFER_LEN + pad8(4 * BufferDef::check_count(stored_len))
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        out.u64(self.id.0);
        out.u32(self.stored_len);
        out.u32(0);
        self.checks.iter().for_each(|&check| out.u32(check));
        out.pad_to_8();
    }

    fn decode(input: &mut Decoder<'_>) -> Result<PageBuffer> {
        let id = BufferId(input.u64("buffer.id")?);
        let stored_len = input.u32("buffer.stored_len")?;
        input.zeros(4, "buffer.reserved")?;
        if stored_len == 0 || stored_len as usize > BUFFER_SIZE_MAX {
            return Err(input.corrupt(format!("buffer {} of {stored_len} bytes", id.0)));
        }
        let bytes = input.bytes(4 * BufferDef::check_count(stored_len), "buffer.checks")?;
        let checks = bytes
            .chunks_exact(4)
            .map(|check| u32::from_le_bytes([check[0], check[1], check[2], check[3]]))
            .collect();
        input.pad_to_8()?;
        Ok(PageBuffer { id, stored_len, checks })
    }
}

impl PageImage {
    /// Bytes of the page.
    pub fn encoded_len(&self) -> usize {
        PAGE_HEADER_LEN
            + pad8(self.key.len())
            + EXTENT_LEN * self.extents.len()
            + self
                .buffers
                .iter()
                .map(|buffer| PageBuffer::encoded_len_of(buffer.stored_len))
                .sum::<usize>()
    }

    /// The page as bytes, at most one buffer of them.
    pub fn encode(&self) -> Result<Vec<u8>> {
        if let Err(fault) = self.validate() {
            fail!(Internal, "extent page not written: {fault}");
        }
        let mut bytes = Vec::with_capacity(self.encoded_len());
        let mut out = Encoder::new(&mut bytes);
        out.bytes(&PAGE_MAGIC);
        out.u16(FORMAT_MAJOR);
        out.u16(FORMAT_MINOR);
        out.len16(self.key.len());
        out.u16(0);
        out.uuid(self.store);
        out.u64(self.id.0);
        out.u64(self.version.0);
        out.u32(self.bucket.0);
        out.len32(self.extents.len());
        out.len32(self.buffers.len());
        out.zeros_to(PAGE_HEADER_LEN);
        out.bytes(&self.key);
        out.pad_to_8();
        self.extents.iter().for_each(|extent| extent.encode(&mut out));
        self.buffers.iter().for_each(|buffer| buffer.encode(&mut out));
        Ok(bytes)
    }

    /// Reads a page whose bytes have been verified against its definition.
    pub fn decode(bytes: &[u8], store: Uuid, id: BufferId) -> Result<PageImage> {
        let mut input = Decoder::new("extent page", bytes);
        check_start(&mut input, PAGE_MAGIC)?;
        check_format(&mut input)?;
        let key_len = usize::from(input.u16("key_len")?);
        input.zeros(2, "reserved")?;
        let found = (input.uuid("store")?, BufferId(input.u64("page")?));
        if found != (store, id) {
            return Err(input.corrupt(format!("{found:?}, expected {:?}", (store, id))));
        }
        let version = Version(input.u64("version")?);
        let bucket = BucketId(input.u32("bucket")?);
        let extents = input.count(EXTENT_LEN, "extent_count")?;
        let buffers = input.count(PAGE_BUFFER_LEN, "buffer_count")?;
        input.zeros(PAGE_HEADER_LEN - input.position(), "reserved")?;
        let key = input.bytes(key_len, "key")?.into();
        input.pad_to_8()?;
        let extents = (0..extents).map(|_| Extent::decode(&mut input)).collect::<Result<_>>()?;
        let buffers =
            (0..buffers).map(|_| PageBuffer::decode(&mut input)).collect::<Result<_>>()?;
        let page = PageImage { store, id, bucket, key, version, extents, buffers };
        page.validate().map_err(|fault| input.corrupt(fault))?;
        input.finish()?;
        Ok(page)
    }

    /// What is wrong with the page, if anything: extents in order, each buffer named and known.
    fn validate(&self) -> std::result::Result<(), String> {
        check_key(&self.key)?;
        check_extents(&self.extents, 0..VALUE_LEN_MAX, &[])?;
        if let Some(pair) = self.buffers.windows(2).find(|pair| pair[0].id >= pair[1].id) {
            return Err(format!("buffer {} precedes buffer {}", pair[0].id.0, pair[1].id.0));
        }
        let has_checks =
            |buffer: &&PageBuffer| buffer.checks.len() == BufferDef::check_count(buffer.stored_len);
        if let Some(bare) = self.buffers.iter().find(|buffer| !has_checks(buffer)) {
            let (id, count) = (bare.id.0, bare.checks.len());
            return Err(format!("{count} checksums of buffer {id}, {} bytes", bare.stored_len));
        }
        let mut is_named = vec![false; self.buffers.len()];
        for extent in &self.extents {
            match self.buffers.binary_search_by_key(&extent.buffer, |buffer| buffer.id) {
                Ok(at) => is_named[at] = true,
                Err(_) => return Err(format!("nothing is said of buffer {}", extent.buffer.0)),
            }
        }
        if self.extents.is_empty() || is_named.contains(&false) {
            return Err("no extent, or a buffer that no extent names".into());
        }
        if self.encoded_len() > BUFFER_SIZE_MAX {
            return Err(format!("{} bytes, a buffer has {BUFFER_SIZE_MAX}", self.encoded_len()));
        }
        Ok(())
    }
}
