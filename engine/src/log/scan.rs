//! Reading the log at open: which batches are there, how far it is known to have been flushed,
//! and where it ends.

use std::ops::RangeInclusive;

use crate::error::{Result, fail};
use crate::io::Device;
use crate::io::buffer::AlignedBuf;
use crate::limits::{BLOCK, CHECK_BLOCK};
use crate::log::batch::{BatchExpect, BatchFault, BatchView, decode_header, peek_header_len};
use crate::log::record::BufferDef;
use crate::log::superblock::{Cut, LogStart};
use crate::log::tail::{Ahead, LogTail};
use crate::types::{BatchSeq, Epoch, Place, TierSegment, Uuid};

/// Bytes read at once: the log is read in order.
const WINDOW: usize = 1 << 20;

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

/// The batches of the log from its start on, without a gap.
pub struct Scan {
    /// In order.
    pub batches: Vec<BatchView>,
    /// Where each begins on the device.
    pub offsets: Vec<u64>,
    /// The end.
    pub tail: LogTail,
    /// The highest W that anything valid names, also beyond the end.
    pub watermark: BatchSeq,
    /// Why it ends there.
    pub fault: BatchFault,
}

/// Reads a device in large aligned steps.
pub struct WindowReader<'a> {
    device: &'a dyn Device,
    window: AlignedBuf,
    start: u64,
    filled: usize,
}

impl<'a> WindowReader<'a> {
    /// Over a device; nothing is read yet.
    pub fn new(device: &'a dyn Device) -> WindowReader<'a> {
        WindowReader { device, window: AlignedBuf::alloc(WINDOW), start: 0, filled: 0 }
    }

    /// `len` bytes at `offset`, or fewer at the device's end.
    pub fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        let len = len.min(usize::try_from(self.device.len().saturating_sub(offset)).unwrap_or(0));
        let inside = offset >= self.start && offset + len as u64 <= self.start + self.filled as u64;
        if !inside {
            self.fill(offset, len)?;
        }
        let at = (offset - self.start) as usize;
        Ok(&self.window.as_slice()[at..at + len])
    }

    fn fill(&mut self, offset: u64, len: usize) -> Result<()> {
        let start = offset - offset % BLOCK as u64;
        let wanted = ((offset - start) as usize + len).next_multiple_of(BLOCK).max(WINDOW);
        let left = usize::try_from(self.device.len() - start).unwrap_or(usize::MAX);
        let wanted = wanted.min(left - left % BLOCK);
        if self.window.capacity() < wanted {
            self.window = AlignedBuf::alloc(wanted);
        }
        let target = &mut self.window.as_mut_slice()[..wanted];
        if let Err(error) = self.device.read_at(start, target) {
            fail!(
                Io,
                "read of {wanted} bytes at {start} of {}: {error}",
                self.device.path().display()
            );
        }
        self.start = start;
        self.filled = wanted;
        Ok(())
    }
}

/// Reads the log from `start` to where it ends.
pub fn scan(device: &dyn Device, start: LogStart, expect: &LogExpect<'_>) -> Result<Scan> {
    let mut reader = WindowReader::new(device);
    let within = start.offset % expect.segment_size;
    let mut scan = Scan {
        batches: Vec::new(),
        offsets: Vec::new(),
        tail: LogTail::at_start(start, within),
        watermark: BatchSeq(0),
        fault: BatchFault::NotABatch { blank: true },
    };
    let mut epoch = Epoch(0);
    loop {
        match next_batch(&mut reader, &scan.tail, expect, epoch..=expect.epoch) {
            Ok((view, tail, offset)) => {
                epoch = view.identity.epoch;
                scan.watermark = scan.watermark.max(view.identity.watermark);
                scan.tail = tail;
                scan.offsets.push(offset);
                scan.batches.push(view);
            }
            Err(Stop::Fault(fault)) if fault.may_be_torn() => {
                scan.fault = fault;
                break;
            }
            Err(Stop::Fault(fault)) => {
                let place = format!("batch {} at the end of the log", scan.tail.next_seq.0);
                return Err(fault.to_error(place));
            }
            Err(Stop::Error(error)) => return Err(error),
        }
    }
    if expect.clean {
        return Ok(scan);
    }
    let beyond = watermark_beyond(&mut reader, &scan.tail, expect, epoch)?;
    scan.watermark = scan.watermark.max(beyond);
    Ok(scan)
}

enum Stop {
    Fault(BatchFault),
    Error(crate::error::Error),
}

/// The batch at the tail, or the first one of the segment that follows.
fn next_batch(
    reader: &mut WindowReader<'_>,
    tail: &LogTail,
    expect: &LogExpect<'_>,
    epochs: RangeInclusive<Epoch>,
) -> std::result::Result<(BatchView, LogTail, u64), Stop> {
    let here = batch_at(reader, tail, expect, epochs.clone());
    let fault = match here {
        Err(Stop::Fault(fault)) => fault,
        found => return found,
    };
    let mut next = tail.clone();
    if !next.switch(expect.segment_size) {
        return Err(Stop::Fault(fault));
    }
    match batch_at(reader, &next, expect, epochs) {
        Err(Stop::Fault(_)) => Err(Stop::Fault(fault)),
        found => found,
    }
}

fn batch_at(
    reader: &mut WindowReader<'_>,
    tail: &LogTail,
    expect: &LogExpect<'_>,
    epochs: RangeInclusive<Epoch>,
) -> std::result::Result<(BatchView, LogTail, u64), Stop> {
    let room = tail.room(expect.segment_size);
    if room < BLOCK as u64 {
        return Err(Stop::Fault(BatchFault::NotABatch { blank: true }));
    }
    let offset = u64::from(tail.segment.segment.0) * expect.segment_size + tail.used;
    let position = BatchExpect {
        store: expect.store,
        device: expect.device_uuid,
        segment: tail.segment,
        generation: tail.generation,
        device_offset: offset,
        seq: Some(tail.next_seq),
        chain: Some(tail.chain),
        epochs,
        cuts: expect.cuts,
    };
    let view = read_batch(reader, offset, &position)?;
    if u64::from(view.shape.total_len) > room {
        let what = format!(
            "batch {:?} of {} bytes leaves its segment",
            view.identity.seq, view.shape.total_len
        );
        return Err(Stop::Fault(BatchFault::WrongPlace(what)));
    }
    let mut tail = tail.clone();
    tail.advance(u64::from(view.shape.total_len), view.crc);
    tail.ahead =
        view.identity.next.map(|(segment, generation)| Ahead { segment, generation, ready: true });
    Ok((view, tail, offset))
}

fn read_batch(
    reader: &mut WindowReader<'_>,
    offset: u64,
    expect: &BatchExpect<'_>,
) -> std::result::Result<BatchView, Stop> {
    let first = reader.bytes(offset, BLOCK).map_err(Stop::Error)?;
    let len = peek_header_len(first).map_err(Stop::Fault)?;
    let header = reader.bytes(offset, len).map_err(Stop::Error)?;
    decode_header(header, expect).map_err(Stop::Fault)
}

/// The highest W named beyond the end: in the rest of the segment, and in the one that follows.
/// A batch there was written, so whatever W it names was reached.
fn watermark_beyond(
    reader: &mut WindowReader<'_>,
    tail: &LogTail,
    expect: &LogExpect<'_>,
    epoch: Epoch,
) -> Result<BatchSeq> {
    let mut highest = BatchSeq(0);
    let mut areas = vec![(tail.segment.segment, tail.generation, tail.used)];
    areas.extend(tail.ahead.map(|ahead| (ahead.segment, ahead.generation, BLOCK as u64)));
    for (segment, generation, used) in areas {
        let start = u64::from(segment.0) * expect.segment_size;
        let mut at = start + used;
        while at + BLOCK as u64 <= start + expect.segment_size {
            let position = BatchExpect {
                store: expect.store,
                device: expect.device_uuid,
                segment: TierSegment { segment, ..tail.segment },
                generation,
                device_offset: at,
                seq: None,
                chain: None,
                epochs: epoch..=expect.epoch,
                cuts: expect.cuts,
            };
            match read_batch(reader, at, &position) {
                Ok(view) => {
                    highest = highest.max(view.identity.watermark);
                    at += u64::from(view.shape.total_len);
                }
                Err(Stop::Fault(_)) => at += BLOCK as u64,
                Err(Stop::Error(error)) => return Err(error),
            }
        }
    }
    Ok(highest)
}

/// Looks whether data that the log names has reached its device.
pub struct Landing<'a> {
    readers: Vec<WindowReader<'a>>,
}

impl<'a> Landing<'a> {
    /// Over the tiers' devices.
    pub fn new(devices: &'a [std::sync::Arc<dyn Device>]) -> Landing<'a> {
        Landing { readers: devices.iter().map(|device| WindowReader::new(&**device)).collect() }
    }

    /// Whether the stored bytes of a buffer match its checksums.
    pub fn has(&mut self, def: &BufferDef) -> Result<bool> {
        let Place::Device { tier, offset } = def.location.place() else { return Ok(false) };
        let Some(reader) = self.readers.get_mut(tier.index()) else { return Ok(false) };
        let stored = reader.bytes(offset, def.stored_len as usize)?;
        Ok(stored.len() == def.stored_len as usize
            && stored.chunks(CHECK_BLOCK).map(crc32fast::hash).eq(def.checks.iter().copied()))
    }
}

impl Scan {
    /// Discards the batches from `at` on: they do not count.
    pub fn cut(&mut self, at: usize, segment_size: u64) {
        let Some(first) = self.batches.get(at).map(|batch| batch.identity.seq) else { return };
        self.batches.truncate(at);
        self.offsets.truncate(at);
        // A segment that begins with a discarded batch is the one ahead again; the log's first
        // segment stays even if nothing of it is left.
        while self.tail.history.len() > 1
            && self.tail.history.back().is_some_and(|start| start.seq >= first)
        {
            self.tail.history.pop_back();
        }
        let Some(start) = self.tail.history.back().copied() else { return };
        self.tail.segment = start.segment;
        self.tail.generation = start.generation;
        self.tail.next_seq = first;
        match (self.batches.last(), self.offsets.last()) {
            (Some(last), Some(offset)) => {
                self.tail.used = offset % segment_size + u64::from(last.shape.total_len);
                self.tail.chain = last.crc;
                self.tail.ahead = last.identity.next.map(|(segment, generation)| Ahead {
                    segment,
                    generation,
                    ready: true,
                });
            }
            _ => {
                self.tail.used = start.offset % segment_size;
                self.tail.chain = start.chain;
                self.tail.ahead = None;
            }
        }
    }
}
