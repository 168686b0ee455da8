//! Checks of the file system that holds, or would hold, the store.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use isotherm::io::Device;
use isotherm::io::buffer::AlignedBuf;
use isotherm::io::device::FileDevice;
use isotherm::limits::BLOCK;

use super::Finding;
use crate::output::human_size;

/// Room for the smallest store that is of use.
const FREE_COMFORTABLE: u64 = 1 << 30;
/// The alignment that is tried where the file system does not tell its own.
const SECTOR: usize = 512;

/// Makes a tier's file where the store lies, as the engine does, and writes a block to it.
pub(super) fn direct_io(place: &Path) -> Finding {
    const NAME: &str = "O_DIRECT";
    let directory = nearest_directory(place);
    let at = directory.display();
    let error = match try_tier_file(&directory) {
        Ok(Some(bytes)) => {
            return Finding::good(NAME, format!("works in {at}, aligned to {bytes} bytes"));
        }
        Ok(None) => {
            return Finding::warning(
                NAME,
                format!("the file system of {at} refuses it; the engine uses the page cache"),
                "put the store on ext4, xfs or btrfs on a local disk: it is faster there",
            );
        }
        Err(error) => error,
    };
    let fix = match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            "choose a directory that this user may write, or chown it"
        }
        Some(libc::EROFS) => "mount it read-write, or choose another directory",
        Some(libc::ENOSPC | libc::EDQUOT) => "free space, or choose another directory",
        _ => "put the store on ext4, xfs or btrfs on a local disk that takes 4 KiB writes",
    };
    Finding::bad(NAME, format!("a tier's file in {at} does not work: {error}"), fix)
}

fn nearest_directory(place: &Path) -> PathBuf {
    let absolute = std::path::absolute(place).unwrap_or_else(|_| place.to_path_buf());
    let found = absolute.ancestors().find(|ancestor| ancestor.is_dir());
    found.map_or_else(|| PathBuf::from("/"), Path::to_path_buf)
}

/// The alignment of direct writes in bytes; `None` where the file system refuses O_DIRECT.
fn try_tier_file(directory: &Path) -> io::Result<Option<usize>> {
    let path = directory.join(format!(".isotherm-doctor-{}", std::process::id()));
    let device = FileDevice::create(&path, 2 * BLOCK as u64)?;
    let written = device.write_at(0, AlignedBuf::alloc(BLOCK).as_slice());
    let found = written.map(|()| device.direct().then(|| alignment_of(&path)));
    fs::remove_file(&path)?;
    found
}

/// What the file system tells (Linux 6.1), else the least with which a write works. That of the
/// engine's own writes has worked.
fn alignment_of(path: &Path) -> usize {
    let options = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path);
    let Ok(file) = options else { return BLOCK };
    if let Some(told) = told_alignment(&file) {
        return told;
    }
    let memory = AlignedBuf::alloc(BLOCK);
    // Memory and offset are multiples of a sector, and of nothing larger.
    let sector = &memory.as_slice()[SECTOR..2 * SECTOR];
    match file.write_at(sector, SECTOR as u64) {
        Ok(SECTOR) => SECTOR,
        _ => BLOCK,
    }
}

/// The larger of the alignments of memory and of offsets that the file system tells.
fn told_alignment(file: &File) -> Option<usize> {
    // SAFETY: all-zero bytes are a valid statx, a struct of integers.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    let (flags, wanted) = (libc::AT_EMPTY_PATH, libc::STATX_DIOALIGN);
    // SAFETY: the path is a C string and `stat` a writable statx; both outlive the call.
    let asked = unsafe { libc::statx(file.as_raw_fd(), c"".as_ptr(), flags, wanted, &mut stat) };
    let told = asked == 0 && stat.stx_mask & libc::STATX_DIOALIGN != 0;
    let alignment = stat.stx_dio_mem_align.max(stat.stx_dio_offset_align) as usize;
    (told && alignment > 0).then_some(alignment)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alignment_that_the_engine_can_keep_is_found_where_direct_writes_work() {
        if let Some(alignment) = try_tier_file(&nearest_directory(Path::new("."))).unwrap() {
            assert!(alignment.is_power_of_two() && alignment <= BLOCK, "{alignment}");
        }
    }

    #[test]
    fn a_store_that_is_not_there_yet_is_checked_where_it_would_lie() {
        let below = std::env::temp_dir().join("isotherm/not/there");
        assert!(below.starts_with(nearest_directory(&below)));
    }
}
