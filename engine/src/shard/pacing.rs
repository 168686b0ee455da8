//! When the log's owner writes a batch, and when a change is worth waking him.
//!
//! Group commit needs no timer: while batches are in flight, changes gather.

use crate::shard::log_owner::{BATCH_RECORDS_MAX, LogOwner};

/// Batches in flight: two lower the tail latency, four do not help.
const FLIGHTS_MAX: usize = 2;

impl LogOwner {
    /// Batches whose writes are under way, and their records. None if a write has failed.
    fn in_flight(&self) -> Option<(usize, usize)> {
        let flights = self.flights.borrow();
        if flights.iter().any(|flight| matches!(flight.written, Some(Err(_)))) {
            return None;
        }
        let written = flights.iter().filter(|flight| flight.written.is_none());
        Some(written.fold((0, 0), |(n, records), flight| (n + 1, records + flight.items.len())))
    }

    /// Records that make a second batch beside the one in flight worth while: half as many as
    /// that has. So a third of the callers is in each, and a third on its way to the next.
    fn second_batch_min(in_flight: usize) -> usize {
        (in_flight / 2).clamp(1, BATCH_RECORDS_MAX / 2)
    }

    /// Whether to write a batch now.
    pub(super) fn may_start(&self) -> bool {
        let queued = self.queue.borrow().len();
        match self.in_flight() {
            Some((0, _)) => queued > 0,
            Some((flights, records)) if flights < FLIGHTS_MAX => {
                queued >= Self::second_batch_min(records)
            }
            _ => false,
        }
    }

    /// How many more changes it takes to be worth waking the owner, who is about to sleep: while
    /// a batch is in flight, its end wakes him.
    pub(super) fn ring_at(&self) -> usize {
        match self.in_flight() {
            Some((0, _)) | None => 1,
            Some((flights, records)) if flights < FLIGHTS_MAX => {
                Self::second_batch_min(records).saturating_sub(self.queue.borrow().len())
            }
            _ => usize::MAX,
        }
    }
}
