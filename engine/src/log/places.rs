//! Pointers that the superblock and the checkpoint root share: chunks, roots, the log's start, cuts.

use super::codec::{Decoder, Encoder, check_location};
use super::fields::{decode_segment, encode_segment};
use crate::error::Result;
use crate::limits::BLOCK;
use crate::types::{BatchSeq, Epoch, Location, TierSegment};

/// Most chunks of one checkpoint root or partition.
pub const CHUNKS_MAX: usize = 64;
/// Bytes of a [`Cut`].
pub(super) const CUT_LEN: usize = 16;
/// Bytes of a [`Chunk`].
pub(super) const CHUNK_LEN: usize = 16;

/// Batches of `epoch` with a sequence number beyond `seq` were discarded and never count again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The epoch that ended without all its batches.
    pub epoch: Epoch,
    /// Its last batch that counts.
    pub seq: BatchSeq,
}

/// A contiguous piece of a structure that is stored in several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// Where it begins, on a device.
    pub location: Location,
    /// Its length.
    pub len: u32,
}

/// Where the checkpoint root is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RootRef {
    /// The batch at which the root was made.
    pub seq: BatchSeq,
    /// Its length.
    pub len: u64,
    /// Its checksum field.
    pub crc: u32,
    /// Its pieces, in order.
    pub chunks: Vec<Chunk>,
}

/// The first batch that a recovery reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogStart {
    /// The log segment.
    pub segment: TierSegment,
    /// The segment's generation.
    pub generation: u32,
    /// Device offset of the batch.
    pub offset: u64,
    /// The batch's sequence number.
    pub seq: BatchSeq,
    /// Header checksum of its predecessor, 0 for the first batch of a store.
    pub chain: u32,
}

impl Cut {
    pub(super) fn encode(&self, out: &mut Encoder<'_>) {
        out.u32(self.epoch.0);
        out.u32(0);
        out.u64(self.seq.0);
    }

    pub(super) fn decode(input: &mut Decoder<'_>) -> Result<Cut> {
        let epoch = Epoch(input.u32("cut.epoch")?);
        input.zeros(4, "cut.reserved")?;
        Ok(Cut { epoch, seq: BatchSeq(input.u64("cut.seq")?) })
    }

    /// Whether this cut discards batch `seq` of `epoch`.
    pub fn discards(&self, epoch: Epoch, seq: BatchSeq) -> bool {
        self.epoch == epoch && seq > self.seq
    }
}

impl Chunk {
    pub(super) fn encode(&self, out: &mut Encoder<'_>) {
        out.location(self.location);
        out.u32(self.len);
        out.u32(0);
    }

    pub(super) fn decode(input: &mut Decoder<'_>) -> Result<Chunk> {
        let location = input.location("chunk.location")?;
        let len = input.u32("chunk.len")?;
        input.zeros(4, "chunk.reserved")?;
        let chunk = Chunk { location, len };
        chunk.validate().map_err(|fault| input.corrupt(fault))?;
        Ok(chunk)
    }

    fn validate(&self) -> std::result::Result<(), String> {
        if self.len == 0 {
            return Err(format!("the chunk at {:?} is empty", self.location));
        }
        check_location(self.location, u64::from(self.len))
    }
}

/// What is wrong with the pieces of a structure of `len` bytes, if anything.
pub(super) fn check_chunks(chunks: &[Chunk], len: u64) -> std::result::Result<(), String> {
    if chunks.len() > CHUNKS_MAX {
        return Err(format!("{} chunks, {CHUNKS_MAX} at most", chunks.len()));
    }
    chunks.iter().try_for_each(Chunk::validate)?;
    let sum: u64 = chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
    if sum != len {
        return Err(format!("chunks of {sum} bytes for a structure of {len}"));
    }
    Ok(())
}

impl LogStart {
    /// Bytes of a log start.
    pub(super) const LEN: usize = 32;

    pub(super) fn encode(&self, out: &mut Encoder<'_>) {
        encode_segment(out, self.segment, self.generation, 0);
        out.u64(self.offset);
        out.u64(self.seq.0);
    }

    /// Reads a log start, whose chain checksum stands in a field of its enclosing structure.
    pub(super) fn decode(input: &mut Decoder<'_>, chain: u32) -> Result<LogStart> {
        let (segment, generation, ()) = decode_segment(input, |input| input.zeros(1, "reserved"))?;
        let offset = input.u64("log_start.offset")?;
        let seq = BatchSeq(input.u64("log_start.seq")?);
        if !offset.is_multiple_of(BLOCK as u64) || seq.0 == 0 {
            let message = format!("the log starts with batch {} at {offset:#x}", seq.0);
            return Err(input.corrupt(message));
        }
        Ok(LogStart { segment, generation, offset, seq, chain })
    }
}
