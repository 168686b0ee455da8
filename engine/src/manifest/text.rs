//! The manifest as TOML: two header lines, the second a checksum of everything after it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Table;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::resolve::ResolvedDram;
use crate::error::{Error, ErrorKind, Result, fail};
use crate::limits::{
    DRAM_CAPACITY_MAX, DRAM_CAPACITY_MIN, SEGMENT_SIZE_MAX, SEGMENT_SIZE_MIN, SEGMENTS_MIN,
    TIER_CAPACITY_MAX, TIERS_MAX,
};
use crate::manifest::{Manifest, ManifestTier};
use crate::types::{TierKind, Uuid};

/// The format this engine writes, and the newest it reads.
const FORMAT: i64 = 1;
const TITLE: &str =
    "# isotherm store. The engine owns this file; the checksum covers what follows.\n";
const CHECKSUM: &str = "# xxh3 ";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreText {
    format: i64,
    store: String,
    #[serde(default)]
    dram: Option<DramText>,
    #[serde(default)]
    tier: Vec<TierText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DramText {
    capacity: u64,
    watermark_low: f64,
    watermark_high: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TierText {
    kind: String,
    path: String,
    capacity: u64,
    segment_size: u64,
    device: String,
    watermark_low: f64,
    watermark_high: f64,
}

/// The manifest's text. Errors: `InvalidConfig` for a path that is not UTF-8.
pub(super) fn print(manifest: &Manifest) -> Result<String> {
    let mut tiers = Vec::with_capacity(manifest.tiers.len());
    for tier in &manifest.tiers {
        let Some(path) = tier.path.to_str() else {
            fail!(
                InvalidConfig,
                "the tier's path {:?} is not UTF-8; choose one that is",
                tier.path
            );
        };
        tiers.push(TierText {
            kind: tier.kind.name().to_string(),
            path: path.to_string(),
            capacity: tier.capacity,
            segment_size: tier.segment_size,
            device: tier.device_uuid.to_string(),
            watermark_low: tier.watermark_low,
            watermark_high: tier.watermark_high,
        });
    }
    let dram = manifest.dram.map(|dram| DramText {
        capacity: dram.capacity,
        watermark_low: dram.watermark_low,
        watermark_high: dram.watermark_high,
    });
    let store = manifest.store_uuid.to_string();
    let body = toml::to_string(&StoreText { format: FORMAT, store, dram, tier: tiers }).map_err(
        |error| Error::new(ErrorKind::Internal, format!("text of the manifest: {error}")),
    )?;
    Ok(format!("{TITLE}{CHECKSUM}{:016x}\n{body}", xxh3_64(body.as_bytes())))
}

/// The manifest in a text. Errors: `Format`, naming the file.
pub(super) fn parse(bytes: &[u8], file: &Path) -> Result<Manifest> {
    let body = match verified_body(bytes) {
        Ok(body) => body,
        Err(reason) => return Err(damaged(file, reason)),
    };
    let table: Table = body.parse().map_err(|error| damaged(file, error))?;
    match table.get("format").and_then(|format| format.as_integer()) {
        Some(FORMAT) => {}
        Some(newer) if newer > FORMAT => fail!(
            Format,
            "{} is of format {newer}; this isotherm reads up to {FORMAT}, use a newer one",
            file.display()
        ),
        _ => return Err(damaged(file, "it names no format")),
    }
    let text: StoreText = table.try_into().map_err(|error| damaged(file, error))?;
    manifest_of(text).map_err(|reason| damaged(file, reason))
}

fn damaged(file: &Path, reason: impl std::fmt::Display) -> Error {
    let file = file.display();
    let message = format!("{file} is damaged or not an isotherm store: {reason}");
    Error::new(ErrorKind::Format, message)
}

fn verified_body(bytes: &[u8]) -> std::result::Result<&str, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text")?;
    let rest = text.strip_prefix(TITLE).ok_or("its first line is not that of a store")?;
    let rest = rest.strip_prefix(CHECKSUM).ok_or("its checksum is missing")?;
    let (checksum, body) = rest.split_once('\n').ok_or("its checksum is missing")?;
    // Compared as text: every bit of the file counts, the case of the digits too.
    if checksum != format!("{:016x}", xxh3_64(body.as_bytes())) {
        return Err("its checksum does not match");
    }
    Ok(body)
}

fn manifest_of(text: StoreText) -> std::result::Result<Manifest, String> {
    let store_uuid = parse_uuid(&text.store)?;
    if text.tier.len() > TIERS_MAX {
        return Err(format!("it names {} tiers", text.tier.len()));
    }
    let dram = match text.dram {
        Some(dram) if (DRAM_CAPACITY_MIN..=DRAM_CAPACITY_MAX).contains(&dram.capacity) => {
            Some(ResolvedDram {
                capacity: dram.capacity,
                watermark_low: dram.watermark_low,
                watermark_high: dram.watermark_high,
            })
        }
        Some(dram) => return Err(format!("its DRAM tier has {} bytes", dram.capacity)),
        None => None,
    };
    let tiers = text.tier.into_iter().map(tier_of).collect::<std::result::Result<_, _>>()?;
    Ok(Manifest { store_uuid, dram, tiers })
}

fn tier_of(text: TierText) -> std::result::Result<ManifestTier, String> {
    let kind = text.kind.parse::<TierKind>().map_err(|error| error.message().to_string())?;
    let segment_fits = text.segment_size.is_power_of_two()
        && (SEGMENT_SIZE_MIN..=SEGMENT_SIZE_MAX).contains(&text.segment_size);
    let capacity_fits = segment_fits
        && text.capacity.is_multiple_of(text.segment_size)
        && text.capacity / text.segment_size >= SEGMENTS_MIN
        && text.capacity <= TIER_CAPACITY_MAX;
    if kind == TierKind::Dram || !capacity_fits {
        return Err(format!(
            "its {kind} tier {} of {} bytes in segments of {} cannot be",
            text.path, text.capacity, text.segment_size
        ));
    }
    Ok(ManifestTier {
        kind,
        path: PathBuf::from(text.path),
        capacity: text.capacity,
        segment_size: text.segment_size,
        device_uuid: parse_uuid(&text.device)?,
        watermark_low: text.watermark_low,
        watermark_high: text.watermark_high,
    })
}

fn parse_uuid(text: &str) -> std::result::Result<Uuid, String> {
    let number = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32);
    let number = number.ok_or_else(|| format!("'{text}' is not an identity"))?;
    Ok(Uuid(number.to_be_bytes()))
}
