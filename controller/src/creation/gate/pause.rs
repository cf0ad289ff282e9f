//! The pause that an upstream asked for: nobody calls before it is over, and then not everybody at once.

use std::time::Duration;

use fastrand::Rng;

use super::backoff::{full_jitter, obeyed};

/// Calls come back spread over so much of what was waited, one part in this.
const SPREAD: u32 = 4;

/// And over no more than this: at the end of a long pause a few seconds are enough.
const MOST: Duration = Duration::from_secs(2);

/// The last pause of one upstream.
#[derive(Debug, Default)]
pub(super) struct Pause {
    until: Option<Duration>,
    /// After its end the calls begin one after the other for so long.
    spread: Duration,
}

impl Pause {
    /// The upstream asked for `retry_after`; a pause that is longer already stays.
    ///
    /// Others were told the same, so the end is moved by chance.
    pub(super) fn hold(&mut self, retry_after: Duration, now: Duration, rng: &mut Rng) {
        let wait = obeyed(retry_after);
        let end = now.saturating_add(wait);
        if wait.is_zero() || self.until.is_some_and(|until| until >= end) {
            return;
        }
        self.spread = (wait / SPREAD).min(MOST);
        self.until = Some(end.saturating_add(full_jitter(self.spread, rng)));
    }

    /// When the last pause ends or ended.
    pub(super) const fn until(&self) -> Option<Duration> {
        self.until
    }

    /// From when one more than `in_flight` calls may be in flight, of the `limit` that may be in the end.
    pub(super) fn opens(&self, in_flight: u32, limit: u32) -> Duration {
        let Some(until) = self.until else { return Duration::ZERO };
        let share = (self.spread.as_nanos() * u128::from(in_flight)).div_ceil(u128::from(limit.max(1)));
        until.saturating_add(Duration::from_nanos(u64::try_from(share).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn it_is_as_long_as_asked_or_a_little_longer() {
        for (asked, least, most) in [(1, 1_000, 1_250), (8, 8_000, 10_000), (60, 60_000, 62_000)] {
            let ends = (0..200).map(|seed| {
                let mut pause = Pause::default();
                pause.hold(secs(asked), secs(100), &mut Rng::with_seed(seed));
                pause.until().unwrap() - secs(100)
            });
            let ends: Vec<Duration> = ends.collect();
            let (first, last) = (ends.iter().min().unwrap(), ends.iter().max().unwrap());
            assert!(
                *first >= Duration::from_millis(least) && *last <= Duration::from_millis(most),
                "{asked}"
            );
            assert!(
                *last - *first > (Duration::from_millis(most - least)).mul_f64(0.9),
                "{asked}: no jitter"
            );
        }
    }

    #[test]
    fn it_is_bounded_and_only_grows() {
        let rng = &mut Rng::with_seed(1);
        let mut pause = Pause::default();
        pause.hold(Duration::ZERO, secs(5), rng);
        assert_eq!(pause.until(), None);
        pause.hold(Duration::MAX, secs(5), rng);
        let until = pause.until().unwrap();
        assert!(until >= secs(305) && until <= secs(307), "{until:?}");
        pause.hold(secs(3), secs(6), rng);
        assert_eq!(pause.until(), Some(until));
        pause.hold(secs(300), secs(20), rng);
        assert!(pause.until().unwrap() >= secs(320));
    }

    #[test]
    fn calls_come_back_one_after_the_other() {
        let mut pause = Pause::default();
        assert_eq!(pause.opens(9, 10), Duration::ZERO);
        pause.hold(secs(4), secs(0), &mut Rng::with_seed(1));
        let until = pause.until().unwrap();
        let opens: Vec<Duration> = (0..10).map(|in_flight| pause.opens(in_flight, 10) - until).collect();
        let expected: Vec<Duration> = (0..10).map(|nth| Duration::from_millis(100 * nth)).collect();
        assert_eq!(opens, expected);
        assert_eq!(pause.opens(0, 0), until);
    }

    #[test]
    fn nothing_overflows() {
        let mut pause = Pause::default();
        pause.hold(Duration::MAX, Duration::MAX, &mut Rng::with_seed(1));
        assert_eq!(pause.opens(u32::MAX, 1), Duration::MAX);
    }
}
