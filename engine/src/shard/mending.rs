//! What the log's owner writes anew because it has rotted on its device: memory has all that it says.
//!
//! Images and roots are written anew by the rotations that [`Request::Trim`](crate::core::Request)
//! asks for, and the log that they need begins later. A log begins with a segment, so first it must have
//! left the one with the rotten batch.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::VecDeque;

use crate::core::Mend;
use crate::error::{Error, ErrorKind, Result};
use crate::io::wait::Sender;
use crate::log::record::Record;
use crate::log::superblock::Superblock;
use crate::shard::log_owner::{Effect, LogOwner, Part};
use crate::types::{Durability, TierId};

/// A superblock to be written, and who waits for it.
type Wanted = (TierId, usize, Sender<Result<()>>);

/// What has been asked for and is not done.
#[derive(Default)]
pub struct Mending {
    superblocks: RefCell<VecDeque<Wanted>>,
    /// The next batch begins the segment ahead, once that is ready.
    pub(super) leaves_segment: Cell<bool>,
}

impl LogOwner {
    /// Takes on what is to be written anew.
    pub fn mend(&self, mend: Mend, reply: Sender<Result<()>>) {
        match mend {
            Mend::Superblock { tier, slot } => {
                self.mending.superblocks.borrow_mut().push_back((tier, slot, reply));
                self.stirred.wake_all();
            }
            Mend::LeaveSegment(at) if self.tail.borrow().segment == at => {
                self.mending.leaves_segment.set(true);
                self.push(Part::of(Record::Marker), Effect::Flush(reply), Durability::Durable);
            }
            Mend::LeaveSegment(_) => reply.send(Ok(())),
        }
    }

    /// Writes one superblock that was asked for. False if there is none.
    pub(super) async fn mend_superblock(&self) -> bool {
        let wanted = self.mending.superblocks.borrow_mut().pop_front();
        let Some((tier, slot, reply)) = wanted else { return false };
        reply.send(self.rewrite_superblock(tier, slot).await);
        true
    }

    /// Says in a slot what the newest superblock says, as the one after it. The other slot, which may be
    /// the only good one, is left alone.
    async fn rewrite_superblock(&self, tier: TierId, slot: usize) -> Result<()> {
        self.core().check_poison()?;
        let newest = self.superblocks.borrow().get(tier.index()).cloned().flatten();
        let Some(mut next) = newest else {
            let message = format!("tier {} has no superblock to write anew", tier.0);
            return Err(Error::new(ErrorKind::TierMissing, message));
        };
        next.generation += 1;
        if Superblock::slot_of(next.generation) != slot {
            next.generation += 1;
        }
        self.store_superblock(tier, &next).await?;
        self.superblocks.borrow_mut()[tier.index()] = Some(next);
        Ok(())
    }

    /// Answers those who wait for what will not be done.
    pub(super) fn refuse_mending(&self, error: &Error) {
        for (_, _, reply) in self.mending.superblocks.take() {
            reply.send(Err(error.clone()));
        }
    }
}
