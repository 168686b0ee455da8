//! Attributes and scores of blobs: what keeps them, what they survive, and scans by them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod small_store;

use isotherm::config::{Config, Tier};
use isotherm::limits::ATTRIBUTES_MAX;
use isotherm::{
    AttributeChanges, AttributeValue, Batch, Bucket, Condition, Durability, ErrorKind, Order,
    PutOptions, Scope, Store,
};

use small_store::{crashed, open, value};

const LEVELS: [Durability; 3] = [Durability::Memory, Durability::Written, Durability::Durable];

/// Lengths of every shape: none, inline, one buffer, some, in pages.
const SHAPES: [usize; 5] = [0, 9000, 60_000, 100_000, 500_000];

fn changes(number: usize) -> AttributeChanges {
    AttributeChanges::new()
        .set("number", number as i64)
        .set("half", number as f64 / 2.0)
        .set("name", format!("blob {number}"))
        .score(number as f32 / 100.0)
}

fn has_changes(bucket: &Bucket, key: &[u8], number: usize) {
    let stat = bucket.stat(key).unwrap();
    assert_eq!((stat.score, stat.attributes), (Some(number as f32 / 100.0), 3));
    let expected: Vec<(String, AttributeValue)> = vec![
        ("half".into(), (number as f64 / 2.0).into()),
        ("name".into(), format!("blob {number}").into()),
        ("number".into(), (number as i64).into()),
    ];
    assert_eq!(bucket.attributes(key).unwrap(), expected);
}

#[test]
fn attributes_of_values_of_every_shape_and_level_are_found_after_close_and_crash() {
    for (number, level) in LEVELS.into_iter().enumerate() {
        let place = tempfile::tempdir().unwrap();
        let store = open(&place);
        let bucket = store.bucket("b").unwrap();
        for (shape, len) in SHAPES.into_iter().enumerate() {
            let key = [shape as u8];
            let put = bucket.put_with(&key, &value(shape, len), level.into()).unwrap();
            let set = bucket.set_attributes_with(&key, &changes(shape), level.into()).unwrap();
            assert!(set > put);
            assert_eq!(bucket.stat(&key).unwrap().version, set);
        }
        let check = |store: &Store| {
            let bucket = store.bucket("b").unwrap();
            for (shape, len) in SHAPES.into_iter().enumerate() {
                has_changes(&bucket, &[shape as u8], shape);
                assert!(bucket.get(&[shape as u8]).unwrap() == value(shape, len));
            }
        };
        check(&store);
        // Written at least, the values that only DRAM had included.
        check(&crashed(&place, number));
        store.close().unwrap();
        check(&open(&place));
    }
}

#[test]
fn every_change_of_the_value_keeps_them_at_every_level() {
    for level in LEVELS {
        let place = tempfile::tempdir().unwrap();
        let store = open(&place);
        let bucket = store.bucket("b").unwrap();
        for (shape, len) in SHAPES.into_iter().enumerate() {
            let (key, options) = ([shape as u8], || PutOptions::from(level));
            bucket.put_with(&key, &value(shape, len), options()).unwrap();
            bucket.set_attributes_with(&key, &changes(shape), options()).unwrap();
            bucket.put_at_with(&key, 10, b"there", options()).unwrap();
            has_changes(&bucket, &key, shape);
            bucket.append_with(&key, b"end", options()).unwrap();
            has_changes(&bucket, &key, shape);
            bucket.truncate_with(&key, len as u64 / 2 + 1, options()).unwrap();
            has_changes(&bucket, &key, shape);
            bucket.put_with(&key, &value(7, len), options()).unwrap();
            bucket.put_at_with(&key, 3, b"again", options()).unwrap();
            has_changes(&bucket, &key, shape);
        }
        store.flush(Scope::Store).unwrap();
        let check = |store: &Store| {
            let bucket = store.bucket("b").unwrap();
            (0..SHAPES.len()).for_each(|shape| has_changes(&bucket, &[shape as u8], shape));
        };
        check(&crashed(&place, 0));
        store.close().unwrap();
        check(&open(&place));
    }
}

#[test]
fn edits_of_large_values_keep_what_was_set_before_and_between_them() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let bucket = store.bucket("b").unwrap();
    bucket.put(b"k", &value(1, 500_000)).unwrap();
    for round in 0..6 {
        bucket.set_attribute(b"k", "round", round).unwrap();
        bucket.put_at(b"k", round as u64 * 70_000, &value(9, 100)).unwrap();
        let store = crashed(&place, round as usize);
        let bucket = store.bucket("b").unwrap();
        assert_eq!(bucket.attribute(b"k", "round").unwrap(), Some(round.into()));
    }
}

#[test]
fn a_deleted_blob_takes_them_along_at_every_level() {
    for level in LEVELS {
        let place = tempfile::tempdir().unwrap();
        let store = open(&place);
        let bucket = store.bucket("b").unwrap();
        bucket.put_with(b"k", b"first", level.into()).unwrap();
        bucket.set_attributes(b"k", &changes(1)).unwrap();
        bucket.delete_with(b"k", level.into()).unwrap();
        assert_eq!(bucket.attributes(b"k").unwrap_err().kind(), ErrorKind::NotFound);
        bucket.put_with(b"k", b"second", level.into()).unwrap();
        let check = |store: &Store| {
            let stat = store.bucket("b").unwrap().stat(b"k").unwrap();
            assert_eq!((stat.score, stat.attributes), (None, 0));
        };
        check(&store);
        store.flush(Scope::Store).unwrap();
        check(&crashed(&place, 0));
        store.close().unwrap();
        check(&open(&place));
    }
}

#[test]
fn copies_and_renames_carry_them_and_then_they_are_the_copys_own() {
    for level in LEVELS {
        let place = tempfile::tempdir().unwrap();
        let store = open(&place);
        let (a, b) = (store.bucket("a").unwrap(), store.bucket("b").unwrap());
        for (shape, len) in SHAPES.into_iter().enumerate() {
            let key = [shape as u8];
            a.put_with(&key, &value(shape, len), level.into()).unwrap();
            a.set_attributes(&key, &changes(shape)).unwrap();
            // The target had others.
            b.put(&key, b"before").unwrap();
            b.set_attribute(&key, "own", 1).unwrap();
            a.copy(&key, &b, &key, level.into()).unwrap();
            a.set_attributes(&key, &changes(50)).unwrap();
            a.rename(&key, &a, &[100 + shape as u8], level.into()).unwrap();
        }
        let check = |store: &Store| {
            let (a, b) = (store.bucket("a").unwrap(), store.bucket("b").unwrap());
            for shape in 0..SHAPES.len() {
                has_changes(&b, &[shape as u8], shape);
                has_changes(&a, &[100 + shape as u8], 50);
            }
        };
        check(&store);
        check(&crashed(&place, 0));
        store.close().unwrap();
        check(&open(&place));
    }
}

#[test]
fn a_change_adds_removes_and_replaces_and_one_of_nothing_makes_no_version() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let bucket = store.bucket("b").unwrap();
    bucket.put(b"k", b"v").unwrap();
    bucket.set_attribute(b"k", "a", 1).unwrap();
    bucket.set_attribute(b"k", "b", "text").unwrap();
    let version = bucket.set_attribute(b"k", "a", 1.5).unwrap();
    assert_eq!(bucket.attribute(b"k", "a").unwrap(), Some(1.5.into()));
    assert_eq!(bucket.set_attribute(b"k", "a", 1.5).unwrap(), version);
    assert_eq!(bucket.remove_attribute(b"k", "never").unwrap(), version);
    assert!(bucket.remove_attribute(b"k", "b").unwrap() > version);
    assert_eq!(bucket.attribute(b"k", "b").unwrap(), None);
    bucket.set_score(b"k", 1.0).unwrap();
    bucket.set_score(b"k", None).unwrap();
    bucket.remove_attribute(b"k", "a").unwrap();
    let stat = bucket.stat(b"k").unwrap();
    assert_eq!((stat.score, stat.attributes), (None, 0));
    assert_eq!(bucket.get(b"k").unwrap(), b"v");
    store.close().unwrap();
    assert_eq!(open(&place).bucket("b").unwrap().stat(b"k").unwrap(), stat);
}

#[test]
fn they_are_steps_of_batches_and_have_conditions() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let bucket = store.bucket("b").unwrap();
    bucket.put_with(b"dirty", &value(1, 40_000), Durability::Memory.into()).unwrap();
    let version = bucket.put(b"clean", b"v").unwrap();
    let mut batch = Batch::new();
    batch.set_attributes(&bucket, b"dirty", changes(1)).set_attributes(
        &bucket,
        b"clean",
        changes(2),
    );
    batch.when(Condition::Version(version)).put(&bucket, b"new", &b"n"[..]);
    store.commit(&batch, None).unwrap();
    let late = store.commit(&batch, None).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::VersionMismatch);
    let options = PutOptions::from(Condition::Version(version));
    let refused = bucket.set_attributes_with(b"clean", &changes(3), options).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::VersionMismatch);
    let store = crashed(&place, 0);
    let bucket = store.bucket("b").unwrap();
    has_changes(&bucket, b"dirty", 1);
    has_changes(&bucket, b"clean", 2);
    assert!(bucket.get(b"dirty").unwrap() == value(1, 40_000));
}

#[test]
fn a_value_in_dram_stays_there_when_attributes_change() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let bucket = store.bucket("b").unwrap();
    bucket.put(b"k", &value(1, 5000)).unwrap();
    bucket.set_attribute(b"k", "a", 1).unwrap();
    let misses = store.stats().dram_misses;
    assert!(bucket.get(b"k").unwrap() == value(1, 5000));
    assert_eq!(store.stats().dram_misses, misses);
}

#[test]
fn they_count_in_the_memory_budget_until_they_are_gone() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let bucket = store.bucket("b").unwrap();
    bucket.put(b"k", b"v").unwrap();
    let used = || store.stats().memory.index;
    let before = used();
    bucket.set_attribute(b"k", "text", "t".repeat(1000)).unwrap();
    assert!(used() >= before + 1000);
    bucket.put(b"k", b"other").unwrap();
    assert!(used() >= before + 1000);
    bucket.remove_attribute(b"k", "text").unwrap();
    assert_eq!(used(), before);
}

#[test]
fn scans_find_those_that_have_it_in_the_order_of_its_values() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let bucket = store.bucket("b").unwrap();
    for number in 0..1000i64 {
        let key = (number * 7919 % 1000).to_be_bytes();
        bucket.put_with(&key, &[0; 3], Durability::Memory.into()).unwrap();
        if number % 3 != 0 {
            bucket.set_attribute(&key, "n", number % 100).unwrap();
        }
    }
    bucket.put(b"text", b"").unwrap();
    bucket.set_attribute(b"text", "n", "zebra").unwrap();
    let mut ascending = bucket.scan_by("n", .., Order::Ascending).unwrap();
    let mut items = Vec::new();
    loop {
        let page = ascending.next_page(37).unwrap();
        if page.is_empty() {
            break;
        }
        items.extend(page);
    }
    assert_eq!(items.len(), 667);
    assert_eq!((&*items[666].key, &items[666].value), (&b"text"[..], &"zebra".into()));
    let rank = |item: &isotherm::AttributeItem| item.value.clone();
    assert!(items.windows(2).all(|two| rank(&two[0]).order(&rank(&two[1])).is_le()));
    let descending: Vec<_> =
        bucket.scan_by("n", .., Order::Descending).unwrap().map(Result::unwrap).collect();
    items.reverse();
    assert!(descending == items);
    let few = AttributeValue::from(10)..AttributeValue::from(11.5);
    let found: Vec<_> = bucket.scan_by("n", few, Order::Ascending).unwrap().collect();
    assert!(found.iter().all(|item| {
        let value = &item.as_ref().unwrap().value;
        [10.into(), 11.into()].contains(value)
    }));
    assert_eq!(found.len(), 14);
    assert_eq!(bucket.scan_by("none", .., Order::Ascending).unwrap().count(), 0);
}

#[test]
fn what_no_blob_can_have_is_refused_and_nothing_changes() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let bucket = store.bucket("b").unwrap();
    bucket.put(b"k", b"v").unwrap();
    let version = bucket.set_attribute(b"k", "kept", 1).unwrap();
    let refused = |changes: AttributeChanges, kind: ErrorKind, says: &str| {
        let error = bucket.set_attributes(b"k", &changes).unwrap_err();
        assert!(error.kind() == kind && error.message().contains(says), "{error}");
        assert_eq!(bucket.stat(b"k").unwrap().version, version);
    };
    let (wrong, new) = (ErrorKind::InvalidArgument, AttributeChanges::new);
    refused(new().set("", 1), wrong, "1 to 64 bytes");
    refused(new().remove(&"n".repeat(65)), wrong, "65");
    refused(new().set("x", f64::NAN), wrong, "\"x\"");
    refused(new().set("x", "t".repeat(1025)), wrong, "1025");
    refused(new().score(1.01), wrong, "1.01");
    refused(new().score(-0.5), wrong, "-0.5");
    let many = (0..ATTRIBUTES_MAX).fold(new(), |all, n| all.set(&format!("a{n}"), 0));
    refused(many, ErrorKind::LimitExceeded, "64");
    let large = (0..4).fold(new(), |all, n| all.set(&n.to_string(), "t".repeat(1024)));
    refused(large, ErrorKind::LimitExceeded, "4096");
    let missing = bucket.set_attribute(b"gone", "a", 1).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert_eq!(bucket.attribute(b"gone", "a").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(bucket.set_attribute(b"", "a", 1).unwrap_err().kind(), wrong);
    assert!(bucket.scan_by("", .., Order::Ascending).is_err());
}

#[test]
fn a_store_of_dram_alone_says_that_it_keeps_none() {
    let place = tempfile::tempdir().unwrap();
    let config = Config::builder().tier(Tier::dram("8MiB")).shards(1).build().unwrap();
    let store = Store::open(place.path().join("store"), config).unwrap();
    let bucket = store.bucket("b").unwrap();
    bucket.put(b"k", b"v").unwrap();
    let refused = bucket.set_attribute(b"k", "a", 1).unwrap_err();
    assert!(refused.kind() == ErrorKind::Unsupported, "{refused}");
    assert_eq!(bucket.attributes(b"k").unwrap(), []);
}
