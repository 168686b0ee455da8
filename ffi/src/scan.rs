//! Scans: blobs in the ascending order of their keys.

use std::ffi::c_void;

use isotherm::limits::KEY_LEN_MAX;
use isotherm::{Bucket, Cursor, Result, ScanItem, ScanRange};
use parking_lot::Mutex;

use crate::bucket::isotherm_bucket_t;
use crate::entry::{closing, entry};
use crate::memory::{self, Array, Out};
use crate::object::{self, HandleKind, hold, lock_one};
use crate::options::{self, Options};
use crate::status::isotherm_status_t;

/// A scan under way. 0 is none. One call at a time may use it, from any thread.
pub type isotherm_scan_t = u64;

/// Which blobs a scan visits. Zeros: all of the bucket. Lengths of up to 1024 bytes; a length of 0
/// means that there is no such bound.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct isotherm_scan_options_t {
    /// sizeof(isotherm_scan_options_t).
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// Keys that begin with these bytes. Not together with `start` or `end`.
    pub prefix: *const c_void,
    /// Bytes of it.
    pub prefix_len: u64,
    /// Keys from this one on.
    pub start: *const c_void,
    /// Bytes of it.
    pub start_len: u64,
    /// Keys before this one.
    pub end: *const c_void,
    /// Bytes of it.
    pub end_len: u64,
    /// Of these, keys beyond this one: the last key seen, to go on there.
    pub after: *const c_void,
    /// Bytes of it.
    pub after_len: u64,
}

const _: () = assert!(size_of::<isotherm_scan_options_t>() == 72);

// SAFETY: integers and pointers, 72 bytes in order and without padding; a NULL is valid.
unsafe impl Options for isotherm_scan_options_t {
    const NAME: &'static str = "isotherm_scan_options";
}

/// A blob that a scan has met.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct isotherm_scan_item_t {
    /// Its key.
    pub key: [u8; 1024],
    /// Bytes of it.
    pub key_len: u64,
    /// Length of its value when it was met.
    pub value_len: u64,
    /// Its version when it was met.
    pub version: u64,
    /// 0.
    pub reserved: [u64; 5],
}

const _: () = assert!(size_of::<isotherm_scan_item_t>() == 1088 && KEY_LEN_MAX == 1024);

/// Sets options to their defaults.
///
/// # Safety
/// `options` is NULL or has `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_scan_options_init(
    options: *mut isotherm_scan_options_t,
    struct_size: usize,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    entry(|| unsafe { options::init(options, struct_size) })
}

/// Begins a scan. `options` may be NULL: all blobs. A key that is there throughout is met exactly once;
/// there is no snapshot.
///
/// # Safety
/// `options` and what it points to are as their types say; `scan` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_scan_open(
    bucket: isotherm_bucket_t,
    options: *const isotherm_scan_options_t,
    scan: *mut isotherm_scan_t,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    entry(|| unsafe {
        let out = Out::required("scan", scan)?;
        let held = hold::<Bucket>(bucket)?;
        held.bucket_stat()?;
        let cursor = held.scan(range(options)?);
        out.set(held.open(Mutex::new(cursor), bucket)?);
        Ok(())
    })
}

/// # Safety
/// As for [`isotherm_scan_open`].
unsafe fn range(options: *const isotherm_scan_options_t) -> Result<ScanRange> {
    // SAFETY: as the caller promises.
    let given = unsafe { options::read(options) }?;
    // SAFETY: as the caller promises.
    let bound =
        |start, len: u64| unsafe { memory::key(start, usize::try_from(len).unwrap_or(usize::MAX)) };
    let prefix = bound(given.prefix, given.prefix_len)?;
    let (start, end) = (bound(given.start, given.start_len)?, bound(given.end, given.end_len)?);
    let after = bound(given.after, given.after_len)?;
    let has_bounds = !start.is_empty() || !end.is_empty();
    if !prefix.is_empty() && has_bounds {
        return Err(memory::invalid("a scan has a prefix, or a start and end, not both"));
    }
    let range = match (prefix.is_empty(), end.is_empty()) {
        (false, _) => ScanRange::prefix(prefix),
        (true, true) => ScanRange::starting(start),
        (true, false) => ScanRange::range(start, end),
    };
    Ok(if after.is_empty() { range } else { range.after(after) })
}

/// The next blobs, at most `capacity`. `count` is how many: 0 at the end.
///
/// # Safety
/// `items` has room for `capacity` records; `count` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_scan_next(
    scan: isotherm_scan_t,
    items: *mut isotherm_scan_item_t,
    capacity: usize,
    count: *mut usize,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    entry(|| unsafe {
        let out = Out::required("count", count)?;
        let array = Array::new("items", items, capacity)?;
        if array.len() == 0 {
            return Err(memory::invalid("capacity is 0; a scan needs room for at least one item"));
        }
        let held = hold::<Mutex<Cursor>>(scan)?;
        let found = lock_one(&held, Mutex::<Cursor>::KIND)?.next_page(array.len())?;
        array.fill(found.iter().map(record));
        out.set(found.len());
        Ok(())
    })
}

fn record(item: &ScanItem) -> isotherm_scan_item_t {
    let mut key = [0; KEY_LEN_MAX];
    key[..item.key.len()].copy_from_slice(&item.key);
    isotherm_scan_item_t {
        key,
        key_len: item.key.len() as u64,
        value_len: item.len,
        version: item.version.0,
        reserved: [0; 5],
    }
}

/// Ends a scan. 0 is allowed and does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn isotherm_scan_close(scan: isotherm_scan_t) -> isotherm_status_t {
    closing(scan, || object::close::<Mutex<Cursor>>(scan))
}
