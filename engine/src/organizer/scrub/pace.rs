//! How fast the scrub reads: never above its rate, and never more than a part of a device's time, so
//! that it stands back where others use the device.

use std::time::Duration;

/// After a read it waits at least so many times as long as the read took: a read that is slow because
/// others read and write beside it is followed by a long pause.
const STAND_BACK: u32 = 3;
/// Shorter pauses are gathered: each costs a wake.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest time from the opening to the first pass.
const FIRST_AFTER_MAX: Duration = Duration::from_secs(600);

/// What of the time is owed for what has been read.
pub struct Pace {
    bytes_per_second: u64,
    owed: Duration,
}

impl Pace {
    /// Owes nothing yet. The rate is not 0.
    pub fn new(bytes_per_second: u64) -> Pace {
        Pace { bytes_per_second, owed: Duration::ZERO }
    }

    /// So many bytes have been read, in this time. How long to wait now, if at all.
    pub fn owe(&mut self, bytes: u64, took: Duration) -> Option<Duration> {
        let by_rate = Duration::try_from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let by_rate = by_rate.unwrap_or(Duration::MAX).saturating_sub(took);
        self.owed = self.owed.saturating_add(by_rate.max(took.saturating_mul(STAND_BACK)));
        (self.owed >= PAUSE_MIN).then(|| std::mem::take(&mut self.owed))
    }
}

/// How long after the opening the first pass begins.
pub fn first_after(interval: Duration) -> Duration {
    interval.min(FIRST_AFTER_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn reading_and_waiting_together_keep_the_rate() {
        let mut pace = Pace::new(10 * MIB);
        let (mut bytes, mut time) = (0, Duration::ZERO);
        for number in 1..1000u64 {
            let (len, took) = (number % 7 * 100_000, Duration::from_micros(number % 900));
            let pause = pace.owe(len, took).unwrap_or_default();
            (bytes, time) = (bytes + len, time + took + pause);
            let due = Duration::from_secs_f64(bytes as f64 / (10 * MIB) as f64);
            assert!(time + PAUSE_MIN >= due, "after {number} reads");
        }
    }

    #[test]
    fn a_device_that_others_keep_busy_is_left_alone_most_of_the_time() {
        let mut pace = Pace::new(1 << 40);
        let took = Duration::from_millis(40);
        assert_eq!(pace.owe(MIB, took), Some(3 * took));
    }

    #[test]
    fn short_pauses_are_gathered() {
        let mut pace = Pace::new(MIB);
        let read = || (4096, Duration::ZERO);
        let (bytes, took) = read();
        assert_eq!(pace.owe(bytes, took), None);
        assert_eq!(pace.owe(bytes, took), None);
        let pause = pace.owe(bytes, took).unwrap();
        assert!(pause >= PAUSE_MIN && pause < PAUSE_MIN + Duration::from_millis(4), "{pause:?}");
    }

    #[test]
    fn the_first_pass_is_soon_but_not_at_once() {
        assert_eq!(first_after(Duration::from_secs(604_800)), FIRST_AFTER_MAX);
        assert_eq!(first_after(Duration::from_millis(20)), Duration::from_millis(20));
    }
}
