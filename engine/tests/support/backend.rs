//! Which I/O backend a test runs on: one that is meant for io_uring must not run without it unseen.

use std::io::Write;
use std::sync::Arc;

use isotherm::Info;
use isotherm::config::IoChoice;
use isotherm::io::{Devices, uring};

/// Whether this host has io_uring, and if not, why.
pub fn uring() -> Result<(), String> {
    let no_devices: Devices = Arc::new([]);
    uring::available(&no_devices).map_err(|found| found.reason)
}

/// Says that a test meant for io_uring runs without it. Past the capture of a test's output: it is
/// to be seen when the test passes.
pub fn announce(test: &str) {
    if let Err(reason) = uring() {
        let text = format!("NOT ON IO_URING, but on threads: {test}: {reason}\n");
        std::io::stderr().write_all(text.as_bytes()).unwrap();
    }
}

/// Fails if a store that may use io_uring does not although this host has it.
#[track_caller]
pub fn require(io: IoChoice, info: &Info) {
    match io {
        IoChoice::Threads => assert_eq!(info.io_backend, "threads"),
        IoChoice::Auto if uring().is_err() => assert_eq!(info.io_backend, "threads"),
        _ => assert_eq!(info.io_backend, "uring", "{:?}", info.io_reason),
    }
}
