//! Locks: who has a store open. On its LOCK file, and on its tiers' files too, for a copy of the
//! store's directory may name the same ones. They end with the process that holds them.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::error::{Error, Result, fail};

/// Name of the lock file in the store's directory.
pub(super) const LOCK_FILE: &str = "LOCK";

/// What a store is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Access {
    /// Reading, beside other readers.
    Read,
    /// Writing, alone.
    Write,
}

/// Takes the lock of the store in a directory. Returns it, and whether its file was made. A reader
/// makes none: without it, where the directory cannot be written, the tiers' locks must do.
pub(super) fn take_store(directory: &Path, access: Access) -> Result<(Option<File>, bool)> {
    let path = directory.join(LOCK_FILE);
    loop {
        let (file, made) = match open_lock_file(&path, access) {
            Ok(opened) => opened,
            Err(error) if access == Access::Read && error.kind() == io::ErrorKind::NotFound => {
                return Ok((None, false));
            }
            Err(error) => return Err(failed(&path, &error)),
        };
        take(&file, format_args!("the store at {}", directory.display()), access)?;
        // Who gave a creation up has removed the file from under those who had opened it.
        let is_named = file.metadata().map_err(|error| failed(&path, &error))?.nlink() > 0;
        if is_named {
            if access == Access::Write {
                match write_owner(&file) {
                    // The kernel knows the owner, too: a full file system keeps nobody out.
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
                    Err(error) if error.kind() == io::ErrorKind::QuotaExceeded => {}
                    written => written.map_err(|error| failed(&path, &error))?,
                }
            }
            return Ok((Some(file), made));
        }
    }
}

/// Takes the lock of a tier's file. None where it cannot be opened: its opening tells why.
pub(super) fn take_tier(path: &Path, access: Access) -> Result<Option<File>> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path);
    let Ok(file) = opened else { return Ok(None) };
    take(&file, format_args!("the tier file {}", path.display()), access)?;
    Ok(Some(file))
}

fn open_lock_file(path: &Path, access: Access) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(access == Access::Write).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && access == Access::Write => {
            match options.create_new(true).open(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    Ok((options.create_new(false).open(path)?, false))
                }
                made => Ok((made?, true)),
            }
        }
        opened => Ok((opened?, false)),
    }
}

fn take(file: &File, what: fmt::Arguments<'_>, access: Access) -> Result<()> {
    let kind = if access == Access::Write { libc::LOCK_EX } else { libc::LOCK_SH };
    // SAFETY: a plain system call on a descriptor that `file` keeps open.
    if unsafe { libc::flock(file.as_raw_fd(), kind | libc::LOCK_NB) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.kind() != io::ErrorKind::WouldBlock {
        return Err(Error::from_io(format_args!("lock of {what}"), &error));
    }
    let owner = owner(file).map_or_else(|| "unknown".to_owned(), |id| id.to_string());
    fail!(
        Locked,
        "{what} is open in process {owner}; one process has it open at a time, or several for \
         reading only"
    )
}

fn write_owner(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes())
}

/// Who holds a file's lock: as the kernel says; else, of a lock file, who wrote itself there last.
fn owner(file: &File) -> Option<u32> {
    let metadata = file.metadata().ok()?;
    let (major, minor) = (libc::major(metadata.dev()), libc::minor(metadata.dev()));
    let place = format!("{major:02x}:{minor:02x}:{}", metadata.ino());
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    holder_in(&locks, &place).or_else(|| {
        let mut text = String::new();
        let mut start = file.take(16);
        start.read_to_string(&mut text).ok()?;
        text.trim().parse().ok()
    })
}

/// The process that /proc/locks says has a flock on a file.
fn holder_in(locks: &str, place: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [_, "FLOCK", _, _, id, of, ..] if of == place => id.parse().ok(),
            _ => None,
        }
    })
}

fn failed(path: &Path, error: &io::Error) -> Error {
    Error::from_io(format_args!("lock file {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_by_the_file_and_not_among_those_who_wait_or_lock_ranges() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 fe:01:77 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 12 fe:01:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 13 fe:01:78 0 EOF\n\
                     4: FLOCK  ADVISORY  READ 14 fe:01:77 0 EOF\n";
        assert_eq!(holder_in(locks, "fe:01:77"), Some(14));
        assert_eq!(holder_in(locks, "fe:01:79"), None);
    }
}
