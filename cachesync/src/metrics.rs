//! What operators see of the agent; registered at construction, passed down, never global.

use std::time::{SystemTime, UNIX_EPOCH};

use headstart_externals::fault::FaultReason;
use headstart_externals::version::VersionName;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::status::StatusBoard;

/// The agent's counters.
#[derive(Clone)]
pub struct Metrics {
    failures: IntCounterVec,
    duration: HistogramVec,
    bytes: IntGaugeVec,
    last_success: Gauge,
}

impl Metrics {
    /// Registers all of them, and the gauges that follow the status.
    pub fn new(registry: &Registry, board: StatusBoard) -> prometheus::Result<Self> {
        let failures = IntCounterVec::new(
            Opts::new("headstart_cachesync_install_failures_total", "Failed installs by reason"),
            &["reason"],
        )?;
        let buckets = vec![0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
        let duration = HistogramVec::new(
            HistogramOpts::new(
                "headstart_cachesync_install_duration_seconds",
                "Time until a version was ready",
            )
            .buckets(buckets),
            &["profile"],
        )?;
        let bytes = IntGaugeVec::new(
            Opts::new("headstart_cachesync_version_bytes", "Bytes in the tree of a ready version"),
            &["version"],
        )?;
        let last_success = Gauge::new(
            "headstart_cachesync_last_success_timestamp_seconds",
            "When a version last became ready, in seconds since 1970",
        )?;
        registry.register(Box::new(failures.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(bytes.clone()))?;
        registry.register(Box::new(last_success.clone()))?;
        registry.register(Box::new(BoardCollector::new(board)?))?;
        Ok(Self { failures, duration, bytes, last_success })
    }

    /// A version became ready.
    pub(crate) fn succeeded(&self, version: &VersionName, bytes: u64, seconds: f64) {
        self.duration.with_label_values(&[version.profile()]).observe(seconds);
        self.bytes.with_label_values(&[version.as_str()]).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        if let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) {
            self.last_success.set(now.as_secs_f64());
        }
    }

    /// An install failed.
    pub(crate) fn failed(&self, reason: FaultReason) {
        self.failures.with_label_values(&[reason.to_string().as_str()]).inc();
    }
}

/// Gauges that are read off the status when they are scraped.
struct BoardCollector {
    board: StatusBoard,
    versions: GaugeVec,
    free_bytes: Gauge,
}

impl BoardCollector {
    fn new(board: StatusBoard) -> prometheus::Result<Self> {
        let versions = GaugeVec::new(
            Opts::new("headstart_cachesync_versions", "Versions by state"),
            &["state", "wanted"],
        )?;
        let free_bytes =
            Gauge::new("headstart_cachesync_free_bytes", "Free bytes on the root's file system")?;
        Ok(Self { board, versions, free_bytes })
    }

    fn refresh(&self) {
        let status = self.board.status();
        self.versions.reset();
        for version in &status.versions {
            let state = format!("{:?}", version.state).to_lowercase();
            self.versions
                .with_label_values(&[state.as_str(), if version.wanted { "true" } else { "false" }])
                .inc();
        }
        self.free_bytes.set(status.free_bytes.unwrap_or(0) as f64);
    }
}

impl Collector for BoardCollector {
    fn desc(&self) -> Vec<&Desc> {
        [self.versions.desc(), self.free_bytes.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.refresh();
        [self.versions.collect(), self.free_bytes.collect()].concat()
    }
}
