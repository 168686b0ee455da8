//! Calls with wrong arguments, at the wrong time, or of a store that cannot serve them.

use isotherm::config::{Config, Tier};
use isotherm::limits::{BUCKET_NAME_LEN_MAX, KEY_LEN_MAX, VALUE_LEN_MAX};
use isotherm::{BucketOptions, Durability, ErrorKind, PutOptions, ScanRange, Scope, Store};

use crate::{Place, expect};

#[test]
fn every_call_of_a_closed_store_says_closed() {
    let place = Place::new();
    let store = place.open();
    let bucket = store.bucket("b").unwrap();
    bucket.put(b"k", b"v").unwrap();
    let mut cursor = bucket.scan(ScanRange::all());
    store.close().unwrap();
    store.close().unwrap();
    let closed = ErrorKind::Closed;
    expect(bucket.put(b"k", b"w"), closed, &[]);
    expect(bucket.put_with(b"k", b"w", Durability::Memory.into()), closed, &[]);
    expect(bucket.put_at(b"k", 0, b"w"), closed, &[]);
    expect(bucket.append(b"k", b"w"), closed, &[]);
    expect(bucket.truncate(b"k", 0), closed, &[]);
    expect(bucket.delete(b"k"), closed, &[]);
    expect(bucket.get(b"k"), closed, &[]);
    expect(bucket.get_into(b"k", &mut [0; 9]), closed, &[]);
    expect(bucket.get_at(b"k", 0, &mut [0; 9]), closed, &[]);
    expect(bucket.stat(b"k"), closed, &[]);
    expect(bucket.exists(b"k"), closed, &[]);
    expect(bucket.bucket_stat(), closed, &[]);
    expect(bucket.locate(b"k"), closed, &[]);
    expect(cursor.next_page(10), closed, &[]);
    expect(store.create_bucket("c", BucketOptions::default()).map(drop), closed, &[]);
    expect(store.open_bucket("b").map(drop), closed, &[]);
    expect(store.destroy_bucket("b"), closed, &[]);
    expect(store.list_buckets(), closed, &[]);
    expect(store.flush(Scope::Store), closed, &[]);
}

#[test]
fn names_that_are_empty_or_too_long_are_refused_and_the_longest_allowed_is_not() {
    let place = Place::new();
    let store = place.open();
    let bucket = store.bucket("b").unwrap();
    let wrong = ErrorKind::InvalidArgument;
    let long = vec![b'k'; KEY_LEN_MAX + 1];
    for key in [&b""[..], &long] {
        let length = key.len().to_string();
        let says = ["1024", &length];
        expect(bucket.put(key, b"v"), wrong, &says);
        expect(bucket.put_with(key, b"v", Durability::Memory.into()), wrong, &says);
        expect(bucket.put_at(key, 0, b"v"), wrong, &says);
        expect(bucket.append(key, b"v"), wrong, &says);
        expect(bucket.truncate(key, 0), wrong, &says);
        expect(bucket.delete(key), wrong, &says);
        expect(bucket.get(key), wrong, &says);
        expect(bucket.get_into(key, &mut [0; 9]), wrong, &says);
        expect(bucket.get_at(key, 0, &mut [0; 9]), wrong, &says);
        expect(bucket.stat(key), wrong, &says);
        expect(bucket.exists(key), wrong, &says);
        expect(bucket.locate(key), wrong, &says);
    }
    bucket.put(&long[..KEY_LEN_MAX], b"v").unwrap();
    assert_eq!(bucket.get(&long[..KEY_LEN_MAX]).unwrap(), b"v");
    let long = "n".repeat(BUCKET_NAME_LEN_MAX + 1);
    for name in ["", &long] {
        expect(store.create_bucket(name, BucketOptions::default()).map(drop), wrong, &["255"]);
        expect(store.open_bucket(name).map(drop), wrong, &["255"]);
        expect(store.bucket(name).map(drop), wrong, &["255"]);
        expect(store.destroy_bucket(name), wrong, &["255"]);
    }
    store.bucket(&long[..BUCKET_NAME_LEN_MAX]).unwrap();
}

#[test]
fn names_of_nothing_are_told_apart_from_wrong_names() {
    let place = Place::new();
    let store = place.open();
    let bucket = store.bucket("b").unwrap();
    expect(bucket.get(b"k"), ErrorKind::NotFound, &["k", "b"]);
    expect(bucket.get_into(b"k", &mut []), ErrorKind::NotFound, &[]);
    expect(bucket.get_at(b"k", 0, &mut []), ErrorKind::NotFound, &[]);
    for level in [Durability::Memory, Durability::Written] {
        let options = PutOptions::from(level);
        expect(bucket.delete_with(b"k", options), ErrorKind::NotFound, &[]);
        expect(bucket.truncate_with(b"k", 9, options), ErrorKind::NotFound, &[]);
    }
    assert!(!bucket.exists(b"k").unwrap());
    expect(store.open_bucket("c").map(drop), ErrorKind::BucketNotFound, &["c"]);
    expect(store.destroy_bucket("c"), ErrorKind::BucketNotFound, &["c"]);
    expect(store.flush(Scope::Bucket("c")), ErrorKind::BucketNotFound, &["c"]);
    expect(
        store.create_bucket("b", BucketOptions::default()).map(drop),
        ErrorKind::BucketExists,
        &["b"],
    );
}

#[test]
fn buffer_sizes_of_buckets_follow_the_rule_of_stores() {
    let place = Place::new();
    let store = place.open();
    let make = |size| {
        let options = BucketOptions { buffer_size: Some(size), ..BucketOptions::default() };
        store.create_bucket(&format!("b{size}"), options)
    };
    for size in [0, 48 << 10, 100_000, (64 << 10) + 4096, 2 << 20] {
        let says = ["buffer_size", "16KiB", "64KiB to 1MiB"];
        expect(make(size).map(drop), ErrorKind::InvalidArgument, &says);
        let configured = Config::builder().buffer_size(u64::from(size)).build();
        expect(configured, ErrorKind::InvalidConfig, &says);
    }
    // Not a power of two.
    let bucket = make(80 << 10).unwrap();
    let value = vec![3; 300_000];
    bucket.put(b"k", &value).unwrap();
    bucket.put_at(b"k", 150_000, &[4; 100_000]).unwrap();
    let found = bucket.get(b"k").unwrap();
    assert!(found[..150_000] == value[..150_000] && found[150_000..250_000] == [4; 100_000]);
    Config::builder().buffer_size("80KiB").build().unwrap();
}

#[test]
fn offsets_and_lengths_beyond_the_largest_value_are_refused_and_nothing_changes() {
    let place = Place::new();
    let store = place.open();
    let bucket = store.bucket("b").unwrap();
    bucket.put(b"k", b"value").unwrap();
    let wrong = ErrorKind::InvalidArgument;
    for level in [Durability::Memory, Durability::Written, Durability::Durable] {
        let options = PutOptions::from(level);
        for at in [u64::MAX, u64::MAX - 1, VALUE_LEN_MAX, VALUE_LEN_MAX - 1] {
            expect(bucket.put_at_with(b"k", at, b"xyz", options), wrong, &[&at.to_string()]);
            expect(bucket.put_at_with(b"new", at, b"xyz", options), wrong, &[]);
        }
        expect(bucket.truncate_with(b"k", VALUE_LEN_MAX + 1, options), wrong, &[]);
        expect(bucket.truncate_with(b"k", u64::MAX, options), wrong, &[]);
        // As long as may be: nothing but holes.
        bucket.truncate_with(b"k", VALUE_LEN_MAX, options).unwrap();
        expect(bucket.append_with(b"k", b"x", options), wrong, &[]);
        assert_eq!(bucket.stat(b"k").unwrap().len, VALUE_LEN_MAX);
        bucket.truncate_with(b"k", 5, options).unwrap();
    }
    assert!(!bucket.exists(b"new").unwrap());
    assert_eq!(bucket.get(b"k").unwrap(), b"value");
    let mut piece = [1; 4];
    assert_eq!(bucket.get_at(b"k", u64::MAX, &mut piece).unwrap(), 0);
    assert_eq!(bucket.get_at(b"k", 3, &mut piece).unwrap(), 2);
    assert_eq!(piece, *b"ue\x01\x01");
}

#[test]
fn a_value_that_memory_cannot_hold_is_refused_and_readable_in_pieces() {
    let place = Place::new();
    let store = place.open();
    let bucket = store.bucket("b").unwrap();
    bucket.put_at(b"k", VALUE_LEN_MAX - 1, b"x").unwrap();
    expect(bucket.get(b"k"), ErrorKind::NoMemory, &["get_at"]);
    let mut end = [7; 3];
    assert_eq!(bucket.get_at(b"k", VALUE_LEN_MAX - 3, &mut end).unwrap(), 3);
    assert_eq!(end, *b"\0\0x");
}

#[test]
fn a_buffer_that_is_too_small_is_told_the_needed_size() {
    let place = Place::new();
    let store = place.open();
    let bucket = store.bucket("b").unwrap();
    for (level, len) in
        [(Durability::Memory, 1000), (Durability::Written, 1000), (Durability::Written, 3 << 20)]
    {
        bucket.put_with(b"k", &vec![5; len], level.into()).unwrap();
        for room in [0, 1, len - 1] {
            let got = bucket.get_into(b"k", &mut vec![0; room]);
            let error = expect(got, ErrorKind::BufferTooSmall, &[&len.to_string()]);
            assert_eq!(error.needed(), Some(len as u64));
        }
        assert_eq!(bucket.get_into(b"k", &mut vec![0; len + 1]).unwrap(), len);
    }
}

#[test]
fn a_store_of_dram_alone_refuses_what_it_cannot_promise() {
    let place = Place::new();
    let config = || Config::builder().tier(Tier::dram("8MiB")).build().unwrap();
    let store = Store::open(place.store(), config()).unwrap();
    let bucket = store.bucket("b").unwrap();
    bucket.put(b"k", b"v").unwrap();
    for level in [Durability::Written, Durability::Durable] {
        expect(bucket.put_with(b"k", b"w", level.into()), ErrorKind::Unsupported, &["DRAM"]);
    }
    expect(store.flush(Scope::Store), ErrorKind::Unsupported, &["DRAM"]);
    expect(bucket.put(b"large", &vec![0; 16 << 20]), ErrorKind::NoSpace, &["DRAM"]);
    assert_eq!(bucket.get(b"k").unwrap(), b"v");
}
