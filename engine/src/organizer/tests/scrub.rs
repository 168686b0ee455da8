//! The scrub in simulated time.

use std::time::Duration;

use crate::config::{ResolvedConfig, ScrubSettings};
use crate::organizer::scrub::ScrubStats;
use crate::store::Scope;
use crate::testing::{SimStore, config};

const HOUR: Duration = Duration::from_secs(3600);
const VALUES: u64 = 200;
const VALUE: usize = 50_000;

fn store(bytes_per_second: u64, interval: Duration) -> SimStore {
    let scrub = ScrubSettings { bytes_per_second, interval };
    let sim = SimStore::new(3, ResolvedConfig { scrub, ..config(1) });
    let bucket = sim.bucket("b");
    for number in 0..VALUES {
        bucket.put(&number.to_le_bytes(), &[number as u8; VALUE]).unwrap();
    }
    sim.store.flush(Scope::Store).unwrap();
    sim
}

fn scrub_of(sim: &SimStore) -> ScrubStats {
    sim.core().organizer.stats().scrub
}

/// Steps until so many passes have ended. The time since.
fn passes(sim: &SimStore, count: u64) {
    for _ in 0..2_000_000 {
        if scrub_of(sim).passes >= count {
            return;
        }
        sim.world.step();
    }
    panic!("no pass {count}: {:?}", scrub_of(sim));
}

#[test]
fn a_pass_reads_everything_and_keeps_its_rate() {
    let rate = 100 << 20;
    let sim = store(rate, Duration::from_secs(1));
    while scrub_of(&sim).bytes == 0 {
        sim.world.step();
    }
    let start = (sim.world.now(), scrub_of(&sim).bytes);
    passes(&sim, 1);
    let bytes = scrub_of(&sim).bytes - start.1;
    assert!(bytes + (2 << 20) >= VALUES * VALUE as u64, "{bytes} bytes");
    let due = Duration::from_secs_f64(bytes as f64 / rate as f64);
    let took = sim.world.now().since(start.0);
    assert!(took + Duration::from_millis(10) >= due, "{bytes} bytes in {took:?}");
    sim.store.close().unwrap();
}

#[test]
fn between_two_passes_it_does_nothing() {
    let sim = store(1 << 30, HOUR);
    passes(&sim, 1);
    let after = (scrub_of(&sim), sim.core().organizer.stats().read_bytes);
    let ended = sim.world.now();
    while sim.world.now().since(ended) < HOUR - Duration::from_secs(1) {
        sim.world.step();
        if sim.world.now().since(ended) < HOUR - Duration::from_secs(1) {
            assert_eq!((scrub_of(&sim), sim.core().organizer.stats().read_bytes), after);
        }
    }
    passes(&sim, 2);
    assert!(sim.world.now().since(ended) >= HOUR);
    sim.store.close().unwrap();
}

#[test]
fn a_rate_of_zero_is_no_scrub_and_a_close_does_not_wait_for_a_slow_pass() {
    let off = store(0, Duration::from_millis(10));
    off.steps(100_000);
    assert_eq!(scrub_of(&off), ScrubStats::default());
    off.store.close().unwrap();
    let slow = store(1, Duration::from_millis(10));
    while scrub_of(&slow).bytes == 0 {
        slow.world.step();
    }
    let before = slow.world.now();
    slow.store.close().unwrap();
    assert!(slow.world.now().since(before) < HOUR);
}
