//! Tiers that are gone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use isotherm::config::IoChoice;
use isotherm::engine::Identity;
use isotherm::io::device::FileDevice;
use isotherm::io::runtime::Runtime;
use isotherm::io::{Device, Devices};
use isotherm::types::Uuid;
use isotherm::{Durability, ErrorKind, ScanRange, Scope, Store};

use crate::{BLOBS, Place, config, degraded, key, refused, tier_of, value};

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
        let tier = || tier_of(&bucket.locate(&key(number)).unwrap());
        let before = tier();
        match bucket.get(&key(number)) {
            Ok(found) => assert!(found == value(number)),
            Err(error) => {
                // It may have been moved there meanwhile.
                assert_eq!((before.max(tier()), error.kind()), (1, ErrorKind::Io), "{error}");
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
