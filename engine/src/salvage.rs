//! Salvage: what of a damaged store is provably right, and what is lost.
//!
//! Opening is strict: a store whose log or list of blobs is damaged below the watermark is refused.
//! Salvage reads such a store, and never writes to it. It goes by what stands under a checksum that
//! was itself found under one, with the identity of store, device, place, generation and epoch:
//!
//! 1. superblocks, any good slot of any tier, with epoch, watermark and cuts ([`history_of`]);
//! 2. of each partition the newest image that can be read, of the newest checkpoint, the one before or
//!    a copy on another tier (`checkpoints`);
//! 3. the log (`log`), also behind damage (`batches`), as far as it is known to be the log (`chain`);
//! 4. the summaries of sealed segments (`segments`).
//!
//! From that it makes the state (`state`), which knows of each blob up to which batch nothing can have
//! changed it. If no batch behind that one is missing, the blob is *current*; else it *may be stale*.
//! Values are verified as they are read (`value`, `buffers`).

mod batches;
mod buffers;
mod chain;
mod checkpoints;
mod log;
mod medium;
mod names;
mod report;
mod segments;
mod state;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

pub use medium::SalvageTier;
pub use report::{CheckpointFound, Doubt, LogFound, LostBlob, SalvageReport, Standing, TierFound};
pub use value::Piece;

use crate::engine::{Identity, check_identity, history_of};
use crate::error::{ErrorKind, Result, fail};
use crate::log::attributes::AttributeList;
use crate::log::root::Root;
use crate::log::superblock::{SUPERBLOCK_LEN, SUPERBLOCK_MAGIC, SUPERBLOCK_SLOTS, Superblock};
use crate::store::BucketOptions;
use crate::types::{BatchSeq, BucketId, TierId, Version};
use medium::Medium;
use state::{Blob, State};

/// The log lives on the first tier.
const LOG_TIER: TierId = TierId(0);

/// A damaged store, read. All methods may be called from any thread; memory holds what is said of
/// every blob and buffer, about 300 bytes each.
pub struct Salvage {
    medium: Medium,
    state: State,
    /// A name for each bucket, none twice.
    names: BTreeMap<BucketId, String>,
    /// Those whose names nothing that is lost can have changed.
    current_buckets: BTreeSet<BucketId>,
    /// The last batch that is missing: what is known only up to one before it may be stale.
    last_missing: BatchSeq,
    report: SalvageReport,
    /// They keep writers away.
    locks: Vec<File>,
}

/// A bucket that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SalvagedBucket {
    /// Its name. One that is lost, or that a newer bucket has, is told by the bucket's number.
    pub name: String,
    /// Its defaults and quotas.
    pub options: BucketOptions,
    /// Whether nothing that is lost can have changed name and options.
    pub is_current: bool,
}

/// A blob that was found.
pub struct SalvagedBlob<'a> {
    /// The name of its bucket, as in [`Salvage::buckets`].
    pub bucket: &'a str,
    /// Its key.
    pub key: &'a [u8],
    /// Bytes of its value.
    pub len: u64,
    /// Its version.
    pub version: Version,
    /// Whether it is the newest.
    pub standing: Standing,
    blob: &'a Blob,
}

impl SalvagedBlob<'_> {
    /// Its attributes, ascending by name.
    pub fn attributes(&self) -> AttributeList {
        self.blob.attributes.as_ref().map(|it| it.list()).unwrap_or_default()
    }

    /// The score that its user gave it.
    pub fn score(&self) -> Option<f32> {
        self.blob.attributes.as_ref().and_then(|it| it.score())
    }
}

impl Salvage {
    /// Reads what there is of a store on these tiers: [`open`](Salvage::open) without files.
    ///
    /// # Errors
    /// `Unsupported` for a store with DRAM alone, `Format` for one of a newer format.
    #[doc(hidden)]
    pub fn open_on(identity: Identity, tiers: Vec<SalvageTier>) -> Result<Salvage> {
        if tiers.is_empty() || tiers.len() != identity.devices.len() {
            fail!(Unsupported, "a store with DRAM alone leaves nothing to salvage");
        }
        let mut medium = Medium { store: identity.store, devices: identity.devices.clone(), tiers };
        let superblocks = read_superblocks(&mut medium, &identity)?;
        let history = history_of(&superblocks);
        let mut checkpoint = CheckpointFound::default();
        let mut state = State::new();
        let roots = checkpoints::find(&medium, &superblocks, &history, &mut checkpoint);
        checkpoints::load(&medium, &roots, &mut state, &mut checkpoint);
        let roots: Vec<Root> = roots.into_iter().map(|candidate| candidate.root).collect();
        let log = log::read(&medium, &superblocks, &history, &roots, &mut state);
        let last_missing = match (&log.end_unknown, log.gaps.last()) {
            (Some(_), _) => BatchSeq(u64::MAX),
            (None, Some(gap)) => BatchSeq(*gap.end()),
            (None, None) => BatchSeq(0),
        };
        let summaries = segments::scan(&medium, &mut state, last_missing);
        state.finish();
        let current_buckets = names::current_buckets(&state, last_missing);
        let names = names::names_of(&state, &current_buckets);
        let report = SalvageReport {
            store: identity.store,
            tiers: tiers_found(&medium, &superblocks),
            checkpoint,
            log,
            summaries,
            lost: names::lost_of(&state, &names),
            buckets: names.len() as u64,
            current: 0,
            maybe_stale: 0,
        };
        let locks = Vec::new();
        let mut salvage =
            Salvage { medium, state, names, current_buckets, last_missing, report, locks };
        let current =
            salvage.blobs().filter(|blob| blob.standing == Standing::Current).count() as u64;
        salvage.report.maybe_stale = salvage.blobs().count() as u64 - current;
        salvage.report.current = current;
        Ok(salvage)
    }

    /// Keeps these locks as long as it lives.
    pub(crate) fn with_locks(mut self, locks: Vec<File>) -> Salvage {
        self.locks = locks;
        self
    }

    /// What was there, and what is missing.
    pub fn report(&self) -> &SalvageReport {
        &self.report
    }

    /// The buckets, ascending by their numbers.
    pub fn buckets(&self) -> impl Iterator<Item = SalvagedBucket> + '_ {
        self.names.iter().map(|(id, name)| {
            let bucket = self.state.buckets.get(id);
            SalvagedBucket {
                name: name.clone(),
                options: bucket.map(|bucket| bucket.options.into()).unwrap_or_default(),
                is_current: self.is_bucket_current(*id),
            }
        })
    }

    /// The blobs, ascending by bucket number and key.
    pub fn blobs(&self) -> impl Iterator<Item = SalvagedBlob<'_>> {
        self.state.blobs.iter().flat_map(move |(id, blobs)| {
            let bucket = self.names.get(id).map_or("", String::as_str);
            let is_bucket_current = self.is_bucket_current(*id);
            blobs.iter().map(move |(key, blob)| SalvagedBlob {
                bucket,
                key,
                len: blob.len,
                version: blob.version,
                standing: self.standing(blob, is_bucket_current),
                blob,
            })
        })
    }

    /// Reads a value from its first byte to its last: each part is verified, a hole, or said to be
    /// lost. Together they are [`len`](SalvagedBlob::len) bytes. Ends with the first error of `take`.
    pub fn read<E>(
        &self,
        blob: &SalvagedBlob<'_>,
        take: &mut dyn FnMut(Piece<'_>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        value::Walk::new(&self.medium, &self.state.buffers, take).run(blob.blob)
    }

    fn is_bucket_current(&self, id: BucketId) -> bool {
        self.current_buckets.contains(&id)
    }

    fn standing(&self, blob: &Blob, is_bucket_current: bool) -> Standing {
        if blob.is_superseded {
            Standing::MaybeStale(Doubt::Superseded)
        } else if blob.is_scanned {
            Standing::MaybeStale(Doubt::Scanned)
        } else if blob.known_at < self.last_missing {
            Standing::MaybeStale(Doubt::LostBatches)
        } else if !is_bucket_current {
            Standing::MaybeStale(Doubt::BucketInDoubt)
        } else {
            Standing::Current
        }
    }
}

/// Of each tier the superblocks that are good and its own, newest first. A tier with one of another
/// store, or in the wrong place, is lost.
fn read_superblocks(medium: &mut Medium, identity: &Identity) -> Result<Vec<Vec<Superblock>>> {
    let mut all = Vec::new();
    for number in 0..medium.tiers.len() {
        let tier = TierId(number as u8);
        let mut good = Vec::new();
        for offset in SUPERBLOCK_SLOTS {
            let Ok(block) = medium.read(tier, offset, SUPERBLOCK_LEN) else { continue };
            match Superblock::decode(&block) {
                Ok(superblock) => good.push(superblock),
                Err(error) if error.kind() == ErrorKind::Format => {
                    // Not ours is no superblock; ours of a newer format is not for us to judge.
                    if block.starts_with(&SUPERBLOCK_MAGIC) {
                        return Err(error);
                    }
                }
                Err(_) => {}
            }
        }
        let foreign = good.iter().find_map(|block| {
            let place = format!("tier {number}'s file");
            check_identity(block, identity, number, &place).err()
        });
        if let Some(error) = foreign {
            medium.tiers[number].device = Err(error.message().to_owned());
            good.clear();
        }
        let facts = &medium.tiers[number];
        good.retain(|block| {
            (block.capacity, block.segment_size) == (facts.capacity, facts.segment_size)
        });
        good.sort_by_key(|block| std::cmp::Reverse(block.generation));
        all.push(good);
    }
    Ok(all)
}

fn tiers_found(medium: &Medium, superblocks: &[Vec<Superblock>]) -> Vec<TierFound> {
    let tiers = medium.tiers.iter().zip(superblocks).enumerate();
    let found = tiers.map(|(number, (tier, good))| TierFound {
        tier: number as u8,
        path: tier.device.as_ref().ok().map(|device| device.path().to_owned()),
        lost: tier.device.as_ref().err().cloned(),
        cut_to_bytes: medium.cut_to_bytes(TierId(number as u8)),
        superblocks: good.len(),
    });
    found.collect()
}
