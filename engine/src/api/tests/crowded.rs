//! Changes that wait for room on a tier that is nearly full, in the simulator: none of them may hold
//! what the others wait for.

use std::pin::Pin;
use std::time::Duration;

use crate::api::edit::Edit;
use crate::api::{Batch, Bucket};
use crate::error::ErrorKind;
use crate::store::Store;
use crate::testing::{SimStore, config, poll};
use crate::types::Durability;

/// More than segments.
const CALLERS: usize = 24;
/// Blobs of each, of a length that goes to a segment by itself. All of them nearly fill the tier.
const BLOBS: usize = 2;
const BIG: usize = 280_000;
const ROUNDS: usize = 40;
/// Simulated time for all of it.
const PATIENCE: Duration = Duration::from_secs(120);

type Calls<'a> = Vec<Pin<Box<dyn Future<Output = ()> + 'a>>>;

/// Lets them all work until they have ended.
fn run(sim: &SimStore, mut calls: Calls<'_>) {
    let start = sim.world.now();
    while !calls.is_empty() {
        calls.retain_mut(|call| poll(call).is_pending());
        sim.world.step();
        let waited = sim.world.now().since(start);
        assert!(waited < PATIENCE, "{} callers wait for ever", calls.len());
    }
}

/// Replaces a big blob and one that rides in the log, together.
async fn replace_both(store: &Store, bucket: &Bucket, caller: usize) {
    for round in 0..ROUNDS {
        let blob = round % BLOBS;
        let mut batch = Batch::new();
        batch.put(bucket, format!("big {caller} {blob}").as_bytes(), vec![round as u8; BIG]);
        batch.put(bucket, format!("small {caller}").as_bytes(), vec![round as u8; 9000]);
        admitted(store.commit_async(&batch, Some(Durability::Written)).await);
    }
}

/// Writes over the middle of a blob whose other bytes are in DRAM alone: those go to a segment, and
/// the middle rides in the log.
async fn replace_middle(bucket: &Bucket, caller: usize) {
    for round in 0..ROUNDS {
        let key = format!("{caller} {}", round % BLOBS);
        let (key, whole, middle) = (key.as_bytes(), vec![round as u8; BIG], [round as u8; 9000]);
        admitted(bucket.edit(key, Edit::Replace(&whole), Durability::Memory.into()).await);
        admitted(bucket.edit(key, Edit::PutAt(7000, &middle), Durability::Written.into()).await);
    }
}

/// No room for the change is an answer, to wait for ever is none.
fn admitted<T>(result: crate::error::Result<T>) {
    if let Err(error) = result {
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    }
}

#[test]
fn batches_of_big_and_small_blobs_do_not_wait_for_each_other_on_a_full_tier() {
    for seed in 0..4 {
        let sim = SimStore::new(seed, config(2));
        let bucket = sim.bucket("b");
        let calls = (0..CALLERS).map(|caller| {
            Box::pin(replace_both(&sim.store, &bucket, caller)) as Pin<Box<dyn Future<Output = ()>>>
        });
        run(&sim, calls.collect());
        assert!(sim.store.stats().organizer.cleanings > 0, "seed {seed}: nothing was cleaned");
        drop(bucket);
        sim.store.close().unwrap();
    }
}

#[test]
fn changes_of_dirty_blobs_do_not_wait_for_each_other_on_a_full_tier() {
    for seed in 0..4 {
        let sim = SimStore::new(seed, config(2));
        let bucket = sim.bucket("b");
        let calls = (0..CALLERS).map(|caller| {
            Box::pin(replace_middle(&bucket, caller)) as Pin<Box<dyn Future<Output = ()>>>
        });
        run(&sim, calls.collect());
        assert!(sim.store.stats().organizer.cleanings > 0, "seed {seed}: nothing was cleaned");
        drop(bucket);
        sim.store.close().unwrap();
    }
}
