//! Copies of checkpoints on the next tier, for salvage: the loss of the log's tier loses the log,
//! and with it the store, but not what the last copy says of the blobs on other tiers.
//!
//! Each image of a rotation is written a second time as it is made, so that nothing is read back;
//! the last step of the rotation adds a root that names the copies, and that tier's superblock
//! names the root. The last two copies are kept. A copy that fails is given up, and the next
//! rotation makes another: no checkpoint depends on it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::limits::PARTITIONS;
use crate::log::root::{PartitionRef, Root};
use crate::log::superblock::{LogStart, RootRef};
use crate::shard::checkpoint::Gathered;
use crate::shard::flush::flush_all;
use crate::shard::log_owner::LogOwner;
use crate::tier::reserve;
use crate::tier::space::Space;
use crate::types::{BatchSeq, TierId, TierSegment};

/// The copies of one store.
pub struct Copies {
    /// Where they go; `None`: there is no other tier, or none with room to spare.
    tier: Option<TierId>,
    /// The images of the rotation under way; `None`: it is not copied.
    images: RefCell<Option<Vec<PartitionRef>>>,
    /// Segments of the copy under way. Each copy begins in a segment of its own.
    taken: RefCell<BTreeSet<TierSegment>>,
    /// Segments of the last two copies.
    kept: RefCell<[BTreeSet<TierSegment>; 2]>,
}

/// The tier that takes the copies: the fastest that does not hold the log.
pub fn copy_tier(space: &Space, log_tier: TierId) -> Option<TierId> {
    let others = space.tiers().iter().filter(|tier| tier.id != log_tier && !tier.is_lost());
    others.filter(|tier| reserve::has_room_for_copies(tier)).map(|tier| tier.id).next()
}

impl Copies {
    /// Goes on with those that recovery found.
    pub fn new(tier: Option<TierId>, kept: [BTreeSet<TierSegment>; 2]) -> Copies {
        Copies { tier, images: RefCell::default(), taken: RefCell::default(), kept: kept.into() }
    }

    /// The copy under way takes one more segment.
    pub fn take(&self, at: TierSegment) {
        self.taken.borrow_mut().insert(at);
    }
}

impl LogOwner {
    /// The place for the copies of this step's images, if the rotation is copied.
    pub(super) fn begin_copies(&self, first_partition: usize) -> Option<Gathered> {
        let copies = &self.copies;
        let tier = copies.tier?;
        let so_far = copies.images.borrow().as_ref().map(Vec::len);
        if first_partition == 0 {
            self.give_up_copy();
            let segments = self.checkpointer.newest_segments();
            if !reserve::apply_to_copy_tier(self.core().space.tier(tier), segments) {
                return None;
            }
            *copies.images.borrow_mut() = Some(Vec::with_capacity(PARTITIONS));
        } else if so_far != Some(first_partition) {
            // A step has failed on the way.
            self.give_up_copy();
            return None;
        }
        Some(Gathered::copy(tier))
    }

    /// Writes an image once more.
    pub(super) async fn copy_image(&self, cut: BatchSeq, image: &[u8], gathered: &mut Gathered) {
        if self.copies.images.borrow().is_none() {
            return;
        }
        let written = self.write_image(cut, image, gathered).await;
        match (written, &mut *self.copies.images.borrow_mut()) {
            (Ok(copy), Some(images)) => return images.push(copy),
            (Ok(_), None) => return,
            (Err(error), _) => self.note_copy(&error),
        }
        self.give_up_copy();
    }

    /// Writes what the copies of a step's images have gathered.
    pub(super) async fn write_copies(&self, gathered: &mut Gathered) {
        if let Err(error) = gathered.write(&self.context.io).await {
            self.note_copy(&error);
            self.give_up_copy();
        }
    }

    /// Ends a step: the last one of a rotation makes the copy count.
    pub(super) async fn end_copies(
        self: &Rc<Self>,
        mut gathered: Gathered,
        root: &Root,
    ) -> Result<()> {
        let complete = |images: &mut Vec<PartitionRef>| images.len() == PARTITIONS;
        let Some(partitions) = self.copies.images.borrow_mut().take_if(complete) else {
            return Ok(());
        };
        let root = Root { partitions, ..root.clone() };
        match self.write_copied_root(&root, &mut gathered).await {
            Ok(root_ref) => {
                // The superblock names what is durable.
                flush_all(self).await?;
                match self.name_copy(root_ref, root.log_start).await {
                    Ok(()) => self.keep_copy(),
                    Err(error) => self.doubt_copy(&error),
                }
            }
            Err(error) => {
                self.note_copy(&error);
                self.free_taken();
            }
        }
        Ok(())
    }

    async fn write_copied_root(&self, root: &Root, gathered: &mut Gathered) -> Result<RootRef> {
        let bytes = root.encode()?;
        let chunks = self.write_chunks(&bytes, gathered).await?;
        gathered.write(&self.context.io).await?;
        Ok(RootRef { seq: root.seq, len: bytes.len() as u64, crc: Root::crc_of(&bytes)?, chunks })
    }

    /// The copy under way counts: the last but one does not any more.
    fn keep_copy(&self) {
        self.checkpointer.end_copy();
        let now = self.copies.taken.take();
        let [newest, older] = &mut *self.copies.kept.borrow_mut();
        let released = std::mem::replace(older, std::mem::replace(newest, now));
        released.into_iter().for_each(|at| self.core().space.free(at));
    }

    /// The copies' tier names the newest one in its superblock. If that cannot be written, the next
    /// attempt goes to the same slot: the other one stays good.
    async fn name_copy(&self, root: RootRef, log_start: LogStart) -> Result<()> {
        let Some(tier) = self.copies.tier else { return Ok(()) };
        let Some(before) = self.superblocks.borrow()[tier.index()].clone() else { return Ok(()) };
        let next = before.with_checkpoint(root, log_start, self.core().log.watermark());
        self.store_superblock(tier, &next).await?;
        self.superblocks.borrow_mut()[tier.index()] = Some(next);
        Ok(())
    }

    /// Whether the superblock names the copy is not known: its segments stay as long as those of the
    /// copy before it.
    fn doubt_copy(&self, error: &Error) {
        self.note_copy(error);
        self.checkpointer.end_copy();
        let taken = self.copies.taken.take();
        self.copies.kept.borrow_mut()[0].extend(taken);
    }

    fn note_copy(&self, error: &Error) {
        self.core().counters.note(format!("copy of a checkpoint: {error}"));
    }

    /// Lets go of a copy that will not be finished.
    fn give_up_copy(&self) {
        *self.copies.images.borrow_mut() = None;
        self.free_taken();
    }

    fn free_taken(&self) {
        self.checkpointer.end_copy();
        let taken = self.copies.taken.take();
        taken.into_iter().for_each(|at| self.core().space.free(at));
    }
}
