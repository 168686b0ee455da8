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
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use crate::error::{Error, ErrorKind};
use crate::index::state::Buffer;
use crate::io::wait::WaitList;
use crate::log::record::SegmentKind;
use crate::plant::{Plant, planted};
pub use crate::tier::segments::{
    Purpose, Segment, SegmentState, Tier, TierCounters, footprint, packed_bytes,
};
use crate::types::{BatchSeq, Location, Place, SegmentId, TierId, TierSegment};

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
        let keep = if purpose <= Purpose::Promotion { owner.backed_floor() } else { 0 };
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
            Purpose::Data => SegmentState::Open,
            Purpose::Promotion | Purpose::Move => SegmentState::OpenForMoves,
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
        self.tiers.iter().filter(|tier| !tier.is_lost()).for_each(|tier| self.back_some(tier));
    }

    /// Once a segment is refused all others are asked for, but only the first time: an earlier opening
    /// of the store may have been given their space, which is known nowhere.
    fn back_some(&self, tier: &Tier) {
        let (mut from, mut was_refused) = (SegmentId(0), false);
        loop {
            let next = {
                let mut free = tier.free.lock();
                let wants = free.backed() < tier.backed_floor() || tier.is_host_full();
                let next = free.bare_from(from).filter(|_| wants || was_refused);
                next.filter(|segment| free.take(*segment))
            };
            let Some(segment) = next else { break };
            let gave = self.back(tier, segment);
            tier.free.lock().put(segment, gave);
            if gave {
                continue;
            }
            was_refused = true;
            from = SegmentId(segment.0 + 1);
            if tier.has_asked_for_all.load(Ordering::Relaxed) {
                break;
            }
        }
        if was_refused {
            tier.has_asked_for_all.store(true, Ordering::Relaxed);
            tier.note_host(false);
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
        if delta < 0 && !planted(Plant::DeathNotDated) {
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
        Purpose::Data | Purpose::Promotion | Purpose::Move => SegmentKind::Data,
        Purpose::Log => SegmentKind::Log,
        Purpose::Meta => SegmentKind::Meta,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Range;
    use std::sync::atomic::AtomicUsize;

    use crate::types::TierKind;

    fn space() -> Arc<Space> {
        let tier = Tier::new(TierId(0), TierKind::Nvme, 64 << 20, 4 << 20, (0.7, 0.85));
        tier.set_reserve(2, 3, 2);
        Arc::new(Space::new(vec![tier], Box::new(|_, _| Ok(()))))
    }

    fn take(space: &Space, purpose: Purpose) -> bool {
        space.allocate(TierId(0), purpose).is_some()
    }

    fn take_all(space: &Space, purpose: Purpose) -> usize {
        std::iter::repeat_with(|| take(space, purpose)).take_while(|taken| *taken).count()
    }

    #[test]
    fn data_leaves_to_the_others_what_each_needs_and_one_more() {
        let space = space();
        assert_eq!(take_all(&space, Purpose::Data), 15 - 9);
        assert!(take(&space, Purpose::Move) && take(&space, Purpose::Move));
        assert_eq!(take_all(&space, Purpose::Log), 4);
        assert_eq!(take_all(&space, Purpose::Meta), 3);
    }

    #[test]
    fn moves_borrow_of_the_log_but_not_its_last_segment_nor_that_of_the_checkpoints() {
        let space = space();
        assert_eq!(take_all(&space, Purpose::Data), 6);
        assert_eq!(take_all(&space, Purpose::Move), 2 + 3);
        assert_eq!(take_all(&space, Purpose::Log), 1);
        assert_eq!(take_all(&space, Purpose::Meta), 3);
    }

    #[test]
    fn what_is_promised_to_data_can_be_had_whatever_the_others_have_taken() {
        for (moves, logs, metas) in [(0, 0, 0), (0, 2, 1), (1, 3, 2), (2, 4, 3), (0, 1, 3)] {
            let space = space();
            let tier = &space.tiers()[0];
            assert!((0..moves).all(|_| take(&space, Purpose::Move)));
            assert!((0..logs).all(|_| take(&space, Purpose::Log)));
            assert!((0..metas).all(|_| take(&space, Purpose::Meta)));
            let per_segment = packed_bytes(tier.segment_size) / 16 * 15;
            let had = take_all(&space, Purpose::Data) as u64;
            // What the last of log and checkpoints has taken, the first has let go of by then.
            let passing = u64::from(logs == 4) + u64::from(metas == 3);
            assert_eq!(tier.usable_bytes() / per_segment, had + passing, "{logs} {metas}");
            assert!(take(&space, Purpose::Log) && take(&space, Purpose::Meta));
        }
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
    fn a_full_file_system_is_asked_once_for_what_it_may_have_given_before() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let has = |offset: u64| [3, 5].contains(&(offset / (4 << 20)));
        let backing = move |_: TierId, bytes: Range<u64>| {
            count.fetch_add(1, Ordering::Relaxed);
            let full = || std::io::Error::from_raw_os_error(libc::ENOSPC);
            has(bytes.start).then_some(()).ok_or_else(full)
        };
        let tier = Tier::new(TierId(0), TierKind::Nvme, 64 << 20, 4 << 20, (0.7, 0.85));
        tier.set_reserve(2, 3, 2);
        let space = Space::new(vec![tier], Box::new(backing));
        space.back_reserve();
        let tier = &space.tiers()[0];
        assert_eq!((tier.free_segments(), tier.is_host_full()), (2, true));
        assert_eq!(asked.swap(0, Ordering::Relaxed), 15);
        // From then on one is enough to see whether there is space again.
        space.back_reserve();
        assert_eq!((tier.free_segments(), asked.load(Ordering::Relaxed)), (2, 1));
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
