//! Values written and read piece by piece: whole or not at all, whatever their length.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use isotherm::config::{Config, ConfigBuilder, Tier};
use isotherm::{
    BlobReader, BlobWriter, Bucket, Condition, Durability, ErrorKind, PutOptions, Scope, Store,
};

const BUFFER: usize = 64 << 10;
const LEVELS: [Durability; 3] = [Durability::Memory, Durability::Written, Durability::Durable];

/// Pages of four extents, over buffers of 64 KiB: a value of 128 KiB and more has pages.
fn builder() -> ConfigBuilder {
    let tiers = [Tier::dram("8MiB"), Tier::nvme("64MiB")];
    let builder = tiers.into_iter().fold(Config::builder(), |builder, tier| builder.tier(tier));
    builder.shards(2).buffer_size("64KiB").page_extents(4)
}

fn open(path: &Path) -> Store {
    Store::open(path.join("s"), builder().build().unwrap()).unwrap()
}

fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    (0..len).map(next).collect()
}

/// Writes in pieces of changing length.
fn stream(writer: &mut BlobWriter, value: &[u8]) {
    let (mut rest, mut size) = (value, 1);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(size.min(rest.len()));
        writer.write_all(now).unwrap();
        rest = later;
        size = size * 5 % 200_003 + 1;
    }
}

fn read(bucket: &Bucket, key: &[u8]) -> Vec<u8> {
    let mut value = Vec::new();
    bucket.reader(key).unwrap().read_to_end(&mut value).unwrap();
    value
}

/// Waits until nothing but so many bytes is live: pages are released in the background.
fn settle(store: &Store, live_max: u64) {
    for _ in 0..1000 {
        if store.stats().tiers[0].live <= live_max {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{} bytes live, expected {live_max} at most", store.stats().tiers[0].live);
}

/// What is on the disk now, as a crash would leave it.
fn crash_copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("s")).unwrap();
    for entry in std::fs::read_dir(from.join("s")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join("s").join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn a_value_of_any_length_comes_back_at_every_level() {
    let dir = tempfile::tempdir().unwrap();
    let lens = [0, 1, BUFFER - 1, BUFFER, BUFFER + 1, 2 * BUFFER, 3 * BUFFER, 40 * BUFFER + 77];
    let name = |len: usize, level: Durability| format!("{len} {level:?}");
    {
        let store = open(dir.path());
        let bucket = store.bucket("b").unwrap();
        for (len, level) in lens.iter().flat_map(|len| LEVELS.map(|level| (*len, level))) {
            let key = name(len, level);
            let mut writer = bucket.writer(key.as_bytes(), level.into()).unwrap();
            stream(&mut writer, &pattern(len as u64, len));
            assert_eq!(writer.len(), len as u64);
            assert!(!bucket.exists(key.as_bytes()).unwrap(), "{key} is there before its commit");
            let version = writer.commit().unwrap();
            assert_eq!(bucket.stat(key.as_bytes()).unwrap().version, version);
            assert!(bucket.get(key.as_bytes()).unwrap() == pattern(len as u64, len), "{key}");
            assert!(read(&bucket, key.as_bytes()) == pattern(len as u64, len), "{key}");
        }
        store.close().unwrap();
    }
    let store = open(dir.path());
    let bucket = store.open_bucket("b").unwrap();
    for (len, level) in lens.iter().flat_map(|len| LEVELS.map(|level| (*len, level))) {
        let key = name(len, level);
        assert!(bucket.get(key.as_bytes()).unwrap() == pattern(len as u64, len), "{key}");
        assert!(read(&bucket, key.as_bytes()) == pattern(len as u64, len), "{key}");
    }
}

#[test]
fn a_value_larger_than_dram_is_changed_and_deleted_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bucket = store.bucket("b").unwrap();
    let mut value = pattern(5, 12 << 20);
    let mut writer = bucket.writer(b"k", PutOptions::default()).unwrap();
    writer.append(&value).unwrap();
    writer.commit().unwrap();
    bucket.put_at(b"k", 9_999_999, b"in the middle").unwrap();
    value[9_999_999..9_999_999 + 13].copy_from_slice(b"in the middle");
    bucket.append(b"k", b"and at the end").unwrap();
    value.extend_from_slice(b"and at the end");
    assert!(read(&bucket, b"k") == value);
    bucket.delete(b"k").unwrap();
    settle(&store, 0);
}

#[test]
fn what_is_not_committed_is_never_there_and_its_space_is_free_again() {
    let (dir, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path());
    let bucket = store.bucket("b").unwrap();
    bucket.put(b"k", b"before").unwrap();
    let live = store.stats().tiers[0].live;
    // Each takes more than half of what the tier holds.
    for abort in [true, false, true] {
        let mut writer = bucket.writer(b"k", PutOptions::default()).unwrap();
        stream(&mut writer, &pattern(6, 11 << 20));
        assert_eq!(bucket.get(b"k").unwrap(), b"before");
        store.flush(Scope::Store).unwrap();
        crash_copy(dir.path(), crashed.path());
        match abort {
            true => writer.abort(),
            false => drop(writer),
        }
        settle(&store, live);
        assert_eq!(store.stats().notes, Vec::<String>::new());
    }
    let store = open(crashed.path());
    let bucket = store.open_bucket("b").unwrap();
    assert_eq!(bucket.get(b"k").unwrap(), b"before");
    assert_eq!(bucket.bucket_stat().unwrap().blobs, 1);
    settle(&store, live);
    let mut writer = bucket.writer(b"k", PutOptions::default()).unwrap();
    stream(&mut writer, &pattern(7, 11 << 20));
    writer.commit().unwrap();
    assert!(read(&bucket, b"k") == pattern(7, 11 << 20));
}

#[test]
fn a_stream_larger_than_the_tiers_is_refused_and_leaves_the_store_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bucket = store.bucket("b").unwrap();
    bucket.put(b"k", &pattern(8, 300_000)).unwrap();
    settle(&store, 310_000);
    let mut writer = bucket.writer(b"k", PutOptions::default()).unwrap();
    let piece = pattern(9, 1 << 20);
    let refused = (0..100).find_map(|_| writer.append(&piece).err()).unwrap();
    assert_eq!(refused.kind(), ErrorKind::NoSpace, "{refused}");
    assert_eq!(writer.append(b"more").unwrap_err().kind(), ErrorKind::NoSpace);
    let as_io = writer.write(b"more").unwrap_err();
    assert_eq!(as_io.kind(), std::io::ErrorKind::StorageFull);
    assert_eq!(writer.commit().unwrap_err().kind(), ErrorKind::NoSpace);
    assert!(bucket.get(b"k").unwrap() == pattern(8, 300_000));
    settle(&store, 310_000);
    bucket.put(b"other", &pattern(10, 10 << 20)).unwrap();
    assert!(read(&bucket, b"other") == pattern(10, 10 << 20));
}

#[test]
fn the_later_commit_of_two_writers_wins_and_conditions_are_checked_at_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bucket = store.bucket("b").unwrap();
    let write = |seed: u64, condition: Condition| {
        let mut writer = bucket.writer(b"k", condition.into()).unwrap();
        stream(&mut writer, &pattern(seed, 10 * BUFFER));
        writer
    };
    let (first, second) = (write(1, Condition::Absent), write(2, Condition::Absent));
    let small = bucket.writer(b"k", Condition::Absent.into()).unwrap();
    let version = second.commit().unwrap();
    assert_eq!(first.commit().unwrap_err().kind(), ErrorKind::Exists);
    assert_eq!(small.commit().unwrap_err().kind(), ErrorKind::Exists);
    assert!(read(&bucket, b"k") == pattern(2, 10 * BUFFER));
    let (third, fourth) = (write(3, Condition::None), write(4, Condition::Version(version)));
    fourth.commit().unwrap();
    assert!(read(&bucket, b"k") == pattern(4, 10 * BUFFER));
    third.commit().unwrap();
    assert!(read(&bucket, b"k") == pattern(3, 10 * BUFFER));
}

#[test]
fn writers_and_readers_left_open_hinder_no_destroy_and_no_close() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (bucket, doomed) = (store.bucket("b").unwrap(), store.bucket("doomed").unwrap());
    bucket.put(b"k", &pattern(1, 10 << 20)).unwrap();
    let mut late = doomed.writer(b"k", PutOptions::default()).unwrap();
    late.append(&pattern(2, 20 * BUFFER)).unwrap();
    store.destroy_bucket("doomed").unwrap();
    assert_eq!(late.append(&[1; 100]).unwrap_err().kind(), ErrorKind::BucketNotFound);
    let mut writer = bucket.writer(b"w", PutOptions::default()).unwrap();
    writer.append(&pattern(3, 20 * BUFFER)).unwrap();
    let mut reader = bucket.reader(b"k").unwrap();
    assert!(!reader.next_piece().unwrap().is_empty());
    store.close().unwrap();
    assert_eq!(writer.commit().unwrap_err().kind(), ErrorKind::Closed);
    assert!(reader.read_to_end(&mut Vec::new()).is_err());
    drop(reader);
    drop(store);
    let store = open(dir.path());
    let bucket = store.open_bucket("b").unwrap();
    assert!(read(&bucket, b"k") == pattern(1, 10 << 20) && !bucket.exists(b"w").unwrap());
}

#[test]
fn a_reader_keeps_its_version_whatever_happens_to_the_blob() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bucket = store.bucket("b").unwrap();
    for (level, len) in
        LEVELS.iter().flat_map(|level| [9_000, BUFFER, 5_000_000].map(|len| (*level, len)))
    {
        let value = pattern(len as u64, len);
        let version = bucket.put_with(b"k", &value, level.into()).unwrap();
        let mut reader = bucket.reader(b"k").unwrap();
        assert_eq!((reader.len(), reader.version()), (len as u64, version));
        let mut got = vec![0; 5_000];
        reader.read_exact(&mut got).unwrap();
        bucket.put_at_with(b"k", 6_000, b"changed", level.into()).unwrap();
        bucket.put_with(b"k", &pattern(99, 70_000), level.into()).unwrap();
        bucket.delete_with(b"k", level.into()).unwrap();
        // Other values take what is free: DRAM slots, and segments.
        (0..30).for_each(|n: u8| {
            drop(bucket.put_with(&[n], &pattern(n.into(), 200_000), level.into()))
        });
        store.flush(Scope::Store).unwrap();
        reader.read_to_end(&mut got).unwrap();
        assert!(got == value, "{level:?}, {len} bytes");
    }
}

#[test]
fn a_reader_goes_wherever_it_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bucket = store.bucket("b").unwrap();
    let value = pattern(3, 9_000_000);
    bucket.put(b"k", &value).unwrap();
    bucket.truncate(b"k", 10_000_000).unwrap();
    let mut reader = bucket.reader(b"k").unwrap();
    let at = |n: usize| n * 7_654_321 % value.len();
    for place in (0..40).map(at) {
        let mut part = vec![0; 50_000.min(value.len() - place)];
        reader.seek(SeekFrom::Start(place as u64)).unwrap();
        reader.read_exact(&mut part).unwrap();
        assert!(part == value[place..place + part.len()], "at {place}");
    }
    assert_eq!(reader.seek(SeekFrom::End(-1_000_000)).unwrap(), 9_000_000);
    let mut zeros = Vec::new();
    reader.read_to_end(&mut zeros).unwrap();
    assert!(zeros == vec![0; 1_000_000]);
    assert_eq!(reader.seek(SeekFrom::Current(5)).unwrap(), 10_000_005);
    assert_eq!(reader.read_into(&mut [0; 10]).unwrap(), 0);
    assert!(reader.seek(SeekFrom::End(-10_000_001)).is_err());
    assert_eq!(bucket.reader(b"none").err().unwrap().kind(), ErrorKind::NotFound);
}

#[test]
fn a_store_of_dram_alone_gathers_a_stream_and_puts_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::builder().tier(Tier::dram("8MiB")).build().unwrap();
    let store = Store::open(dir.path().join("s"), config).unwrap();
    let bucket = store.bucket("b").unwrap();
    let mut writer = bucket.writer(b"k", PutOptions::default()).unwrap();
    stream(&mut writer, &pattern(1, 3_000_000));
    assert!(!bucket.exists(b"k").unwrap());
    writer.commit().unwrap();
    assert!(read(&bucket, b"k") == pattern(1, 3_000_000));
    let mut writer = bucket.writer(b"k", PutOptions::default()).unwrap();
    let refused = (0..20).find_map(|_| writer.append(&[1; 1 << 20]).err()).unwrap();
    assert_eq!(refused.kind(), ErrorKind::NoSpace, "{refused}");
    let durable = bucket.writer(b"k", Durability::Durable.into()).err().unwrap();
    assert_eq!(durable.kind(), ErrorKind::Unsupported);
    assert!(read(&bucket, b"k") == pattern(1, 3_000_000));
}

#[test]
fn writers_and_readers_may_go_from_thread_to_thread() {
    fn is_send<T: Send>() {}
    is_send::<BlobWriter>();
    is_send::<BlobReader>();
}
