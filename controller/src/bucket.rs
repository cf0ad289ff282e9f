//! How much may be said in a time: a bucket that fills slowly and lets a burst through.

use std::time::{Duration, Instant};

/// Tokens of which each stands for one thing that may be said.
pub(crate) struct Bucket {
    every: Duration,
    size: u32,
    tokens: u32,
    /// When the last token that is in it was due.
    filled: Instant,
}

impl Bucket {
    /// A full one of `size` tokens, into which one more falls `every` so often.
    pub(crate) fn new(every: Duration, size: u32, now: Instant) -> Self {
        Self { every, size, tokens: size, filled: now }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_nanos() / self.every.as_nanos().max(1);
        let fallen = u32::try_from(passed).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(fallen).min(self.size);
        self.filled = if self.tokens == self.size { now } else { self.filled + self.every * fallen };
        let is_there = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_no_more_than_falls_into_it() {
        let begun = Instant::now();
        let mut bucket = Bucket::new(Duration::from_millis(100), 50, begun);
        let mut taken = |millis: u64| {
            let now = begun + Duration::from_millis(millis);
            (0..1000).filter(|_| bucket.take(now)).count()
        };
        assert_eq!(taken(0), 50);
        assert_eq!(taken(99), 0);
        assert_eq!(taken(150), 1);
        assert_eq!(taken(200), 1, "what is left of the time counts");
        assert_eq!(taken(1200), 10);
        assert_eq!(taken(3_600_000), 50, "no more than fits");
    }
}
