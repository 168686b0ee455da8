//! Opening a store that exists: what the user configured against what the store is.

use std::path::{Path, PathBuf};

use crate::config::host;
use crate::config::resolve::{
    ResolvedConfig, ResolvedDram, ResolvedTier, default_dram, finish, resolve_dram, split_dram,
    tier_file,
};
use crate::config::values::format_size;
use crate::config::{Config, MissingTiers, TierConfig};
use crate::error::{Result, fail};
use crate::limits::MEMORY_BESIDE_DRAM_MIN;
use crate::manifest::{MANIFEST_FILE, Manifest, ManifestTier};

/// The configuration for reopening the store in `directory`.
///
/// With no tiers configured, the store's own are used. Configured device tiers must match the
/// store's in number, kind and capacity; a configured path replaces the store's (a device that
/// was mounted elsewhere). The DRAM tier, watermarks, shards and intervals may change freely.
///
/// Errors: `InvalidConfig` for tiers or a segment size that do not match; `TierMissing` for a
/// tier whose file is not there.
pub fn reconcile(config: Config, manifest: &Manifest, directory: &Path) -> Result<ResolvedConfig> {
    let limit = host::memory_limit();
    check_segment_size(&config, manifest)?;
    let (dram, devices) = if config.tiers.is_empty() {
        let devices = stored_tiers(manifest, directory);
        (manifest.dram.map(|dram| fitting_dram(dram, limit)), devices)
    } else {
        let (dram, devices) = split_dram(config.tiers.clone());
        let dram = dram.map(|tier| resolve_dram(&tier, limit)).transpose()?;
        (dram, match_tiers(&devices, manifest, directory, usize::from(dram.is_some()))?)
    };
    for (number, tier) in devices.iter().enumerate() {
        // The loss of the first tier, which holds the log, is the loss of the store.
        if number == 0 || config.missing_tiers() == MissingTiers::Fail {
            check_there(tier)?;
        }
    }
    finish(&config, dram, devices, limit)
}

fn check_segment_size(config: &Config, manifest: &Manifest) -> Result<()> {
    let stored = manifest.tiers.first().map(|tier| tier.segment_size);
    match (config.settings.segment_size, stored) {
        (Some(wanted), Some(stored)) if wanted != stored => fail!(
            InvalidConfig,
            "segment_size = {} is not the store's {}; it is fixed at creation, leave it out",
            format_size(wanted),
            format_size(stored)
        ),
        _ => Ok(()),
    }
}

/// The DRAM tier of the store's creation, or the default where this host has less memory.
fn fitting_dram(stored: ResolvedDram, memory_limit: Option<u64>) -> ResolvedDram {
    let limit = memory_limit.unwrap_or(u64::MAX);
    if stored.capacity.saturating_add(MEMORY_BESIDE_DRAM_MIN) <= limit {
        return stored;
    }
    ResolvedDram { capacity: default_dram(memory_limit), ..stored }
}

/// The device tiers as the manifest has them, whether their files are there or not.
pub fn stored_tiers(manifest: &Manifest, directory: &Path) -> Vec<ResolvedTier> {
    manifest.tiers.iter().map(|tier| stored_tier(tier, directory)).collect()
}

fn stored_tier(tier: &ManifestTier, directory: &Path) -> ResolvedTier {
    ResolvedTier {
        kind: tier.kind,
        file: stored_file(tier, directory),
        capacity: tier.capacity,
        segment_size: tier.segment_size,
        watermark_low: tier.watermark_low,
        watermark_high: tier.watermark_high,
    }
}

fn stored_file(tier: &ManifestTier, directory: &Path) -> PathBuf {
    // An absolute path replaces the directory.
    directory.join(&tier.path)
}

fn match_tiers(
    configured: &[TierConfig],
    manifest: &Manifest,
    directory: &Path,
    first_number: usize,
) -> Result<Vec<ResolvedTier>> {
    if configured.len() != manifest.tiers.len() {
        fail!(
            InvalidConfig,
            "{} nvme and hdd tiers are configured, the store in {} has {}; configure the same, or \
             none to use the store's ({MANIFEST_FILE} lists them)",
            configured.len(),
            directory.display(),
            manifest.tiers.len()
        );
    }
    let pairs = configured.iter().zip(&manifest.tiers).enumerate();
    pairs
        .map(|(place, (tier, stored))| match_tier(place + first_number, tier, stored, directory))
        .collect()
}

fn match_tier(
    number: usize,
    tier: &TierConfig,
    stored: &ManifestTier,
    directory: &Path,
) -> Result<ResolvedTier> {
    if tier.kind != stored.kind {
        fail!(
            InvalidConfig,
            "tier.{number}.kind = {} is not the store's {}; configure the same",
            tier.kind,
            stored.kind
        );
    }
    let whole_segments = |bytes: u64| bytes / stored.segment_size * stored.segment_size;
    if let Some(capacity) = tier.capacity
        && whole_segments(capacity) != stored.capacity
    {
        fail!(
            InvalidConfig,
            "tier.{number}.capacity = {} is not the store's {}; a tier keeps the capacity of its \
             creation",
            format_size(capacity),
            format_size(stored.capacity)
        );
    }
    let stored_name = stored.path.file_name().map(|name| name.to_string_lossy());
    let file = match &tier.path {
        None => stored_file(stored, directory),
        Some(path) => tier_file(Some(path), directory, &stored_name.unwrap_or_default()),
    };
    Ok(ResolvedTier {
        kind: tier.kind,
        file,
        capacity: stored.capacity,
        segment_size: stored.segment_size,
        watermark_low: tier.watermark_low,
        watermark_high: tier.watermark_high,
    })
}

fn check_there(tier: &ResolvedTier) -> Result<()> {
    if tier.file.exists() {
        return Ok(());
    }
    fail!(
        TierMissing,
        "the {} tier's file {} is missing; bring it back, or name its new place with tier.N.path; \
         without a tier other than the first, missing_tiers = \"degraded\" opens the rest",
        tier.kind,
        tier.file.display()
    )
}
