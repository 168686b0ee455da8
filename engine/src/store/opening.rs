//! An open that is under way: the locks it has taken and the files it has made. If it fails, both
//! go; what it found there stays.

use std::fs::{self, DirBuilder, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::engine::is_formatted_as;
use crate::error::{Error, Result, fail};
use crate::io::device::FileDevice;
use crate::io::device::sync_parent;
use crate::manifest::{MANIFEST_FILE, ManifestTier};
use crate::store::lock::{self, Access, LOCK_FILE};

/// See the module.
pub(super) struct Opening {
    access: Access,
    /// Made by this open, in order.
    made: Vec<PathBuf>,
    made_directory: Option<PathBuf>,
    // Dropped after what was made is removed: until then nobody else makes anything there.
    locks: Vec<File>,
}

impl Opening {
    /// Takes the lock of the store in this directory. Makes both if `create`.
    pub(super) fn begin(directory: &Path, access: Access, create: bool) -> Result<Opening> {
        let mut opening =
            Opening { access, made: Vec::new(), made_directory: None, locks: Vec::new() };
        let there = [LOCK_FILE, MANIFEST_FILE].map(|name| directory.join(name).exists());
        if !create && there == [false; 2] {
            fail!(StoreNotFound, "there is no store at {}", directory.display());
        }
        if !directory.exists() {
            // For its owner alone.
            DirBuilder::new().mode(0o700).create(directory).map_err(|error| {
                Error::from_io(format!("cannot make the directory {}", directory.display()), &error)
            })?;
            // A power cut must not take the whole store for its name.
            sync_parent(directory).map_err(|error| {
                Error::from_io(format!("cannot sync the parent of {}", directory.display()), &error)
            })?;
            opening.made_directory = Some(directory.to_owned());
        }
        let (lock, made) = lock::take_store(directory, access)?;
        if made {
            opening.made(&directory.join(LOCK_FILE));
        }
        opening.locks.extend(lock);
        Ok(opening)
    }

    /// Takes the lock of a tier's file.
    pub(super) fn lock_tier(&mut self, path: &Path) -> Result<()> {
        self.locks.extend(lock::take_tier(path, self.access)?);
        Ok(())
    }

    /// Notes a file that this open has made, or will make before anybody else can.
    pub(super) fn made(&mut self, path: &Path) {
        self.made.push(path.to_owned());
    }

    /// The store is open: everything stays. The locks are its owner's.
    pub(super) fn succeed(mut self) -> Vec<File> {
        self.made.clear();
        self.made_directory = None;
        std::mem::take(&mut self.locks)
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        // Best effort: the error that ended the open is the one to tell.
        for path in self.made.iter().rev() {
            let _ = fs::remove_file(path);
        }
        if let Some(directory) = &self.made_directory {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Whether a file is the one that an interrupted creation made for a tier: it has the tier's length
/// and identity, or no content at all. Another's file may be in its place by now.
pub(super) fn is_of_creation(path: &Path, tier: &ManifestTier) -> bool {
    let is_like_it = fs::symlink_metadata(path)
        .is_ok_and(|found| found.is_file() && found.len() == tier.capacity);
    if !is_like_it {
        return false;
    }
    let Ok(device) = FileDevice::open_read_only(path) else { return false };
    is_formatted_as(&device, tier.device_uuid, tier.segment_size)
        || File::open(path).is_ok_and(|file| is_all_hole(&file))
}

fn is_all_hole(file: &File) -> bool {
    // SAFETY: a plain system call on a descriptor that `file` keeps open.
    let data = unsafe { libc::lseek(file.as_raw_fd(), 0, libc::SEEK_DATA) };
    data < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ENXIO)
}
