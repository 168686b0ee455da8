//! Threads that use a [`Memory`] until a number of operations or a time is reached.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::memory::Memory;
use crate::picks::{Picks, fill};
use crate::rounds::Sample;
use crate::usage::cpu_time;

/// What a thread does to its keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Copies values out.
    Get,
    /// Replaces values.
    Put,
}

/// A load: the same for everything it is put on.
pub struct Load {
    direction: Direction,
    value_len: usize,
    /// One per thread.
    picks: Vec<Picks>,
    /// Operations between two looks at the clock.
    burst: usize,
}

impl Load {
    /// So many threads on so many keys.
    pub fn new(direction: Direction, keys: usize, value_len: usize, threads: usize) -> Load {
        let picks = (0..threads).map(|thread| Picks::zipf(keys, 100 + thread as u64)).collect();
        Load { direction, value_len, picks, burst: (1 << 18) / value_len.clamp(1 << 10, 1 << 18) }
    }

    /// What it does.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Bytes of a value.
    pub fn value_len(&self) -> usize {
        self.value_len
    }

    /// Threads of it.
    pub fn threads(&self) -> usize {
        self.picks.len()
    }

    /// Runs for a time.
    pub fn run_for(&self, memory: &dyn Memory, time: Duration) -> Outcome<Sample> {
        let stop = AtomicBool::new(false);
        let cpu = cpu_time();
        let (ops, took) = self.run(
            memory,
            |_| stop.load(Ordering::Relaxed),
            || {
                thread::sleep(time);
                stop.store(true, Ordering::Relaxed);
            },
        )?;
        let cpu = cpu_time().saturating_sub(cpu);
        Ok(Sample::of(ops, took, Some(cpu)))
    }

    /// Runs so many operations, all threads together, and says how long they took.
    pub fn run_count(&self, memory: &dyn Memory, ops: u64) -> Outcome<Duration> {
        let each = ops.div_ceil(self.picks.len() as u64);
        let (done, took) = self.run(memory, |done| done >= each, || {})?;
        // Bursts are whole: a few more may have run.
        Ok(took.mul_f64(ops as f64 / done.max(1) as f64))
    }

    fn run(
        &self,
        memory: &dyn Memory,
        ended: impl Fn(u64) -> bool + Sync,
        meanwhile: impl FnOnce(),
    ) -> Outcome<(u64, Duration)> {
        let barrier = Barrier::new(self.picks.len() + 1);
        let ready = || {
            barrier.wait();
            Instant::now()
        };
        thread::scope(|scope| {
            let threads: Vec<_> = self
                .picks
                .iter()
                .enumerate()
                .map(|(thread, picks)| {
                    let (ended, ready) = (&ended, &ready);
                    scope.spawn(move || self.work(memory, thread, picks, ready, ended))
                })
                .collect();
            let start = ready();
            meanwhile();
            let mut ops = 0;
            let mut end = start;
            for thread in threads {
                let (done, ended) = thread.join().map_err(|_| "a load's thread panicked")??;
                ops += done;
                end = end.max(ended);
            }
            Ok((ops, end - start))
        })
    }

    fn work(
        &self,
        memory: &dyn Memory,
        thread: usize,
        picks: &Picks,
        ready: &dyn Fn() -> Instant,
        ended: &dyn Fn(u64) -> bool,
    ) -> Outcome<(u64, Instant)> {
        let mut value = vec![0; self.value_len];
        fill(&mut value, thread as u64);
        let mut done = 0;
        ready();
        loop {
            for burst in picks.as_slice().chunks(self.burst) {
                if ended(done) {
                    return Ok((done, Instant::now()));
                }
                match self.direction {
                    Direction::Get => memory.gets(burst, &mut value)?,
                    Direction::Put => memory.puts(thread, burst, &mut value)?,
                }
                done += burst.len() as u64;
            }
        }
    }
}
