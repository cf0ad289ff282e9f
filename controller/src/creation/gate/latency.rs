//! Whether an upstream becomes slower, whatever speed is its own.

use std::time::Duration;

/// Weight of one call in the smoothed latency: about the last ten calls count, one round trip of the default concurrency.
const SMOOTHING: f64 = 0.1;

/// A decrease helped if the smoothed latency fell below this part of what it was. Fewer of our own calls in a queue make it
/// shorter by three tenths.
const HELPED: f64 = 0.85;

/// Where it helped, the baseline grows by so much all the same: an upstream whose latency scatters widely is not held down
/// for ever.
const YIELDS: f64 = 1.1;

/// Calls after which there is a baseline: the first ones may be odd, since they open connections.
const WARM_UP: u32 = 10;

/// So many times the baseline is far above it. A queue that we make ourselves grows with our concurrency and gets there;
/// the usual scatter of a service does not.
const FAR: f64 = 4.0;

/// And so many seconds above it: what lies below is nothing that a runner's start would show.
const MATTERS: f64 = 0.25;

/// One call counts as no more than so many thresholds, so that it takes four slow calls, and not one very slow one.
const MOST: f64 = 3.0;

/// Latencies of successful calls, in seconds.
#[derive(Debug, Default)]
pub(super) struct Latency {
    calls: u32,
    smoothed: f64,
    /// What is usual: the lowest that it was, or what it stayed at whatever was done.
    baseline: f64,
    /// What it was at the last decrease; 0 before there was one, which counts as if that had helped.
    answered: f64,
    /// The lowest since then.
    lowest: f64,
}

impl Latency {
    /// One more call. Whether latency is rising, and this call is one of those that show it.
    pub(super) fn is_rising(&mut self, latency: Duration) -> bool {
        let latency = latency.as_secs_f64();
        let is_judged = self.calls >= WARM_UP;
        self.calls = self.calls.saturating_add(1);
        if !is_judged {
            self.smoothed += (latency - self.smoothed) / f64::from(self.calls);
            self.baseline = self.smoothed;
            return false;
        }
        self.smoothed += SMOOTHING * (latency.min(MOST * self.threshold()) - self.smoothed);
        self.lowest = self.lowest.min(self.smoothed);
        self.baseline = self.baseline.min(self.smoothed);
        self.smoothed > self.threshold() && latency > self.threshold()
    }

    /// The limit was decreased for it. If it was before as well and that did not help, then it is not slow for what we do:
    /// half of what it is now is taken for usual, so that an upstream that is slow for its own reasons is not left for
    /// a few decreases.
    pub(super) fn answered(&mut self) {
        let helped = self.lowest <= HELPED * self.answered;
        self.baseline = if helped { YIELDS * self.baseline } else { self.baseline.max(self.smoothed / 2.0) };
        (self.answered, self.lowest) = (self.smoothed, self.smoothed);
    }

    fn threshold(&self) -> f64 {
        (FAR * self.baseline).max(self.baseline + MATTERS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// How many of `count` calls show a rise; each rise is answered.
    fn rises(latency: &mut Latency, count: u32, each: u64) -> u32 {
        let mut found = 0;
        for _ in 0..count {
            if latency.is_rising(millis(each)) {
                latency.answered();
                found += 1;
            }
        }
        found
    }

    #[test]
    fn steady_latency_is_never_a_rise() {
        for each in [0, 1, 150, 3_000, 60_000] {
            assert_eq!(rises(&mut Latency::default(), 1_000, each), 0, "{each} ms");
        }
    }

    #[test]
    fn what_counts_as_a_rise() {
        // (usual, then, whether that is a rise)
        for (usual, then, rising) in [
            (5, 200, false),
            (5, 300, true),
            (100, 340, false),
            (100, 390, false),
            (100, 500, true),
            (150, 1_500, true),
            (3_000, 11_000, false),
            (3_000, 30_000, true),
        ] {
            let mut latency = Latency::default();
            assert_eq!(rises(&mut latency, 100, usual), 0);
            assert_eq!(rises(&mut latency, 30, then) > 0, rising, "{usual} ms, then {then} ms");
        }
    }

    #[test]
    fn it_takes_four_slow_calls() {
        for slow in [20_000, 3_600_000] {
            let mut latency = Latency::default();
            rises(&mut latency, 100, 150);
            assert_eq!(rises(&mut latency, 3, slow), 0, "three of {slow} ms");
            assert_eq!(rises(&mut latency, 1, slow), 1, "the fourth of {slow} ms");
        }
    }

    #[test]
    fn a_fast_call_shows_no_rise_while_the_slow_ones_still_weigh() {
        let mut latency = Latency::default();
        rises(&mut latency, 100, 150);
        for _ in 0..20 {
            latency.is_rising(millis(5_000));
        }
        assert!(!latency.is_rising(millis(150)));
    }

    #[test]
    fn slowness_that_stays_becomes_usual_after_a_few_decreases() {
        for (times, most) in [(5, 3), (10, 3), (100, 7)] {
            let mut latency = Latency::default();
            rises(&mut latency, 100, 150);
            let found = rises(&mut latency, 1_000, 150 * times);
            assert!((1..=most).contains(&found), "{times} times slower: {found}");
        }
    }

    #[test]
    fn a_queue_that_gets_shorter_when_we_call_less_is_a_reason_again_and_again() {
        let mut latency = Latency::default();
        rises(&mut latency, 100, 100);
        for round in 0..3 {
            let found = (0..30).filter(|_| latency.is_rising(millis(600))).take(1).count();
            assert_eq!(found, 1, "round {round}");
            latency.answered();
            rises(&mut latency, 50, 250);
        }
    }

    #[test]
    fn an_upstream_that_is_fast_again_is_judged_by_that() {
        let mut latency = Latency::default();
        rises(&mut latency, 100, 150);
        rises(&mut latency, 200, 3_000);
        rises(&mut latency, 100, 150);
        assert!(rises(&mut latency, 20, 1_500) > 0);
    }

    #[test]
    fn the_first_call_alone_says_nothing() {
        let mut latency = Latency::default();
        latency.is_rising(millis(1));
        assert_eq!(rises(&mut latency, 200, 3_000), 0);
    }
}
