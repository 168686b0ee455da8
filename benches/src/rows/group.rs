//! Several blobs at once, and copies: figures that stand beside isotherm's own.

use std::time::Instant;

use isotherm::config::{Config, Tier};
use isotherm::{Batch, Bucket, Durability, PutOptions, Store};

use crate::Outcome;
use crate::arguments::Arguments;
use crate::picks::{fill, key};
use crate::rounds::median;
use crate::table::{Fact, Section};

/// Blobs of a batch, and bytes of each.
const BLOBS: usize = 1000;
const BLOB_LEN: usize = 1 << 10;
/// Of each kind per round.
const TIMES: usize = 20;
const COPIED_LEN: usize = 1 << 30;
/// Bytes put at a time while the large blob is made.
const PIECE_LEN: usize = 64 << 20;
const BATCH_GOAL: f64 = 3.0;
const COPY_GOAL_MS: f64 = 10.0;

/// Runs them.
pub fn run(arguments: &Arguments) -> Outcome<Section> {
    let note = "One caller. A batch of 1,000 blobs of 1 KiB and a put of one, both Durable, in turns; a \
                copy of a blob of 1 GiB at Written level.";
    let mut section = Section::new("Several blobs", note);
    if !arguments.wants("batch") && !arguments.wants("copy") {
        return Ok(section);
    }
    let place = tempfile::tempdir_in(&arguments.directory)?;
    let tiers = Config::builder().tier(Tier::dram("64MiB")).tier(Tier::nvme("6GiB"));
    let store = Store::open(place.path().join("store"), tiers.build()?)?;
    let bucket = store.bucket("b")?;
    if arguments.wants("batch") {
        eprintln!("batch");
        section.facts.push(batch(arguments, &store, &bucket)?);
    }
    if arguments.wants("copy") {
        eprintln!("copy");
        section.facts.push(copy(arguments, &bucket)?);
    }
    store.close()?;
    Ok(section)
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

fn batch(arguments: &Arguments, store: &Store, bucket: &Bucket) -> Outcome<Fact> {
    let durable = Durability::Durable;
    let mut value = vec![0; BLOB_LEN];
    fill(&mut value, 1);
    let keys: Vec<_> = (0..BLOBS).map(key).collect();
    let (mut batches, mut puts) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds * TIMES {
        let start = Instant::now();
        bucket.put_with(b"alone", &value, durable.into())?;
        puts.push(milliseconds(start));
        let mut batch = Batch::new();
        for key in &keys {
            batch.put(bucket, &key[..], &value[..]);
        }
        let start = Instant::now();
        store.commit(&batch, Some(durable))?;
        batches.push(milliseconds(start));
    }
    let (batch, put) = (median(batches), median(puts));
    Ok(Fact {
        what: "batch of 1,000 x 1 KiB, Durable, against one Durable put".into(),
        value: format!("{batch:.2} ms / {put:.2} ms = {:.1}", batch / put),
        goal: format!("<= {BATCH_GOAL:.0}"),
        met: batch <= BATCH_GOAL * put,
    })
}

fn copy(arguments: &Arguments, bucket: &Bucket) -> Outcome<Fact> {
    let mut piece = vec![0; PIECE_LEN];
    fill(&mut piece, 2);
    for at in (0..COPIED_LEN).step_by(PIECE_LEN) {
        bucket.put_at(b"large", at as u64, &piece)?;
    }
    let mut took = Vec::new();
    for number in 0..arguments.rounds * TIMES {
        let start = Instant::now();
        bucket.copy(b"large", bucket, &key(number)[..], PutOptions::default())?;
        took.push(milliseconds(start));
    }
    let took = median(took);
    Ok(Fact {
        what: "copy of a blob of 1 GiB".into(),
        value: format!("{took:.2} ms"),
        goal: format!("< {COPY_GOAL_MS:.0} ms"),
        met: took < COPY_GOAL_MS,
    })
}
