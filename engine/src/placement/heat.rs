//! Heat: a decayed access score. Each access adds one, time halves the sum every half-life.
//!
//! Exponential decay as in the "frecency" of LRFU (Lee et al., IEEE Trans. Computers 2001), kept
//! in 8 bytes per blob: the score as of a time, brought forward when it is read.

use std::time::Duration;

use crate::io::runtime::Nanos;

/// A decayed access score and the time it was last brought forward to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Heat {
    score: f32,
    /// Milliseconds on the runtime's clock; wraps after 49 days, which only cools a blob.
    at_ms: u32,
}

/// Time in which the score of an untouched buffer halves.
pub const HALF_LIFE: Duration = Duration::from_secs(60);

impl Heat {
    /// The score now.
    pub fn score(self, now: Nanos) -> f32 {
        let age_ms = millis(now).wrapping_sub(self.at_ms);
        self.score * (-(age_ms as f32) / HALF_LIFE.as_millis() as f32).exp2()
    }

    /// The heat after one more access now.
    #[must_use]
    pub fn touched(self, now: Nanos) -> Heat {
        Heat { score: self.score(now) + 1.0, at_ms: millis(now) }
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
}
