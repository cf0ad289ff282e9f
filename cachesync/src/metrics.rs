//! What operators see of the agent; registered at construction, passed down, never global.

use std::time::{SystemTime, UNIX_EPOCH};

use headstart_externals::fault::FaultReason;
use headstart_externals::report::VersionState;
use headstart_externals::version::VersionName;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use crate::progress::{Phase, Progress};
use crate::status::{NodeStatus, StatusBoard};
use crate::work::Task;

/// The agent's counters.
#[derive(Clone)]
pub struct Metrics {
    failures: IntCounterVec,
    duration: HistogramVec,
    phases: HistogramVec,
    damage: IntCounterVec,
    repairs: IntCounterVec,
    scrubs: IntCounterVec,
    removals: IntCounterVec,
    last_success: Gauge,
}

impl Metrics {
    /// Registers all of them, and the gauges that follow the status.
    pub fn new(registry: &Registry, board: StatusBoard) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str, label: &str| {
            let counter =
                IntCounterVec::new(Opts::new(format!("headstart_cachesync_{name}"), help), &[label])?;
            registry.register(Box::new(counter.clone()))?;
            prometheus::Result::Ok(counter)
        };
        let histogram = |name: &str, help: &str, label: &str| {
            let buckets = vec![0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
            let opts = HistogramOpts::new(format!("headstart_cachesync_{name}"), help).buckets(buckets);
            let histogram = HistogramVec::new(opts, &[label])?;
            registry.register(Box::new(histogram.clone()))?;
            prometheus::Result::Ok(histogram)
        };
        let metrics = Self {
            failures: counter("install_failures_total", "Failed attempts by reason", "reason")?,
            duration: histogram("install_duration_seconds", "Time until a version was ready", "profile")?,
            phases: histogram("install_phase_seconds", "Time of an install by phase", "phase")?,
            damage: counter("damaged_total", "Versions that were found damaged", "profile")?,
            repairs: counter("repaired_total", "Damaged versions that were repaired", "profile")?,
            scrubs: counter("scrubbed_total", "Versions that were read again and found sound", "profile")?,
            removals: counter("removed_total", "Retired versions that were removed", "profile")?,
            last_success: Gauge::new(
                "headstart_cachesync_last_success_timestamp_seconds",
                "When a version last became ready, in seconds since 1970",
            )?,
        };
        registry.register(Box::new(metrics.last_success.clone()))?;
        registry.register(Box::new(BoardCollector::new(board)?))?;
        Ok(metrics)
    }

    /// A version became ready.
    pub(crate) fn succeeded(&self, version: &VersionName, task: Task, seconds: f64, progress: &Progress) {
        if matches!(task, Task::Install | Task::Repair) {
            self.duration.with_label_values(&[version.profile()]).observe(seconds);
            for (phase, seconds) in Phase::seconds(&progress.durations()) {
                self.phases.with_label_values(&[phase]).observe(seconds);
            }
        }
        if task == Task::Repair {
            self.repairs.with_label_values(&[version.profile()]).inc();
        }
        if let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) {
            self.last_success.set(now.as_secs_f64());
        }
    }

    /// An attempt failed.
    pub(crate) fn failed(&self, reason: FaultReason) {
        self.failures.with_label_values(&[reason.to_string().as_str()]).inc();
    }

    /// A version was found damaged.
    pub(crate) fn damaged(&self, version: &VersionName) {
        self.damage.with_label_values(&[version.profile()]).inc();
    }

    /// A version was read again and is sound.
    pub(crate) fn scrubbed(&self, version: &VersionName) {
        self.scrubs.with_label_values(&[version.profile()]).inc();
    }

    /// A retired version was removed.
    pub(crate) fn removed(&self, version: &VersionName) {
        self.removals.with_label_values(&[version.profile()]).inc();
    }
}

/// Gauges that are read off the status when they are scraped.
struct BoardCollector {
    board: StatusBoard,
    versions: GaugeVec,
    bytes: GaugeVec,
    files: GaugeVec,
    damaged: Gauge,
    damaged_files: Gauge,
    replaced: Gauge,
    free_bytes: Gauge,
    scrub_ratio: Gauge,
    unverified_seconds: Gauge,
}

impl BoardCollector {
    fn new(board: StatusBoard) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| Gauge::new(format!("headstart_cachesync_{name}"), help);
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            GaugeVec::new(Opts::new(format!("headstart_cachesync_{name}"), help), labels)
        };
        Ok(Self {
            board,
            versions: gauges("versions", "Versions by state", &["state", "wanted"])?,
            bytes: gauges("version_bytes", "Bytes in the tree of a wanted version", &["version"])?,
            files: gauges("version_files", "Files in the tree of a wanted version", &["version"])?,
            damaged: gauge("versions_damaged", "Versions that are known to be damaged now")?,
            damaged_files: gauge(
                "damaged_files",
                "Files that are missing, foreign or changed in damaged versions",
            )?,
            replaced: gauge(
                "replaced_trees",
                "Trees that gave way to a version and stay until it is retired",
            )?,
            free_bytes: gauge("free_bytes", "Free bytes on the root's file system")?,
            scrub_ratio: gauge(
                "scrub_progress_ratio",
                "How much of the version that is read again was read",
            )?,
            unverified_seconds: gauge(
                "longest_unverified_seconds",
                "How long ago the version was read as a whole that was not for longest",
            )?,
        })
    }

    fn refresh(&self) {
        let status = self.board.status();
        self.versions.reset();
        self.bytes.reset();
        self.files.reset();
        for version in &status.versions {
            let wanted = if version.wanted { "true" } else { "false" };
            self.versions.with_label_values(&[state(version.state), wanted]).inc();
            if version.wanted {
                let name = [version.name.as_str()];
                self.bytes.with_label_values(&name).set(version.bytes as f64);
                self.files.with_label_values(&name).set(version.files as f64);
            }
        }
        self.refresh_checks(&status);
        self.free_bytes.set(status.free_bytes.map_or(f64::NAN, |bytes| bytes as f64));
    }

    fn refresh_checks(&self, status: &NodeStatus) {
        self.damaged.set(status.versions.iter().filter(|version| version.damaged).count() as f64);
        let ratio = status
            .scrub
            .as_ref()
            .map_or(0.0, |scrub| scrub.bytes_done as f64 / scrub.bytes_total.max(1) as f64);
        self.scrub_ratio.set(ratio);
        // What was never read as a whole was not since the start.
        let served = status.versions.iter().filter(|version| version.state == VersionState::Ready);
        let ages = served.map(|version| version.verified_seconds_ago.unwrap_or(status.uptime_seconds));
        self.unverified_seconds.set(ages.fold(0.0, f64::max));
        self.replaced.set(status.versions.iter().map(|version| f64::from(version.replaced)).sum());
    }

    fn all(&self) -> [&dyn Collector; 9] {
        [
            &self.versions,
            &self.bytes,
            &self.files,
            &self.damaged,
            &self.damaged_files,
            &self.replaced,
            &self.free_bytes,
            &self.scrub_ratio,
            &self.unverified_seconds,
        ]
    }
}

fn state(state: VersionState) -> &'static str {
    match state {
        VersionState::Pending => "pending",
        VersionState::Installing => "installing",
        VersionState::Ready => "ready",
        VersionState::Failed => "failed",
        VersionState::Kept => "kept",
        VersionState::Unknown => "unknown",
    }
}

impl Collector for BoardCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.all().into_iter().flat_map(|metric| metric.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.refresh();
        self.all().into_iter().flat_map(|metric| metric.collect()).collect()
    }
}
