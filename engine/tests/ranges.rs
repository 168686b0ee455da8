//! Several ranges of a value in one call.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use isotherm::config::{Config, Tier};
use isotherm::{Bucket, Condition, Durability, ErrorKind, PutOptions, Store};

const BUFFER: usize = 64 << 10;

fn open(path: &Path) -> Store {
    let tiers = [Tier::dram("8MiB"), Tier::nvme("128MiB")];
    let builder = tiers.into_iter().fold(Config::builder(), |builder, tier| builder.tier(tier));
    let config = builder.shards(2).buffer_size("64KiB").page_extents(4).build();
    Store::open(path.join("s"), config.unwrap()).unwrap()
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % bound
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.below(256) as u8).collect()
    }
}

/// What a put of ranges makes of a value.
fn apply(model: &mut Vec<u8>, ranges: &[(u64, Vec<u8>)]) {
    for (offset, bytes) in ranges {
        let (start, end) = (*offset as usize, *offset as usize + bytes.len());
        model.resize(model.len().max(end), 0);
        model[start..end].copy_from_slice(bytes);
    }
}

fn put(bucket: &Bucket, key: &[u8], ranges: &[(u64, Vec<u8>)], level: Durability) {
    let slices: Vec<(u64, &[u8])> = ranges.iter().map(|(at, bytes)| (*at, &bytes[..])).collect();
    let version = bucket.put_ranges(key, &slices, level.into()).unwrap();
    assert_eq!(bucket.stat(key).unwrap().version, version);
}

/// Random ranges agree with the model.
fn check(bucket: &Bucket, key: &[u8], model: &[u8], random: &mut Random) {
    assert!(bucket.get(key).unwrap() == model);
    let mut parts: Vec<(u64, Vec<u8>)> = (0..9)
        .map(|_| (random.below(model.len() + 100) as u64, vec![9; random.below(80_000)]))
        .collect();
    let mut asked: Vec<(u64, &mut [u8])> =
        parts.iter_mut().map(|(at, part)| (*at, &mut part[..])).collect();
    let counts = bucket.get_ranges(key, &mut asked).unwrap();
    for ((at, part), count) in parts.iter().zip(counts) {
        let at = (*at as usize).min(model.len());
        assert_eq!(count, part.len().min(model.len() - at));
        assert!(part[..count] == model[at..at + count], "{count} bytes at {at}");
    }
}

#[test]
fn random_ranges_of_values_of_every_shape_agree_with_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(11);
    let sizes = [0, 500, 9_000, BUFFER, BUFFER + 99, 30 * BUFFER + 5];
    let levels = [Durability::Memory, Durability::Written, Durability::Durable];
    let mut models: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    {
        let store = open(dir.path());
        let bucket = store.bucket("b").unwrap();
        for (size, level) in sizes.iter().flat_map(|size| levels.map(|level| (*size, level))) {
            let key = format!("{size} {level:?}").into_bytes();
            let mut model = random.bytes(size);
            if size > 0 {
                bucket.put_with(&key, &model, level.into()).unwrap();
            }
            for round in 0..12 {
                let count = 1 + random.below(8);
                let longest = [40, 5_000, 3 * BUFFER][round % 3];
                let reach = model.len() + BUFFER;
                let ranges: Vec<(u64, Vec<u8>)> = (0..count)
                    .map(|_| {
                        let (at, len) = (random.below(reach), random.below(longest));
                        (at as u64, random.bytes(len))
                    })
                    .collect();
                put(&bucket, &key, &ranges, level);
                apply(&mut model, &ranges);
                // The other kinds of changes go on from what it made.
                if round % 4 == 3 {
                    let at = random.below(model.len());
                    bucket.put_at_with(&key, at as u64, b"between", level.into()).unwrap();
                    apply(&mut model, &[(at as u64, b"between".to_vec())]);
                }
                check(&bucket, &key, &model, &mut random);
            }
            models.push((key, model));
        }
        store.close().unwrap();
    }
    let store = open(dir.path());
    let bucket = store.open_bucket("b").unwrap();
    for (key, model) in &models {
        check(&bucket, key, model, &mut random);
    }
}

#[test]
fn a_span_of_too_many_slices_is_written_anew_wherever_it_lies() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bucket = store.bucket("b").unwrap();
    for (key, buffers) in [(b"small", 2), (b"large", 40)] {
        let mut model = vec![7; buffers * BUFFER];
        bucket.put(key, &model).unwrap();
        // Forty slices in each of two spans far from each other.
        let starts = (0..40).flat_map(|n| [n * 1000, (buffers - 1) * BUFFER + n * 1000]);
        let ranges: Vec<(u64, Vec<u8>)> = starts.map(|at| (at as u64, vec![1; 10])).collect();
        put(&bucket, key, &ranges, Durability::Written);
        apply(&mut model, &ranges);
        assert!(bucket.get(key).unwrap() == model);
        assert_eq!(bucket.stat(key).unwrap().buffers, buffers as u64);
    }
}

#[test]
fn far_apart_ranges_of_a_large_map_leave_the_pages_between_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bucket = store.bucket("b").unwrap();
    let mut random = Random(5);
    let mut model = random.bytes(200 * BUFFER);
    bucket.put(b"k", &model).unwrap();
    let before = store.stats();
    let ranges = [(100, random.bytes(50)), ((199 * BUFFER) as u64, random.bytes(50))];
    put(&bucket, b"k", &ranges, Durability::Written);
    apply(&mut model, &ranges);
    let records = store.stats().records - before.records;
    assert!(records < 10, "{records} records, where two pages and a blob have changed");
    check(&bucket, b"k", &model, &mut random);
}

#[test]
fn no_reader_sees_some_of_the_ranges() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bucket = store.bucket("b").unwrap();
    bucket.put(b"k", &vec![0; 10 * BUFFER]).unwrap();
    let over = AtomicBool::new(false);
    let offsets = [5, 3 * BUFFER as u64, 9 * BUFFER as u64 + 77];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=100u8 {
                let bytes = [round; 9];
                let ranges = offsets.map(|at| (at, &bytes[..]));
                bucket.put_ranges(b"k", &ranges, PutOptions::default()).unwrap();
            }
            over.store(true, Ordering::SeqCst);
        });
        while !over.load(Ordering::SeqCst) {
            let mut parts = [[1; 9]; 3];
            let [a, b, c] = &mut parts;
            let [x, y, z] = offsets;
            bucket.get_ranges(b"k", &mut [(x, a), (y, b), (z, c)]).unwrap();
            assert!(parts.iter().flatten().all(|byte| *byte == parts[0][0]), "{parts:?}");
        }
    });
}

#[test]
fn bounds_and_conditions_are_kept_and_nothing_changes_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bucket = store.bucket("b").unwrap();
    let refused = |ranges: &[(u64, &[u8])], condition: Condition| {
        bucket.put_ranges(b"k", ranges, condition.into()).unwrap_err().kind()
    };
    assert_eq!(refused(&[(0, b"a")], Condition::Present), ErrorKind::NotFound);
    assert_eq!(
        refused(&[(0, b"a"), (u64::MAX, b"b")], Condition::None),
        ErrorKind::InvalidArgument
    );
    let much = vec![1; 70 << 20];
    assert_eq!(refused(&[(0, &much), (90 << 20, &much)], Condition::None), ErrorKind::NoSpace);
    assert_eq!(bucket.get_ranges(b"k", &mut []).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!bucket.exists(b"k").unwrap());
    // Nothing at all makes an empty blob, nothing at an offset one of zeros.
    bucket.put_ranges(b"k", &[], PutOptions::default()).unwrap();
    assert_eq!(bucket.get(b"k").unwrap(), b"");
    bucket.put_ranges(b"k", &[(3, b"")], PutOptions::default()).unwrap();
    assert_eq!(bucket.get(b"k").unwrap(), [0; 3]);
    let version = bucket.stat(b"k").unwrap().version;
    assert_eq!(bucket.put_ranges(b"k", &[(2, b"")], PutOptions::default()).unwrap(), version);
    assert_eq!(bucket.get_ranges(b"k", &mut []).unwrap(), Vec::<usize>::new());
    assert_eq!(bucket.get_ranges(b"k", &mut [(u64::MAX, &mut [1; 4])]).unwrap(), [0]);
}
