//! A segment's own words: the header block at its start, and the summary and footer at its end.
//!
//! Liveness is decided by index and table, never by these. They let a store be salvaged by
//! scanning, and show a cleaner what to ask the index for.

use super::checkpoint::{Entries, check_format, check_start};
use super::codec::{Decoder, Encoder, check_seal, pad8, seal};
use super::fields::SegmentKind;
use super::map::{ENCODING_RAW, check_key};
use super::{FORMAT_MAJOR, FORMAT_MINOR};
use crate::error::{ErrorKind, Result, fail};
use crate::limits::{BLOCK, BUFFER_SIZE_MAX, SEGMENT_SIZE_MAX, TIERS_MAX};
use crate::types::{BucketId, BufferId, Epoch, SegmentId, TierSegment, Uuid, Version};

/// First bytes of a segment.
pub const SEGMENT_MAGIC: [u8; 8] = *b"iso-segm";
/// First bytes of a segment's footer.
pub const FOOTER_MAGIC: [u8; 8] = *b"iso-foot";
/// Bytes of a segment's header block, and of its footer block.
pub const SEGMENT_BLOCK_LEN: usize = 4096;
/// Bytes of a summary entry before its key.
pub const SUMMARY_ENTRY_LEN: usize = 56;

const CRC_AT: usize = SEGMENT_BLOCK_LEN - 4;
const TABLE_FLAG: u16 = 1;
const _: () = assert!(SEGMENT_BLOCK_LEN == BLOCK && SUMMARY_ENTRY_LEN.is_multiple_of(8));

/// Which use of which segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentIdentity {
    /// The store.
    pub store: Uuid,
    /// The device.
    pub device: Uuid,
    /// The segment.
    pub segment: TierSegment,
    /// Counts the uses of all segments of the store.
    pub generation: u32,
}

/// The block at a segment's start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// Which segment.
    pub identity: SegmentIdentity,
    /// What it holds.
    pub kind: SegmentKind,
    /// The epoch that opened it.
    pub epoch: Epoch,
    /// The shard that writes it.
    pub writer: u32,
    /// Seconds since 1970.
    pub wall_clock: u64,
}

impl SegmentIdentity {
    fn encode(&self, out: &mut Encoder<'_>) {
        out.uuid(self.store);
        out.uuid(self.device);
        out.u32(self.segment.segment.0);
        out.u32(self.generation);
        out.u8(self.segment.tier.0);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<SegmentIdentity> {
        let store = input.uuid("store")?;
        let device = input.uuid("device")?;
        let segment = SegmentId(input.u32("segment")?);
        let generation = input.u32("generation")?;
        let tier = input.tier("tier")?;
        Ok(SegmentIdentity { store, device, segment: TierSegment { tier, segment }, generation })
    }

    fn check(&self, input: &Decoder<'_>, expect: Option<&SegmentIdentity>) -> Result<()> {
        match expect {
            Some(expect) if expect != self => {
                Err(input.corrupt(format!("written for {self:?}, read as {expect:?}")))
            }
            _ => Ok(()),
        }
    }

    fn check_written(&self) -> Result<()> {
        match self.segment.tier.index() {
            0..TIERS_MAX => Ok(()),
            tier => fail!(Internal, "segment of tier {tier} not written"),
        }
    }
}

impl SegmentHeader {
    /// The block.
    pub fn encode(&self) -> Result<Vec<u8>> {
        self.identity.check_written()?;
        let mut block = Vec::with_capacity(SEGMENT_BLOCK_LEN);
        let mut out = Encoder::new(&mut block);
        out.bytes(&SEGMENT_MAGIC);
        out.u16(FORMAT_MAJOR);
        out.u16(FORMAT_MINOR);
        out.u32(self.epoch.0);
        self.identity.encode(&mut out);
        out.u8(self.kind as u8);
        out.u16(0);
        out.u32(self.writer);
        out.u64(self.wall_clock);
        out.zeros_to(SEGMENT_BLOCK_LEN);
        seal(&mut block, CRC_AT);
        Ok(block)
    }

    /// Reads the block; without `expect`, whatever segment it is of (for salvage).
    pub fn decode(bytes: &[u8], expect: Option<&SegmentIdentity>) -> Result<SegmentHeader> {
        let mut input = open_block("segment header", bytes, SEGMENT_MAGIC)?;
        let epoch = Epoch(input.u32("epoch")?);
        let identity = SegmentIdentity::decode(&mut input)?;
        let kind = SegmentKind::decode(&mut input)?;
        input.zeros(2, "reserved")?;
        let writer = input.u32("writer")?;
        let wall_clock = input.u64("wall_clock")?;
        input.zeros(input.remaining(), "reserved")?;
        identity.check(&input, expect)?;
        Ok(SegmentHeader { identity, kind, epoch, writer, wall_clock })
    }
}

/// Checks the magic, checksum and format of a block; returns a decoder behind them that ends
/// before the checksum.
fn open_block<'a>(what: &'static str, bytes: &'a [u8], magic: [u8; 8]) -> Result<Decoder<'a>> {
    let Some(block) = bytes.get(..SEGMENT_BLOCK_LEN) else {
        fail!(Corrupt, "{what}: {} of {SEGMENT_BLOCK_LEN} bytes", bytes.len());
    };
    let mut input = Decoder::new(what, &block[..CRC_AT]);
    check_start(&mut input, magic)?;
    check_seal(what, block, CRC_AT)?;
    check_format(&mut input)?;
    Ok(input)
}

/// A buffer of a sealed segment, as it was when it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SummaryEntry<K> {
    /// The buffer.
    pub buffer: BufferId,
    /// The bucket it was written for.
    pub bucket: BucketId,
    /// The key it was written for.
    pub key: K,
    /// The version it was written for.
    pub version: Version,
    /// The byte of the value that the buffer begins with.
    pub value_offset: u64,
    /// Where its stored bytes begin in the segment.
    pub offset: u32,
    /// Length on the device.
    pub stored_len: u32,
    /// Length before encoding.
    pub raw_len: u32,
    /// CRC-32 of the raw bytes.
    pub logical_crc: u32,
    /// How raw became stored.
    pub encoding: u8,
    /// Whether the buffer table holds it; a lone buffer's definition stands with its blob.
    pub table: bool,
}

/// Where the summary of a sealed segment is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Footer {
    /// Which segment.
    pub identity: SegmentIdentity,
    /// The epoch that sealed it.
    pub epoch: Epoch,
    /// Where the summary begins in the segment.
    pub summary_offset: u32,
    /// Its length without padding.
    pub summary_len: u32,
    /// How many entries.
    pub count: u32,
    /// CRC-32 of the summary.
    pub summary_crc: u32,
}

/// Bytes of these entries in a summary, for a writer that must leave room.
pub fn summary_len<K: AsRef<[u8]>>(entries: &[SummaryEntry<K>]) -> usize {
    entries.iter().map(|entry| summary_entry_len(entry.key.as_ref().len())).sum()
}

/// Bytes of one entry in a summary.
pub const fn summary_entry_len(key_len: usize) -> usize {
    SUMMARY_ENTRY_LEN + pad8(key_len)
}

/// Bytes at a segment's end that a summary of this length takes, footer included.
pub const fn tail_len(summary_len: usize) -> usize {
    summary_len.next_multiple_of(BLOCK) + SEGMENT_BLOCK_LEN
}

/// The last bytes of a segment that is being sealed: summary, padding, footer. They go to
/// `segment_size - tail.len()`.
pub fn encode_tail<K: AsRef<[u8]>>(
    entries: &[SummaryEntry<K>],
    identity: &SegmentIdentity,
    epoch: Epoch,
    segment_size: u64,
) -> Result<Vec<u8>> {
    identity.check_written()?;
    let summary_len = summary_len(entries);
    let tail_len = tail_len(summary_len);
    if segment_size > SEGMENT_SIZE_MAX || tail_len + SEGMENT_BLOCK_LEN > segment_size as usize {
        fail!(Internal, "a summary of {summary_len} bytes in a segment of {segment_size}");
    }
    let summary_offset = segment_size as usize - tail_len;
    let mut tail = Vec::with_capacity(tail_len);
    let mut out = Encoder::new(&mut tail);
    for entry in entries {
        if let Err(fault) = entry.check(summary_offset as u64) {
            fail!(Internal, "summary entry not written: {fault}");
        }
        entry.encode(&mut out);
    }
    out.zeros_to(tail_len - SEGMENT_BLOCK_LEN);
    let summary_crc = crc32fast::hash(&tail[..summary_len]);
    let mut out = Encoder::new(&mut tail);
    out.bytes(&FOOTER_MAGIC);
    out.u16(FORMAT_MAJOR);
    out.u16(FORMAT_MINOR);
    out.u32(epoch.0);
    identity.encode(&mut out);
    out.zeros(3);
    out.len32(summary_offset);
    out.len32(summary_len);
    out.len32(entries.len());
    out.u32(summary_crc);
    out.zeros_to(SEGMENT_BLOCK_LEN);
    seal(&mut tail[tail_len - SEGMENT_BLOCK_LEN..], CRC_AT);
    Ok(tail)
}

impl Footer {
    /// Reads the last block of a segment; without `expect`, whatever segment it is of.
    pub fn decode(
        bytes: &[u8],
        expect: Option<&SegmentIdentity>,
        segment_size: u64,
    ) -> Result<Footer> {
        let mut input = open_block("segment footer", bytes, FOOTER_MAGIC)?;
        let epoch = Epoch(input.u32("epoch")?);
        let identity = SegmentIdentity::decode(&mut input)?;
        input.zeros(3, "reserved")?;
        let summary_offset = input.u32("summary_offset")?;
        let summary_len = input.u32("summary_len")?;
        let count = input.u32("count")?;
        let summary_crc = input.u32("summary_crc")?;
        input.zeros(input.remaining(), "reserved")?;
        identity.check(&input, expect)?;
        let end = u64::from(summary_offset) + tail_len(summary_len as usize) as u64;
        if end != segment_size || (summary_offset as usize) < SEGMENT_BLOCK_LEN {
            let message = format!("a summary of {summary_len} bytes at {summary_offset}");
            return Err(input.corrupt(message));
        }
        Ok(Footer { identity, epoch, summary_offset, summary_len, count, summary_crc })
    }

    /// The entries of the summary that these bytes are; padding may follow them.
    pub fn entries<'a>(
        &self,
        summary: &'a [u8],
    ) -> Result<impl Iterator<Item = Result<SummaryEntry<&'a [u8]>>> + use<'a>> {
        let Some(summary) = summary.get(..self.summary_len as usize) else {
            fail!(Corrupt, "segment summary: {} of {} bytes", summary.len(), self.summary_len);
        };
        let crc = crc32fast::hash(summary);
        if crc != self.summary_crc {
            let stored = self.summary_crc;
            fail!(
                Corrupt,
                "segment summary: checksum is {stored:#010x}, its bytes give {crc:#010x}"
            );
        }
        let data_end = u64::from(self.summary_offset);
        let input = Decoder::new("segment summary", summary);
        let entries = Entries::new(input, self.count, SummaryEntry::decode);
        Ok(entries.map(move |entry| {
            let entry = entry?;
            match entry.check(data_end) {
                Ok(()) => Ok(entry),
                Err(fault) => fail!(Corrupt, "segment summary: {fault}"),
            }
        }))
    }
}

impl<K: AsRef<[u8]>> SummaryEntry<K> {
    fn encode(&self, out: &mut Encoder<'_>) {
        let key = self.key.as_ref();
        out.u64(self.buffer.0);
        out.u64(self.version.0);
        out.u64(self.value_offset);
        out.u32(self.bucket.0);
        out.u32(self.offset);
        out.u32(self.stored_len);
        out.u32(self.raw_len);
        out.u32(self.logical_crc);
        out.len16(key.len());
        out.u16(if self.table { TABLE_FLAG } else { 0 });
        out.u8(self.encoding);
        out.zeros(7);
        out.bytes(key);
        out.pad_to_8();
    }

    /// What is wrong with an entry of a segment whose data ends at `data_end`, if anything.
    fn check(&self, data_end: u64) -> std::result::Result<(), String> {
        // Whose it is may be unknown: then its extent page says it.
        if !self.key.as_ref().is_empty() {
            check_key(self.key.as_ref())?;
        }
        let id = self.buffer.0;
        for (name, len) in [("raw_len", self.raw_len), ("stored_len", self.stored_len)] {
            if len == 0 || len as usize > BUFFER_SIZE_MAX {
                return Err(format!("buffer {id}: {name} is {len}, not 1..={BUFFER_SIZE_MAX}"));
            }
        }
        let end = u64::from(self.offset) + u64::from(self.stored_len);
        if (self.offset as usize) < SEGMENT_BLOCK_LEN || end > data_end {
            return Err(format!("buffer {id} at {}..{end} is outside the data", self.offset));
        }
        Ok(())
    }
}

impl<'a> SummaryEntry<&'a [u8]> {
    fn decode(input: &mut Decoder<'a>) -> Result<SummaryEntry<&'a [u8]>> {
        let buffer = BufferId(input.u64("buffer")?);
        let version = Version(input.u64("version")?);
        let value_offset = input.u64("value_offset")?;
        let bucket = BucketId(input.u32("bucket")?);
        let offset = input.u32("offset")?;
        let stored_len = input.u32("stored_len")?;
        let raw_len = input.u32("raw_len")?;
        let logical_crc = input.u32("logical_crc")?;
        let key_len = input.u16("key_len")?;
        let flags = input.u16("flags")?;
        let encoding = input.u8("encoding")?;
        input.zeros(7, "reserved")?;
        if encoding != ENCODING_RAW || flags & !TABLE_FLAG != 0 {
            let message = format!("encoding {encoding}, flags {flags:#x} are unknown");
            return Err(input.error(ErrorKind::Format, message));
        }
        let key = input.bytes(usize::from(key_len), "key")?;
        input.pad_to_8()?;
        let table = flags & TABLE_FLAG != 0;
        Ok(SummaryEntry {
            buffer,
            bucket,
            key,
            version,
            value_offset,
            offset,
            stored_len,
            raw_len,
            logical_crc,
            encoding,
            table,
        })
    }
}
