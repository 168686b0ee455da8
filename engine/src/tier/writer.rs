//! The one writer of an open segment: decides where buffers go, and what its header and summary
//! say. Does no I/O; shards and the organizer each bring their own.

use std::sync::Arc;

use crate::core::BufferName;
use crate::error::Result;
use crate::index::state::Buffer;
use crate::limits::{BLOCK, KEY_LEN_MAX};
use crate::log::record::SegmentKind;
use crate::log::segment::{
    SegmentHeader, SegmentIdentity, SummaryEntry, encode_tail, summary_entry_len, tail_len,
};
use crate::tier::space::{Purpose, Space};
use crate::types::{Epoch, Location, TierId, TierSegment, Uuid};

/// Who writes: it stands in the segments' headers.
#[derive(Clone, Copy)]
pub struct WriterIdentity {
    /// The store.
    pub store: Uuid,
    /// The tier's device.
    pub device: Uuid,
    /// This open.
    pub epoch: Epoch,
    /// Shard number, or `u32::MAX` for the organizer.
    pub writer: u32,
}

/// Bytes for a device, to be written before anything that follows.
pub struct PlannedWrite {
    /// Byte offset on the tier's device.
    pub offset: u64,
    /// Whole blocks.
    pub bytes: Vec<u8>,
}

struct Open {
    at: TierSegment,
    /// Bytes of the segment in use.
    used: u64,
    entries: Vec<SummaryEntry<Arc<[u8]>>>,
    summary_len: usize,
    is_active: bool,
}

/// See the module.
pub struct SegmentWriter {
    space: Arc<Space>,
    identity: WriterIdentity,
    tier: TierId,
    purpose: Purpose,
    open: Option<Open>,
}

impl SegmentWriter {
    /// A writer with no segment open.
    pub fn new(
        space: Arc<Space>,
        identity: WriterIdentity,
        tier: TierId,
        purpose: Purpose,
    ) -> Self {
        SegmentWriter { space, identity, tier, purpose, open: None }
    }

    /// Opens a segment, if the tier has one to give: its header is to be written, and its opening
    /// to be logged, before anything is placed in it.
    pub fn open(&mut self, wall_clock: u64) -> Result<Option<(TierSegment, u32, PlannedWrite)>> {
        assert!(self.open.is_none(), "the writer of {:?} has a segment open", self.tier);
        let Some(at) = self.space.allocate(self.tier, self.purpose) else { return Ok(None) };
        let identity = self.identity_of(at);
        let header = SegmentHeader {
            identity,
            kind: SegmentKind::Data,
            epoch: self.identity.epoch,
            writer: self.identity.writer,
            wall_clock,
        };
        let offset = self.space.tier(self.tier).offset_of(at.segment);
        self.open = Some(Open {
            at,
            used: BLOCK as u64,
            entries: Vec::new(),
            summary_len: 0,
            is_active: true,
        });
        Ok(Some((at, identity.generation, PlannedWrite { offset, bytes: header.encode()? })))
    }

    fn identity_of(&self, at: TierSegment) -> SegmentIdentity {
        SegmentIdentity {
            store: self.identity.store,
            device: self.identity.device,
            segment: at,
            generation: self.space.tier(at.tier).segment(at.segment).generation(),
        }
    }

    /// Places a chunk of whole blocks holding these buffers: each by name, offset in the chunk
    /// and facts. Their bytes are live from now on. The device offset of the chunk, or `None` if
    /// the open segment has no room or none is open.
    pub fn place(&mut self, len: usize, buffers: &[(&BufferName, u64, &Buffer)]) -> Option<u64> {
        assert!(len.is_multiple_of(BLOCK), "a chunk of {len} bytes is not whole blocks");
        let tier = self.space.tier(self.tier);
        let open = self.open.as_mut()?;
        let added: usize = buffers.iter().map(|(name, ..)| summary_entry_len(name.key.len())).sum();
        let tail = tail_len(open.summary_len + added) as u64;
        if open.used + len as u64 + tail > tier.segment_size {
            return None;
        }
        let start = tier.offset_of(open.at.segment) + open.used;
        for (name, at, buffer) in buffers {
            self.space.bytes_live(Location::device(self.tier, start + at), buffer.stored_len);
            open.entries.push(SummaryEntry {
                buffer: buffer.id,
                bucket: name.bucket,
                key: name.key.clone(),
                version: name.version,
                value_offset: name.value_offset,
                // Within the segment, whose size is at most 64 MiB.
                offset: (open.used + at) as u32,
                stored_len: buffer.stored_len,
                raw_len: buffer.raw_len,
                logical_crc: buffer.logical_crc,
                encoding: buffer.encoding,
                table: name.table,
            });
        }
        open.used += len as u64;
        open.is_active = true;
        open.summary_len += added;
        Some(start)
    }

    /// Bytes that one more buffer can have in the open segment; none without one.
    pub fn room(&self) -> u64 {
        let size = self.space.tier(self.tier).segment_size;
        self.open.as_ref().map_or(0, |open| {
            let entry = summary_entry_len(KEY_LEN_MAX);
            size.saturating_sub(open.used + tail_len(open.summary_len + entry) as u64)
        })
    }

    /// Whether a buffer was placed since this was last asked, or the segment opened.
    pub fn take_activity(&mut self) -> bool {
        self.open.as_mut().is_some_and(|open| std::mem::take(&mut open.is_active))
    }

    /// Closes the open segment, if there is one: its summary is to be written, then
    /// [`Space::seal`] called.
    pub fn close(&mut self) -> Result<Option<(TierSegment, PlannedWrite)>> {
        let Some(open) = self.open.take() else { return Ok(None) };
        let tier = self.space.tier(self.tier);
        let identity = self.identity_of(open.at);
        let bytes = encode_tail(&open.entries, &identity, self.identity.epoch, tier.segment_size)?;
        let end = tier.offset_of(open.at.segment) + tier.segment_size;
        Ok(Some((open.at, PlannedWrite { offset: end - bytes.len() as u64, bytes })))
    }
}
