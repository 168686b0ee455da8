//! Fills in what a configuration leaves open, from the host, when a store is created.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::host::{self, canonical};
use crate::config::validate::check_memory_budget;
use crate::config::values::format_size;
use crate::config::{
    Config, IoChoice, MissingTiers, OrganizerChoice, ScrubSettings, TierConfig, default_watermarks,
};
use crate::error::{Result, fail};
use crate::limits::{
    DRAM_CAPACITY_MAX, DRAM_CAPACITY_MIN, MEMORY_BESIDE_DRAM_MIN, SEGMENT_SIZE_MAX,
    SEGMENT_SIZE_MIN, SEGMENTS_MIN, SHARDS_MAX, TIER_CAPACITY_MIN,
};
use crate::types::{Durability, TierKind};

/// DRAM tier where none is configured, before the memory limit bounds it.
const DRAM_DEFAULT: u64 = 256 << 20;
/// Memory beside the DRAM tier where no budget is configured: 4 million small blobs.
const MEMORY_BESIDE_DRAM_DEFAULT: u64 = 512 << 20;
/// Largest device tier that is chosen by default.
const CAPACITY_DEFAULT_MAX: u64 = 1 << 40;
/// Segments that the smallest device tier is cut into by default.
const SEGMENTS_DEFAULT: u64 = 64;
/// Ends the name of every tier's file that the engine named.
pub(crate) const TIER_FILE_SUFFIX: &str = ".tier";

/// A configuration with nothing left open.
#[derive(Clone, PartialEq, Debug)]
pub struct ResolvedConfig {
    /// The DRAM tier; `None`: values are only staged in memory.
    pub dram: Option<ResolvedDram>,
    /// The device tiers, fast to slow, by [`TierId::index`](crate::types::TierId::index).
    pub devices: Vec<ResolvedTier>,
    /// The number of shards.
    pub shards: usize,
    /// Bytes of a buffer.
    pub buffer_size: u32,
    /// The level of puts that name none.
    pub durability: Durability,
    /// A Memory put is written behind within this time.
    pub flush_interval: Duration,
    /// Bytes of memory for everything together.
    pub memory_budget: u64,
    /// The I/O backend of the shards.
    pub io: IoChoice,
    /// What the organizer runs on.
    pub organizer: OrganizerChoice,
    /// Whether Memory puts are checksummed when they enter.
    pub checksum_at_entry: bool,
    /// Why the store is opened for reading only, if so.
    pub read_only: Option<String>,
    /// What opening does about a data tier that is missing.
    pub missing_tiers: MissingTiers,
    /// Most extents of an extent page.
    pub page_extents: u32,
    /// How the background scrub goes about it.
    pub scrub: ScrubSettings,
}

/// The DRAM tier of a [`ResolvedConfig`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ResolvedDram {
    /// Bytes.
    pub capacity: u64,
    /// Share of what blobs can use at which demotion stops.
    pub watermark_low: f64,
    /// Share of what blobs can use at which demotion starts.
    pub watermark_high: f64,
}

/// A device tier of a [`ResolvedConfig`].
#[derive(Clone, PartialEq, Debug)]
pub struct ResolvedTier {
    /// What it is made of.
    pub kind: TierKind,
    /// Its file.
    pub file: PathBuf,
    /// Bytes, a multiple of the segment size.
    pub capacity: u64,
    /// Bytes of a segment, a power of two.
    pub segment_size: u64,
    /// Share of what blobs can use at which demotion stops.
    pub watermark_low: f64,
    /// Share of what blobs can use at which demotion starts.
    pub watermark_high: f64,
}

impl Config {
    /// Fills in everything for a new store in the directory `store` (which need not exist yet).
    ///
    /// Errors: `InvalidConfig` for a capacity beyond the disk or the memory limit, a tier's file
    /// that exists or lies in a directory that does not, and two tiers in one file.
    pub fn resolve(self, store: &Path) -> Result<ResolvedConfig> {
        let limit = host::memory_limit();
        let (dram, devices) = split_dram(self.tiers.clone());
        let dram = dram.map(|tier| resolve_dram(&tier, limit)).transpose()?;
        let devices = resolve_devices(&devices, store, self.settings.segment_size)?;
        finish(&self, dram, devices, limit)
    }
}

/// Everything that is not about one tier. Shared by creation and reopening.
pub(crate) fn finish(
    config: &Config,
    dram: Option<ResolvedDram>,
    devices: Vec<ResolvedTier>,
    memory_limit: Option<u64>,
) -> Result<ResolvedConfig> {
    let default_level = if devices.is_empty() { Durability::Memory } else { Durability::Written };
    let dram_bytes = dram.map_or(0, |dram| dram.capacity);
    let default_budget = || default_memory_budget(dram_bytes, memory_limit);
    let memory_budget = config.settings.memory_budget.unwrap_or_else(default_budget);
    check_memory_budget(memory_budget, dram_bytes)?;
    let default_shards = (host::usable_cores() / 4).clamp(1, SHARDS_MAX);
    Ok(ResolvedConfig {
        dram,
        devices,
        shards: config.settings.shards.map_or(default_shards, usize::from),
        buffer_size: config.buffer_size(),
        durability: config.settings.durability.unwrap_or(default_level),
        flush_interval: config.settings.flush_interval,
        memory_budget,
        io: config.settings.io,
        organizer: config.settings.organizer,
        checksum_at_entry: config.settings.checksum_at_entry,
        read_only: config.settings.read_only.then(|| "it is configured so".to_owned()),
        missing_tiers: config.settings.missing_tiers,
        page_extents: config.settings.page_extents,
        scrub: config.settings.scrub,
    })
}

fn default_memory_budget(dram_bytes: u64, memory_limit: Option<u64>) -> u64 {
    let bound = memory_limit.map_or(u64::MAX, |limit| limit / 4 * 3);
    let least = dram_bytes + MEMORY_BESIDE_DRAM_MIN;
    (dram_bytes + MEMORY_BESIDE_DRAM_DEFAULT).min(bound).max(least)
}

/// The DRAM tier and the device tiers; with no tiers at all, the embedded default.
pub(crate) fn split_dram(mut tiers: Vec<TierConfig>) -> (Option<TierConfig>, Vec<TierConfig>) {
    let default_tier = |kind| {
        let (watermark_low, watermark_high) = default_watermarks(Some(kind));
        TierConfig { kind, path: None, capacity: None, watermark_low, watermark_high }
    };
    if tiers.is_empty() {
        return (Some(default_tier(TierKind::Dram)), vec![default_tier(TierKind::Nvme)]);
    }
    let has_dram = tiers.first().is_some_and(|tier| tier.kind == TierKind::Dram);
    let devices = tiers.split_off(usize::from(has_dram));
    (tiers.pop(), devices)
}

/// The DRAM tier, within what the process may use. Errors: `InvalidConfig`.
pub(crate) fn resolve_dram(tier: &TierConfig, memory_limit: Option<u64>) -> Result<ResolvedDram> {
    let limit = memory_limit.unwrap_or(u64::MAX);
    let capacity = tier.capacity.unwrap_or_else(|| default_dram(memory_limit));
    if capacity.saturating_add(MEMORY_BESIDE_DRAM_MIN) > limit {
        let beside = format_size(MEMORY_BESIDE_DRAM_MIN);
        let (capacity, limit) = (format_size(capacity), format_size(limit));
        fail!(
            InvalidConfig,
            "tier.0.capacity = {capacity} of DRAM and {beside} beside it exceed the memory limit \
             of this process, {limit}; lower it"
        );
    }
    // The arena is numbered in slots; a whole number of pages keeps its mapping simple.
    let capacity = capacity.min(DRAM_CAPACITY_MAX) & !4095;
    let (watermark_low, watermark_high) = (tier.watermark_low, tier.watermark_high);
    Ok(ResolvedDram { capacity, watermark_low, watermark_high })
}

/// 256 MiB, at most a quarter of what the process may use.
pub(crate) fn default_dram(memory_limit: Option<u64>) -> u64 {
    let quarter = memory_limit.map_or(u64::MAX, |limit| limit / 4);
    DRAM_DEFAULT.min(quarter).max(DRAM_CAPACITY_MIN)
}

fn resolve_devices(
    tiers: &[TierConfig],
    store: &Path,
    segment_size: Option<u64>,
) -> Result<Vec<ResolvedTier>> {
    let files = name_files(tiers, store)?;
    let capacities = choose_capacities(tiers, &files)?;
    let smallest = capacities.iter().copied().min().unwrap_or(0);
    let segment_size = segment_size.unwrap_or_else(|| default_segment_size(smallest));
    let mut devices = Vec::with_capacity(tiers.len());
    for ((tier, file), capacity) in tiers.iter().zip(files).zip(capacities) {
        if capacity / segment_size < SEGMENTS_MIN {
            fail!(
                InvalidConfig,
                "the {} tier {} has room for {}, fewer than {SEGMENTS_MIN} segments of {}; \
                 free space or lower segment_size",
                tier.kind,
                file.display(),
                format_size(capacity),
                format_size(segment_size)
            );
        }
        devices.push(ResolvedTier {
            kind: tier.kind,
            file,
            capacity: capacity / segment_size * segment_size,
            segment_size,
            watermark_low: tier.watermark_low,
            watermark_high: tier.watermark_high,
        });
    }
    Ok(devices)
}

/// A 64th of the smallest device tier, rounded down to a power of two, within the limits.
fn default_segment_size(smallest_capacity: u64) -> u64 {
    let share = (smallest_capacity / SEGMENTS_DEFAULT).max(1);
    (1u64 << share.ilog2()).clamp(SEGMENT_SIZE_MIN, SEGMENT_SIZE_MAX)
}

/// The file of each device tier: `nvme0.tier`, `nvme1.tier`, `hdd0.tier` in the store's
/// directory or in the one configured, or the file configured.
fn name_files(tiers: &[TierConfig], store: &Path) -> Result<Vec<PathBuf>> {
    let mut numbers: HashMap<TierKind, u32> = HashMap::new();
    let mut files: Vec<PathBuf> = Vec::with_capacity(tiers.len());
    for tier in tiers {
        let number = numbers.entry(tier.kind).or_default();
        let name = format!("{}{number}{TIER_FILE_SUFFIX}", tier.kind);
        *number += 1;
        let file = tier_file(tier.path.as_deref(), store, &name);
        check_new_file(&file, store)?;
        if files.iter().any(|other| canonical(other) == canonical(&file)) {
            fail!(InvalidConfig, "two tiers have the same file: {}", file.display());
        }
        files.push(file);
    }
    Ok(files)
}

pub(crate) fn tier_file(path: Option<&Path>, store: &Path, name: &str) -> PathBuf {
    match path {
        None => store.join(name),
        Some(path) if path.is_dir() => path.join(name),
        Some(path) => path.to_path_buf(),
    }
}

fn check_new_file(file: &Path, store: &Path) -> Result<()> {
    if file.symlink_metadata().is_ok() {
        fail!(
            InvalidConfig,
            "the tier's file {} exists already, but is of no store in {}; remove it (after an \
             interrupted creation) or configure another path",
            file.display(),
            store.display()
        );
    }
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    match parent {
        Some(parent) if parent != store && !parent.is_dir() => {
            fail!(
                InvalidConfig,
                "the tier's directory {} does not exist; make it",
                parent.display()
            )
        }
        _ => Ok(()),
    }
}

/// The capacity of each tier, checked against the free space of its file system.
fn choose_capacities(tiers: &[TierConfig], files: &[PathBuf]) -> Result<Vec<u64>> {
    // Tiers on one file system share its free space: explicit ones take theirs first.
    let mut wanted: HashMap<u64, (u64, u64)> = HashMap::new();
    let mut spaces = Vec::with_capacity(tiers.len());
    for (tier, file) in tiers.iter().zip(files) {
        let space = host::free_space(file)?;
        let (explicit, automatic) = wanted.entry(space.file_system).or_default();
        *explicit = explicit.saturating_add(tier.capacity.unwrap_or(0));
        *automatic += u64::from(tier.capacity.is_none());
        spaces.push(space);
    }
    let mut capacities = Vec::with_capacity(tiers.len());
    for ((tier, file), space) in tiers.iter().zip(files).zip(spaces) {
        let (explicit, automatic) = wanted[&space.file_system];
        let (free, file) = (space.free_bytes, file.display());
        if explicit > free {
            fail!(
                InvalidConfig,
                "{} wanted by the tiers on the file system of {file}, {} free; lower \
                 tier.N.capacity or free space",
                format_size(explicit),
                approximate(free)
            );
        }
        let share = (free - explicit) / 4 * 3 / automatic.max(1);
        let capacity = tier.capacity.unwrap_or(share.min(CAPACITY_DEFAULT_MAX));
        if capacity < TIER_CAPACITY_MIN {
            let least = format_size(TIER_CAPACITY_MIN);
            fail!(
                InvalidConfig,
                "{} free for the tier {file}, too few for the smallest tier of {least}; free space",
                approximate(free)
            );
        }
        capacities.push(capacity);
    }
    Ok(capacities)
}

/// A size for reading: whole MiB.
fn approximate(bytes: u64) -> String {
    if bytes < 1 << 20 { format_size(bytes) } else { format!("{}MiB", bytes >> 20) }
}
