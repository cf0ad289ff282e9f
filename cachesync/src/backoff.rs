//! How long to wait before a failed install is tried again: doubling, bounded, spread so that nodes do not march
//! in step.

use std::time::Duration;

/// Wait after the first failure.
const FIRST: Duration = Duration::from_secs(1);

/// Longest wait.
const LAST: Duration = Duration::from_secs(300);

/// The wait after `failures` failures in a row (at least 1); `spread` in 0..1 is the caller's random number.
///
/// Between half of the doubled wait and all of it.
pub fn delay(failures: u32, spread: f64) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LAST);
    doubled.mul_f64(0.5 + 0.5 * spread.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        assert_eq!(delay(1, 1.0), Duration::from_secs(1));
        assert_eq!(delay(3, 1.0), Duration::from_secs(4));
        assert_eq!(delay(3, 0.0), Duration::from_secs(2));
        assert_eq!(delay(1000, 1.0), LAST);
    }
}
