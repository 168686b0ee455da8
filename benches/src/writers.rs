//! Blocking callers, each with one operation under way, and the latency that they see.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::Outcome;
use crate::picks::{Random, fill};
use crate::rounds::Sample;
use crate::usage::cpu_time;

/// One operation of one caller: its number, its randomness, its buffer.
pub type Operation<'a> = dyn Fn(usize, &mut Random, &mut [u8]) -> Outcome + Sync + 'a;

/// Runs so many callers for a time, each with a buffer of `len` bytes.
pub fn run_callers(
    callers: usize,
    len: usize,
    time: Duration,
    operation: &Operation<'_>,
) -> Outcome<Sample> {
    let stop = AtomicBool::new(false);
    let barrier = Barrier::new(callers + 1);
    let call = |caller: usize| -> Outcome<Histogram<u64>> {
        let mut seen = histogram()?;
        // No two callers, nor the same one in two rounds, go the same way.
        static SEED: AtomicU64 = AtomicU64::new(0);
        let mut random = Random::new(SEED.fetch_add(1, Ordering::Relaxed));
        let mut buffer = vec![0; len];
        fill(&mut buffer, caller as u64);
        barrier.wait();
        while !stop.load(Ordering::Relaxed) {
            let start = Instant::now();
            operation(caller, &mut random, &mut buffer)?;
            seen.saturating_record(start.elapsed().as_nanos() as u64);
        }
        Ok(seen)
    };
    thread::scope(|scope| {
        let call = &call;
        let threads: Vec<_> =
            (0..callers).map(|caller| scope.spawn(move || call(caller))).collect();
        barrier.wait();
        let (start, cpu) = (Instant::now(), cpu_time());
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        let mut all = histogram()?;
        for thread in threads {
            let seen = thread.join().map_err(|_| "a caller panicked")??;
            all.add(seen)?;
        }
        let cpu = cpu_time().saturating_sub(cpu);
        let mut sample = Sample::of(all.len(), start.elapsed(), Some(cpu));
        sample.p50_us = Some(all.value_at_quantile(0.5) as f64 / 1e3);
        Ok(sample)
    })
}

/// Of nanoseconds, from 100 ns to 100 s, to two digits.
pub fn histogram() -> Outcome<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(100, 100_000_000_000, 2)?)
}
