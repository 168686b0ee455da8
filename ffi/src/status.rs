//! Status codes: the numbers of the engine's [`ErrorKind`]s, which never change.

use std::ffi::{CStr, c_char};

/// 0, or the negative number of what went wrong. Hundreds group the causes: -1xx the caller's argument,
/// -2xx existence, -3xx space and bounds, -4xx state of the store, -5xx devices and data, -9xx a
/// defect of isotherm.
pub type isotherm_status_t = i32;

/// Done.
pub const ISOTHERM_OK: i32 = 0;
/// An argument is out of its range; the message names it.
pub const ISOTHERM_E_INVALID_ARGUMENT: i32 = -101;
/// A configuration key or value is wrong; the message names it.
pub const ISOTHERM_E_INVALID_CONFIG: i32 = -102;
/// The buffer is smaller than the value; its length is handed out.
pub const ISOTHERM_E_BUFFER_TOO_SMALL: i32 = -103;
/// The store, its format, or its tiers cannot do this.
pub const ISOTHERM_E_UNSUPPORTED: i32 = -104;
/// A handle that is none, of another kind, or closed.
pub const ISOTHERM_E_BAD_HANDLE: i32 = -105;
/// No such blob.
pub const ISOTHERM_E_NOT_FOUND: i32 = -201;
/// No such bucket.
pub const ISOTHERM_E_BUCKET_NOT_FOUND: i32 = -202;
/// A bucket of this name exists.
pub const ISOTHERM_E_BUCKET_EXISTS: i32 = -203;
/// No store at this path.
pub const ISOTHERM_E_STORE_NOT_FOUND: i32 = -204;
/// The blob is there, and the change was to be made only if it is not.
pub const ISOTHERM_E_EXISTS: i32 = -205;
/// The blob has another version than the change was to be made to.
pub const ISOTHERM_E_VERSION_MISMATCH: i32 = -206;
/// The tiers are full.
pub const ISOTHERM_E_NO_SPACE: i32 = -301;
/// The memory budget does not allow another index entry.
pub const ISOTHERM_E_NO_MEMORY: i32 = -302;
/// A published limit is exceeded.
pub const ISOTHERM_E_LIMIT_EXCEEDED: i32 = -303;
/// The queue is full and the caller asked not to wait.
pub const ISOTHERM_E_BUSY: i32 = -304;
/// Cancelled before it began.
pub const ISOTHERM_E_CANCELLED: i32 = -305;
/// The bucket's quota of bytes or blobs would be exceeded.
pub const ISOTHERM_E_QUOTA_EXCEEDED: i32 = -306;
/// The store is closed.
pub const ISOTHERM_E_CLOSED: i32 = -401;
/// Another process, or another handle of this one, has the store or a tier of it open.
pub const ISOTHERM_E_LOCKED: i32 = -402;
/// The engine met a breach of its own invariants and stopped; reopen the store.
pub const ISOTHERM_E_POISONED: i32 = -403;
/// The file system does not allow this (permissions, read-only).
pub const ISOTHERM_E_PERMISSION_DENIED: i32 = -404;
/// The store is open for reading only.
pub const ISOTHERM_E_READ_ONLY: i32 = -405;
/// This process was forked from one that had a store open.
pub const ISOTHERM_E_FORKED: i32 = -406;
/// A device reported an I/O error.
pub const ISOTHERM_E_IO: i32 = -501;
/// A flush failed; the device takes no more writes until the store is reopened.
pub const ISOTHERM_E_DEVICE_FAILED: i32 = -502;
/// Stored bytes do not match their checksum.
pub const ISOTHERM_E_CORRUPT: i32 = -503;
/// The files are not an isotherm store, or one of a newer format.
pub const ISOTHERM_E_FORMAT: i32 = -504;
/// A tier's file is missing, or is that of another store.
pub const ISOTHERM_E_TIER_MISSING: i32 = -505;
/// A defect of the engine.
pub const ISOTHERM_E_INTERNAL: i32 = -901;

/// Number, name and meaning of every status.
const STATUSES: &[(isotherm_status_t, &CStr, &CStr)] = &[
    (ISOTHERM_OK, c"ISOTHERM_OK", c"done"),
    (
        ISOTHERM_E_INVALID_ARGUMENT,
        c"ISOTHERM_E_INVALID_ARGUMENT",
        c"an argument is out of its range",
    ),
    (
        ISOTHERM_E_INVALID_CONFIG,
        c"ISOTHERM_E_INVALID_CONFIG",
        c"a configuration key or value is wrong",
    ),
    (
        ISOTHERM_E_BUFFER_TOO_SMALL,
        c"ISOTHERM_E_BUFFER_TOO_SMALL",
        c"the buffer is smaller than the value",
    ),
    (
        ISOTHERM_E_UNSUPPORTED,
        c"ISOTHERM_E_UNSUPPORTED",
        c"the store, its format, or its tiers cannot do this",
    ),
    (
        ISOTHERM_E_BAD_HANDLE,
        c"ISOTHERM_E_BAD_HANDLE",
        c"a handle that is none, of another kind, or closed",
    ),
    (ISOTHERM_E_NOT_FOUND, c"ISOTHERM_E_NOT_FOUND", c"no such blob"),
    (ISOTHERM_E_BUCKET_NOT_FOUND, c"ISOTHERM_E_BUCKET_NOT_FOUND", c"no such bucket"),
    (ISOTHERM_E_BUCKET_EXISTS, c"ISOTHERM_E_BUCKET_EXISTS", c"a bucket of this name exists"),
    (ISOTHERM_E_STORE_NOT_FOUND, c"ISOTHERM_E_STORE_NOT_FOUND", c"no store at this path"),
    (
        ISOTHERM_E_EXISTS,
        c"ISOTHERM_E_EXISTS",
        c"the blob is there, and the change was to be made only if it is not",
    ),
    (
        ISOTHERM_E_VERSION_MISMATCH,
        c"ISOTHERM_E_VERSION_MISMATCH",
        c"the blob has another version than the change was to be made to",
    ),
    (ISOTHERM_E_NO_SPACE, c"ISOTHERM_E_NO_SPACE", c"the tiers are full"),
    (
        ISOTHERM_E_NO_MEMORY,
        c"ISOTHERM_E_NO_MEMORY",
        c"the memory budget does not allow another index entry",
    ),
    (ISOTHERM_E_LIMIT_EXCEEDED, c"ISOTHERM_E_LIMIT_EXCEEDED", c"a published limit is exceeded"),
    (ISOTHERM_E_BUSY, c"ISOTHERM_E_BUSY", c"the queue is full and the caller asked not to wait"),
    (ISOTHERM_E_CANCELLED, c"ISOTHERM_E_CANCELLED", c"cancelled before it began"),
    (
        ISOTHERM_E_QUOTA_EXCEEDED,
        c"ISOTHERM_E_QUOTA_EXCEEDED",
        c"the bucket's quota of bytes or blobs would be exceeded",
    ),
    (ISOTHERM_E_CLOSED, c"ISOTHERM_E_CLOSED", c"the store is closed"),
    (
        ISOTHERM_E_LOCKED,
        c"ISOTHERM_E_LOCKED",
        c"another process, or another handle of this one, has the store or a tier of it open",
    ),
    (
        ISOTHERM_E_POISONED,
        c"ISOTHERM_E_POISONED",
        c"the engine met a breach of its own invariants and stopped",
    ),
    (
        ISOTHERM_E_PERMISSION_DENIED,
        c"ISOTHERM_E_PERMISSION_DENIED",
        c"the file system does not allow this (permissions, read-only)",
    ),
    (ISOTHERM_E_READ_ONLY, c"ISOTHERM_E_READ_ONLY", c"the store is open for reading only"),
    (
        ISOTHERM_E_FORKED,
        c"ISOTHERM_E_FORKED",
        c"this process was forked from one that had a store open",
    ),
    (ISOTHERM_E_IO, c"ISOTHERM_E_IO", c"a device reported an I/O error"),
    (ISOTHERM_E_DEVICE_FAILED, c"ISOTHERM_E_DEVICE_FAILED", c"a flush failed"),
    (ISOTHERM_E_CORRUPT, c"ISOTHERM_E_CORRUPT", c"stored bytes do not match their checksum"),
    (
        ISOTHERM_E_FORMAT,
        c"ISOTHERM_E_FORMAT",
        c"the files are not an isotherm store, or one of a newer format",
    ),
    (
        ISOTHERM_E_TIER_MISSING,
        c"ISOTHERM_E_TIER_MISSING",
        c"a tier's file is missing, or is that of another store",
    ),
    (ISOTHERM_E_INTERNAL, c"ISOTHERM_E_INTERNAL", c"a defect of the engine"),
];

fn find(status: isotherm_status_t) -> (&'static CStr, &'static CStr) {
    let found = STATUSES.iter().find(|(number, ..)| *number == status);
    found.map_or((c"unknown", c"not a status of isotherm"), |(_, name, meaning)| (*name, *meaning))
}

/// What a status means, in a few words. Static text, never NULL. What went wrong in particular says
/// isotherm_last_error.
#[unsafe(no_mangle)]
pub extern "C" fn isotherm_strerror(status: isotherm_status_t) -> *const c_char {
    find(status).1.as_ptr()
}

/// The name of a status: "ISOTHERM_E_NOT_FOUND". Static text, never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn isotherm_errname(status: isotherm_status_t) -> *const c_char {
    find(status).0.as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As they stand in the engine's source: `NotFound = -201` is ISOTHERM_E_NOT_FOUND.
    fn kinds_of_the_engine() -> Vec<(String, i32)> {
        let source = include_str!("../../engine/src/error.rs");
        let kind = |line: &str| {
            let (name, number) = line.trim().strip_suffix(',')?.split_once(" = ")?;
            let words = name.chars().flat_map(|letter| {
                let gap = letter.is_uppercase().then_some('_');
                gap.into_iter().chain(letter.to_uppercase())
            });
            Some((format!("ISOTHERM_E{}", words.collect::<String>()), number.parse().ok()?))
        };
        source.lines().filter_map(kind).collect()
    }

    #[test]
    fn every_kind_of_error_is_a_status_of_the_same_number_and_name() {
        let mut kinds = kinds_of_the_engine();
        kinds.insert(0, ("ISOTHERM_OK".to_owned(), 0));
        let named =
            |(number, name, _): &(i32, &CStr, &CStr)| (name.to_str().unwrap().to_owned(), *number);
        assert_eq!(STATUSES.iter().map(named).collect::<Vec<_>>(), kinds);
    }
}
