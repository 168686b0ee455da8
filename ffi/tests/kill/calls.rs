//! Kills at the Nth system call of each kind that changes files: N goes from 1 on until no thread makes
//! so many. On a store that goes on through all of them, and on new ones, for some calls are made while
//! a store is made and hardly ever again.

use isotherm::config::IoChoice;

use crate::life::{Death, Life};
use crate::place::{Place, Tally};
use crate::report;

/// In strace's words; `?` for those that a machine may not have.
const CALLS: [&str; 8] = [
    URING,
    "?pwrite64,?pwritev,?pwritev2",
    "fdatasync,fsync",
    "fallocate",
    "ftruncate",
    "?rename,?renameat,?renameat2",
    "openat",
    "?unlink,?unlinkat",
];
const URING: &str = "io_uring_enter";
/// Changes of each thread in a life: a few hundred calls.
const STEPS: u64 = 40;
/// In the life of a new store.
const STEPS_NEW: u64 = 2;

/// Kills about so often, over all calls.
pub fn sweep(io: IoChoice, seed: u64, kills: u64) {
    // N goes to 100 or 1000: 7 kills at a density of 1, some 4 more for every one more, of most calls.
    let density = (kills / (4 * CALLS.len() as u64)).max(1);
    let mut old = Place::new(io, seed);
    let mut new = Tally::default();
    for (number, calls) in CALLS.iter().enumerate() {
        let seed = seed ^ (number as u64 + 1) << 16;
        let kills_old = numbers(density, |n| old.run(&life(calls, n, STEPS)));
        let kills_new = numbers(density, |n| {
            let mut place = Place::new(io, seed ^ n << 48);
            let survived = place.run(&life(calls, n, STEPS_NEW));
            place.finish();
            new += &place.tally;
            survived
        });
        report::told_of_calls(calls, io, kills_old, kills_new);
        let is_made = *calls != URING || io != IoChoice::Threads;
        let kills = kills_old + kills_new;
        assert!(kills > 0 || !is_made, "no life was ended at {calls}");
    }
    old.finish();
    report::told("at system calls", io, &old.tally);
    report::told("at system calls while new", io, &new);
}

fn life(calls: &'static str, n: u64, steps: u64) -> Life {
    Life { death: Death::AtCall(calls, n), steps }
}

/// Tries 1, 2, 3 and on, in steps that grow, until a life survives. Returns how many did not.
fn numbers(density: u64, mut survives: impl FnMut(u64) -> bool) -> u64 {
    let (mut n, mut kills) = (1, 0);
    while !survives(n) {
        n += 1 + n / density;
        kills += 1;
    }
    kills
}
