//! What the C interface adds to a get that DRAM answers: the same gets on two stores of DRAM alone, one
//! called from Rust and one through C, in turns.

use std::ffi::CString;
use std::hint::black_box;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use isotherm::config::{Config, Tier};
use isotherm::{Bucket, Store};
use isotherm_ffi::bucket::isotherm_bucket_t;
use isotherm_ffi::status::{ISOTHERM_OK, isotherm_status_t};
use isotherm_ffi::store::{isotherm_open_options_t, isotherm_setting_t, isotherm_store_t};

use crate::Outcome;
use crate::arguments::Arguments;
use crate::harness::calls::Calls;
use crate::picks::key;
use crate::rounds::median;
use crate::table::{Fact, Section};

/// Few enough to stay in the processor's cache: what is measured is the call.
const KEYS: usize = 500;
const VALUE_LEN: usize = 64;
/// Gets between two looks at the clock: short, so that both interfaces meet the same machine.
const GETS: usize = 20_000;
const TURNS: usize = 100;
const GOAL_NS: f64 = 50.0;

/// Runs it.
pub fn run(arguments: &Arguments) -> Outcome<Section> {
    let note = "Gets of 64 B that DRAM answers, 500 keys, one thread, in turns of 20,000; the median of \
                the turns' own differences.";
    let mut section = Section::new("The C interface", note);
    if !arguments.wants("c-call") {
        return Ok(section);
    }
    eprintln!("c-call");
    let place = tempfile::tempdir_in(&arguments.directory)?;
    let keys: Vec<_> = (0..KEYS).map(key).collect();
    let rust = Rust::open(&place.path().join("rust"))?;
    let c = C::open(&place.path().join("c"))?;
    for key in &keys {
        rust.bucket.put(&key[..], &[1; VALUE_LEN])?;
        c.put(&key[..], &[1; VALUE_LEN])?;
    }
    let (mut added, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds * TURNS {
        let from_rust = time(&keys, |key, into| Ok(rust.bucket.get_into(key, into)?))?;
        let from_c = time(&keys, |key, into| c.get(key, into))?;
        added.push(from_c - from_rust);
        alone.push(from_rust);
    }
    rust.store.close()?;
    c.close()?;
    let (added, alone) = (median(added), median(alone));
    section.facts.push(Fact {
        what: "a get of 64 B through C, beyond one from Rust".into(),
        value: format!("{added:.0} ns more than {alone:.0} ns"),
        goal: format!("<= {GOAL_NS:.0} ns"),
        met: added <= GOAL_NS,
    });
    Ok(section)
}

/// Nanoseconds per get.
fn time(
    keys: &[impl AsRef<[u8]>],
    mut get: impl FnMut(&[u8], &mut [u8]) -> Outcome<usize>,
) -> Outcome<f64> {
    let mut into = [0; VALUE_LEN];
    let start = Instant::now();
    for number in 0..GETS {
        let len = get(keys[number % KEYS].as_ref(), &mut into)?;
        if len != VALUE_LEN || black_box(&into)[0] != 1 {
            return Err("a get answered wrongly".into());
        }
    }
    Ok(start.elapsed().as_secs_f64() * 1e9 / GETS as f64)
}

struct Rust {
    store: Store,
    bucket: Bucket,
}

impl Rust {
    fn open(path: &Path) -> Outcome<Rust> {
        let store = Store::open(path, Config::builder().tier(Tier::dram("64MiB")).build()?)?;
        let bucket = store.bucket("b")?;
        Ok(Rust { store, bucket })
    }
}

struct C {
    calls: Calls,
    store: isotherm_store_t,
    bucket: isotherm_bucket_t,
}

#[inline]
fn check(status: isotherm_status_t) -> Outcome {
    match status {
        ISOTHERM_OK => Ok(()),
        status => Err(format!("a C call answered {status}").into()),
    }
}

impl C {
    fn open(path: &Path) -> Outcome<C> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let setting = |key: &std::ffi::CStr, value: &std::ffi::CStr| isotherm_setting_t {
            key: key.as_ptr(),
            value: value.as_ptr(),
        };
        let settings = [setting(c"tier.0.kind", c"dram"), setting(c"tier.0.capacity", c"64MiB")];
        let options = isotherm_open_options_t {
            struct_size: size_of::<isotherm_open_options_t>() as u32,
            flags: 0,
            config_file: std::ptr::null(),
            settings: settings.as_ptr(),
            setting_count: settings.len() as u64,
        };
        let mut c = C { calls: Calls::linked(), store: 0, bucket: 0 };
        // SAFETY: the path, the options and the texts that they name outlive the call.
        check(unsafe { (c.calls.isotherm_open)(path.as_ptr(), &options, &mut c.store) })?;
        // SAFETY: the name ends with a NUL, and the handle has a place to go.
        check(unsafe { (c.calls.isotherm_bucket_ensure)(c.store, c"b".as_ptr(), &mut c.bucket) })?;
        Ok(c)
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Outcome {
        let (options, version) = (std::ptr::null(), std::ptr::null_mut());
        let (at, bytes) = (key.as_ptr().cast(), value.as_ptr().cast());
        // SAFETY: key and value outlive the call, with the lengths told.
        check(unsafe {
            let (key_len, len) = (key.len(), value.len());
            (self.calls.isotherm_put)(self.bucket, at, key_len, bytes, len, options, version)
        })
    }

    #[inline]
    fn get(&self, key: &[u8], into: &mut [u8]) -> Outcome<usize> {
        let (at, buffer, mut len) = (key.as_ptr().cast(), into.as_mut_ptr().cast(), 0);
        // SAFETY: key and buffer outlive the call, with the lengths told; nobody else has the buffer.
        check(unsafe {
            let (key_len, room) = (key.len(), into.len());
            (self.calls.isotherm_get_into)(self.bucket, at, key_len, buffer, room, &mut len)
        })?;
        Ok(len as usize)
    }

    fn close(&self) -> Outcome {
        // SAFETY: a handle is a number.
        check(unsafe { (self.calls.isotherm_close)(self.store) })
    }
}
