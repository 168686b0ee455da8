//! A device of the simulated world: memory that behaves like a file of fixed length.

use std::collections::BTreeMap;
use std::io::{self, Error, ErrorKind};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::io::Device;
use crate::io::device::check_write_range;
use crate::io::sim::{SimWorld, event};

/// Bytes that are allocated together, zeroed, when one of them is first written.
const CHUNK: usize = 64 << 10;

/// A simulated [`Device`]. It outlives the store over it, so that a store can be closed, or lost,
/// and opened again on the same bytes.
pub struct SimDevice {
    world: Arc<SimWorld>,
    index: u64,
    path: PathBuf,
    len: u64,
    chunks: Mutex<BTreeMap<u64, Box<[u8]>>>,
}

/// The faults of a device, once there are any (short transfers, EIO, ENOSPC, torn and lost
/// writes, rot): each operation passes through here before it touches the bytes.
impl SimDevice {
    fn admit(&self, kind: u64, offset: u64, len: usize, bytes: &[u8]) -> io::Result<()> {
        self.world.trace(kind, self.index);
        self.world.trace(event::MORE, offset);
        self.world.trace(event::MORE, len as u64);
        self.world.trace(event::MORE, u64::from(crc32fast::hash(bytes)));
        Ok(())
    }
}

impl SimDevice {
    /// A device of `len` zero bytes, named `sim:<index>`.
    pub fn new(world: Arc<SimWorld>, index: u64, len: u64) -> Arc<SimDevice> {
        let path = PathBuf::from(format!("sim:{index}"));
        Arc::new(SimDevice { world, index, path, len, chunks: Mutex::default() })
    }
}

/// The parts of a range by chunk: its number, where the part begins in it, and where in the range.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let position = offset + at as u64;
        let inside = (position % CHUNK as u64) as usize;
        let part = at..len.min(at + CHUNK - inside);
        at = part.end;
        (!part.is_empty()).then_some((position / CHUNK as u64, inside, part))
    })
}

impl Device for SimDevice {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.len) {
            let message = format!("a read of {} bytes at {offset} meets the end", buf.len());
            return Err(Error::new(ErrorKind::UnexpectedEof, message));
        }
        {
            let chunks = self.chunks.lock();
            for (chunk, inside, part) in parts(offset, buf.len()) {
                let into = &mut buf[part];
                match chunks.get(&chunk) {
                    Some(bytes) => into.copy_from_slice(&bytes[inside..inside + into.len()]),
                    None => into.fill(0),
                }
            }
        }
        self.admit(event::READ, offset, buf.len(), buf)
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        check_write_range(self, offset, buf.len())?;
        self.admit(event::WRITE, offset, buf.len(), buf)?;
        let mut chunks = self.chunks.lock();
        for (chunk, inside, part) in parts(offset, buf.len()) {
            let bytes = chunks.entry(chunk).or_insert_with(|| vec![0; CHUNK].into_boxed_slice());
            bytes[inside..inside + part.len()].copy_from_slice(&buf[part]);
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.admit(event::FLUSH, 0, 0, &[])
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_across_chunks_round_trip_and_the_rest_is_zero() {
        let world = SimWorld::new(1);
        let device = SimDevice::new(world, 3, 4 * CHUNK as u64);
        let bytes: Vec<u8> = (0..2 * CHUNK).map(|i| (i % 251) as u8).collect();
        let offset = CHUNK as u64 - 4096;
        device.write_at(offset, &bytes).unwrap();
        let mut back = vec![1; 4 * CHUNK];
        device.read_at(0, &mut back).unwrap();
        let start = offset as usize;
        assert!(back[start..start + bytes.len()] == bytes[..]);
        assert!(back[..start].iter().chain(&back[start + bytes.len()..]).all(|b| *b == 0));
        assert_eq!(device.path(), Path::new("sim:3"));
    }

    #[test]
    fn transfers_past_the_end_are_errors() {
        let device = SimDevice::new(SimWorld::new(1), 0, 8192);
        let error = device.read_at(4096, &mut [0; 8192]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        assert!(device.write_at(8192, &[0; 4096]).is_err());
    }
}
