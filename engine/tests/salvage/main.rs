//! Salvage of stores on files: what comes back, what is said to be lost, and that nothing is changed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod gaps;
mod lost_log;
mod untouched;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use isotherm::config::{Config, Tier};
use isotherm::io::device::FileDevice;
use isotherm::log::batch::BatchView;
use isotherm::log::follow::LogExpect;
use isotherm::log::scan::scan;
use isotherm::log::superblock::{SUPERBLOCK_LEN, SUPERBLOCK_SLOTS, Superblock};
use isotherm::{Doubt, Piece, Salvage, SalvagedBlob, Standing, Store};

struct Place {
    directory: tempfile::TempDir,
}

/// What salvage says of a blob, and its value if that can be read whole.
type Found = (Standing, Option<Vec<u8>>);

impl Place {
    fn new() -> Place {
        Place { directory: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.store().join(name)
    }

    fn open(&self) -> Store {
        let tiers = Config::builder().tier(Tier::dram("8MiB")).tier(Tier::nvme("64MiB"));
        Store::open(self.store(), tiers.shards(1).build().unwrap()).unwrap()
    }

    fn salvage(&self) -> Salvage {
        Salvage::open(self.store(), &BTreeMap::new()).unwrap()
    }

    /// The log of a store that was closed without a checkpoint: where each batch begins.
    fn log(&self) -> Vec<(u64, BatchView)> {
        let path = self.file("nvme0.tier");
        let newest = superblock(&path);
        let expect = LogExpect::of(&newest);
        let device = FileDevice::open_read_only(&path).unwrap();
        let log = scan(&device, newest.log_start, &expect).unwrap();
        log.offsets.into_iter().zip(log.batches).collect()
    }
}

fn superblock(path: &Path) -> Superblock {
    let file = File::open(path).unwrap();
    let mut slots = [[0; SUPERBLOCK_LEN]; 2];
    for (slot, at) in slots.iter_mut().zip(SUPERBLOCK_SLOTS) {
        file.read_exact_at(slot, at).unwrap();
    }
    Superblock::newest([&slots[0], &slots[1]]).unwrap()
}

fn overwrite(path: &Path, offset: u64, len: usize) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&vec![0xA5; len], offset).unwrap();
}

fn found(salvage: &Salvage) -> BTreeMap<(String, Vec<u8>), Found> {
    let of = |blob: SalvagedBlob<'_>| {
        let name = (blob.bucket.to_owned(), blob.key.to_vec());
        (name, (blob.standing, value(salvage, &blob)))
    };
    salvage.blobs().map(of).collect()
}

/// A value; `None` if some of it is lost.
fn value(salvage: &Salvage, blob: &SalvagedBlob<'_>) -> Option<Vec<u8>> {
    let (mut value, mut is_whole) = (Vec::new(), true);
    let Ok(()) = salvage.read(blob, &mut |piece| -> Result<(), Infallible> {
        match piece {
            Piece::Bytes(bytes) => value.extend_from_slice(bytes),
            Piece::Hole(len) => value.resize(value.len() + len as usize, 0),
            Piece::Unreadable { .. } => is_whole = false,
        }
        Ok(())
    });
    is_whole.then_some(value)
}

fn doubted(doubt: Doubt, value: &[u8]) -> Option<Found> {
    Some((Standing::MaybeStale(doubt), Some(value.to_vec())))
}
