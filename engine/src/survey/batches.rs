//! The batches of the log that is kept: from the start that the older checkpoint names up to what is
//! flushed. Headers and records; their payloads are buffers of blobs, or dead.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::io::buffer::AlignedBuf;
use crate::limits::BLOCK;
use crate::log::batch::{BatchFault, decode_header};
use crate::log::follow::{LogExpect, Room, header_len};
use crate::log::superblock::{Cut, LogStart, Superblock};
use crate::log::tail::LogTail;
use crate::survey::{Item, LOG_TIER, Reads, Structure, Survey};
use crate::types::{BatchSeq, Epoch, Uuid};

/// Bytes read ahead: most batches are small.
const WINDOW: usize = 256 << 10;
/// Bytes of the device that a step reads, about.
const STEP_BYTES: u64 = 1 << 20;
/// How often a batch is read again before it is called bad.
const READ_RETRIES: usize = 2;

/// How far the log has been read.
pub(super) struct Batches {
    device: Uuid,
    cuts: Arc<[Cut]>,
    start: LogStart,
    tail: LogTail,
    epoch: Epoch,
    until: BatchSeq,
    window: Option<(u64, AlignedBuf, usize)>,
}

/// Why there is no batch: what was read, or that it could not be.
enum Stop {
    Fault(BatchFault),
    Error(Error),
}

impl Batches {
    /// Of the log that a superblock names, up to a batch.
    pub(super) fn of(block: &Superblock, until: BatchSeq) -> Batches {
        let before = block.previous.as_ref().map(|previous| previous.log_start);
        let start = before.unwrap_or(block.log_start);
        let used = start.offset % block.segment_size;
        Batches {
            device: block.device,
            cuts: block.cuts.as_slice().into(),
            start,
            tail: LogTail::at_start(start, used),
            epoch: Epoch(0),
            until,
            window: None,
        }
    }

    fn is_at_end(&self) -> bool {
        self.tail.next_seq > self.until
    }
}

impl Survey {
    pub(super) async fn look_at_batches(&mut self, reads: &dyn Reads, mut batches: Box<Batches>) {
        let goal = self.report.bytes + STEP_BYTES;
        while !batches.is_at_end() && self.report.bytes < goal {
            let mut found = self.next_batch(reads, &mut batches).await;
            for _ in 0..READ_RETRIES {
                if found.is_ok() {
                    break;
                }
                batches.window = None;
                found = self.next_batch(reads, &mut batches).await;
            }
            match found {
                Ok(()) => self.report.batches += 1,
                Err(stop) => return self.judge_batch(reads, &batches, stop).await,
            }
        }
        if !batches.is_at_end() {
            self.todo.push_back(Item::Log(batches));
        }
    }

    /// Calls a batch bad, unless that part of the log is kept no more.
    async fn judge_batch(&mut self, reads: &dyn Reads, batches: &Batches, stop: Stop) {
        let Some(now) = self.newest(reads, LOG_TIER).await else { return };
        let kept = now.previous.as_ref().map_or(now.log_start, |previous| previous.log_start);
        let seq = batches.tail.next_seq;
        if kept.seq > seq {
            return;
        }
        if kept != batches.start && kept.seq > batches.start.seq {
            // It may still be kept: read on from where the log begins now.
            let again = Batches::of(&now, batches.until);
            return self.todo.push_back(Item::Log(Box::new(again)));
        }
        let facts = self.core.space.tier(LOG_TIER);
        let offset = facts.offset_of(batches.tail.segment.segment) + batches.tail.used;
        let error = match stop {
            Stop::Fault(fault) => fault.to_error(seq.0),
            Stop::Error(error) => error,
        };
        self.note(Structure::LogBatch { seq: seq.0 }, LOG_TIER, offset, &error);
    }

    /// The batch at the tail, or the first one of the segment that follows.
    async fn next_batch(
        &mut self,
        reads: &dyn Reads,
        batches: &mut Batches,
    ) -> std::result::Result<(), Stop> {
        let here = batches.tail.clone();
        let fault = match self.batch_at(reads, batches, here).await {
            Err(Stop::Fault(fault)) => fault,
            found => return found,
        };
        let mut next = batches.tail.clone();
        if !next.switch(self.core.space.tier(LOG_TIER).segment_size) {
            return Err(Stop::Fault(fault));
        }
        match self.batch_at(reads, batches, next).await {
            Err(Stop::Fault(_)) => Err(Stop::Fault(fault)),
            found => found,
        }
    }

    async fn batch_at(
        &mut self,
        reads: &dyn Reads,
        batches: &mut Batches,
        tail: LogTail,
    ) -> std::result::Result<(), Stop> {
        let cuts = batches.cuts.clone();
        let expect = LogExpect {
            store: self.core.settings.store,
            device_uuid: batches.device,
            epoch: self.core.settings.epoch,
            cuts: &cuts,
            segment_size: self.core.space.tier(LOG_TIER).segment_size,
            clean: false,
        };
        let room = expect.room_at(&tail).map_err(Stop::Fault)?;
        let position = expect.batch_at(&tail, room, batches.epoch..=expect.epoch);
        let first = self.bytes(reads, batches, room, BLOCK).await.map_err(Stop::Error)?;
        let len = header_len(first, room).map_err(Stop::Fault)?;
        let header = self.bytes(reads, batches, room, len).await.map_err(Stop::Error)?;
        let view = decode_header(header, &position).map_err(Stop::Fault)?;
        batches.tail = expect.behind(&tail, &view).map_err(Stop::Fault)?;
        // Where it began is of no interest here.
        batches.tail.history.clear();
        batches.epoch = view.identity.epoch;
        Ok(())
    }

    /// The first bytes of a batch.
    async fn bytes<'a>(
        &mut self,
        reads: &dyn Reads,
        batches: &'a mut Batches,
        room: Room,
        len: usize,
    ) -> Result<&'a [u8]> {
        let offset = room.offset;
        let has = |(start, _, filled): &(u64, AlignedBuf, usize)| {
            *start <= offset && offset + len as u64 <= start + *filled as u64
        };
        if !batches.window.as_ref().is_some_and(has) {
            let filled = len.next_multiple_of(BLOCK).max(WINDOW).min(room.len as usize);
            let memory = self.read(reads, LOG_TIER, offset, filled).await?;
            batches.window = Some((offset, memory, filled));
        }
        Ok(batches.window.as_ref().map_or(&[], |(start, memory, _)| {
            let at = (offset - start) as usize;
            &memory.as_slice()[at..at + len]
        }))
    }
}
