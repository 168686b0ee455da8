//! Opening what is not as it was left: tiers that are gone, stores that may only be read,
//! superblocks that know less than others.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use isotherm::config::{Config, ConfigBuilder, IoChoice, MissingTiers, Tier};
use isotherm::engine::Identity;
use isotherm::io::device::FileDevice;
use isotherm::io::runtime::Runtime;
use isotherm::io::{Device, Devices};
use isotherm::log::superblock::{SUPERBLOCK_LEN, SUPERBLOCK_SLOTS, Superblock};
use isotherm::types::{BatchSeq, Epoch, Uuid};
use isotherm::{BufferPlace, Durability, ErrorKind, Result, ScanRange, Scope, Store};

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

// ---- tiers that are gone ------------------------------------------------------------------

/// Everything but reading what lies on tier 1 goes on.
fn require_degraded(store: &Store, tiers: &BTreeMap<u32, usize>) {
    let bucket = store.open_bucket("b").unwrap();
    let info = store.info();
    let lost: Vec<bool> = info.tiers.iter().map(|tier| tier.lost.is_some()).collect();
    assert_eq!(lost, [false, false, true]);
    let listed = bucket.scan(ScanRange::all()).map(|item| item.unwrap().key.into_vec());
    assert_eq!(listed.collect::<Vec<_>>(), tiers.keys().map(|n| key(*n)).collect::<Vec<_>>());
    for (number, tier) in tiers {
        assert_eq!(bucket.stat(&key(*number)).unwrap().len, 1_000_000);
        match tier {
            0 => assert!(bucket.get(&key(*number)).unwrap() == value(*number)),
            _ => {
                let words = ["tier 1", "lost"];
                refused(bucket.get(&key(*number)), ErrorKind::TierMissing, &words);
                let part = &mut [0; 100];
                refused(bucket.get_at(&key(*number), 5000, part), ErrorKind::TierMissing, &words);
            }
        }
    }
}

#[test]
fn the_loss_of_a_data_tier_fails_only_its_blobs_and_ends_when_the_tier_is_back() {
    let (place, mut tiers) = Place::filled();
    let aside = place.directory.path().join("aside");
    fs::rename(place.file(1), &aside).unwrap();
    refused(place.try_open(config()), ErrorKind::TierMissing, &["hdd0.tier", "missing_tiers"]);
    let store = place.open(degraded());
    require_degraded(&store, &tiers);
    let bucket = store.open_bucket("b").unwrap();
    let of_tier =
        |tier| tiers.iter().filter(move |(_, of)| **of == tier).map(|(number, _)| *number);
    let (gone, kept): (Vec<_>, Vec<_>) = of_tier(1).partition(|number| number % 2 == 0);
    let here: Vec<_> = of_tier(0).skip(4).collect();
    // Deleting needs no device, also of what is lost; replacing takes room elsewhere.
    for number in gone.iter().chain(&here) {
        bucket.delete(&key(*number)).unwrap();
        tiers.remove(number);
    }
    let (replaced, new) = (kept[0], gone[0]);
    for level in [Durability::Memory, Durability::Durable] {
        bucket.put_with(&key(replaced), &value(1000), level.into()).unwrap();
        bucket.put_with(&key(new), &value(1001), level.into()).unwrap();
    }
    store.flush(Scope::Store).unwrap();
    assert!(!place.file(1).exists(), "the lost tier was made anew");
    // After a crash and a close alike, and on threads.
    let crashed = place.after_a_crash_without(1);
    store.close().unwrap();
    for (place, io) in [(&crashed, IoChoice::Threads), (&place, IoChoice::Auto)] {
        let store = place.open(degraded().io(io));
        let bucket = store.open_bucket("b").unwrap();
        assert!(bucket.get(&key(replaced)).unwrap() == value(1000));
        assert!(bucket.get(&key(new)).unwrap() == value(1001));
        refused(bucket.get(&key(kept[1])), ErrorKind::TierMissing, &["tier 1"]);
        store.close().unwrap();
    }
    // Back it is as it was.
    fs::rename(&aside, place.file(1)).unwrap();
    let old = place.directory.path().join("old");
    fs::copy(place.file(1), &old).unwrap();
    let store = place.open(config());
    let bucket = store.open_bucket("b").unwrap();
    for number in &kept[1..] {
        assert!(bucket.get(&key(*number)).unwrap() == value(*number), "blob {number}");
    }
    assert!(bucket.get(&key(replaced)).unwrap() == value(1000));
    gone[1..].iter().for_each(|number| assert!(!bucket.exists(&key(*number)).unwrap()));
    store.close().unwrap();
    // From now on a copy of before is an old one.
    fs::rename(&old, place.file(1)).unwrap();
    refused(place.try_open(config()), ErrorKind::TierMissing, &["old copy", "missing_tiers"]);
}

impl Place {
    fn after_a_crash_without(&self, tier: usize) -> Place {
        File::create(self.file(tier)).unwrap();
        let copy = self.after_a_crash();
        fs::remove_file(self.file(tier)).unwrap();
        fs::remove_file(copy.file(tier)).unwrap();
        copy
    }
}

#[test]
fn a_data_tier_that_is_cut_damaged_or_foreign_is_as_good_as_lost_and_left_alone() {
    let (place, tiers) = Place::filled();
    let good = fs::read(place.file(1)).unwrap();
    let (_other, foreign) = {
        let other = Place::filled().0;
        let bytes = fs::read(other.file(1)).unwrap();
        (other, bytes)
    };
    let mut damaged = good.clone();
    damaged[..1 << 20].fill(0x5A);
    for bytes in [&good[..good.len() / 2], &damaged, &foreign, &[]] {
        fs::write(place.file(1), bytes).unwrap();
        assert!(place.try_open(config()).is_err());
        let store = place.open(degraded());
        require_degraded(&store, &tiers);
        store.close().unwrap();
        assert!(fs::read(place.file(1)).unwrap() == bytes, "what is not ours was written to");
    }
    fs::write(place.file(1), &good).unwrap();
    let store = place.open(config());
    let bucket = store.open_bucket("b").unwrap();
    tiers.keys().for_each(|n| assert!(bucket.get(&key(*n)).unwrap() == value(*n)));
}

#[test]
fn the_loss_of_the_first_tier_is_the_loss_of_the_store() {
    let (place, _) = Place::filled();
    fs::remove_file(place.file(0)).unwrap();
    refused(place.try_open(degraded()), ErrorKind::TierMissing, &["nvme0.tier"]);
}

/// A file whose reads can be made to fail.
struct Failing {
    file: FileDevice,
    fails: Arc<AtomicBool>,
}

impl Device for Failing {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        match self.fails.load(Ordering::SeqCst) {
            true => Err(io::Error::from_raw_os_error(libc::EIO)),
            false => self.file.read_at(offset, buf),
        }
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, buf)
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
        None // So that every read comes here.
    }

    fn path(&self) -> &Path {
        self.file.path()
    }
}

#[test]
fn errors_of_a_data_tier_fail_only_the_gets_that_touch_it() {
    let place = Place::new();
    fs::create_dir(place.store()).unwrap();
    let resolved = config().build().unwrap().resolve(&place.store()).unwrap();
    let fails = Arc::new(AtomicBool::new(false));
    let make = |tier: usize| {
        let file = FileDevice::create(&place.file(tier), resolved.devices[tier].capacity).unwrap();
        let fails = if tier == 1 { fails.clone() } else { Arc::default() };
        Arc::new(Failing { file, fails }) as Arc<dyn Device>
    };
    let devices: Devices = [make(0), make(1)].into();
    let identity =
        Identity { store: Uuid([1; 16]), devices: [Uuid([2; 16]), Uuid([3; 16])].into() };
    let store = Store::open_on(Runtime::os(), devices, resolved, identity, true).unwrap();
    let bucket = store.bucket("b").unwrap();
    for number in 0..BLOBS {
        bucket.put(&key(number), &value(number)).unwrap();
    }
    store.flush(Scope::Store).unwrap();
    fails.store(true, Ordering::SeqCst);
    let mut failed = 0;
    for number in 0..BLOBS {
        let tier = tier_of(&bucket.locate(&key(number)).unwrap());
        match bucket.get(&key(number)) {
            Ok(found) => assert!(found == value(number)),
            Err(error) => {
                assert_eq!((tier, error.kind()), (1, ErrorKind::Io), "{error}");
                assert!(error.message().contains("tier 1"), "{error}");
                failed += 1;
            }
        }
    }
    assert!(failed > 3, "only {failed} gets failed");
    bucket.put_with(b"small", b"value", Durability::Durable.into()).unwrap();
    assert_eq!(bucket.get(b"small").unwrap(), b"value");
    bucket.delete(&key(0)).unwrap();
    assert!(store.info().poisoned.is_none());
    // Errors that pass leave nothing behind.
    fails.store(false, Ordering::SeqCst);
    (1..BLOBS).for_each(|n| assert!(bucket.get(&key(n)).unwrap() == value(n)));
    store.close().unwrap();
}

// ---- reading only -------------------------------------------------------------------------

/// Every blob can be read, nothing changed.
fn require_read_only(place: &Place, config: ConfigBuilder, tiers: &BTreeMap<u32, usize>) {
    let before = place.contents();
    let store = place.open(config);
    let bucket = store.open_bucket("b").unwrap();
    let no = ErrorKind::ReadOnly;
    for level in [Durability::Memory, Durability::Written, Durability::Durable] {
        refused(bucket.put_with(b"k", b"v", level.into()), no, &["reading only"]);
        refused(bucket.append_with(&key(0), b"v", level.into()), no, &[]);
        refused(bucket.put_at_with(&key(0), 9, b"v", level.into()), no, &[]);
        refused(bucket.truncate_with(&key(0), 9, level.into()), no, &[]);
        refused(bucket.delete_with(&key(0), level.into()), no, &[]);
    }
    refused(store.create_bucket("c", Default::default()).map(drop), no, &[]);
    refused(store.destroy_bucket("b"), no, &[]);
    for _ in 0..2 {
        tiers.keys().for_each(|n| assert!(bucket.get(&key(*n)).unwrap() == value(*n), "{n}"));
    }
    assert_eq!(bucket.scan(ScanRange::all()).count(), tiers.len());
    assert!(store.info().read_only.is_some());
    store.flush(Scope::Store).unwrap();
    store.close().unwrap();
    assert_eq!(place.contents(), before, "something was written");
}

#[test]
fn a_store_opened_for_reading_only_is_not_written_to() {
    let (place, tiers) = Place::filled();
    require_read_only(&place, config().read_only(true), &tiers);
    require_read_only(&place, config().read_only(true).io(IoChoice::Threads), &tiers);
    // After a crash, too: the log is read, and not cut.
    let store = place.open(config());
    let crashed = place.after_a_crash();
    require_read_only(&crashed, config().read_only(true), &tiers);
    store.close().unwrap();
    let nothing = Place::new();
    refused(nothing.try_open(config().read_only(true)), ErrorKind::StoreNotFound, &[]);
    assert!(!nothing.store().exists());
}

#[test]
fn an_unknown_feature_that_allows_reading_opens_the_store_for_reading_only() {
    let (place, tiers) = Place::filled();
    for tier in [0, 1] {
        place.change_superblocks(tier, |block| block.features.ro_compat = 1 << 40);
    }
    require_read_only(&place, config(), &tiers);
}

// ---- superblocks --------------------------------------------------------------------------

#[test]
fn every_tier_learns_the_new_epoch_the_cut_and_who_was_there() {
    let (place, _) = Place::filled();
    let before = place.superblocks(0)[0].1.clone();
    let store = place.open(config());
    let found: Vec<_> = [0, 1].map(|tier| place.superblocks(tier)[0].1.clone()).into();
    for block in &found {
        assert_eq!(block.epoch, Epoch(before.epoch.0 + 1));
        assert_eq!(block.cuts, found[0].cuts);
        assert_eq!(block.tier_epochs, [block.epoch, block.epoch]);
        assert!(!block.clean);
    }
    let cut = found[0].cuts.last().unwrap();
    assert_eq!(cut.epoch, before.epoch);
    // The store runs: a checkpoint or its copy may have raised what a tier's superblock names.
    assert!(found.iter().all(|block| block.watermark >= cut.seq), "{found:?}");
    store.close().unwrap();
}

#[test]
fn a_watermark_that_only_another_tier_names_counts() {
    let (place, _) = Place::filled();
    let last = place.superblocks(0)[0].1.watermark;
    place.change_superblocks(1, |block| block.watermark = BatchSeq(last.0 + 3));
    let beyond = (last.0 + 3).to_string();
    refused(place.try_open(config()), ErrorKind::Corrupt, &["flushed up to batch", &beyond]);
}

#[test]
fn a_damaged_superblock_of_the_log_tier_is_made_up_for_by_the_others() {
    let place = Place::new();
    let store = place.open(config());
    store.bucket("b").unwrap().put(b"early", &value(1)).unwrap();
    store.close().unwrap();
    let store = place.open(config());
    let bucket = store.open_bucket("b").unwrap();
    bucket.put_with(b"late", b"value", Durability::Durable.into()).unwrap();
    let crashed = place.after_a_crash();
    store.close().unwrap();
    let (at, newest) = crashed.superblocks(0)[0].clone();
    let (_, older) = crashed.superblocks(0)[1].clone();
    assert!(older.epoch < newest.epoch && older.clean, "the older one knows nothing of this open");
    damage(&crashed.file(0), at + 200);
    let store = crashed.open(config());
    let bucket = store.open_bucket("b").unwrap();
    assert_eq!(bucket.get(b"late").unwrap(), b"value");
    assert!(bucket.get(b"early").unwrap() == value(1));
    assert_eq!(store.info().epoch, newest.epoch.0 + 1);
}

fn damage(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}
