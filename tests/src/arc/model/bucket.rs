//! A client's token bucket: when the next request may leave.

use std::time::Duration;

/// Fills steadily; requests reserve their place in order.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    qps: f64,
    burst: f64,
    tokens: f64,
    last: Duration,
}

impl Bucket {
    /// A full one.
    pub fn new(qps: f64, burst: f64) -> Self {
        Self { qps, burst, tokens: burst, last: Duration::ZERO }
    }

    /// Takes a token; gives how long to wait until it is there.
    pub fn take(&mut self, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.last).as_secs_f64();
        self.tokens = (self.tokens + passed * self.qps).min(self.burst) - 1.0;
        self.last = self.last.max(now);
        if self.tokens >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(-self.tokens / self.qps) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_burst_requests_leave_at_the_rate() {
        let mut bucket = Bucket::new(20.0, 30.0);
        let waits: Vec<Duration> = (0..32).map(|_| bucket.take(Duration::ZERO)).collect();
        assert_eq!(waits[29], Duration::ZERO);
        assert_eq!(waits[31], Duration::from_millis(100));
        assert_eq!(bucket.take(Duration::from_secs(100)), Duration::ZERO, "full again, and not fuller");
        assert_eq!(
            (0..30).map(|_| bucket.take(Duration::from_secs(100))).max(),
            Some(Duration::from_millis(50))
        );
    }
}
