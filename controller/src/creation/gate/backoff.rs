//! How long one call waits before it is tried again: full jitter below a bound that doubles, and never before the upstream
//! said so.

use std::time::Duration;

use fastrand::Rng;

/// The longest `Retry-After` that is obeyed: a proxy that asks for a day must not stop creation for a day, and asking once
/// in five minutes hurts nobody.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Waits of one kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Bound of the first wait.
    pub base: Duration,
    /// Bound of every wait.
    pub cap: Duration,
}

impl Default for Backoff {
    /// From 100 ms, less than one registration takes, so that a blip costs nothing; to 10 s, after which an upstream that is
    /// back should hear from us.
    fn default() -> Self {
        Self { base: Duration::from_millis(100), cap: Duration::from_secs(10) }
    }
}

impl Backoff {
    /// The wait after `failures` failures in a row (at least 1).
    ///
    /// What the upstream asked for is waited for in any case, and the jitter comes on top: otherwise all that were told the
    /// same would be back in the same moment.
    pub fn delay(self, failures: u32, retry_after: Option<Duration>, rng: &mut Rng) -> Duration {
        let doubled = self.base.saturating_mul(1 << failures.saturating_sub(1).min(20));
        let floor = retry_after.map_or(Duration::ZERO, obeyed);
        floor.saturating_add(full_jitter(doubled.min(self.cap), rng))
    }
}

/// What is obeyed of a `Retry-After`.
pub(super) fn obeyed(retry_after: Duration) -> Duration {
    retry_after.min(LONGEST_RETRY_AFTER)
}

/// Anything from nothing to `bound`, each as likely.
pub(super) fn full_jitter(bound: Duration, rng: &mut Rng) -> Duration {
    Duration::from_nanos(rng.u64(0..=u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(failures: u32, retry_after: Option<Duration>) -> Vec<Duration> {
        let mut rng = Rng::with_seed(7);
        (0..500).map(|_| Backoff::default().delay(failures, retry_after, &mut rng)).collect()
    }

    #[test]
    fn waits_fill_the_whole_range_below_a_bound_that_doubles() {
        for (failures, bound) in
            [(0, 100), (1, 100), (2, 200), (4, 800), (7, 6400), (8, 10_000), (u32::MAX, 10_000)]
        {
            let bound = Duration::from_millis(bound);
            let waits = waits(failures, None);
            let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
            assert!(*most <= bound, "{failures}: {most:?}");
            assert!(*most > bound.mul_f64(0.95) && *least < bound.mul_f64(0.05), "{failures}: {least:?}");
        }
    }

    #[test]
    fn retry_after_is_a_floor_with_jitter_on_top_and_has_a_limit() {
        for (asked, floor) in [(0, 0), (5, 5), (300, 300), (86_400, 300), (u64::MAX, 300)] {
            let floor = Duration::from_secs(floor);
            let waits = waits(1, Some(Duration::from_secs(asked)));
            assert!(waits.iter().all(|wait| *wait >= floor), "{asked}");
            assert!(waits.iter().all(|wait| *wait <= floor + Backoff::default().base), "{asked}");
            assert!(waits.iter().any(|wait| *wait != waits[0]), "{asked}: all at once");
        }
    }

    #[test]
    fn nothing_overflows() {
        let endless = Backoff { base: Duration::MAX, cap: Duration::MAX };
        let wait = endless.delay(u32::MAX, Some(Duration::MAX), &mut Rng::with_seed(1));
        assert!(wait >= LONGEST_RETRY_AFTER);
    }
}
