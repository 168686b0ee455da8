//! Opens that end before the new epoch has begun everywhere.

use isotherm::Durability;

use crate::{Place, config, value};

/// More writes than an open makes before its engine runs.
const WRITES: i64 = 14;

#[test]
fn an_open_that_is_interrupted_at_any_of_its_writes_is_followed_by_a_good_one() {
    let place = Place::new();
    let store = place.open(config());
    let bucket = store.bucket("b").unwrap();
    bucket.put(b"early", &value(1)).unwrap();
    store.close().unwrap();
    let store = place.open(config());
    let bucket = store.open_bucket("b").unwrap();
    bucket.put_with(b"late", b"value", Durability::Durable.into()).unwrap();
    let crashed = place.after_a_crash();
    store.close().unwrap();
    // What was closed, and what a crash has left.
    for left in [&place, &crashed] {
        for writes in 0..WRITES {
            let copy = left.after_a_crash();
            for writes in [writes, WRITES - writes] {
                // Once the engine runs it may have been opened, to fail later.
                drop(copy.open_faulty([0..0, 0..0], writes));
            }
            let store = copy.open(config());
            let bucket = store.open_bucket("b").unwrap();
            assert!(bucket.get(b"early").unwrap() == value(1), "after {writes} writes");
            assert_eq!(bucket.get(b"late").unwrap(), b"value", "after {writes} writes");
            bucket.put_with(b"new", b"value", Durability::Durable.into()).unwrap();
            store.close().unwrap();
        }
    }
}
