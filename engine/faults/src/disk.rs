//! The contents of a disk, every write and flush it has seen, and what a power cut leaves of them.

use std::collections::HashMap;
use std::sync::Arc;

use isotherm_sim::rng::Rng;
use parking_lot::Mutex;

const BLOCK: u64 = 4096;
/// What any disk writes whole or not at all.
pub const SECTOR: usize = 512;
/// What a disk with physical blocks of 4096 bytes writes whole or not at all.
pub const PHYSICAL_BLOCK: usize = BLOCK as usize;

/// What a disk was asked to do that a power cut cares for.
#[derive(Clone)]
pub enum Event {
    /// These bytes were written at this offset.
    Write { at: u64, bytes: Arc<[u8]> },
    /// All writes that were answered before are to be durable.
    Flush,
}

/// What a failing disk refuses, with EIO.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Reads.
    Reads,
    /// Writes.
    Writes,
    /// Flushes.
    Flushes,
    /// Everything.
    All,
}

/// A disk in memory. Safe to use from several threads; one mutex makes the order of its events total.
pub struct Disk {
    len: u64,
    state: Mutex<State>,
}

struct State {
    fault: Option<Fault>,
    base: Vec<u8>,
    /// What was written over the base, in blocks of [`BLOCK`].
    overlay: HashMap<u64, Box<[u8]>>,
    /// While it records.
    recording: Option<Vec<Event>>,
}

impl State {
    fn read(&self, at: u64, out: &mut [u8]) {
        for piece in pieces(at, out.len()) {
            let to = &mut out[piece.within];
            match self.overlay.get(&piece.block) {
                Some(block) => to.copy_from_slice(&block[piece.start..piece.start + to.len()]),
                None => {
                    let start = (piece.block * BLOCK) as usize + piece.start;
                    to.copy_from_slice(&self.base[start..start + to.len()]);
                }
            }
        }
    }

    fn write(&mut self, at: u64, bytes: &[u8]) {
        for piece in pieces(at, bytes.len()) {
            let from = &bytes[piece.within];
            let start = (piece.block * BLOCK) as usize;
            let block = self
                .overlay
                .entry(piece.block)
                .or_insert_with(|| self.base[start..start + BLOCK as usize].into());
            block[piece.start..piece.start + from.len()].copy_from_slice(from);
        }
    }

    fn fold(&mut self) {
        for (number, block) in self.overlay.drain() {
            let start = (number * BLOCK) as usize;
            self.base[start..start + BLOCK as usize].copy_from_slice(&block);
        }
    }
}

struct Piece {
    block: u64,
    /// Of the block.
    start: usize,
    /// Of the bytes that are transferred.
    within: std::ops::Range<usize>,
}

/// A range, cut at the boundaries of blocks.
fn pieces(at: u64, len: usize) -> impl Iterator<Item = Piece> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let place = at + done as u64;
        let start = (place % BLOCK) as usize;
        let take = (BLOCK as usize - start).min(len - done);
        let piece = Piece { block: place / BLOCK, start, within: done..done + take };
        done += take;
        Some(piece)
    })
}

impl Disk {
    /// All zeros; `len` bytes, a multiple of 4096.
    pub fn new(len: u64) -> Disk {
        let state = State {
            fault: None,
            base: vec![0; len as usize],
            overlay: HashMap::new(),
            recording: None,
        };
        Disk { len, state: Mutex::new(state) }
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// From now on it fails in this way, or in none.
    pub fn fail(&self, fault: Option<Fault>) {
        self.state.lock().fault = fault;
    }

    /// Whether it refuses what this fault is about.
    pub fn refuses(&self, fault: Fault) -> bool {
        let now = self.state.lock().fault;
        now == Some(fault) || now == Some(Fault::All)
    }

    /// Whether the range lies on the disk.
    pub fn holds(&self, at: u64, len: usize) -> bool {
        at.checked_add(len as u64).is_some_and(|end| end <= self.len)
    }

    /// Reads a range that the disk [holds](Self::holds).
    pub fn read(&self, at: u64, out: &mut [u8]) {
        self.state.lock().read(at, out);
    }

    /// Writes a range that the disk [holds](Self::holds).
    pub fn write(&self, at: u64, bytes: &[u8]) {
        let mut state = self.state.lock();
        state.write(at, bytes);
        if let Some(events) = &mut state.recording {
            events.push(Event::Write { at, bytes: bytes.into() });
        }
    }

    /// Notes a flush.
    pub fn flush(&self) {
        if let Some(events) = &mut self.state.lock().recording {
            events.push(Event::Flush);
        }
    }

    /// What is there now is the base; whatever is done from now on is recorded.
    pub fn record(&self) {
        let mut state = self.state.lock();
        state.fold();
        state.recording = Some(Vec::new());
    }

    /// How many events are recorded.
    pub fn position(&self) -> usize {
        self.state.lock().recording.as_ref().map_or(0, Vec::len)
    }

    /// Ends the recording: its events, and the disk is as it was when it began.
    pub fn rewind(&self) -> Vec<Event> {
        let mut state = self.state.lock();
        state.overlay.clear();
        state.recording.take().unwrap_or_default()
    }

    /// Makes these writes part of the base, and undoes all others since [`rewind`](Self::rewind).
    pub fn advance(&self, events: &[Event]) {
        let mut state = self.state.lock();
        state.overlay.clear();
        let State { base, .. } = &mut *state;
        for event in events {
            if let Event::Write { at, bytes } = event {
                base[*at as usize..*at as usize + bytes.len()].copy_from_slice(bytes);
            }
        }
    }

    /// Power fails with these writes in the cache, over the base: each of them is there, is lost, or
    /// is there in some of its pieces of `unit` bytes. The same `seed` leaves the same. Returns how
    /// many were torn.
    pub fn crash(&self, pending: &[Event], unit: usize, seed: u64) -> u64 {
        let mut rng = Rng::new(seed);
        // In quarters; at the ends all of them are there, and none.
        let kept = rng.below(5);
        let mut torn = 0;
        let mut state = self.state.lock();
        state.overlay.clear();
        for event in pending {
            let Event::Write { at, bytes } = event else { continue };
            if kept < 4 && bytes.len() > unit && rng.one_in(4) {
                torn += 1;
                for (number, part) in bytes.chunks(unit).enumerate() {
                    if rng.one_in(2) {
                        state.write(at + (number * unit) as u64, part);
                    }
                }
            } else if rng.below(4) < kept {
                state.write(*at, bytes);
            }
        }
        torn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(disk: &Disk) -> Vec<u8> {
        let mut out = vec![0; disk.len() as usize];
        disk.read(0, &mut out);
        out
    }

    /// Ends of writes that lie within blocks and sectors.
    fn recorded(disk: &Disk, rng: &mut Rng) -> Vec<Event> {
        disk.record();
        for value in 1..=40 {
            let at = rng.below(disk.len() - 9000);
            disk.write(at, &vec![value; 1 + rng.below(9000) as usize]);
            if rng.one_in(8) {
                disk.flush();
            }
        }
        disk.rewind()
    }

    #[test]
    fn all_events_make_what_was_there() {
        let disk = Disk::new(64 << 10);
        disk.write(5000, &[7; 3000]);
        let mut rng = Rng::new(1);
        disk.record();
        let before = contents(&disk);
        disk.write(4095, &[9; 4098]);
        disk.flush();
        disk.write(1, &[8; 511]);
        let after = contents(&disk);
        assert_eq!(disk.position(), 3);
        let events = disk.rewind();
        assert_eq!(contents(&disk), before);
        disk.advance(&events);
        assert_eq!(contents(&disk), after);
        recorded(&disk, &mut rng);
        assert_eq!(contents(&disk), after, "a recording that is rewound leaves nothing");
    }

    #[test]
    fn a_crash_keeps_what_was_flushed_and_invents_no_byte() {
        let mut torn = 0;
        for seed in 0..200 {
            let disk = Disk::new(64 << 10);
            let events = recorded(&disk, &mut Rng::new(seed));
            let flushed = events.iter().rposition(|event| matches!(event, Event::Flush));
            let (durable, pending) = events.split_at(flushed.map_or(0, |at| at + 1));
            disk.advance(durable);
            let base = contents(&disk);
            torn += disk.crash(pending, SECTOR, seed);
            let first = contents(&disk);
            for (at, (&now, &was)) in first.iter().zip(&base).enumerate() {
                let is_pending = pending.iter().any(|event| match event {
                    Event::Write { at: from, bytes } => {
                        (*from as usize..*from as usize + bytes.len()).contains(&at)
                            && bytes[0] == now
                    }
                    Event::Flush => false,
                });
                assert!(now == was || is_pending, "seed {seed}, byte {at}: {was} became {now}");
            }
            disk.crash(pending, SECTOR, seed);
            assert_eq!(contents(&disk), first, "the same seed leaves the same");
        }
        assert!(torn > 0, "no write was torn");
    }
}
