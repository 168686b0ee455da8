//! Chunks without a class: faulting them in, handing them to classes, taking them back.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::arena::{Arena, Place};
use super::class::{CHUNK, Class};
use super::free::FreeList;
use super::lane::{LANES, Padded};
use super::layout::META;

/// The most faulted chunks without a class that are kept ready.
const READY_MAX: usize = 64;

/// An arena of fewer chunks than this cannot give each class its own; slots of larger classes
/// are used then, up to [`BORROW`] classes above, which is twice the size.
const BORROW_BELOW: usize = 4 * Class::COUNT;
pub(super) const BORROW: usize = 4;

/// A set of chunks. Members may be outdated: whoever uses one checks the chunk's free list.
pub(super) struct ChunkSet(Box<[AtomicU64]>);

impl ChunkSet {
    fn new(chunks: usize) -> ChunkSet {
        ChunkSet((0..chunks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    pub(super) fn set(&self, chunk: usize) {
        let word = &self.0[chunk / 64];
        // Usually set already; do not take the line from its readers then.
        if word.load(Ordering::SeqCst) >> (chunk % 64) & 1 == 0 {
            word.fetch_or(1 << (chunk % 64), Ordering::SeqCst);
        }
    }

    pub(super) fn clear(&self, chunk: usize) {
        self.0[chunk / 64].fetch_and(!(1 << (chunk % 64)), Ordering::SeqCst);
    }

    /// The first member at or after `from`, wrapping around.
    pub(super) fn next(&self, from: usize) -> Option<usize> {
        let words = self.0.len();
        let start = (from / 64) % words;
        let masked = self.0[start].load(Ordering::SeqCst) & (u64::MAX << (from % 64));
        if masked != 0 {
            return Some(start * 64 + masked.trailing_zeros() as usize);
        }
        (1..=words).find_map(|step| {
            let at = (start + step) % words;
            let bits = self.0[at].load(Ordering::SeqCst);
            (bits != 0).then(|| at * 64 + bits.trailing_zeros() as usize)
        })
    }
}

/// What this process remembers about a class to be fast.
pub(super) struct ClassHints {
    /// Per lane: the chunk it last allocated from or freed in, plus one.
    current: [Padded<AtomicU32>; LANES],
    /// Chunks that had room when last looked at.
    pub(super) room: ChunkSet,
    /// Chunks of the class.
    pub(super) members: ChunkSet,
    /// Their number.
    pub(super) chunks: AtomicUsize,
    /// The clock's hand: chunk in the upper half, slot in the lower.
    pub(super) hand: AtomicU64,
    /// Units the hand has passed, fading; and those since it last found a victim.
    pub(super) passed: AtomicU64,
    pub(super) fruitless: AtomicU64,
    /// Sweeps of this class so far.
    pub(super) sweeps: AtomicU32,
}

impl ClassHints {
    pub(super) fn new(chunks: usize) -> ClassHints {
        ClassHints {
            current: Default::default(),
            room: ChunkSet::new(chunks),
            members: ChunkSet::new(chunks),
            chunks: AtomicUsize::new(0),
            hand: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            fruitless: AtomicU64::new(0),
            sweeps: AtomicU32::new(0),
        }
    }

    #[inline]
    pub(super) fn hinted(&self, lane: usize) -> Option<usize> {
        (self.current[lane].0.load(Ordering::Relaxed) as usize).checked_sub(1)
    }

    /// The lane allocates from this chunk next.
    #[inline]
    pub(super) fn hint(&self, lane: usize, chunk: usize) {
        self.current[lane].0.store(chunk as u32 + 1, Ordering::Relaxed);
    }
}

/// Faulted chunks that no class has, and how far faulting has come.
pub(super) struct Pool {
    /// A stack: tag in the upper half, chunk plus one in the lower.
    top: AtomicU64,
    links: Box<[AtomicU32]>,
    ready: AtomicUsize,
    /// Chunks from here on have never been touched.
    faulted: AtomicUsize,
    /// Chunks of a class with no slot in use.
    pub(super) empties: AtomicUsize,
    /// The chunk being drained for another class: chunk plus one, then the next slot to look at.
    pub(super) drain: AtomicU64,
    /// Where the search for a chunk to drain goes on.
    pub(super) drain_hand: AtomicUsize,
}

impl Pool {
    pub(super) fn new(chunks: usize) -> Pool {
        Pool {
            top: AtomicU64::new(0),
            links: (0..chunks).map(|_| AtomicU32::new(0)).collect(),
            ready: AtomicUsize::new(0),
            faulted: AtomicUsize::new(0),
            empties: AtomicUsize::new(0),
            drain: AtomicU64::new(0),
            drain_hand: AtomicUsize::new(0),
        }
    }

    fn push(&self, chunk: usize) {
        let mut seen = self.top.load(Ordering::Relaxed);
        loop {
            self.links[chunk].store(seen as u32, Ordering::Relaxed);
            let new = (seen >> 32).wrapping_add(1) << 32 | (chunk as u64 + 1);
            match self.top.compare_exchange_weak(seen, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        self.ready.fetch_add(1, Ordering::Relaxed);
    }

    fn pop(&self) -> Option<usize> {
        let mut seen = self.top.load(Ordering::Acquire);
        loop {
            let chunk = (seen as u32 as usize).checked_sub(1)?;
            let next = u64::from(self.links[chunk].load(Ordering::Relaxed));
            let new = (seen >> 32).wrapping_add(1) << 32 | next;
            match self.top.compare_exchange_weak(seen, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    self.ready.fetch_sub(1, Ordering::Relaxed);
                    return Some(chunk);
                }
                Err(now) => seen = now,
            }
        }
    }
}

impl Arena {
    /// Finds room beyond the lane's current chunk: another chunk of the class, a chunk without a
    /// class, an empty one of another class, or one that has never been touched.
    #[cold]
    pub(super) fn alloc_slow(&self, class: Class, lane: usize) -> Option<Place> {
        let hints = &self.hints[class.index()];
        loop {
            // Lanes start apart, so that they meet in one chunk only where there are few.
            let mut from = self.layout.chunks * lane / LANES;
            while let Some(chunk) = hints.room.next(from) {
                if let Some(place) = self.pop(chunk, class) {
                    hints.hint(lane, chunk);
                    return Some(place);
                }
                self.forget_room(chunk, class);
                from = chunk;
            }
            let chunk = self.pool.pop().or_else(|| self.steal_empty()).or_else(|| self.fault());
            let Some(chunk) = chunk else { return self.borrow(class) };
            self.assign(chunk, class);
            hints.hint(lane, chunk);
        }
    }

    /// Whether the arena is so small that classes share slots.
    pub(super) fn may_borrow(&self) -> bool {
        self.layout.chunks < BORROW_BELOW
    }

    /// A slot of a somewhat larger class.
    fn borrow(&self, class: Class) -> Option<Place> {
        let classes = class.larger().take(if self.may_borrow() { BORROW } else { 0 });
        classes.into_iter().find_map(|larger| {
            let room = &self.hints[larger.index()].room;
            let mut from = 0;
            while let Some(chunk) = room.next(from) {
                if let Some(place) = self.pop(chunk, larger) {
                    return Some(place);
                }
                self.forget_room(chunk, larger);
                from = chunk;
            }
            None
        })
    }

    /// Clears the hint of room; sets it again if a slot was freed at the same time.
    fn forget_room(&self, chunk: usize, class: Class) {
        let room = &self.hints[class.index()].room;
        room.clear(chunk);
        let list = FreeList(self.free_word(chunk).load(Ordering::SeqCst));
        if list.class() == Some(class) && list.count() > 0 && !list.draining() {
            room.set(chunk);
        }
    }

    /// Cuts a chunk that the caller owns into slots of a class.
    fn assign(&self, chunk: usize, class: Class) {
        let slots = class.slots();
        for index in 0..slots {
            let next = if index + 1 < slots { index as u64 + 1 } else { u64::from(u32::MAX) };
            self.link(chunk, index).store(next, Ordering::Relaxed);
        }
        self.touched_metas(chunk, slots * META);
        let hints = &self.hints[class.index()];
        self.class_word(chunk).store(class.code(), Ordering::Release);
        hints.members.set(chunk);
        hints.chunks.fetch_add(1, Ordering::Relaxed);
        self.pool.empties.fetch_add(1, Ordering::Relaxed);
        let word = self.free_word(chunk);
        let list = FreeList(word.load(Ordering::Relaxed));
        assert!(list.class().is_none(), "assigned a chunk that has a class");
        word.store(list.assigned(class).0, Ordering::SeqCst);
        hints.room.set(chunk);
    }

    /// Takes a chunk whose slots are all free away from its class.
    fn take_empty(&self, chunk: usize) -> bool {
        let word = self.free_word(chunk);
        let seen = word.load(Ordering::Acquire);
        let list = FreeList(seen);
        let Some(class) = list.class().filter(|_| list.is_empty_chunk()) else { return false };
        let new = list.unassigned().0;
        if word.compare_exchange(seen, new, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        // The chunk is ours now: nothing can be popped from it, and nothing is out to be pushed.
        let hints = &self.hints[class.index()];
        hints.members.clear(chunk);
        hints.chunks.fetch_sub(1, Ordering::Relaxed);
        self.pool.empties.fetch_sub(1, Ordering::Relaxed);
        self.class_word(chunk).store(0, Ordering::Release);
        true
    }

    /// Returns an empty chunk to the pool, unless someone else has taken it meanwhile.
    pub(super) fn reclaim(&self, chunk: usize) {
        if self.take_empty(chunk) {
            self.pool.push(chunk);
        }
    }

    fn steal_empty(&self) -> Option<usize> {
        if self.pool.empties.load(Ordering::Relaxed) == 0 {
            return None;
        }
        (0..self.layout.chunks).find(|&chunk| self.take_empty(chunk))
    }

    /// Backs the next untouched chunk with memory and hands it to the caller.
    fn fault(&self) -> Option<usize> {
        let chunk = self
            .pool
            .faulted
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                (next < self.layout.chunks).then_some(next + 1)
            })
            .ok()?;
        self.map.populate(self.layout.data_at + chunk * CHUNK, CHUNK);
        Some(chunk)
    }

    /// Whether a class that wants another chunk can have one without taking it from others.
    pub(super) fn has_spare_chunks(&self) -> bool {
        self.pool.ready.load(Ordering::Relaxed) > 0
            || self.pool.faulted.load(Ordering::Relaxed) < self.layout.chunks
    }

    /// Whether faulting ahead has work.
    pub(super) fn wants_faulting(&self) -> bool {
        let target = (self.layout.chunks / 16).clamp(8, READY_MAX);
        self.pool.ready.load(Ordering::Relaxed) < target
            && self.pool.faulted.load(Ordering::Relaxed) < self.layout.chunks
    }

    /// Makes one more chunk ready.
    pub(super) fn fault_ahead(&self) -> bool {
        if !self.wants_faulting() {
            return false;
        }
        let Some(chunk) = self.fault() else { return false };
        self.pool.push(chunk);
        true
    }

    /// Bytes of chunks that have been touched.
    pub(super) fn faulted_bytes(&self) -> u64 {
        (self.pool.faulted.load(Ordering::Relaxed) * CHUNK) as u64
    }
}
