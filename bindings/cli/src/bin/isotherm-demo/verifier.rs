//! The process after the kill: every acknowledged blob must be there and right.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use isotherm::config::Config;
use isotherm::error::ErrorKind;
use isotherm::{Bucket, Store};
use isotherm_cli::failure::{Failure, Outcome};
use isotherm_cli::inspect;
use isotherm_cli::output::{human_size, printable};
use isotherm_cli::parallel;
use isotherm_cli::progress::Progress;
use isotherm_cli::transfer::copy_out;
use sha2::{Digest, Sha256};

use crate::data::{self, AFTER, AFTER_LEN, CHECKPOINT, Hash, TREE};
use crate::plan::STORE;
use crate::writer::ACKNOWLEDGED;

/// How long the hot blob is read over and over.
const HEATING: Duration = Duration::from_secs(2);
/// The hot blob is the first of these sizes on the slow tier.
const HOT_LEN: std::ops::RangeInclusive<u64> = 1 << 20..=8 << 20;

#[derive(Default)]
struct Count {
    right: AtomicU64,
    wrong: AtomicU64,
    missing: AtomicU64,
    bytes: AtomicU64,
}

/// Verifies, then shows where a hot and a cold blob lie.
pub fn verify(work: &Path) -> Outcome {
    let opened = Instant::now();
    let config = Config::builder().create(false).build()?;
    let store = Store::open(work.join(STORE), config)?;
    println!("reopened after the kill in {:.2} s", opened.elapsed().as_secs_f64());
    let expected = expected_hashes(work)?;
    let checked = check_all(&store, work, &expected);
    let shown = checked.and_then(|()| show_heat(&store));
    store.close()?;
    shown
}

type Hashes = HashMap<(String, Vec<u8>), Hash>;

fn expected_hashes(work: &Path) -> Outcome<Hashes> {
    let listed = data::read_hash_list(work)?.into_iter();
    Ok(listed.map(|expected| ((expected.bucket, expected.key), expected.hash)).collect())
}

fn check_all(store: &Store, work: &Path, expected: &Hashes) -> Outcome {
    let puts = data::read_list(&work.join(ACKNOWLEDGED))?;
    let acknowledged: BTreeSet<_> = puts.into_iter().collect();
    let (count, started) = (Count::default(), Instant::now());
    let buckets = [TREE, CHECKPOINT, AFTER];
    let open = |name: &&str| Ok((name.to_string(), store.bucket(name)?));
    let buckets = buckets.iter().map(open).collect::<Outcome<HashMap<String, Bucket>>>()?;
    let progress = Progress::new("verifying", None);
    parallel::for_each(acknowledged.iter().map(Ok), |name| {
        let found = data::split_name(name)
            .and_then(|(bucket, key)| Some((buckets.get(&bucket)?, bucket, key)));
        let Some((handle, bucket, key)) = found else {
            return Err(Failure::Other("the list of acknowledgements is damaged".to_string()));
        };
        let wanted = wanted_hash(expected, bucket, &key);
        check_one(handle, &key, wanted, &count, &progress)
    })?;
    drop(progress);
    let of_sources = acknowledged.iter().filter(|name| !name.starts_with(b"after/")).count();
    summarise(&count, of_sources, acknowledged.len(), expected.len(), started)
}

fn wanted_hash(expected: &Hashes, bucket: String, key: &[u8]) -> Option<Hash> {
    if bucket != AFTER {
        return expected.get(&(bucket, key.to_vec())).copied();
    }
    let number = std::str::from_utf8(key).ok()?.strip_prefix("part-")?.parse().ok()?;
    Some(data::hash(&data::generate(number, AFTER_LEN)))
}

fn check_one(
    bucket: &Bucket,
    key: &[u8],
    wanted: Option<Hash>,
    count: &Count,
    progress: &Progress,
) -> Outcome {
    let mut hasher = Sha256::new();
    let read = copy_out(bucket, key, progress, &mut |piece| {
        hasher.update(piece);
        count.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        Ok(())
    });
    let got: Hash = hasher.finalize().into();
    let (counter, complaint) = match read {
        Ok(()) if Some(got) == wanted => (&count.right, None),
        Ok(()) => (&count.wrong, Some("has other bytes".to_string())),
        Err(Failure::Engine(error)) if error.kind() == ErrorKind::NotFound => {
            (&count.missing, Some("is missing".to_string()))
        }
        Err(failure) => (&count.wrong, Some(failure.to_string())),
    };
    counter.fetch_add(1, Ordering::Relaxed);
    if let Some(complaint) = complaint {
        eprintln!("'{}' {complaint}", printable(key));
    }
    Ok(())
}

fn summarise(
    count: &Count,
    of_sources: usize,
    acknowledged: usize,
    listed: usize,
    started: Instant,
) -> Outcome {
    let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (right, wrong, missing) = (value(&count.right), value(&count.wrong), value(&count.missing));
    println!(
        "acknowledged {acknowledged} blobs ({of_sources} of {listed} sources, {} until the kill)",
        acknowledged - of_sources
    );
    println!(
        "verified     {right} right, {wrong} wrong, {missing} missing; {} read and hashed in {:.1} s",
        human_size(value(&count.bytes)),
        started.elapsed().as_secs_f64()
    );
    if of_sources != listed {
        return Err(Failure::Other("not every source was acknowledged".to_string()));
    }
    if right != acknowledged as u64 {
        return Err(Failure::Other(format!("{wrong} wrong and {missing} missing blobs")));
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
