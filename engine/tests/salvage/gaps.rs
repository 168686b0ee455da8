//! A log with a batch that cannot be read: what stands before it, in it, and behind it.

use std::fs;
use std::time::Duration;

use isotherm::limits::INLINE_MAX;
use isotherm::log::record::Record;
use isotherm::log::superblock::SUPERBLOCK_SLOTS;
use isotherm::types::BatchSeq;
use isotherm::{AttributeChanges, Config, Doubt, Durability, ErrorKind, Standing, Store};

use crate::{Place, doubted, found, overwrite};

const KEYS: u8 = 10;

fn value(number: u8) -> Vec<u8> {
    vec![number; 3000 * usize::from(number + 1)]
}

/// A store of three buckets, each change of it in a batch of its own: of "late" nothing is older than
/// blob 5 of "early".
fn filled() -> Place {
    let place = Place::new();
    let store = place.open();
    let early = store.bucket("early").unwrap();
    let durable = || Durability::Durable.into();
    early.put_with(b"edited", b"first", durable()).unwrap();
    early.put_with(b"changed", b"first", durable()).unwrap();
    for number in 0..KEYS {
        early.put_with(&[number], &value(number), durable()).unwrap();
    }
    let late = store.bucket("late").unwrap();
    late.put_with(b"k", b"late value", durable()).unwrap();
    late.set_attributes(b"k", &AttributeChanges::new().set("n", 7).score(0.5)).unwrap();
    early.set_attribute(b"edited", "n", 1).unwrap();
    store.close().unwrap();
    place
}

/// Damages the batch with the Put of this key. Its number.
fn damage_put(place: &Place, wanted: &[u8]) -> BatchSeq {
    let is_it = |record: &Record| matches!(record, Record::Put { key, .. } if **key == *wanted);
    let log = place.log();
    let (offset, batch) = log.iter().find(|(_, batch)| batch.records().any(is_it)).unwrap();
    overwrite(&place.file("nvme0.tier"), offset + 100, 8);
    batch.identity.seq
}

fn refused_by_strict(place: &Place) {
    let opened = Store::open(place.store(), Config::builder().build().unwrap());
    let Err(error) = opened else { panic!("strict opens it") };
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
}

/// Salvages the store without the batch that has this blob of "early".
fn salvage_without(lost: u8) {
    let place = filled();
    let batch = damage_put(&place, &[lost]);
    refused_by_strict(&place);
    let salvage = place.salvage();
    let report = salvage.report();
    assert_eq!(report.log.gaps, [batch.0..=batch.0]);
    assert_eq!(report.log.end_unknown, None);
    assert!(report.has_losses() && report.lost.is_empty());
    let blobs = found(&salvage);
    let blob = |bucket: &str, key: &[u8]| blobs.get(&(bucket.to_owned(), key.to_vec())).cloned();
    for number in 0..KEYS {
        let expected = match number {
            _ if number < lost => doubted(Doubt::LostBatches, &value(number)),
            _ if number > lost => doubted(Doubt::BucketInDoubt, &value(number)),
            // A large value lies in a segment, whose summary names it; a small one was in the batch.
            _ if value(lost).len() > INLINE_MAX => doubted(Doubt::Scanned, &value(lost)),
            _ => None,
        };
        assert!(blob("early", &[number]) == expected, "blob {number} without {lost}");
    }
    let late = (Standing::Current, Some(b"late value".to_vec()));
    assert_eq!(blob("late", b"k"), Some(late));
    let k = salvage.blobs().find(|blob| blob.bucket == "late").unwrap();
    assert_eq!((k.score(), k.attributes()), (Some(0.5), vec![("n".to_owned(), 7.into())]));
    // A change of exactly the version that is at hand: nothing lies between.
    assert_eq!(blob("early", b"edited"), doubted(Doubt::BucketInDoubt, b"first"));
    assert_eq!((report.current, report.current + report.maybe_stale), (1, blobs.len() as u64));
}

#[test]
fn what_is_known_behind_a_lost_batch_is_current_and_what_is_older_is_in_doubt() {
    for lost in [2, 7] {
        salvage_without(lost);
    }
}

#[test]
fn a_change_of_a_version_that_is_lost_is_told_and_the_older_one_is_not_current() {
    let place = filled();
    let store = place.open();
    let early = store.open_bucket("early").unwrap();
    early.put_with(b"changed", b"second", Durability::Durable.into()).unwrap();
    early.set_attribute(b"changed", "n", 1).unwrap();
    store.close().unwrap();
    let is_it = |record: &Record| matches!(record, Record::Put { key, .. } if **key == *b"changed");
    let log = place.log();
    let (offset, _) = log.iter().rfind(|(_, batch)| batch.records().any(is_it)).unwrap();
    overwrite(&place.file("nvme0.tier"), offset + 100, 8);
    refused_by_strict(&place);
    let salvage = place.salvage();
    let [lost] = &salvage.report().lost[..] else { panic!("{:?}", salvage.report()) };
    assert_eq!((lost.bucket.as_str(), &*lost.key), ("early", &b"changed"[..]));
    let blobs = found(&salvage);
    let name = ("early".to_owned(), b"changed".to_vec());
    assert_eq!(blobs.get(&name).cloned(), doubted(Doubt::Superseded, b"first"));
}

#[test]
fn a_value_that_is_lost_in_part_says_which_part() {
    let place = Place::new();
    let store = place.open();
    let bytes: Vec<u8> = (0..200_000u32).map(|at| (at >> 3) as u8).collect();
    let bucket = store.bucket("b").unwrap();
    bucket.put(b"k", &bytes).unwrap();
    bucket.truncate(b"k", 300_000).unwrap();
    store.flush(isotherm::Scope::Store).unwrap();
    let at = bucket.locate(b"k").unwrap()[0].device_offset.unwrap();
    store.close().unwrap();
    overwrite(&place.file("nvme0.tier"), at + 40_000, 8);
    let salvage = place.salvage();
    let blob = salvage.blobs().next().unwrap();
    assert_eq!(blob.standing, Standing::Current);
    let mut pieces = Vec::new();
    let mut at = 0usize;
    let Ok(()) = salvage.read(&blob, &mut |piece| -> Result<(), std::convert::Infallible> {
        let (what, len) = match piece {
            isotherm::Piece::Bytes(part) => {
                assert!(bytes[at..].starts_with(part));
                ("bytes", part.len())
            }
            isotherm::Piece::Hole(len) => ("hole", len as usize),
            isotherm::Piece::Unreadable { len, why } => {
                assert!(why.contains("checksum"), "{why}");
                ("unreadable", len as usize)
            }
        };
        pieces.push((what, at, len));
        at += len;
        Ok(())
    });
    let block = 16 << 10;
    assert_eq!(
        pieces,
        [
            ("bytes", 0, 2 * block),
            ("unreadable", 2 * block, block),
            ("bytes", 3 * block, 200_000 - 3 * block),
            ("hole", 200_000, 100_000),
        ]
    );
}

#[test]
fn without_any_superblock_the_log_is_found_by_the_headers_of_its_segments() {
    let place = filled();
    for at in SUPERBLOCK_SLOTS {
        overwrite(&place.file("nvme0.tier"), at, 4096);
    }
    let opened = Store::open(place.store(), Config::builder().build().unwrap());
    assert!(opened.is_err());
    let salvage = place.salvage();
    assert!(salvage.report().log.end_unknown.is_some());
    let blobs = found(&salvage);
    assert_eq!(blobs.len(), usize::from(KEYS) + 3);
    for number in 0..KEYS {
        let name = ("early".to_owned(), vec![number]);
        let expected = doubted(Doubt::LostBatches, &value(number));
        assert_eq!(blobs.get(&name).cloned(), expected, "{number}");
    }
}

#[test]
fn a_change_whose_data_did_not_land_is_none_as_it_is_for_a_strict_open() {
    let place = Place::new();
    let store = place.open();
    let bucket = store.bucket("b").unwrap();
    bucket.put_with(b"k", b"before", Durability::Durable.into()).unwrap();
    // The log is marked by then: nothing later is flushed.
    std::thread::sleep(Duration::from_millis(100));
    bucket.put_with(b"k", &value(9), Durability::Written.into()).unwrap();
    let data = bucket.locate(b"k").unwrap()[0].device_offset.unwrap();
    let crashed = Place::new();
    fs::create_dir(crashed.store()).unwrap();
    for name in ["STORE", "nvme0.tier"] {
        fs::copy(place.file(name), crashed.file(name)).unwrap();
    }
    store.close().unwrap();
    let name = ("b".to_owned(), b"k".to_vec());
    let landed = found(&crashed.salvage());
    assert!(landed[&name] == (Standing::Current, Some(value(9))));
    overwrite(&crashed.file("nvme0.tier"), data, 8);
    let salvage = crashed.salvage();
    let blobs = found(&salvage);
    assert_eq!(blobs[&name], (Standing::Current, Some(b"before".to_vec())));
    drop(salvage);
    let store = crashed.open();
    assert_eq!(store.open_bucket("b").unwrap().get(b"k").unwrap(), b"before");
    store.close().unwrap();
}
