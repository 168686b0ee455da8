//! Salvage changes nothing, and keeps writers away meanwhile.

use std::collections::BTreeMap;
use std::fs;

use isotherm::log::superblock::SUPERBLOCK_SLOTS;
use isotherm::{Config, ErrorKind, Salvage, Store};

use crate::{Place, found, overwrite};

/// Everything in the store's directory.
fn content(place: &Place) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(place.store()).unwrap().map(|entry| entry.unwrap());
    let read = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    entries.map(read).collect()
}

#[test]
fn a_store_is_as_it_was_after_salvage_whether_damaged_or_not() {
    let place = Place::new();
    let store = place.open();
    let bucket = store.bucket("b").unwrap();
    for number in 0..50u8 {
        bucket.put(&[number], &vec![number; 30_000]).unwrap();
    }
    store.close().unwrap();
    for is_damaged in [false, true] {
        if is_damaged {
            overwrite(&place.file("nvme0.tier"), SUPERBLOCK_SLOTS[0], 4096);
            let (offset, _) = place.log()[3];
            overwrite(&place.file("nvme0.tier"), offset + 50, 50);
        }
        let before = content(&place);
        let salvage = place.salvage();
        assert_eq!(salvage.report().has_losses(), is_damaged);
        found(&salvage);
        drop(salvage);
        assert!(content(&place) == before, "something was written");
    }
}

#[test]
fn salvage_and_writers_keep_each_other_out_and_several_salvages_do_not() {
    let place = Place::new();
    let store = place.open();
    let locked = Salvage::open(place.store(), &BTreeMap::new());
    assert_eq!(locked.err().map(|error| error.kind()), Some(ErrorKind::Locked));
    store.close().unwrap();
    let (first, second) = (place.salvage(), place.salvage());
    let config = || Config::builder().build().unwrap();
    let locked = Store::open(place.store(), config());
    assert_eq!(locked.err().map(|error| error.kind()), Some(ErrorKind::Locked));
    drop((first, second));
    Store::open(place.store(), config()).unwrap().close().unwrap();
}

#[test]
fn what_is_no_store_cannot_be_salvaged() {
    let place = Place::new();
    let nothing = Salvage::open(place.store(), &BTreeMap::new());
    assert_eq!(nothing.err().map(|error| error.kind()), Some(ErrorKind::StoreNotFound));
    assert!(!place.store().exists());
    let dram = isotherm::config::Tier::dram("8MiB");
    let config = Config::builder().tier(dram).build().unwrap();
    Store::open(place.store(), config).unwrap().close().unwrap();
    let unsupported = Salvage::open(place.store(), &BTreeMap::new());
    assert_eq!(unsupported.err().map(|error| error.kind()), Some(ErrorKind::Unsupported));
}
