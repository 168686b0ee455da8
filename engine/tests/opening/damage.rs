//! Rot and read errors in the log and in what it names.

use isotherm::{Durability, ErrorKind};

use crate::{Place, config, damage, refused, value};

#[test]
fn an_old_buffer_that_rots_does_not_take_later_changes_with_it() {
    let place = Place::new();
    let store = place.open(config());
    let bucket = store.bucket("b").unwrap();
    bucket.put_with(b"old", &value(1), Durability::Durable.into()).unwrap();
    let buffer = bucket.locate(b"old").unwrap()[0].clone();
    // The record of this defines the old buffer once more, as a part of a map.
    bucket.append_with(b"old", b"more", Durability::Written.into()).unwrap();
    assert_eq!(bucket.locate(b"old").unwrap()[0].buffer, buffer.buffer);
    bucket.put_with(b"late", b"value", Durability::Written.into()).unwrap();
    let crashed = place.after_a_crash();
    store.close().unwrap();
    let tier = buffer.tier.unwrap().index();
    damage(&crashed.file(tier), buffer.device_offset.unwrap() + 5000);
    let store = crashed.open(config());
    let bucket = store.open_bucket("b").unwrap();
    assert_eq!(bucket.get(b"late").unwrap(), b"value");
    assert_eq!(bucket.stat(b"old").unwrap().len, 1_000_004);
    refused(bucket.get(b"old"), ErrorKind::Corrupt, &["\"old\""]);
    store.close().unwrap();
}

#[test]
fn a_payload_of_the_log_that_cannot_be_read_fails_only_its_blob() {
    let place = Place::new();
    let store = place.open(config());
    let bucket = store.bucket("b").unwrap();
    for number in 0..30u8 {
        bucket.put_with(&[number], &[number; 16 << 10], Durability::Durable.into()).unwrap();
    }
    let bad = bucket.locate(&[15]).unwrap()[0].device_offset.unwrap();
    store.close().unwrap();
    let store = place.open_faulty([bad..bad + 4096, 0..0], i64::MAX).unwrap();
    let bucket = store.open_bucket("b").unwrap();
    for number in (0..30u8).filter(|number| *number != 15) {
        assert_eq!(bucket.get(&[number]).unwrap(), [number; 16 << 10]);
    }
    refused(bucket.get(&[15]), ErrorKind::Io, &["tier 0"]);
    store.close().unwrap();
}
