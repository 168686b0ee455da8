//! `kill -9` at random moments: nothing acknowledged at Written or Durable is lost or torn.
//!
//! The test starts itself as a writer, kills it, and starts the next one on what it left; the
//! store is closed cleanly only now and then. The writer notes every intent and acknowledgement
//! in a file, from which the oracle knows what each key may hold. On its next open the writer
//! first reports what it finds; every so often this process opens the store itself and compares
//! every byte.
//!
//! `ISOTHERM_SEED` repeats the writers' operations (not the moments of the kills),
//! `ISOTHERM_KILLS` makes the test shorter or longer.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../support/mod.rs"]
mod support;

mod groups;
mod journal;
mod oracle;
mod parent;
mod writer;

use isotherm::config::IoChoice;

/// Kills per backend.
const KILLS: u64 = 200;

fn setting(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number"))
}

#[test]
fn nothing_acknowledged_is_lost_when_a_writer_on_uring_is_killed() {
    parent::run("uring", IoChoice::Auto, setting("ISOTHERM_KILLS", KILLS));
}

#[test]
fn nothing_acknowledged_is_lost_when_a_writer_on_threads_is_killed() {
    parent::run("threads", IoChoice::Threads, setting("ISOTHERM_KILLS", KILLS));
}

/// Not a test: the writer that the others start and kill.
#[test]
fn writer() {
    if let Ok(order) = std::env::var(writer::ORDER) {
        writer::run(&order);
    }
}
