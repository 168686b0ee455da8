//! Gets of several blobs as of one moment.

use std::ffi::c_void;

use isotherm::{Bucket, Error, Result, Store};

use crate::bucket::isotherm_bucket_t;
use crate::entry::entry;
use crate::memory::{Array, key as check_key, records, room};
use crate::object::{Held, hold};
use crate::status::{ISOTHERM_OK, isotherm_status_t};
use crate::store::isotherm_store_t;

/// One of several gets.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct isotherm_get_t {
    /// The bucket.
    pub bucket: isotherm_bucket_t,
    /// The key.
    pub key: *const c_void,
    /// Bytes of it.
    pub key_len: u64,
    /// Room for the whole value.
    pub buffer: *mut c_void,
    /// Bytes of it.
    pub capacity: u64,
}

/// What one of several gets came to.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct isotherm_got_t {
    /// ISOTHERM_OK, ISOTHERM_E_NOT_FOUND, ISOTHERM_E_BUFFER_TOO_SMALL, or why it could not be read.
    pub status: isotherm_status_t,
    /// 0.
    pub reserved: u32,
    /// Length of the value, also if the buffer is too small for it.
    pub value_len: u64,
}

const _: () = assert!(size_of::<isotherm_get_t>() == 40 && size_of::<isotherm_got_t>() == 16);

/// Gets several blobs of a store, all as of one moment: no batch shows in part. Each get has a result
/// of its own; the status of the call is an error only if none was tried.
///
/// # Safety
/// `gets` has `count` records whose keys and buffers are as they say, and `results` room for as many.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_get_many(
    store: isotherm_store_t,
    gets: *const isotherm_get_t,
    count: usize,
    results: *mut isotherm_got_t,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    entry(|| unsafe {
        let (gets, out) = (records("gets", gets, count)?, Array::new("results", results, count)?);
        let store = hold::<Store>(store)?;
        let mut blobs: Vec<(Held<Bucket>, &[u8])> = Vec::with_capacity(count.min(1 << 16));
        let mut rooms = Vec::with_capacity(count.min(1 << 16));
        for get in gets {
            let key = check_key(get.key, usize::try_from(get.key_len).unwrap_or(usize::MAX))?;
            let capacity = usize::try_from(get.capacity).unwrap_or(usize::MAX);
            rooms.push(room("buffer", get.buffer, capacity)?);
            blobs.push((hold(get.bucket)?, key));
        }
        let named: Vec<(&Bucket, &[u8])> =
            blobs.iter().map(|(bucket, key)| (&**bucket, *key)).collect();
        let values = store.get_many(&named)?;
        out.fill(values.into_iter().zip(rooms).map(|(value, room)| hand_out(value, room)));
        Ok(())
    })
}

fn hand_out(value: Result<Vec<u8>>, room: &mut [u8]) -> isotherm_got_t {
    let result = |status, value_len: usize| isotherm_got_t {
        status,
        reserved: 0,
        value_len: value_len as u64,
    };
    match value {
        Ok(value) if value.len() > room.len() => {
            let error = Error::buffer_too_small(room.len() as u64, value.len() as u64);
            result(error.kind().code(), value.len())
        }
        Ok(value) => {
            room[..value.len()].copy_from_slice(&value);
            result(ISOTHERM_OK, value.len())
        }
        Err(error) => result(error.kind().code(), 0),
    }
}
