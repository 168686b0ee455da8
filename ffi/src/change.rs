//! Changes of one blob. Keys are 1 to 1024 bytes of any kind.
//!
//! Nothing has changed when one fails, with the exception that the engine documents: after an I/O error
//! of the log the change may turn out made at the next open.

use std::ffi::c_void;

use isotherm::{Bucket, Result, Version};

use crate::bucket::isotherm_bucket_t;
use crate::entry::entry;
use crate::memory::{Out, bytes, key as check_key};
use crate::object::hold;
use crate::options::{isotherm_put_options_t, put_options};
use crate::status::isotherm_status_t;

/// A change that makes a version: checks, runs, and hands it out.
///
/// # Safety
/// `version` is NULL or the address of a variable.
unsafe fn change(
    bucket: isotherm_bucket_t,
    version: *mut u64,
    run: impl FnOnce(&Bucket) -> Result<Version>,
) -> isotherm_status_t {
    entry(|| {
        let made = run(&*hold::<Bucket>(bucket)?)?;
        // SAFETY: as the caller promises.
        unsafe { Out::optional(version).set(made.0) };
        Ok(())
    })
}

/// Stores a value under a key, replacing any there is. `options` and `version` may be NULL.
///
/// # Safety
/// `key` and `value` have as many bytes as is said; `options` and `version` are NULL or as their types
/// say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_put(
    bucket: isotherm_bucket_t,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    options: *const isotherm_put_options_t,
    version: *mut u64,
) -> isotherm_status_t {
    // SAFETY: as the caller promises, here and in the call.
    let run = |bucket: &Bucket| unsafe {
        let (key, value) = (check_key(key, key_len)?, bytes("value", value, value_len)?);
        bucket.put_with(key, value, put_options(options)?)
    };
    // SAFETY: as the caller promises.
    unsafe { change(bucket, version, run) }
}

/// Writes bytes at an offset of the value, making or extending the blob as needed; bytes never written
/// read as zeros. Atomic, whatever its size. `options` and `version` may be NULL.
///
/// # Safety
/// As for isotherm_put.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_put_at(
    bucket: isotherm_bucket_t,
    key: *const c_void,
    key_len: usize,
    offset: u64,
    value: *const c_void,
    value_len: usize,
    options: *const isotherm_put_options_t,
    version: *mut u64,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    let run = |bucket: &Bucket| unsafe {
        let (key, value) = (check_key(key, key_len)?, bytes("value", value, value_len)?);
        bucket.put_at_with(key, offset, value, put_options(options)?)
    };
    // SAFETY: as the caller promises.
    unsafe { change(bucket, version, run) }
}

/// Adds bytes at the end of the value, making the blob if there is none. `offset`, where they begin,
/// and `options` may be NULL.
///
/// # Safety
/// As for isotherm_put; `offset` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_append(
    bucket: isotherm_bucket_t,
    key: *const c_void,
    key_len: usize,
    value: *const c_void,
    value_len: usize,
    options: *const isotherm_put_options_t,
    offset: *mut u64,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    entry(|| unsafe {
        let bucket = hold::<Bucket>(bucket)?;
        let (key, value) = (check_key(key, key_len)?, bytes("value", value, value_len)?);
        let begins = bucket.append_with(key, value, put_options(options)?)?;
        Out::optional(offset).set(begins);
        Ok(())
    })
}

/// Sets the length of the value; new bytes read as zeros. ISOTHERM_E_NOT_FOUND if there is no blob.
/// `options` and `version` may be NULL.
///
/// # Safety
/// As for isotherm_put.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_truncate(
    bucket: isotherm_bucket_t,
    key: *const c_void,
    key_len: usize,
    value_len: u64,
    options: *const isotherm_put_options_t,
    version: *mut u64,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    let run = |bucket: &Bucket| unsafe {
        bucket.truncate_with(check_key(key, key_len)?, value_len, put_options(options)?)
    };
    // SAFETY: as the caller promises.
    unsafe { change(bucket, version, run) }
}

/// Removes the blob. ISOTHERM_E_NOT_FOUND if there is none. `options` may be NULL.
///
/// # Safety
/// As for isotherm_put.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_delete(
    bucket: isotherm_bucket_t,
    key: *const c_void,
    key_len: usize,
    options: *const isotherm_put_options_t,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    entry(|| unsafe {
        let bucket = hold::<Bucket>(bucket)?;
        bucket.delete_with(check_key(key, key_len)?, put_options(options)?)
    })
}

/// Gives a blob another name, in this bucket or another of the store, replacing any blob of that name:
/// atomic, whatever the value's size. The condition of `options` is the target's. `options` and
/// `version` may be NULL.
///
/// # Safety
/// As for isotherm_put.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_rename(
    bucket: isotherm_bucket_t,
    key: *const c_void,
    key_len: usize,
    to_bucket: isotherm_bucket_t,
    to_key: *const c_void,
    to_key_len: usize,
    options: *const isotherm_put_options_t,
    version: *mut u64,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    let run = |from: &Bucket| unsafe {
        let to = hold::<Bucket>(to_bucket)?;
        let keys = (check_key(key, key_len)?, check_key(to_key, to_key_len)?);
        from.rename(keys.0, &to, keys.1, put_options(options)?)
    };
    // SAFETY: as the caller promises.
    unsafe { change(bucket, version, run) }
}

/// Makes another blob of the same value, in this bucket or another of the store, replacing any of that
/// name. The two share what is stored; a later change of either leaves the other as it is. The
/// condition of `options` is the target's. `options` and `version` may be NULL.
///
/// # Safety
/// As for isotherm_put.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_copy(
    bucket: isotherm_bucket_t,
    key: *const c_void,
    key_len: usize,
    to_bucket: isotherm_bucket_t,
    to_key: *const c_void,
    to_key_len: usize,
    options: *const isotherm_put_options_t,
    version: *mut u64,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    let run = |from: &Bucket| unsafe {
        let to = hold::<Bucket>(to_bucket)?;
        let keys = (check_key(key, key_len)?, check_key(to_key, to_key_len)?);
        from.copy(keys.0, &to, keys.1, put_options(options)?)
    };
    // SAFETY: as the caller promises.
    unsafe { change(bucket, version, run) }
}
