//! The log's next segments, made ready before they are needed.
//!
//! Every batch names the segment ahead, so that one is there before anything is written. Behind it
//! wait spares, zeroed like it: a log that is faster than its zeroing for a while does not wait.
//! A crash forgets the spares: nothing names them, so recovery finds them free.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use crate::error::{ErrorKind, Result};
use crate::io::wait::first;
use crate::limits::BLOCK;
use crate::log::record::SegmentKind;
use crate::log::segment::{SegmentHeader, SegmentIdentity};
use crate::log::tail::{Ahead, LogTail};
use crate::shard::log_owner::LogOwner;
use crate::shard::poison_on_error;
use crate::tier::space::Purpose;
use crate::types::{SegmentId, TierId, TierSegment};

/// Bytes of one write of zeros.
const ZERO_CHUNK: usize = 1 << 20;
/// Segments that wait behind the one ahead.
const SPARES_MAX: usize = 2;

/// A segment that there was no space for is tried again after this long.
const RETRY: Duration = Duration::from_millis(100);

/// What has come of preparing.
enum Prepared {
    /// Everything is there, or nothing more may be written.
    All,
    /// No segment is free for the one ahead.
    NoneFree,
    /// The file system has no space.
    Refused,
}

impl LogOwner {
    /// Keeps log segments allocated and written through ahead of the one in use.
    pub(super) fn keep_segments_ahead(self: Rc<Self>) {
        let owner = self.clone();
        self.context.spawner.spawn(Box::pin(async move {
            while !(owner.context.is_stopping() && owner.is_quiet()) {
                let stirred = owner.stirred.ticket();
                let space_changed = owner.core().space.changed.ticket();
                // Also for the sake of records that are held back: waking lets them be tried.
                let changed = first(stirred, space_changed);
                match owner.prepare_segments().await {
                    Prepared::All if owner.held.borrow().is_empty() => changed.await,
                    Prepared::Refused => first(changed, owner.context.io.sleep(RETRY)).await,
                    Prepared::All | Prepared::NoneFree => {
                        owner.core().organizer.kick();
                        owner.wait_for_room(changed).await;
                    }
                }
            }
        }));
    }

    /// Asks for room again where nothing has changed for a while: records wait for it, and what was
    /// asked for once may have come to nothing.
    async fn wait_for_room(&self, changed: impl Future<Output = ()>) {
        let nothing_changed = Cell::new(false);
        let patience = async {
            self.context.io.sleep(RETRY).await;
            nothing_changed.set(true);
        };
        first(changed, patience).await;
        if nothing_changed.get() {
            self.ask_everybody_for_room();
        }
    }

    /// Writes a log segment's header, zeroes the rest and flushes: a batch then overwrites written
    /// blocks, which the file system does twice as fast as it converts unwritten ones.
    async fn write_through(&self, tier: TierId, segment: SegmentId, generation: u32) -> Result<()> {
        let core = self.core();
        let facts = core.space.tier(tier);
        let start = facts.offset_of(segment);
        let header = SegmentHeader {
            identity: SegmentIdentity {
                store: core.settings.store,
                device: self.devices[tier.index()],
                segment: TierSegment { tier, segment },
                generation,
            },
            kind: SegmentKind::Log,
            epoch: core.settings.epoch,
            writer: self.context.number as u32,
            wall_clock: core.runtime.wall_clock_s(),
        };
        self.context.io.write_bytes(tier, start, &header.encode()?).await?;
        if !facts.segment(segment).was_written() {
            let mut at = BLOCK as u64;
            let mut buf = self.context.io.memory(ZERO_CHUNK);
            buf.as_mut_slice().fill(0);
            while at < facts.segment_size {
                // At the end nobody may be left to flush.
                if !self.context.is_stopping() {
                    core.wait_for_flush_room().await?;
                }
                let len = (facts.segment_size - at).min(ZERO_CHUNK as u64) as usize;
                buf = self.context.io.write(tier, start + at, len, buf, false).await?;
                at += len as u64;
            }
        }
        // A batch whose own write is durable must not stand in a segment that is not.
        self.context.io.flush(tier).await
    }

    /// Makes sure that the segment ahead and the spares behind it are there and written through,
    /// the next one first.
    async fn prepare_segments(&self) -> Prepared {
        let core = self.core();
        loop {
            if self.tail.borrow().ahead.is_none() {
                let spare = self.spares.borrow_mut().pop_front();
                let Some(next) = spare.or_else(|| self.open_log_segment()) else {
                    return Prepared::NoneFree;
                };
                self.tail.borrow_mut().ahead = Some(next);
                core.shards[self.context.number].ring();
            }
            let Some(next) = self.unready() else { return Prepared::All };
            let tier = self.tail.borrow().segment.tier;
            match self.write_through(tier, next.segment, next.generation).await {
                Ok(()) => {}
                // Nothing stands there yet.
                Err(error) if error.kind() == ErrorKind::NoSpace => {
                    core.counters.note(error.to_string());
                    return Prepared::Refused;
                }
                Err(error) => {
                    poison_on_error(core, "a log segment cannot be prepared", Err(error));
                    return Prepared::All;
                }
            }
            self.mark_ready(next.segment);
            core.shards[self.context.number].ring();
        }
    }

    fn open_log_segment(&self) -> Option<Ahead> {
        let core = self.core();
        let tier = self.tail.borrow().segment.tier;
        let at = core.space.allocate(tier, Purpose::Log)?;
        let generation = core.space.tier(tier).segment(at.segment).generation();
        self.queue_segment_opened(at, generation, SegmentKind::Log);
        if core.space.tier(tier).log_is_over() {
            self.ask_for_room();
        }
        Some(Ahead { segment: at.segment, generation, ready: false })
    }

    /// The next segment to write through: the one ahead, a spare, a new spare.
    fn unready(&self) -> Option<Ahead> {
        let ahead = self.tail.borrow().ahead.filter(|ahead| !ahead.ready);
        let spare = || self.spares.borrow().iter().find(|spare| !spare.ready).copied();
        ahead.or_else(spare).or_else(|| self.open_spare())
    }

    /// Takes one more spare: as many as the log has moved on, so that a store that writes little
    /// does not zero more than it will use, and only what is set aside for the log anyway.
    fn open_spare(&self) -> Option<Ahead> {
        let core = self.core();
        let wanted = self.switches.get().min(SPARES_MAX);
        let tier = self.tail.borrow().segment.tier;
        if self.spares.borrow().len() >= wanted
            || !core.space.tier(tier).log_may_grow()
            || self.context.is_stopping()
        {
            return None;
        }
        let spare = self.open_log_segment()?;
        self.spares.borrow_mut().push_back(spare);
        core.shards[self.context.number].ring();
        Some(spare)
    }

    /// Meanwhile a spare may have become the segment ahead.
    fn mark_ready(&self, segment: SegmentId) {
        let mut tail = self.tail.borrow_mut();
        let mut spares = self.spares.borrow_mut();
        let all = tail.ahead.iter_mut().chain(spares.iter_mut());
        all.filter(|ahead| ahead.segment == segment).for_each(|ahead| ahead.ready = true);
    }

    /// Goes on in the segment ahead, which is ready; the first spare is the next one then.
    pub(super) fn switch_segment(&self, tail: &mut LogTail, segment_size: u64) {
        tail.switch(segment_size);
        tail.ahead = self.spares.borrow_mut().pop_front();
        self.switches.set(self.switches.get() + 1);
        self.stirred.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::buffer::AlignedBuf;
    use crate::testing::{SimStore, config};
    use crate::tier::space::SegmentState;
    use crate::types::TierId;

    /// Log segments that hold no batch yet.
    fn blank_log_segments(sim: &SimStore) -> usize {
        let tier = sim.core().space.tier(TierId(0));
        let segments = tier.segments().iter().enumerate();
        let logs = segments.filter(|(_, segment)| segment.state() == SegmentState::Log);
        logs.filter(|(number, _)| {
            let mut first = AlignedBuf::alloc(BLOCK);
            let at = tier.offset_of(SegmentId(*number as u32)) + BLOCK as u64;
            let bytes = &mut first.as_mut_slice()[..BLOCK];
            sim.core().devices[0].read_at(at, bytes).unwrap();
            bytes.iter().all(|byte| *byte == 0)
        })
        .count()
    }

    #[test]
    fn a_log_that_moves_on_has_a_few_segments_ready_and_one_that_does_not_has_one() {
        let mut large = config(1);
        large.devices[0].capacity = 512 << 20;
        let sim = SimStore::new(1, large);
        sim.steps(20_000);
        assert_eq!(blank_log_segments(&sim), 1, "beside the one that was made with the store");
        let bucket = sim.bucket("b");
        for number in 0..700u32 {
            bucket.put(&number.to_le_bytes(), &[7; 16 << 10]).unwrap();
        }
        sim.steps(200_000);
        assert_eq!(blank_log_segments(&sim), 1 + SPARES_MAX);
    }
}
