//! Checks of the file system that holds, or would hold, the store.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Finding;
use crate::output::human_size;

/// The unit of the engine's device writes, in bytes.
const BLOCK: usize = 4096;
/// Room for the smallest store that is of use.
const FREE_COMFORTABLE: u64 = 1 << 30;

const DIRECT_FIX: &str = "put the store on ext4, xfs or btrfs on a local disk; elsewhere the \
                          engine works through the page cache, and slower";

/// Whether a 4 KiB write past the page cache works where the store lies.
pub(super) fn direct_io(place: &Path) -> Finding {
    const NAME: &str = "O_DIRECT";
    let directory = nearest_directory(place);
    match try_direct_write(&directory) {
        Ok(()) => {
            Finding::good(NAME, format!("4 KiB aligned writes work in {}", directory.display()))
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Finding::bad(
            NAME,
            format!("{} is not writable: {error}", directory.display()),
            "choose a directory that this user may write, or chown it",
        ),
        Err(error) if error.raw_os_error() == Some(libc::EROFS) => Finding::bad(
            NAME,
            format!("{} is read-only", directory.display()),
            "mount it read-write, or choose another directory",
        ),
        Err(error) => {
            let found = format!("4 KiB writes fail in {}: {error}", directory.display());
            Finding::warning(NAME, found, DIRECT_FIX)
        }
    }
}

fn nearest_directory(place: &Path) -> PathBuf {
    let absolute = std::path::absolute(place).unwrap_or_else(|_| place.to_path_buf());
    let found = absolute.ancestors().find(|ancestor| ancestor.is_dir());
    found.map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}

fn try_direct_write(directory: &Path) -> io::Result<()> {
    let path = directory.join(format!(".isotherm-doctor-{}", std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_DIRECT);
    let file = options.open(&path)?;
    let written = write_aligned_block(&file);
    fs::remove_file(&path)?;
    written
}

fn write_aligned_block(file: &File) -> io::Result<()> {
    let layout = Layout::from_size_align(BLOCK, BLOCK).map_err(io::Error::other)?;
    // SAFETY: the layout's size is not zero.
    let block = unsafe { alloc_zeroed(layout) };
    if block.is_null() {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    // SAFETY: `block` holds BLOCK readable bytes until it is freed below; the call is synchronous.
    let written = unsafe { libc::pwrite(file.as_raw_fd(), block.cast(), BLOCK, 0) };
    let error = io::Error::last_os_error();
    // SAFETY: allocated above with this layout, and used by nothing any more.
    unsafe { dealloc(block, layout) };
    match usize::try_from(written) {
        Ok(BLOCK) => Ok(()),
        Ok(_) => Err(io::ErrorKind::WriteZero.into()),
        Err(_) => Err(error),
    }
}

/// Space that an ordinary user may still fill.
pub(super) fn free_space(place: &Path) -> Finding {
    const NAME: &str = "free space";
    const FIX: &str = "free space, or name tiers on other disks with tier.N.path";
    let directory = nearest_directory(place);
    match free_bytes(&directory) {
        Ok(bytes) => {
            let found = format!("{} in {}", human_size(bytes), directory.display());
            if bytes >= FREE_COMFORTABLE {
                Finding::good(NAME, found)
            } else {
                Finding::warning(NAME, found, FIX)
            }
        }
        Err(error) => Finding::warning(NAME, format!("not readable: {error}"), FIX),
    }
}

/// Bytes that an ordinary user may still write to the file system of `directory`.
pub fn free_bytes(directory: &Path) -> io::Result<u64> {
    let name = CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: all-zero bytes are a valid statvfs, a struct of integers.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `name` is a C string and `stat` a writable statvfs; both outlive the call.
    if unsafe { libc::statvfs(name.as_ptr(), &mut stat) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
