//! The bytes of a simulated device: what would survive a power cut, what a reader sees, and the writes
//! in between, which stand in the device's cache.
//!
//! The model of FoundationDB's and TigerBeetle's simulators: until a flush covers a write, a power cut
//! keeps it, loses it or tears it, sector by sector, whatever became of its neighbours.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Bytes that are allocated together, zeroed, when one of them is first written.
const CHUNK: usize = 64 << 10;
/// What a device writes whole or not at all.
pub const SECTOR: usize = 512;

/// Sparse bytes. A copy shares what neither changes.
#[derive(Clone, Default)]
struct Chunks(BTreeMap<u64, Arc<[u8]>>);

impl Chunks {
    fn read(&self, offset: u64, out: &mut [u8]) {
        for (chunk, inside, part) in parts(offset, out.len()) {
            let into = &mut out[part];
            match self.0.get(&chunk) {
                Some(bytes) => into.copy_from_slice(&bytes[inside..inside + into.len()]),
                None => into.fill(0),
            }
        }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (chunk, inside, part) in parts(offset, bytes.len()) {
            let into = self.0.entry(chunk).or_insert_with(|| Arc::from(vec![0; CHUNK]));
            Arc::make_mut(into)[inside..inside + part.len()].copy_from_slice(&bytes[part]);
        }
    }
}

/// The parts of a range by chunk: its number, where the part begins in it, and where in the range.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let position = offset + at as u64;
        let inside = (position % CHUNK as u64) as usize;
        let part = at..len.min(at + CHUNK - inside);
        at = part.end;
        (!part.is_empty()).then_some((position / CHUNK as u64, inside, part))
    })
}

/// Names a write in the cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WriteId(u64);

/// A write that no flush covers yet.
#[derive(Clone)]
struct Cached {
    id: WriteId,
    offset: u64,
    bytes: Arc<[u8]>,
    /// Its writer was told that it is done: a flush that is asked for from now on covers it.
    completed: bool,
}

impl Cached {
    fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.bytes.len() as u64
    }
}

/// What a flush covers: the writes that were completed when it was asked for.
pub struct Barrier(Vec<WriteId>);

/// What a power cut makes of a write in the cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is on the device.
    Kept,
    /// It is not.
    Lost,
    /// Of each 64 sectors in a row those whose bit is set are.
    Torn(u64),
}

/// See the module. A copy costs little until one of the two is written.
#[derive(Clone, Default)]
pub struct Disk {
    durable: Chunks,
    /// What readers see: with all that is in the cache.
    seen: Chunks,
    cache: Vec<Cached>,
    next_id: u64,
}

impl Disk {
    /// Reads what was written last, durable or not.
    pub fn read(&self, offset: u64, out: &mut [u8]) {
        self.seen.read(offset, out);
    }

    /// Puts a write into the cache, not completed yet.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> WriteId {
        self.seen.write(offset, bytes);
        let id = WriteId(self.next_id);
        self.next_id += 1;
        self.cache.push(Cached { id, offset, bytes: bytes.into(), completed: false });
        id
    }

    /// The writer of it is being told.
    pub fn complete(&mut self, id: WriteId) {
        if let Some(cached) = self.cache.iter_mut().find(|cached| cached.id == id) {
            cached.completed = true;
        }
    }

    /// A write that is durable by itself, and makes no other so.
    pub fn write_through(&mut self, offset: u64, bytes: &[u8]) {
        let range = offset..offset + bytes.len() as u64;
        self.supersede(&range);
        self.seen.write(offset, bytes);
        self.durable.write(offset, bytes);
    }

    /// The writer of one that is durable by itself is being told.
    pub fn complete_through(&mut self, id: WriteId) {
        if let Some(at) = self.cache.iter().position(|cached| cached.id == id) {
            let Cached { offset, bytes, .. } = self.cache.remove(at);
            self.write_through(offset, &bytes);
        }
    }

    /// What a flush asked for now will cover.
    pub fn barrier(&self) -> Barrier {
        Barrier(self.cache.iter().filter(|cached| cached.completed).map(|c| c.id).collect())
    }

    /// The flush is done. Later writes of the same bytes stay in the cache.
    pub fn flush(&mut self, barrier: &Barrier) {
        let (covered, left) =
            self.cache.drain(..).partition(|cached: &Cached| barrier.0.contains(&cached.id));
        self.cache = left;
        for cached in covered {
            self.durable.write(cached.offset, &cached.bytes);
        }
    }

    /// The flush has failed: what it should have covered is seen, and will never be durable, as where
    /// a file system takes pages for clean that were never written.
    pub fn lose(&mut self, barrier: &Barrier) {
        self.cache.retain(|cached| !barrier.0.contains(&cached.id));
    }

    /// The ranges that were ever written to, about: by the unit of allocation.
    pub fn written(&self) -> Vec<Range<u64>> {
        let chunk = |number: &u64| number * CHUNK as u64..(number + 1) * CHUNK as u64;
        self.seen.0.keys().map(chunk).collect()
    }

    /// Whether something in front of this offset is being written, and nobody was told yet.
    pub fn is_writing_below(&self, end: u64) -> bool {
        self.cache.iter().any(|cached| !cached.completed && cached.offset < end)
    }

    /// Writes in the cache.
    pub fn cached(&self) -> usize {
        self.cache.len()
    }

    /// The device after its process was killed: what it has cached stays so, as durable as it was.
    /// `goes_on` says whether a write that was not completed had begun.
    pub fn after_kill(&self, mut goes_on: impl FnMut() -> bool) -> Disk {
        let cache = self.cache.iter().filter(|cached| cached.completed || goes_on());
        let cache: Vec<Cached> =
            cache.map(|cached| Cached { completed: true, ..cached.clone() }).collect();
        let mut seen = self.durable.clone();
        cache.iter().for_each(|cached| seen.write(cached.offset, &cached.bytes));
        Disk { durable: self.durable.clone(), seen, cache, next_id: self.next_id }
    }

    /// The device after a power cut: `fate` says what becomes of each write that no flush covers, told
    /// whether it was completed.
    pub fn after_crash(&self, mut fate: impl FnMut(bool) -> Fate) -> Disk {
        let mut durable = self.durable.clone();
        for cached in &self.cache {
            match fate(cached.completed) {
                Fate::Kept => durable.write(cached.offset, &cached.bytes),
                Fate::Lost => {}
                Fate::Torn(sectors) => {
                    for (number, sector) in cached.bytes.chunks(SECTOR).enumerate() {
                        if sectors >> (number % 64) & 1 == 1 {
                            durable.write(cached.offset + (number * SECTOR) as u64, sector);
                        }
                    }
                }
            }
        }
        Disk { seen: durable.clone(), durable, cache: Vec::new(), next_id: 0 }
    }

    /// Damages what is there, past every check: rot, a misdirected write, an old content come back.
    pub fn damage(&mut self, offset: u64, bytes: &[u8]) {
        self.seen.write(offset, bytes);
        self.durable.write(offset, bytes);
    }

    /// What the cache has of a range is older than what is durable there now.
    fn supersede(&mut self, range: &Range<u64>) {
        let hit =
            |cached: &Cached| cached.range().start < range.end && range.start < cached.range().end;
        let (older, rest): (Vec<_>, Vec<_>) = self.cache.drain(..).partition(hit);
        self.cache = rest;
        for cached in older {
            let Range { start, end } = cached.range();
            let mut keep = |from: u64, to: u64| {
                let part = (from - start) as usize..(to - start) as usize;
                let bytes = cached.bytes[part].into();
                self.cache.push(Cached { offset: from, bytes, ..cached.clone() });
            };
            if start < range.start {
                keep(start, range.start);
            }
            if end > range.end {
                keep(range.end, end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(disk: &Disk, offset: u64, len: usize) -> Vec<u8> {
        let mut out = vec![9; len];
        disk.read(offset, &mut out);
        out
    }

    fn lost(disk: &Disk) -> Disk {
        disk.after_crash(|_| Fate::Lost)
    }

    #[test]
    fn ranges_across_chunks_round_trip_and_the_rest_is_zero() {
        let mut disk = Disk::default();
        let bytes: Vec<u8> = (0..2 * CHUNK).map(|i| (i % 251) as u8).collect();
        let offset = CHUNK as u64 - 4096;
        disk.write(offset, &bytes);
        let back = seen(&disk, 0, 4 * CHUNK);
        let start = offset as usize;
        assert!(back[start..start + bytes.len()] == bytes[..]);
        assert!(back[..start].iter().chain(&back[start + bytes.len()..]).all(|b| *b == 0));
    }

    #[test]
    fn a_flush_covers_what_was_completed_when_it_was_asked_for_and_nothing_else() {
        let mut disk = Disk::default();
        let (first, second) = (disk.write(0, &[1; SECTOR]), disk.write(4096, &[2; SECTOR]));
        disk.complete(first);
        let barrier = disk.barrier();
        disk.complete(second);
        let third = disk.write(0, &[3; SECTOR]);
        disk.complete(third);
        assert_eq!(seen(&lost(&disk), 0, 1), [0]);
        disk.flush(&barrier);
        assert_eq!(seen(&lost(&disk), 0, 1), [1]);
        assert_eq!(seen(&lost(&disk), 4096, 1), [0]);
        assert_eq!(seen(&disk, 0, 1), [3]);
        disk.flush(&disk.barrier());
        assert_eq!(seen(&lost(&disk), 0, 1), [3]);
        assert_eq!(seen(&lost(&disk), 4096, 1), [2]);
        assert_eq!(disk.cached(), 0);
    }

    #[test]
    fn a_write_through_is_durable_and_no_older_write_comes_back_over_it() {
        let mut disk = Disk::default();
        let old = disk.write(0, &[1; 3 * SECTOR]);
        disk.complete(old);
        disk.write_through(SECTOR as u64, &[2; SECTOR]);
        let kept = disk.after_crash(|_| Fate::Kept);
        let sectors = |disk: &Disk| [0, 1, 2].map(|n| seen(disk, n * SECTOR as u64, 1)[0]);
        assert_eq!(sectors(&kept), [1, 2, 1]);
        assert_eq!(sectors(&lost(&disk)), [0, 2, 0]);
        disk.flush(&disk.barrier());
        assert_eq!(sectors(&lost(&disk)), [1, 2, 1]);
    }

    #[test]
    fn what_a_failed_flush_should_have_covered_is_seen_and_never_durable() {
        let mut disk = Disk::default();
        let write = disk.write(0, &[1; SECTOR]);
        disk.complete(write);
        disk.lose(&disk.barrier());
        disk.flush(&disk.barrier());
        assert_eq!(seen(&disk, 0, 1), [1]);
        assert_eq!(seen(&disk.after_crash(|_| Fate::Kept), 0, 1), [0]);
    }

    #[test]
    fn a_torn_write_has_the_sectors_that_were_named() {
        let mut disk = Disk::default();
        disk.write(0, &[1; 4 * SECTOR]);
        let torn = disk.after_crash(|completed| {
            assert!(!completed);
            Fate::Torn(0b1010)
        });
        let sectors = [0, 1, 2, 3].map(|n| seen(&torn, n * SECTOR as u64, 1)[0]);
        assert_eq!(sectors, [0, 1, 0, 1]);
        assert_eq!(seen(&disk, 0, 1), [1], "the device itself goes on");
    }
}
