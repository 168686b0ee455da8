//! The one validation of a configuration, whichever way it was written.
//!
//! What depends on the host (free space, memory) is checked where it is resolved.

use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::host::canonical;
use crate::config::values::{format_duration, format_size};
use crate::config::{Config, Settings, TierConfig};
use crate::error::{Result, fail};
use crate::limits::{
    BUFFER_SIZE_MAX, BUFFER_SIZE_MIN, CHECK_BLOCK, DRAM_CAPACITY_MAX, DRAM_CAPACITY_MIN,
    FLUSH_INTERVAL_MAX_MS, FLUSH_INTERVAL_MIN_MS, MEMORY_BESIDE_DRAM_MIN, SCRUB_INTERVAL_MAX,
    SCRUB_INTERVAL_MIN, SEGMENT_SIZE_MAX, SEGMENT_SIZE_MIN, SEGMENTS_MIN, SHARDS_MAX,
    TIER_CAPACITY_MAX, TIER_CAPACITY_MIN, TIERS_MAX,
};
use crate::types::{Durability, TierKind};

/// Checks everything that can be checked without the store. Errors: `InvalidConfig`.
pub(super) fn validate(config: &Config) -> Result<()> {
    let Config { tiers, settings } = config;
    check_settings(settings)?;
    if tiers.len() > TIERS_MAX {
        fail!(
            InvalidConfig,
            "{} tiers are configured; a store has at most {TIERS_MAX}",
            tiers.len()
        );
    }
    for (number, tier) in tiers.iter().enumerate() {
        check_tier(number, tier, settings)?;
    }
    check_order(tiers)?;
    check_paths(tiers)?;
    check_budget(tiers, settings)?;
    check_durability(tiers, settings)
}

fn check_settings(settings: &Settings) -> Result<()> {
    if let Some(shards) = settings.shards {
        check_range("shards", shards, 1..=SHARDS_MAX as u16, |count| count.to_string())?;
    }
    if let Some(wrong) = wrong_buffer_size(settings.buffer_size) {
        fail!(InvalidConfig, "{wrong}");
    }
    if let Some(size) = settings.segment_size {
        check_range("segment_size", size, SEGMENT_SIZE_MIN..=SEGMENT_SIZE_MAX, format_size)?;
        if !size.is_power_of_two() {
            let below = format_size(1 << size.ilog2());
            let size = format_size(size);
            fail!(InvalidConfig, "segment_size = {size} is not a power of two; {below} is");
        }
    }
    let intervals =
        Duration::from_millis(FLUSH_INTERVAL_MIN_MS)..=Duration::from_millis(FLUSH_INTERVAL_MAX_MS);
    check_range("flush_interval", settings.flush_interval, intervals, format_duration)?;
    let intervals = SCRUB_INTERVAL_MIN..=SCRUB_INTERVAL_MAX;
    check_range("scrub_interval", settings.scrub.interval, intervals, format_duration)
}

/// What is wrong with a buffer size, if anything: the one rule for stores and buckets.
pub(crate) fn wrong_buffer_size(bytes: u64) -> Option<String> {
    let (least, most) = (BUFFER_SIZE_MIN as u64, BUFFER_SIZE_MAX as u64);
    let unit = CHECK_BLOCK as u64;
    if (least..=most).contains(&bytes) && bytes.is_multiple_of(unit) {
        return None;
    }
    let [bytes, unit, least, most] = [bytes, unit, least, most].map(format_size);
    Some(format!("buffer_size = {bytes} is not a multiple of {unit} from {least} to {most}"))
}

fn check_range<T: PartialOrd + Copy>(
    name: impl fmt::Display,
    value: T,
    range: RangeInclusive<T>,
    format: impl Fn(T) -> String,
) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = (format(*range.start()), format(*range.end()));
    fail!(InvalidConfig, "{name} = {} is out of range; it is {least} to {most}", format(value))
}

fn check_tier(number: usize, tier: &TierConfig, settings: &Settings) -> Result<()> {
    check_watermarks(number, tier)?;
    let name = format!("tier.{number}.capacity");
    let Some(capacity) = tier.capacity else { return Ok(()) };
    if tier.kind == TierKind::Dram {
        return check_range(name, capacity, DRAM_CAPACITY_MIN..=DRAM_CAPACITY_MAX, format_size);
    }
    check_range(&name, capacity, TIER_CAPACITY_MIN..=TIER_CAPACITY_MAX, format_size)?;
    if let Some(segment) = settings.segment_size
        && capacity / segment < SEGMENTS_MIN
    {
        let (capacity, least) = (format_size(capacity), format_size(segment * SEGMENTS_MIN));
        let segment = format_size(segment);
        fail!(
            InvalidConfig,
            "{name} = {capacity} holds fewer than {SEGMENTS_MIN} segments of {segment}; \
             raise it to {least} or lower segment_size"
        );
    }
    Ok(())
}

fn check_watermarks(number: usize, tier: &TierConfig) -> Result<()> {
    let (low, high) = (tier.watermark_low, tier.watermark_high);
    for (name, value) in [("watermark_low", low), ("watermark_high", high)] {
        if !(value > 0.0 && value <= 1.0) {
            fail!(InvalidConfig, "tier.{number}.{name} = {value} is not above 0 and at most 1");
        }
    }
    if low >= high {
        fail!(
            InvalidConfig,
            "tier.{number}.watermark_low = {low} is not below watermark_high = {high}"
        );
    }
    Ok(())
}

fn check_order(tiers: &[TierConfig]) -> Result<()> {
    for (number, pair) in tiers.windows(2).enumerate() {
        let (upper, lower) = (pair[0].kind, pair[1].kind);
        let next = number + 1;
        if lower == TierKind::Dram && upper == TierKind::Dram {
            fail!(InvalidConfig, "tier.{number} and tier.{next} are both dram; a store has one");
        }
        if lower < upper {
            fail!(
                InvalidConfig,
                "tier.{next} ({lower}) stands after the slower tier.{number} ({upper}); \
                 list tiers from fast to slow: dram, nvme, hdd"
            );
        }
    }
    Ok(())
}

fn check_paths(tiers: &[TierConfig]) -> Result<()> {
    let mut seen: HashMap<PathBuf, usize> = HashMap::new();
    for (number, tier) in tiers.iter().enumerate() {
        let Some(path) = &tier.path else { continue };
        if tier.kind == TierKind::Dram {
            fail!(InvalidConfig, "tier.{number}.path is set, but a dram tier has no path");
        }
        if path.as_os_str().is_empty() {
            fail!(InvalidConfig, "tier.{number}.path is empty; leave it out for the default");
        }
        if let Some(other) = seen.insert(canonical(path), number) {
            let path = path.display();
            fail!(InvalidConfig, "tier.{other}.path and tier.{number}.path are the same: {path}");
        }
    }
    Ok(())
}

fn check_budget(tiers: &[TierConfig], settings: &Settings) -> Result<()> {
    let Some(budget) = settings.memory_budget else { return Ok(()) };
    let dram = tiers.first().filter(|tier| tier.kind == TierKind::Dram);
    let dram_bytes = dram.and_then(|tier| tier.capacity).unwrap_or(0);
    check_memory_budget(budget, dram_bytes)
}

/// The budget holds the DRAM tier and the least that the engine needs beside it.
pub(super) fn check_memory_budget(budget: u64, dram_bytes: u64) -> Result<()> {
    let least = dram_bytes + MEMORY_BESIDE_DRAM_MIN;
    if budget >= least {
        return Ok(());
    }
    let beside = format_size(MEMORY_BESIDE_DRAM_MIN);
    let (budget, least) = (format_size(budget), format_size(least));
    let dram = format_size(dram_bytes);
    fail!(
        InvalidConfig,
        "memory_budget = {budget} is too small for a DRAM tier of {dram} and {beside} beside it; \
         raise it to {least} or lower the DRAM tier's capacity"
    )
}

fn check_durability(tiers: &[TierConfig], settings: &Settings) -> Result<()> {
    let dram_only = !tiers.is_empty() && tiers.iter().all(|tier| tier.kind == TierKind::Dram);
    match settings.durability {
        Some(level) if dram_only && level != Durability::Memory => {
            fail!(
                InvalidConfig,
                "durability = {level} needs an nvme or hdd tier; DRAM alone forgets"
            )
        }
        _ => Ok(()),
    }
}
