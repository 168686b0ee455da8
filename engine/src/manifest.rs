//! The file `STORE` in a store's directory: which tiers the store has, and where.
//!
//! A store is created in three steps, so that a crash between any two is told apart from a
//! damaged store: [`begin`] writes `STORE.creating`, the engine makes the tiers' files, [`save`]
//! puts `STORE` in place. [`tidy`] undoes a creation that did not reach the last step. All of
//! them need the store's lock; [`load`] only reads.

mod reconcile;
mod text;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::config::resolve::{ResolvedConfig, ResolvedDram, TIER_FILE_SUFFIX};
use crate::error::{Error, Result, fail};
use crate::types::{TierKind, Uuid};

pub use reconcile::{reconcile, stored_tiers};

/// The manifest's name in the store's directory.
pub const MANIFEST_FILE: &str = "STORE";
/// Stands for the manifest while the store is being created.
const CREATING_FILE: &str = "STORE.creating";
/// A manifest that is being written.
const TEMPORARY_FILE: &str = "STORE.tmp";

/// What the store is made of.
#[derive(Clone, PartialEq, Debug)]
pub struct Manifest {
    /// The store's identity, repeated in every structure on its devices.
    pub store_uuid: Uuid,
    /// The DRAM tier the store was created with.
    pub dram: Option<ResolvedDram>,
    /// The device tiers, by [`TierId::index`](crate::types::TierId::index).
    pub tiers: Vec<ManifestTier>,
}

/// One device tier of a store.
#[derive(Clone, PartialEq, Debug)]
pub struct ManifestTier {
    /// What it is made of.
    pub kind: TierKind,
    /// Its file: relative to the store's directory when below it, else absolute.
    pub path: PathBuf,
    /// Bytes.
    pub capacity: u64,
    /// Bytes of a segment.
    pub segment_size: u64,
    /// The identity in the tier's superblock.
    pub device_uuid: Uuid,
    /// Share of what blobs can use at which demotion stops.
    pub watermark_low: f64,
    /// Share of what blobs can use at which demotion starts.
    pub watermark_high: f64,
}

impl Manifest {
    /// The manifest of a new store in the directory `store`. `device_uuids` has one identity for
    /// each of the configuration's device tiers.
    pub fn new(
        store: &Path,
        store_uuid: Uuid,
        config: &ResolvedConfig,
        device_uuids: &[Uuid],
    ) -> Manifest {
        let tiers = config.devices.iter().zip(device_uuids).map(|(tier, uuid)| ManifestTier {
            kind: tier.kind,
            path: path_in_manifest(store, &tier.file),
            capacity: tier.capacity,
            segment_size: tier.segment_size,
            device_uuid: *uuid,
            watermark_low: tier.watermark_low,
            watermark_high: tier.watermark_high,
        });
        Manifest { store_uuid, dram: config.dram, tiers: tiers.collect() }
    }
}

/// Relative below the store's directory, so that the store may move; absolute elsewhere.
fn path_in_manifest(store: &Path, file: &Path) -> PathBuf {
    if let Ok(relative) = file.strip_prefix(store) {
        return relative.to_path_buf();
    }
    let file = crate::config::host::canonical(file);
    match file.strip_prefix(crate::config::host::canonical(store)) {
        Ok(relative) => relative.to_path_buf(),
        Err(_) => file,
    }
}

/// The files that a creation makes beside the tiers'.
pub fn files_in(directory: &Path) -> [PathBuf; 3] {
    [MANIFEST_FILE, CREATING_FILE, TEMPORARY_FILE].map(|name| directory.join(name))
}

/// The manifest of the store in this directory; `None` where there is no store, or one whose
/// creation was interrupted.
///
/// Errors: `Format` for a damaged manifest, one of a newer format, and tier files without a
/// manifest; `PermissionDenied` and `Io` for what the file system says.
pub fn load(directory: &Path) -> Result<Option<Manifest>> {
    let path = directory.join(MANIFEST_FILE);
    match fs::read(&path) {
        Ok(bytes) => return text::parse(&bytes, &path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::from_io(format!("read of {}", path.display()), &error)),
    }
    if directory.join(CREATING_FILE).exists() {
        return Ok(None);
    }
    match first_tier_file(directory)? {
        None => Ok(None),
        Some(stray) => fail!(
            Format,
            "{} holds the tier file {} but no {MANIFEST_FILE}; restore {MANIFEST_FILE} from a copy, \
             or remove the tier file to start anew",
            directory.display(),
            stray.display()
        ),
    }
}

/// Announces the creation of a store: from now until [`save`], a crash leaves no store behind.
/// Errors: as of [`save`].
pub fn begin(directory: &Path, manifest: &Manifest) -> Result<()> {
    write_whole(directory, CREATING_FILE, &text::print(manifest)?)
}

/// Writes the manifest: whole and durable, or not at all. Ends a creation that was announced.
///
/// Errors: `InvalidConfig` for a path that is not UTF-8; `NoSpace`, `PermissionDenied` and `Io`
/// for what the file system says.
pub fn save(directory: &Path, manifest: &Manifest) -> Result<()> {
    write_whole(directory, MANIFEST_FILE, &text::print(manifest)?)?;
    remove_if_there(&directory.join(CREATING_FILE))
}

/// Removes what an interrupted creation has left. Of a store that was made, nothing but the
/// announcement; else the tiers' files that it announced, too. One that lies elsewhere may be
/// another store's by now, and is left for the user unless `is_ours`.
pub fn tidy(directory: &Path, is_ours: &dyn Fn(&Path, &ManifestTier) -> bool) -> Result<()> {
    remove_if_there(&directory.join(TEMPORARY_FILE))?;
    let path = directory.join(CREATING_FILE);
    if directory.join(MANIFEST_FILE).exists() {
        return remove_if_there(&path);
    }
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::from_io(format!("read of {}", path.display()), &error)),
    };
    // It is renamed into place whole, so one that does not parse is damage, not a torn write.
    for tier in text::parse(&bytes, &path)?.tiers {
        let file = directory.join(&tier.path);
        if tier.path.is_relative() || is_ours(&file, &tier) {
            remove_if_there(&file)?;
        }
    }
    remove_if_there(&path)
}

fn first_tier_file(directory: &Path) -> Result<Option<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Error::from_io(format!("list of {}", directory.display()), &error));
        }
    };
    let names =
        entries.filter_map(|entry| entry.ok()).map(|entry| PathBuf::from(entry.file_name()));
    let is_tier = |name: &PathBuf| name.to_string_lossy().ends_with(TIER_FILE_SUFFIX);
    Ok(names.filter(is_tier).min())
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::from_io(format!("removal of {}", path.display()), &error)),
    }
}

/// Writes a file under another name, flushes it, renames it and flushes the directory: a crash
/// leaves the old file or the new one.
fn write_whole(directory: &Path, name: &str, text: &str) -> Result<()> {
    let temporary = directory.join(TEMPORARY_FILE);
    let target = directory.join(name);
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &target)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|error| Error::from_io(format!("write of {}", target.display()), &error))
}

#[cfg(test)]
mod tests;
