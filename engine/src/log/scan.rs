//! Reading the log at open: which batches are there, how far it is known to have been flushed,
//! and where it ends.

use std::ops::RangeInclusive;

use crate::error::Result;
use crate::io::Device;
use crate::limits::BLOCK;
use crate::log::batch::{BatchExpect, BatchFault, BatchView, decode_header};
use crate::log::follow::{LogExpect, Room, header_len};
use crate::log::reader::ForwardReader;
use crate::log::record::BufferDef;
use crate::log::superblock::LogStart;
use crate::log::tail::{Ahead, LogTail};
use crate::types::{BatchSeq, Epoch, Place, TierSegment};

/// A search for batches beyond the log's end is given up after so many bytes without one: more
/// than any batch of ordinary records takes, so that a bad one does not hide those behind it.
const FRUITLESS_MAX: u64 = 8 << 20;

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

/// Reads the log from `start` to where it ends.
pub fn scan(device: &dyn Device, start: LogStart, expect: &LogExpect<'_>) -> Result<Scan> {
    let mut reader = ForwardReader::new(device);
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
    let beyond = watermark_beyond(&mut reader, &scan.tail, expect, epoch);
    scan.watermark = scan.watermark.max(beyond);
    Ok(scan)
}

/// The beginnings of the log segments from the one that begins with `from` up to the one that
/// begins with `to`, which is left out. `None` if the log does not lead there.
pub fn starts_between(
    device: &dyn Device,
    from: LogStart,
    to: LogStart,
    expect: &LogExpect<'_>,
) -> Option<Vec<LogStart>> {
    if from == to {
        return Some(Vec::new());
    }
    let mut reader = ForwardReader::new(device);
    let mut tail = LogTail::at_start(from, from.offset % expect.segment_size);
    let mut epoch = Epoch(0);
    while tail.next_seq < to.seq {
        let found = next_batch(&mut reader, &tail, expect, epoch..=expect.epoch);
        let (view, next, _) = found.ok()?;
        epoch = view.identity.epoch;
        tail = next;
    }
    let leads_there = (tail.next_seq, tail.chain) == (to.seq, to.chain);
    (leads_there && tail.segment != to.segment).then(|| tail.history.into())
}

enum Stop {
    Fault(BatchFault),
    Error(crate::error::Error),
}

/// The batch at the tail, or the first one of the segment that follows.
fn next_batch(
    reader: &mut ForwardReader<'_>,
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
    reader: &mut ForwardReader<'_>,
    tail: &LogTail,
    expect: &LogExpect<'_>,
    epochs: RangeInclusive<Epoch>,
) -> std::result::Result<(BatchView, LogTail, u64), Stop> {
    let room = expect.room_at(tail).map_err(Stop::Fault)?;
    let view = read_batch(reader, room, &expect.batch_at(tail, room, epochs))?;
    let tail = expect.behind(tail, &view).map_err(Stop::Fault)?;
    Ok((view, tail, room.offset))
}

/// The batch that begins there.
fn read_batch(
    reader: &mut ForwardReader<'_>,
    room: Room,
    expect: &BatchExpect<'_>,
) -> std::result::Result<BatchView, Stop> {
    let first = reader.bytes(room.offset, BLOCK).map_err(Stop::Error)?;
    let len = header_len(first, room).map_err(Stop::Fault)?;
    let header = reader.bytes(room.offset, len).map_err(Stop::Error)?;
    decode_header(header, expect).map_err(Stop::Fault)
}

/// The highest W named beyond the end: in the rest of the segment, in the one ahead, and in every
/// one that a batch found on the way names as its next. A batch there was written, so whatever W
/// it names was reached.
fn watermark_beyond(
    reader: &mut ForwardReader<'_>,
    tail: &LogTail,
    expect: &LogExpect<'_>,
    epoch: Epoch,
) -> BatchSeq {
    let mut highest = BatchSeq(0);
    let mut areas = vec![(tail.segment.segment, tail.generation, tail.used)];
    areas.extend(tail.ahead.map(|ahead| (ahead.segment, ahead.generation, BLOCK as u64)));
    let mut searched = 0;
    while let Some((segment, generation, used)) = areas.get(searched).copied() {
        searched += 1;
        let mut visit = |view: &BatchView| {
            highest = highest.max(view.identity.watermark);
            if let Some((next, generation)) = view.identity.next
                && !areas.iter().any(|area| (area.0, area.1) == (next, generation))
            {
                areas.push((next, generation, BLOCK as u64));
            }
        };
        let segment = TierSegment { segment, ..tail.segment };
        search(reader, segment, generation, used, expect, epoch, &mut visit);
    }
    highest
}

/// Visits the batches of a log segment from `used` on, whatever precedes them. A part that cannot
/// be read holds none: the log has ended already.
fn search(
    reader: &mut ForwardReader<'_>,
    segment: TierSegment,
    generation: u32,
    used: u64,
    expect: &LogExpect<'_>,
    epoch: Epoch,
    visit: &mut dyn FnMut(&BatchView),
) {
    let start = u64::from(segment.segment.0) * expect.segment_size;
    let end = start + expect.segment_size;
    let mut at = start + used;
    let mut found = at;
    while at + BLOCK as u64 <= end && at - found < FRUITLESS_MAX {
        let position = BatchExpect {
            store: expect.store,
            device: expect.device_uuid,
            segment,
            generation,
            device_offset: at,
            seq: None,
            chain: None,
            epochs: epoch..=expect.epoch,
            cuts: expect.cuts,
        };
        match read_batch(reader, Room { offset: at, len: end - at }, &position) {
            Ok(view) => {
                at += u64::from(view.shape.total_len);
                found = at;
                visit(&view);
            }
            Err(Stop::Fault(_)) => at += BLOCK as u64,
            Err(Stop::Error(_)) => return,
        }
    }
}

/// Looks whether data that the log names has reached its device.
pub struct Landing<'a> {
    /// None of a lost tier.
    readers: Vec<Option<ForwardReader<'a>>>,
}

impl<'a> Landing<'a> {
    /// Over the tiers' devices.
    pub fn new(devices: &'a [std::sync::Arc<dyn Device>]) -> Landing<'a> {
        let there = |device: &&'a std::sync::Arc<dyn Device>| device.lost().is_none();
        let reader = |device: &'a std::sync::Arc<dyn Device>| {
            Some(device).filter(there).map(|device| ForwardReader::new(&**device))
        };
        Landing { readers: devices.iter().map(reader).collect() }
    }

    /// Whether the stored bytes of a buffer are there.
    pub fn has(&mut self, def: &BufferDef) -> Result<bool> {
        let Place::Device { tier, offset } = def.location.place() else { return Ok(false) };
        // What a lost tier held says nothing about the log: blobs there answer for themselves.
        let Some(reader) = self.readers.get_mut(tier.index()) else { return Ok(false) };
        let Some(reader) = reader else { return Ok(true) };
        Ok(def.matches(reader.bytes(offset, def.stored_len as usize)?))
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
