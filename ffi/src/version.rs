//! Versions of the library and of its interface.

use std::ffi::{CStr, c_char};

/// The version of the interface: programs built against another do not run with this library. It is
/// in the library's soname.
pub const ISOTHERM_ABI_VERSION: u32 = 0;

const fn number(text: &str) -> u32 {
    match u32::from_str_radix(text, 10) {
        Ok(number) => number,
        Err(_) => panic!("a version is made of numbers"),
    }
}

/// MAJOR * 1,000,000 + MINOR * 1,000 + PATCH.
const VERSION_NUMBER: u32 = number(env!("CARGO_PKG_VERSION_MAJOR")) * 1_000_000
    + number(env!("CARGO_PKG_VERSION_MINOR")) * 1_000
    + number(env!("CARGO_PKG_VERSION_PATCH"));

const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version has no NUL"),
    };

/// The version of the library in use, as ISOTHERM_VERSION_NUMBER is that of the header.
#[unsafe(no_mangle)]
pub extern "C" fn isotherm_version_number() -> u32 {
    VERSION_NUMBER
}

/// The version of the library in use: "0.1.0". Static text.
#[unsafe(no_mangle)]
pub extern "C" fn isotherm_version_string() -> *const c_char {
    VERSION.as_ptr()
}

/// The version of the interface of the library in use: must be ISOTHERM_ABI_VERSION.
#[unsafe(no_mangle)]
pub extern "C" fn isotherm_abi_version() -> u32 {
    ISOTHERM_ABI_VERSION
}
