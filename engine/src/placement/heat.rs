//! Heat: a decayed access score. Each access adds one, time halves the sum every half-life.
//!
//! Gets that DRAM answers take no lock and touch no entry. The DRAM tier counts them by slot, up to
//! a few, and whoever looks at an entry's heat adds those since the last look.
//!
//! Exponential decay as in the "frecency" of LRFU (Lee et al., IEEE Trans. Computers 2001), kept
//! in 8 bytes per blob: the score as of a time, brought forward when it is read.

use std::time::Duration;

use crate::io::runtime::Nanos;

/// A decayed access score and the time it was last brought forward to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Heat {
    score: f32,
    /// Milliseconds on the runtime's clock; wraps after 49 days: a blob that nobody touched for 25
    /// looks fresh then, until it cools again.
    at_ms: u32,
}

/// Below this age the decay is a straight line to within a ten-millionth.
const NO_AGE_MS: u32 = 32;

/// Time in which the score of an untouched buffer halves.
pub const HALF_LIFE: Duration = Duration::from_secs(60);

impl Heat {
    /// The score now.
    pub fn score(self, now: Nanos) -> f32 {
        // Who touches reads the clock before the stripe's lock: another may have been faster, and a
        // time just before the last touch is no age. Half of the range is 24 days.
        let age_ms = millis(now).wrapping_sub(self.at_ms).cast_signed().max(0).cast_unsigned();
        if age_ms < NO_AGE_MS {
            // The first terms of the series, to the precision of a score: this runs under the
            // stripe lock.
            let half_lives = age_ms as f32 / HALF_LIFE.as_millis() as f32;
            return self.score * (1.0 - half_lives * std::f32::consts::LN_2);
        }
        self.score * (-(age_ms as f32) / HALF_LIFE.as_millis() as f32).exp2()
    }

    /// The heat after one more access now.
    #[must_use]
    pub fn touched(self, now: Nanos) -> Heat {
        self.touched_times(1, now)
    }

    /// The heat after so many more accesses now.
    #[must_use]
    pub fn touched_times(self, times: u32, now: Nanos) -> Heat {
        Heat { score: self.score(now) + times as f32, at_ms: millis(now) }
    }
}

fn millis(now: Nanos) -> u32 {
    (now.0 / 1_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heat_adds_per_access_and_halves_per_half_life() {
        let start = Nanos(5_000_000_000);
        let heat = Heat::default().touched(start).touched(start);
        assert_eq!(heat.score(start), 2.0);
        let later = start.after(HALF_LIFE);
        assert!((heat.score(later) - 1.0).abs() < 1e-3);
        assert!((heat.touched(later).score(later) - 2.0).abs() < 1e-3);
    }

    #[test]
    fn a_touch_by_a_clock_read_just_before_the_last_one_loses_no_heat() {
        let (early, late) = (Nanos(1_000_000), Nanos(3_000_000));
        let heat = Heat::default().touched(late).touched(early);
        assert!((heat.score(late) - 2.0).abs() < 1e-3);
    }
}
