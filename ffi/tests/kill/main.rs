//! `kill -9` of a C program that uses the installed library: nothing acknowledged at Written or Durable
//! is lost or torn, no batch shows in part, and there is no byte that nobody wrote.
//!
//! The program (`ffi/tests/programs/killed.c`) tells a pipe of each change before and after its call. It
//! is killed at moments of chance, and by `strace` when a thread enters its Nth system call of a kind,
//! for N from 1 on until it survives. After each kill this process opens the store for reading only and
//! compares every byte; the next program recovers what the kill has left.
//!
//! `ISOTHERM_C_KILLS` is about how many kills there are, `ISOTHERM_SEED` repeats the programs' changes
//! and the moments of the kills, as far as a machine lets them be repeated.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../c_abi/installed.rs"]
mod installed;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../../../engine/tests/support/mod.rs"]
mod support;

mod calls;
mod life;
mod oracle;
mod place;
mod report;

use std::time::Duration;

use isotherm::config::IoChoice;

use crate::life::{Death, Life};
use crate::place::Place;
use crate::support::rng::Rng;

/// Kills of all tests together.
const KILLS: u64 = 80;
/// How long a program that is killed at a moment of chance may live.
const YOUNG_US: u64 = 30_000;
const OLD_US: u64 = 250_000;

fn setting(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number"))
}

fn kills() -> u64 {
    setting("ISOTHERM_C_KILLS", KILLS)
}

/// The ways of this host to do I/O.
fn backends() -> Vec<IoChoice> {
    let uring = support::backend::uring();
    let backends = [(IoChoice::Auto, uring.is_ok()), (IoChoice::Threads, true)];
    if let Err(reason) = uring {
        report::not_run("C programs killed on io_uring", &reason);
    }
    backends.into_iter().filter_map(|(io, is_there)| is_there.then_some(io)).collect()
}

#[test]
fn nothing_acknowledged_to_a_c_program_is_lost_when_it_is_killed_at_any_moment() {
    let seed = setting("ISOTHERM_SEED", 1);
    for io in backends() {
        let mut place = Place::new(io, seed);
        let mut rng = Rng::new(seed);
        for _ in 0..kills() / 4 {
            let most = if rng.one_in(2) { YOUNG_US } else { OLD_US };
            let death = Death::After(Duration::from_micros(rng.below(most)));
            place.run(&Life { death, steps: 0 });
        }
        place.finish();
        report::told("at moments of chance", io, &place.tally);
    }
}

#[test]
fn nothing_acknowledged_to_a_c_program_is_lost_when_it_is_killed_at_a_system_call() {
    if let Err(reason) = life::strace() {
        return report::not_run("C programs killed at system calls", &reason);
    }
    for io in backends() {
        calls::sweep(io, setting("ISOTHERM_SEED", 1), kills() / 2);
    }
}
