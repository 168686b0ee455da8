//! What a process and a store hold after very many openings and operations: no more than after a
//! few. `ISOTHERM_LEAK_OPENS` and `ISOTHERM_LEAK_OPERATIONS` say how many.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use isotherm::config::{Config, Tier};
use isotherm::limits::RING_WORKERS_MAX;
use isotherm::{
    Batch, Bucket, Durability, ErrorKind, Operation, PutOptions, Result, ScanRange, Scope, Store,
};
use support::rng::Rng;

const OPENS: &str = "ISOTHERM_LEAK_OPENS";
const OPERATIONS: &str = "ISOTHERM_LEAK_OPERATIONS";
/// What the allocator may keep for itself from one look to the next.
const RESIDENT_SLACK: i64 = 8 << 20;
const VALUE_LEN_MAX: u64 = 200_000;
const KEYS: u64 = 60;

/// What a process has, and the files of a store.
#[derive(Clone, Copy)]
struct Holdings {
    resident_bytes: i64,
    descriptors: usize,
    threads: usize,
    /// Of the tiers' segments, in use.
    used_bytes: u64,
    /// Of the file system.
    disk_bytes: u64,
}

impl Holdings {
    fn now(store: &Path, used_bytes: u64) -> Holdings {
        let entries = |path: &str| fs::read_dir(path).unwrap().count();
        let statm = fs::read_to_string("/proc/self/statm").unwrap();
        let pages: i64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
        let files = fs::read_dir(store).unwrap();
        let blocks = files.map(|file| file.unwrap().metadata().unwrap().blocks());
        Holdings {
            resident_bytes: pages * 4096,
            descriptors: entries("/proc/self/fd"),
            threads: settled(threads),
            used_bytes,
            disk_bytes: blocks.sum::<u64>() * 512,
        }
    }

    /// Fails if there is more than there was.
    fn require_no_more_than(&self, before: &Holdings, workers_max: usize) {
        let told = format!("before: {before}\nafter:  {self}");
        println!("{told}");
        let grown = self.resident_bytes - before.resident_bytes;
        assert!(grown <= RESIDENT_SLACK, "{grown} bytes of memory more\n{told}");
        assert!(self.descriptors <= before.descriptors, "{told}");
        assert!(self.threads <= before.threads + workers_max, "{told}");
        // The log stands elsewhere in its segment, and may have one more ahead.
        assert!(self.used_bytes <= before.used_bytes + 2 * SEGMENT, "{told}");
        assert!(self.disk_bytes <= CAPACITY + SEGMENT, "{told}");
    }
}

impl fmt::Display for Holdings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} KiB resident, {} descriptors, {} threads, {} KiB of segments, {} KiB on disk",
            self.resident_bytes >> 10,
            self.descriptors,
            self.threads,
            self.used_bytes >> 10,
            self.disk_bytes >> 10
        )
    }
}

/// Threads of the process but for the kernel's own, with which it works on a ring: those come and go.
fn threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    // One that has ended since has no name.
    let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| !name.starts_with("iou-wrk")).count()
}

/// A count that does not change any more: threads that were told to end may take a moment.
fn settled(count: impl Fn() -> usize) -> usize {
    let mut before = usize::MAX;
    for _ in 0..100 {
        let now = count();
        if now == before {
            break;
        }
        before = now;
        thread::sleep(Duration::from_millis(100));
    }
    before
}

/// The tests count what belongs to the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count_of(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |count| count.parse().expect("a number"))
}

const CAPACITY: u64 = 128 << 20;
const SEGMENT: u64 = 4 << 20;

fn open(path: &Path) -> Store {
    let tiers = Config::builder().tier(Tier::dram("8MiB")).tier(Tier::nvme(CAPACITY));
    let config = tiers.segment_size(SEGMENT).shards(1).memory_budget("128MiB").build();
    Store::open(path, config.unwrap()).unwrap()
}

fn used_bytes(store: &Store) -> u64 {
    store.info().tiers.iter().filter(|tier| tier.index.is_some()).map(|tier| tier.used).sum()
}

#[test]
fn openings_and_closings_leave_nothing_behind() {
    let _alone = alone();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("store");
    let opens = count_of(OPENS, 200) as u64;
    let (first, last) = (opens / 4, opens - 1);
    let mut before = None;
    for number in 0..opens {
        let store = open(&path);
        let bucket = store.bucket("b").unwrap();
        bucket.put(&(number % 10).to_le_bytes(), &number.to_le_bytes()).unwrap();
        if number == first || number == last {
            store.flush(Scope::Store).unwrap();
            store.compact().unwrap();
        }
        let used = used_bytes(&store);
        // Without a close, the last handle's end is one.
        if number.is_multiple_of(2) {
            store.close().unwrap();
        }
        drop((bucket, store));
        if number == first {
            before = Some(Holdings::now(&path, used));
        }
        if number == last {
            let after = Holdings::now(&path, used);
            println!("{opens} openings, counted from number {first}");
            after.require_no_more_than(&before.unwrap(), 0);
        }
    }
    let store = open(&path);
    let bucket = store.open_bucket("b").unwrap();
    assert_eq!(bucket.get(&(last % 10).to_le_bytes()).unwrap(), last.to_le_bytes());
}

#[test]
fn operations_of_every_kind_leave_nothing_behind() {
    let _alone = alone();
    support::backend::announce("operations_of_every_kind_leave_nothing_behind");
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("store");
    let operations = count_of(OPERATIONS, 20_000);
    let store = open(&path);
    let seed = 1;
    let mut worker = Worker::new(&store, seed);
    worker.run(operations / 4);
    let before = worker.at_rest(&path);
    worker.run(operations - operations / 4);
    let after = worker.at_rest(&path);
    println!("{operations} operations of seed {seed}, counted from number {}", operations / 4);
    // Workers are started when there is work for one more, up to a bound, and stay.
    let is_on_threads = store.info().io_backend == "threads";
    after.require_no_more_than(&before, if is_on_threads { RING_WORKERS_MAX } else { 0 });
    let stats = store.stats();
    assert_eq!((stats.blobs, stats.corruptions), (0, 0));
}

/// Does one operation after the other.
struct Worker<'a> {
    store: &'a Store,
    buckets: [Bucket; 2],
    rng: Rng,
    bytes: Vec<u8>,
}

impl<'a> Worker<'a> {
    fn new(store: &'a Store, seed: u64) -> Worker<'a> {
        let buckets = ["a", "b"].map(|name| store.bucket(name).unwrap());
        let bytes = (0..VALUE_LEN_MAX).map(|at| (at * 7) as u8).collect();
        Worker { store, buckets, rng: Rng::new(seed), bytes }
    }

    fn run(&mut self, operations: usize) {
        for _ in 0..operations {
            match self.one() {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn one(&mut self) -> Result<()> {
        let pick = self.rng.below(2) as usize;
        let (bucket, other) = (&self.buckets[pick], &self.buckets[1 - pick]);
        let key = &self.rng.below(KEYS).to_le_bytes()[..];
        let to = &self.rng.below(KEYS).to_le_bytes()[..];
        let value = &self.bytes[..self.rng.log_uniform(VALUE_LEN_MAX) as usize];
        let at = self.rng.below(VALUE_LEN_MAX);
        let levels = [Durability::Memory, Durability::Memory, Durability::Written];
        let options: PutOptions = self.rng.pick(&levels).into();
        match self.rng.below(15) {
            0..=2 => bucket.put_with(key, value, options).map(drop),
            3 => bucket.put_at_with(key, at, &value[..value.len().min(5000)], options).map(drop),
            4 => bucket.append_with(key, &value[..value.len().min(5000)], options).map(drop),
            5 => bucket.truncate_with(key, at, options).map(drop),
            6 => bucket.delete_with(key, options),
            7 => bucket.get(key).map(drop),
            8 => bucket.rename(key, other, to, PutOptions::default()).map(drop),
            9 => bucket.copy(key, other, to, PutOptions::default()).map(drop),
            10 => {
                let mut writer = bucket.writer(key, PutOptions::default())?;
                writer.append(value)?;
                if at.is_multiple_of(2) { writer.commit().map(drop) } else { Ok(()) }
            }
            11 => bucket.set_attribute(key, "n", at as i64).map(drop),
            12 => {
                let mut batch = Batch::new();
                batch.put(bucket, key, value).delete(other, to);
                self.store.commit(&batch, None).map(drop)
            }
            13 => {
                let queue = self.store.queue(4)?;
                queue.submit(Operation::put(bucket, key, value.to_vec()))?;
                queue.submit(Operation::get(other, to))?;
                let mut ended = Vec::new();
                queue.wait(usize::from(at.is_multiple_of(2)), 4, None, &mut ended);
                Ok(())
            }
            _ => bucket.scan(ScanRange::all()).take(5).try_for_each(|entry| entry.map(drop)),
        }
    }

    /// With nothing stored, and all that was freed given back.
    fn at_rest(&self, path: &Path) -> Holdings {
        ["a", "b"].iter().for_each(|name| self.store.clear_bucket(name).unwrap());
        self.store.flush(Scope::Store).unwrap();
        self.store.compact().unwrap();
        Holdings::now(path, used_bytes(self.store))
    }
}
