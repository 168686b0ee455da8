//! Space of what was deleted, given back when somebody asks for it.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use isotherm::config::{Config, Tier};
use isotherm::{Bucket, ErrorKind, Scope, Store};

const SEGMENT: u64 = 4 << 20;

fn open(place: &tempfile::TempDir) -> Store {
    let config = Config::builder().tier(Tier::dram("8MiB")).tier(Tier::nvme("128MiB")).shards(2);
    let config = config.buffer_size("64KiB").page_extents(4).build().unwrap();
    Store::open(place.path().join("store"), config).unwrap()
}

fn used(store: &Store) -> u64 {
    let stats = store.stats();
    stats.tiers[0].used
}

fn value(seed: u32, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u32 * 31 + (at >> 8) as u32 + seed) as u8).collect()
}

fn put_all(bucket: &Bucket, count: u32, len: usize) {
    for n in 0..count {
        bucket.put(&n.to_le_bytes(), &value(n, len)).unwrap();
    }
}

#[test]
fn what_was_deleted_is_free_after_it_and_the_rest_is_as_it_was() {
    // In the log, in segments, in extent pages.
    for (count, len) in [(6_000, 5_000), (600, 50_000), (60, 500_000)] {
        let place = tempfile::tempdir().unwrap();
        let store = open(&place);
        let bucket = store.bucket("b").unwrap();
        let empty = used(&store);
        put_all(&bucket, count, len);
        let full = used(&store);
        (0..count).filter(|n| n % 10 > 0).for_each(|n| bucket.delete(&n.to_le_bytes()).unwrap());
        let report = store.compact().unwrap();
        let after = used(&store);
        assert_eq!(report.tiers[0].used, after);
        assert!(report.tiers[0].freed > 0, "{report:?}");
        let live = store.stats().tiers[0].live;
        // Log made ready ahead, and the segments that moves go to.
        let most = empty + live + 7 * SEGMENT;
        assert!(
            after <= most && after < full,
            "{len}: {empty}, then {full}, now {after} of {most}"
        );
        let check = |bucket: &Bucket| {
            let left = (0..count).filter(|n| n % 10 == 0);
            left.for_each(|n| assert!(bucket.get(&n.to_le_bytes()).unwrap() == value(n, len)));
        };
        check(&bucket);
        assert_eq!(store.stats().notes, Vec::<String>::new());
        store.close().unwrap();
        check(&open(&place).open_bucket("b").unwrap());
    }
}

#[test]
fn it_ends_while_others_write_and_delete_and_a_second_one_finds_little() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place);
    let bucket = store.bucket("b").unwrap();
    put_all(&bucket, 300, 60_000);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..300u32 {
                bucket.put(b"busy", &value(n, 70_000)).unwrap();
                bucket.delete(&n.to_le_bytes()).unwrap();
            }
        });
        let both = [scope.spawn(|| store.compact()), scope.spawn(|| store.compact())];
        both.into_iter().for_each(|one| drop(one.join().unwrap().unwrap()));
    });
    store.compact().unwrap();
    let again = store.compact().unwrap();
    assert!(again.tiers[0].freed <= 2 * SEGMENT, "{again:?}");
    store.flush(Scope::Store).unwrap();
}

#[test]
fn where_nothing_can_be_compacted_that_is_said() {
    let place = tempfile::tempdir().unwrap();
    let config = Config::builder().tier(Tier::dram("8MiB")).build().unwrap();
    let store = Store::open(place.path().join("store"), config).unwrap();
    assert_eq!(store.compact().unwrap_err().kind(), ErrorKind::Unsupported);
    store.close().unwrap();
    assert_eq!(store.compact().unwrap_err().kind(), ErrorKind::Closed);
}
