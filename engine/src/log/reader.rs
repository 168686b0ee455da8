//! Reading a device mostly forwards, skipping what is not asked for.
//!
//! Replay reads the headers of batches and not their payloads, which may be most of the log. A
//! read costs about as much as the transfer of [`GAP_MAX`] bytes: a smaller gap is read over, a
//! larger one is jumped, and then the window begins small again. What is read ahead may never be
//! asked for: that it cannot be read is no error until then.

use std::io;

use crate::error::{Error, Result};
use crate::io::Device;
use crate::io::buffer::AlignedBuf;
use crate::limits::BLOCK;

/// Bytes read at once while everything is asked for.
const WINDOW_MAX: usize = 1 << 20;
/// Bytes read at once after a jump.
const WINDOW_MIN: usize = 64 << 10;
/// The largest gap that is not worth a jump.
const GAP_MAX: u64 = 128 << 10;

/// A read of what was asked for is tried so often again.
const RETRIES: usize = 2;

/// See the module.
pub struct ForwardReader<'a> {
    device: &'a dyn Device,
    /// A part of the device, from `start` on.
    window: AlignedBuf,
    start: u64,
    filled: usize,
    /// Bytes of the next window.
    ahead: usize,
    /// Bytes read so far.
    read_bytes: u64,
}

impl<'a> ForwardReader<'a> {
    /// Over a device; nothing is read yet.
    pub fn new(device: &'a dyn Device) -> ForwardReader<'a> {
        let window = AlignedBuf::alloc(WINDOW_MAX);
        ForwardReader { device, window, start: 0, filled: 0, ahead: WINDOW_MIN, read_bytes: 0 }
    }

    /// `len` bytes at `offset`, or fewer at the device's end.
    pub fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        let len = len.min(usize::try_from(self.device.len().saturating_sub(offset)).unwrap_or(0));
        if len == 0 {
            return Ok(&[]);
        }
        let inside = offset >= self.start && offset + len as u64 <= self.start + self.filled as u64;
        if !inside {
            self.fill(offset, len)?;
        }
        let at = (offset - self.start) as usize;
        Ok(&self.window.as_slice()[at..at + len])
    }

    /// Bytes read from the device so far.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    fn fill(&mut self, offset: u64, len: usize) -> Result<()> {
        let end = self.start + self.filled as u64;
        let forward = self.filled > 0 && (self.start..=end + GAP_MAX).contains(&offset);
        self.ahead = if forward { (2 * self.ahead).min(WINDOW_MAX) } else { WINDOW_MIN };
        let start = offset - offset % BLOCK as u64;
        let asked = ((offset - start) as usize + len).next_multiple_of(BLOCK);
        let wanted = asked.max(self.ahead);
        let left = usize::try_from(self.device.len() - start).unwrap_or(usize::MAX);
        let wanted = wanted.min(left - left % BLOCK);
        if self.window.capacity() < wanted {
            self.window = AlignedBuf::alloc(wanted);
        }
        // A failed read leaves nothing to be taken for what was asked.
        self.filled = 0;
        self.start = start;
        self.filled = match self.read(start, wanted) {
            Ok(()) => wanted,
            Err(_) => self.read_exactly(start, asked.min(wanted))?,
        };
        self.read_bytes += self.filled as u64;
        Ok(())
    }

    /// What was asked for, after a read of more than that has failed: what lies ahead may never
    /// be needed. The window begins as small as can be then.
    fn read_exactly(&mut self, start: u64, len: usize) -> Result<usize> {
        self.ahead = BLOCK;
        let read = read_persistently(self.device, start, &mut self.window.as_mut_slice()[..len]);
        read.map(|()| len).map_err(|error| {
            let device = self.device.path().display();
            Error::from_io(format!("read of {len} bytes at {start} of {device}"), &error)
        })
    }

    fn read(&mut self, start: u64, len: usize) -> io::Result<()> {
        self.device.read_at(start, &mut self.window.as_mut_slice()[..len])
    }
}

/// Reads what nothing else can stand in for: an error counts if it is there every time.
pub fn read_persistently(device: &dyn Device, offset: u64, buf: &mut [u8]) -> io::Result<()> {
    let mut read = device.read_at(offset, buf);
    for _ in 0..RETRIES {
        if read.is_ok() {
            break;
        }
        read = device.read_at(offset, buf);
    }
    read
}

#[cfg(test)]
mod tests {
    use std::os::fd::RawFd;
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::ErrorKind;
    use crate::io::device::FileDevice;

    fn device(dir: &tempfile::TempDir, blocks: usize) -> FileDevice {
        let device = FileDevice::create(&dir.path().join("a"), (blocks * BLOCK) as u64).unwrap();
        let mut buf = AlignedBuf::alloc(blocks * BLOCK);
        let numbered = buf.as_mut_slice().chunks_mut(BLOCK).enumerate();
        numbered.for_each(|(number, block)| block.fill(number as u8));
        device.write_at(0, buf.as_slice()).unwrap();
        device
    }

    #[test]
    fn what_is_asked_for_is_what_stands_there_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let device = device(&dir, 600);
        let mut reader = ForwardReader::new(&device);
        for block in [0usize, 1, 40, 41, 90, 599, 3, 2, 300, 301, 302, 0, 598] {
            let bytes = reader.bytes((block * BLOCK + 5) as u64, BLOCK).unwrap();
            let expected = [block as u8, (block + 1).min(599) as u8];
            let len = if block == 599 { BLOCK - 5 } else { BLOCK };
            assert_eq!(bytes.len(), len, "at the end there is less");
            assert!(bytes[..BLOCK - 5].iter().all(|byte| *byte == expected[0]), "block {block}");
            assert!(bytes[BLOCK - 5..].iter().all(|byte| *byte == expected[1]), "block {block}");
        }
        let large = reader.bytes(0, 500 * BLOCK).unwrap();
        assert_eq!(large.len(), 500 * BLOCK);
        assert_eq!(large[499 * BLOCK], 499u32 as u8);
    }

    /// A device with a block that cannot be read so many times.
    struct Failing {
        device: FileDevice,
        bad: u64,
        failures: AtomicUsize,
    }

    impl Device for Failing {
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
            let touches = (offset..offset + buf.len() as u64).contains(&self.bad);
            if touches && self.failures.load(Ordering::Relaxed) > 0 {
                self.failures.fetch_sub(1, Ordering::Relaxed);
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            self.device.read_at(offset, buf)
        }

        fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
            self.device.write_at(offset, buf)
        }

        fn flush(&self) -> io::Result<()> {
            self.device.flush()
        }

        fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
            self.device.allocate(offset, len)
        }

        fn len(&self) -> u64 {
            self.device.len()
        }

        fn descriptor(&self) -> Option<RawFd> {
            None
        }

        fn path(&self) -> &Path {
            self.device.path()
        }
    }

    #[test]
    fn a_block_that_cannot_be_read_matters_only_to_those_who_ask_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let bad = 40 * BLOCK as u64;
        let device = Failing { device: device(&dir, 600), bad, failures: usize::MAX.into() };
        let mut reader = ForwardReader::new(&device);
        for block in (0..600usize).filter(|block| *block != 40) {
            let bytes = reader.bytes((block * BLOCK) as u64, BLOCK).unwrap();
            assert!(bytes.iter().all(|byte| *byte == block as u8), "block {block}");
        }
        assert_eq!(reader.bytes(bad, BLOCK).unwrap_err().kind(), ErrorKind::Io);
        // The read ahead and two of what was asked for.
        device.failures.store(3, Ordering::Relaxed);
        assert!(reader.bytes(bad, BLOCK).unwrap().iter().all(|byte| *byte == 40));
    }

    #[test]
    fn large_gaps_are_not_read_and_small_ones_cost_no_read_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let device = device(&dir, 4096);
        let mut reader = ForwardReader::new(&device);
        for at in (0..device.len()).step_by(1 << 20) {
            reader.bytes(at, BLOCK).unwrap();
        }
        assert_eq!(reader.read_bytes(), 16 * WINDOW_MIN as u64);
        let mut reader = ForwardReader::new(&device);
        for at in (0..device.len()).step_by(3 * BLOCK) {
            reader.bytes(at, BLOCK).unwrap();
        }
        assert!(reader.read_bytes() > device.len() / 2, "read in small pieces");
    }
}
