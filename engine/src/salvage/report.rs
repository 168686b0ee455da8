//! What a salvage says of the store: what was there, what is missing, and how sure each blob is.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use crate::types::{BatchSeq, Uuid};

/// Whether a salvaged blob is the newest version of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Standing {
    /// Nothing that is lost can have changed it.
    Current,
    /// It was so once. Something that is lost may have changed or deleted it since.
    MaybeStale(Doubt),
}

/// Why a blob may be stale. If for several reasons, the first of these.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Doubt {
    /// There is a newer version for certain, which cannot be made out.
    Superseded,
    /// No record says that it was ever committed: it was found in a segment.
    Scanned,
    /// A batch that is missing can have changed it.
    LostBatches,
    /// A batch that is missing can have given its bucket another name, or destroyed it.
    BucketInDoubt,
}

impl Doubt {
    /// One word for it.
    pub fn name(self) -> &'static str {
        match self {
            Doubt::Superseded => "superseded",
            Doubt::Scanned => "scanned",
            Doubt::LostBatches => "lost-batches",
            Doubt::BucketInDoubt => "bucket-in-doubt",
        }
    }
}

/// A tier as salvage found it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TierFound {
    /// Its number.
    pub tier: u8,
    /// Its file; `None` if that could not be opened.
    pub path: Option<PathBuf>,
    /// Why nothing can be read of it, if so.
    pub lost: Option<String>,
    /// Its length, where that is less than the store uses.
    pub cut_to_bytes: Option<u64>,
    /// Superblocks that are good, of two.
    pub superblocks: usize,
}

/// The checkpoint that the blobs stand on: of each partition the newest image that can be read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CheckpointFound {
    /// Partitions from the newest checkpoint.
    pub newest: usize,
    /// Partitions from an older one.
    pub older: usize,
    /// Partitions from a copy on another tier.
    pub copied: usize,
    /// Partitions of which no image can be read: the blobs of each are lost but for those that the
    /// log has.
    pub lost: Vec<u16>,
    /// What could not be read or believed.
    pub faults: Vec<String>,
}

/// The log as salvage found it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LogFound {
    /// Batches that were read and count.
    pub batches: u64,
    /// Batches that are missing: all that they changed is lost.
    pub gaps: Vec<RangeInclusive<u64>>,
    /// The last batch of which anything is known.
    pub last: BatchSeq,
    /// Why more may be missing behind that one, if so.
    pub end_unknown: Option<String>,
}

/// A blob whose newest version cannot be made out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LostBlob {
    /// Its bucket.
    pub bucket: String,
    /// Its key.
    pub key: Box<[u8]>,
    /// Why.
    pub why: String,
}

/// See the module. What cannot be read of blobs that are listed is found by reading them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SalvageReport {
    /// The store.
    pub store: Uuid,
    /// Its tiers.
    pub tiers: Vec<TierFound>,
    /// The checkpoint.
    pub checkpoint: CheckpointFound,
    /// The log.
    pub log: LogFound,
    /// Summaries of segments that were read.
    pub summaries: u64,
    /// Blobs whose newest versions are known to be lost; of some an older one is listed.
    pub lost: Vec<LostBlob>,
    /// Buckets.
    pub buckets: u64,
    /// Blobs that are [`Standing::Current`].
    pub current: u64,
    /// Blobs that may be stale.
    pub maybe_stale: u64,
}

impl SalvageReport {
    /// Whether anything is lost, or may be, as far as is known without reading the values.
    pub fn has_losses(&self) -> bool {
        self.maybe_stale > 0
            || !self.lost.is_empty()
            || !self.log.gaps.is_empty()
            || self.log.end_unknown.is_some()
            || !self.checkpoint.lost.is_empty()
            || self.tiers.iter().any(|tier| tier.lost.is_some() || tier.cut_to_bytes.is_some())
    }
}
