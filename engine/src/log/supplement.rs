//! What a superblock says since version 1.1 of the format, where 1.0 left zeros: the checkpoint
//! before the newest one, and the epoch that has begun. A bit of the compat features announces it.
//!
//! A 1.0 engine keeps the bit and writes zeros again: they say nothing.

use super::codec::{Decoder, Encoder};
use super::places::{CHUNK_LEN, CHUNKS_MAX, Chunk, LogStart, RootRef, check_chunks};
use crate::error::Result;
use crate::types::{BatchSeq, Epoch};

/// The compat feature: this part of the superblock has a meaning.
pub const COMPAT_SUPPLEMENT: u64 = 1;
/// Bytes of it.
pub(super) const SUPPLEMENT_LEN: usize = LogStart::LEN + 32 + CHUNK_LEN * CHUNKS_MAX;

/// A checkpoint that is kept until the next one is there, with the log that it needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Previous {
    /// Its root; `None`: the log is there from the store's first batch on.
    pub checkpoint: Option<RootRef>,
    /// The first batch that a recovery from it reads.
    pub log_start: LogStart,
}

impl Previous {
    /// What is wrong with the values, if anything.
    pub(super) fn validate(&self) -> std::result::Result<(), String> {
        match &self.checkpoint {
            Some(root) if root.chunks.is_empty() => Err("a checkpoint without a place".into()),
            Some(root) => check_chunks(&root.chunks, root.len),
            None => Ok(()),
        }
    }
}

/// Appends at most [`SUPPLEMENT_LEN`] bytes; zeros follow.
pub(super) fn encode(out: &mut Encoder<'_>, previous: Option<&Previous>, begun: Epoch) {
    match previous {
        Some(previous) => previous.log_start.encode(out),
        None => out.zeros(LogStart::LEN),
    }
    let root = previous.and_then(|previous| previous.checkpoint.as_ref());
    out.u64(root.map_or(0, |root| root.seq.0));
    out.u64(root.map_or(0, |root| root.len));
    out.u32(root.map_or(0, |root| root.crc));
    out.len32(root.map_or(0, |root| root.chunks.len()));
    out.u32(begun.0);
    out.u32(previous.map_or(0, |previous| previous.log_start.chain));
    root.iter().flat_map(|root| &root.chunks).for_each(|chunk| chunk.encode(out));
}

/// Reads [`SUPPLEMENT_LEN`] bytes.
pub(super) fn decode(input: &mut Decoder<'_>) -> Result<(Option<Previous>, Epoch)> {
    let end = input.position() + SUPPLEMENT_LEN;
    let start_at = input.bytes(LogStart::LEN, "previous.log_start")?;
    let seq = BatchSeq(input.u64("previous.root.seq")?);
    let len = input.u64("previous.root.len")?;
    let crc = input.u32("previous.root.crc")?;
    let count = input.u32("previous.root.chunk_count")? as usize;
    let begun = Epoch(input.u32("begun")?);
    let chain = input.u32("previous.log_start.chain")?;
    if count > CHUNKS_MAX {
        return Err(input.corrupt(format!("{count} chunks of the previous root")));
    }
    let chunks = (0..count).map(|_| Chunk::decode(input)).collect::<Result<Vec<_>>>()?;
    input.zeros(end - input.position(), "unused chunks of the previous root")?;
    if chunks.is_empty() && (seq, len, crc) != (BatchSeq(0), 0, 0) {
        return Err(input.corrupt("a previous checkpoint without a place"));
    }
    if start_at.iter().all(|byte| *byte == 0) {
        return match count == 0 && chain == 0 {
            true => Ok((None, begun)),
            false => Err(input.corrupt("a previous checkpoint without a log")),
        };
    }
    let mut start = Decoder::new("superblock previous.log_start", start_at);
    let log_start = LogStart::decode(&mut start, chain)?;
    let checkpoint = (count > 0).then_some(RootRef { seq, len, crc, chunks });
    Ok((Some(Previous { checkpoint, log_start }), begun))
}
