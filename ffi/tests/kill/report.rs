//! What a test says although it passes: past the capture of its output.

use std::io::Write;

use isotherm::config::IoChoice;

use crate::place::Tally;

fn say(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

/// Says loudly what was not tested, and why.
pub fn not_run(what: &str, reason: &str) {
    say(&format!("NOT RUN: {what}: {reason}\n"));
}

/// Says what the kills of one store came to. Losses end the test before.
pub fn told(when: &str, io: IoChoice, tally: &Tally) {
    say(&format!("killed {when} on {}: {}\n", io.name(), tally));
}

/// Says how many lives ended at one kind of system call: of the store that goes on, and of new ones.
pub fn told_of_calls(calls: &str, io: IoChoice, old: u64, new: u64) {
    say(&format!("killed at {calls} on {}: {old} times, {new} times while new\n", io.name()));
}
