//! Batches: changes of several blobs that take place together or not at all.

use std::ffi::c_void;

use isotherm::limits::BATCH_STEPS_MAX;
use isotherm::{Batch, Bucket, Condition, Error, ErrorKind, Result, Store};
use parking_lot::Mutex;

use crate::bucket::isotherm_bucket_t;
use crate::entry::{closing, entry};
use crate::memory::{self, Array, Out, bytes, key as check_key};
use crate::object::{self, HandleKind, hold, lock_one};
use crate::options::{isotherm_put_options_t, put_options};
use crate::status::isotherm_status_t;
use crate::store::isotherm_store_t;

/// Changes to be made together, in any number of buckets of one store, each blob at most once. 0 is
/// none. One call at a time may use it, from any thread.
pub type isotherm_batch_t = u64;

type SharedBatch = Mutex<Batch<'static>>;

/// Makes a batch of no steps.
///
/// # Safety
/// `batch` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_batch_create(
    store: isotherm_store_t,
    batch: *mut isotherm_batch_t,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    entry(|| unsafe {
        let out = Out::required("batch", batch)?;
        let held = hold::<Store>(store)?;
        out.set(held.open(Mutex::new(Batch::new()), store)?);
        Ok(())
    })
}

/// Adds a step, with the condition of its options.
///
/// # Safety
/// `key` has `key_len` bytes; `options` is NULL or as its type says.
unsafe fn add(
    batch: isotherm_batch_t,
    bucket: isotherm_bucket_t,
    key: (*const c_void, usize),
    options: *const isotherm_put_options_t,
    step: impl FnOnce(&mut Batch<'static>, &Bucket, &[u8]) -> Result<()>,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    entry(|| unsafe {
        let (batch, bucket) = (hold::<SharedBatch>(batch)?, hold::<Bucket>(bucket)?);
        let mut batch = lock_one(&batch, SharedBatch::KIND)?;
        let (key, condition) = (check_key(key.0, key.1)?, condition_of(options)?);
        if batch.len() >= BATCH_STEPS_MAX {
            let message = format!("a batch has at most {BATCH_STEPS_MAX} steps; commit it first");
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        step(&mut batch, &bucket, key)?;
        batch.when(condition);
        Ok(())
    })
}

/// # Safety
/// `options` is NULL or as its type says.
unsafe fn condition_of(options: *const isotherm_put_options_t) -> Result<Condition> {
    // SAFETY: as the caller promises.
    let options = unsafe { put_options(options) }?;
    if options.durability.is_some() {
        return Err(memory::invalid("a step has no durability; pass it to isotherm_batch_commit"));
    }
    Ok(options.condition)
}

/// A copy of the caller's bytes, for the life of the batch.
///
/// # Safety
/// `value` has `len` bytes.
unsafe fn owned(value: *const c_void, len: usize) -> Result<Vec<u8>> {
    // SAFETY: as the caller promises.
    let value = unsafe { bytes("value", value, len) }?;
    let mut owned = Vec::new();
    if owned.try_reserve_exact(len).is_err() {
        let message = format!("no memory for a step of {len} bytes; make the batch smaller");
        return Err(Error::new(ErrorKind::NoMemory, message));
    }
    owned.extend_from_slice(value);
    Ok(owned)
}

/// Adds a put: stores a value under a key, replacing any there is. The bytes are copied. `options` may
/// be NULL; its durability must be the default.
///
/// # Safety
/// `key` and `value` have as many bytes as is said; `options` is NULL or as its type says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_batch_put(
    batch: isotherm_batch_t,
    bucket: isotherm_bucket_t,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    options: *const isotherm_put_options_t,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    unsafe {
        add(batch, bucket, (key, key_len), options, |batch, bucket, key| {
            batch.put(bucket, key, owned(value, value_len)?);
            Ok(())
        })
    }
}

/// Adds a put of bytes at an offset. As isotherm_batch_put.
///
/// # Safety
/// As for isotherm_batch_put.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_batch_put_at(
    batch: isotherm_batch_t,
    bucket: isotherm_bucket_t,
    key: *const c_void,
    key_len: usize,
    offset: u64,
    value: *const c_void,
    value_len: usize,
    options: *const isotherm_put_options_t,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    unsafe {
        add(batch, bucket, (key, key_len), options, |batch, bucket, key| {
            batch.put_at(bucket, key, offset, owned(value, value_len)?);
            Ok(())
        })
    }
}

/// Adds a put of bytes at the end. As isotherm_batch_put.
///
/// # Safety
/// As for isotherm_batch_put.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_batch_append(
    batch: isotherm_batch_t,
    bucket: isotherm_bucket_t,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    options: *const isotherm_put_options_t,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    unsafe {
        add(batch, bucket, (key, key_len), options, |batch, bucket, key| {
            batch.append(bucket, key, owned(value, value_len)?);
            Ok(())
        })
    }
}

/// Adds a change of the value's length. As isotherm_batch_put.
///
/// # Safety
/// As for isotherm_batch_put.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_batch_truncate(
    batch: isotherm_batch_t,
    bucket: isotherm_bucket_t,
    key: *const c_void,
    key_len: usize,
    value_len: u64,
    options: *const isotherm_put_options_t,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    unsafe {
        add(batch, bucket, (key, key_len), options, |batch, bucket, key| {
            batch.truncate(bucket, key, value_len);
            Ok(())
        })
    }
}

/// Adds a removal. As isotherm_batch_put.
///
/// # Safety
/// As for isotherm_batch_put.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_batch_delete(
    batch: isotherm_batch_t,
    bucket: isotherm_bucket_t,
    key: *const c_void,
    key_len: usize,
    options: *const isotherm_put_options_t,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    unsafe {
        add(batch, bucket, (key, key_len), options, |batch, bucket, key| {
            batch.delete(bucket, key);
            Ok(())
        })
    }
}

/// Adds a condition on a blob that the batch does not change: it takes place only if it holds.
///
/// # Safety
/// As for isotherm_batch_put.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_batch_require(
    batch: isotherm_batch_t,
    bucket: isotherm_bucket_t,
    key: *const c_void,
    key_len: usize,
    options: *const isotherm_put_options_t,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    unsafe {
        add(batch, bucket, (key, key_len), options, |batch, bucket, key| {
            batch.require(bucket, key, Condition::None);
            Ok(())
        })
    }
}

/// Makes all changes of a batch, or none, at the level of `options`, which may be NULL; Written at
/// least. The status is that of the first step that fails. The batch stays as it is: a second commit
/// makes the changes again. `versions`, NULL or room for one version a step, tells what each step made
/// or, if it changes nothing, found; `version_count` is its length.
///
/// # Safety
/// `options` is NULL or as its type says; `versions` has room for `version_count` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_batch_commit(
    batch: isotherm_batch_t,
    options: *const isotherm_put_options_t,
    versions: *mut u64,
    version_count: usize,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    entry(|| unsafe {
        let out = Array::new("versions", versions, version_count)?;
        let options = put_options(options)?;
        if options.condition != Condition::None {
            return Err(memory::invalid("a commit has no condition; the steps of the batch have"));
        }
        let held = hold::<SharedBatch>(batch)?;
        let batch = lock_one(&held, SharedBatch::KIND)?;
        if out.len() != 0 && out.len() < batch.len() {
            return Err(Error::buffer_too_small(out.len() as u64, batch.len() as u64));
        }
        let made = held.store().commit(&batch, options.durability)?;
        out.fill(made.iter().map(|version| version.0));
        Ok(())
    })
}

/// Frees a batch, committed or not. 0 is allowed and does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn isotherm_batch_close(batch: isotherm_batch_t) -> isotherm_status_t {
    closing(batch, || object::close::<SharedBatch>(batch))
}
