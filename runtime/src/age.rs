//! How long ago something last succeeded, by this process' own monotonic clock: for decisions and as a metric.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, Opts};
use tokio::time::Instant;

/// When something last succeeded; readers never wait.
#[derive(Clone, Debug)]
pub struct Age {
    origin: Instant,
    /// Milliseconds from `origin`, plus one; 0 for never.
    last: Arc<AtomicU64>,
}

impl Default for Age {
    fn default() -> Self {
        Self { origin: Instant::now(), last: Arc::default() }
    }
}

impl Age {
    /// It succeeded now.
    pub fn renew(&self) {
        let passed = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(passed.saturating_add(1), Ordering::Release);
    }

    /// How long ago it succeeded; `None` if it never did.
    pub fn get(&self) -> Option<Duration> {
        let last = self.last.load(Ordering::Acquire).checked_sub(1)?;
        Some(self.origin.elapsed().saturating_sub(Duration::from_millis(last)))
    }

    /// The age in seconds as a metric to register once; it is absent until the first success.
    pub fn metric(&self, name: &str, help: &str) -> prometheus::Result<Box<dyn Collector>> {
        let gauge = Gauge::with_opts(Opts::new(name, help))?;
        Ok(Box::new(AgeCollector { age: self.clone(), gauge }))
    }
}

struct AgeCollector {
    age: Age,
    gauge: Gauge,
}

impl Collector for AgeCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(age) = self.age.get() else { return Vec::new() };
        self.gauge.set(age.as_secs_f64());
        self.gauge.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_age_grows_until_it_is_renewed_and_is_no_metric_before() {
        let age = Age::default();
        let metric = age.metric("age_seconds", "Age").unwrap();
        assert_eq!((age.get(), metric.collect().len()), (None, 0));
        age.renew();
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(age.get(), Some(Duration::from_secs(7)));
        assert_eq!(metric.collect()[0].get_metric()[0].get_gauge().get_value(), 7.0);
        age.renew();
        assert_eq!(age.get(), Some(Duration::ZERO));
    }
}
