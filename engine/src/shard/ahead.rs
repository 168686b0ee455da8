//! The log's next segment, made ready before it is needed.

use std::rc::Rc;

use crate::error::Result;
use crate::limits::BLOCK;
use crate::log::record::SegmentKind;
use crate::log::segment::{SegmentHeader, SegmentIdentity};
use crate::log::tail::Ahead;
use crate::shard::log_owner::LogOwner;
use crate::shard::poison_on_error;
use crate::tier::space::Purpose;
use crate::types::{SegmentId, TierId, TierSegment};

/// Bytes of one write of zeros.
const ZERO_CHUNK: usize = 1 << 20;

impl LogOwner {
    /// Keeps one log segment allocated and written through ahead of the one in use.
    pub(super) fn keep_segment_ahead(self: Rc<Self>) {
        let owner = self.clone();
        self.context.spawner.spawn(Box::pin(async move {
            while !(owner.context.is_stopping() && owner.is_quiet()) {
                let stirred = owner.stirred.ticket();
                let space_changed = owner.core().space.changed.ticket();
                if !owner.prepare_segment().await {
                    owner.core().organizer.kick();
                }
                // Also for the sake of records that are held back: waking lets them be tried.
                crate::io::wait::first(stirred, space_changed).await;
            }
        }));
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
                let len = (facts.segment_size - at).min(ZERO_CHUNK as u64) as usize;
                buf = self.context.io.write(tier, start + at, len, buf, false).await?;
                at += len as u64;
            }
        }
        // A batch whose own write is durable must not stand in a segment that is not.
        self.context.io.flush(tier).await
    }

    /// Allocates and zeroes the next log segment if there is none. False if none is free.
    async fn prepare_segment(&self) -> bool {
        let core = self.core();
        let tier = self.tail.borrow().segment.tier;
        let ahead = self.tail.borrow().ahead;
        match ahead {
            Some(ahead) if ahead.ready => return true,
            Some(_) => {}
            None => {
                let Some(at) = core.space.allocate(tier, Purpose::Log) else { return false };
                let generation = core.space.tier(tier).segment(at.segment).generation();
                self.queue_segment_opened(at, generation, SegmentKind::Log);
                self.tail.borrow_mut().ahead =
                    Some(Ahead { segment: at.segment, generation, ready: false });
                core.shards[self.context.number].ring();
            }
        }
        let Some(ahead) = self.tail.borrow().ahead else { return false };
        if let Err(error) = self.write_through(tier, ahead.segment, ahead.generation).await {
            poison_on_error(core, "a log segment cannot be prepared", Err(error));
            return true;
        }
        if let Some(ahead) = &mut self.tail.borrow_mut().ahead {
            ahead.ready = true;
        }
        core.shards[self.context.number].ring();
        true
    }
}
