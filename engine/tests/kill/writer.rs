//! The process that is killed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use isotherm::config::{Config, IoChoice, Tier};
use isotherm::{Bucket, Durability, ErrorKind, PutOptions, Scope, Store};
use xxhash_rust::xxh3::xxh3_64;

use crate::groups;
use crate::journal::{Event, Journal, Kind};
use crate::support::backend;
use crate::support::content::fill;
use crate::support::rng::Rng;

/// The environment variable with a writer's order.
pub const ORDER: &str = "ISOTHERM_WRITER_ORDER";
pub const THREADS: u64 = 4;
/// Keys of one thread.
pub const KEYS: u64 = 150;
const VALUE_MAX: u64 = 2 << 20;

/// What a writer is to do: one word per field, the directory last.
pub struct Order {
    pub seed: u64,
    pub io: IoChoice,
    pub shards: u16,
    /// Close cleanly after this long; 0 goes on until it is killed.
    pub close_after_ms: u64,
    /// The journal's number.
    pub number: u64,
    /// Keys to report before writing.
    pub report: Vec<u64>,
    pub directory: PathBuf,
}

impl Order {
    pub fn encode(&self) -> String {
        let report: Vec<String> = self.report.iter().map(u64::to_string).collect();
        let Order { seed, io, shards, close_after_ms, number, directory, .. } = self;
        let (io, report, directory) = (io.name(), report.join(","), directory.display());
        format!("{seed} {io} {shards} {close_after_ms} {number} {report} {directory}")
    }

    fn decode(text: &str) -> Order {
        let words: Vec<&str> = text.splitn(7, ' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        Order {
            seed: number(0),
            io: words[1].parse().unwrap(),
            shards: number(2) as u16,
            close_after_ms: number(3),
            number: number(4),
            report: words[5]
                .split(',')
                .filter(|w| !w.is_empty())
                .map(|w| w.parse().unwrap())
                .collect(),
            directory: words[6].into(),
        }
    }

    pub fn journal(&self) -> PathBuf {
        self.directory.join(format!("journal-{}", self.number))
    }
}

/// Tiers so small that cleaning, demotion and checkpoints never rest.
pub fn open(directory: &Path, io: IoChoice, shards: u16) -> Store {
    let config = Config::builder()
        .tier(Tier::dram("8MiB"))
        .tier(Tier::nvme("96MiB"))
        .tier(Tier::hdd("256MiB"))
        .flush_interval(Duration::from_millis(20))
        .shards(shards)
        .io(io)
        .page_extents(2)
        .build()
        .unwrap();
    let store = Store::open(directory.join("store"), config).unwrap();
    backend::require(io, &store.info());
    store
}

pub fn bucket(store: &Store) -> Bucket {
    store.bucket("b").unwrap()
}

pub fn key_name(key: u64) -> Vec<u8> {
    format!("thread {}/key {}", key / KEYS, key % KEYS).into_bytes()
}

pub fn run(order: &str) {
    let order = Order::decode(order);
    let journal = Journal::open(&order.journal());
    let store = open(&order.directory, order.io, order.shards);
    journal.note(Event::Opened);
    let bucket = bucket(&store);
    for key in &order.report {
        let value = match bucket.get(&key_name(*key)) {
            Ok(value) => Some((value.len() as u64, xxh3_64(&value))),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => panic!("key {key} cannot be read after a kill: {error}"),
        };
        journal.note(Event::Found { key: *key, value });
    }
    groups::report(&store, &journal);
    journal.note(Event::Reported);
    let start = Instant::now();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, bucket, journal, stop) = (&store, &bucket, &journal, &stop);
            let mut rng = Rng::new(order.seed ^ order.number << 8 ^ thread);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    step(store, bucket, journal, thread, &mut rng);
                }
            });
        }
        for group in 0..groups::GROUPS {
            let (store, journal, stop) = (&store, &journal, &stop);
            let mut rng = Rng::new(order.seed ^ order.number << 8 ^ (100 + group));
            scope.spawn(move || groups::run(store, journal, group, stop, &mut rng));
        }
        while order.close_after_ms == 0
            || start.elapsed() < Duration::from_millis(order.close_after_ms)
        {
            std::thread::sleep(Duration::from_millis(10));
            let stats = store.stats();
            let organizer = stats.organizer;
            journal.note(Event::Stats {
                cleanings: organizer.cleanings,
                demotions: organizer.demotions,
                batches: stats.batches,
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
    store.close().unwrap();
    journal.note(Event::Closed);
}

fn step(store: &Store, bucket: &Bucket, journal: &Journal, thread: u64, rng: &mut Rng) {
    if rng.one_in(40) {
        journal.note(Event::FlushIntent { thread });
        store.flush(Scope::Store).unwrap();
        journal.note(Event::FlushAck { thread });
        return;
    }
    let key = thread * KEYS + rng.skewed(KEYS);
    let name = key_name(key);
    let level = rng.pick(&[
        Durability::Memory,
        Durability::Written,
        Durability::Written,
        Durability::Durable,
    ]);
    // Nobody else changes this key, so this is its length; the oracle follows the same rule.
    let len = bucket.stat(&name).map(|stat| stat.len).ok();
    let kind = choose(rng, len);
    let data = |seed, len: u64| {
        let mut data = vec![0; len as usize];
        fill(seed, 0, &mut data);
        data
    };
    journal.note(Event::Intent { thread, key, level, kind });
    let options = PutOptions::from(level);
    let done = match kind {
        Kind::Put { seed, len } => bucket.put_with(&name, &data(seed, len), options).map(|v| v.0),
        Kind::PutAt { at, seed, len } => {
            bucket.put_at_with(&name, at, &data(seed, len), options).map(|v| v.0)
        }
        Kind::Append { seed, len } => bucket.append_with(&name, &data(seed, len), options),
        Kind::Truncate { len } => bucket.truncate_with(&name, len, options).map(|v| v.0),
        Kind::Delete => bucket.delete_with(&name, options).map(|()| 0),
    };
    match done {
        Ok(version) => journal.note(Event::Ack { thread, version }),
        Err(error) => panic!("{kind:?} at {level:?}: {error}"),
    }
}

fn choose(rng: &mut Rng, len: Option<u64>) -> Kind {
    let seed = rng.next();
    let size = match rng.one_in(2) {
        true => rng.log_uniform(VALUE_MAX),
        false => rng.log_uniform(64 << 10),
    };
    let Some(now) = len else { return Kind::Put { seed, len: size } };
    match rng.below(20) {
        0..9 => Kind::Put { seed, len: size },
        9..13 => Kind::PutAt { at: rng.below(now + 1), seed, len: size },
        13..16 if now < VALUE_MAX => Kind::Append { seed, len: size },
        16..18 => Kind::Truncate { len: rng.below(now + 4096) },
        _ => Kind::Delete,
    }
}
