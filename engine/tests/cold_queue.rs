//! Cold gets of a queue: read in its own ring by whoever waits, and right whoever that is.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use isotherm::config::{Config, Tier};
use isotherm::{Bucket, Completion, Durability, ErrorKind, OpMemory, Operation, Queue, Store};

const BLOBS: u64 = 3000;
const LEN: usize = 4096;

fn value(number: u64) -> Vec<u8> {
    (0..LEN as u64).map(|at| (number * 31 + at * 7 + at / 251) as u8).collect()
}

fn open(place: &tempfile::TempDir) -> (Store, Bucket) {
    let tiers = Config::builder().tier(Tier::dram("8MiB")).tier(Tier::nvme("256MiB"));
    let store = Store::open(place.path().join("store"), tiers.build().unwrap()).unwrap();
    let bucket = store.bucket("b").unwrap();
    (store, bucket)
}

/// A store with nothing in DRAM.
fn cold() -> (tempfile::TempDir, Store, Bucket) {
    let place = tempfile::tempdir().unwrap();
    let (store, bucket) = open(&place);
    for number in 0..BLOBS {
        bucket.put(&number.to_le_bytes(), &value(number)).unwrap();
    }
    store.close().unwrap();
    let (store, bucket) = open(&place);
    (place, store, bucket)
}

fn get(bucket: &Bucket, number: u64) -> Operation {
    let whole = Operation::get(bucket, &number.to_le_bytes());
    let part = || Operation::get_at(bucket, &number.to_le_bytes(), 0, vec![0; LEN]);
    (if number.is_multiple_of(2) { whole } else { part() }).tagged(number)
}

fn submit(queue: &Queue, bucket: &Bucket, count: u64) {
    for number in 0..count {
        queue.submit(get(bucket, number)).unwrap();
    }
}

fn check(ended: &Completion) {
    let done = ended.result.as_ref().unwrap();
    assert_eq!((done.bytes, done.value_len), (LEN, LEN as u64));
    assert!(ended.memory.as_slice() == value(ended.user_data), "{}", ended.user_data);
}

fn drain(queue: &Queue) -> Vec<Completion> {
    let mut ended = Vec::new();
    while queue.outstanding() > 0 {
        queue.wait(1, 64, None, &mut ended);
    }
    ended
}

#[test]
fn one_thread_with_many_reads_under_way_gets_every_value_once() {
    let (_place, store, bucket) = cold();
    let queue = store.queue(64).unwrap();
    let mut ended = Vec::new();
    let mut seen = vec![0; BLOBS as usize];
    let mut next = 0;
    while next < BLOBS || queue.outstanding() > 0 {
        while next < BLOBS && queue.outstanding() < 64 {
            queue.submit(get(&bucket, next)).unwrap();
            next += 1;
        }
        queue.wait(1, 64, None, &mut ended);
        for ended in ended.drain(..) {
            check(&ended);
            seen[ended.user_data as usize] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count == 1));
    assert!(store.stats().dram_misses > BLOBS / 2);
    drop(queue);
    store.close().unwrap();
}

#[test]
fn threads_that_submit_and_threads_that_wait_share_a_queue() {
    let (_place, store, bucket) = cold();
    let queue = store.queue(32).unwrap();
    let taken = AtomicUsize::new(0);
    thread::scope(|scope| {
        for part in 0..2 {
            let (queue, bucket) = (&queue, &bucket);
            scope.spawn(move || {
                for number in (part..BLOBS).step_by(2) {
                    let mut next = Some(get(bucket, number));
                    while let Some(operation) = next.take() {
                        if let Err(refused) = queue.submit(operation) {
                            assert_eq!(refused.error.kind(), ErrorKind::Busy);
                            next = Some(refused.operation);
                            thread::yield_now();
                        }
                    }
                }
            });
        }
        for min in [1, 2, 5] {
            let (queue, taken) = (&queue, &taken);
            scope.spawn(move || {
                let mut ended = Vec::new();
                while taken.load(Ordering::SeqCst) < BLOBS as usize {
                    queue.wait(min, 16, Some(Duration::from_millis(20)), &mut ended);
                    ended.drain(..).for_each(|ended| {
                        check(&ended);
                        taken.fetch_add(1, Ordering::SeqCst);
                    });
                }
            });
        }
    });
    assert_eq!((taken.load(Ordering::SeqCst), queue.outstanding()), (BLOBS as usize, 0));
}

#[test]
fn one_who_waits_for_all_gets_reads_of_the_ring_and_changes_of_the_shards() {
    let (_place, store, bucket) = cold();
    let queue = store.queue(400).unwrap();
    for number in 0..200 {
        queue.submit(get(&bucket, number)).unwrap();
        let key = (BLOBS + number).to_le_bytes();
        queue.submit(Operation::put(&bucket, &key, value(number)).tagged(u64::MAX)).unwrap();
    }
    let mut ended = Vec::new();
    assert_eq!(queue.wait(400, 400, None, &mut ended), 400);
    ended.iter().filter(|ended| ended.user_data != u64::MAX).for_each(check);
    for number in 0..200 {
        assert!(bucket.get(&(BLOBS + number).to_le_bytes()).unwrap() == value(number));
    }
    // Nothing is looked for in vain once nothing is under way.
    assert_eq!(queue.wait(1, 1, None, &mut ended), 0);
}

#[test]
fn what_was_submitted_is_read_though_nobody_waits_but_takes() {
    let (_place, store, bucket) = cold();
    let queue = store.queue(16).unwrap();
    submit(&queue, &bucket, 16);
    let mut ended = Vec::new();
    while ended.len() < 16 {
        queue.take(3, &mut ended);
    }
    ended.iter().for_each(check);
}

#[test]
fn a_damaged_value_is_corrupt_and_the_others_are_not() {
    let (place, store, bucket) = cold();
    let at = bucket.locate(&5_u64.to_le_bytes()).unwrap()[0].device_offset.unwrap();
    let tier = fs::OpenOptions::new().write(true).open(place.path().join("store/nvme0.tier"));
    tier.unwrap().write_all_at(&[value(5)[100] ^ 1], at + 100).unwrap();
    let queue = store.queue(16).unwrap();
    submit(&queue, &bucket, 16);
    for ended in drain(&queue) {
        match ended.user_data {
            5 => assert_eq!(ended.result.err().unwrap().kind(), ErrorKind::Corrupt),
            _ => check(&ended),
        }
    }
    assert!(store.stats().corruptions > 0);
}

#[test]
fn a_queue_is_dropped_and_a_store_closed_with_reads_under_way() {
    for close_first in [false, true] {
        let (_place, store, bucket) = cold();
        let queue = store.queue(64).unwrap();
        submit(&queue, &bucket, 64);
        if close_first {
            store.close().unwrap();
            for ended in drain(&queue) {
                match &ended.result {
                    Ok(_) => check(&ended),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Closed),
                }
                assert!(!matches!(ended.memory, OpMemory::Foreign(_)));
            }
        }
        drop(queue);
        store.close().unwrap();
    }
}

#[test]
fn one_who_waits_before_the_first_cold_get_is_submitted_reads_it() {
    let (_place, store, bucket) = cold();
    for number in 0..200 {
        // Each has no ring before its first cold get.
        let queue = store.queue(4).unwrap();
        let put = Operation::put(&bucket, b"put", vec![7; 100]).with(Durability::Durable.into());
        queue.submit(put.tagged(u64::MAX)).unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let mut ended = Vec::new();
                queue.wait(2, 2, None, &mut ended);
                ended
            });
            thread::sleep(Duration::from_micros(number % 20 * 20));
            queue.submit(get(&bucket, number)).unwrap();
            let mut ended = waiter.join().unwrap();
            ended.extend(drain(&queue));
            assert_eq!(ended.len(), 2);
            ended.iter().filter(|ended| ended.user_data != u64::MAX).for_each(check);
        });
    }
}
