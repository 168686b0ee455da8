//! What is done with the store while the disk records.

use std::path::Path;
use std::time::Duration;

use isotherm::config::{Config, Tier};
use isotherm::{Batch, Bucket, Durability, PutOptions, Scope, Store};
use isotherm_sim::rng::Rng;

use crate::history::{Call, Clock, Digest, History, digest};
use crate::mounts::Outcome;

const CALLERS: u64 = 3;
/// Blobs of one caller.
const BLOBS: u64 = 24;
/// Calls of one caller between an opening and a close.
const CALLS: u64 = 300;
const VALUE_MAX: u64 = 256 << 10;
/// Above the largest value that rides in the log.
const SMALL_MAX: u64 = 20 << 10;

/// Tiers as small as they can be, the upper one nearly always too full: data moves down, and log and
/// segments are used again.
fn config(seed: u64) -> Outcome<Config> {
    let config = Config::builder()
        .tier(Tier::dram("8MiB"))
        .tier(Tier::nvme("64MiB").watermarks(0.02, 0.05))
        .tier(Tier::hdd("64MiB"))
        .segment_size("4MiB")
        .flush_interval(Duration::from_millis(20))
        .shards(1 + (seed % 2) as u16)
        .page_extents(4)
        .build()?;
    Ok(config)
}

/// Opens the store under a directory, or makes it.
pub fn open(files: &Path, seed: u64) -> Outcome<(Store, Bucket)> {
    let store = Store::open(files.join("store"), config(seed)?)?;
    let bucket = store.bucket("b")?;
    Ok((store, bucket))
}

/// What has gone on behind the calls.
#[derive(Clone, Copy, Default, Debug)]
pub struct Behind {
    /// Segments that were emptied into the next tier.
    pub demotions: u64,
    /// Segments that were emptied for their room.
    pub cleanings: u64,
}

/// Two openings, in each of which all callers do their calls.
pub fn run(files: &Path, seed: u64, clock: &Clock<'_>) -> Outcome<(History, Behind)> {
    let mut callers: Vec<Caller> = (0..CALLERS).map(|number| Caller::new(seed, number)).collect();
    let mut closes = History::default();
    let mut behind = Behind::default();
    for _ in 0..2 {
        let (store, bucket) = open(files, seed)?;
        std::thread::scope(|scope| {
            let run = |caller| scope.spawn(|| run_caller(caller, &store, &bucket, clock));
            let running: Vec<_> = callers.iter_mut().map(run).collect();
            let ended = running.into_iter().map(|caller| match caller.join() {
                Ok(outcome) => outcome,
                Err(_) => Err("a caller panicked".into()),
            });
            ended.collect::<Outcome<Vec<()>>>()
        })?;
        let organizer = store.stats().organizer;
        behind.demotions += organizer.demotions;
        behind.cleanings += organizer.cleanings;
        drop(bucket);
        let began = clock.now();
        store.close()?;
        closes.add_flush(Call { began, acknowledged: clock.now() });
    }
    let mut history = closes;
    callers.into_iter().for_each(|caller| history.append(caller.history));
    Ok((history, behind))
}

fn run_caller(
    caller: &mut Caller,
    store: &Store,
    bucket: &Bucket,
    clock: &Clock<'_>,
) -> Outcome<()> {
    for _ in 0..CALLS {
        caller.step(store, bucket, clock)?;
    }
    Ok(())
}

/// A change of one blob.
enum Edit {
    Put(Vec<u8>),
    PutAt(u64, Vec<u8>),
    Append(Vec<u8>),
    Truncate(u64),
    Delete,
}

impl Edit {
    /// What becomes of a value.
    fn apply(&self, value: &mut Option<Vec<u8>>) {
        match self {
            Edit::Put(bytes) => *value = Some(bytes.clone()),
            Edit::Delete => *value = None,
            Edit::PutAt(at, bytes) => write(value.get_or_insert_default(), *at as usize, bytes),
            Edit::Append(bytes) => value.get_or_insert_default().extend(bytes),
            Edit::Truncate(len) => value.get_or_insert_default().resize(*len as usize, 0),
        }
    }
}

fn write(value: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    value.resize(value.len().max(end), 0);
    value[at..end].copy_from_slice(bytes);
}

/// One thread, the blobs that it alone changes, and all it did.
struct Caller {
    rng: Rng,
    /// One change in so many is Durable.
    durable_one_in: u64,
    values: Vec<Option<Vec<u8>>>,
    history: History,
}

impl Caller {
    fn new(seed: u64, number: u64) -> Caller {
        let mut history = History::default();
        for blob in 0..BLOBS {
            history.add_blob(format!("caller {number}/blob {blob}").into_bytes());
        }
        Caller {
            rng: Rng::new(seed << 8 | number),
            durable_one_in: Rng::new(seed).pick(&[2, 4, 16]),
            values: vec![None; BLOBS as usize],
            history,
        }
    }

    fn step(&mut self, store: &Store, bucket: &Bucket, clock: &Clock<'_>) -> Outcome<()> {
        if self.rng.one_in(80) {
            let began = clock.now();
            store.flush(Scope::Store)?;
            self.history.add_flush(Call { began, acknowledged: clock.now() });
            return Ok(());
        }
        let is_durable = self.rng.one_in(self.durable_one_in);
        let level = if is_durable { Durability::Durable } else { Durability::Written };
        let edits = self.draw();
        let began = clock.now();
        match edits.as_slice() {
            [(blob, edit)] => self.change(bucket, *blob, edit, level)?,
            edits => self.commit(store, bucket, edits, level)?,
        }
        let call = Call { began, acknowledged: clock.now() };
        let contents: Vec<(usize, Digest)> = edits
            .iter()
            .map(|(blob, edit)| {
                edit.apply(&mut self.values[*blob]);
                (*blob, digest(self.values[*blob].as_deref()))
            })
            .collect();
        self.history.add_change(call, is_durable, &contents);
        Ok(())
    }

    /// One edit, or now and then those of a batch, each of another blob.
    fn draw(&mut self) -> Vec<(usize, Edit)> {
        let count = if self.rng.one_in(6) { 2 + self.rng.below(5) } else { 1 };
        let first = self.rng.below(BLOBS);
        let blobs = (0..count).map(|next| ((first + next) % BLOBS) as usize);
        blobs.map(|blob| (blob, self.draw_edit(blob))).collect()
    }

    fn draw_edit(&mut self, blob: usize) -> Edit {
        let max = self.rng.pick(&[SMALL_MAX, SMALL_MAX, VALUE_MAX]);
        let mut bytes = vec![0; self.rng.log_uniform(max) as usize];
        for word in bytes.chunks_mut(8) {
            word.copy_from_slice(&self.rng.next().to_le_bytes()[..word.len()]);
        }
        let Some(len) = self.values[blob].as_ref().map(|value| value.len() as u64) else {
            return Edit::Put(bytes);
        };
        match self.rng.below(20) {
            0..9 => Edit::Put(bytes),
            9..14 => Edit::PutAt(self.rng.below(len + 1), bytes),
            14..16 if len < VALUE_MAX => Edit::Append(bytes),
            16..18 => Edit::Truncate(self.rng.below(len + 4096)),
            _ => Edit::Delete,
        }
    }

    fn change(&self, bucket: &Bucket, blob: usize, edit: &Edit, level: Durability) -> Outcome<()> {
        let key = &self.history.blobs[blob].key;
        let options = PutOptions::from(level);
        match edit {
            Edit::Put(bytes) => drop(bucket.put_with(key, bytes, options)?),
            Edit::PutAt(at, bytes) => drop(bucket.put_at_with(key, *at, bytes, options)?),
            Edit::Append(bytes) => drop(bucket.append_with(key, bytes, options)?),
            Edit::Truncate(len) => drop(bucket.truncate_with(key, *len, options)?),
            Edit::Delete => bucket.delete_with(key, options)?,
        }
        Ok(())
    }

    fn commit(
        &self,
        store: &Store,
        bucket: &Bucket,
        edits: &[(usize, Edit)],
        level: Durability,
    ) -> Outcome<()> {
        let mut batch = Batch::new();
        for (blob, edit) in edits {
            let key = &self.history.blobs[*blob].key;
            match edit {
                Edit::Put(bytes) => batch.put(bucket, key, bytes),
                Edit::PutAt(at, bytes) => batch.put_at(bucket, key, *at, bytes),
                Edit::Append(bytes) => batch.append(bucket, key, bytes),
                Edit::Truncate(len) => batch.truncate(bucket, key, *len),
                Edit::Delete => batch.delete(bucket, key),
            };
        }
        store.commit(&batch, Some(level))?;
        Ok(())
    }
}
