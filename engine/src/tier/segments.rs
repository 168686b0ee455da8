//! One device tier and its segments: facts, and how they are counted. What may be done with them,
//! [`Space`](crate::tier::space::Space) says.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::limits::{BLOCK, BUFFER_SIZE_MAX};
use crate::plant::{Plant, planted};
use crate::tier::free::{BACKED_MIN, FreeSegments};
use crate::types::{BatchSeq, SegmentId, TierId, TierKind};

/// What a segment is, right now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum SegmentState {
    /// The superblocks, or beyond use.
    Fixed = 0,
    /// Nothing in it counts.
    Free = 1,
    /// A shard appends buffers.
    Open = 2,
    /// Only reads, and one day cleaning.
    Sealed = 3,
    /// Zero-written ahead, or holding batches that recovery may need.
    Log = 4,
    /// Checkpoint images.
    Meta = 5,
    /// The organizer appends buffers that it moves.
    OpenForMoves = 6,
}

impl SegmentState {
    pub(super) fn from_bits(bits: u8) -> SegmentState {
        match bits {
            1 => SegmentState::Free,
            2 => SegmentState::Open,
            3 => SegmentState::Sealed,
            4 => SegmentState::Log,
            5 => SegmentState::Meta,
            6 => SegmentState::OpenForMoves,
            _ => SegmentState::Fixed,
        }
    }
}

/// One segment's facts. All atomics: read from anywhere, changed as the rules above say.
pub struct Segment {
    pub(super) state: AtomicU8,
    pub(super) generation: AtomicU32,
    /// It was open before: the file system has its blocks.
    pub(super) written: AtomicBool,
    /// The file system has given it space.
    pub(super) backed: AtomicBool,
    pub(super) live_bytes: AtomicI64,
    pub(super) pins: AtomicU32,
    /// The newest batch that killed a byte in it.
    pub(super) freed_at: AtomicU64,
    /// The runtime's nanoseconds when it was sealed: its age, for the cleaner.
    pub(super) sealed_at: AtomicU64,
}

impl Segment {
    fn new(state: SegmentState) -> Segment {
        Segment {
            state: AtomicU8::new(state as u8),
            generation: AtomicU32::new(0),
            written: AtomicBool::new(false),
            backed: AtomicBool::new(false),
            live_bytes: AtomicI64::new(0),
            pins: AtomicU32::new(0),
            freed_at: AtomicU64::new(0),
            sealed_at: AtomicU64::new(0),
        }
    }

    /// What it is.
    pub fn state(&self) -> SegmentState {
        SegmentState::from_bits(self.state.load(Ordering::Acquire))
    }

    /// Whether all of it was in use before: writing there allocates nothing.
    pub fn was_written(&self) -> bool {
        self.written.load(Ordering::Relaxed)
    }

    pub(super) fn is_backed(&self) -> bool {
        self.backed.load(Ordering::Relaxed)
    }

    /// Names one life of the segment: no two openings of a store have the same. 0 = never opened.
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    /// Bytes of buffers that something refers to, or that are not committed yet.
    pub fn live_bytes(&self) -> u64 {
        u64::try_from(self.live_bytes.load(Ordering::Acquire)).unwrap_or(0)
    }

    /// When it was sealed.
    pub fn sealed_at_ns(&self) -> u64 {
        self.sealed_at.load(Ordering::Relaxed)
    }

    /// Whether the rules allow its reuse, given the durable watermark.
    pub(super) fn is_reusable(&self, watermark: BatchSeq) -> bool {
        self.live_bytes.load(Ordering::Acquire) == 0
            && (self.pins.load(Ordering::SeqCst) == 0 || planted(Plant::ReuseUnderReader))
            && (self.freed_at.load(Ordering::Acquire) <= watermark.0
                || planted(Plant::ReuseBeforeFlush))
    }
}

/// Traffic of one tier.
#[derive(Default)]
pub struct TierCounters {
    /// Bytes read by callers, shards and the organizer.
    pub read_bytes: AtomicU64,
    /// Device reads.
    pub reads: AtomicU64,
    /// Bytes written.
    pub written_bytes: AtomicU64,
    /// Device writes.
    pub writes: AtomicU64,
    /// Device flushes.
    pub flushes: AtomicU64,
    /// Bytes written since the last flush began; the sum over tiers is bounded.
    pub unflushed_bytes: AtomicU64,
}

impl TierCounters {
    /// Counts one read.
    pub fn count_read(&self, bytes: usize) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.read_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts one write.
    pub fn count_write(&self, bytes: usize) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.unflushed_bytes.fetch_add(bytes as u64, Ordering::AcqRel);
    }
}

/// What a segment is wanted for. The later ones may dig deeper into the reserve.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Purpose {
    /// Values of puts.
    Data,
    /// What becomes hot, from a slower tier: never needed.
    Promotion,
    /// What the organizer moves: it makes room in the end.
    Move,
    /// The log.
    Log,
    /// Checkpoint images: they free log segments.
    Meta,
}

/// One device tier.
pub struct Tier {
    /// Its place in the configuration.
    pub id: TierId,
    /// NVMe or HDD.
    pub kind: TierKind,
    /// Bytes of its file.
    pub capacity: u64,
    /// Bytes of a segment.
    pub segment_size: u64,
    /// The organizer demotes above this part of the usable bytes …
    pub watermark_high: f64,
    /// … down to this.
    pub watermark_low: f64,
    /// Traffic.
    pub counters: TierCounters,
    /// Why nothing can be read there or written, if so.
    pub(super) lost: Option<Error>,
    pub(super) segments: Box<[Segment]>,
    pub(super) free: Mutex<FreeSegments>,
    /// Segments that the file system has no space for, since it was last asked.
    pub(super) refused: AtomicU32,
    /// Of each free segment it is known whether the file system has given it space.
    pub(super) has_asked_for_all: AtomicBool,
    pub(super) live_bytes: AtomicI64,
    /// Segments that cleaning, the log and the checkpoints need.
    pub(super) reserve: [AtomicU32; 3],
    /// Those that they have.
    pub(super) taken: [AtomicU32; 3],
}

impl Tier {
    /// A tier whose segments, but the first, are free.
    pub fn new(
        id: TierId,
        kind: TierKind,
        capacity: u64,
        segment_size: u64,
        watermarks: (f64, f64),
    ) -> Tier {
        let count = u32::try_from(capacity / segment_size).unwrap_or(u32::MAX);
        let state = |n| if n == 0 { SegmentState::Fixed } else { SegmentState::Free };
        Tier {
            id,
            kind,
            capacity,
            segment_size,
            watermark_low: watermarks.0,
            watermark_high: watermarks.1,
            counters: TierCounters::default(),
            lost: None,
            segments: (0..count).map(|n| Segment::new(state(n))).collect(),
            free: Mutex::new(FreeSegments::bare((1..count).map(SegmentId))),
            refused: AtomicU32::new(0),
            has_asked_for_all: AtomicBool::new(false),
            live_bytes: AtomicI64::new(0),
            reserve: Default::default(),
            taken: Default::default(),
        }
    }

    /// The tier without its device: what lies there answers this error.
    pub fn lost(mut self, error: Error) -> Tier {
        self.lost = Some(error);
        self
    }

    /// Whether the tier's device is gone.
    pub fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// Refuses transfers of a lost tier.
    #[inline]
    pub fn check_there(&self) -> Result<()> {
        self.lost.as_ref().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Every segment, by number.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// One segment.
    pub fn segment(&self, id: SegmentId) -> &Segment {
        &self.segments[id.0 as usize]
    }

    /// The segment that holds a byte of the device.
    pub fn segment_at(&self, offset: u64) -> SegmentId {
        SegmentId((offset / self.segment_size) as u32)
    }

    /// Where a segment begins.
    pub fn offset_of(&self, id: SegmentId) -> u64 {
        u64::from(id.0) * self.segment_size
    }

    /// Segments that are free, and that the file system has space for.
    pub fn free_segments(&self) -> usize {
        self.free.lock().len(self.is_host_full())
    }

    /// Whether the file system refuses space for more segments.
    pub fn is_host_full(&self) -> bool {
        self.refused.load(Ordering::Relaxed) > 0
    }

    /// What the file system answered when it was asked for the space of a segment.
    pub(super) fn note_host(&self, gave: bool) {
        let bare = || self.segments.iter().skip(1).filter(|segment| !segment.is_backed()).count();
        let refused = if gave { 0 } else { bare() as u32 };
        self.refused.store(refused, Ordering::Relaxed);
    }

    /// Segments with space that data leaves to the others.
    pub(super) fn backed_floor(&self) -> usize {
        (self.floor(Purpose::Data) as usize).min(BACKED_MIN)
    }

    /// Live bytes of all segments.
    pub fn live_bytes(&self) -> u64 {
        u64::try_from(self.live_bytes.load(Ordering::Acquire)).unwrap_or(0)
    }

    /// Segments that must stay free after an allocation for `purpose`: what the more important
    /// purposes need and have not got yet, and one, for they take the next segment before they
    /// let go of the last.
    pub fn floor(&self, purpose: Purpose) -> u32 {
        let [_, log, meta] = self.shares();
        match purpose {
            Purpose::Data | Purpose::Promotion => {
                self.lacking_for_cleaning() + log.lacking() + meta.lacking()
            }
            // Some of what the log will need may be lent: it comes back with what is emptied. After
            // a crash the segments that moves went to are data's, and there may be no others.
            Purpose::Move => log.needs.min(1) + meta.lacking(),
            Purpose::Log => meta.lacking(),
            Purpose::Meta => 0,
        }
    }

    /// Segments that are set aside for cleaning and that it has not taken.
    pub fn lacking_for_cleaning(&self) -> u32 {
        let [cleaning, ..] = self.shares();
        cleaning.needs.saturating_sub(cleaning.has)
    }

    /// Of cleaning, log and checkpoints.
    fn shares(&self) -> [Share; 3] {
        let load = |counter: &AtomicU32| counter.load(Ordering::Acquire);
        [0, 1, 2].map(|n| Share { needs: load(&self.reserve[n]), has: load(&self.taken[n]) })
    }

    /// Whether the log has more segments than are set aside for it: then it has what a newer
    /// checkpoint would let go of.
    pub fn log_is_over(&self) -> bool {
        let [_, log, _] = self.shares();
        log.has > log.needs
    }

    /// Whether the log has fewer segments than are set aside for it: taking one more takes nothing
    /// from data.
    pub fn log_may_grow(&self) -> bool {
        let [_, log, _] = self.shares();
        log.has < log.needs
    }

    /// Segments that checkpoints have.
    pub fn meta_segments(&self) -> u32 {
        let [.., meta] = self.shares();
        meta.has
    }

    /// Sets the reserve: segments that cleaning, the log and the checkpoints each need.
    pub fn set_reserve(&self, cleaning: u32, log: u32, meta: u32) {
        for (place, value) in self.reserve.iter().zip([cleaning, log, meta]) {
            place.store(value, Ordering::Release);
        }
    }

    pub(super) fn set_state(&self, segment: SegmentId, state: SegmentState) {
        let before = self.segment(segment).state.swap(state as u8, Ordering::AcqRel);
        let counter = |state| match state {
            SegmentState::OpenForMoves => Some(&self.taken[0]),
            SegmentState::Log => Some(&self.taken[1]),
            SegmentState::Meta => Some(&self.taken[2]),
            _ => None,
        };
        if let Some(counter) = counter(state) {
            counter.fetch_add(1, Ordering::AcqRel);
        }
        if let Some(counter) = counter(SegmentState::from_bits(before)) {
            counter.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Bytes of buffers that fit when everything is packed as the writers pack it: the end of a
    /// segment that no buffer fits into, its header and summary are lost, and a sixteenth is
    /// kept so that cleaning never copies nearly full segments for a few bytes. Of the segments,
    /// those that [`floor`](Self::floor) leaves to data: what is promised here can be had, once
    /// the log has let go of what it should not have.
    pub fn usable_bytes(&self) -> u64 {
        let [cleaning, log, meta] = self.shares();
        let others = u64::from(cleaning.needs + log.set_aside() + meta.set_aside()) + 1;
        let per_segment = packed_bytes(self.segment_size);
        let refused = u64::from(self.refused.load(Ordering::Relaxed));
        let segments = (self.segments.len() as u64).saturating_sub(others + refused);
        segments * per_segment / 16 * 15
    }
}

/// What one purpose needs of a tier, and has. It may have more than it needs: crashes leave
/// segments of log that were hardly begun.
struct Share {
    needs: u32,
    has: u32,
}

impl Share {
    /// Segments that data never gets: one more than it needs, as it takes the next before it lets
    /// go of the last.
    fn set_aside(&self) -> u32 {
        self.needs + self.needs.min(1)
    }

    /// Segments that are to stay free for it: always one, if it needs any.
    fn lacking(&self) -> u32 {
        self.set_aside().saturating_sub(self.has).max(self.needs.min(1))
    }
}

/// What a small buffer takes beside its bytes: its entry in a segment's summary.
const SMALL_OVERHEAD: u64 = 64;

/// Bytes of buffers that a packed segment holds at least: the next one did not fit, or its entry
/// in the summary.
pub fn packed_bytes(segment_size: u64) -> u64 {
    segment_size - BUFFER_SIZE_MAX as u64 - 64 * 1024
}

/// Bytes a buffer takes in a segment: small ones are packed, others aligned to the block.
pub fn footprint(stored_len: u32) -> u64 {
    if (stored_len as usize) < BLOCK {
        return u64::from(stored_len).next_multiple_of(8) + SMALL_OVERHEAD;
    }
    u64::from(stored_len).next_multiple_of(BLOCK as u64)
}
