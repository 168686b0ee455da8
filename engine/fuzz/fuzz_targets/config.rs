//! See `isotherm_sim::fuzz::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| isotherm_sim::fuzz::config(bytes));
