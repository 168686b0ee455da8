//! The tiers' files of a store: found and opened, or made.

use std::path::Path;
use std::sync::Arc;

use crate::config::{Config, MissingTiers, ResolvedConfig};
use crate::engine::{Identity, format, read_only_reason};
use crate::error::{Error, ErrorKind, Result};
use crate::io::device::{FileDevice, LostDevice};
use crate::io::runtime::Runtime;
use crate::io::{Device, Devices};
use crate::manifest::{self, Manifest};
use crate::store::opening::Opening;
use crate::types::Uuid;

/// The devices, and whether each bypasses the page cache.
pub(super) type OpenedFiles = (ResolvedConfig, Identity, Vec<(Arc<dyn Device>, bool)>);

pub(super) fn open_files(
    directory: &Path,
    config: Config,
    manifest: &Manifest,
    opening: &mut Opening,
) -> Result<OpenedFiles> {
    let mut config = manifest::reconcile(config, manifest, directory)?;
    for tier in &config.devices {
        opening.lock_tier(&tier.file)?;
    }
    let identity = Identity {
        store: manifest.store_uuid,
        devices: manifest.tiers.iter().map(|tier| tier.device_uuid).collect(),
    };
    let open_all = |config: &ResolvedConfig| -> Result<Vec<_>> {
        (0..config.devices.len()).map(|number| open_tier(config, number)).collect()
    };
    let mut opened = open_all(&config)?;
    if config.read_only.is_none() {
        let devices: Devices = opened.iter().map(|(device, _)| device.clone()).collect();
        config.read_only = read_only_reason(&devices);
        if config.read_only.is_some() {
            // So that the kernel, too, sees to it that nothing is written.
            opened = open_all(&config)?;
        }
    }
    Ok((config, identity, opened))
}

fn open_tier(config: &ResolvedConfig, number: usize) -> Result<(Arc<dyn Device>, bool)> {
    let tier = &config.devices[number];
    let found = match config.read_only {
        Some(_) => FileDevice::open_read_only(&tier.file),
        None => FileDevice::open(&tier.file),
    };
    let error = match found {
        Ok(device) => {
            let direct = device.direct();
            return Ok((Arc::new(device), direct));
        }
        Err(error) => error,
    };
    let what = format!("tier {number}'s file {}", tier.file.display());
    let refusal = match error.kind() {
        std::io::ErrorKind::NotFound => Error::new(
            ErrorKind::TierMissing,
            format!("{what} is missing; put it back, its blobs are nowhere else"),
        ),
        _ => Error::from_io(what, &error),
    };
    // What cannot be opened for want of permission is there, and may be opened with it.
    let may_be_lost = matches!(refusal.kind(), ErrorKind::TierMissing | ErrorKind::Io);
    if number > 0 && may_be_lost && config.missing_tiers == MissingTiers::Degraded {
        let reason = refusal.message().to_owned();
        let stand_in = LostDevice::new(&tier.file, tier.capacity, reason)?;
        return Ok((Arc::new(stand_in), false));
    }
    Err(refusal)
}

pub(super) fn create_files(
    directory: &Path,
    config: Config,
    runtime: &Runtime,
    opening: &mut Opening,
) -> Result<OpenedFiles> {
    let config = config.resolve(directory)?;
    let mut uuids = Vec::new();
    for _ in &config.devices {
        uuids.push(Uuid(runtime.random_identity()?));
    }
    let store = Uuid(runtime.random_identity()?);
    let manifest = Manifest::new(directory, store, &config, &uuids);
    manifest::files_in(directory).iter().for_each(|file| opening.made(file));
    manifest::begin(directory, &manifest)?;
    let opened = make_tiers(&config, opening)?;
    let identity = Identity { store, devices: uuids.into() };
    let shared: Devices = opened.iter().map(|(device, _)| device.clone()).collect();
    format(runtime, &shared, &config, &identity)?;
    manifest::save(directory, &manifest)?;
    Ok((config, identity, opened))
}

fn make_tiers(
    config: &ResolvedConfig,
    opening: &mut Opening,
) -> Result<Vec<(Arc<dyn Device>, bool)>> {
    let mut devices: Vec<(Arc<dyn Device>, bool)> = Vec::new();
    for tier in &config.devices {
        let device = FileDevice::create(&tier.file, tier.capacity).map_err(|error| {
            let what = format!("cannot make the tier file {}", tier.file.display());
            Error::from_io(what, &error)
        })?;
        // Only now: a file that was there before is not ours to remove.
        opening.made(&tier.file);
        opening.lock_tier(&tier.file)?;
        let direct = device.direct();
        devices.push((Arc::new(device), direct));
    }
    Ok(devices)
}
