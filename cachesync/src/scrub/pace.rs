//! How fast a scrub reads: pure arithmetic, so that a slow disk is never made up for by a burst.

use std::time::Duration;

/// Longest pause at a time, so that an end is noticed soon.
const LONGEST: Duration = Duration::from_millis(500);

/// A rate of reading.
pub(super) struct Pace {
    bytes_per_second: u64,
    owed: Duration,
}

impl Pace {
    /// At most so many bytes per second.
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), owed: Duration::ZERO }
    }

    /// So many bytes were read.
    pub(super) fn read(&mut self, bytes: u64) {
        self.owed += Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
    }

    /// How long to pause now; `None` when reading may go on.
    pub(super) fn pause(&mut self) -> Option<Duration> {
        let pause = self.owed.min(LONGEST);
        self.owed -= pause;
        (pause > Duration::ZERO).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long reading takes in all, and the longest time without a look at whether to end.
    fn paused(bytes_per_second: u64, pieces: usize) -> (Duration, Duration) {
        let mut pace = Pace::new(bytes_per_second);
        let mut pauses = Vec::new();
        for _ in 0..pieces {
            pace.read(256 << 10);
            pauses.extend(std::iter::from_fn(|| pace.pause()));
        }
        (pauses.iter().sum(), pauses.into_iter().max().unwrap_or_default())
    }

    #[test]
    fn the_rate_is_never_exceeded_and_an_end_is_noticed() {
        assert_eq!(paused(1 << 20, 8).0, Duration::from_secs(2), "two MiB at one MiB per second");
        let (slow, longest) = paused(64 << 10, 2);
        assert_eq!(slow, Duration::from_secs(8), "also at a low rate");
        assert_eq!(longest, LONGEST);
    }
}
