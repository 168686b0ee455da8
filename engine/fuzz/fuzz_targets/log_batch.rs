//! See `isotherm_sim::fuzz::log_batch`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| isotherm_sim::fuzz::log_batch(bytes));
