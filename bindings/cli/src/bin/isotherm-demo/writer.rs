//! The process that is killed: stores, and notes every acknowledgement at once.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use isotherm::Store;
use isotherm::config::Config;
use isotherm_cli::failure::{Failure, Outcome};
use isotherm_cli::output::human_size;
use isotherm_cli::parallel;
use isotherm_cli::source::Source;

use crate::data::{self, AFTER, CHECKPOINT, PART_LEN, TREE};
use crate::plan::{CONFIG, STORE};

/// The list of acknowledgements in the work directory.
pub const ACKNOWLEDGED: &str = "acknowledged";
/// Begins the line that tells the conductor that everything is stored.
pub const STORED: &str = "everything is stored";

/// Keys that are written until the kill: few, so that each is overwritten before it.
const AFTER_BLOBS: u64 = 64;
/// A writer that is not killed within this time ends by itself.
const WAIT_FOR_KILL: Duration = Duration::from_secs(60);

/// A line for every put that returned, written before the next put of that thread.
struct Acknowledgements(File);

impl Acknowledgements {
    fn create(work: &Path) -> Outcome<Acknowledgements> {
        let path = work.join(ACKNOWLEDGED);
        let file = OpenOptions::new().append(true).create_new(true).open(&path);
        Ok(Acknowledgements(file.map_err(|error| Failure::of_file("write of", &path, &error))?))
    }

    fn note(&self, bucket: &str, key: &[u8], generation: u64) -> Outcome {
        let record = data::acknowledgement(bucket, key, generation);
        // One write to a file in append mode: records of several threads do not mix.
        let written = (&self.0).write_all(&record);
        written.map_err(|error| Failure::Other(format!("note of an acknowledgement: {error}")))
    }
}

/// Stores the tree and the checkpoint, says so, and writes on until it is killed.
pub fn write(work: &Path, trees: &[PathBuf]) -> Outcome {
    let store = Store::open(work.join(STORE), Config::from_file(work.join(CONFIG))?)?;
    let notes = Acknowledgements::create(work)?;
    store_tree(&store, &notes, trees)?;
    store_checkpoint(&store, &notes, work)?;
    println!("{STORED}; writing on until killed");
    overwrite_until_killed(&store, &notes)
}

/// The same few keys again and again, one put at a time: the kill must find a write, not a full
/// tier. The end is for the case that the conductor is gone.
fn overwrite_until_killed(store: &Store, notes: &Acknowledgements) -> Outcome {
    let (bucket, started) = (store.bucket(AFTER)?, Instant::now());
    let rounds =
        (0..).flat_map(|generation| (0..AFTER_BLOBS).map(move |number| (generation, number)));
    for (generation, number) in rounds.take_while(|_| started.elapsed() < WAIT_FOR_KILL) {
        let key = data::part_key(number);
        bucket.put(key.as_bytes(), &data::overwrite(number, generation))?;
        notes.note(AFTER, key.as_bytes(), generation)?;
    }
    Err(Failure::Other("nobody killed the writer".to_string()))
}

fn store_tree(store: &Store, notes: &Acknowledgements, trees: &[PathBuf]) -> Outcome {
    let files = data::list_trees(trees)?;
    let (bucket, started) = (store.bucket(TREE)?, Instant::now());
    parallel::for_each(files.iter().map(Ok), |file| {
        bucket.put(&file.key, &Source::file(&file.path)?)?;
        notes.note(TREE, &file.key, 0)
    })?;
    let bytes = files.iter().map(|file| file.len).sum();
    report("tree", files.len() as u64, bytes, started);
    Ok(())
}

fn store_checkpoint(store: &Store, notes: &Acknowledgements, work: &Path) -> Outcome {
    let listed = data::read_hash_list(work)?;
    let parts = listed.iter().filter(|expected| expected.bucket == CHECKPOINT).count() as u64;
    let (bucket, started) = (store.bucket(CHECKPOINT)?, Instant::now());
    for number in 0..parts {
        let key = data::part_key(number);
        bucket.put(key.as_bytes(), &data::generate(number, PART_LEN))?;
        notes.note(CHECKPOINT, key.as_bytes(), 0)?;
    }
    report("checkpoint", parts, parts * PART_LEN, started);
    Ok(())
}

fn report(what: &str, blobs: u64, bytes: u64, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    let rate = human_size((bytes as f64 / seconds.max(1e-9)) as u64);
    let size = human_size(bytes);
    println!(
        "{what:<11} {blobs} blobs, {size} acknowledged in {seconds:.1} s, {rate}/s with reading or making it"
    );
}
