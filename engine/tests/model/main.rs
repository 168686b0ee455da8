//! The engine against an in-memory model: the same operations on both, every answer compared.
//!
//! The tiers are small enough that values spill, are demoted, promoted and cleaned all the time;
//! each test prints how often, and fails if one of it never happened. Callers own disjoint keys,
//! so that each knows what it must read while all share buckets, log, tiers and DRAM.
//!
//! `ISOTHERM_SEED` repeats a run, `ISOTHERM_MODEL_OPS` makes it shorter or longer.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../support/mod.rs"]
mod support;

mod blobs;
mod bursts;
mod caller;
mod change;
mod changes;
mod choose;
mod files;
mod groups;
mod kinds;
mod listings;
mod marks;
mod reads;
mod session;
mod simulated;
mod streams;
mod tally;
mod wholes;

use std::str::FromStr;

/// Operations of a run on real files.
const OPS: u64 = 200_000;

/// A number from the environment.
fn setting<T: FromStr>(name: &str, default: T) -> T {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number"))
}

/// The seed of this run: fixed, so that `make test` means the same everywhere.
fn seed() -> u64 {
    setting("ISOTHERM_SEED", 1)
}

/// Tells how to repeat a run that fails.
struct TellSeed(&'static str, u64);

impl Drop for TellSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} failed with ISOTHERM_SEED={}", self.0, self.1);
        }
    }
}

#[test]
fn no_answer_differs_from_the_model_on_uring() {
    files::run(
        "model on uring",
        isotherm::config::IoChoice::Auto,
        setting("ISOTHERM_MODEL_OPS", OPS),
    );
}

#[test]
fn no_answer_differs_from_the_model_on_threads() {
    let choice = isotherm::config::IoChoice::Threads;
    files::run("model on threads", choice, setting("ISOTHERM_MODEL_OPS", OPS));
}
