//! See `isotherm_sim::fuzz::checkpoint`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| isotherm_sim::fuzz::checkpoint(bytes));
