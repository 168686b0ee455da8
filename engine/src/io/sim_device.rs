//! A device of the simulated world: a [`Disk`] that can fail, be switched off and be copied.

use std::io::{self, Error, ErrorKind};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::io::Device;
use crate::io::device::check_write_range;
use crate::io::sim::{SimWorld, event};
use crate::io::sim_disk::{Barrier, Disk, WriteId};

/// How often an operation of each kind fails, in a million.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Faults {
    /// Reads that answer EIO.
    pub reads_failing: u32,
    /// Writes that answer EIO. Their bytes may be on the device all the same.
    pub writes_failing: u32,
    /// Writes that answer ENOSPC.
    pub writes_without_space: u32,
    /// Flushes that answer EIO, and lose what they should have covered.
    pub flushes_failing: u32,
}

/// A simulated [`Device`]. It outlives the store over it, so that a store can be closed, or lost,
/// and opened again on the same bytes.
pub struct SimDevice {
    world: Arc<SimWorld>,
    index: u64,
    path: PathBuf,
    len: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    disk: Disk,
    faults: Faults,
    /// No operation succeeds any more, and none changes anything.
    off: bool,
}

impl SimDevice {
    /// A device of `len` zero bytes, named `sim:<index>`.
    pub fn new(world: Arc<SimWorld>, index: u64, len: u64) -> Arc<SimDevice> {
        SimDevice::over(world, index, len, Disk::default())
    }

    /// A device of this content.
    pub fn over(world: Arc<SimWorld>, index: u64, len: u64, disk: Disk) -> Arc<SimDevice> {
        let path = PathBuf::from(format!("sim:{index}"));
        let state = Mutex::new(State { disk, ..State::default() });
        Arc::new(SimDevice { world, index, path, len, state })
    }

    /// The content at this moment.
    pub fn disk(&self) -> Disk {
        self.state.lock().disk.clone()
    }

    /// Whether something in front of this offset is being written, and nobody was told yet.
    pub fn is_writing_below(&self, end: u64) -> bool {
        self.state.lock().disk.is_writing_below(end)
    }

    /// From now on operations fail at these rates.
    pub fn set_faults(&self, faults: Faults) {
        self.state.lock().faults = faults;
    }

    /// Nothing succeeds any more, as for a process whose device is gone.
    pub fn switch_off(&self) {
        self.state.lock().off = true;
    }

    /// A write is handed to the device: part of what a power cut may find, whether or not its writer
    /// ever hears of it.
    pub(crate) fn begin_write(&self, offset: u64, bytes: &[u8]) -> Option<WriteId> {
        let mut state = self.state.lock();
        let fits = offset.checked_add(bytes.len() as u64).is_some_and(|end| end <= self.len);
        (fits && !state.off).then(|| state.disk.write(offset, bytes))
    }

    /// The end of a write that was begun, and of one that survives a power cut by itself.
    pub(crate) fn end_write(
        &self,
        id: WriteId,
        offset: u64,
        bytes: &[u8],
        dsync: bool,
    ) -> io::Result<()> {
        let admitted = self.admit(event::WRITE, offset, bytes.len(), bytes);
        let disk = &mut self.state.lock().disk;
        match &admitted {
            Ok(()) if dsync => disk.complete_through(id),
            // Also where it has failed: what became of it comes before all that is written there later.
            Ok(()) | Err(_) => disk.complete(id),
        }
        admitted
    }

    /// What a flush covers that is asked for now.
    pub(crate) fn begin_flush(&self) -> Barrier {
        self.state.lock().disk.barrier()
    }

    /// The end of a flush.
    pub(crate) fn end_flush(&self, barrier: &Barrier) -> io::Result<()> {
        let admitted = self.admit(event::FLUSH, 0, 0, &[]);
        let mut state = self.state.lock();
        match admitted {
            Ok(()) => state.disk.flush(barrier),
            Err(_) if !state.off => state.disk.lose(barrier),
            Err(_) => {}
        }
        admitted
    }

    /// Writes so that this write, and no other, survives a power cut.
    pub(crate) fn write_durably(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        check_write_range(self, offset, bytes.len())?;
        self.admit(event::WRITE, offset, bytes.len(), bytes)?;
        self.state.lock().disk.write_through(offset, bytes);
        Ok(())
    }

    /// Every operation passes through here before it succeeds.
    fn admit(&self, kind: u64, offset: u64, len: usize, bytes: &[u8]) -> io::Result<()> {
        self.world.trace(kind, self.index);
        self.world.trace(event::MORE, offset);
        self.world.trace(event::MORE, len as u64);
        self.world.trace(event::MORE, u64::from(crc32fast::hash(bytes)));
        let State { faults, off, .. } = *self.state.lock();
        if off {
            return Err(Error::from_raw_os_error(libc::EIO));
        }
        if faults == Faults::default() {
            return Ok(());
        }
        let drawn = (self.world.random() % 1_000_000) as u32;
        let errno = match kind {
            event::READ if drawn < faults.reads_failing => libc::EIO,
            event::WRITE if drawn < faults.writes_failing => libc::EIO,
            event::WRITE if drawn < faults.writes_failing + faults.writes_without_space => {
                libc::ENOSPC
            }
            event::FLUSH if drawn < faults.flushes_failing => libc::EIO,
            _ => return Ok(()),
        };
        Err(Error::from_raw_os_error(errno))
    }
}

impl Device for SimDevice {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.len) {
            let message = format!("a read of {} bytes at {offset} meets the end", buf.len());
            return Err(Error::new(ErrorKind::UnexpectedEof, message));
        }
        self.state.lock().disk.read(offset, buf);
        self.admit(event::READ, offset, buf.len(), buf)
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        check_write_range(self, offset, buf.len())?;
        self.admit(event::WRITE, offset, buf.len(), buf)?;
        let mut state = self.state.lock();
        let id = state.disk.write(offset, buf);
        state.disk.complete(id);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.end_flush(&self.begin_flush())
    }

    fn allocate(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn descriptor(&self) -> Option<RawFd> {
        None
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn simulated(&self) -> Option<&SimDevice> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_past_the_end_are_errors() {
        let device = SimDevice::new(SimWorld::new(1), 0, 8192);
        let error = device.read_at(4096, &mut [0; 8192]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        assert!(device.write_at(8192, &[0; 4096]).is_err());
        assert_eq!(device.path(), Path::new("sim:0"));
    }

    #[test]
    fn a_device_that_is_off_changes_nothing_any_more() {
        let device = SimDevice::new(SimWorld::new(1), 0, 8192);
        device.write_at(0, &[1; 4096]).unwrap();
        device.switch_off();
        assert!(device.write_at(0, &[2; 4096]).is_err());
        assert!(device.begin_write(0, &[3; 4096]).is_none());
        assert!(device.flush().is_err() && device.read_at(0, &mut [0; 512]).is_err());
        let mut found = [0; 1];
        device.disk().read(0, &mut found);
        assert_eq!(found, [1]);
    }

    #[test]
    fn operations_fail_as_often_as_was_asked_for() {
        let device = SimDevice::new(SimWorld::new(1), 0, 8192);
        device.set_faults(Faults { writes_failing: 250_000, ..Faults::default() });
        let failed = (0..1000).filter(|_| device.write_at(0, &[1; 512]).is_err()).count();
        assert!((150..350).contains(&failed), "{failed} of 1000");
        assert!(device.read_at(0, &mut [0; 512]).is_ok() && device.flush().is_ok());
    }
}
