//! An open RocksDB, over its C interface.

use std::ffi::{CStr, CString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use super::sys;
use crate::Outcome;

/// What differs between openings.
#[derive(Clone, Copy)]
pub struct Settings {
    /// Whether a store may be made.
    pub create: bool,
    /// Whether any damage of the log refuses the opening, instead of ending the log there.
    pub absolute_consistency: bool,
}

/// An open store. Everything checked that the interface has a setting for.
pub struct Handle {
    db: *mut sys::Db,
    reading: *mut sys::ReadOptions,
}

impl Handle {
    /// Opens a store.
    pub fn open(directory: &Path, settings: Settings) -> Outcome<Handle> {
        let name = CString::new(directory.as_os_str().as_bytes())?;
        let mut error = ptr::null_mut();
        // SAFETY: the options live from their creation to the end of the block, `name` is a C
        // string, and `error` is where the library may put a message.
        let db = unsafe {
            let options = sys::rocksdb_options_create();
            sys::rocksdb_options_set_create_if_missing(options, settings.create.into());
            sys::rocksdb_options_set_paranoid_checks(options, 1);
            if settings.absolute_consistency {
                sys::rocksdb_options_set_wal_recovery_mode(options, sys::ABSOLUTE_CONSISTENCY);
            }
            let db = sys::rocksdb_open(options, name.as_ptr(), &raw mut error);
            sys::rocksdb_options_destroy(options);
            db
        };
        check(error)?;
        // SAFETY: the options are destroyed with the handle.
        let reading = unsafe {
            let reading = sys::rocksdb_readoptions_create();
            sys::rocksdb_readoptions_set_verify_checksums(reading, 1);
            reading
        };
        Ok(Handle { db, reading })
    }

    /// Puts a value into the log, and syncs it.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Outcome {
        let mut error = ptr::null_mut();
        // SAFETY: the handle is open, and the lengths are those of the slices.
        unsafe {
            let options = sys::rocksdb_writeoptions_create();
            sys::rocksdb_writeoptions_set_sync(options, 1);
            sys::rocksdb_put(
                self.db,
                options,
                key.as_ptr().cast(),
                key.len(),
                value.as_ptr().cast(),
                value.len(),
                &raw mut error,
            );
            sys::rocksdb_writeoptions_destroy(options);
        }
        check(error)
    }

    /// Writes what the log holds into a table file.
    pub fn flush(&self) -> Outcome {
        let mut error = ptr::null_mut();
        // SAFETY: the handle is open.
        unsafe {
            let options = sys::rocksdb_flushoptions_create();
            sys::rocksdb_flushoptions_set_wait(options, 1);
            sys::rocksdb_flush(self.db, options, &raw mut error);
            sys::rocksdb_flushoptions_destroy(options);
        }
        check(error)
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Outcome<Option<Vec<u8>>> {
        let (mut error, mut len) = (ptr::null_mut(), 0);
        let (at, key_len) = (key.as_ptr().cast(), key.len());
        // SAFETY: the handle is open, and the length is that of the slice.
        let value = unsafe {
            sys::rocksdb_get(self.db, self.reading, at, key_len, &raw mut len, &raw mut error)
        };
        check(error)?;
        if value.is_null() {
            return Ok(None);
        }
        // SAFETY: the library has made `len` bytes there, which are ours until they are freed.
        unsafe {
            let copy = std::slice::from_raw_parts(value.cast::<u8>(), len).to_vec();
            sys::rocksdb_free(value.cast());
            Ok(Some(copy))
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: both are alive, and not used afterwards.
        unsafe {
            sys::rocksdb_readoptions_destroy(self.reading);
            sys::rocksdb_close(self.db);
        }
    }
}

/// Takes the message of a call.
fn check(error: *mut c_char) -> Outcome {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: the library has made a C string there, which is ours until it is freed.
    unsafe {
        let message = CStr::from_ptr(error).to_string_lossy().into_owned();
        sys::rocksdb_free(error.cast());
        Err(message.into())
    }
}
