//! Salvage: what of a damaged store is provably right, and what is lost.
//!
//! Opening is strict: a store whose log or list of blobs is damaged below the watermark is refused.
//! Salvage reads such a store, and never writes to it. It goes by what stands under a checksum that
//! was itself found under one, with the identity of store, device, place, generation and epoch:
//!
//! 1. superblocks, any good slot of any tier, with epoch, watermark and cuts ([`history_of`]);
//! 2. of each partition the newest image that can be read, of the newest checkpoint, the one before or
//!    a copy on another tier (`checkpoints`);
//! 3. the log, also behind damage (`batches`), as far as it is known to be the log (`chain`);
//! 4. the summaries of sealed segments (`segments`).
//!
//! From that it makes the state (`state`), which knows of each blob up to which batch nothing can have
//! changed it. If no batch behind that one is missing, the blob is *current*; else it *may be stale*.
//! Values are verified as they are read (`value`, `buffers`).

mod batches;
mod buffers;
mod chain;
mod checkpoints;
mod medium;
mod report;
mod segments;
mod state;
mod value;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

pub use medium::SalvageTier;
pub use report::{CheckpointFound, Doubt, LogFound, LostBlob, SalvageReport, Standing, TierFound};
pub use value::Piece;

use crate::engine::{Identity, check_identity, history_of};
use crate::error::{ErrorKind, Result, fail};
use crate::limits::BUCKET_NAME_LEN_MAX;
use crate::log::attributes::AttributeList;
use crate::log::record::SegmentKind;
use crate::log::root::Root;
use crate::log::superblock::{
    LogStart, SUPERBLOCK_LEN, SUPERBLOCK_MAGIC, SUPERBLOCK_SLOTS, Superblock,
};
use crate::recover::History;
use crate::store::BucketOptions;
use crate::types::{BatchSeq, BucketId, Epoch, TierId, TierSegment, Version};
use batches::{Batches, Search};
use buffers::has_landed;
use chain::{Chosen, Link};
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
        let log = read_log(&medium, &superblocks, &history, &roots, &mut state);
        let last_missing = match (&log.end_unknown, log.gaps.last()) {
            (Some(_), _) => BatchSeq(u64::MAX),
            (None, Some(gap)) => BatchSeq(*gap.end()),
            (None, None) => BatchSeq(0),
        };
        let summaries = segments::scan(&medium, &mut state, last_missing);
        state.finish();
        let current_buckets = current_buckets(&state, last_missing);
        let names = names_of(&state, &current_buckets);
        let report = SalvageReport {
            store: identity.store,
            tiers: tiers_found(&medium, &superblocks),
            checkpoint,
            log,
            summaries,
            lost: lost_of(&state, &names),
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

// ---- tiers --------------------------------------------------------------------------------

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

// ---- log ----------------------------------------------------------------------------------

/// Reads the log and applies it: first what was flushed, then what came to its place beyond that.
fn read_log(
    medium: &Medium,
    superblocks: &[Vec<Superblock>],
    history: &History,
    roots: &[Root],
    state: &mut State,
) -> LogFound {
    let oldest = state.cuts.iter().copied().min().unwrap_or_default();
    let from = roots.first().map_or(oldest, |root| root.seq.min(oldest)).next();
    let starts = starts_of(superblocks, roots);
    let uses = uses_of(roots);
    let search =
        Search { medium, tier: LOG_TIER, starts: &starts, uses: &uses, cuts: &history.cuts, from };
    let found = search.run();
    let named = found.views.iter().map(|view| view.identity.watermark).max();
    let watermark = history.watermark.max(named.unwrap_or_default());
    let newest = found.views.iter().map(|view| view.identity.epoch).max().unwrap_or(Epoch(0));
    // Without any superblock the newest epoch is the newest one that has left a batch.
    let epoch = if history.epoch == Epoch(0) { newest } else { history.epoch };
    let links: Vec<Link> = found.views.iter().map(Link::of).collect();
    let known = chain::Known { starts: &starts, epoch, cuts: &history.cuts, from, watermark };
    let mut chosen = chain::choose(&links, &known);
    apply(medium, &found, &mut chosen, watermark, state);
    let end_unknown = why_end_is_unknown(medium, superblocks, history, &found, &chosen, &starts);
    LogFound {
        batches: chosen.batches.len() as u64,
        gaps: chosen.missing,
        last: chosen.last,
        end_unknown,
    }
}

/// Every place that is named as a beginning of the log.
fn starts_of(superblocks: &[Vec<Superblock>], roots: &[Root]) -> Vec<LogStart> {
    let blocks = superblocks.iter().flatten();
    let of_blocks = blocks.flat_map(|block| {
        let previous = block.previous.as_ref().map(|previous| previous.log_start);
        [Some(block.log_start), previous]
    });
    of_blocks.flatten().chain(roots.iter().map(|root| root.log_start)).collect()
}

/// Segments that roots know as the log's.
fn uses_of(roots: &[Root]) -> Vec<(TierSegment, u32)> {
    let entries = roots.iter().flat_map(|root| &root.segments);
    let log = entries.filter(|entry| entry.kind == SegmentKind::Log);
    log.map(|entry| (entry.segment, entry.generation)).collect()
}

/// Applies the batches that were chosen. Above the watermark the log ends at the first one whose data
/// did not land, as it does for recovery.
fn apply(
    medium: &Medium,
    found: &Batches,
    chosen: &mut Chosen,
    watermark: BatchSeq,
    state: &mut State,
) {
    for (at, number) in chosen.batches.iter().enumerate() {
        let view = &found.views[*number];
        let seq = view.identity.seq;
        let is_late = seq > watermark;
        if is_late && !view.records().all(|record| is_landed(medium, record, state)) {
            chosen.batches.truncate(at);
            chosen.last = BatchSeq(seq.0 - 1);
            return;
        }
        view.records().for_each(|record| state.apply(seq, record));
    }
}

/// Whether the data that a record names is there, as far as no earlier record has put it there.
fn is_landed(medium: &Medium, record: &crate::log::record::Record, state: &State) -> bool {
    use crate::log::record::{MoveSubject, Record};
    let buffers = &state.buffers;
    let mut defs = record.buffers().iter();
    let defs_landed =
        defs.all(|def| buffers.is_at(def.id, def.location) || has_landed(medium, def));
    let arrived = match record {
        Record::Move { subject, to, .. } => {
            let (MoveSubject::Lone { buffer, .. } | MoveSubject::Table { buffer }) = subject;
            buffers.has_arrived(medium, *buffer, *to)
        }
        _ => true,
    };
    defs_landed && arrived
}

/// Why the log may have gone on behind the last batch that is known, if it may: nothing but the log's
/// tier says how far it goes, so all of that which could say so must be there.
fn why_end_is_unknown(
    medium: &Medium,
    superblocks: &[Vec<Superblock>],
    history: &History,
    found: &Batches,
    chosen: &Chosen,
    starts: &[LogStart],
) -> Option<String> {
    let log = &superblocks[LOG_TIER.index()];
    if let Err(error) = medium.device(LOG_TIER) {
        return Some(error.message().to_owned());
    }
    if let Some(len) = medium.cut_to_bytes(LOG_TIER) {
        return Some(format!("the log's tier has been cut to {len} bytes"));
    }
    let [newest, _] = &log[..] else {
        return Some(format!("the log's tier has {} good superblocks of two", log.len()));
    };
    if let Some(block) = superblocks.iter().flatten().find(|block| block.begun > newest.epoch) {
        return Some(format!(
            "the log's tier is an old copy: open {} has begun, it knows open {}",
            block.begun.0, newest.epoch.0
        ));
    }
    if log[0].generation == log[1].generation && log[0] != log[1] {
        return Some("the superblocks of the log's tier differ".to_owned());
    }
    if let Some(segment) = found.unreadable.first() {
        return Some(format!("segment {} of the log cannot be read to its end", segment.0));
    }
    if chosen.missing.last().is_some_and(|gap| *gap.end() == chosen.last.0) {
        return Some(format!("batch {}, the last one known, is missing", chosen.last.0));
    }
    let last = chosen.batches.last().map(|at| &found.views[*at].identity);
    if last.is_some_and(|last| last.epoch > history.epoch) {
        return Some("the log is newer than all superblocks".to_owned());
    }
    let segment = match last {
        Some(last) => Some((last.segment.segment, last.generation)),
        None => starts.first().map(|start| (start.segment.segment, start.generation)),
    };
    match segment {
        Some(at) if found.headers.contains(&at) => None,
        _ => Some("the header of the segment where the log ends is damaged".to_owned()),
    }
}

// ---- names --------------------------------------------------------------------------------

/// The buckets whose names stand. Nothing that is lost explains two of one name that are both known.
fn current_buckets(state: &State, last_missing: BatchSeq) -> BTreeSet<BucketId> {
    let known = || state.buckets.iter().filter(|(_, bucket)| bucket.known_at >= last_missing);
    let mut names: BTreeMap<&[u8], usize> = BTreeMap::new();
    for (_, bucket) in known() {
        *names.entry(&bucket.name).or_default() += 1;
    }
    let is_alone = |bucket: &state::Bucket| names.get(&*bucket.name) == Some(&1);
    let current = known().filter(|(_, bucket)| !bucket.is_disputed && is_alone(bucket));
    current.map(|(id, _)| *id).collect()
}

/// A name for each bucket that is known, or that a blob stands in. Of two of one name the one whose name
/// stands has it; all others, and those without a name, get their numbers.
fn names_of(state: &State, current: &BTreeSet<BucketId>) -> BTreeMap<BucketId, String> {
    let mut order: Vec<_> = state.buckets.iter().collect();
    order.sort_by_key(|(id, bucket)| (!current.contains(id), Reverse((bucket.known_at, **id))));
    let mut counts: BTreeMap<&[u8], usize> = BTreeMap::new();
    for (_, bucket) in &order {
        *counts.entry(&bucket.name).or_default() += 1;
    }
    let mut names = BTreeMap::new();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for (id, bucket) in order {
        let name = String::from_utf8_lossy(&bucket.name).into_owned();
        let is_alone = counts.get(&*bucket.name) == Some(&1);
        let has_it = (current.contains(id) || is_alone) && !taken.contains(&name);
        let name = if has_it { name } else { numbered(&name, *id, &taken) };
        taken.insert(name.clone());
        names.insert(*id, name);
    }
    for id in state.blobs.keys().chain(state.lost.keys()) {
        if !names.contains_key(id) {
            let name = numbered("nameless", *id, &taken);
            taken.insert(name.clone());
            names.insert(*id, name);
        }
    }
    names
}

/// A name with the bucket's number that nobody has, as long as names may be.
fn numbered(name: &str, id: BucketId, taken: &BTreeSet<String>) -> String {
    let mut suffix = format!(" (bucket {})", id.0);
    loop {
        let room = BUCKET_NAME_LEN_MAX - suffix.len();
        let fits =
            name.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= room);
        let numbered = format!("{}{suffix}", &name[..fits.last().unwrap_or(0)]);
        if !taken.contains(&numbered) {
            return numbered;
        }
        suffix.push('\'');
    }
}

fn lost_of(state: &State, names: &BTreeMap<BucketId, String>) -> Vec<LostBlob> {
    let all = state.lost.iter().flat_map(|(id, keys)| {
        let bucket = names.get(id).cloned().unwrap_or_default();
        keys.iter().map(move |(key, why)| LostBlob {
            bucket: bucket.clone(),
            key: key.clone(),
            why: why.clone(),
        })
    });
    all.collect()
}
