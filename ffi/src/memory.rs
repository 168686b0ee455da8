//! Memory that a caller names: nothing of it is touched before pointer and length are in order.
//!
//! What cannot be checked is whether the memory is there; that is the caller's promise, as with
//! `memcpy`.

use std::ffi::{CStr, OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt;

use isotherm::limits::{KEY_LEN_MAX, VALUE_LEN_MAX};
use isotherm::{Error, ErrorKind, Result};

/// An `InvalidArgument` with this message.
#[cold]
pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

/// Bytes to read.
///
/// # Safety
/// `start` is NULL or has `len` readable bytes that nobody writes to for the time of `'a`.
#[inline]
pub(crate) unsafe fn bytes<'a>(name: &str, start: *const c_void, len: usize) -> Result<&'a [u8]> {
    check(name, start, len)?;
    if len == 0 {
        return Ok(&[]);
    }
    // SAFETY: not NULL, within the address space, and readable as the caller promises.
    Ok(unsafe { std::slice::from_raw_parts(start.cast(), len) })
}

/// Room to write to.
///
/// # Safety
/// `start` is NULL or has `len` writable bytes that nobody else touches for the time of `'a`.
#[inline]
pub(crate) unsafe fn room<'a>(name: &str, start: *mut c_void, len: usize) -> Result<&'a mut [u8]> {
    check(name, start, len)?;
    if len == 0 {
        return Ok(&mut []);
    }
    // SAFETY: not NULL, within the address space, and this call's alone as the caller promises.
    Ok(unsafe { std::slice::from_raw_parts_mut(start.cast(), len) })
}

/// A key. Its length is looked at before the first of its bytes.
///
/// # Safety
/// As for [`bytes`].
#[inline]
pub(crate) unsafe fn key<'a>(start: *const c_void, len: usize) -> Result<&'a [u8]> {
    if len > KEY_LEN_MAX {
        return Err(invalid(format!("a key has 1 to {KEY_LEN_MAX} bytes, this one has {len}")));
    }
    // SAFETY: as the caller promises.
    unsafe { bytes("key", start, len) }
}

/// An array of records to read.
///
/// # Safety
/// `start` is NULL or has `count` records that nobody writes to for the time of `'a`.
pub(crate) unsafe fn records<'a, T>(name: &str, start: *const T, count: usize) -> Result<&'a [T]> {
    check_records(name, start, count)?;
    if count == 0 {
        return Ok(&[]);
    }
    // SAFETY: not NULL, aligned, within the address space, and readable as the caller promises.
    Ok(unsafe { std::slice::from_raw_parts(start, count) })
}

/// Checks an array that is written with [`Array::set`].
pub(crate) struct Array<T> {
    start: *mut T,
    count: usize,
}

impl<T> Array<T> {
    /// An array of so many records.
    pub(crate) fn new(name: &str, start: *mut T, count: usize) -> Result<Array<T>> {
        check_records(name, start, count)?;
        Ok(Array { start, count })
    }

    /// Records in it.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Writes records to its beginning, as many as fit.
    ///
    /// # Safety
    /// The array's memory is there and this call's alone.
    pub(crate) unsafe fn fill(&self, records: impl Iterator<Item = T>) {
        for (at, record) in records.take(self.count).enumerate() {
            // SAFETY: `at` is below the count, for which the array was checked; it need not hold
            // anything valid before.
            unsafe { self.start.add(at).write(record) };
        }
    }
}

/// Where a call writes what it hands out.
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// One that must be there.
    #[inline]
    pub(crate) fn required(name: &str, place: *mut T) -> Result<Out<T>> {
        if place.is_null() {
            return Err(invalid(format!("{name} is NULL; pass the address of a variable for it")));
        }
        Ok(Out(place))
    }

    /// One that may be NULL, if the caller does not care.
    #[inline]
    pub(crate) fn optional(place: *mut T) -> Out<T> {
        Out(place)
    }

    /// Writes it.
    ///
    /// # Safety
    /// It is NULL or the address of a variable that is this call's alone.
    #[inline]
    pub(crate) unsafe fn set(self, value: T) {
        if !self.0.is_null() {
            // SAFETY: as the caller promises; it need not be aligned.
            unsafe { self.0.write_unaligned(value) };
        }
    }
}

/// Text that ends with a NUL within `max` bytes. No byte beyond is looked at.
///
/// # Safety
/// `start` is NULL, or readable up to its NUL or `max` bytes and one.
unsafe fn terminated<'a>(name: &str, start: *const c_char, max: usize) -> Result<&'a CStr> {
    if start.is_null() {
        return Err(invalid(format!("{name} is NULL; pass text that ends with a NUL")));
    }
    // SAFETY: as the caller promises.
    let len = unsafe { libc::strnlen(start, max + 1) };
    if len > max {
        return Err(invalid(format!("{name} has more than {max} bytes")));
    }
    // SAFETY: there is a NUL after `len` bytes, the first one.
    Ok(unsafe { CStr::from_ptr(start) })
}

/// Text in UTF-8.
///
/// # Safety
/// As for [`terminated`].
pub(crate) unsafe fn text<'a>(name: &str, start: *const c_char, max: usize) -> Result<&'a str> {
    // SAFETY: as the caller promises.
    let text = unsafe { terminated(name, start, max) }?;
    text.to_str().map_err(|_| invalid(format!("{name} {text:?} is not UTF-8")))
}

/// A path.
///
/// # Safety
/// As for [`terminated`].
pub(crate) unsafe fn path<'a>(name: &str, start: *const c_char) -> Result<&'a OsStr> {
    // SAFETY: as the caller promises.
    let path = unsafe { terminated(name, start, libc::PATH_MAX as usize) }?;
    if path.is_empty() {
        return Err(invalid(format!("{name} is empty; name a directory or file")));
    }
    Ok(OsStr::from_bytes(path.to_bytes()))
}

#[inline]
fn check(name: &str, start: *const c_void, len: usize) -> Result<()> {
    if len != 0 && (start.is_null() || is_beyond(start, len)) {
        return Err(refuse(name, start, len));
    }
    Ok(())
}

/// Whether the range is longer than a value may be, or leaves the address space.
#[inline]
fn is_beyond(start: *const c_void, len: usize) -> bool {
    len as u64 > VALUE_LEN_MAX || start.addr().checked_add(len).is_none()
}

#[cold]
fn refuse(name: &str, start: *const c_void, len: usize) -> Error {
    if start.is_null() {
        return invalid(format!("{name} is NULL and {len} bytes long; pass memory, or length 0"));
    }
    invalid(format!("{name} cannot be {len} bytes long; at most {VALUE_LEN_MAX} are possible"))
}

fn check_records<T>(name: &str, start: *const T, count: usize) -> Result<()> {
    let Some(len) = count.checked_mul(size_of::<T>()) else {
        return Err(invalid(format!("{name} cannot have {count} records")));
    };
    check(name, start.cast(), len)?;
    if !start.is_aligned() {
        return Err(invalid(format!("{name} is not aligned to {} bytes", align_of::<T>())));
    }
    Ok(())
}

/// Memory from `malloc`, for the caller to free with `isotherm_free`.
pub(crate) struct Allocation {
    start: *mut c_void,
    len: usize,
}

impl Allocation {
    /// So many bytes, of any content.
    pub(crate) fn new(len: usize) -> Result<Allocation> {
        // SAFETY: any size may be asked for; not 0, for which the answer may be NULL.
        let start = unsafe { libc::calloc(len.max(1), 1) };
        if start.is_null() {
            let message = format!("no memory for {len} bytes; read the value in pieces");
            return Err(Error::new(ErrorKind::NoMemory, message));
        }
        Ok(Allocation { start, len })
    }

    /// Bytes and a NUL after them.
    pub(crate) fn of_text(text: &str) -> Result<Allocation> {
        let mut allocation = Allocation::new(text.len() + 1)?;
        allocation.as_mut_slice()[..text.len()].copy_from_slice(text.as_bytes());
        Ok(allocation)
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: `len` bytes from calloc, zeroed, this object's alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), self.len) }
    }

    /// Hands it over to the caller.
    pub(crate) fn into_raw(self) -> *mut c_void {
        let start = self.start;
        std::mem::forget(self);
        start
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: from calloc, and handed to nobody.
        unsafe { libc::free(self.start) };
    }
}

/// Frees what a call has allocated for its caller. NULL is allowed.
///
/// # Safety
/// `memory` is NULL, or was handed out by a call that says so and has not been freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_free(memory: *mut c_void) {
    // SAFETY: from calloc (`Allocation`), as the caller promises. In a child it is the child's copy.
    unsafe { libc::free(memory) };
}
