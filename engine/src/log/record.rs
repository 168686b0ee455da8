//! The records: one change each, self-contained, validated the same way written and read.

use std::ops::Range;

use super::attributes::Attributes;
use super::bucket_records as buckets;
use super::codec::{Decoder, Encoder, pad8};
pub use super::fields::{BucketRecord, SegmentKind};
use super::fields::{check_tier, decode_segment, encode_segment};
pub use super::kinds::RecordKind;
pub use super::map::{BufferDef, ENCODING_RAW, Extent, PageRef};
use super::map::{Fault, check_key, check_map, decode_counts, decode_map, encode_map, map_len};
use super::move_records as moves;
pub use super::move_records::MoveSubject;
use super::paged_records as paged;
use super::shared_records as shared;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::KEY_LEN_MAX;
use crate::types::{BucketId, BufferId, Location, TierSegment, Version};

/// Bytes of a record's header: kind, flags, length.
pub const RECORD_HEADER_LEN: usize = 8;

const PUT_FIXED: usize = 32;
const SPLICE_FIXED: usize = 56;
const DELETE_FIXED: usize = 16;
const ATTRIBUTES_FIXED: usize = 24;
const SEGMENT_FIXED: usize = 16;

/// Flag of a record of a whole state: its attributes follow. Without it there are none.
const ATTRIBUTES_FOLLOW: u16 = 1 << 1;

const _: () = assert!(ATTRIBUTES_FIXED.is_multiple_of(8));
const _: () = assert!(PUT_FIXED.is_multiple_of(8) && SPLICE_FIXED.is_multiple_of(8));
const _: () = assert!(DELETE_FIXED.is_multiple_of(8) && SEGMENT_FIXED.is_multiple_of(8));

/// One change of the store's state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// The new whole state of a blob.
    Put {
        /// The bucket.
        bucket: BucketId,
        /// The key.
        key: Box<[u8]>,
        /// The version this creates.
        version: Version,
        /// Length of the value.
        len: u64,
        /// What the value is, ascending; gaps are holes.
        extents: Vec<Extent>,
        /// Buffers that appear with this record, ascending by id.
        buffers: Vec<BufferDef>,
        /// The blob's attributes.
        attributes: Option<Attributes>,
    },
    /// The new state of a blob as a change of its logged predecessor: the range `cut` of the
    /// map of `base` is replaced by `extents`, the length becomes `len`, the attributes stay.
    /// Appends, partial puts and truncation (no extents) of huge blobs cost what they change.
    Splice {
        /// The bucket.
        bucket: BucketId,
        /// The key.
        key: Box<[u8]>,
        /// The version that is changed: the key's last logged one.
        base: Version,
        /// The version this creates.
        version: Version,
        /// New length of the value.
        len: u64,
        /// The range of the value whose map is replaced.
        cut: Range<u64>,
        /// The new map of that range, ascending.
        extents: Vec<Extent>,
        /// Buffers that appear with this record, ascending by id.
        buffers: Vec<BufferDef>,
    },
    /// A blob is gone.
    Delete {
        /// The bucket.
        bucket: BucketId,
        /// The key.
        key: Box<[u8]>,
        /// The version of the deletion.
        version: Version,
    },
    /// A buffer's bytes have been copied to another place. Applies where the buffer is still at
    /// `from`.
    Move {
        /// Which buffer.
        subject: MoveSubject,
        /// The place it leaves.
        from: Location,
        /// The place it has reached.
        to: Location,
    },
    /// A bucket appears.
    BucketCreate {
        /// Its number, never used before.
        bucket: BucketId,
        /// Its name, 1..=255 bytes.
        name: Box<[u8]>,
        /// Its defaults and quotas.
        options: BucketRecord,
    },
    /// A bucket and all its blobs are gone.
    BucketDestroy {
        /// The bucket.
        bucket: BucketId,
    },
    /// A segment is taken into use.
    SegmentOpen {
        /// The segment.
        segment: TierSegment,
        /// Its generation, never used before in this store.
        generation: u32,
        /// What it will hold.
        kind: SegmentKind,
    },
    /// A segment holds nothing live any more.
    SegmentFree {
        /// The segment.
        segment: TierSegment,
        /// The generation that ends.
        generation: u32,
    },
    /// Nothing: carries a batch whose header names the watermark.
    Marker,
    /// An extent page has been written. Each buffer that it names is counted once for it.
    Page {
        /// The bucket of the blob it was written for.
        bucket: BucketId,
        /// The key of that blob.
        key: Box<[u8]>,
        /// The version of that blob.
        version: Version,
        /// The page.
        page: BufferId,
        /// The buffers that its extents name, ascending.
        names: Vec<BufferId>,
        /// The page's definition, and those of the buffers that appear with it, whose checks
        /// stand in the page. Ascending by id.
        buffers: Vec<BufferDef>,
    },
    /// The new state of a blob whose map stands in pages: whole, or as a change of its logged
    /// predecessor.
    Paged {
        /// The bucket.
        bucket: BucketId,
        /// The key.
        key: Box<[u8]>,
        /// The version that is changed, the key's last logged one; `None`: the state is whole.
        base: Option<Version>,
        /// The version this creates.
        version: Version,
        /// New length of the value.
        len: u64,
        /// References to pages that begin in this range are replaced.
        cut: Range<u64>,
        /// The new ones, ascending.
        pages: Vec<PageRef>,
        /// The blob's attributes, if the state is whole; those of `base` stay.
        attributes: Option<Attributes>,
    },
    /// An extent page that no blob refers to is gone, and so are its counts.
    Release {
        /// The page.
        page: BufferId,
        /// The buffers that its extents name, ascending.
        names: Vec<BufferId>,
    },
    /// These buffers stand in the buffer table from now on, with their checks: others than the blob
    /// that defined them, or than extent pages, will name them. A lone buffer of the blob among
    /// them becomes a map of one extent.
    Share {
        /// The bucket of the blob that has them.
        bucket: BucketId,
        /// The key of that blob.
        key: Box<[u8]>,
        /// Their definitions, ascending by id.
        buffers: Vec<BufferDef>,
    },
    /// A blob has other attributes, and the value it had.
    Attributes {
        /// The bucket.
        bucket: BucketId,
        /// The key.
        key: Box<[u8]>,
        /// The version that is changed: the key's last logged one.
        base: Version,
        /// The version this creates.
        version: Version,
        /// All of its attributes from now on.
        attributes: Option<Attributes>,
    },
    /// A bucket has another name, or other defaults and quotas.
    BucketChange {
        /// The bucket.
        bucket: BucketId,
        /// Its name from now on.
        name: Box<[u8]>,
        /// Its defaults and quotas from now on.
        options: BucketRecord,
    },
    /// All blobs that a bucket has had are gone, the bucket stays.
    BucketClear {
        /// The bucket.
        bucket: BucketId,
        /// Above the versions of all blobs that are gone, below those of all changes that follow.
        version: Version,
    },
}

impl Record {
    /// Every kind, for whoever must not forget one.
    pub const KINDS: [RecordKind; 16] = RecordKind::ALL;

    /// The kind of this record.
    pub fn kind(&self) -> RecordKind {
        match self {
            Record::Put { .. } => RecordKind::Put,
            Record::Splice { .. } => RecordKind::Splice,
            Record::Delete { .. } => RecordKind::Delete,
            Record::Move { .. } => RecordKind::Move,
            Record::BucketCreate { .. } => RecordKind::BucketCreate,
            Record::BucketDestroy { .. } => RecordKind::BucketDestroy,
            Record::SegmentOpen { .. } => RecordKind::SegmentOpen,
            Record::SegmentFree { .. } => RecordKind::SegmentFree,
            Record::Marker => RecordKind::Marker,
            Record::Page { .. } => RecordKind::Page,
            Record::Paged { .. } => RecordKind::Paged,
            Record::Release { .. } => RecordKind::Release,
            Record::Share { .. } => RecordKind::Share,
            Record::Attributes { .. } => RecordKind::Attributes,
            Record::BucketChange { .. } => RecordKind::BucketChange,
            Record::BucketClear { .. } => RecordKind::BucketClear,
        }
    }

    /// The attributes that the record says.
    fn attributes(&self) -> Option<&Attributes> {
        match self {
            Record::Put { attributes, .. }
            | Record::Paged { attributes, .. }
            | Record::Attributes { attributes, .. } => attributes.as_ref(),
            _ => None,
        }
    }

    fn set_attributes(&mut self, read: Attributes) {
        if let Record::Put { attributes, .. }
        | Record::Paged { attributes, .. }
        | Record::Attributes { attributes, .. } = self
        {
            *attributes = Some(read);
        }
    }

    /// The buffers that appear with this record.
    pub fn buffers(&self) -> &[BufferDef] {
        match self {
            Record::Put { buffers, .. }
            | Record::Splice { buffers, .. }
            | Record::Page { buffers, .. }
            | Record::Share { buffers, .. } => buffers,
            _ => &[],
        }
    }

    /// [`buffers`](Self::buffers), to set their locations.
    pub fn buffers_mut(&mut self) -> &mut [BufferDef] {
        match self {
            Record::Put { buffers, .. }
            | Record::Splice { buffers, .. }
            | Record::Page { buffers, .. }
            | Record::Share { buffers, .. } => buffers,
            _ => &mut [],
        }
    }

    /// Bytes of this record when encoded, header and padding included. Independent of locations.
    pub fn encoded_len(&self) -> usize {
        RECORD_HEADER_LEN
            + match self {
                Record::Put { key, extents, buffers, attributes, .. } => {
                    PUT_FIXED
                        + pad8(key.len())
                        + map_len(extents, buffers)
                        + attributes_len(attributes.as_ref())
                }
                Record::Splice { key, extents, buffers, .. } => {
                    SPLICE_FIXED + pad8(key.len()) + map_len(extents, buffers)
                }
                Record::Delete { key, .. } => DELETE_FIXED + pad8(key.len()),
                Record::Move { subject, .. } => moves::move_len(subject),
                Record::BucketCreate { .. }
                | Record::BucketChange { .. }
                | Record::BucketDestroy { .. }
                | Record::BucketClear { .. } => buckets::encoded_len(self),
                Record::SegmentOpen { .. } | Record::SegmentFree { .. } => SEGMENT_FIXED,
                Record::Marker => 0,
                Record::Page { key, names, buffers, .. } => paged::page_len(key, names, buffers),
                Record::Paged { key, pages, attributes, .. } => {
                    paged::paged_len(key, pages) + attributes_len(attributes.as_ref())
                }
                Record::Release { names, .. } => paged::release_len(names),
                Record::Share { key, buffers, .. } => shared::share_len(key, buffers),
                Record::Attributes { key, attributes, .. } => {
                    ATTRIBUTES_FIXED + pad8(key.len()) + attributes_len(attributes.as_ref())
                }
            }
    }

    /// Appends this record. The encoder's position must be a multiple of 8.
    pub fn encode(&self, out: &mut Encoder<'_>) {
        out.u16(self.kind() as u16);
        out.u16(if self.attributes().is_some() { ATTRIBUTES_FOLLOW } else { 0 });
        out.len32(self.encoded_len());
        match self {
            Record::Put { bucket, key, version, len, extents, buffers, .. } => {
                encode_blob_name(out, *bucket, key);
                out.u64(version.0);
                out.u64(*len);
                encode_key_and_map(out, key, extents, buffers);
            }
            Record::Splice { bucket, key, base, version, len, cut, extents, buffers } => {
                encode_blob_name(out, *bucket, key);
                [base.0, version.0, *len, cut.start, cut.end].into_iter().for_each(|v| out.u64(v));
                encode_key_and_map(out, key, extents, buffers);
            }
            Record::Delete { bucket, key, version } => {
                encode_blob_name(out, *bucket, key);
                out.u64(version.0);
                out.bytes(key);
            }
            Record::Move { subject, from, to } => subject.encode(out, *from, *to),
            Record::BucketCreate { .. }
            | Record::BucketChange { .. }
            | Record::BucketDestroy { .. }
            | Record::BucketClear { .. } => buckets::encode(self, out),
            Record::SegmentOpen { segment, generation, kind } => {
                encode_segment(out, *segment, *generation, *kind as u8);
            }
            Record::SegmentFree { segment, generation } => {
                encode_segment(out, *segment, *generation, 0);
            }
            Record::Marker => {}
            Record::Page { .. } | Record::Paged { .. } | Record::Release { .. } => {
                paged::encode(self, out);
            }
            Record::Share { .. } => shared::encode(self, out),
            Record::Attributes { bucket, key, base, version, .. } => {
                encode_blob_name(out, *bucket, key);
                out.u64(base.0);
                out.u64(version.0);
                out.bytes(key);
            }
        }
        out.pad_to_8();
        if let Some(attributes) = self.attributes() {
            attributes.encode(out);
        }
    }

    /// Reads the record at the decoder's position, which must be a multiple of 8.
    pub fn decode(input: &mut Decoder<'_>) -> Result<Record> {
        let start = input.position();
        let number = input.u16("record.kind")?;
        let flags = input.u16("record.flags")?;
        let len = input.u32("record.length")? as usize;
        let Some(kind) = RecordKind::from_number(number) else {
            return Err(input.error(ErrorKind::Format, format!("record kind {number} is unknown")));
        };
        let has_attributes = flags == ATTRIBUTES_FOLLOW && kind.may_have_attributes();
        if flags != 0 && !has_attributes {
            let message = format!("flags {flags:#x} of a {kind:?} record are unknown");
            return Err(input.error(ErrorKind::Format, message));
        }
        if len < RECORD_HEADER_LEN || !len.is_multiple_of(8) {
            return Err(input.corrupt(format!("a {kind:?} record of {len} bytes")));
        }
        let body = input.bytes(len - RECORD_HEADER_LEN, "record body")?;
        let mut body = Decoder::with_base("record", body, start + RECORD_HEADER_LEN);
        let mut record = Record::decode_body(kind, &mut body)?;
        if has_attributes {
            body.pad_to_8()?;
            record.set_attributes(Attributes::decode(&mut body)?);
        }
        record.validate().map_err(|fault| {
            Error::new(ErrorKind::Corrupt, format!("{kind:?} record at byte {start}: {fault}"))
        })?;
        body.pad_to_8()?;
        body.finish()?;
        Ok(record)
    }

    fn decode_body(kind: RecordKind, input: &mut Decoder<'_>) -> Result<Record> {
        Ok(match kind {
            RecordKind::Put => decode_put(input)?,
            RecordKind::Splice => decode_splice(input)?,
            RecordKind::Delete => {
                let (bucket, key_len) = decode_blob_name(input)?;
                let version = Version(input.u64("version")?);
                Record::Delete { bucket, key: input.bytes(key_len, "key")?.into(), version }
            }
            RecordKind::Move => MoveSubject::decode_move(input)?,
            RecordKind::BucketCreate
            | RecordKind::BucketChange
            | RecordKind::BucketDestroy
            | RecordKind::BucketClear => buckets::decode(kind, input)?,
            RecordKind::SegmentOpen => {
                let (segment, generation, kind) = decode_segment(input, SegmentKind::decode)?;
                Record::SegmentOpen { segment, generation, kind }
            }
            RecordKind::SegmentFree => {
                let (segment, generation, ()) =
                    decode_segment(input, |input| input.zeros(1, "reserved"))?;
                Record::SegmentFree { segment, generation }
            }
            RecordKind::Marker => Record::Marker,
            RecordKind::Page => paged::decode_page(input)?,
            RecordKind::Paged => paged::decode_paged(input)?,
            RecordKind::Release => paged::decode_release(input)?,
            RecordKind::Share => shared::decode_share(input)?,
            RecordKind::Attributes => decode_attributes(input)?,
        })
    }

    /// What would keep a reader from accepting this record, if anything. Checked before a record
    /// is written: one that cannot be read back would make the store unreadable.
    pub fn validate(&self) -> std::result::Result<(), String> {
        match self {
            Record::Put { key, len, extents, buffers, .. } => {
                check_key(key)?;
                check_map(*len, 0..*len, extents, buffers)
            }
            Record::Splice { key, base, version, len, cut, extents, buffers, .. } => {
                check_key(key)?;
                check_follows(*base, *version)?;
                check_map(*len, cut.clone(), extents, buffers)
            }
            Record::Delete { key, .. } => check_key(key),
            Record::Move { subject, from, to } => subject.validate(*from, *to),
            Record::BucketCreate { .. }
            | Record::BucketChange { .. }
            | Record::BucketDestroy { .. }
            | Record::BucketClear { .. } => buckets::validate(self),
            Record::SegmentOpen { segment, .. } | Record::SegmentFree { segment, .. } => {
                check_tier(*segment)
            }
            Record::Marker => Ok(()),
            Record::Page { .. } | Record::Paged { .. } | Record::Release { .. } => {
                paged::validate(self)
            }
            Record::Share { key, buffers, .. } => shared::validate(key, buffers),
            Record::Attributes { key, base, version, .. } => {
                check_key(key)?;
                check_follows(*base, *version)
            }
        }
    }
}

pub(super) fn encode_blob_name(out: &mut Encoder<'_>, bucket: BucketId, key: &[u8]) {
    out.u32(bucket.0);
    out.len16(key.len());
    out.u16(0);
}

pub(super) fn decode_blob_name(input: &mut Decoder<'_>) -> Result<(BucketId, usize)> {
    let bucket = BucketId(input.u32("bucket")?);
    let key_len = input.u16("key_len")?;
    input.zeros(2, "reserved")?;
    // Before anything is read at a position that follows from it.
    if key_len == 0 || usize::from(key_len) > KEY_LEN_MAX {
        return Err(input.corrupt(format!("key_len is {key_len}, not 1..={KEY_LEN_MAX}")));
    }
    Ok((bucket, usize::from(key_len)))
}

fn encode_key_and_map(
    out: &mut Encoder<'_>,
    key: &[u8],
    extents: &[Extent],
    buffers: &[BufferDef],
) {
    out.len32(extents.len());
    out.len32(buffers.len());
    out.bytes(key);
    out.pad_to_8();
    encode_map(out, extents, buffers);
}

type KeyAndMap = (Box<[u8]>, Vec<Extent>, Vec<BufferDef>);

fn decode_key_and_map(input: &mut Decoder<'_>, key_len: usize) -> Result<KeyAndMap> {
    let counts = decode_counts(input)?;
    let key = input.bytes(key_len, "key")?.into();
    input.pad_to_8()?;
    let (extents, buffers) = decode_map(input, counts)?;
    Ok((key, extents, buffers))
}

fn decode_put(input: &mut Decoder<'_>) -> Result<Record> {
    let (bucket, key_len) = decode_blob_name(input)?;
    let version = Version(input.u64("version")?);
    let len = input.u64("len")?;
    let (key, extents, buffers) = decode_key_and_map(input, key_len)?;
    Ok(Record::Put { bucket, key, version, len, extents, buffers, attributes: None })
}

fn decode_splice(input: &mut Decoder<'_>) -> Result<Record> {
    let (bucket, key_len) = decode_blob_name(input)?;
    let base = Version(input.u64("base")?);
    let version = Version(input.u64("version")?);
    let len = input.u64("len")?;
    let cut = input.u64("cut.start")?..input.u64("cut.end")?;
    let (key, extents, buffers) = decode_key_and_map(input, key_len)?;
    Ok(Record::Splice { bucket, key, base, version, len, cut, extents, buffers })
}

fn decode_attributes(input: &mut Decoder<'_>) -> Result<Record> {
    let (bucket, key_len) = decode_blob_name(input)?;
    let base = Version(input.u64("base")?);
    let version = Version(input.u64("version")?);
    let key = input.bytes(key_len, "key")?.into();
    Ok(Record::Attributes { bucket, key, base, version, attributes: None })
}

/// What is wrong with a version that follows another, if anything.
pub(super) fn check_follows(base: Version, version: Version) -> std::result::Result<(), Fault> {
    match base < version {
        true => Ok(()),
        false => Err(format!("version {} does not follow {}", version.0, base.0)),
    }
}

fn attributes_len(attributes: Option<&Attributes>) -> usize {
    attributes.map_or(0, Attributes::encoded_len)
}
