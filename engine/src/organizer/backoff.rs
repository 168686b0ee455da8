//! Segments that could not be emptied, and how long they are left alone.
//!
//! Writes that are not committed yet count as live and cannot be moved; nor can what is damaged.

use std::collections::HashMap;
use std::time::Duration;

use crate::io::runtime::Nanos;
use crate::types::TierSegment;

const FIRST: Duration = Duration::from_millis(100);
const DOUBLINGS_MAX: u32 = 10;

struct Failure {
    generation: u32,
    tries: u32,
    until: Nanos,
}

/// See the module.
#[derive(Default)]
pub struct BackOff {
    failures: HashMap<TierSegment, Failure>,
}

impl BackOff {
    /// An attempt left live bytes behind.
    pub fn failed(&mut self, at: TierSegment, generation: u32, now: Nanos) {
        let tries = self.tries(at, generation);
        let until = now.after(FIRST * 2u32.pow(tries.min(DOUBLINGS_MAX)));
        self.failures.insert(at, Failure { generation, tries: tries + 1, until });
    }

    /// The segment is empty.
    pub fn emptied(&mut self, at: TierSegment) {
        self.failures.remove(&at);
    }

    /// Attempts that have failed in this life of the segment.
    pub fn tries(&self, at: TierSegment, generation: u32) -> u32 {
        self.failures.get(&at).filter(|f| f.generation == generation).map_or(0, |f| f.tries)
    }

    /// How long to leave it alone, if at all.
    pub fn retry_after(&self, at: TierSegment, generation: u32, now: Nanos) -> Option<Duration> {
        let failure = self.failures.get(&at).filter(|f| f.generation == generation)?;
        (failure.until > now).then(|| failure.until.since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{SegmentId, TierId};

    #[test]
    fn each_failure_doubles_the_wait_and_a_new_life_forgets_it() {
        let at = TierSegment { tier: TierId(0), segment: SegmentId(3) };
        let mut backoff = BackOff::default();
        assert_eq!(backoff.retry_after(at, 7, Nanos(0)), None);
        backoff.failed(at, 7, Nanos(0));
        assert_eq!(backoff.retry_after(at, 7, Nanos(0)), Some(FIRST));
        assert_eq!(backoff.retry_after(at, 7, Nanos(0).after(FIRST)), None);
        backoff.failed(at, 7, Nanos(0));
        assert_eq!(backoff.retry_after(at, 7, Nanos(0)), Some(2 * FIRST));
        assert_eq!(backoff.tries(at, 7), 2);
        assert_eq!(backoff.retry_after(at, 8, Nanos(0)), None);
        assert_eq!(backoff.tries(at, 8), 0);
        for _ in 0..40 {
            backoff.failed(at, 7, Nanos(0));
        }
        assert_eq!(backoff.retry_after(at, 7, Nanos(0)), Some(1024 * FIRST));
        backoff.emptied(at);
        assert_eq!(backoff.tries(at, 7), 0);
    }
}
