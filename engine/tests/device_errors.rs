//! Devices that refuse: a flush that fails, a file system that others have filled.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use isotherm::config::{Config, Tier};
use isotherm::engine::Identity;
use isotherm::io::Device;
use isotherm::io::device::FileDevice;
use isotherm::io::runtime::Runtime;
use isotherm::types::Uuid;
use isotherm::{Bucket, Durability, ErrorKind, PutOptions, Scope, Store};
use parking_lot::Mutex;

const PIECE: u64 = 64 << 10;

/// A tier's file on a host with faults.
#[derive(Default)]
struct Host {
    /// The next flush fails, once, with this error; the one after it succeeds, as a kernel's does.
    flush_error: AtomicI32,
    /// Pieces of the file that the file system has space for; 0: any number.
    pieces_max: AtomicUsize,
    pieces: Mutex<BTreeSet<u64>>,
}

struct OnHost {
    file: FileDevice,
    host: Arc<Host>,
}

impl Host {
    fn take(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut pieces = self.pieces.lock();
        let new: Vec<u64> = (offset / PIECE..(offset + len).div_ceil(PIECE))
            .filter(|piece| !pieces.contains(piece))
            .collect();
        let most = self.pieces_max.load(Ordering::SeqCst);
        if most > 0 && pieces.len() + new.len() > most {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        pieces.extend(new);
        Ok(())
    }

    /// From now on there is space for so many bytes beyond what is taken.
    fn leave(&self, bytes: u64) {
        let pieces = self.pieces.lock().len() + (bytes / PIECE) as usize;
        self.pieces_max.store(pieces, Ordering::SeqCst);
    }
}

impl Device for OnHost {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.host.take(offset, buf.len() as u64)?;
        self.file.write_at(offset, buf)
    }

    fn flush(&self) -> io::Result<()> {
        match self.host.flush_error.swap(0, Ordering::SeqCst) {
            0 => self.file.flush(),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.host.take(offset, len)
    }

    fn len(&self) -> u64 {
        self.file.len()
    }

    fn descriptor(&self) -> Option<RawFd> {
        None // So that everything comes here.
    }

    fn path(&self) -> &Path {
        self.file.path()
    }
}

fn open(directory: &Path, host: &Arc<Host>, create: bool) -> Store {
    let config =
        Config::builder().tier(Tier::dram("8MiB")).tier(Tier::nvme("256MiB")).shards(1).build();
    let resolved = config.unwrap().resolve(directory).unwrap();
    let path = directory.join("tier");
    let file = match create {
        true => FileDevice::create(&path, resolved.devices[0].capacity),
        false => FileDevice::open(&path),
    };
    let device = Arc::new(OnHost { file: file.unwrap(), host: host.clone() }) as Arc<dyn Device>;
    let identity = Identity { store: Uuid([1; 16]), devices: [Uuid([2; 16])].into() };
    Store::open_on(Runtime::os(), [device].into(), resolved, identity, create).unwrap()
}

fn durable() -> PutOptions {
    Durability::Durable.into()
}

#[test]
fn a_failed_flush_is_not_believed_whatever_its_reason() {
    // One for lack of space, too: the kernel has dropped what it could not write.
    for errno in [libc::EIO, libc::ENOSPC, libc::EDQUOT] {
        let (directory, host) = (tempfile::tempdir().unwrap(), Arc::new(Host::default()));
        let store = open(directory.path(), &host, true);
        let bucket = store.bucket("b").unwrap();
        bucket.put_with(b"before", b"value", durable()).unwrap();
        // Enough for checkpoints, whose flushes count as well.
        for number in 0..6000u32 {
            bucket.put_with(&number.to_le_bytes(), &[7; 100], Durability::Memory.into()).unwrap();
        }
        host.flush_error.store(errno, Ordering::SeqCst);
        let failed = store.flush(Scope::Store).unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::DeviceFailed, "{errno}: {failed}");
        for level in [Durability::Memory, Durability::Written, Durability::Durable] {
            let refused = bucket.put_with(b"after", b"value", level.into()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::DeviceFailed, "{errno}, {level:?}: {refused}");
        }
        assert_eq!(bucket.get(b"before").unwrap(), b"value");
        assert!(store.close().is_err());
        let store = open(directory.path(), &host, false);
        assert_eq!(store.open_bucket("b").unwrap().get(b"before").unwrap(), b"value");
        store.close().unwrap();
    }
}

/// Puts until there is no space. Returns how many.
fn fill(bucket: &Bucket, from: u32) -> u32 {
    for number in from.. {
        let value = vec![number as u8; 300_000];
        match bucket.put(&number.to_le_bytes(), &value) {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
                return number - from;
            }
        }
    }
    unreachable!("the host is full some time");
}

#[test]
fn a_full_host_refuses_values_and_goes_on_with_gets_deletes_and_what_they_free() {
    let (directory, host) = (tempfile::tempdir().unwrap(), Arc::new(Host::default()));
    let store = open(directory.path(), &host, true);
    let bucket = store.bucket("b").unwrap();
    host.leave(64 << 20);
    let first = fill(&bucket, 0);
    assert!(first > 100, "only {first} values in 64 MiB");
    let refused = bucket.put(b"more", &vec![1; 300_000]).unwrap_err();
    assert!(refused.message().contains("file system"), "{refused}");
    for number in 0..first {
        assert!(bucket.get(&number.to_le_bytes()).unwrap() == vec![number as u8; 300_000]);
    }
    for number in (0..first).filter(|number| number % 3 > 0) {
        bucket.delete_with(&number.to_le_bytes(), durable()).unwrap();
    }
    let second = fill(&bucket, first);
    // Not what a full host has set aside for the log and the checkpoints meanwhile.
    assert!(second >= first / 4, "{second} values in the room of {first}");
    assert!(store.info().poisoned.is_none());
    // The host has space again.
    host.pieces_max.store(0, Ordering::SeqCst);
    for number in 0..first {
        bucket.put(&(1_000_000 + number).to_le_bytes(), &vec![5; 300_000]).unwrap();
    }
    store.close().unwrap();
    let store = open(directory.path(), &host, false);
    let bucket = store.open_bucket("b").unwrap();
    for number in (0..first).filter(|number| number % 3 == 0).chain(first..first + second) {
        assert!(bucket.get(&number.to_le_bytes()).unwrap() == vec![number as u8; 300_000]);
    }
    store.close().unwrap();
}
