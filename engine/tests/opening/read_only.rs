//! Stores that are only read.

use std::collections::BTreeMap;

use isotherm::config::{ConfigBuilder, IoChoice};
use isotherm::{Durability, ErrorKind, ScanRange, Scope};

use crate::{Place, config, key, refused, value};

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
