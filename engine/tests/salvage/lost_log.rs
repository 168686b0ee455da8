//! The log's tier is gone: what the copy of the last checkpoint on the next tier names, and what lies
//! there, comes back.

use std::collections::BTreeMap;
use std::fs;

use isotherm::config::{Config, Tier};
use isotherm::{Doubt, ErrorKind, Salvage, Scope, Standing, Store};

use crate::{Place, found, superblock};

const KEYS: u32 = 60;
/// About as many puts as a rotation of checkpoints takes.
const PUTS: u32 = 1500;

fn config() -> Config {
    // Whatever lies on the first tier is soon moved to the second.
    Config::builder()
        .tier(Tier::dram("8MiB"))
        .tier(Tier::nvme("256MiB").watermarks(0.01, 0.02))
        .tier(Tier::hdd("256MiB"))
        .shards(1)
        .build()
        .unwrap()
}

fn value(round: u32, number: u32) -> Vec<u8> {
    (0..200_000u32).map(|at| (at.wrapping_mul(number + 3) >> 4) as u8 ^ round as u8).collect()
}

/// Puts until a copy of a checkpoint has been made that is younger than what was put before.
fn churn(place: &Place, store: Store) {
    let is_newer = |than: u64| {
        let copy = superblock(&place.file("hdd0.tier")).checkpoint;
        copy.is_some_and(|copy| copy.seq.0 > than)
    };
    let mut store = store;
    let w = superblock(&place.file("nvme0.tier")).watermark.0;
    for round in 0..40 {
        let bucket = store.bucket("churn").unwrap();
        for number in 0..PUTS {
            bucket.put(&(number % 50).to_le_bytes(), &vec![round; 9000]).unwrap();
        }
        store.close().unwrap();
        let root = superblock(&place.file("hdd0.tier")).checkpoint;
        if is_newer(w + u64::from(PUTS)) && root.is_some() && round > 1 {
            return;
        }
        store = Store::open(place.store(), config()).unwrap();
    }
    panic!("no copy of a checkpoint is made");
}

#[test]
fn blobs_of_the_copied_checkpoint_come_back_from_the_second_tier_and_none_is_called_current() {
    let place = Place::new();
    let store = Store::open(place.store(), config()).unwrap();
    let bucket = store.bucket("kept").unwrap();
    for number in 0..KEYS {
        bucket.put(&number.to_le_bytes(), &value(0, number)).unwrap();
    }
    store.flush(Scope::Store).unwrap();
    store.compact().unwrap();
    churn(&place, store);
    let store = Store::open(place.store(), config()).unwrap();
    let bucket = store.open_bucket("kept").unwrap();
    let on_second = |number: &u32| {
        let places = bucket.locate(&number.to_le_bytes()).unwrap();
        places.iter().all(|place| place.tier.is_some_and(|tier| tier.index() == 1))
    };
    let moved: Vec<u32> = (0..KEYS).filter(on_second).collect();
    assert!(moved.len() > 10, "{} blobs are on the second tier", moved.len());
    store.close().unwrap();

    fs::remove_file(place.file("nvme0.tier")).unwrap();
    let strict = Store::open(place.store(), config());
    assert_eq!(strict.err().map(|error| error.kind()), Some(ErrorKind::TierMissing));
    let salvage = place.salvage();
    let report = salvage.report();
    assert!(report.tiers[0].lost.is_some() && report.tiers[1].superblocks == 2, "{report:?}");
    assert!(report.checkpoint.copied == 256 && report.log.end_unknown.is_some(), "{report:?}");
    assert_eq!((report.current, report.log.batches), (0, 0));
    let blobs = found(&salvage);
    for number in 0..KEYS {
        let name = ("kept".to_owned(), number.to_le_bytes().to_vec());
        let (standing, read) = &blobs[&name];
        assert_eq!(*standing, Standing::MaybeStale(Doubt::LostBatches));
        match read {
            Some(read) => assert!(*read == value(0, number), "blob {number} is another"),
            None => assert!(!moved.contains(&number), "blob {number} lies on the second tier"),
        }
    }
    println!("{} of {KEYS} blobs lay on the second tier, {} came back whole", moved.len(), {
        blobs.iter().filter(|((bucket, _), (_, read))| bucket == "kept" && read.is_some()).count()
    });
}

#[test]
fn a_tier_that_lies_elsewhere_is_found_where_it_is_said_to_be() {
    let place = Place::new();
    let store = place.open();
    store.bucket("b").unwrap().put(b"k", b"value").unwrap();
    store.close().unwrap();
    let elsewhere = place.store().with_file_name("elsewhere");
    fs::rename(place.file("nvme0.tier"), &elsewhere).unwrap();
    assert_eq!(place.salvage().blobs().count(), 0);
    let moved = BTreeMap::from([(0, elsewhere)]);
    let salvage = Salvage::open(place.store(), &moved).unwrap();
    assert!(!salvage.report().has_losses());
    let blobs = found(&salvage);
    let expected = (Standing::Current, Some(b"value".to_vec()));
    assert_eq!(blobs.into_values().collect::<Vec<_>>(), [expected]);
    let none = Salvage::open(place.store(), &BTreeMap::from([(1, "x".into())]));
    assert_eq!(none.err().map(|error| error.kind()), Some(ErrorKind::InvalidArgument));
}
