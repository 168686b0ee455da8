//! The files of a store: its directory, its lock, its tiers.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{Config, MissingTiers, ResolvedConfig};
use crate::engine::{Identity, format, read_only_reason};
use crate::error::{Error, ErrorKind, Result, fail};
use crate::io::device::{FileDevice, LostDevice};
use crate::io::runtime::Runtime;
use crate::io::{Device, Devices};
use crate::manifest::{self, MANIFEST_FILE, Manifest};
use crate::types::Uuid;

/// Name of the lock file in the store's directory.
const LOCK_FILE: &str = "LOCK";

/// Makes the store's directory, for its owner alone.
pub(super) fn make_directory(directory: &Path) -> Result<()> {
    DirBuilder::new().mode(0o700).create(directory).map_err(|error| {
        Error::from_io(format!("cannot make the directory {}", directory.display()), &error)
    })
}

/// Takes the store's lock, which the process holds until it closes the store or ends.
pub(super) fn lock(directory: &Path, create: bool) -> Result<File> {
    let path = directory.join(LOCK_FILE);
    if !create && !path.exists() && !directory.join(MANIFEST_FILE).exists() {
        fail!(StoreNotFound, "there is no store at {}", directory.display());
    }
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path);
    let mut file = match opened {
        Ok(file) => file,
        Err(error) => return Err(Error::from_io(format!("lock file {}", path.display()), &error)),
    };
    // SAFETY: a plain system call on a descriptor that `file` keeps open.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        let mut owner = String::new();
        let _unread = file.read_to_string(&mut owner);
        fail!(
            Locked,
            "the store at {} is open in process {}; one process has it open at a time",
            directory.display(),
            if owner.trim().is_empty() { "unknown" } else { owner.trim() }
        );
    }
    let write_owner = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
    match write_owner {
        Ok(()) => Ok(file),
        Err(error) => Err(Error::from_io(format!("lock file {}", path.display()), &error)),
    }
}

/// The devices, and whether each bypasses the page cache.
pub(super) type OpenedFiles = (ResolvedConfig, Identity, Vec<(Arc<dyn Device>, bool)>);

pub(super) fn open_files(
    directory: &Path,
    config: Config,
    manifest: &Manifest,
) -> Result<OpenedFiles> {
    let mut config = manifest::reconcile(config, manifest, directory)?;
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
) -> Result<OpenedFiles> {
    let config = config.resolve(directory)?;
    let mut uuids = Vec::new();
    for _ in &config.devices {
        uuids.push(Uuid(runtime.random_identity()?));
    }
    let store = Uuid(runtime.random_identity()?);
    let manifest = Manifest::new(directory, store, &config, &uuids);
    manifest::begin(directory, &manifest)?;
    let made = make_tiers(&config);
    let devices = match made {
        Ok(devices) => devices,
        Err((error, made)) => {
            // Files that were there before are not ours to remove.
            made.iter().for_each(|path| drop(fs::remove_file(path)));
            return Err(error);
        }
    };
    let identity = Identity { store, devices: uuids.into() };
    let opened: Vec<(Arc<dyn Device>, bool)> = devices
        .into_iter()
        .map(|device| {
            let direct = device.direct();
            (Arc::new(device) as Arc<dyn Device>, direct)
        })
        .collect();
    let shared: Devices = opened.iter().map(|(device, _)| device.clone()).collect();
    format(runtime, &shared, &config, &identity)?;
    manifest::save(directory, &manifest)?;
    Ok((config, identity, opened))
}

fn make_tiers(
    config: &ResolvedConfig,
) -> std::result::Result<Vec<FileDevice>, (Error, Vec<PathBuf>)> {
    let mut devices: Vec<FileDevice> = Vec::new();
    for tier in &config.devices {
        match FileDevice::create(&tier.file, tier.capacity) {
            Ok(device) => devices.push(device),
            Err(error) => {
                let made = devices.iter().map(|device| device.path().to_owned()).collect();
                let what = format!("cannot make the tier file {}", tier.file.display());
                return Err((Error::from_io(what, &error), made));
            }
        }
    }
    Ok(devices)
}
