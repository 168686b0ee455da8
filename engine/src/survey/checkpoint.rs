//! Roots of checkpoints, and the images that they name.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::BLOCK;
use crate::log::checkpoint::{PartitionIdentity, PartitionView};
use crate::log::root::{PartitionRef, Root};
use crate::log::superblock::{Chunk, RootRef};
use crate::survey::{Item, Reads, Structure, Survey};
use crate::types::{Place, TierId};

/// Bytes of one read.
const READ_MAX: usize = 1 << 20;

impl Survey {
    pub(super) async fn look_at_root(
        &mut self,
        reads: &dyn Reads,
        tier: TierId,
        root: Arc<RootRef>,
    ) {
        let found = self.read_root(reads, &root).await;
        match found {
            Ok(found) => {
                self.report.checkpoint_parts += 1;
                for (partition, image) in (0..).zip(found.partitions) {
                    let Some(first) = image.chunks.first() else { continue };
                    if self.seen.insert(first.location) {
                        let root = root.clone();
                        self.todo.push_back(Item::Image { tier, root, partition, image });
                    }
                }
            }
            Err(error) => {
                let chunks = &root.chunks;
                self.judge(reads, tier, &root, Structure::CheckpointRoot, chunks, &error).await;
            }
        }
    }

    async fn read_root(&mut self, reads: &dyn Reads, root: &RootRef) -> Result<Root> {
        let bytes = self.read_chunks(reads, &root.chunks, root.len).await?;
        if Root::crc_of(&bytes)? != root.crc {
            let message = "it is not the one that the superblock names";
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        Root::decode(&bytes, self.core.settings.store)
    }

    pub(super) async fn look_at_image(
        &mut self,
        reads: &dyn Reads,
        tier: TierId,
        root: &RootRef,
        partition: u16,
        image: &PartitionRef,
    ) {
        match self.read_image(reads, partition, image).await {
            Ok(()) => self.report.checkpoint_parts += 1,
            Err(error) => {
                let structure = Structure::CheckpointImage { partition };
                self.judge(reads, tier, root, structure, &image.chunks, &error).await;
            }
        }
    }

    async fn read_image(
        &mut self,
        reads: &dyn Reads,
        partition: u16,
        image: &PartitionRef,
    ) -> Result<()> {
        let bytes = self.read_chunks(reads, &image.chunks, image.len).await?;
        let store = self.core.settings.store;
        let identity = PartitionIdentity { store, partition, cut: image.cut };
        let view = PartitionView::decode(&bytes, &identity)?;
        if view.crc() != image.crc {
            let message = "it is not the one that the root names";
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        Ok(())
    }

    async fn read_chunks(
        &mut self,
        reads: &dyn Reads,
        chunks: &[Chunk],
        len: u64,
    ) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
        for chunk in chunks {
            let (tier, mut offset) = self.place_of(chunk)?;
            let mut left = chunk.len as usize;
            while left > 0 {
                let now = left.min(READ_MAX);
                let memory = self.read(reads, tier, offset, now.next_multiple_of(BLOCK)).await?;
                bytes.extend_from_slice(&memory.as_slice()[..now]);
                offset += now as u64;
                left -= now;
            }
        }
        Ok(bytes)
    }

    /// Where a chunk is, if it lies inside a device.
    fn place_of(&self, chunk: &Chunk) -> Result<(TierId, u64)> {
        if let Place::Device { tier, offset } = chunk.location.place()
            && let Some(facts) = self.core.space.tiers().get(tier.index())
            && offset.is_multiple_of(BLOCK as u64)
            && offset + u64::from(chunk.len) <= facts.capacity
        {
            return Ok((tier, offset));
        }
        let message = format!("a chunk lies at {:?}, which is no place for it", chunk.location);
        Err(Error::new(ErrorKind::Corrupt, message))
    }

    /// Calls a part of a checkpoint bad, unless that checkpoint is kept no more.
    async fn judge(
        &mut self,
        reads: &dyn Reads,
        tier: TierId,
        root: &RootRef,
        structure: Structure,
        chunks: &[Chunk],
        error: &Error,
    ) {
        let Some(now) = self.newest(reads, tier).await else { return };
        let before = now.previous.as_ref().and_then(|previous| previous.checkpoint.as_ref());
        if now.checkpoint.as_ref() != Some(root) && before != Some(root) {
            return;
        }
        let first = chunks.first().map(|chunk| chunk.location.place());
        let Some(Place::Device { tier, offset }) = first else { return };
        self.note(structure, tier, offset, error);
    }
}
