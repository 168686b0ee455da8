//! Opening what is not as it was left: tiers that are gone, stores that may only be read,
//! superblocks that know less than others, damage.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod begins;
mod checkpoints;
mod damage;
mod lost_tiers;
mod read_only;
mod superblocks;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use isotherm::config::{Config, ConfigBuilder, MissingTiers, Tier};
use isotherm::engine::Identity;
use isotherm::io::device::FileDevice;
use isotherm::io::runtime::Runtime;
use isotherm::io::{Device, Devices};
use isotherm::log::superblock::{SUPERBLOCK_LEN, SUPERBLOCK_SLOTS, Superblock};
use isotherm::{BufferPlace, ErrorKind, Result, Scope, Store};

/// More than the first tier takes.
const BLOBS: u32 = 40;
const FILES: [&str; 2] = ["nvme0.tier", "hdd0.tier"];

struct Place {
    directory: tempfile::TempDir,
}

fn config() -> ConfigBuilder {
    Config::builder()
        .tier(Tier::dram("8MiB"))
        .tier(Tier::nvme("64MiB"))
        .tier(Tier::hdd("64MiB"))
        .shards(1)
}

fn degraded() -> ConfigBuilder {
    config().missing_tiers(MissingTiers::Degraded)
}

fn value(number: u32) -> Vec<u8> {
    (0..1_000_000u32).map(|at| (at.wrapping_mul(number + 7) >> 5) as u8).collect()
}

fn key(number: u32) -> Vec<u8> {
    format!("blob{number:04}").into_bytes()
}

impl Place {
    fn new() -> Place {
        Place { directory: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn file(&self, tier: usize) -> PathBuf {
        self.store().join(FILES[tier])
    }

    fn try_open(&self, config: ConfigBuilder) -> Result<Store> {
        Store::open(self.store(), config.build().unwrap())
    }

    fn open(&self, config: ConfigBuilder) -> Store {
        self.try_open(config).unwrap()
    }

    /// A closed store with blobs on both device tiers, and the tier that each is on.
    fn filled() -> (Place, BTreeMap<u32, usize>) {
        let place = Place::new();
        let store = place.open(config());
        let bucket = store.bucket("b").unwrap();
        let mut tiers = BTreeMap::new();
        for number in 0..BLOBS {
            bucket.put(&key(number), &value(number)).unwrap();
        }
        store.flush(Scope::Store).unwrap();
        store.close().unwrap();
        // Nothing is moved meanwhile.
        let store = place.open(config().read_only(true));
        let bucket = store.open_bucket("b").unwrap();
        for number in 0..BLOBS {
            tiers.insert(number, tier_of(&bucket.locate(&key(number)).unwrap()));
        }
        store.close().unwrap();
        for tier in [0, 1] {
            let count = tiers.values().filter(|of| **of == tier).count();
            assert!(count > 3, "{count} blobs on tier {tier}");
        }
        (place, tiers)
    }

    /// What a crash would leave now: a copy of the files of a store that is open. Taken again
    /// until nothing was written meanwhile, by the organizer for one.
    fn after_a_crash(&self) -> Place {
        let copy = Place::new();
        fs::create_dir(copy.store()).unwrap();
        for _ in 0..1000 {
            let before = self.contents();
            for name in FILES.iter().copied().chain(["STORE"]) {
                fs::copy(self.store().join(name), copy.store().join(name)).unwrap();
            }
            if self.contents() == before && copy.contents() == before {
                return copy;
            }
        }
        panic!("the store never rests");
    }

    fn contents(&self) -> Vec<u64> {
        let hash = |tier| xxhash_rust::xxh3::xxh3_64(&fs::read(self.file(tier)).unwrap());
        [0, 1].map(hash).to_vec()
    }

    /// The valid superblocks of a tier, newest first, and where they stand.
    fn superblocks(&self, tier: usize) -> Vec<(u64, Superblock)> {
        let file = File::open(self.file(tier)).unwrap();
        let mut found = Vec::new();
        for at in SUPERBLOCK_SLOTS {
            let mut bytes = [0; SUPERBLOCK_LEN];
            file.read_exact_at(&mut bytes, at).unwrap();
            found.extend(Superblock::decode(&bytes).ok().map(|block| (at, block)));
        }
        found.sort_by_key(|(_, block)| std::cmp::Reverse(block.generation));
        found
    }

    fn change_superblocks(&self, tier: usize, change: impl Fn(&mut Superblock)) {
        let file = OpenOptions::new().write(true).open(self.file(tier)).unwrap();
        for (at, mut block) in self.superblocks(tier) {
            change(&mut block);
            file.write_all_at(&block.encode().unwrap(), at).unwrap();
        }
    }
}

fn tier_of(places: &[BufferPlace]) -> usize {
    let tiers: Vec<_> = places.iter().filter_map(|place| place.tier).collect();
    assert_eq!(tiers.len(), places.len(), "every buffer is on a device");
    tiers[0].index()
}

#[track_caller]
fn refused<T>(result: Result<T>, kind: ErrorKind, words: &[&str]) {
    let Err(error) = result else { panic!("this should have been refused") };
    assert_eq!(error.kind(), kind, "{error}");
    for word in words {
        assert!(error.message().contains(word), "{error} does not say {word:?}");
    }
}

/// Flips a bit.
fn damage(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// A file with a part that cannot be read, and that fails after a number of writes.
struct Faulty {
    file: FileDevice,
    bad: Range<u64>,
    writes_left: Arc<AtomicI64>,
}

impl Device for Faulty {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let touches = offset < self.bad.end && offset + buf.len() as u64 > self.bad.start;
        match touches {
            true => Err(io::Error::from_raw_os_error(libc::EIO)),
            false => self.file.read_at(offset, buf),
        }
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        match self.writes_left.fetch_sub(1, Ordering::SeqCst) > 0 {
            true => self.file.write_at(offset, buf),
            false => Err(io::Error::from_raw_os_error(libc::EIO)),
        }
    }

    fn flush(&self) -> io::Result<()> {
        self.file.flush()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.allocate(offset, len)
    }

    fn len(&self) -> u64 {
        self.file.len()
    }

    fn descriptor(&self) -> Option<RawFd> {
        None // So that every transfer comes here.
    }

    fn path(&self) -> &Path {
        self.file.path()
    }
}

impl Place {
    /// Opens the store on devices that cannot read these parts, and fail after so many writes.
    fn open_faulty(&self, bad: [Range<u64>; 2], writes: i64) -> Result<Store> {
        let elsewhere = self.directory.path().join("elsewhere");
        let resolved = config().build().unwrap().resolve(&elsewhere).unwrap();
        let (_, superblock) = self.superblocks(0)[0].clone();
        let identity = Identity { store: superblock.store, devices: superblock.tiers.into() };
        let writes_left = Arc::new(AtomicI64::new(writes));
        let devices: Devices = (0..)
            .zip(bad)
            .map(|(tier, bad)| {
                let file = FileDevice::open(&self.file(tier)).unwrap();
                Arc::new(Faulty { file, bad, writes_left: writes_left.clone() }) as Arc<dyn Device>
            })
            .collect();
        Store::open_on(Runtime::os(), devices, resolved, identity, false)
    }
}
