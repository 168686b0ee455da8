//! Where the log ends: the place of the next batch, its number and what it chains to.
//!
//! Every batch names the segment that follows its own, so a batch is only written once that
//! segment is there: recovery can always go on from the last batch.

use std::collections::VecDeque;

use crate::limits::BLOCK;
use crate::log::superblock::LogStart;
use crate::types::{BatchSeq, SegmentId, TierSegment};

/// The next log segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ahead {
    /// The segment, on the log's tier.
    pub segment: SegmentId,
    /// Its generation.
    pub generation: u32,
    /// Whether it has been written through, so that writing batches allocates nothing.
    pub ready: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct LogTail {
    /// The segment in use.
    pub segment: TierSegment,
    /// Its generation.
    pub generation: u32,
    /// Bytes of it in use; the next batch goes there.
    pub used: u64,
    /// Number of the next batch.
    pub next_seq: BatchSeq,
    /// Header checksum of the last batch.
    pub chain: u32,
    /// The segment that follows.
    pub ahead: Option<Ahead>,
    /// The beginnings of the log segments that recovery may need, oldest first; the last is the
    /// one in use.
    pub history: VecDeque<LogStart>,
}

impl LogTail {
    /// The end of a log that begins here and holds nothing yet.
    pub fn at_start(start: LogStart, used: u64) -> LogTail {
        LogTail {
            segment: start.segment,
            generation: start.generation,
            used,
            next_seq: start.seq,
            chain: start.chain,
            ahead: None,
            history: VecDeque::from([start]),
        }
    }

    /// The last batch's number; 0 before the first.
    pub fn last_seq(&self) -> BatchSeq {
        BatchSeq(self.next_seq.0 - 1)
    }

    /// Bytes left in the segment in use.
    pub fn room(&self, segment_size: u64) -> u64 {
        segment_size - self.used
    }

    /// A batch of this many bytes has been placed.
    pub fn advance(&mut self, total_len: u64, crc: u32) {
        self.used += total_len;
        self.chain = crc;
        self.next_seq = self.next_seq.next();
    }

    /// Goes on in the next segment, which must be there.
    pub fn switch(&mut self, segment_size: u64) -> bool {
        let Some(ahead) = self.ahead.take() else { return false };
        self.segment.segment = ahead.segment;
        self.generation = ahead.generation;
        self.used = BLOCK as u64;
        self.history.push_back(LogStart {
            segment: self.segment,
            generation: self.generation,
            offset: u64::from(ahead.segment.0) * segment_size + BLOCK as u64,
            seq: self.next_seq,
            chain: self.chain,
        });
        true
    }

    /// The beginning of the newest log segment from which batch `seq` can be reached.
    pub fn start_for(&self, seq: BatchSeq) -> Option<&LogStart> {
        self.history.iter().rev().find(|start| start.seq <= seq)
    }

    /// Forgets the log segments before the one that begins with `first`, and says which.
    pub fn forget_before(&mut self, first: BatchSeq) -> Vec<TierSegment> {
        let mut forgotten = Vec::new();
        while self.history.front().is_some_and(|start| start.seq < first) && self.history.len() > 1
        {
            forgotten.extend(self.history.pop_front().map(|start| start.segment));
        }
        forgotten
    }
}
