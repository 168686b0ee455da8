//! The process after the kill: every acknowledged blob must be there and right.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use isotherm::config::Config;
use isotherm::{Bucket, Store};
use isotherm_cli::failure::{Failure, Outcome};
use isotherm_cli::inspect;
use isotherm_cli::output::human_size;
use isotherm_cli::parallel;
use isotherm_cli::progress::Progress;

use crate::data::{self, AFTER, CHECKPOINT, Hash, TREE};
use crate::plan::STORE;
use crate::verdict::{self, Count, Totals};
use crate::writer::ACKNOWLEDGED;

/// How long the hot blob is read over and over.
const HEATING: Duration = Duration::from_secs(2);
/// The hot blob is the first of these sizes on the slow tier.
const HOT_LEN: std::ops::RangeInclusive<u64> = 1 << 20..=8 << 20;

/// Verifies, then shows where a hot and a cold blob lie.
pub fn verify(work: &Path) -> Outcome {
    let opened = Instant::now();
    let config = Config::builder().create(false).build()?;
    let store = Store::open(work.join(STORE), config)?;
    println!("reopened after the kill in {:.2} s", opened.elapsed().as_secs_f64());
    let puts = Puts::read(work)?;
    let checked = check_all(&store, &puts, &expected_hashes(work)?);
    let shown = checked.and_then(|()| show_heat(&store));
    store.close()?;
    shown
}

/// The puts that were acknowledged.
struct Puts {
    /// Of each blob, the generation of the newest.
    newest: BTreeMap<(String, Vec<u8>), u64>,
    /// Of blobs that were written until the kill.
    until_the_kill: usize,
}

impl Puts {
    fn read(work: &Path) -> Outcome<Puts> {
        let mut puts = Puts { newest: BTreeMap::new(), until_the_kill: 0 };
        for line in data::read_list(&work.join(ACKNOWLEDGED))? {
            let Some(put) = data::parse_acknowledgement(&line) else {
                return Err(Failure::Other("the list of acknowledgements is damaged".to_string()));
            };
            puts.until_the_kill += usize::from(put.bucket == AFTER);
            let newest = puts.newest.entry((put.bucket, put.key)).or_default();
            *newest = put.generation.max(*newest);
        }
        Ok(puts)
    }

    /// Blobs of the tree and the checkpoint.
    fn sources(&self) -> usize {
        self.newest.keys().filter(|(bucket, _)| bucket != AFTER).count()
    }
}

type Hashes = HashMap<(String, Vec<u8>), Hash>;

fn expected_hashes(work: &Path) -> Outcome<Hashes> {
    let listed = data::read_hash_list(work)?.into_iter();
    Ok(listed.map(|expected| ((expected.bucket, expected.key), expected.hash)).collect())
}

fn check_all(store: &Store, puts: &Puts, expected: &Hashes) -> Outcome {
    let (count, started) = (Count::default(), Instant::now());
    let (tree, checkpoint) = (store.bucket(TREE)?, store.bucket(CHECKPOINT)?);
    let after = store.bucket(AFTER)?;
    let progress = Progress::new("verifying", None);
    parallel::for_each(puts.newest.iter().map(Ok), |(name, generation)| {
        let (bucket, key) = name;
        let verdict = match bucket.as_str() {
            AFTER => verdict::of_overwritten(&after, key, *generation, &progress),
            bucket => {
                let handle = if bucket == TREE { &tree } else { &checkpoint };
                verdict::of_source(handle, key, expected.get(name).copied(), &progress)
            }
        };
        count.note(key, &verdict);
        Ok(())
    })?;
    let bytes = progress.done();
    drop(progress);
    summarise(puts, expected.len(), &count.totals(), bytes, started)
}

fn summarise(puts: &Puts, listed: usize, totals: &Totals, bytes: u64, started: Instant) -> Outcome {
    let (blobs, sources) = (puts.newest.len(), puts.sources());
    let Totals { right, later, wrong, missing } = *totals;
    println!(
        "acknowledged {blobs} blobs: {sources} of {listed} sources, and {} overwritten until the kill, by {} puts",
        blobs - sources,
        puts.until_the_kill
    );
    println!(
        "verified     {right} as acknowledged last, {later} by the put that the kill met, {wrong} wrong, {missing} missing; {} read in {:.1} s",
        human_size(bytes),
        started.elapsed().as_secs_f64()
    );
    if sources != listed {
        return Err(Failure::Other("not every source was acknowledged".to_string()));
    }
    if wrong + missing > 0 {
        return Err(Failure::Other(format!("{wrong} wrong and {missing} missing blobs")));
    }
    // The writer puts one blob at a time.
    if later > 1 {
        return Err(Failure::Other(format!("{later} blobs are of puts that were not made")));
    }
    Ok(())
}

/// Reads one blob over and over, and shows where it lies before, after, and beside one that was
/// read once.
fn show_heat(store: &Store) -> Outcome {
    let tree = store.bucket(TREE)?;
    let Some(hot) = find_cold_blob(&tree)? else {
        println!("the tree has no blob of 1 to 8 MiB on a slow tier to heat");
        return Ok(());
    };
    println!("\na blob on the slow tier, before it is hot");
    print!("{}", inspect::buffers_text(&hot, &first(&tree, &hot)?));
    let (started, mut reads) = (Instant::now(), 0);
    while started.elapsed() < HEATING {
        tree.get(&hot)?;
        reads += 1;
        // A reader of a hot blob does other things too; and the organizer gets its turn.
        std::thread::sleep(Duration::from_millis(5));
    }
    println!("\nhot: the same blob, read {reads} times in {} s", HEATING.as_secs());
    print!("{}", inspect::buffers_text(&hot, &first(&tree, &hot)?));
    let checkpoint = store.bucket(CHECKPOINT)?;
    let cold = data::part_key(0);
    println!("\ncold: read once, by the verification; its first buffers");
    println!("{}", inspect::summary(&checkpoint.locate(cold.as_bytes())?));
    print!("{}", inspect::buffers_text(cold.as_bytes(), &first(&checkpoint, cold.as_bytes())?));
    println!("\nthe tiers in this process");
    print!("{}", inspect::tiers_text(&store.info()));
    Ok(())
}

/// A blob of a few buffers whose first lies below the fastest device and not in DRAM.
fn find_cold_blob(tree: &Bucket) -> Outcome<Option<Vec<u8>>> {
    for item in tree.scan(isotherm::ScanRange::all()) {
        let item = item?;
        if HOT_LEN.contains(&item.len) {
            let is_cold = |place: &isotherm::BufferPlace| {
                !place.in_dram && place.tier.is_some_and(|tier| tier.index() > 0)
            };
            if tree.locate(&item.key)?.first().is_some_and(is_cold) {
                return Ok(Some(item.key.to_vec()));
            }
        }
    }
    Ok(None)
}

/// The first buffers of a blob: enough to see.
fn first(bucket: &Bucket, key: &[u8]) -> Outcome<Vec<isotherm::BufferPlace>> {
    let mut places = bucket.locate(key)?;
    places.truncate(8);
    Ok(places)
}
