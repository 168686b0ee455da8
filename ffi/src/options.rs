//! Options that may grow: each struct begins with its size, as its caller was compiled with it.
//!
//! The rule of the kernel: what a shorter one lacks is 0, which is every field's default; what a
//! longer one has beyond ours must be 0.

use isotherm::{Condition, Durability, Error, ErrorKind, PutOptions, Result, Version};

use crate::memory::{invalid, records};
use crate::status::isotherm_status_t;

/// The first two fields of every struct of options.
const HEAD_LEN: usize = 8;
/// Longer ones are not believed.
const LEN_MAX: usize = 4096;

/// A struct of options.
///
/// # Safety
/// It is `repr(C)`, begins with `struct_size: u32` and `flags: u32`, has no padding, and every field
/// may hold any bits.
pub(crate) unsafe trait Options: Copy {
    const NAME: &'static str;
}

/// Reads options; NULL stands for the defaults.
///
/// # Safety
/// `options` is NULL or points to a struct of as many bytes as its first field says.
#[inline]
pub(crate) unsafe fn read<T: Options>(options: *const T) -> Result<T> {
    // SAFETY: every field of options may hold any bits, zeros too.
    let mut copy: T = unsafe { std::mem::zeroed() };
    if !options.is_null() {
        // SAFETY: as the caller promises.
        unsafe { fill(options, &mut copy) }?;
    }
    Ok(copy)
}

/// # Safety
/// As for [`read`], and `options` is not NULL.
unsafe fn fill<T: Options>(options: *const T, copy: &mut T) -> Result<()> {
    let name = T::NAME;
    // SAFETY: the struct begins with its size; it need not be aligned.
    let len = unsafe { options.cast::<u32>().read_unaligned() } as usize;
    if !(HEAD_LEN..=LEN_MAX).contains(&len) {
        return Err(invalid(format!(
            "struct_size of {name} is {len}; initialize it with {name}_init"
        )));
    }
    // SAFETY: as many bytes as the struct says are there, as the caller promises.
    let given = unsafe { records("options", options.cast::<u8>(), len) }?;
    let known = len.min(size_of::<T>());
    // SAFETY: `known` bytes are in both, and any bits are valid in `copy`.
    unsafe {
        std::ptr::copy_nonoverlapping(given.as_ptr(), (copy as *mut T).cast::<u8>(), known);
    }
    if given[known..].iter().any(|byte| *byte != 0) {
        let message = format!(
            "{name} of {len} bytes sets something that this version, which knows {known}, has not"
        );
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    let flags = u32::from_ne_bytes([given[4], given[5], given[6], given[7]]);
    if flags != 0 {
        let message = format!("flags of {name} are {flags:#x}; none are known, pass 0");
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    Ok(())
}

/// Sets options to their defaults: zeros, and the size.
///
/// # Safety
/// `options` is NULL or has `struct_size` writable bytes.
pub(crate) unsafe fn init<T: Options>(options: *mut T, struct_size: usize) -> Result<()> {
    if options.is_null() || !(HEAD_LEN..=LEN_MAX).contains(&struct_size) {
        let name = T::NAME;
        return Err(invalid(format!(
            "{name}_init needs the address of a struct and its sizeof, not {struct_size}"
        )));
    }
    // SAFETY: so many bytes are there, as the caller promises; the first four are the size.
    unsafe {
        options.cast::<u8>().write_bytes(0, struct_size);
        options.cast::<u32>().write_unaligned(struct_size as u32);
    }
    Ok(())
}

/// The level of the bucket, else of the store.
pub const ISOTHERM_DURABILITY_DEFAULT: u32 = 0;
/// A change returns when the bytes are in DRAM; written behind within `flush_interval`. Survives a
/// clean close, and anything once a flush that followed has returned.
pub const ISOTHERM_DURABILITY_MEMORY: u32 = 1;
/// A change returns when the device write has completed. Survives the end of the process.
pub const ISOTHERM_DURABILITY_WRITTEN: u32 = 2;
/// A change returns when it is covered by completed flushes. Survives power loss.
pub const ISOTHERM_DURABILITY_DURABLE: u32 = 3;

/// The change is made in any case.
pub const ISOTHERM_CONDITION_NONE: u32 = 0;
/// Only if there is no such blob; ISOTHERM_E_EXISTS otherwise.
pub const ISOTHERM_CONDITION_ABSENT: u32 = 1;
/// Only if there is such a blob; ISOTHERM_E_NOT_FOUND otherwise.
pub const ISOTHERM_CONDITION_PRESENT: u32 = 2;
/// Only if the blob has this version; ISOTHERM_E_VERSION_MISMATCH otherwise.
pub const ISOTHERM_CONDITION_VERSION: u32 = 3;

/// Options of a change. Zeros are the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct isotherm_put_options_t {
    /// sizeof(isotherm_put_options_t).
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// ISOTHERM_DURABILITY_*: when the call returns, and what the change survives.
    pub durability: u32,
    /// ISOTHERM_CONDITION_*: what must hold of the blob. Of a copy or rename: of the target.
    pub condition: u32,
    /// Of ISOTHERM_CONDITION_VERSION; else 0.
    pub version: u64,
}

const _: () = assert!(size_of::<isotherm_put_options_t>() == 24);

// SAFETY: 24 bytes of integers, in order and without padding.
unsafe impl Options for isotherm_put_options_t {
    const NAME: &'static str = "isotherm_put_options";
}

/// Sets options to their defaults.
///
/// # Safety
/// `options` is NULL or has `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_put_options_init(
    options: *mut isotherm_put_options_t,
    struct_size: usize,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    crate::entry::entry(|| unsafe { init(options, struct_size) })
}

/// The options of a change.
///
/// # Safety
/// As for [`read`].
#[inline]
pub(crate) unsafe fn put_options(options: *const isotherm_put_options_t) -> Result<PutOptions> {
    if options.is_null() {
        return Ok(PutOptions::default());
    }
    // SAFETY: as the caller promises.
    let given = unsafe { read(options) }?;
    Ok(PutOptions {
        durability: durability(given.durability)?,
        condition: condition(given.condition, given.version)?,
    })
}

/// A level by its number.
pub(crate) fn durability(number: u32) -> Result<Option<Durability>> {
    match number {
        ISOTHERM_DURABILITY_DEFAULT => Ok(None),
        ISOTHERM_DURABILITY_MEMORY => Ok(Some(Durability::Memory)),
        ISOTHERM_DURABILITY_WRITTEN => Ok(Some(Durability::Written)),
        ISOTHERM_DURABILITY_DURABLE => Ok(Some(Durability::Durable)),
        _ => Err(invalid(format!("durability is {number}; pass one of ISOTHERM_DURABILITY_*"))),
    }
}

/// A condition by its number.
pub(crate) fn condition(number: u32, version: u64) -> Result<Condition> {
    if number != ISOTHERM_CONDITION_VERSION && version != 0 {
        return Err(invalid(format!(
            "version is {version} and the condition none on it; pass ISOTHERM_CONDITION_VERSION"
        )));
    }
    match number {
        ISOTHERM_CONDITION_NONE => Ok(Condition::None),
        ISOTHERM_CONDITION_ABSENT => Ok(Condition::Absent),
        ISOTHERM_CONDITION_PRESENT => Ok(Condition::Present),
        ISOTHERM_CONDITION_VERSION => Ok(Condition::Version(Version(version))),
        _ => Err(invalid(format!("condition is {number}; pass one of ISOTHERM_CONDITION_*"))),
    }
}
