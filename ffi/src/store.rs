//! Stores: open, close, flush, facts.

use std::ffi::{c_char, c_void};

use isotherm::config::ConfigBuilder;
use isotherm::control::{info_json, stats_json};
use isotherm::{Config, Result, Scope, Store};

use crate::entry::{closing, entry};
use crate::fork;
use crate::memory::{self, Allocation, Out};
use crate::object::{self, hold};
use crate::options::{self, Options};
use crate::status::isotherm_status_t;

/// A store. 0 is none. All calls may be made from any thread.
pub type isotherm_store_t = u64;

/// Bytes of a configuration key or value.
const SETTING_LEN_MAX: usize = 64 << 10;
/// Settings that one open may have.
const SETTINGS_MAX: usize = 1024;

/// One setting: a key and a value of the README's table, such as "tier.0.capacity" and "256MiB".
#[repr(C)]
#[derive(Clone, Copy)]
pub struct isotherm_setting_t {
    /// Text that ends with a NUL.
    pub key: *const c_char,
    /// Text that ends with a NUL.
    pub value: *const c_char,
}

/// Options of an open. Zeros are the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct isotherm_open_options_t {
    /// sizeof(isotherm_open_options_t).
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// A TOML file of settings; NULL: none.
    pub config_file: *const c_char,
    /// Settings that replace those of the file; a later one replaces an earlier.
    pub settings: *const isotherm_setting_t,
    /// How many there are.
    pub setting_count: u64,
}

const _: () = assert!(size_of::<isotherm_open_options_t>() == 32);

// SAFETY: integers and pointers, 32 bytes in order and without padding; a NULL is valid.
unsafe impl Options for isotherm_open_options_t {
    const NAME: &'static str = "isotherm_open_options";
}

/// Sets options to their defaults.
///
/// # Safety
/// `options` is NULL or has `struct_size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_open_options_init(
    options: *mut isotherm_open_options_t,
    struct_size: usize,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    entry(|| unsafe { options::init(options, struct_size) })
}

/// Opens the store in a directory, or makes one there. `options` may be NULL. One process has a store
/// open at a time (ISOTHERM_E_LOCKED otherwise), or several for reading only.
///
/// After the first open, a forked child of this process can make no call but isotherm_free and those
/// that close, which do nothing there (ISOTHERM_E_FORKED).
///
/// # Safety
/// `path` ends with a NUL; `options` and all it points to are as their types say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_open(
    path: *const c_char,
    options: *const isotherm_open_options_t,
    store: *mut isotherm_store_t,
) -> isotherm_status_t {
    entry(|| {
        let out = Out::required("store", store)?;
        // SAFETY: as the caller promises.
        let (path, config) = unsafe { (memory::path("path", path)?, config(options)?) };
        fork::watch();
        let handle = object::open_store(Store::open(path, config)?)?;
        // SAFETY: as the caller promises.
        unsafe { out.set(handle) };
        Ok(())
    })
}

/// # Safety
/// As for [`isotherm_open`].
unsafe fn config(options: *const isotherm_open_options_t) -> Result<Config> {
    // SAFETY: as the caller promises.
    let given = unsafe { options::read(options) }?;
    let mut builder = ConfigBuilder::default();
    if !given.config_file.is_null() {
        // SAFETY: as the caller promises.
        builder =
            ConfigBuilder::from_file(unsafe { memory::path("config_file", given.config_file) }?)?;
    }
    let count = usize::try_from(given.setting_count).unwrap_or(usize::MAX);
    if count > SETTINGS_MAX {
        return Err(memory::invalid(format!("setting_count is {count}; at most {SETTINGS_MAX}")));
    }
    // SAFETY: as the caller promises.
    for setting in unsafe { memory::records("settings", given.settings, count) }? {
        // SAFETY: as the caller promises.
        let [key, value] = unsafe {
            [
                memory::text("key of a setting", setting.key, SETTING_LEN_MAX)?,
                memory::text("value of a setting", setting.value, SETTING_LEN_MAX)?,
            ]
        };
        builder.set(key, value)?;
    }
    builder.build()
}

/// Makes everything durable and closes the store, with every bucket, queue, scan and batch of it that
/// is still open. Waits for calls and operations of queues under way: when it returns, no buffer of
/// theirs is in use. The handle is none from the beginning, also if the flush fails, which the status
/// says. 0 is allowed and does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn isotherm_close(store: isotherm_store_t) -> isotherm_status_t {
    closing(store, || object::close_store(store))
}

/// Makes everything acknowledged before this call durable: it survives power loss.
#[unsafe(no_mangle)]
pub extern "C" fn isotherm_flush(store: isotherm_store_t) -> isotherm_status_t {
    entry(|| hold::<Store>(store)?.flush(Scope::Store))
}

/// What the store is and how it runs, as a JSON object: text that ends with a NUL, for isotherm_free.
///
/// # Safety
/// `json` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_info(
    store: isotherm_store_t,
    json: *mut *mut c_char,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    entry(|| unsafe {
        hand_out_text(json, || Ok(info_json(&hold::<Store>(store)?.info()).to_string()))
    })
}

/// Everything counted since the store was opened, as a JSON object: text that ends with a NUL, for
/// isotherm_free.
///
/// # Safety
/// `json` is NULL or the address of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn isotherm_stats(
    store: isotherm_store_t,
    json: *mut *mut c_char,
) -> isotherm_status_t {
    // SAFETY: as the caller promises.
    entry(|| unsafe {
        hand_out_text(json, || Ok(stats_json(&hold::<Store>(store)?.stats()).to_string()))
    })
}

/// # Safety
/// `place` is NULL or the address of a variable.
unsafe fn hand_out_text(
    place: *mut *mut c_char,
    text: impl FnOnce() -> Result<String>,
) -> Result<()> {
    let out = Out::required("json", place)?;
    let allocation: *mut c_void = Allocation::of_text(&text()?)?.into_raw();
    // SAFETY: as the caller promises.
    unsafe { out.set(allocation.cast()) };
    Ok(())
}
