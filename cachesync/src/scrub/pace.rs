//! How fast a scrub reads: pure arithmetic, so that a slow disk is never made up for by a burst.

use std::time::Duration;

/// Longest pause at a time, so that an end is noticed soon.
const LONGEST: Duration = Duration::from_millis(500);

/// A rate of reading.
pub(super) struct Pace {
    bytes_per_second: u64,
}

impl Pace {
    /// At most so many bytes per second.
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1) }
    }

    /// How long to pause after so many bytes.
    pub(super) fn pause(&mut self, bytes: u64) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_never_exceeded() {
        let mut pace = Pace::new(1 << 20);
        let paused: Duration = (0..8).map(|_| pace.pause(256 << 10)).sum();
        assert_eq!(paused, Duration::from_secs(2), "two MiB at one MiB per second");
        assert_eq!(Pace::new(1).pause(256 << 10), LONGEST, "an end is noticed");
    }
}
