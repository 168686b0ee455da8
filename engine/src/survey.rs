//! What the engine itself has on the devices, beside the buffers of blobs: superblocks, checkpoints,
//! and the log that is kept. Read and verified while the store is in use, piece by piece.
//!
//! Nothing is held meanwhile, so what is found bad may just have become another's place: it is called
//! bad only if the superblock on the device still names it afterwards. What that names is not
//! overwritten. [`checkpoint`]: roots and images. [`batches`]: the log.

mod batches;
mod checkpoint;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::io::buffer::AlignedBuf;
use crate::io::exec::LocalFuture;
use crate::log::root::PartitionRef;
use crate::log::superblock::{RootRef, SUPERBLOCK_LEN, SUPERBLOCK_SLOTS, Superblock};
use crate::survey::batches::Batches;
use crate::types::{Location, TierId};

/// How often a read is tried again before what it brought counts.
const READ_RETRIES: usize = 2;
/// How often a slot must read the same before it is called bad: its next superblock may be on its way.
const SLOT_ROUNDS: usize = 4;
/// Faults that a report lists; the others are counted.
const FAULTS_MAX: usize = 1024;
/// The tier that has the log and the checkpoints.
const LOG_TIER: TierId = TierId(0);

/// Something that the engine keeps on a device for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Structure {
    /// A superblock.
    Superblock {
        /// 0 or 1.
        slot: usize,
    },
    /// The root of a checkpoint.
    CheckpointRoot,
    /// The image of a partition.
    CheckpointImage {
        /// 0..255.
        partition: u16,
    },
    /// A batch of the log: what follows it has not been checked.
    LogBatch {
        /// Its number.
        seq: u64,
    },
}

impl Structure {
    /// What it is, in a word that stays.
    pub fn name(&self) -> &'static str {
        match self {
            Structure::Superblock { .. } => "superblock",
            Structure::CheckpointRoot => "checkpoint root",
            Structure::CheckpointImage { .. } => "checkpoint image",
            Structure::LogBatch { .. } => "log batch",
        }
    }
}

/// A structure that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StructureFault {
    /// What.
    pub structure: Structure,
    /// The tier it is on.
    pub tier: TierId,
    /// Where on its device it begins.
    pub device_offset: u64,
    /// `Corrupt` or `Format` for what it says; else why it cannot be read.
    pub kind: ErrorKind,
    /// All of it, to read.
    pub message: String,
}

/// What a survey has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SurveyReport {
    /// Good superblocks, two on each tier.
    pub superblocks: u64,
    /// Good roots and images of the checkpoints that are kept, and of their copies.
    pub checkpoint_parts: u64,
    /// Good batches of the log that is kept, up to what is flushed.
    pub batches: u64,
    /// Bytes read from devices.
    pub bytes: u64,
    /// The first 1024 faults.
    pub faults: Vec<StructureFault>,
    /// All faults.
    pub fault_count: u64,
}

/// Reads whole blocks of devices for a survey.
pub trait Reads {
    /// Exactly `len` bytes at `offset`, multiples of the block.
    fn read(&self, tier: TierId, offset: u64, len: usize) -> LocalFuture<'_, Result<AlignedBuf>>;
}

/// Something to be looked at.
enum Item {
    /// A slot, with what it read like, and how often.
    Slot { tier: TierId, slot: usize, before: Option<(AlignedBuf, usize)> },
    /// What the newest superblock of a tier names.
    Named { tier: TierId },
    /// A root.
    Root { tier: TierId, root: Arc<RootRef> },
    /// An image that a root names.
    Image { tier: TierId, root: Arc<RootRef>, partition: u16, image: PartitionRef },
    /// Some batches of the log.
    Log(Box<Batches>),
}

/// See the module.
pub struct Survey {
    core: Arc<Core>,
    todo: VecDeque<Item>,
    /// Images that several roots name are looked at once.
    seen: HashSet<Location>,
    report: SurveyReport,
}

impl Survey {
    /// Has seen nothing yet.
    pub fn new(core: Arc<Core>) -> Survey {
        let tiers = core.space.tiers().iter().filter(|tier| !tier.is_lost());
        let items = tiers.flat_map(|tier| {
            let slot = |slot| Item::Slot { tier: tier.id, slot, before: None };
            [slot(0), slot(1), Item::Named { tier: tier.id }]
        });
        let todo = items.collect();
        Survey { core, todo, seen: HashSet::new(), report: SurveyReport::default() }
    }

    /// What has been seen so far.
    pub fn report(&self) -> &SurveyReport {
        &self.report
    }

    /// What has been seen.
    pub fn into_report(self) -> SurveyReport {
        self.report
    }

    /// Looks at one thing, or at some batches. False if there is nothing left.
    pub async fn step(&mut self, reads: &dyn Reads) -> bool {
        match self.todo.pop_front() {
            None => return false,
            Some(Item::Slot { tier, slot, before }) => {
                self.look_at_slot(reads, tier, slot, before).await;
            }
            Some(Item::Named { tier }) => self.follow(reads, tier).await,
            Some(Item::Root { tier, root }) => self.look_at_root(reads, tier, root).await,
            Some(Item::Image { tier, root, partition, image }) => {
                self.look_at_image(reads, tier, &root, partition, &image).await;
            }
            Some(Item::Log(batches)) => self.look_at_batches(reads, batches).await,
        }
        true
    }

    async fn read(
        &mut self,
        reads: &dyn Reads,
        tier: TierId,
        offset: u64,
        len: usize,
    ) -> Result<AlignedBuf> {
        let mut tries = 0;
        loop {
            self.report.bytes += len as u64;
            match reads.read(tier, offset, len).await {
                Err(_) if tries < READ_RETRIES => tries += 1,
                result => return result,
            }
        }
    }

    fn note(&mut self, structure: Structure, tier: TierId, device_offset: u64, error: &Error) {
        let what = structure.name();
        let place = format!("at {device_offset:#x} of tier {}", tier.0);
        self.report.fault_count += 1;
        if self.report.faults.len() < FAULTS_MAX {
            self.report.faults.push(StructureFault {
                structure,
                tier,
                device_offset,
                kind: error.kind(),
                message: format!("{what} {place}: {}", error.message()),
            });
        }
    }

    async fn look_at_slot(
        &mut self,
        reads: &dyn Reads,
        tier: TierId,
        slot: usize,
        before: Option<(AlignedBuf, usize)>,
    ) {
        let (structure, offset) = (Structure::Superblock { slot }, SUPERBLOCK_SLOTS[slot]);
        let now = match self.read(reads, tier, offset, SUPERBLOCK_LEN).await {
            Ok(now) => now,
            Err(error) => return self.note(structure, tier, offset, &error),
        };
        let bytes = &now.as_slice()[..SUPERBLOCK_LEN];
        let error = match self.superblock(tier, bytes) {
            Ok(_) => {
                self.report.superblocks += 1;
                return;
            }
            Err(error) => error,
        };
        let is_same =
            |(before, _): &(AlignedBuf, usize)| &before.as_slice()[..bytes.len()] == bytes;
        let rounds = before.filter(is_same).map_or(1, |(_, rounds)| rounds + 1);
        if rounds == SLOT_ROUNDS {
            return self.note(structure, tier, offset, &error);
        }
        self.todo.push_back(Item::Slot { tier, slot, before: Some((now, rounds)) });
    }

    /// The superblock in these bytes, which must be this tier's of this store.
    fn superblock(&self, tier: TierId, bytes: &[u8]) -> Result<Superblock> {
        let block = Superblock::decode(bytes)?;
        if (block.store, block.tier) != (self.core.settings.store, tier) {
            let message = format!("it is that of tier {} of store {}", block.tier.0, block.store);
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        Ok(block)
    }

    /// The superblock of a tier that counts at this moment, if one can be read.
    async fn newest(&mut self, reads: &dyn Reads, tier: TierId) -> Option<Superblock> {
        let mut newest: Option<Superblock> = None;
        for offset in SUPERBLOCK_SLOTS {
            let Ok(bytes) = self.read(reads, tier, offset, SUPERBLOCK_LEN).await else { continue };
            let Ok(block) = self.superblock(tier, &bytes.as_slice()[..SUPERBLOCK_LEN]) else {
                continue;
            };
            if newest.as_ref().is_none_or(|newest| newest.generation < block.generation) {
                newest = Some(block);
            }
        }
        newest
    }

    /// What the newest superblock of a tier leads to.
    async fn follow(&mut self, reads: &dyn Reads, tier: TierId) {
        let Some(block) = self.newest(reads, tier).await else { return };
        let before = block.previous.as_ref().and_then(|previous| previous.checkpoint.clone());
        for root in [block.checkpoint.clone(), before].into_iter().flatten() {
            self.todo.push_back(Item::Root { tier, root: Arc::new(root) });
        }
        if tier == LOG_TIER {
            let until = self.core.log.watermark();
            self.todo.push_back(Item::Log(Box::new(Batches::of(&block, until))));
        }
    }
}
