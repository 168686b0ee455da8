//! A checkpoint partition: the exact logged state of a part of the index at one batch.
//!
//! The image holds the blobs of the partition, then the buffers of the buffer table that the
//! partition is responsible for. Both are written as a stream, read by iterators.

use super::attributes::Attributes;
use super::codec::{Decoder, Encoder, check_seal, pad8, seal};
use super::map::{
    BUFFER_DEF_LEN, BufferDef, EXTENT_LEN, Extent, Fault, PAGE_REF_LEN, PageRef, check_key,
    check_map, check_pages, decode_map, encode_map, map_len,
};
use super::{FORMAT_MAJOR, FORMAT_MINOR};
use crate::error::{Error, ErrorKind, Result, fail};
use crate::limits::{PARTITIONS, VALUE_LEN_MAX};
use crate::types::{BatchSeq, BucketId, Uuid, Version};

/// First bytes of a partition image.
pub const PARTITION_MAGIC: [u8; 8] = *b"iso-part";
/// Bytes of a partition image before its entries.
pub const PARTITION_HEADER_LEN: usize = 80;
/// Bytes of a blob entry before its key.
pub const BLOB_ENTRY_LEN: usize = 32;
/// Bytes of a buffer entry before its definition.
pub const BUFFER_ENTRY_LEN: usize = 8;

/// Flag of a blob entry: the map stands in pages.
const PAGED: u16 = 1;
/// Flag of a blob entry: its attributes follow.
const ATTRIBUTES_FOLLOW: u16 = 2;
/// Flag of a buffer entry: the buffer is an extent page.
const IS_PAGE: u32 = 1;

const TOTAL_LEN_AT: usize = 40;
const CRC_AT: usize = PARTITION_HEADER_LEN - 4;
const _: () = assert!(PARTITION_HEADER_LEN.is_multiple_of(8) && BLOB_ENTRY_LEN.is_multiple_of(8));
const _: () = assert!(PARTITIONS <= 1 << 16);

/// Which partition an image is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartitionIdentity {
    /// The store.
    pub store: Uuid,
    /// The partition.
    pub partition: u16,
    /// The batch at which it is an exact cut: its state is that after batch `cut`.
    pub cut: BatchSeq,
}

/// A blob in a partition image; the key is borrowed from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlobEntry<'a> {
    /// The bucket.
    pub bucket: BucketId,
    /// The key.
    pub key: &'a [u8],
    /// The logged version.
    pub version: Version,
    /// Length of the value.
    pub len: u64,
    /// What the value is.
    pub map: BlobMap,
    /// Its attributes.
    pub attributes: Option<Attributes>,
}

/// What an image says of a blob, its map apart.
#[derive(Clone, Copy)]
pub struct BlobFacts<'a> {
    /// The bucket.
    pub bucket: BucketId,
    /// The key.
    pub key: &'a [u8],
    /// The logged version.
    pub version: Version,
    /// Length of the value.
    pub len: u64,
    /// Its attributes.
    pub attributes: Option<&'a Attributes>,
}

/// What the value of a blob in an image is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BlobMap {
    /// The map stands in the entry.
    Inline {
        /// What the value is, ascending; gaps are holes.
        extents: Vec<Extent>,
        /// The buffers that only this blob names, ascending by id.
        buffers: Vec<BufferDef>,
    },
    /// The map stands in these pages.
    Paged(Vec<PageRef>),
}

/// A buffer of the buffer table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BufferEntry {
    /// Its definition.
    pub def: BufferDef,
    /// How many extent pages name it.
    pub named: u32,
    /// Whether it is an extent page.
    pub is_page: bool,
}

/// Builds a partition image.
pub struct PartitionEncoder {
    identity: PartitionIdentity,
    blobs: Vec<u8>,
    blob_count: u32,
    buffers: Vec<u8>,
    buffer_count: u32,
}

impl PartitionEncoder {
    /// An image without entries.
    pub fn new(identity: PartitionIdentity) -> PartitionEncoder {
        let blobs = vec![0; PARTITION_HEADER_LEN];
        PartitionEncoder { identity, blobs, blob_count: 0, buffers: Vec::new(), buffer_count: 0 }
    }

    /// Adds a blob with the definitions of the buffers that only it names.
    pub fn push_blob(
        &mut self,
        blob: &BlobFacts<'_>,
        extents: &[Extent],
        buffers: &[BufferDef],
    ) -> Result<()> {
        let verdict = check_map(blob.len, 0..blob.len, extents, buffers);
        self.push(blob, 0, verdict, [extents.len(), buffers.len()], map_len(extents, buffers), {
            |out| encode_map(out, extents, buffers)
        })
    }

    /// Adds a blob whose map stands in pages.
    pub fn push_paged_blob(&mut self, blob: &BlobFacts<'_>, pages: &[PageRef]) -> Result<()> {
        let verdict = check_pages(blob.len, &(0..VALUE_LEN_MAX), pages);
        self.push(blob, PAGED, verdict, [pages.len(), 0], PAGE_REF_LEN * pages.len(), |out| {
            pages.iter().for_each(|page| page.encode(out));
        })
    }

    fn push(
        &mut self,
        blob: &BlobFacts<'_>,
        map_flag: u16,
        verdict: std::result::Result<(), Fault>,
        counts: [usize; 2],
        map_len: usize,
        map: impl FnOnce(&mut Encoder<'_>),
    ) -> Result<()> {
        let BlobFacts { bucket, key, version, len, attributes } = *blob;
        if let Err(fault) = check_key(key).and(verdict) {
            fail!(Internal, "blob entry not written: {fault}");
        }
        let tail_len = attributes.map_or(0, Attributes::encoded_len);
        self.blobs.reserve(BLOB_ENTRY_LEN + pad8(key.len()) + map_len + tail_len);
        let mut out = Encoder::new(&mut self.blobs);
        out.u32(bucket.0);
        out.len16(key.len());
        out.u16(map_flag | if attributes.is_some() { ATTRIBUTES_FOLLOW } else { 0 });
        out.u64(version.0);
        out.u64(len);
        counts.into_iter().for_each(|count| out.len32(count));
        out.bytes(key);
        out.pad_to_8();
        map(&mut out);
        if let Some(attributes) = attributes {
            attributes.encode(&mut out);
        }
        self.blob_count = count_up(self.blob_count)?;
        Ok(())
    }

    /// Adds a buffer of the buffer table.
    pub fn push_buffer(&mut self, entry: &BufferEntry) -> Result<()> {
        let verdict = entry.def.validate().and_then(|()| check_entry(entry));
        if let Err(fault) = verdict {
            fail!(Internal, "buffer entry not written: {fault}");
        }
        let mut out = Encoder::new(&mut self.buffers);
        out.u32(entry.named);
        out.u32(if entry.is_page { IS_PAGE } else { 0 });
        entry.def.encode(&mut out);
        self.buffer_count = count_up(self.buffer_count)?;
        Ok(())
    }

    /// Bytes of the image so far.
    pub fn len(&self) -> usize {
        self.blobs.len() + self.buffers.len()
    }

    /// Whether it has no entries yet.
    pub fn is_empty(&self) -> bool {
        self.blob_count == 0 && self.buffer_count == 0
    }

    /// The image. Its checksum, for the root, is what [`PartitionView::crc`] returns.
    pub fn finish(self) -> Vec<u8> {
        let PartitionEncoder { identity, blobs: mut image, blob_count, buffers, buffer_count } =
            self;
        let table_offset = image.len();
        image.extend_from_slice(&buffers);
        let mut header = Vec::with_capacity(PARTITION_HEADER_LEN);
        let mut out = Encoder::new(&mut header);
        out.bytes(&PARTITION_MAGIC);
        out.u16(FORMAT_MAJOR);
        out.u16(FORMAT_MINOR);
        out.u16(identity.partition);
        out.u16(0);
        out.uuid(identity.store);
        out.u64(identity.cut.0);
        out.u64(image.len() as u64);
        out.u64(table_offset as u64);
        out.u32(blob_count);
        out.u32(buffer_count);
        out.zeros_to(PARTITION_HEADER_LEN);
        image[..PARTITION_HEADER_LEN].copy_from_slice(&header);
        seal(&mut image, CRC_AT);
        image
    }
}

fn count_up(count: u32) -> Result<u32> {
    match count.checked_add(1) {
        Some(count) => Ok(count),
        None => fail!(LimitExceeded, "a checkpoint partition holds 2^32 entries at most"),
    }
}

/// A partition image whose checksum and identity are right. Its entries are validated as they are
/// read.
#[derive(Debug)]
pub struct PartitionView<'a> {
    identity: PartitionIdentity,
    crc: u32,
    image: &'a [u8],
    table_offset: usize,
    blob_count: u32,
    buffer_count: u32,
}

impl<'a> PartitionView<'a> {
    /// The checksum field of an encoded image.
    pub fn crc_of(image: &[u8]) -> Result<u32> {
        check_seal("checkpoint partition", image, CRC_AT)
    }

    /// Opens the image that these bytes are, no more and no less.
    pub fn decode(bytes: &'a [u8], expect: &PartitionIdentity) -> Result<PartitionView<'a>> {
        let mut input = Decoder::new("checkpoint partition", bytes);
        check_start(&mut input, PARTITION_MAGIC)?;
        let crc = check_seal("checkpoint partition", bytes, CRC_AT)?;
        check_format(&mut input)?;
        let partition = input.u16("partition")?;
        input.zeros(2, "reserved")?;
        let store = input.uuid("store")?;
        let cut = BatchSeq(input.u64("cut")?);
        let identity = PartitionIdentity { store, partition, cut };
        if identity != *expect {
            return Err(input.corrupt(format!("{identity:?}, expected {expect:?}")));
        }
        debug_assert_eq!(input.position(), TOTAL_LEN_AT);
        let total_len = input.u64("total_len")?;
        let table_offset = input.u64("table_offset")?;
        let blob_count = input.u32("blob_count")?;
        let buffer_count = input.u32("buffer_count")?;
        input.zeros(CRC_AT - input.position(), "reserved")?;
        if total_len != bytes.len() as u64 {
            let message = format!("total_len is {total_len}, {} bytes are here", bytes.len());
            return Err(input.corrupt(message));
        }
        let table_offset = match usize::try_from(table_offset) {
            Ok(at) if at >= PARTITION_HEADER_LEN && at <= bytes.len() && at.is_multiple_of(8) => at,
            _ => return Err(input.corrupt(format!("table_offset is {table_offset}"))),
        };
        // Room is made for as many as there are said to be.
        for (what, count, room, least) in [
            ("blob_count", blob_count, table_offset - PARTITION_HEADER_LEN, BLOB_ENTRY_LEN),
            ("buffer_count", buffer_count, bytes.len() - table_offset, BUFFER_ENTRY_LEN),
        ] {
            if count as usize > room / least {
                return Err(input.corrupt(format!("{what} is {count}, in {room} bytes")));
            }
        }
        Ok(PartitionView { identity, crc, image: bytes, table_offset, blob_count, buffer_count })
    }

    /// Which partition this is.
    pub fn identity(&self) -> PartitionIdentity {
        self.identity
    }

    /// The image's checksum.
    pub fn crc(&self) -> u32 {
        self.crc
    }

    /// How many blobs.
    pub fn blob_count(&self) -> u32 {
        self.blob_count
    }

    /// How many buffers of the buffer table.
    pub fn buffer_count(&self) -> u32 {
        self.buffer_count
    }

    /// The blobs. Ends after the first error.
    pub fn blobs(&self) -> Entries<'a, BlobEntry<'a>> {
        let bytes = &self.image[PARTITION_HEADER_LEN..self.table_offset];
        let input = Decoder::with_base("checkpoint partition", bytes, PARTITION_HEADER_LEN);
        Entries { input: Some(input), left: self.blob_count, read: decode_blob }
    }

    /// The buffers of the buffer table. Ends after the first error.
    pub fn buffers(&self) -> Entries<'a, BufferEntry> {
        let bytes = &self.image[self.table_offset..];
        let input = Decoder::with_base("checkpoint partition", bytes, self.table_offset);
        Entries { input: Some(input), left: self.buffer_count, read: decode_buffer }
    }
}

/// Iterates over the entries of an image; bytes left over are an error, too.
pub struct Entries<'a, T> {
    input: Option<Decoder<'a>>,
    left: u32,
    read: fn(&mut Decoder<'a>) -> Result<T>,
}

impl<'a, T> Entries<'a, T> {
    pub(super) fn new(
        input: Decoder<'a>,
        count: u32,
        read: fn(&mut Decoder<'a>) -> Result<T>,
    ) -> Entries<'a, T> {
        Entries { input: Some(input), left: count, read }
    }
}

impl<T> Iterator for Entries<'_, T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        let mut input = self.input.take()?;
        if self.left == 0 {
            return input.finish().err().map(Err);
        }
        self.left -= 1;
        let entry = (self.read)(&mut input);
        if entry.is_ok() {
            self.input = Some(input);
        }
        Some(entry)
    }
}

fn decode_blob<'a>(input: &mut Decoder<'a>) -> Result<BlobEntry<'a>> {
    let bucket = BucketId(input.u32("bucket")?);
    let key_len = input.u16("key_len")?;
    let flags = input.u16("flags")?;
    if flags & !(PAGED | ATTRIBUTES_FOLLOW) != 0 {
        return Err(input.error(ErrorKind::Format, format!("flags {flags:#x} are unknown")));
    }
    let version = Version(input.u64("version")?);
    let len = input.u64("len")?;
    let is_paged = flags & PAGED != 0;
    let extents = match is_paged {
        true => input.count(PAGE_REF_LEN, "page_count")?,
        false => input.count(EXTENT_LEN, "extent_count")?,
    };
    let buffers = input.count(BUFFER_DEF_LEN, "buffer_count")?;
    let key = input.bytes(usize::from(key_len), "key")?;
    input.pad_to_8()?;
    check_key(key).map_err(|fault| input.corrupt(fault))?;
    let (map, verdict) = if is_paged {
        let pages = (0..extents).map(|_| PageRef::decode(input)).collect::<Result<Vec<_>>>()?;
        let verdict = match buffers {
            0 => check_pages(len, &(0..VALUE_LEN_MAX), &pages),
            _ => Err(format!("{buffers} definitions beside pages")),
        };
        (BlobMap::Paged(pages), verdict)
    } else {
        let (extents, buffers) = decode_map(input, (extents, buffers))?;
        let verdict = check_map(len, 0..len, &extents, &buffers);
        (BlobMap::Inline { extents, buffers }, verdict)
    };
    verdict.map_err(|fault| input.corrupt(fault))?;
    let attributes = match flags & ATTRIBUTES_FOLLOW {
        0 => None,
        _ => Some(Attributes::decode(input)?),
    };
    Ok(BlobEntry { bucket, key, version, len, map, attributes })
}

fn decode_buffer(input: &mut Decoder<'_>) -> Result<BufferEntry> {
    let named = input.u32("buffer.named")?;
    let flags = input.u32("buffer.flags")?;
    if flags & !IS_PAGE != 0 {
        let message = format!("flags {flags:#x} of a buffer are unknown");
        return Err(input.error(ErrorKind::Format, message));
    }
    let entry =
        BufferEntry { def: BufferDef::decode(input)?, named, is_page: flags & IS_PAGE != 0 };
    check_entry(&entry).map_err(|fault| input.corrupt(fault))?;
    Ok(entry)
}

/// What is wrong with a buffer entry's counts, if anything.
fn check_entry(entry: &BufferEntry) -> std::result::Result<(), String> {
    let id = entry.def.id.0;
    if entry.is_page && (entry.named > 0 || entry.def.checks.is_empty()) {
        return Err(format!("page {id} is named by pages, or has no checks"));
    }
    Ok(())
}

/// Checks the magic of a structure that nothing but a checked reference leads to.
pub(super) fn check_start(input: &mut Decoder<'_>, magic: [u8; 8]) -> Result<()> {
    if input.bytes(magic.len(), "magic")? != magic {
        return Err(input.corrupt("the magic is missing"));
    }
    Ok(())
}

/// Reads the format version of a structure whose checksum is right.
pub(super) fn check_format(input: &mut Decoder<'_>) -> Result<()> {
    let major = input.u16("major")?;
    input.u16("minor")?;
    if major != FORMAT_MAJOR {
        let message = format!("format {major}, this version reads {FORMAT_MAJOR}");
        return Err(Error::new(ErrorKind::Format, message));
    }
    Ok(())
}
