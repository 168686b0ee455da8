//! The faults are over: whatever they have left, everything completes now, and within a bounded time.

use std::time::Duration;

use isotherm::io::runtime::Runtime;
use isotherm::{Bucket, Durability, Error, PutOptions, Scope};

use crate::calls::{self, Call};
use crate::common::Common;
use crate::life::Life;
use crate::oracle::{KeyId, Value};
use crate::rng::Rng;

/// Simulated time for all of it. A device answers within 50 ms at its slowest, and a wait for room ends
/// after a minute.
const PATIENCE: Duration = Duration::from_secs(50);
/// Bytes of a value that is put now: one in the log, or one in segments.
const LEN_MAX: u64 = 40_000;

/// Lets a store go on over devices that are well again, and says what is wrong.
///
/// One whose flush has failed takes no change until it is opened again, and answers all reads. Any other
/// takes deletes, though its devices have been full, then puts of every level, and a flush.
pub fn check(common: &Common, life: &Life, rng: &mut Rng) -> Result<(), String> {
    let runtime = Runtime::Sim(life.world.clone());
    let deadline = life.world.now().after(PATIENCE);
    let is_latched = life.store.info().poisoned.is_some();
    let live = async {
        match is_latched {
            true => stay_latched(common, life).await,
            false => go_on(common, life, rng).await,
        }
    };
    match runtime.block_on_until(deadline, live) {
        Some(done) => done.map_err(|what| format!("after the faults: {what}")),
        None => Err(format!("after the faults: no end within {PATIENCE:?}")),
    }
}

async fn go_on(common: &Common, life: &Life, rng: &mut Rng) -> Result<(), String> {
    let fails = |what: &'static str| move |error: Error| format!("{what}: {error}");
    let buckets = common.buckets(&life.store).await.map_err(fails("the buckets"))?;
    for key in 0..common.names.len() {
        let (bucket, held) = (common.bucket(&buckets, key), read(common, &buckets, key).await?);
        let is_uncertain = common.oracle.borrow().is_uncertain(key);
        if held.is_some() && (is_uncertain || rng.one_in(2)) {
            let done = change(common, bucket, key, &held, &Call::Delete, Durability::Written);
            done.await.map_err(fails("a delete"))?;
        }
    }
    life.store.compact_async().await.map_err(fails("the compaction"))?;
    for key in 0..common.names.len() {
        let (bucket, held) = (common.bucket(&buckets, key), read(common, &buckets, key).await?);
        let level = rng.pick(&[Durability::Memory, Durability::Written, Durability::Durable]);
        let len = rng.below(LEN_MAX);
        let put = Call::Put(calls::bytes(rng, len));
        change(common, bucket, key, &held, &put, level).await.map_err(fails("a put"))?;
        read(common, &buckets, key).await?;
    }
    let flush = common.oracle.borrow().begin_flush();
    life.store.flush_async(Scope::Store).await.map_err(fails("the flush"))?;
    common.oracle.borrow_mut().acknowledge_flush(&flush);
    Ok(())
}

async fn stay_latched(common: &Common, life: &Life) -> Result<(), String> {
    // A bucket that was being destroyed may be gone, and no new one can be made.
    let open = |name: String| life.store.open_bucket(&name).ok();
    let buckets: Vec<Option<Bucket>> = common.bucket_names().map(open).collect();
    for key in 0..common.names.len() {
        let Some(bucket) = &buckets[common.bucket_of(key)] else { continue };
        read_in(common, bucket, key).await?;
        let put = Call::Put([1].into());
        let options = PutOptions::from(Durability::Written);
        if put.make(bucket, &common.names[key], options).await.is_ok() {
            return Err(format!("a put of key {key} is taken behind a failed flush"));
        }
    }
    match life.store.flush_async(Scope::Store).await {
        Ok(()) => Err("a flush succeeds behind a failed one".to_owned()),
        Err(_) => Ok(()),
    }
}

async fn read(common: &Common, buckets: &[Bucket], key: KeyId) -> Result<Value, String> {
    read_in(common, common.bucket(buckets, key), key).await
}

/// What a key holds, which is what it must hold.
async fn read_in(common: &Common, bucket: &Bucket, key: KeyId) -> Result<Value, String> {
    let held = calls::get(bucket, &common.names[key]).await;
    let held = held.map_err(|error| format!("a get of key {key}: {error}"))?;
    let oracle = common.oracle.borrow();
    if !oracle.is_uncertain(key) && held != oracle.value(key) {
        return Err(format!("a get of key {key} shows something else"));
    }
    Ok(held)
}

/// Makes a change of what a key was found to hold.
async fn change(
    common: &Common,
    bucket: &Bucket,
    key: KeyId,
    held: &Value,
    call: &Call,
    level: Durability,
) -> isotherm::Result<()> {
    let op = common.oracle.borrow_mut().begin(&[(key, call.applied(held))], level);
    call.make(bucket, &common.names[key], PutOptions::from(level)).await?;
    common.oracle.borrow_mut().acknowledge(&op);
    Ok(())
}
