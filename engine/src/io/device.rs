//! A tier's file in the file system, or a block device.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Error, ErrorKind, Seek, SeekFrom};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::io::Device;
use crate::io::host_space::{is_mapped, write_in_place};
use crate::io::transfer::{Direction, Transfer};
use crate::limits::IO_RETRIES_MAX;

/// A [`Device`] over a regular file or a block device.
pub struct FileDevice {
    file: File,
    path: PathBuf,
    len: u64,
    direct: bool,
}

impl FileDevice {
    /// Makes a file of `len` bytes, readable by its owner only, and makes its name durable. An
    /// existing file is never taken over. An existing block device of at least `len` bytes is
    /// opened as it is.
    pub fn create(path: &Path, len: u64) -> io::Result<FileDevice> {
        if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_block_device()) {
            let device = FileDevice::open(path)?;
            if device.len < len {
                let message = format!("the device has {} bytes, not {len}", device.len);
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
            return Ok(device);
        }
        refuse_above_file_size_limit(len)?;
        let file = options().create_new(true).open(path)?;
        write_in_place(&file);
        let made = file.set_len(len).and_then(|()| file.sync_all());
        if let Err(error) = made.and_then(|()| sync_parent(path)) {
            // Best effort: the file is ours and useless, and the first error is the one to tell.
            let _ = fs::remove_file(path);
            return Err(error);
        }
        FileDevice::over(file, path)
    }

    /// Opens an existing file or block device for reading and writing.
    pub fn open(path: &Path) -> io::Result<FileDevice> {
        let device = FileDevice::over(options().open(path)?, path)?;
        if device.file.metadata()?.is_file() {
            refuse_above_file_size_limit(device.len)?;
        }
        Ok(device)
    }

    /// Opens an existing file or block device for reading only.
    pub fn open_read_only(path: &Path) -> io::Result<FileDevice> {
        FileDevice::over(options().write(false).open(path)?, path)
    }

    /// Whether transfers bypass the page cache.
    pub fn direct(&self) -> bool {
        self.direct
    }

    fn over(mut file: File, path: &Path) -> io::Result<FileDevice> {
        let kind = file.metadata()?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            let message = format!("{} is neither a file nor a block device", path.display());
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        // Block devices report no length in their metadata.
        let len = file.seek(SeekFrom::End(0))?;
        let direct = set_direct(&file)?;
        Ok(FileDevice { file, path: path.to_owned(), len, direct })
    }
}

impl Device for FileDevice {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut transfer = Transfer::new(Direction::Read, buf.len());
        loop {
            let done = transfer.done();
            let outcome = self.file.read_at(&mut buf[done..], offset + done as u64);
            if let Some(result) = transfer.advance(outcome) {
                return result;
            }
        }
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        check_write_range(self, offset, buf.len())?;
        let mut transfer = Transfer::new(Direction::Write, buf.len());
        loop {
            let done = transfer.done();
            let outcome = self.file.write_at(&buf[done..], offset + done as u64);
            if let Some(result) = transfer.advance(outcome) {
                return result;
            }
        }
    }

    fn flush(&self) -> io::Result<()> {
        // Never repeated after a failure: the kernel reports a lost write only once.
        self.file.sync_data()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let (Ok(from), Ok(bytes)) = (i64::try_from(offset), i64::try_from(len)) else {
            return Err(Error::from_raw_os_error(libc::EFBIG));
        };
        for _ in 0..=IO_RETRIES_MAX {
            let fd = self.file.as_raw_fd();
            // SAFETY: a call without pointers, on a descriptor that `self.file` keeps open.
            if unsafe { libc::fallocate(fd, libc::FALLOC_FL_KEEP_SIZE, from, bytes) } == 0 {
                return Ok(());
            }
            let error = Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                // Nothing to reserve on such file systems, nor on block devices.
                Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::ENODEV) => return Ok(()),
                Some(libc::ENOSPC) if is_mapped(&self.file, offset..offset + len) => return Ok(()),
                _ => return Err(error),
            }
        }
        Err(Error::from_raw_os_error(libc::EINTR))
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn descriptor(&self) -> Option<RawFd> {
        Some(self.file.as_raw_fd())
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// Stands where a tier's file should be and is not, or is another's. All transfers fail.
pub struct LostDevice {
    path: PathBuf,
    len: u64,
    reason: String,
    /// What a ring needs of a device that it will not be asked to use.
    null: File,
}

impl LostDevice {
    /// For a file of this path and length.
    pub fn new(path: &Path, len: u64, reason: String) -> Result<LostDevice> {
        let null = File::open("/dev/null");
        let null = null.map_err(|error| crate::error::Error::from_io("/dev/null", &error))?;
        Ok(LostDevice { path: path.to_owned(), len, reason, null })
    }

    fn refuse(&self) -> io::Result<()> {
        let message = format!("{} is lost: {}", self.path.display(), self.reason);
        Err(Error::new(ErrorKind::NotFound, message))
    }
}

impl Device for LostDevice {
    fn read_at(&self, _offset: u64, _buf: &mut [u8]) -> io::Result<()> {
        self.refuse()
    }

    fn write_at(&self, _offset: u64, _buf: &[u8]) -> io::Result<()> {
        self.refuse()
    }

    fn flush(&self) -> io::Result<()> {
        self.refuse()
    }

    fn allocate(&self, _offset: u64, _len: u64) -> io::Result<()> {
        self.refuse()
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn descriptor(&self) -> Option<RawFd> {
        Some(self.null.as_raw_fd())
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn lost(&self) -> Option<&str> {
        Some(&self.reason)
    }
}

/// Writes all of `buf` so that this write, and no other, survives power loss.
pub(crate) fn write_durably(device: &dyn Device, offset: u64, buf: &[u8]) -> io::Result<()> {
    if let Some(device) = device.simulated() {
        return device.write_durably(offset, buf);
    }
    let Some(fd) = device.descriptor() else {
        device.write_at(offset, buf)?;
        return device.flush();
    };
    check_write_range(device, offset, buf.len())?;
    let mut transfer = Transfer::new(Direction::Write, buf.len());
    loop {
        let rest = &buf[transfer.done()..];
        let outcome = pwrite_dsync(fd, rest, offset + transfer.done() as u64);
        if let Err(error) = &outcome
            && matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS))
        {
            device.write_at(offset, buf)?;
            return device.flush();
        }
        if let Some(result) = transfer.advance(outcome) {
            return result;
        }
    }
}

/// A write past the end would make a file grow where a device fails: refused on both.
pub(crate) fn check_write_range(device: &dyn Device, offset: u64, len: usize) -> io::Result<()> {
    match offset.checked_add(len as u64) {
        Some(end) if end <= device.len() => Ok(()),
        _ => {
            let message = format!(
                "a write of {len} bytes at {offset} passes the end of {} at {}",
                device.path().display(),
                device.len()
            );
            Err(Error::new(ErrorKind::InvalidInput, message))
        }
    }
}

fn pwrite_dsync(fd: RawFd, buf: &[u8], offset: u64) -> io::Result<usize> {
    let Ok(offset) = i64::try_from(offset) else {
        return Err(Error::from_raw_os_error(libc::EFBIG));
    };
    let part = libc::iovec { iov_base: buf.as_ptr().cast_mut().cast(), iov_len: buf.len() };
    // SAFETY: the one iovec describes `buf`, which outlives the call and is only read.
    let written = unsafe { libc::pwritev2(fd, &part, 1, offset, libc::RWF_DSYNC) };
    usize::try_from(written).map_err(|_| Error::last_os_error())
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
    options
}

/// Turns O_DIRECT on; false if the file system refuses it. Not at the open: an open that creates
/// a file and then refuses O_DIRECT leaves the file behind.
fn set_direct(file: &File) -> io::Result<bool> {
    let fd = file.as_raw_fd();
    // SAFETY: a call without pointers, on a descriptor that `file` keeps open.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    if flags < 0 {
        return Err(Error::last_os_error());
    }
    // SAFETY: as above.
    if unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_DIRECT) } == 0 {
        return Ok(true);
    }
    match Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        error => Err(error),
    }
}

/// A write beyond RLIMIT_FSIZE sends SIGXFSZ, which would kill the calling program, even where the file
/// is longer already.
fn refuse_above_file_size_limit(len: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a local value that outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) } != 0 {
        return Err(Error::last_os_error());
    }
    if len > limit.rlim_cur {
        return Err(Error::from_raw_os_error(libc::EFBIG));
    }
    Ok(())
}

pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::buffer::AlignedBuf;
    use crate::io::tests::TempDir;
    use crate::limits::BLOCK;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_was_written_is_read_back_after_reopening() {
        let dir = TempDir::new();
        let path = dir.file("a");
        let mut buf = AlignedBuf::alloc(2 * BLOCK);
        buf.as_mut_slice().fill(9);
        let device = FileDevice::create(&path, 8 * BLOCK as u64).unwrap();
        device.allocate(0, device.len()).unwrap();
        device.write_at(BLOCK as u64, buf.as_slice()).unwrap();
        write_durably(&device, 4 * BLOCK as u64, buf.as_slice()).unwrap();
        device.flush().unwrap();
        drop(device);

        let device = FileDevice::open(&path).unwrap();
        assert_eq!(device.len(), 8 * BLOCK as u64);
        let mut back = AlignedBuf::alloc(6 * BLOCK);
        device.read_at(0, back.as_mut_slice()).unwrap();
        let expected: Vec<u8> = [0, 9, 9, 0, 9, 9].iter().flat_map(|b| [*b; BLOCK]).collect();
        assert!(back.as_slice() == expected);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn transfers_past_the_end_are_errors() {
        let dir = TempDir::new();
        let device = FileDevice::create(&dir.file("a"), 2 * BLOCK as u64).unwrap();
        let mut buf = AlignedBuf::alloc(2 * BLOCK);
        let error = device.read_at(BLOCK as u64, buf.as_mut_slice()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        let error = device.write_at(BLOCK as u64, buf.as_slice()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let error = write_durably(&device, BLOCK as u64, buf.as_slice()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn existing_files_links_and_directories_are_refused() {
        let dir = TempDir::new();
        let path = dir.file("a");
        FileDevice::create(&path, BLOCK as u64).unwrap();
        let error = FileDevice::create(&path, BLOCK as u64).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        std::os::unix::fs::symlink(&path, dir.file("link")).unwrap();
        assert!(FileDevice::open(&dir.file("link")).is_err());
        assert!(FileDevice::open(dir.path()).is_err());
        assert!(FileDevice::open(Path::new("/dev/null")).is_err());
    }
}
