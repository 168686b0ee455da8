//! Interleaved rounds and what they come to: medians, ranges, ratios.

use std::time::Duration;

use crate::Outcome;

/// One measurement of one contender.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Operations per second.
    pub rate: f64,
    /// CPU per operation, microseconds, if known.
    pub cpu_us: Option<f64>,
    /// Median latency, microseconds, if measured.
    pub p50_us: Option<f64>,
}

impl Sample {
    /// From a count, a time and the CPU it took.
    pub fn of(ops: u64, took: Duration, cpu: Option<Duration>) -> Sample {
        let ops = ops.max(1) as f64;
        Sample {
            rate: ops / took.as_secs_f64().max(1e-9),
            cpu_us: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / ops),
            p50_us: None,
        }
    }
}

/// One of those who are compared.
pub struct Contender<'a> {
    /// How it is called in the report.
    pub name: String,
    /// Measures it once.
    pub measure: Box<dyn FnMut() -> Outcome<Sample> + 'a>,
}

impl<'a> Contender<'a> {
    /// A contender of this name.
    pub fn new(
        name: impl Into<String>,
        measure: impl FnMut() -> Outcome<Sample> + 'a,
    ) -> Contender<'a> {
        Contender { name: name.into(), measure: Box::new(measure) }
    }
}

/// A contender's figures over all rounds.
#[derive(Clone, Debug)]
pub struct Figures {
    /// How it is called in the report.
    pub name: String,
    /// One per round.
    pub samples: Vec<Sample>,
}

/// Runs A B C, A B C, ...: what slows the machine for a while slows everyone.
pub fn interleave(rounds: usize, contenders: Vec<Contender<'_>>) -> Outcome<Vec<Figures>> {
    let mut contenders = contenders;
    let mut figures: Vec<Figures> = contenders
        .iter()
        .map(|contender| Figures { name: contender.name.clone(), samples: Vec::new() })
        .collect();
    for _ in 0..rounds {
        for (contender, figures) in contenders.iter_mut().zip(&mut figures) {
            let sample =
                (contender.measure)().map_err(|error| format!("{}: {error}", contender.name))?;
            figures.samples.push(sample);
        }
    }
    Ok(figures)
}

impl Figures {
    /// Median, least and greatest rate.
    pub fn rates(&self) -> (f64, f64, f64) {
        let rates: Vec<f64> = self.samples.iter().map(|sample| sample.rate).collect();
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most = rates.iter().copied().fold(0.0, f64::max);
        (median(rates), least, most)
    }

    /// Median CPU per operation, microseconds.
    pub fn cpu_us(&self) -> Option<f64> {
        self.median_of(|sample| sample.cpu_us)
    }

    /// Median of the median latencies, microseconds.
    pub fn p50_us(&self) -> Option<f64> {
        self.median_of(|sample| sample.p50_us)
    }

    fn median_of(&self, field: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        let values: Option<Vec<f64>> = self.samples.iter().map(field).collect();
        values.filter(|values| !values.is_empty()).map(median)
    }

    /// Median over the rounds of this one's rate against another's of the same round.
    pub fn ratio_to(&self, other: &Figures) -> f64 {
        let pairs = self.samples.iter().zip(&other.samples);
        median(pairs.map(|(ours, theirs)| ours.rate / theirs.rate.max(1e-9)).collect())
    }
}

/// The middle value, or the mean of the two in the middle; 0 of nothing.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match (values.len() / 2, values.len() % 2) {
        (0, 0) => 0.0,
        (middle, 0) => (values[middle - 1] + values[middle]) / 2.0,
        (middle, _) => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_odd_and_the_mean_of_the_middles_of_even_counts() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(Vec::new()), 0.0);
    }

    #[test]
    fn contenders_take_turns() {
        let order = std::cell::RefCell::new(String::new());
        let one = |name: &'static str| {
            let order = &order;
            Contender::new(name, move || {
                order.borrow_mut().push_str(name);
                Ok(Sample::of(1, Duration::from_secs(1), None))
            })
        };
        let figures = interleave(2, vec![one("a"), one("b")]).unwrap();
        assert_eq!(*order.borrow(), "abab");
        assert_eq!(figures[0].ratio_to(&figures[1]), 1.0);
    }
}
