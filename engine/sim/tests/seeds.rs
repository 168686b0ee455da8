//! A fixed set of seeds, and that a seed is a seed. ISOTHERM_SIM_SEEDS: how many.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use isotherm_sim::options::{Options, Weather};
use isotherm_sim::run::{Outcome, run};

const OPERATIONS: u64 = 400;

fn seeds() -> u64 {
    std::env::var("ISOTHERM_SIM_SEEDS").map_or(120, |count| count.parse().unwrap())
}

/// Runs the seeds on two threads.
fn run_all(count: u64) -> Vec<(Options, Outcome)> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut outcomes = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= count {
                return outcomes;
            }
            let options = Options::draw(seed, OPERATIONS);
            let outcome = run(&options);
            outcomes.push((options, outcome));
        }
    };
    thread::scope(|scope| {
        let other = scope.spawn(work);
        let mut outcomes = work();
        outcomes.extend(other.join().unwrap());
        outcomes
    })
}

#[test]
fn no_crash_and_no_damage_makes_a_store_lie() {
    let outcomes = run_all(seeds());
    let sum =
        |of: fn(&Outcome) -> u64| outcomes.iter().map(|(_, outcome)| of(outcome)).sum::<u64>();
    let crashes = sum(|outcome| outcome.counts.crash_states);
    let damages = sum(|outcome| outcome.counts.damaged_states);
    let promises = sum(|outcome| outcome.promises);
    println!(
        "{} seeds, {crashes} crash states, {damages} damaged states, {promises} promises",
        seeds()
    );
    for (options, outcome) in &outcomes {
        if let Some(what) = &outcome.violation {
            panic!("isotherm-sim --seeds {} --ops {OPERATIONS}: {what}", options.seed);
        }
    }
    assert!(crashes > seeds() * 10 && damages > seeds() && promises > seeds() * 10);
    assert!(outcomes.iter().any(|(options, _)| options.weather == Weather::FlushErrors));
}

#[test]
fn a_seed_takes_the_same_course_every_time() {
    let of = |seed| format!("{:?}", run(&Options::draw(seed, OPERATIONS)));
    for seed in [3, 7, 11] {
        assert_eq!(of(seed), of(seed), "seed {seed}");
    }
    assert_ne!(of(3), of(7));
}
