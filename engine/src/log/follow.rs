//! Following the log from batch to batch: what the next one must be, and where the log stands behind it.
//! Pure: whoever reads brings the bytes. Recovery, and the survey of a store in use, follow it alike.

use std::ops::RangeInclusive;

use crate::limits::BLOCK;
use crate::log::batch::{BatchExpect, BatchFault, BatchView, peek_header_len};
use crate::log::superblock::{Cut, Superblock};
use crate::log::tail::{Ahead, LogTail};
use crate::types::{Epoch, Uuid};

/// What the log is expected to be.
pub struct LogExpect<'a> {
    /// The store.
    pub store: Uuid,
    /// The log tier's device.
    pub device_uuid: Uuid,
    /// The epoch of the superblock: no batch is newer.
    pub epoch: Epoch,
    /// Batches that were discarded by earlier opens.
    pub cuts: &'a [Cut],
    /// Bytes of a segment of the log's tier.
    pub segment_size: u64,
    /// The store was closed: the superblock's W is the end, nothing lies beyond.
    pub clean: bool,
}

/// Where a batch may begin.
#[derive(Clone, Copy)]
pub struct Room {
    /// On the device.
    pub offset: u64,
    /// Bytes up to the end of the segment.
    pub len: u64,
}

impl<'a> LogExpect<'a> {
    /// The log that a superblock of its tier says.
    pub fn of(superblock: &'a Superblock) -> LogExpect<'a> {
        LogExpect {
            store: superblock.store,
            device_uuid: superblock.device,
            epoch: superblock.epoch,
            cuts: &superblock.cuts,
            segment_size: superblock.segment_size,
            clean: superblock.clean,
        }
    }

    /// Where the batch at the log's tail would begin.
    pub fn room_at(&self, tail: &LogTail) -> Result<Room, BatchFault> {
        let len = tail.room(self.segment_size);
        if len < BLOCK as u64 {
            return Err(BatchFault::NotABatch { blank: true });
        }
        let start = u64::from(tail.segment.segment.0) * self.segment_size;
        Ok(Room { offset: start + tail.used, len })
    }

    /// What the batch there must be, of one of these epochs.
    pub fn batch_at(
        &self,
        tail: &LogTail,
        room: Room,
        epochs: RangeInclusive<Epoch>,
    ) -> BatchExpect<'a> {
        BatchExpect {
            store: self.store,
            device: self.device_uuid,
            segment: tail.segment,
            generation: tail.generation,
            device_offset: room.offset,
            seq: Some(tail.next_seq),
            chain: Some(tail.chain),
            epochs,
            cuts: self.cuts,
        }
    }

    /// The log's tail behind that batch.
    pub fn behind(&self, tail: &LogTail, batch: &BatchView) -> Result<LogTail, BatchFault> {
        let total_len = u64::from(batch.shape.total_len);
        if total_len > tail.room(self.segment_size) {
            let what =
                format!("batch {:?} of {total_len} bytes leaves its segment", batch.identity.seq);
            return Err(BatchFault::WrongPlace(what));
        }
        let mut tail = tail.clone();
        tail.advance(total_len, batch.crc);
        // It may have been named before it was written through. That is for speed alone: what was
        // never written reads as zeros, and what an earlier use has left is of an older generation.
        let next = batch.identity.next;
        tail.ahead = next.map(|(segment, generation)| Ahead { segment, generation, ready: true });
        Ok(tail)
    }
}

/// Bytes of a header, by its first block. Not verified yet: a length that cannot be is not worth a read
/// of up to 64 MiB.
pub fn header_len(first: &[u8], room: Room) -> Result<usize, BatchFault> {
    let len = peek_header_len(first)?;
    if len as u64 > room.len {
        return Err(BatchFault::BadChecksum(format!("a header of {len} bytes leaves its segment")));
    }
    Ok(len)
}
