//! A store on a file system whose disk begins to fail: what was acknowledged stays, nothing is
//! acknowledged that is not there, reads are right or errors, and everybody gets an answer.

use std::collections::BTreeMap;

use isotherm::{Bucket, Durability, ErrorKind, PutOptions, Store};
use isotherm_sim::rng::Rng;

use crate::disk::Fault;
use crate::mounts::{Bench, FileSystem, Outcome};
use crate::watchdog::Watchdog;
use crate::workload;

/// XFS wants 300 MiB.
const DISK_LEN: u64 = 320 << 20;
/// Changes while the disk is well.
const BEFORE: u64 = 60;
/// Changes tried on the failing disk.
const DURING: u64 = 40;
/// Larger than what rides in the log, now and then.
const VALUE_MAX: u64 = 100 << 10;

/// Values that must be there, and values that may be.
#[derive(Default)]
struct Values {
    acknowledged: BTreeMap<String, Vec<u8>>,
    refused: BTreeMap<String, Vec<u8>>,
}

/// What a failing disk led to.
#[derive(Default)]
struct Seen {
    /// Changes acknowledged although it was failing.
    acknowledged: u64,
    /// Changes refused, and how they were the last time.
    refused: u64,
    refusal: Option<ErrorKind>,
    /// Reads that were right, and that were refused.
    read: u64,
    unread: u64,
}

/// Lets one disk fail in one way, and says what came of it.
///
/// # Errors
/// What the store did wrong, or what keeps this from being tried.
pub fn fail(
    file_system: FileSystem,
    fault: Fault,
    seed: u64,
    watchdog: &Watchdog,
) -> Outcome<String> {
    let bench = Bench::make(file_system, DISK_LEN)?;
    let mut values = Values::default();
    let mut seen = Seen::default();
    let mut rng = Rng::new(seed);
    let mounted = bench.mount()?;
    let (store, bucket) = workload::open(bench.files(), seed)?;
    for number in 0..BEFORE {
        put(&bucket, number, &mut rng, &mut values)?;
    }
    bench.disk.fail(Some(fault));
    watchdog.feed(&format!("{fault:?} failing under {}", file_system.name()));
    for number in BEFORE..BEFORE + DURING {
        match put(&bucket, number, &mut rng, &mut values)? {
            None => seen.acknowledged += 1,
            Some(kind) => {
                seen.refused += 1;
                seen.refusal = Some(kind);
            }
        }
    }
    read(&bucket, &values, &mut seen)?;
    judge(fault, &store, &bucket, &seen)?;
    drop(bucket);
    let closed = store.close().map_err(|error| error.kind());
    drop(store);
    bench.disk.fail(None);
    mounted.unmount()?;
    watchdog.feed(&format!("after {fault:?} failed under {}", file_system.name()));
    look_again(&bench, &values, seed)?;
    Ok(format!(
        "{}, {fault:?} fail: {} changes acknowledged, {} refused ({:?}); {} reads right, {} refused; \
         close: {closed:?}; afterwards all {} acknowledged are there",
        file_system.name(),
        seen.acknowledged,
        seen.refused,
        seen.refusal,
        seen.read,
        seen.unread,
        values.acknowledged.len()
    ))
}

/// One durable put; the kind of the error it was refused with.
fn put(
    bucket: &Bucket,
    number: u64,
    rng: &mut Rng,
    values: &mut Values,
) -> Outcome<Option<ErrorKind>> {
    let key = format!("blob {number}");
    let value = vec![number as u8; rng.log_uniform(VALUE_MAX) as usize];
    let options = PutOptions::from(Durability::Durable);
    match bucket.put_with(key.as_bytes(), &value, options) {
        Ok(_) => {
            values.acknowledged.insert(key, value);
            Ok(None)
        }
        Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::DeviceFailed) => {
            values.refused.insert(key, value);
            Ok(Some(error.kind()))
        }
        Err(error) => Err(format!("{key} is refused with another error: {error}").into()),
    }
}

/// Every value is right, or cannot be read for the device's sake.
fn read(bucket: &Bucket, values: &Values, seen: &mut Seen) -> Outcome<()> {
    for (key, value) in &values.acknowledged {
        match bucket.get(key.as_bytes()) {
            Ok(found) if found == *value => seen.read += 1,
            Ok(_) => return Err(format!("{key} has another value").into()),
            Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::DeviceFailed) => {
                seen.unread += 1;
            }
            Err(error) => return Err(format!("{key} cannot be read: {error}").into()),
        }
    }
    Ok(())
}

/// A disk that fails to write or to flush lets nothing be acknowledged, and no level of change is taken
/// any more;
/// what DRAM has is still read.
fn judge(fault: Fault, store: &Store, bucket: &Bucket, seen: &Seen) -> Outcome<()> {
    if seen.read == 0 {
        return Err("nothing can be read any more".into());
    }
    if fault == Fault::Reads {
        return Ok(());
    }
    if seen.acknowledged > 0 {
        return Err(format!("{} changes were acknowledged as durable", seen.acknowledged).into());
    }
    for level in [Durability::Memory, Durability::Written, Durability::Durable] {
        match bucket.put_with(b"late", b"late", PutOptions::from(level)) {
            Err(error) if error.kind() == ErrorKind::DeviceFailed => {}
            other => {
                return Err(
                    format!("a change at {level:?} after {fault:?} failed: {other:?}").into()
                );
            }
        }
    }
    if store.stats().corruptions > 0 {
        return Err("a checksum mismatch is noted, and there is none".into());
    }
    Ok(())
}

/// The disk is well again, and the file system mounted anew.
fn look_again(bench: &Bench, values: &Values, seed: u64) -> Outcome<()> {
    let mounted = bench.mount()?;
    let (store, bucket) = workload::open(bench.files(), seed)?;
    for (key, value) in &values.acknowledged {
        if bucket.get(key.as_bytes())? != *value {
            return Err(format!("{key} was acknowledged and has another value").into());
        }
    }
    for (key, value) in &values.refused {
        match bucket.get(key.as_bytes()) {
            Ok(found) if found == *value => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            other => return Err(format!("{key}, which was refused: {other:?}").into()),
        }
    }
    drop(bucket);
    store.close()?;
    // Its files are open as long as there is a handle.
    drop(store);
    mounted.unmount()
}
