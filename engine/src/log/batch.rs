//! The batch: the unit of the log and of atomicity. A header with the records, then the payload
//! area. This file holds the header and the decoder, [`layout`](super::layout) the builder.

use std::fmt;
use std::ops::RangeInclusive;

use super::codec::{Decoder, Encoder, crc_with_hole, is_zeros};
pub use super::layout::{BatchItem, BatchLayout, encode, layout};
use super::record::{RECORD_HEADER_LEN, Record};
use super::superblock::Cut;
use super::{FORMAT_MAJOR, FORMAT_MINOR};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{BLOCK, SEGMENT_SIZE_MAX};
use crate::plant::{Plant, planted};
use crate::types::{BatchSeq, Epoch, Place, SegmentId, TierSegment, Uuid};

/// First bytes of a batch.
pub const BATCH_MAGIC: [u8; 8] = *b"isobatch";
/// Bytes of the header before the records.
pub const BATCH_FIXED_LEN: usize = 160;
/// Alignment of batches, payload areas and payloads of at least this size.
pub const BATCH_ALIGN: usize = BLOCK;

pub(super) const CRC_AT: usize = BATCH_FIXED_LEN - 4;
// The same in every version to come, with the magic and the checksum: see `check_place`.
const HEADER_LEN_AT: usize = 12;
const STORE_AT: usize = 16;
const DEVICE_AT: usize = 32;
const DEVICE_OFFSET_AT: usize = 72;
const SEGMENT_AT: usize = 80;
const GENERATION_AT: usize = 84;
const TIER_AT: usize = 88;
const NO_SEGMENT: u32 = u32::MAX;
const _: () = assert!(BATCH_FIXED_LEN.is_multiple_of(8) && BATCH_FIXED_LEN <= BATCH_ALIGN);

/// What a batch says about itself, apart from its lengths.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatchIdentity {
    /// The store.
    pub store: Uuid,
    /// The device.
    pub device: Uuid,
    /// The epoch that wrote it.
    pub epoch: Epoch,
    /// The log it belongs to: 0.
    pub stream: u16,
    /// Its place in the log's order.
    pub seq: BatchSeq,
    /// The durable watermark when it was written, below `seq`.
    pub watermark: BatchSeq,
    /// Header checksum of batch `seq - 1`; 0 for the first of a store.
    pub chain: u32,
    /// The log segment that holds it.
    pub segment: TierSegment,
    /// The segment's generation.
    pub generation: u32,
    /// Its first byte on the device, a multiple of 4096.
    pub device_offset: u64,
    /// The log segment that follows this one and its generation, once known.
    pub next: Option<(SegmentId, u32)>,
    /// Seconds since 1970.
    pub wall_clock: u64,
}

/// The lengths of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchShape {
    /// Bytes of the fixed part and the records.
    pub header_len: u32,
    /// Where the payload area begins, from the batch's start: `header_len` rounded up to 4096.
    pub payload_offset: u32,
    /// All bytes, a multiple of 4096.
    pub total_len: u32,
    /// How many records.
    pub record_count: u32,
}

/// What the reader of a batch knows of it in advance.
#[derive(Clone, Debug)]
pub struct BatchExpect<'a> {
    /// The store.
    pub store: Uuid,
    /// The device.
    pub device: Uuid,
    /// The log segment.
    pub segment: TierSegment,
    /// The segment's generation.
    pub generation: u32,
    /// Where the bytes were read.
    pub device_offset: u64,
    /// The sequence number; `None` when scanning past damage.
    pub seq: Option<BatchSeq>,
    /// The predecessor's header checksum; `None` when scanning past damage.
    pub chain: Option<u32>,
    /// Epochs that may stand here: from that of the predecessor to that of the superblock.
    pub epochs: RangeInclusive<Epoch>,
    /// The superblock's cut table.
    pub cuts: &'a [Cut],
}

/// A batch whose header is intact and belongs where it was found. Payloads are not verified: the
/// checks in the records do that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BatchView {
    /// What it says about itself.
    pub identity: BatchIdentity,
    /// Its lengths.
    pub shape: BatchShape,
    /// Its header checksum: the chain of its successor.
    pub crc: u32,
    records: Vec<Record>,
}

impl BatchView {
    /// The records, in order. All were validated when the batch was decoded.
    pub fn records(&self) -> std::slice::Iter<'_, Record> {
        self.records.iter()
    }

    /// The records.
    pub fn into_records(self) -> Vec<Record> {
        self.records
    }
}

/// Why there is no batch in these bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BatchFault {
    /// No magic.
    NotABatch {
        /// The first block is all zeros: never written, as a log segment is before its use.
        blank: bool,
    },
    /// Intact, of another store.
    ForeignStore(Uuid),
    /// Intact, but written for another device, segment, generation or offset.
    WrongPlace(String),
    /// The header's checksum, or a length needed to compute it, is wrong.
    BadChecksum(String),
    /// Intact, but not the successor of its predecessor.
    BadChain(String),
    /// Intact, but what it says cannot be: a defect or a newer format, never a torn write.
    BadContent(Error),
    /// Intact, of an epoch that cannot stand here any more, or discarded by a cut.
    StaleEpoch {
        /// Its epoch.
        epoch: Epoch,
        /// Its sequence number.
        seq: BatchSeq,
    },
    /// Intact, of an epoch that the superblock has not seen: the superblock is an old one.
    FutureEpoch {
        /// Its epoch.
        epoch: Epoch,
        /// Its sequence number.
        seq: BatchSeq,
    },
    /// The header is longer than the bytes given.
    Truncated {
        /// How many there are.
        have: usize,
        /// How many it takes.
        need: usize,
    },
}

impl BatchFault {
    /// Whether a crash can leave this beyond the watermark. The others are errors anywhere.
    pub fn may_be_torn(&self) -> bool {
        !matches!(self, BatchFault::BadContent(_) | BatchFault::FutureEpoch { .. })
    }

    /// This fault as an error; `place` says where the batch was read.
    pub fn to_error(&self, place: impl fmt::Display) -> Error {
        let kind = match self {
            BatchFault::BadContent(error) => error.kind(),
            _ => ErrorKind::Corrupt,
        };
        Error::new(kind, format!("batch at {place}: {self}"))
    }
}

impl fmt::Display for BatchFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchFault::NotABatch { blank: true } => write!(f, "nothing was written here"),
            BatchFault::NotABatch { blank: false } => write!(f, "no batch begins here"),
            BatchFault::ForeignStore(store) => write!(f, "it belongs to store {store}"),
            BatchFault::WrongPlace(why) | BatchFault::BadChecksum(why) => f.write_str(why),
            BatchFault::BadChain(why) => f.write_str(why),
            BatchFault::BadContent(error) => f.write_str(error.message()),
            BatchFault::StaleEpoch { epoch, seq } => {
                write!(f, "batch {} of epoch {} does not count any more", seq.0, epoch.0)
            }
            BatchFault::FutureEpoch { epoch, seq } => {
                write!(f, "batch {} is of epoch {}, newer than the superblock", seq.0, epoch.0)
            }
            BatchFault::Truncated { have, need } => write!(f, "{have} bytes of {need} are here"),
        }
    }
}

/// How many bytes [`decode_header`] needs, from the first block of a batch.
///
/// The length is not verified yet: it lies in 160..=[`SEGMENT_SIZE_MAX`], nothing more. Callers
/// bound it by what is left of the segment, too.
pub fn peek_header_len(bytes: &[u8]) -> std::result::Result<usize, BatchFault> {
    if bytes.len() < BATCH_FIXED_LEN {
        return Err(BatchFault::Truncated { have: bytes.len(), need: BATCH_FIXED_LEN });
    }
    if !bytes.starts_with(&BATCH_MAGIC) {
        let block = &bytes[..bytes.len().min(BATCH_ALIGN)];
        return Err(BatchFault::NotABatch { blank: is_zeros(block) });
    }
    let len = read_u32(bytes, HEADER_LEN_AT);
    if (len as usize) < BATCH_FIXED_LEN || u64::from(len) > SEGMENT_SIZE_MAX {
        return Err(BatchFault::BadChecksum(format!("a header of {len} bytes")));
    }
    Ok(len as usize)
}

/// Reads and verifies a batch's header and records. `bytes` begins with the batch and holds at
/// least [`peek_header_len`] bytes of it.
pub fn decode_header(
    bytes: &[u8],
    expect: &BatchExpect<'_>,
) -> std::result::Result<BatchView, BatchFault> {
    let header_len = peek_header_len(bytes)?;
    let Some(header) = bytes.get(..header_len) else {
        return Err(BatchFault::Truncated { have: bytes.len(), need: header_len });
    };
    let stored = read_u32(header, CRC_AT);
    let crc = crc_with_hole(header, CRC_AT);
    if stored != crc && !planted(Plant::BatchChecksumIgnored) {
        let message = format!("header checksum is {stored:#010x}, its bytes give {crc:#010x}");
        return Err(BatchFault::BadChecksum(message));
    }
    let any = planted(Plant::BatchIdentityIgnored);
    check_place(header, expect).or_else(|fault| if any { Ok(()) } else { Err(fault) })?;
    let mut input = Decoder::new("batch header", header);
    let (identity, shape) = decode_fixed(&mut input).map_err(BatchFault::BadContent)?;
    check_order(&identity, expect).or_else(|fault| if any { Ok(()) } else { Err(fault) })?;
    let records = decode_records(&mut input, &identity, &shape).map_err(BatchFault::BadContent)?;
    Ok(BatchView { identity, shape, crc, records })
}

/// The caller has checked that the field is inside.
fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(read_array(bytes, at))
}

fn read_array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

/// Appends the fixed part, the checksum still zero.
pub(super) fn encode_fixed(out: &mut Encoder<'_>, identity: &BatchIdentity, shape: &BatchShape) {
    out.bytes(&BATCH_MAGIC);
    out.u16(FORMAT_MAJOR);
    out.u16(FORMAT_MINOR);
    out.u32(shape.header_len);
    out.uuid(identity.store);
    out.uuid(identity.device);
    out.u32(identity.epoch.0);
    out.u16(identity.stream);
    out.u16(0); // flags
    out.u64(identity.seq.0);
    out.u64(identity.watermark.0);
    out.u64(identity.device_offset);
    out.u32(identity.segment.segment.0);
    out.u32(identity.generation);
    out.u8(identity.segment.tier.0);
    out.zeros(3);
    out.u32(identity.chain);
    out.u32(shape.payload_offset);
    out.u32(shape.total_len);
    out.u32(shape.record_count);
    let (next, next_generation) = match identity.next {
        Some((segment, generation)) => (segment.0, generation),
        None => (NO_SEGMENT, 0),
    };
    out.u32(next);
    out.u32(next_generation);
    out.u32(0);
    out.u64(identity.wall_clock);
    out.zeros_to(BATCH_FIXED_LEN);
}

fn decode_fixed(input: &mut Decoder<'_>) -> Result<(BatchIdentity, BatchShape)> {
    input.bytes(BATCH_MAGIC.len(), "magic")?;
    let major = input.u16("major")?;
    input.u16("minor")?;
    if major != FORMAT_MAJOR {
        let message = format!("format {major}, this version reads {FORMAT_MAJOR}");
        return Err(input.error(ErrorKind::Format, message));
    }
    let header_len = input.u32("header_len")?;
    let store = input.uuid("store")?;
    let device = input.uuid("device")?;
    let epoch = Epoch(input.u32("epoch")?);
    let stream = input.u16("stream")?;
    let flags = input.u16("flags")?;
    if stream != 0 || flags != 0 {
        let message = format!("stream {stream}, flags {flags:#x} are unknown");
        return Err(input.error(ErrorKind::Format, message));
    }
    let seq = BatchSeq(input.u64("seq")?);
    let watermark = BatchSeq(input.u64("watermark")?);
    let device_offset = input.u64("device_offset")?;
    let number = SegmentId(input.u32("segment")?);
    let generation = input.u32("generation")?;
    let tier = input.tier("tier")?;
    input.zeros(3, "reserved")?;
    let segment = TierSegment { tier, segment: number };
    let chain = input.u32("chain")?;
    let payload_offset = input.u32("payload_offset")?;
    let total_len = input.u32("total_len")?;
    let record_count = input.u32("record_count")?;
    let next = (input.u32("next_segment")?, input.u32("next_generation")?);
    input.zeros(4, "reserved")?;
    let wall_clock = input.u64("wall_clock")?;
    input.zeros(CRC_AT - input.position(), "reserved")?;
    input.u32("crc")?;
    if next.0 == NO_SEGMENT && next.1 != 0 {
        return Err(input.corrupt("no next segment, yet a generation of it"));
    }
    let next = (next.0 != NO_SEGMENT).then_some((SegmentId(next.0), next.1));
    let shape = BatchShape { header_len, payload_offset, total_len, record_count };
    let identity = BatchIdentity {
        store,
        device,
        epoch,
        stream,
        seq,
        watermark,
        chain,
        segment,
        generation,
        device_offset,
        next,
        wall_clock,
    };
    check_fixed(&identity, &shape).map_err(|fault| input.corrupt(fault))?;
    Ok((identity, shape))
}

/// What is wrong with a header's own fields, if anything.
pub(super) fn check_fixed(
    identity: &BatchIdentity,
    shape: &BatchShape,
) -> std::result::Result<(), String> {
    let BatchShape { header_len, payload_offset, total_len, .. } = *shape;
    let align = BATCH_ALIGN as u32;
    if header_len.checked_next_multiple_of(align) != Some(payload_offset)
        || total_len < payload_offset
        || !total_len.is_multiple_of(align)
        || u64::from(total_len) > SEGMENT_SIZE_MAX
    {
        return Err(format!("lengths {header_len}, {payload_offset}, {total_len} do not agree"));
    }
    let offset = identity.device_offset;
    if !offset.is_multiple_of(BATCH_ALIGN as u64)
        || offset.saturating_add(u64::from(total_len)) > super::codec::DEVICE_OFFSET_END
    {
        return Err(format!("a batch of {total_len} bytes at {offset:#x}"));
    }
    if identity.watermark >= identity.seq {
        let (seq, watermark) = (identity.seq.0, identity.watermark.0);
        return Err(format!("batch {seq} names the watermark {watermark}"));
    }
    if identity.next.is_some_and(|(segment, _)| segment.0 == NO_SEGMENT) {
        return Err("the next segment's number stands for none".into());
    }
    Ok(())
}

/// Whether the batch was written here. Looked at before anything that only some version of the
/// format understands: what lies behind the log's end may be a value that holds another store.
fn check_place(header: &[u8], expect: &BatchExpect<'_>) -> std::result::Result<(), BatchFault> {
    let store = Uuid(read_array(header, STORE_AT));
    if store != expect.store {
        return Err(BatchFault::ForeignStore(store));
    }
    let device = Uuid(read_array(header, DEVICE_AT));
    let offset = u64::from_le_bytes(read_array(header, DEVICE_OFFSET_AT));
    let segment = read_u32(header, SEGMENT_AT);
    let generation = read_u32(header, GENERATION_AT);
    let tier = header[TIER_AT];
    let due = (expect.segment.tier.0, expect.segment.segment.0, expect.generation);
    if device == expect.device
        && offset == expect.device_offset
        && (tier, segment, generation) == due
    {
        return Ok(());
    }
    Err(BatchFault::WrongPlace(format!(
        "written for device {device} tier {tier} segment {segment} generation {generation} at \
         {offset:#x}, read from device {} tier {} segment {} generation {} at {:#x}",
        expect.device, due.0, due.1, due.2, expect.device_offset,
    )))
}

/// Whether the batch is the one that is due.
fn check_order(
    found: &BatchIdentity,
    expect: &BatchExpect<'_>,
) -> std::result::Result<(), BatchFault> {
    let (epoch, seq) = (found.epoch, found.seq);
    if epoch > *expect.epochs.end() {
        return Err(BatchFault::FutureEpoch { epoch, seq });
    }
    if epoch < *expect.epochs.start() || expect.cuts.iter().any(|cut| cut.discards(epoch, seq)) {
        return Err(BatchFault::StaleEpoch { epoch, seq });
    }
    if let Some(due) = expect.seq.filter(|&due| due != seq) {
        return Err(BatchFault::BadChain(format!("batch {} where {} is due", seq.0, due.0)));
    }
    match expect.chain.filter(|&chain| chain != found.chain) {
        Some(chain) => Err(BatchFault::BadChain(format!(
            "batch {} follows {:#010x}, its predecessor is {chain:#010x}",
            seq.0, found.chain
        ))),
        None => Ok(()),
    }
}

/// Decodes all records before any is used: a batch applies whole or not at all.
fn decode_records(
    input: &mut Decoder<'_>,
    identity: &BatchIdentity,
    shape: &BatchShape,
) -> Result<Vec<Record>> {
    let count = shape.record_count as usize;
    if count > input.remaining() / RECORD_HEADER_LEN {
        return Err(input.corrupt(format!("{count} records in {} bytes", input.remaining())));
    }
    let mut records = Vec::new();
    for _ in 0..count {
        let record = Record::decode(input)?;
        check_payloads(&record, identity, shape).map_err(|fault| input.corrupt(fault))?;
        records.push(record);
    }
    match input.remaining() {
        0 => Ok(records),
        left => Err(input.corrupt(format!("{left} bytes follow the last record"))),
    }
}

/// Buffers that lie in this batch lie in its payload area.
fn check_payloads(
    record: &Record,
    identity: &BatchIdentity,
    shape: &BatchShape,
) -> std::result::Result<(), String> {
    let start = identity.device_offset;
    let area = start + u64::from(shape.payload_offset)..start + u64::from(shape.total_len);
    for def in record.buffers() {
        let Place::Device { tier, offset } = def.location.place() else { continue };
        let end = offset + u64::from(def.stored_len);
        let touches = tier == identity.segment.tier && offset < area.end && end > start;
        if touches && (offset < area.start || end > area.end) {
            return Err(format!("buffer {} lies across the batch's payload area", def.id.0));
        }
    }
    Ok(())
}
