//! What is counted of a load.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::fio::Kind;
use crate::harness::failure::{Failure, Outcome};

/// An operation that took longer counts as this long.
const LATENCY_NS_MAX: u64 = 1_000_000_000_000;
/// Digits to which latencies are kept: to a part in a thousand.
const DIGITS: u8 = 3;

/// Counts of one job, or of several together.
pub struct Figures {
    reads: Histogram<u64>,
    writes: Histogram<u64>,
    /// Blocks that were not what was written.
    pub mismatches: u64,
}

impl Figures {
    /// Nothing yet.
    pub fn new() -> Outcome<Figures> {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS)
                .map_err(|error| Failure::Run(error.to_string()))
        };
        Ok(Figures { reads: histogram()?, writes: histogram()?, mismatches: 0 })
    }

    /// An operation has ended.
    #[inline]
    pub fn count(&mut self, kind: Kind, took: Duration) {
        let seen = match kind {
            Kind::Read => &mut self.reads,
            Kind::Write => &mut self.writes,
        };
        seen.saturating_record(took.as_nanos() as u64);
    }

    /// Takes those of another job along.
    pub fn add(&mut self, other: &Figures) -> Outcome {
        let failure = |error: hdrhistogram::AdditionError| Failure::Run(error.to_string());
        self.reads.add(&other.reads).map_err(failure)?;
        self.writes.add(&other.writes).map_err(failure)?;
        self.mismatches += other.mismatches;
        Ok(())
    }

    /// Latencies in nanoseconds of the operations of a kind.
    pub fn latencies_ns(&self, kind: Kind) -> &Histogram<u64> {
        match kind {
            Kind::Read => &self.reads,
            Kind::Write => &self.writes,
        }
    }

    /// Operations of both kinds.
    pub fn operations(&self) -> u64 {
        self.reads.len() + self.writes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_add_up_and_latencies_keep_three_digits() {
        let mut all = Figures::new().unwrap();
        for job in 0..2 {
            let mut figures = Figures::new().unwrap();
            for n in 1..=1000 {
                figures.count(Kind::Read, Duration::from_nanos(n));
            }
            figures.count(Kind::Write, Duration::from_micros(1_234_567));
            figures.mismatches = job;
            all.add(&figures).unwrap();
        }
        let (reads, writes) = (all.latencies_ns(Kind::Read), all.latencies_ns(Kind::Write));
        assert_eq!((all.operations(), reads.len(), all.mismatches), (2002, 2000, 1));
        assert_eq!((reads.min(), reads.value_at_quantile(0.5), reads.max()), (1, 500, 1000));
        assert!((1_233_000_000..1_236_000_000).contains(&writes.max()));
    }

    #[test]
    fn an_endless_operation_counts_with_the_longest_there_is() {
        let mut figures = Figures::new().unwrap();
        figures.count(Kind::Write, Duration::from_secs(1 << 40));
        assert!(figures.latencies_ns(Kind::Write).max() >= LATENCY_NS_MAX);
    }
}
