//! A store that goes on through many kills, and what is found in it after each.

use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;

use isotherm::config::{Config, IoChoice, Tier};
use isotherm::{Bucket, CheckOptions, ErrorKind, ScanRange, Store};
use tempfile::TempDir;

use crate::life::{CAPACITY, Death, Life};
use crate::oracle::{KEYS, Oracle, THREADS};

/// One kill in so many is followed by an opening for writing, a check and a clean close.
const CLOSE_EVERY: u64 = 8;

/// What was done and found.
#[derive(Default)]
pub struct Tally {
    pub kills: u64,
    kills_before_the_store_was_open: u64,
    acknowledged: u64,
    found_made: u64,
    found_not_made: u64,
    values: u64,
    bytes: u64,
}

pub struct Place {
    pub io: IoChoice,
    pub tally: Tally,
    seed: u64,
    directory: Option<TempDir>,
    oracle: Oracle,
    lives: u64,
}

impl Place {
    pub fn new(io: IoChoice, seed: u64) -> Place {
        let directory = Some(tempfile::tempdir().unwrap());
        Place { io, tally: Tally::default(), seed, directory, oracle: Oracle::new(), lives: 0 }
    }

    /// One life of the program, and a look at what it leaves. Returns whether it survived. Each life of
    /// a store has changes of its own.
    pub fn run(&mut self, life: &Life) -> bool {
        self.lives += 1;
        let told = life.live(&self.store(), self.io.name(), self.seed ^ self.lives << 32);
        let has_opened = told.lines.contains("opened\n");
        self.oracle.hear(&told.lines);
        self.tally.kills += u64::from(!told.survived);
        self.tally.kills_before_the_store_was_open += u64::from(!told.survived && !has_opened);
        let looked = self.compare(true).and_then(|()| {
            let closes = self.lives.is_multiple_of(CLOSE_EVERY);
            if closes { self.compare(false) } else { Ok(()) }
        });
        if let Err(wrong) = looked {
            let kept = self.directory.take().unwrap().keep();
            panic!(
                "LOST OR WRONG: {wrong}\n{life:?}, life {} of seed {} on {}: {}\nkept in {}",
                self.lives,
                self.seed,
                self.io.name(),
                self.tally,
                kept.display()
            );
        }
        told.survived
    }

    /// One life more, which nothing ends: what is left can be gone on with.
    pub fn finish(&mut self) {
        self.run(&Life { death: Death::None, steps: 5 });
    }

    fn store(&self) -> PathBuf {
        self.directory.as_ref().unwrap().path().join("store")
    }

    /// Opens the store here and compares every key, byte for byte.
    fn compare(&mut self, read_only: bool) -> Result<(), String> {
        let config = Config::builder()
            .tier(Tier::dram("64MiB"))
            .tier(Tier::nvme(CAPACITY))
            .io(self.io)
            .create(false)
            .read_only(read_only);
        let store = match Store::open(self.store(), config.build().unwrap()) {
            Err(error) if error.kind() == ErrorKind::StoreNotFound && !self.oracle.opened => {
                return Ok(()); // Killed while it made the store.
            }
            opened => opened.map_err(|error| format!("the store does not open: {error}"))?,
        };
        let bucket = match store.open_bucket("b") {
            Err(error) if error.kind() == ErrorKind::BucketNotFound && !self.oracle.opened => None,
            bucket => Some(bucket.map_err(|error| format!("the bucket does not open: {error}"))?),
        };
        if let Some(bucket) = &bucket {
            self.compare_bucket(bucket)?;
        }
        if !read_only {
            let report = store.check(&CheckOptions::default(), |_| ControlFlow::Continue(()));
            let report = report.map_err(|error| format!("check: {error}"))?;
            report.is_clean().then_some(()).ok_or(format!("a check finds {report:?}"))?;
        }
        let corruptions = store.stats().corruptions;
        (corruptions == 0).then_some(()).ok_or(format!("{corruptions} corruptions noted"))?;
        drop(bucket);
        store.close().map_err(|error| format!("close: {error}"))
    }

    fn compare_bucket(&mut self, bucket: &Bucket) -> Result<(), String> {
        let mut expected = Vec::new();
        for thread in 0..THREADS {
            let mut found = Vec::new();
            for key in 0..KEYS {
                let name = format!("thread {thread}/key {key:02}").into_bytes();
                let value = match bucket.get(&name) {
                    Ok(value) => Some(value),
                    Err(error) if error.kind() == ErrorKind::NotFound => None,
                    Err(error) => return Err(format!("thread {thread}, key {key}: {error}")),
                };
                self.tally.bytes += value.as_ref().map_or(0, |value| value.len() as u64);
                self.tally.values += 1;
                expected.extend(value.is_some().then_some(name));
                found.push(value);
            }
            let settled = self.oracle.settle(thread, &found);
            settled.map_err(|wrong| format!("thread {thread}: {wrong}"))?;
        }
        let Oracle { acknowledged, found_made, found_not_made, .. } = self.oracle;
        (self.tally.acknowledged, self.tally.found_made, self.tally.found_not_made) =
            (acknowledged, found_made, found_not_made);
        let listed: Result<Vec<Vec<u8>>, _> = bucket
            .scan(ScanRange::all())
            .map(|item| item.map(|item| item.key.into_vec()))
            .collect();
        let listed = listed.map_err(|error| format!("scan: {error}"))?;
        let is_same = listed == expected;
        is_same.then_some(()).ok_or(format!("a scan lists {listed:?}, not {expected:?}"))
    }
}

impl std::ops::AddAssign<&Tally> for Tally {
    fn add_assign(&mut self, other: &Tally) {
        self.kills += other.kills;
        self.kills_before_the_store_was_open += other.kills_before_the_store_was_open;
        self.acknowledged += other.acknowledged;
        self.found_made += other.found_made;
        self.found_not_made += other.found_not_made;
        self.values += other.values;
        self.bytes += other.bytes;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} kills, {} of them before the store was open; {} acknowledged changes checked, \
             0 lost; of those under way {} were made and {} not; {} keys compared, {} MB",
            self.kills,
            self.kills_before_the_store_was_open,
            self.acknowledged,
            self.found_made,
            self.found_not_made,
            self.values,
            self.bytes / 1_000_000
        )
    }
}
