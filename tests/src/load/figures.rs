//! What was measured, as numbers: shares of the fastest answers, medians with their spread, and verdicts.

use std::fmt;
use std::time::Duration;

/// The answers of one phase.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Answers per second.
    pub rate: f64,
    /// How long each answer took, sorted.
    latencies: Vec<Duration>,
}

impl Sample {
    /// From every answer's time and how long all of it took.
    pub fn new(mut latencies: Vec<Duration>, elapsed: Duration) -> Self {
        latencies.sort_unstable();
        Self { rate: latencies.len() as f64 / elapsed.as_secs_f64(), latencies }
    }

    /// The time, in milliseconds, within which this share of the answers came.
    pub fn within(&self, share: f64) -> f64 {
        let at = (self.latencies.len() as f64 * share) as usize;
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get(at.min(last)).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }
}

/// Some values of the same thing: their median, and from where to where they go.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// The value in the middle.
    pub median: f64,
    /// The smallest one.
    pub low: f64,
    /// The largest one.
    pub high: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        Self { median: values[values.len() / 2], low: values[0], high: values[values.len() - 1] }
    }
}

/// How a figure must be.
#[derive(Clone, Copy, Debug)]
pub enum Aim {
    /// As large as this or larger.
    AtLeast(f64),
    /// As small as this or smaller.
    AtMost(f64),
}

/// A figure with its aim, as a line that programs can read too.
#[derive(Debug)]
pub struct Verdict {
    /// What it is of.
    pub figure: &'static str,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// How it must be.
    pub aim: Aim,
}

impl Verdict {
    /// Whether it is as it must be.
    pub fn is_met(&self) -> bool {
        match self.aim {
            Aim::AtLeast(aim) => self.value >= aim,
            Aim::AtMost(aim) => self.value <= aim,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { figure, value, unit, aim } = self;
        let aim = match aim {
            Aim::AtLeast(aim) => format!(">={aim}"),
            Aim::AtMost(aim) => format!("<={aim}"),
        };
        let verdict = if self.is_met() { "ok" } else { "short" };
        write!(f, "result {figure} {value:.2} {unit} target {aim} {verdict}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_medians_and_verdicts_are_what_they_say() {
        let sample =
            Sample::new((1..=1000).rev().map(Duration::from_millis).collect(), Duration::from_secs(2));
        assert_eq!((sample.rate, sample.within(0.5), sample.within(0.99)), (500.0, 501.0, 991.0));
        assert_eq!(sample.within(1.0), 1000.0);
        let spread = Spread::new([3.0, 1.0, 2.0]);
        assert_eq!((spread.low, spread.median, spread.high), (1.0, 2.0, 3.0));
        let verdict = |aim| Verdict { figure: "f", value: 0.5, unit: "ratio", aim };
        assert_eq!(verdict(Aim::AtLeast(0.4)).to_string(), "result f 0.50 ratio target >=0.4 ok");
        assert_eq!(verdict(Aim::AtMost(0.4)).to_string(), "result f 0.50 ratio target <=0.4 short");
    }
}
