//! Creations that are refused, fail, or were interrupted.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};

use isotherm::config::{Config, Tier};
use isotherm::log::superblock::{SUPERBLOCK_LEN, SUPERBLOCK_SLOTS};
use isotherm::{ErrorKind, Store};

use crate::{Place, as_user, expect, names_in, small};

#[test]
fn an_interrupted_creation_is_undone() {
    let place = Place::filled();
    // As if the process had died before the last step: the manifest still has its other name.
    fs::rename(place.store().join("STORE"), place.store().join("STORE.creating")).unwrap();
    let store = place.open();
    assert!(store.list_buckets().unwrap().is_empty());
    store.bucket("b").unwrap().put(b"small", b"value").unwrap();
    store.close().unwrap();
    assert!(!place.store().join("STORE.creating").exists());
}

#[test]
fn a_creation_that_died_before_its_tiers_were_made_is_undone() {
    let place = Place::filled();
    fs::rename(place.store().join("STORE"), place.store().join("STORE.creating")).unwrap();
    fs::remove_file(place.store().join("hdd0.tier")).unwrap();
    place.open().close().unwrap();
    let place = Place::new();
    fs::create_dir(place.store()).unwrap();
    fs::write(place.store().join("STORE.tmp"), b"half of a manif").unwrap();
    place.open().close().unwrap();
}

#[test]
fn a_store_without_its_manifest_is_not_overwritten() {
    let place = Place::filled();
    let manifest = fs::read(place.store().join("STORE")).unwrap();
    fs::remove_file(place.store().join("STORE")).unwrap();
    assert!(Store::open(place.store(), small().build().unwrap()).is_err());
    fs::write(place.store().join("STORE"), manifest).unwrap();
    place.require_intact();
}

#[test]
fn a_creation_that_is_refused_leaves_nothing_behind() {
    let place = Place::new();
    let huge = || Config::builder().tier(Tier::nvme("512TiB")).build().unwrap();
    expect(Store::open(place.store(), huge()).map(drop), ErrorKind::InvalidConfig, &["free"]);
    assert!(!place.store().exists());
    // What was there stays.
    fs::create_dir(place.store()).unwrap();
    fs::write(place.store().join("notes"), b"mine").unwrap();
    expect(Store::open(place.store(), huge()).map(drop), ErrorKind::InvalidConfig, &["free"]);
    assert_eq!(names_in(&place.store()), ["notes"]);
    place.open().close().unwrap();
}

#[test]
fn a_creation_that_fails_half_way_leaves_nothing_behind() {
    as_user("creation::a_creation_that_fails_half_way_leaves_nothing_behind", |place| {
        let (open, closed) = (place.path("open"), place.path("closed"));
        [&open, &closed].iter().for_each(|path| fs::create_dir(path).unwrap());
        fs::set_permissions(&closed, Permissions::from_mode(0o500)).unwrap();
        let tiers = Config::builder().tier(Tier::nvme("64MiB").path(&open));
        let config = tiers.tier(Tier::hdd("64MiB").path(&closed)).build().unwrap();
        // The first tier is made, the second cannot be.
        let opened = Store::open(place.store(), config).map(drop);
        expect(opened, ErrorKind::PermissionDenied, &["closed/hdd0.tier"]);
        assert!(!place.store().exists());
        assert_eq!(names_in(&open), [""; 0]);
    });
}

#[test]
fn reading_only_removes_nothing_of_an_interrupted_creation() {
    let place = Place::filled();
    fs::rename(place.store().join("STORE"), place.store().join("STORE.creating")).unwrap();
    fs::write(place.store().join("STORE.tmp"), b"half of a manif").unwrap();
    let before = names_in(&place.store());
    let reader = small().read_only(true).build().unwrap();
    expect(Store::open(place.store(), reader).map(drop), ErrorKind::StoreNotFound, &["store"]);
    assert_eq!(names_in(&place.store()), before);
    assert!(before.len() > 4, "{before:?}");
}

/// A store with its tiers elsewhere whose creation has not reached its last step.
fn interrupted() -> (Place, Config) {
    let place = Place::new();
    let elsewhere = place.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let file = |name| elsewhere.join(name);
    let tiers = Config::builder().tier(Tier::nvme("64MiB").path(file("nvme0.tier")));
    let config = tiers.tier(Tier::hdd("64MiB").path(file("hdd0.tier"))).build().unwrap();
    let store = Store::open(place.store(), config.clone()).unwrap();
    store.bucket("b").unwrap().put(b"k", b"v").unwrap();
    store.close().unwrap();
    fs::rename(place.store().join("STORE"), place.store().join("STORE.creating")).unwrap();
    (place, config)
}

#[test]
fn an_interrupted_creation_with_tiers_elsewhere_is_undone_wherever_it_stopped() {
    for step in 0..4 {
        let (place, config) = interrupted();
        let tier = |name: &str| place.path("elsewhere").join(name);
        let file = OpenOptions::new().write(true).open(tier("nvme0.tier")).unwrap();
        if step > 0 {
            // The log's first header is written before the superblocks.
            for at in SUPERBLOCK_SLOTS {
                file.write_all_at(&[0; SUPERBLOCK_LEN], at).unwrap();
            }
        }
        if step > 1 {
            file.set_len(0).unwrap();
            file.set_len(64 << 20).unwrap();
        }
        if step > 2 {
            fs::remove_file(tier("hdd0.tier")).unwrap();
        }
        let store = Store::open(place.store(), config).unwrap();
        assert!(store.list_buckets().unwrap().is_empty(), "step {step}");
        store.close().unwrap();
    }
}

#[test]
fn a_file_of_somebody_else_in_the_place_of_an_announced_tier_stays() {
    let (place, config) = interrupted();
    let file = place.path("elsewhere/nvme0.tier");
    fs::remove_file(&file).unwrap();
    let other = File::create(&file).unwrap();
    other.set_len(64 << 20).unwrap();
    other.write_all_at(b"precious", 32 << 20).unwrap();
    let words = ["nvme0.tier", "exists already"];
    expect(Store::open(place.store(), config).map(drop), ErrorKind::InvalidConfig, &words);
    assert_eq!(fs::metadata(&file).unwrap().len(), 64 << 20);
    let mut found = [0; 8];
    File::open(&file).unwrap().read_exact_at(&mut found, 32 << 20).unwrap();
    assert_eq!(&found, b"precious");
}
