//! Buckets. Their names are text of 1 to 255 bytes in UTF-8 that ends with a NUL.

use std::ffi::c_char;

use isotherm::limits::BUCKET_NAME_LEN_MAX;
use isotherm::{Bucket, BucketInfo, BucketOptions, Error, Result, Scope, Store};

use crate::entry::{closing, entry};
use crate::memory::{self, Array, Out};
use crate::object::{self, hold};
use crate::options::{self, Options};
use crate::status::isotherm_status_t;
use crate::store::isotherm_store_t;

/// A bucket of an open store. 0 is none. All calls may be made from any thread.
pub type isotherm_bucket_t = u64;

/// Options of a new bucket. Zeros are the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct isotherm_bucket_options_t {
    /// sizeof(isotherm_bucket_options_t).
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// ISOTHERM_DURABILITY_* of changes that name none.
    pub durability: u32,
    /// Largest buffer of its blobs in bytes, a multiple of 16 KiB from 64 KiB to 1 MiB; 0: the store's.
    pub buffer_size: u32,
}

const _: () = assert!(size_of::<isotherm_bucket_options_t>() == 16);

// SAFETY: four integers of four bytes.
unsafe impl Options for isotherm_bucket_options_t {
    const NAME: &'static str = "isotherm_bucket_options";
}

/// Sets options to their defaults.
///
/// # Safety
/// `options` is NULL or has `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_bucket_options_init(
    options: *mut isotherm_bucket_options_t,
    struct_size: usize,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    entry(|| unsafe { options::init(options, struct_size) })
}

/// What is known of a bucket.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct isotherm_bucket_stat_t {
    /// Blobs in it.
    pub blobs: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// 0.
    pub reserved: [u64; 6],
}

/// A bucket in a listing.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct isotherm_bucket_info_t {
    /// Its name, with a NUL after it.
    pub name: [c_char; 256],
    /// Blobs in it.
    pub blobs: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Its number, never used again.
    pub id: u32,
    /// Bytes of its name.
    pub name_len: u32,
    /// 0.
    pub reserved: [u64; 5],
}

const _: () = assert!(size_of::<isotherm_bucket_stat_t>() == 64);
const _: () = assert!(size_of::<isotherm_bucket_info_t>() == 320);
const _: () = assert!(BUCKET_NAME_LEN_MAX == 255);

/// Makes a bucket. `options` may be NULL. ISOTHERM_E_BUCKET_EXISTS if there is one of this name.
///
/// # Safety
/// `name` ends with a NUL; `options` and `bucket` are NULL or as their types say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_bucket_create(
    store: isotherm_store_t,
    name: *const c_char,
    options: *const isotherm_bucket_options_t,
    bucket: *mut isotherm_bucket_t,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    let options = || unsafe { options::read(options) };
    let make = |store: &Store, name: &str| {
        let given = options()?;
        store.create_bucket(
            name,
            BucketOptions {
                durability: options::durability(given.durability)?,
                buffer_size: (given.buffer_size != 0).then_some(given.buffer_size),
                ..BucketOptions::default()
            },
        )
    };
    // SAFETY: as the caller promises.
    entry(|| unsafe { open_with(store, name, bucket, make) })
}

/// Opens a bucket. ISOTHERM_E_BUCKET_NOT_FOUND if there is none of this name.
///
/// # Safety
/// `name` ends with a NUL; `bucket` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_bucket_open(
    store: isotherm_store_t,
    name: *const c_char,
    bucket: *mut isotherm_bucket_t,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    entry(|| unsafe { open_with(store, name, bucket, Store::open_bucket) })
}

/// Opens a bucket, making it with default options if there is none.
///
/// # Safety
/// `name` ends with a NUL; `bucket` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_bucket_ensure(
    store: isotherm_store_t,
    name: *const c_char,
    bucket: *mut isotherm_bucket_t,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    entry(|| unsafe { open_with(store, name, bucket, Store::bucket) })
}

/// # Safety
/// As for [`isotherm_bucket_ensure`].
unsafe fn open_with(
    store: isotherm_store_t,
    name: *const c_char,
    bucket: *mut isotherm_bucket_t,
    open: impl FnOnce(&Store, &str) -> Result<Bucket>,
) -> Result<()> {
    let out = Out::required("bucket", bucket)?;
    let held = hold::<Store>(store)?;
    // SAFETY: as the caller promises.
    let name = unsafe { bucket_name(name) }?;
    let handle = held.open(open(&held, name)?, store)?;
    // SAFETY: as the caller promises.
    unsafe { out.set(handle) };
    Ok(())
}

/// # Safety
/// `name` is NULL, or readable up to its NUL.
unsafe fn bucket_name<'a>(name: *const c_char) -> Result<&'a str> {
    // SAFETY: as the caller promises.
    unsafe { memory::text("the name of a bucket", name, BUCKET_NAME_LEN_MAX) }
}

/// Closes a bucket's handle, when no call uses it any more; the bucket and its other handles stay. 0
/// is allowed and does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn isotherm_bucket_close(bucket: isotherm_bucket_t) -> isotherm_status_t {
    closing(bucket, || object::close::<Bucket>(bucket))
}

/// Destroys a bucket with all its blobs. Handles of it stay to be closed.
///
/// # Safety
/// `name` ends with a NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_bucket_destroy(
    store: isotherm_store_t,
    name: *const c_char,
) -> isotherm_status_t {
    entry(|| {
        let held = hold::<Store>(store)?;
        // SAFETY: as the caller promises.
        held.destroy_bucket(unsafe { bucket_name(name) }?)
    })
}

/// Blobs and bytes of a bucket.
///
/// # Safety
/// `stat` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_bucket_stat(
    bucket: isotherm_bucket_t,
    stat: *mut isotherm_bucket_stat_t,
) -> isotherm_status_t {
    entry(|| {
        let out = Out::required("stat", stat)?;
        let found = hold::<Bucket>(bucket)?.bucket_stat()?;
        let stat =
            isotherm_bucket_stat_t { blobs: found.blobs, bytes: found.bytes, reserved: [0; 6] };
        // SAFETY: as the caller promises.
        unsafe { out.set(stat) };
        Ok(())
    })
}

/// Lists all buckets by name, at most `capacity` of them. `count` is how many there are, also with
/// ISOTHERM_E_BUFFER_TOO_SMALL, when none has been written: call it with NULL and 0 to learn it.
///
/// # Safety
/// `buckets` has room for `capacity` records; `count` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_bucket_list(
    store: isotherm_store_t,
    buckets: *mut isotherm_bucket_info_t,
    capacity: usize,
    count: *mut usize,
) -> isotherm_status_t {
    entry(|| {
        let out = Out::required("count", count)?;
        let array = Array::new("buckets", buckets, capacity)?;
        let found = hold::<Store>(store)?.list_buckets()?;
        // SAFETY: as the caller promises.
        unsafe { out.set(found.len()) };
        if found.len() > array.len() {
            return Err(Error::buffer_too_small(array.len() as u64, found.len() as u64));
        }
        // SAFETY: as the caller promises.
        unsafe { array.fill(found.iter().map(record)) };
        Ok(())
    })
}

fn record(bucket: &BucketInfo) -> isotherm_bucket_info_t {
    let mut name = [0; 256];
    for (place, byte) in name.iter_mut().zip(bucket.name.bytes().take(BUCKET_NAME_LEN_MAX)) {
        *place = byte as c_char;
    }
    isotherm_bucket_info_t {
        name,
        blobs: bucket.blobs,
        bytes: bucket.bytes,
        id: bucket.id.0,
        name_len: bucket.name.len() as u32,
        reserved: [0; 5],
    }
}

/// Makes everything durable that was acknowledged of this bucket before this call. Others may be
/// flushed along.
#[unsafe(no_mangle)]
pub extern "C" fn isotherm_bucket_flush(bucket: isotherm_bucket_t) -> isotherm_status_t {
    entry(|| {
        let held = hold::<Bucket>(bucket)?;
        let name = String::from_utf8_lossy(&held.name()).into_owned();
        held.store().flush(Scope::Bucket(&name))
    })
}
