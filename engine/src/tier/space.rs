//! The segments of every device tier: what is free, what is live, who reads, what may be reused.
//!
//! Three rules keep acknowledged bytes where they are:
//!
//! * A segment is reused only when nothing in it is live, no reader has it pinned, and the batch
//!   that killed its last byte is covered by the durable watermark.
//! * Bytes written and not yet committed are live.
//! * A put is admitted only if its bytes fit beside everything live and reserved, outside the
//!   reserve that log, checkpoints, cleaning and deletes need.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::index::state::Buffer;
use crate::io::wait::WaitList;
use crate::limits::{BLOCK, BUFFER_SIZE_MAX};
use crate::log::record::SegmentKind;
use crate::tier::free::{BACKED_MIN, FreeSegments};
use crate::types::{BatchSeq, Location, Place, SegmentId, TierId, TierKind, TierSegment};

/// What a segment is, right now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum SegmentState {
    /// The superblocks, or beyond use.
    Fixed = 0,
    /// Nothing in it counts.
    Free = 1,
    /// A shard or the organizer appends buffers.
    Open = 2,
    /// Only reads, and one day cleaning.
    Sealed = 3,
    /// Zero-written ahead, or holding batches that recovery may need.
    Log = 4,
    /// Checkpoint images.
    Meta = 5,
}

impl SegmentState {
    fn from_bits(bits: u8) -> SegmentState {
        match bits {
            1 => SegmentState::Free,
            2 => SegmentState::Open,
            3 => SegmentState::Sealed,
            4 => SegmentState::Log,
            5 => SegmentState::Meta,
            _ => SegmentState::Fixed,
        }
    }
}

/// One segment's facts. All atomics: read from anywhere, changed as the rules above say.
pub struct Segment {
    state: AtomicU8,
    generation: AtomicU32,
    /// It was open before: the file system has its blocks.
    written: AtomicBool,
    /// The file system has given it space.
    backed: AtomicBool,
    live_bytes: AtomicI64,
    pins: AtomicU32,
    /// The newest batch that killed a byte in it.
    freed_at: AtomicU64,
    /// The runtime's nanoseconds when it was sealed: its age, for the cleaner.
    sealed_at: AtomicU64,
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

    fn is_backed(&self) -> bool {
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
    fn is_reusable(&self, watermark: BatchSeq) -> bool {
        self.live_bytes.load(Ordering::Acquire) == 0
            && self.pins.load(Ordering::SeqCst) == 0
            && self.freed_at.load(Ordering::Acquire) <= watermark.0
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
    lost: Option<Error>,
    segments: Box<[Segment]>,
    free: Mutex<FreeSegments>,
    /// Segments that the file system has no space for, since it was last asked.
    refused: AtomicU32,
    live_bytes: AtomicI64,
    /// Segments that cleaning, the log and the checkpoints need.
    reserve: [AtomicU32; 3],
    /// Those that the log and the checkpoints have.
    taken: [AtomicU32; 2],
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
    fn note_host(&self, gave: bool) {
        let bare = || self.segments.iter().skip(1).filter(|segment| !segment.is_backed()).count();
        let refused = if gave { 0 } else { bare() as u32 };
        self.refused.store(refused, Ordering::Relaxed);
    }

    /// Segments with space that data leaves to the others.
    fn backed_floor(&self) -> usize {
        (self.floor(Purpose::Data) as usize).min(BACKED_MIN)
    }

    /// Live bytes of all segments.
    pub fn live_bytes(&self) -> u64 {
        u64::try_from(self.live_bytes.load(Ordering::Acquire)).unwrap_or(0)
    }

    /// Segments that must stay free after an allocation for `purpose`: what the more important
    /// purposes need and have not got yet, and at least one, for they take the next segment
    /// before they let go of the last.
    pub fn floor(&self, purpose: Purpose) -> u32 {
        let load = |counter: &AtomicU32| counter.load(Ordering::Acquire);
        let [cleaning, log, meta] = self.reserve.each_ref().map(load);
        let [has_log, has_meta] = self.taken.each_ref().map(load);
        let lacking = |needs: u32, has: u32| needs.saturating_sub(has).max(needs.min(1));
        let (log, meta) = (lacking(log, has_log), lacking(meta, has_meta));
        match purpose {
            Purpose::Data => cleaning + log + meta,
            Purpose::Move => log + meta,
            Purpose::Log => meta,
            Purpose::Meta => 0,
        }
    }

    /// Whether the log has fewer segments than are set aside for it: taking one more takes nothing
    /// from data.
    pub fn log_may_grow(&self) -> bool {
        self.taken[0].load(Ordering::Acquire) < self.reserve[1].load(Ordering::Acquire)
    }

    /// Segments that checkpoints have.
    pub fn meta_segments(&self) -> u32 {
        self.taken[1].load(Ordering::Acquire)
    }

    /// Sets the reserve: segments that cleaning, the log and the checkpoints each need.
    pub fn set_reserve(&self, cleaning: u32, log: u32, meta: u32) {
        for (place, value) in self.reserve.iter().zip([cleaning, log, meta]) {
            place.store(value, Ordering::Release);
        }
    }

    fn set_state(&self, segment: SegmentId, state: SegmentState) {
        let before = self.segment(segment).state.swap(state as u8, Ordering::AcqRel);
        let counter = |state| match state {
            SegmentState::Log => Some(&self.taken[0]),
            SegmentState::Meta => Some(&self.taken[1]),
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
    /// kept so that cleaning never copies nearly full segments for a few bytes.
    pub fn usable_bytes(&self) -> u64 {
        let reserve: u32 = self.reserve.iter().map(|part| part.load(Ordering::Acquire)).sum();
        let reserve = u64::from(reserve) + 1;
        let per_segment = packed_bytes(self.segment_size);
        let refused = u64::from(self.refused.load(Ordering::Relaxed));
        let segments = (self.segments.len() as u64).saturating_sub(reserve + refused);
        segments * per_segment / 16 * 15
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

/// Asks a tier's file system for the space of a range of bytes.
pub type Backing = Box<dyn Fn(TierId, Range<u64>) -> std::io::Result<()> + Send + Sync>;

/// All device tiers.
pub struct Space {
    tiers: Box<[Tier]>,
    backing: Backing,
    reserved_bytes: AtomicI64,
    next_generation: AtomicU32,
    /// The newest batch whose effects the index shows.
    applied: AtomicU64,
    /// Segments became free, or bytes died.
    pub changed: WaitList,
}

impl Space {
    /// These tiers, all free.
    pub fn new(tiers: Vec<Tier>, backing: Backing) -> Space {
        Space {
            tiers: tiers.into(),
            backing,
            reserved_bytes: AtomicI64::new(0),
            next_generation: AtomicU32::new(1),
            applied: AtomicU64::new(0),
            changed: WaitList::default(),
        }
    }

    /// The tiers, fastest first.
    pub fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    /// One tier.
    pub fn tier(&self, id: TierId) -> &Tier {
        &self.tiers[id.index()]
    }

    /// Says that batches up to this one show in the index. What dies from now on may only be
    /// reused once a later flush covers it.
    pub fn set_applied(&self, seq: BatchSeq) {
        self.applied.fetch_max(seq.0, Ordering::AcqRel);
    }

    /// Admits `bytes` beside what is live and reserved, or not. Released by [`unreserve`].
    ///
    /// [`unreserve`]: Self::unreserve
    pub fn reserve(&self, bytes: u64) -> bool {
        let there = || self.tiers.iter().filter(|tier| !tier.is_lost());
        let usable: u64 = there().map(Tier::usable_bytes).sum();
        let live: u64 = there().map(Tier::live_bytes).sum();
        let before = self.reserved_bytes.fetch_add(bytes as i64, Ordering::AcqRel);
        let fits = live + u64::try_from(before).unwrap_or(0) + bytes <= usable;
        if !fits {
            self.unreserve(bytes);
        }
        fits
    }

    /// Counts a reservation that needs no admission.
    pub fn reserve_unchecked(&self, bytes: u64) {
        self.reserved_bytes.fetch_add(bytes as i64, Ordering::AcqRel);
    }

    /// Takes back a reservation, because the bytes are live now or never will be.
    pub fn unreserve(&self, bytes: u64) {
        let before = self.reserved_bytes.fetch_sub(bytes as i64, Ordering::AcqRel);
        assert!(before >= bytes as i64, "{bytes} bytes unreserved of {before}");
    }

    /// Bytes reserved by operations under way and by dirty buffers.
    pub fn reserved_bytes(&self) -> u64 {
        u64::try_from(self.reserved_bytes.load(Ordering::Acquire)).unwrap_or(0)
    }

    /// Takes a free segment of the tier, if the purpose leaves the reserve alone and the file
    /// system has space for it.
    pub fn allocate(&self, tier: TierId, purpose: Purpose) -> Option<TierSegment> {
        let owner = self.tier(tier);
        if owner.is_lost() {
            return None;
        }
        let keep = if purpose == Purpose::Data { owner.backed_floor() } else { 0 };
        let (segment, backed) = {
            let mut free = owner.free.lock();
            if free.len(owner.is_host_full()) <= owner.floor(purpose) as usize {
                return None;
            }
            let next = free.next(keep)?;
            free.take(next.0);
            next
        };
        if !backed && !self.back(owner, segment) {
            owner.free.lock().put(segment, false);
            return None;
        }
        let facts = owner.segment(segment);
        assert_eq!(facts.live_bytes(), 0, "segment {segment:?} of {tier:?} was free and is live");
        let before = facts.generation.swap(self.take_generation(), Ordering::AcqRel);
        facts.written.store(before != 0, Ordering::Relaxed);
        let state = match purpose {
            Purpose::Data | Purpose::Move => SegmentState::Open,
            Purpose::Log => SegmentState::Log,
            Purpose::Meta => SegmentState::Meta,
        };
        owner.set_state(segment, state);
        Some(TierSegment { tier, segment })
    }

    /// Asks the file system for the space of a segment that nobody else can take meanwhile. False
    /// if it has none. Where it cannot say, the writes will tell.
    fn back(&self, tier: &Tier, segment: SegmentId) -> bool {
        let start = tier.offset_of(segment);
        let answer = (self.backing)(tier.id, start..start + tier.segment_size);
        let gave = match answer.map_err(|error| Error::from_io("", &error).kind()) {
            Err(ErrorKind::NoSpace) => false,
            Ok(()) | Err(_) => true,
        };
        tier.segment(segment).backed.store(gave, Ordering::Relaxed);
        tier.note_host(gave);
        gave
    }

    /// Gives space to what log, checkpoints and cleaning take next, as far as the file systems have
    /// any. Also finds out whether one that had none has some again.
    pub fn back_reserve(&self) {
        for tier in self.tiers.iter().filter(|tier| !tier.is_lost()) {
            let wanted = tier.backed_floor();
            loop {
                let next = {
                    let mut free = tier.free.lock();
                    let enough = free.backed() >= wanted && !tier.is_host_full();
                    let next = free.next(usize::MAX).filter(|_| !enough);
                    next.filter(|(segment, _)| free.take(*segment))
                };
                let Some((segment, _)) = next else { break };
                let gave = self.back(tier, segment);
                tier.free.lock().put(segment, gave);
                if !gave {
                    break;
                }
            }
        }
    }

    fn take_generation(&self) -> u32 {
        let generation = self.next_generation.fetch_add(1, Ordering::AcqRel);
        assert!(generation < u32::MAX, "the store has opened 2^32 segments");
        generation
    }

    /// The generation that the next opened segment gets; never used before in this store.
    pub fn next_generation(&self) -> u32 {
        self.next_generation.load(Ordering::Acquire)
    }

    /// Recovery: generations below this one have been used.
    pub fn raise_generation(&self, next: u32) {
        self.next_generation.fetch_max(next, Ordering::AcqRel);
    }

    /// Nothing more is appended to an open segment, or a log segment is covered by a checkpoint.
    pub fn seal(&self, at: TierSegment, now_ns: u64) {
        let tier = self.tier(at.tier);
        tier.segment(at.segment).sealed_at.store(now_ns, Ordering::Relaxed);
        tier.set_state(at.segment, SegmentState::Sealed);
    }

    /// Frees the sealed segments that the rules allow to reuse, and says which.
    pub fn reclaim(&self, watermark: BatchSeq) -> Vec<TierSegment> {
        let mut freed = Vec::new();
        for tier in &self.tiers {
            for (number, segment) in tier.segments.iter().enumerate() {
                if segment.state() == SegmentState::Sealed && segment.is_reusable(watermark) {
                    freed.push(TierSegment { tier: tier.id, segment: SegmentId(number as u32) });
                }
            }
        }
        freed.iter().for_each(|at| self.free(*at));
        freed
    }

    /// Whether a higher durable watermark would free a segment.
    pub fn would_reclaim(&self, watermark: BatchSeq) -> bool {
        let reusable = |segment: &Segment| {
            segment.state() == SegmentState::Sealed && segment.is_reusable(watermark)
        };
        self.tiers.iter().any(|tier| tier.segments.iter().any(reusable))
    }

    /// Frees a segment whose content nobody needs: reclaimed, or a superseded checkpoint's.
    pub fn free(&self, at: TierSegment) {
        let tier = self.tier(at.tier);
        tier.set_state(at.segment, SegmentState::Free);
        let new = tier.free.lock().put(at.segment, tier.segment(at.segment).is_backed());
        assert!(new, "{at:?} was freed twice");
        self.changed.wake_all();
    }

    /// Puts a segment into the state that recovery found for it.
    pub fn restore(&self, at: TierSegment, state: SegmentState, generation: u32) {
        let tier = self.tier(at.tier);
        let facts = tier.segment(at.segment);
        facts.generation.fetch_max(generation, Ordering::AcqRel);
        tier.set_state(at.segment, state);
        // What is in use has been given space; of the others, the file system knows.
        facts.backed.store(state != SegmentState::Free, Ordering::Relaxed);
        let mut free = tier.free.lock();
        free.take(at.segment);
        if state == SegmentState::Free {
            free.put(at.segment, false);
        }
    }

    /// Recovery: adds what was found to be live, by tier and segment.
    pub fn restore_live(&self, found: &[Vec<u64>]) {
        for (tier, segments) in self.tiers.iter().zip(found) {
            for (segment, bytes) in tier.segments.iter().zip(segments) {
                segment.live_bytes.fetch_add(*bytes as i64, Ordering::AcqRel);
            }
            tier.live_bytes.fetch_add(segments.iter().sum::<u64>() as i64, Ordering::AcqRel);
        }
    }

    /// Keeps the segment at a location from being reused. The caller holds a lock under which
    /// the location is current.
    pub fn pin(self: &Arc<Self>, location: Location) -> Option<SegmentPin> {
        let Place::Device { tier, offset } = location.place() else { return None };
        let segment = self.tier(tier).segment_at(offset);
        self.tier(tier).segment(segment).pins.fetch_add(1, Ordering::SeqCst);
        Some(SegmentPin { space: self.clone(), at: TierSegment { tier, segment } })
    }

    /// Bytes were appended at a location: they are live from now on, committed or not.
    pub fn bytes_live(&self, location: Location, stored_len: u32) {
        self.change_live(location, footprint(stored_len) as i64);
    }

    /// Bytes at a location are dead: superseded, moved away, or never committed.
    pub fn bytes_dead(&self, location: Location, stored_len: u32) {
        self.change_live(location, -(footprint(stored_len) as i64));
    }

    /// A buffer is gone: its device bytes are dead, or its reservation is void.
    pub fn buffer_died(&self, buffer: &Buffer) {
        if buffer.is_dirty() {
            self.unreserve(footprint(buffer.stored_len));
        } else {
            self.bytes_dead(buffer.location, buffer.stored_len);
        }
    }

    fn change_live(&self, location: Location, delta: i64) {
        let Place::Device { tier, offset } = location.place() else { return };
        let owner = self.tier(tier);
        let segment = owner.segment(owner.segment_at(offset));
        if delta < 0 {
            // Before the bytes: whoever sees no live bytes sees when they died.
            segment.freed_at.fetch_max(self.applied.load(Ordering::Acquire), Ordering::AcqRel);
        }
        let live = segment.live_bytes.fetch_add(delta, Ordering::AcqRel) + delta;
        assert!(
            live >= 0,
            "{live} live bytes in segment of {location:?} after a change of {delta}"
        );
        owner.live_bytes.fetch_add(delta, Ordering::AcqRel);
    }
}

/// Keeps a segment from being reused while its bytes are read.
pub struct SegmentPin {
    space: Arc<Space>,
    at: TierSegment,
}

impl SegmentPin {
    /// The tier read.
    pub fn tier(&self) -> TierId {
        self.at.tier
    }
}

impl Drop for SegmentPin {
    fn drop(&mut self) {
        let segment = self.space.tier(self.at.tier).segment(self.at.segment);
        let before = segment.pins.fetch_sub(1, Ordering::SeqCst);
        assert!(before > 0, "{:?} was unpinned too often", self.at);
    }
}

/// The kind a segment's header carries, for a state.
pub fn header_kind(purpose: Purpose) -> SegmentKind {
    match purpose {
        Purpose::Data | Purpose::Move => SegmentKind::Data,
        Purpose::Log => SegmentKind::Log,
        Purpose::Meta => SegmentKind::Meta,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> Arc<Space> {
        let tier = Tier::new(TierId(0), TierKind::Nvme, 64 << 20, 4 << 20, (0.7, 0.85));
        tier.set_reserve(2, 3, 2);
        Arc::new(Space::new(vec![tier], Box::new(|_, _| Ok(()))))
    }

    #[test]
    fn data_leaves_the_reserve_to_moves_log_and_checkpoints() {
        let space = space();
        let take = |purpose| std::iter::from_fn(|| space.allocate(TierId(0), purpose)).count();
        assert_eq!(take(Purpose::Data), 15 - 7);
        assert_eq!(take(Purpose::Move), 2);
        assert_eq!(take(Purpose::Log), 3);
        assert_eq!(take(Purpose::Meta), 2);
    }

    #[test]
    fn a_segment_is_reused_only_when_dead_unpinned_and_its_death_is_durable() {
        let space = space();
        let at = space.allocate(TierId(0), Purpose::Data).unwrap();
        let location = Location::device(at.tier, space.tier(at.tier).offset_of(at.segment));
        space.bytes_live(location, 5000);
        space.seal(at, 0);
        assert!(space.reclaim(BatchSeq(9)).is_empty(), "live");
        let pin = space.pin(location);
        space.set_applied(BatchSeq(10));
        space.bytes_dead(location, 5000);
        assert!(space.reclaim(BatchSeq(10)).is_empty(), "pinned");
        drop(pin);
        assert!(space.reclaim(BatchSeq(9)).is_empty(), "its death is not durable");
        assert_eq!(space.reclaim(BatchSeq(10)), vec![at]);
        // The only one with space so far: not for data.
        assert_ne!(space.allocate(TierId(0), Purpose::Data), Some(at));
        assert_eq!(space.allocate(TierId(0), Purpose::Move), Some(at));
        assert_eq!(space.tier(at.tier).segment(at.segment).generation(), 3);
        assert!(space.tier(at.tier).segment(at.segment).was_written());
    }

    #[test]
    fn what_does_not_fit_beside_live_and_reserved_bytes_is_refused() {
        let space = space();
        let usable = space.tiers()[0].usable_bytes();
        assert!(space.reserve(usable));
        assert!(!space.reserve(1));
        space.unreserve(usable);
        assert!(space.reserve(1));
    }
}
