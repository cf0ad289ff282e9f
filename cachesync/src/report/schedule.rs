//! When the report is written: soon after a change, now and then without one, and ever more rarely while it fails.
//!
//! Times are durations since a moment of the caller's choice; `spread` in 0..1 is the caller's random number, so
//! that the nodes of a cluster do not march in step.

use std::time::Duration;

/// How long no further change may come before a changed report is written.
const QUIET: Duration = Duration::from_millis(200);

/// Longest time from a change to its writing, however many others follow.
const LATEST: Duration = Duration::from_secs(1);

/// How often an unchanged report is written, give or take a tenth.
const RENEWAL: Duration = Duration::from_secs(60);

/// Wait after the first failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Longest wait after a failure.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// When the next write is due.
#[derive(Clone, Debug)]
pub struct Schedule {
    due: Duration,
    /// When the first change came that is not written yet.
    changed: Option<Duration>,
    failures: u32,
}

impl Schedule {
    /// Nothing was written yet, so there is a change.
    pub fn new(now: Duration) -> Self {
        let mut this = Self { due: now, changed: None, failures: 0 };
        this.changed(now);
        this
    }

    /// When the next write is due.
    pub fn due(&self) -> Duration {
        self.due
    }

    /// The report changed. While writes fail this does not bring the next one forward.
    pub fn changed(&mut self, now: Duration) {
        let first = *self.changed.get_or_insert(now);
        if self.failures == 0 {
            self.due = (now + QUIET).min(first + LATEST);
        }
    }

    /// The newest report was written.
    pub fn written(&mut self, now: Duration, spread: f64) {
        let tenths = 0.9 + 0.2 * spread.clamp(0.0, 1.0);
        *self = Self { due: now + RENEWAL.mul_f64(tenths), changed: None, failures: 0 };
    }

    /// A write failed.
    pub fn failed(&mut self, now: Duration, spread: f64) {
        self.failures = self.failures.saturating_add(1);
        let doubled = FIRST_RETRY.saturating_mul(1 << (self.failures - 1).min(16)).min(LAST_RETRY);
        self.due = now + doubled.mul_f64(0.5 + 0.5 * spread.clamp(0.0, 1.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_burst_of_changes_is_one_write_within_a_second() {
        let mut schedule = Schedule::new(ms(0));
        schedule.written(ms(0), 0.5);
        schedule.changed(ms(5_000));
        assert_eq!(schedule.due(), ms(5_200));
        for at in (5_100..=5_900).step_by(100) {
            schedule.changed(ms(at));
        }
        assert_eq!(schedule.due(), ms(6_000));
        schedule.written(ms(6_000), 0.5);
        schedule.changed(ms(6_010));
        assert_eq!(schedule.due(), ms(6_210), "the next burst counts anew");
    }

    #[test]
    fn without_changes_it_is_renewed_every_minute_more_or_less() {
        let mut schedule = Schedule::new(ms(0));
        for (spread, due) in [(0.0, 54_000), (0.5, 60_000), (1.0, 66_000)] {
            schedule.written(ms(0), spread);
            assert_eq!(schedule.due(), ms(due));
        }
    }

    #[test]
    fn failures_are_tried_again_ever_more_rarely_whatever_changes() {
        let mut schedule = Schedule::new(ms(0));
        let mut waits = Vec::new();
        for _ in 0..9 {
            schedule.failed(ms(0), 1.0);
            schedule.changed(ms(0));
            waits.push(schedule.due().as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        schedule.failed(ms(0), 0.0);
        assert_eq!(schedule.due(), ms(30_000));
        schedule.written(ms(40_000), 0.5);
        schedule.changed(ms(50_000));
        assert_eq!(schedule.due(), ms(50_200), "after a success changes count at once");
    }
}
