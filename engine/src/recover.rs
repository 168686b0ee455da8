//! Opening a store that has been used: from checkpoint and log to the logged state.
//!
//! 1. The newest superblock of the log's tier names the newest checkpoint root and the log's
//!    start. A damaged root or image falls back to the checkpoint before.
//! 2. The images are loaded into index and table, several at a time ([`load`]); meanwhile the
//!    headers of the log are read to its end ([`scan`]).
//! 3. A bad batch at or below the durable watermark W is corruption; above W the log is cut at the
//!    first batch that is bad or whose data did not land.
//! 4. Records apply above the cut of the partition they concern ([`replay`]); what checkpoint and log
//!    say is held against what can be ([`sound`]).
//! 5. Counts, live bytes, keys in order and the states of segments are derived ([`derive`]).
//!
//! Index and table are filled directly: nothing is built twice. Partitions do not depend on each
//! other, so what is done for each is done on all cores.

mod derive;
mod load;
mod older;
mod replay;
pub(crate) mod sound;

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::buckets::Buckets;
use crate::error::{Error, ErrorKind, Result, fail};
use crate::index::Index;
use crate::index::table::BufferTable;
use crate::io::Devices;
use crate::io::runtime::Runtime;
use crate::limits::PARTITIONS;
use crate::log::follow::LogExpect;
use crate::log::scan::{Landing, Scan, scan};
use crate::log::superblock::{Cut, Previous, RootRef, Superblock};
use crate::log::tail::LogTail;
use crate::plant::{Plant, planted};
use crate::shard::checkpoint::CheckpointSeed;
use crate::tier::space::{SegmentState, Space};
use crate::types::{BatchSeq, Epoch, TierId, TierSegment};
use older::Older;
use replay::Replay;

/// What recovery works on: all of it empty.
pub struct Target<'a> {
    /// Threads.
    pub runtime: &'a Runtime,
    /// The tiers' files, flushed before anything is read.
    pub devices: &'a Devices,
    /// Segments, all free.
    pub space: &'a Arc<Space>,
    /// Buffers.
    pub table: &'a Arc<BufferTable>,
    /// Keys.
    pub index: &'a Index,
    /// Buckets.
    pub buckets: &'a Buckets,
}

/// What recovery found.
pub struct Recovered {
    /// Where the log goes on.
    pub tail: LogTail,
    /// What the checkpointer continues from.
    pub checkpoints: CheckpointSeed,
    /// The superblock that all this is from: not the newest if its checkpoint is damaged.
    pub superblock: Superblock,
    /// The checkpoint before, if it is whole.
    pub previous: Option<Previous>,
    /// Batches of the log that were read.
    pub batches: usize,
    /// Batches that were discarded.
    pub discarded: usize,
}

/// What the superblocks of all tiers say together.
pub struct History {
    /// The newest epoch that was begun.
    pub epoch: Epoch,
    /// The highest W that any of them names.
    pub watermark: BatchSeq,
    /// What was discarded.
    pub cuts: Vec<Cut>,
    /// The copies of checkpoints, newest first.
    pub copies: Vec<RootRef>,
}

/// Fills the target. `superblocks` are those of the log's tier, newest first.
pub fn recover(
    target: &Target<'_>,
    log_tier: TierId,
    superblocks: &[Superblock],
    history: &History,
) -> Result<Recovered> {
    let recovered = fill(target, log_tier, superblocks, history);
    if recovered.is_err() {
        target.table.abandon();
    }
    recovered
}

fn fill(
    target: &Target<'_>,
    log_tier: TierId,
    superblocks: &[Superblock],
    history: &History,
) -> Result<Recovered> {
    let checkpoints = Superblock::checkpoints_of(superblocks);
    let mut first_error = None;
    for (at, superblock) in checkpoints.iter().enumerate() {
        let error = match read_all(target, log_tier, superblock, history) {
            Ok((replay, log)) => {
                let older = older::find(target, superblock, checkpoints.get(at + 1), history);
                let recovered = log.and_then(|log| {
                    replay_log(target, log_tier, superblock, history, replay, log, older)
                });
                // The damage that made this the one to go by says more.
                return recovered.map_err(|error| first_error.unwrap_or(error));
            }
            Err(error) => error,
        };
        first_error.get_or_insert(error);
        target.index.clear();
        target.table.clear();
    }
    Err(first_error.unwrap_or_else(|| Error::new(ErrorKind::Corrupt, "there is no superblock")))
}

/// What the log is expected to be.
fn expect_of<'a>(superblock: &'a Superblock, history: &'a History) -> LogExpect<'a> {
    LogExpect {
        epoch: history.epoch,
        cuts: &history.cuts,
        // Not if another tier has seen a later open.
        clean: superblock.clean && superblock.epoch == history.epoch,
        ..LogExpect::of(superblock)
    }
}

/// Loads the checkpoint that a superblock names, and reads the log behind it. An error of the
/// checkpoint is the outer one: another may do.
fn read_all<'a>(
    target: &Target<'a>,
    log_tier: TierId,
    superblock: &Superblock,
    history: &History,
) -> Result<(Replay<'a>, Result<Scan>)> {
    let device = &target.devices[log_tier.index()];
    let expect = expect_of(superblock, history);
    sound::check_start(target.space, log_tier, &superblock.log_start)?;
    let (replay, images) = load::root(target, superblock, history.epoch)?;
    let log = Mutex::new(None);
    // The longest job first.
    target.runtime.in_parallel(1 + PARTITIONS, &|job| match job {
        0 => {
            *log.lock() = Some(scan(&**device, superblock.log_start, &expect));
            Ok(())
        }
        job => load::partition(target, superblock, &replay, job - 1, &images[job - 1]),
    })?;
    let unread = || Err(Error::new(ErrorKind::Internal, "the log was not read"));
    let log = log.into_inner().unwrap_or_else(unread);
    if let Ok(log) = &log {
        check_flushed(&replay, history.watermark.max(log.watermark))?;
    }
    Ok((replay, log))
}

/// A checkpoint of batches that are not known to have been flushed is none: the log may end
/// before them.
fn check_flushed(replay: &Replay<'_>, watermark: BatchSeq) -> Result<()> {
    let cuts = replay.partitions.iter().map(|part| part.cut);
    match cuts.chain([replay.root_seq]).max().filter(|newest| *newest > watermark) {
        Some(newest) => fail!(
            Corrupt,
            "the checkpoint is one of batch {}, the log was flushed up to batch {}",
            newest.0,
            watermark.0
        ),
        None => Ok(()),
    }
}

fn replay_log(
    target: &Target<'_>,
    log_tier: TierId,
    superblock: &Superblock,
    history: &History,
    mut replay: Replay<'_>,
    mut log: Scan,
    older: Option<Older>,
) -> Result<Recovered> {
    let watermark = history.watermark.max(log.watermark);
    check_end(&log, watermark, log_tier)?;
    sound::check_tail(target.space, &log.tail)?;
    log.batches.iter().try_for_each(sound::check_batch)?;
    let found = log.batches.len();
    let flushed = log.batches.partition_point(|batch| batch.identity.seq <= watermark);
    replay.apply_all(target.runtime, &log.batches[..flushed])?;
    let mut landing = Landing::new(target.devices);
    for at in flushed..found {
        let batch = &log.batches[at];
        if !planted(Plant::LandingNotChecked) && !replay.has_landed(batch, &mut landing)? {
            log.cut(at, superblock.segment_size);
            break;
        }
        replay.apply_all(target.runtime, std::slice::from_ref(batch))?;
    }
    let records = log.batches.iter().map(|batch| batch.records().len() as u64).sum();
    let log_bytes = log.batches.iter().map(|batch| u64::from(batch.shape.total_len)).sum();
    let (batches, mut tail) = (log.batches.len(), log.tail);
    let mut copies = copies_kept(target, superblock, history);
    let mut kept = [replay.kept.clone(), BTreeSet::new()];
    let mut previous = older.map(|older| {
        older.log.into_iter().rev().for_each(|start| tail.history.push_front(start));
        kept[1] = older.segments;
        older.checkpoint
    });
    let (partitions, root_seq) = (replay.partitions.clone(), replay.root_seq);
    let all_kept = kept.iter().chain(&copies).flatten().copied().collect();
    derive::finish(target, replay, log_tier, &tail, &all_kept)?;
    let is_meta = |at: &TierSegment| {
        target.space.tier(at.tier).segment(at.segment).state() == SegmentState::Meta
    };
    if let Some(at) = kept[0].iter().find(|at| !is_meta(at)) {
        sound::refuse_overlap(*at, root_seq)?;
    }
    if !kept[1].iter().all(is_meta) {
        previous = None;
    }
    // An old copy, on a tier that has come back, may have been overwritten.
    kept.iter_mut().chain(&mut copies).for_each(|segments| segments.retain(is_meta));
    let checkpoints = CheckpointSeed { partitions, kept, records, log_bytes, copies };
    let superblock = superblock.clone();
    let discarded = found - batches;
    Ok(Recovered { tail, checkpoints, superblock, previous, batches, discarded })
}

/// A log that ends at or below what was flushed has lost batches that were acknowledged.
fn check_end(log: &Scan, watermark: BatchSeq, tier: TierId) -> Result<()> {
    if log.tail.last_seq() >= watermark || planted(Plant::WatermarkIgnored) {
        return Ok(());
    }
    let place = format!(
        "batch {} of the log, segment {} of tier {}, offset {}",
        log.tail.next_seq.0, log.tail.segment.segment.0, tier.0, log.tail.used
    );
    let detail = log.fault.to_error(place);
    fail!(
        Corrupt,
        "the log was flushed up to batch {} and cannot be read beyond {}: {}",
        watermark.0,
        log.tail.last_seq().0,
        detail.message()
    );
}

/// Segments of the copies on other tiers, the newest and the one before. One that cannot be read
/// is none.
fn copies_kept(
    target: &Target<'_>,
    superblock: &Superblock,
    history: &History,
) -> [BTreeSet<TierSegment>; 2] {
    let mut kept = history.copies.iter().map(|root_ref| {
        let root = load::read_root(target, superblock, root_ref);
        let segments = root.and_then(|root| load::segments_named(target.space, &root, root_ref));
        segments.unwrap_or_default()
    });
    let newest: BTreeSet<TierSegment> = kept.next().unwrap_or_default();
    let older = kept.next().unwrap_or_default();
    // Each is freed when its time comes, once.
    let older = older.difference(&newest).copied().collect();
    [newest, older]
}
