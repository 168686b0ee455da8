//! Queues of asynchronous operations: everything submitted completes once, with its own result.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use isotherm::config::{Config, Tier};
use isotherm::{
    Action, Batch, BlobName, Bucket, Completion, Condition, Durability, ErrorKind, OpMemory,
    Operation, PutOptions, Queue, Store,
};

fn open(directory: &tempfile::TempDir, dram: &str) -> Store {
    let config = Config::builder()
        .tier(Tier::dram(dram))
        .tier(Tier::nvme("256MiB"))
        .memory_budget("128MiB")
        .build()
        .unwrap();
    Store::open(directory.path().join("store"), config).unwrap()
}

fn value(number: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (number * 31 + at * 7 + at / 251) as u8).collect()
}

fn key(number: u64) -> Vec<u8> {
    format!("blob-{number}").into_bytes()
}

/// Takes completions until none is outstanding.
fn drain(queue: &Queue) -> Vec<Completion> {
    let mut ended = Vec::new();
    while queue.outstanding() > 0 {
        queue.wait(1, 64, None, &mut ended);
    }
    ended
}

fn submit_all(queue: &Queue, operations: impl IntoIterator<Item = Operation>) -> Vec<Completion> {
    let mut ended = Vec::new();
    for operation in operations {
        let mut next = Some(operation);
        while let Some(operation) = next.take() {
            if let Err(refused) = queue.submit(operation) {
                assert_eq!(refused.error.kind(), ErrorKind::Busy);
                next = Some(refused.operation);
                queue.wait(1, 16, None, &mut ended);
            }
        }
    }
    ended.extend(drain(queue));
    ended
}

#[test]
fn every_action_does_what_its_synchronous_namesake_does() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory, "8MiB");
    let bucket = store.bucket("b").unwrap();
    let queue = store.queue(4).unwrap();
    for level in [Durability::Memory, Durability::Written, Durability::Durable] {
        let run = |operation: Operation| {
            queue.submit(operation.with(PutOptions::from(level)).tagged(7)).unwrap();
            let mut ended = drain(&queue);
            assert_eq!((ended.len(), ended[0].user_data), (1, 7));
            ended.remove(0)
        };
        assert!(run(Operation::put(&bucket, b"k", value(1, 300_000))).result.is_ok());
        assert_eq!(bucket.get(b"k").unwrap(), value(1, 300_000));
        let at = run(Operation::append(&bucket, b"k", vec![9; 10])).result.unwrap();
        assert_eq!((at.offset, at.bytes), (300_000, 10));
        run(Operation::put_at(&bucket, b"k", 5, vec![8; 3])).result.unwrap();
        let part = run(Operation::get_at(&bucket, b"k", 4, vec![0; 5]));
        assert_eq!(part.result.unwrap().value_len, 300_010);
        let expected = value(1, 300_000);
        assert_eq!(part.memory.as_slice(), [expected[4], 8, 8, 8, expected[8]]);
        let version = run(Operation::truncate(&bucket, b"k", 6)).result.unwrap().version;
        assert_eq!(version, Some(bucket.stat(b"k").unwrap().version));
        let whole = run(Operation::get(&bucket, b"k"));
        assert_eq!(whole.memory.as_slice(), bucket.get(b"k").unwrap());
        assert!(run(Operation::delete(&bucket, b"k")).result.is_ok());
        let missing = run(Operation::get(&bucket, b"k")).result.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }
    drop(queue);
    store.close().unwrap();
}

/// Bytes of owned parts, with their offsets.
fn parts(memory: &OpMemory) -> Vec<(u64, &[u8])> {
    match memory {
        OpMemory::Parts(parts) => parts.iter().map(|(at, part)| (*at, part.as_slice())).collect(),
        _ => panic!("no parts"),
    }
}

#[test]
fn actions_on_several_ranges_or_blobs_do_what_their_namesakes_do() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory, "8MiB");
    let (bucket, other) = (store.bucket("b").unwrap(), store.bucket("other").unwrap());
    let queue = store.queue(4).unwrap();
    let run = |operation: Operation| {
        queue.submit(operation).unwrap();
        drain(&queue).remove(0)
    };
    let made = |operation: Operation| run(operation).result.unwrap().version.unwrap();
    bucket.put(b"k", &value(1, 300_000)).unwrap();
    made(Operation::put_ranges(&bucket, b"k", vec![(5, vec![8; 3]), (299_999, vec![9; 2])]));
    let wanted = vec![(4, vec![0; 5]), (299_998, vec![1; 9])];
    let got = run(Operation::get_ranges(&bucket, b"k", wanted));
    let done = got.result.unwrap();
    assert_eq!((done.bytes, done.value_len), (5 + 3, 300_001));
    let expected = value(1, 300_000);
    let (first, last) = ([expected[4], 8, 8, 8, expected[8]], [expected[299_998], 9, 9]);
    assert_eq!(parts(&got.memory)[0], (4, &first[..]));
    assert_eq!(parts(&got.memory)[1].1[..3], last);

    let version = made(Operation::copy(&bucket, b"k", BlobName::new(&other, b"copy")));
    assert_eq!(other.stat(b"copy").unwrap().version, version);
    made(Operation::rename(&bucket, b"k", BlobName::new(&bucket, b"new")));
    assert!(bucket.get(b"new").unwrap() == other.get(b"copy").unwrap());
    let stat = run(Operation::stat(&bucket, b"new")).result.unwrap();
    assert_eq!(
        (stat.value_len, stat.version),
        (300_001, Some(bucket.stat(b"new").unwrap().version))
    );
    let missing = run(Operation::stat(&bucket, b"k")).result.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);

    let mut batch = Batch::new();
    batch.put(&bucket, b"x", vec![1; 9]).put(&other, b"y", vec![2; 40_000]).delete(&bucket, b"new");
    let committed = run(Operation::commit(&bucket, batch));
    committed.result.unwrap();
    let OpMemory::Versions(versions) = &committed.memory else { panic!("no versions") };
    assert_eq!((versions.len(), versions[1]), (3, other.stat(b"y").unwrap().version));
    let names = [(&bucket, &b"x"[..]), (&other, b"y"), (&bucket, b"new")];
    let blobs: Vec<BlobName> = names.map(|(bucket, key)| BlobName::new(bucket, key)).into();
    let many = run(Operation::get_many(&bucket, blobs));
    let OpMemory::Values(values) = &many.memory else { panic!("no values") };
    assert_eq!(values[0].as_ref().unwrap(), &[1; 9]);
    assert!(values[1].as_ref().unwrap() == &[2; 40_000]);
    assert_eq!(values[2].as_ref().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(many.result.unwrap().bytes, 40_009);

    let mut refused = Batch::new();
    refused.put(&bucket, b"x", vec![3]).require(&other, b"y", Condition::Absent);
    let refused = run(Operation::commit(&bucket, refused)).result.unwrap_err();
    assert_eq!((refused.kind(), bucket.get(b"x").unwrap()), (ErrorKind::Exists, vec![1; 9]));
    let shapeless = Operation::new(&bucket, b"x", Action::PutRanges, OpMemory::Owned(vec![1]));
    assert_eq!(run(shapeless).result.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn thousands_in_flight_from_one_thread_all_complete_once_and_right() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory, "8MiB");
    let bucket = store.bucket("b").unwrap();
    let queue = store.queue(4096).unwrap();
    let len = |number: u64| (number as usize * 977) % 20_000;
    let puts = (0..6000).map(|n| Operation::put(&bucket, &key(n), value(n, len(n))).tagged(n));
    let ended = submit_all(&queue, puts);
    assert_eq!(ended.len(), 6000);
    assert!(ended.iter().all(|done| done.result.is_ok()), "{:?}", ended[0].result);
    // Most are cold: 57 MiB of values and 8 of DRAM.
    let gets = (0..6000).map(|n| Operation::get(&bucket, &key(n)).tagged(n));
    let mut seen = HashMap::new();
    for done in submit_all(&queue, gets) {
        assert_eq!(done.memory.as_slice(), value(done.user_data, len(done.user_data)));
        assert!(seen.insert(done.user_data, done.id).is_none(), "completed twice");
    }
    assert_eq!(seen.len(), 6000);
    let stats = store.stats();
    assert!(stats.dram_misses > 1000, "nothing was cold: {} misses", stats.dram_misses);
    drop(queue);
    store.close().unwrap();
    let store = open(&directory, "8MiB");
    let bucket = store.bucket("b").unwrap();
    (0..6000).for_each(|n| assert_eq!(bucket.get(&key(n)).unwrap(), value(n, len(n))));
}

#[test]
fn a_full_queue_is_busy_until_completions_are_taken_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory, "8MiB");
    let bucket = store.bucket("b").unwrap();
    let queue = store.queue(2).unwrap();
    for n in 0..2 {
        queue.submit(Operation::put(&bucket, &key(n), value(n, 100))).unwrap();
    }
    let refused = queue.submit(Operation::put(&bucket, &key(2), value(2, 100)).tagged(2));
    let refused = refused.unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::Busy);
    assert_eq!(refused.operation.memory.as_slice(), value(2, 100), "not handed back");
    let mut ended = Vec::new();
    assert_eq!(queue.wait(2, 1, None, &mut ended), 1, "at most one was asked for");
    queue.submit(refused.operation).unwrap();
    ended.extend(drain(&queue));
    assert_eq!(ended.len(), 3);
    assert_eq!(bucket.get(&key(2)).unwrap(), value(2, 100));
}

#[test]
fn a_wait_ends_when_its_time_is_over_or_nothing_is_under_way() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory, "8MiB");
    let queue = store.queue(2).unwrap();
    let mut ended = Vec::new();
    assert_eq!(queue.wait(1, 1, None, &mut ended), 0);
    assert_eq!(queue.wait(1, 1, Some(Duration::ZERO), &mut ended), 0);
    assert_eq!(queue.wait(usize::MAX, usize::MAX, Some(Duration::MAX), &mut ended), 0);
    assert_eq!(queue.wait(0, 0, None, &mut ended), 0);
}

#[test]
fn waiters_on_several_threads_all_end() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory, "8MiB");
    let bucket = store.bucket("b").unwrap();
    let queue = store.queue(8).unwrap();
    for round in 0..300 {
        for n in 0..3 {
            queue.submit(Operation::put(&bucket, &key(n), value(round, 100))).unwrap();
        }
        let wait = |min: usize| {
            let mut ended = Vec::new();
            queue.wait(min, min, Some(Duration::from_secs(20)), &mut ended)
        };
        let counts = thread::scope(|scope| {
            let two = scope.spawn(|| wait(2));
            let one = scope.spawn(|| wait(1));
            (one.join().unwrap(), two.join().unwrap())
        });
        assert_eq!(counts, (1, 2), "round {round}");
    }
    drop(queue);
    store.close().unwrap();
}

#[test]
fn what_is_cancelled_in_time_changes_nothing_and_the_rest_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory, "8MiB");
    let bucket = store.bucket("b").unwrap();
    let queue = store.queue(256).unwrap();
    for n in 0..256 {
        let id = queue.submit(Operation::put(&bucket, &key(n), value(n, 9)).tagged(n)).unwrap();
        queue.cancel(id);
    }
    for done in drain(&queue) {
        let is_there = bucket.exists(&key(done.user_data)).unwrap();
        match done.result.map_err(|error| error.kind()) {
            Ok(_) => assert!(is_there),
            Err(kind) => assert_eq!((kind, is_there), (ErrorKind::Cancelled, false)),
        }
    }
}

#[test]
fn bad_submissions_complete_with_a_specific_error() {
    let directory = tempfile::tempdir().unwrap();
    let (store, other) = (open(&directory, "8MiB"), tempfile::tempdir().unwrap());
    let other_store = open(&other, "8MiB");
    let bucket = store.bucket("b").unwrap();
    let foreign = other_store.bucket("b").unwrap();
    let queue = store.queue(16).unwrap();
    for depth in [0, usize::MAX] {
        let refused = store.queue(depth).err().map(|error| error.kind());
        assert_eq!(refused, Some(ErrorKind::InvalidArgument), "a queue of {depth}");
    }
    bucket.put(b"long", &[1; 100]).unwrap();
    let short = Operation::new(&bucket, b"long", Action::Get, OpMemory::None);
    let cases = [
        (Operation::get(&foreign, b"k"), ErrorKind::InvalidArgument),
        (Operation::get(&bucket, b""), ErrorKind::InvalidArgument),
        (Operation::put(&bucket, &[0; 2000], vec![1]), ErrorKind::InvalidArgument),
        (Operation::put_at(&bucket, b"k", u64::MAX, vec![1; 2]), ErrorKind::InvalidArgument),
        (Operation::truncate(&bucket, b"none", 1), ErrorKind::NotFound),
        (short, ErrorKind::BufferTooSmall),
    ];
    for (operation, kind) in cases {
        queue.submit(operation).unwrap();
        let ended = drain(&queue);
        assert_eq!(ended[0].result.as_ref().map_err(|error| error.kind()), Err(kind));
    }
    store.close().unwrap();
    queue.submit(Operation::put(&bucket, b"k", vec![1])).unwrap();
    let late = drain(&queue).remove(0).result.map_err(|error| error.kind());
    assert_eq!(late, Err(ErrorKind::Closed));
    assert_eq!(store.queue(1).err().map(|error| error.kind()), Some(ErrorKind::Closed));
}

#[test]
fn one_queue_serves_many_threads_and_a_close_waits_for_what_is_under_way() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory, "8MiB");
    let bucket: Bucket = store.bucket("b").unwrap();
    let queue = store.queue(64).unwrap();
    thread::scope(|scope| {
        for part in 0..4 {
            let (queue, bucket) = (&queue, &bucket);
            scope.spawn(move || {
                let mine = (0..500).map(|n| part * 500 + n);
                let puts = mine.map(|n| Operation::put(bucket, &key(n), value(n, 3000)));
                for operation in puts {
                    let mut next = Some(operation);
                    while let Some(operation) = next.take() {
                        if let Err(refused) = queue.submit(operation) {
                            next = Some(refused.operation);
                            let mut ended = Vec::new();
                            queue.wait(1, 8, Some(Duration::from_millis(50)), &mut ended);
                            assert!(ended.iter().all(|done| done.result.is_ok()));
                        }
                    }
                }
            });
        }
    });
    store.close().unwrap();
    assert!(drain(&queue).iter().all(|done| {
        done.result.is_ok() || done.result.as_ref().is_err_and(|e| e.kind() == ErrorKind::Closed)
    }));
    drop(queue);
    let store = open(&directory, "8MiB");
    let bucket = store.bucket("b").unwrap();
    let found = (0..2000).filter(|n| bucket.get(&key(*n)).is_ok_and(|got| got == value(*n, 3000)));
    assert!(found.count() >= 2000 - 64);
}

#[test]
fn a_store_without_devices_completes_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config::builder().tier(Tier::dram("8MiB")).build().unwrap();
    let store = Store::open(directory.path().join("store"), config).unwrap();
    let bucket = store.bucket("b").unwrap();
    let queue = store.queue(3).unwrap();
    queue.submit(Operation::put(&bucket, b"k", value(1, 5000))).unwrap();
    queue.submit(Operation::truncate(&bucket, b"k", 6000)).unwrap();
    queue.submit(Operation::get(&bucket, b"k")).unwrap();
    let mut ended = Vec::new();
    assert_eq!(queue.wait(3, 3, Some(Duration::ZERO), &mut ended), 3);
    let mut expected = value(1, 5000);
    expected.resize(6000, 0);
    assert_eq!(ended[2].memory.as_slice(), expected);
}
