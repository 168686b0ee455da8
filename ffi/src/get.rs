//! Gets of one blob.

use std::ffi::c_void;

use isotherm::{Bucket, Error, ErrorKind, Result};

use crate::bucket::isotherm_bucket_t;
use crate::entry::entry;
use crate::memory::{Allocation, Out, key as check_key, room};
use crate::object::{Held, hold};
use crate::status::isotherm_status_t;

/// Copies the whole value into a buffer. `value_len` is its length, also with
/// ISOTHERM_E_BUFFER_TOO_SMALL if it is more than `capacity`: nothing useful is in the buffer then.
///
/// # Safety
/// `key` has `key_len` bytes, `buffer` room for `capacity`; `value_len` is NULL or the address of a
/// variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_get_into(
    bucket: isotherm_bucket_t,
    key: *const c_void,
    key_len: usize,
    buffer: *mut c_void,
    capacity: usize,
    value_len: *mut u64,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    entry(|| unsafe {
        let out = Out::required("value_len", value_len)?;
        let bucket = hold::<Bucket>(bucket)?;
        let key = check_key(key, key_len)?;
        match bucket.get_into(key, room("buffer", buffer, capacity)?) {
            Ok(len) => {
                out.set(len as u64);
                Ok(())
            }
            Err(error) => {
                if let Some(needed) = error.needed() {
                    out.set(needed);
                }
                Err(error)
            }
        }
    })
}

/// The whole value, in memory for isotherm_free.
///
/// # Safety
/// `key` has `key_len` bytes; `value` and `value_len` are NULL or addresses of variables.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_get(
    bucket: isotherm_bucket_t,
    key: *const c_void,
    key_len: usize,
    value: *mut *mut c_void,
    value_len: *mut u64,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    entry(|| unsafe {
        let (out, len_out) =
            (Out::required("value", value)?, Out::required("value_len", value_len)?);
        let bucket = hold::<Bucket>(bucket)?;
        let (allocation, len) = get_whole(&bucket, check_key(key, key_len)?)?;
        out.set(allocation.into_raw());
        len_out.set(len as u64);
        Ok(())
    })
}

fn get_whole(bucket: &Held<Bucket>, key: &[u8]) -> Result<(Allocation, usize)> {
    let mut len = bucket.stat(key)?.len;
    loop {
        if len > bucket.memory_budget() {
            let message = format!(
                "no memory for a value of {len} bytes (memory_budget is {}); use isotherm_get_at",
                bucket.memory_budget()
            );
            return Err(Error::new(ErrorKind::NoMemory, message));
        }
        let mut allocation = Allocation::new(usize::try_from(len).unwrap_or(usize::MAX))?;
        match bucket.get_into(key, allocation.as_mut_slice()) {
            Ok(got) => return Ok((allocation, got)),
            // Somebody has put a longer value meanwhile.
            Err(error) => len = error.needed().ok_or(error)?,
        }
    }
}

/// Copies bytes from `offset` on into a buffer. `copied` is how many there were: fewer than `capacity`
/// at the end of the value, none beyond it.
///
/// # Safety
/// As for isotherm_get_into; `copied` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_get_at(
    bucket: isotherm_bucket_t,
    key: *const c_void,
    key_len: usize,
    offset: u64,
    buffer: *mut c_void,
    capacity: usize,
    copied: *mut u64,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    entry(|| unsafe {
        let out = Out::required("copied", copied)?;
        let bucket = hold::<Bucket>(bucket)?;
        let key = check_key(key, key_len)?;
        let len = bucket.get_at(key, offset, room("buffer", buffer, capacity)?)?;
        out.set(len as u64);
        Ok(())
    })
}

/// What is known of a blob.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct isotherm_blob_stat_t {
    /// Bytes of the value.
    pub value_len: u64,
    /// Its version; larger after every change.
    pub version: u64,
    /// Buffers that the value is made of.
    pub buffers: u64,
    /// 0.
    pub reserved: [u64; 5],
}

const _: () = assert!(size_of::<isotherm_blob_stat_t>() == 64);

/// Length, version and buffers of a blob. ISOTHERM_E_NOT_FOUND if there is none.
///
/// # Safety
/// `key` has `key_len` bytes; `stat` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_stat(
    bucket: isotherm_bucket_t,
    key: *const c_void,
    key_len: usize,
    stat: *mut isotherm_blob_stat_t,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    entry(|| unsafe {
        let out = Out::required("stat", stat)?;
        let found = hold::<Bucket>(bucket)?.stat(check_key(key, key_len)?)?;
        out.set(isotherm_blob_stat_t {
            value_len: found.len,
            version: found.version.0,
            buffers: found.buffers,
            reserved: [0; 5],
        });
        Ok(())
    })
}

/// Whether there is such a blob.
///
/// # Safety
/// `key` has `key_len` bytes; `exists` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_exists(
    bucket: isotherm_bucket_t,
    key: *const c_void,
    key_len: usize,
    exists: *mut bool,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    entry(|| unsafe {
        let out = Out::required("exists", exists)?;
        out.set(hold::<Bucket>(bucket)?.exists(check_key(key, key_len)?)?);
        Ok(())
    })
}
