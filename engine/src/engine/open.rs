//! Opening a store: its tiers are looked at, its state is recovered, its next epoch begins.

use std::sync::Arc;

use crate::config::{MissingTiers, ResolvedConfig};
use crate::engine::superblocks::{
    check_superblock, flush, load_superblocks, store_next, write_block,
};
use crate::engine::{Identity, LOG_TIER};
use crate::error::{Error, ErrorKind, Result, fail};
use crate::io::device::LostDevice;
use crate::io::{Device, Devices};
use crate::limits::{BLOCK, EPOCH_MAX, GENERATION_MAX};
use crate::log::FORMAT_MINOR;
use crate::log::superblock::{
    COMPAT_SUPPLEMENT, CUTS_MAX, Cut, INCOMPAT_RECORDS, Previous, RootRef, Superblock,
};
use crate::log::tail::LogTail;
use crate::plant::{Plant, planted};
use crate::recover::{self, History, Target};
use crate::shard::LogSeed;
use crate::types::{BatchSeq, Epoch, Uuid};

/// What the tiers of a store are found to be.
pub(super) struct Loaded {
    /// The devices; a stand-in for each tier that is lost.
    pub devices: Devices,
    /// Per tier, newest first; none of a lost tier.
    pub superblocks: Vec<Vec<Superblock>>,
    /// Per tier: why it cannot be used, if so.
    pub lost: Vec<Option<Error>>,
}

/// Looks at every tier. Nothing is written.
pub(super) fn load(
    devices: &Devices,
    config: &ResolvedConfig,
    identity: &Identity,
) -> Result<Loaded> {
    let mut loaded = Loaded { devices: devices.clone(), superblocks: Vec::new(), lost: Vec::new() };
    let mut present = Vec::new();
    for (number, device) in devices.iter().enumerate() {
        let found = look_at(&**device, config, identity, number, loaded.superblocks.first());
        let is_data = number != LOG_TIER.index();
        match found {
            Ok(found) => {
                loaded.superblocks.push(found);
                loaded.lost.push(None);
                present.push(device.clone());
            }
            Err(error) if is_data && is_loss(&error) => {
                let error = lost(error, number, config)?;
                let (path, len) = (device.path(), config.devices[number].capacity);
                let device = LostDevice::new(path, len, error.message().to_owned())?;
                loaded.superblocks.push(Vec::new());
                loaded.lost.push(Some(error));
                present.push(Arc::new(device));
            }
            Err(error) => return Err(error),
        }
    }
    loaded.devices = present.into();
    check_log_tier(&loaded)?;
    Ok(loaded)
}

/// The log's tier knows every epoch that has begun, or it is not the one that the others were
/// last used with.
fn check_log_tier(loaded: &Loaded) -> Result<()> {
    let Some(log) = loaded.superblocks.first().and_then(|blocks| blocks.first()) else {
        return Ok(());
    };
    let path = |number: usize| loaded.devices[number].path().display();
    for (number, blocks) in loaded.superblocks.iter().enumerate() {
        let begun = blocks.iter().map(|block| block.begun).max().unwrap_or(Epoch(0));
        if begun > log.epoch {
            fail!(
                TierMissing,
                "{} is an old copy: it was last used in open {}, {} has seen open {} begin; put \
                 the newest copy in its place",
                path(LOG_TIER.index()),
                log.epoch.0,
                path(number),
                begun.0
            );
        }
    }
    Ok(())
}

fn look_at(
    device: &dyn Device,
    config: &ResolvedConfig,
    identity: &Identity,
    number: usize,
    log: Option<&Vec<Superblock>>,
) -> Result<Vec<Superblock>> {
    if let Some(reason) = device.lost() {
        fail!(TierMissing, "{reason}");
    }
    // What an earlier process wrote and did not flush is made safe before it is believed. A store
    // that is only read promises nothing.
    if config.read_only.is_none() {
        flush(device)?;
    }
    let found = load_superblocks(device)?;
    if config.read_only.is_none()
        && let Some(reason) = found[0].read_only_reason()
    {
        fail!(Format, "{}: {reason}; open it with read_only", device.path().display());
    }
    check_superblock(&found[0], config, identity, number, device)?;
    // A tier that was absent for a while has an old epoch, but that of its last presence.
    let last_seen = log.map_or(Epoch(0), |log| log[0].last_seen(number));
    if found[0].epoch < last_seen {
        fail!(
            TierMissing,
            "{} is an old copy: it was last used in open {}, the store has used it in {}",
            device.path().display(),
            found[0].epoch.0,
            last_seen.0
        );
    }
    Ok(found)
}

/// Whether an error says that a tier is gone, not that something forbids its use.
fn is_loss(error: &Error) -> bool {
    use ErrorKind::{Corrupt, DeviceFailed, Format, Io, TierMissing};
    matches!(error.kind(), Corrupt | DeviceFailed | Format | Io | TierMissing)
}

/// The error that blobs on a lost tier answer, or the refusal to open without it.
fn lost(error: Error, number: usize, config: &ResolvedConfig) -> Result<Error> {
    match config.missing_tiers {
        MissingTiers::Fail => Err(Error::new(
            error.kind(),
            format!(
                "{}; with missing_tiers = \"degraded\" the store opens without tier {number}: \
                 blobs on it can then be listed and deleted, not read",
                error.message()
            ),
        )),
        MissingTiers::Degraded => Ok(Error::new(
            ErrorKind::TierMissing,
            format!("tier {number} is lost: {}", error.message()),
        )),
    }
}

/// Why the store may only be read, if its log tier says so.
pub fn read_only_reason(devices: &Devices) -> Option<String> {
    let newest = load_superblocks(&**devices.first()?).ok()?;
    newest.first()?.read_only_reason()
}

/// What all superblocks of all tiers say together: each was true when it was written.
pub(crate) fn history_of(superblocks: &[Vec<Superblock>]) -> History {
    let all = || superblocks.iter().flatten();
    let mut cuts: Vec<Cut> = all().flat_map(|block| block.cuts.iter().copied()).collect();
    // The earlier of two cuts of an epoch stays: what one of them discards is discarded.
    cuts.sort_by_key(|cut| (cut.epoch, cut.seq));
    cuts.dedup_by_key(|cut| cut.epoch);
    History {
        epoch: all().map(|block| block.epoch).max().unwrap_or(Epoch(0)),
        watermark: all().map(|block| block.watermark).max().unwrap_or_default(),
        copies: copies_in(superblocks),
        cuts,
    }
}

/// The checkpoint copies that the tiers beside the log's name. One tier has them at a time; should
/// it change, those of the others are left to be overwritten.
fn copies_in(superblocks: &[Vec<Superblock>]) -> Vec<RootRef> {
    let others = superblocks.iter().enumerate().filter(|(n, _)| *n != LOG_TIER.index());
    let named = others.flat_map(|(_, blocks)| Superblock::checkpoints_of(blocks));
    let mut copies: Vec<RootRef> = named.filter_map(|block| block.checkpoint).collect();
    copies.sort_by_key(|copy| std::cmp::Reverse(copy.seq));
    copies.dedup();
    copies
}

/// Recovers what a store holds, without writing anything.
pub(super) fn recover_only(target: &Target<'_>, loaded: &Loaded) -> Result<(Epoch, BatchSeq)> {
    let history = history_of(&loaded.superblocks);
    let found =
        recover::recover(target, LOG_TIER, &loaded.superblocks[LOG_TIER.index()], &history)?;
    Ok((history.epoch, found.tail.last_seq()))
}

/// Recovers, and makes the new epoch and the log's cut durable on every tier.
pub(super) fn begin_epoch(
    target: &Target<'_>,
    loaded: Loaded,
    devices: &Arc<[Uuid]>,
) -> Result<(LogSeed, Epoch)> {
    let log_tier = LOG_TIER.index();
    let history = history_of(&loaded.superblocks);
    if history.epoch.0 >= EPOCH_MAX {
        fail!(LimitExceeded, "the store has been opened {EPOCH_MAX} times; open it with read_only");
    }
    let epoch = Epoch(history.epoch.0 + u32::from(!planted(Plant::EpochNotRaised)));
    let found = recover::recover(target, LOG_TIER, &loaded.superblocks[log_tier], &history)?;
    if target.space.next_generation() > GENERATION_MAX {
        fail!(
            LimitExceeded,
            "the store has opened {GENERATION_MAX} segments; open it with read_only"
        );
    }
    let (tail, checkpoints) = (found.tail, found.checkpoints);
    let last = tail.last_seq();
    let mut superblocks: Vec<Option<Superblock>> =
        loaded.superblocks.iter().map(|blocks| newest_of(blocks)).collect();
    let Some(newest) = superblocks[log_tier].clone() else {
        fail!(Internal, "the log's tier has no superblock");
    };
    let log = with_checkpoint_of(&newest, found.superblock, found.previous);
    let kept_from = log.previous.as_ref().map_or(log.log_start.seq, |p| p.log_start.seq);
    let cuts = cuts_of(&history, newest.epoch, kept_from, last);
    superblocks[log_tier] = Some(log);
    blank_next(&*target.devices[log_tier], &tail, newest.segment_size)?;
    let mut present: Vec<Epoch> = (0..superblocks.len()).map(|n| newest.last_seen(n)).collect();
    for (seen, superblock) in present.iter_mut().zip(&superblocks) {
        if superblock.is_some() {
            *seen = epoch;
        }
    }
    for superblock in superblocks.iter_mut().flatten() {
        superblock.minor = FORMAT_MINOR;
        superblock.features.compat |= COMPAT_SUPPLEMENT;
        superblock.features.incompat |= INCOMPAT_RECORDS;
        superblock.cuts = cuts.clone();
        superblock.epoch = epoch;
        superblock.tier_epochs = present.clone();
        superblock.watermark = last;
        superblock.clean = false;
    }
    store_begin(target.devices, &mut superblocks, epoch)?;
    Ok((LogSeed { tail, superblocks, devices: devices.clone(), checkpoints }, epoch))
}

/// The newest superblock of the log's tier, with the checkpoint that recovery went by.
fn with_checkpoint_of(
    newest: &Superblock,
    found: Superblock,
    previous: Option<Previous>,
) -> Superblock {
    // If that is the one of the older slot, the newest is damaged: the next superblock takes the
    // place of the newest, so that the good one stays.
    let is_older = found.generation != newest.generation;
    Superblock {
        generation: newest.generation + u64::from(is_older),
        checkpoint: found.checkpoint,
        log_start: found.log_start,
        previous,
        ..newest.clone()
    }
}

/// The newest superblock of a tier, from now on with the checkpoint before, which the older slot
/// alone may have named: it is about to be overwritten.
fn newest_of(superblocks: &[Superblock]) -> Option<Superblock> {
    let older = Superblock::checkpoints_of(superblocks).get(1).map(Superblock::as_previous);
    superblocks.first().map(|newest| Superblock { previous: older, ..newest.clone() })
}

/// Writes both slots of every tier. The first say that the epoch is beginning, those of the log's
/// tier last: before that, nothing of it exists. The second say that it has begun, the log's tier
/// first: whoever has read one knows that the log's tier must know the epoch too.
fn store_begin(
    devices: &Devices,
    superblocks: &mut [Option<Superblock>],
    epoch: Epoch,
) -> Result<()> {
    for (device, superblock) in devices.iter().zip(&mut *superblocks).rev() {
        if let Some(superblock) = superblock {
            store_next(&**device, superblock)?;
        }
    }
    for (device, superblock) in devices.iter().zip(superblocks) {
        if let Some(superblock) = superblock {
            superblock.begun = epoch;
            store_next(&**device, superblock)?;
        }
    }
    Ok(())
}

/// The cut table of the next epoch: what was discarded stays so, and so does what lies beyond
/// `last` now. Cuts before the start of the log that is kept concern nothing that is
/// read any more.
fn cuts_of(history: &History, log_epoch: Epoch, start: BatchSeq, last: BatchSeq) -> Vec<Cut> {
    let mut cuts = history.cuts.clone();
    // An open that ended between two superblocks has left its epoch on the other tiers alone.
    for epoch in [log_epoch, history.epoch] {
        if !cuts.iter().any(|cut| cut.epoch == epoch) {
            cuts.push(Cut { epoch, seq: last });
        }
    }
    cuts.retain(|cut| cut.seq.next() >= start);
    cuts.iter_mut().for_each(|cut| cut.seq = cut.seq.min(last));
    cuts.sort_by_key(|cut| cut.epoch);
    // The places where discarded batches could be taken for the next one have been blanked at
    // each open: the oldest cut may go where the table is full.
    cuts.split_off(cuts.len().saturating_sub(CUTS_MAX))
}

/// Blanks the two places where the next batch may stand. What lies there was discarded; a batch
/// goes to one of them only, and the other would still hold a successor of the log's last batch,
/// intact, and kept out by nothing but the cut.
fn blank_next(device: &dyn Device, tail: &LogTail, segment_size: u64) -> Result<()> {
    let here = (tail.room(segment_size) >= BLOCK as u64)
        .then(|| u64::from(tail.segment.segment.0) * segment_size + tail.used);
    let ahead = tail.ahead.map(|ahead| u64::from(ahead.segment.0) * segment_size + BLOCK as u64);
    for offset in here.into_iter().chain(ahead) {
        write_block(device, offset, &[0; BLOCK])?;
    }
    flush(device)
}
