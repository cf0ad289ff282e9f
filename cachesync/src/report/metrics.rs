//! What operators see of the reporting.

use headstart_runtime::age::Age;
use prometheus::{IntCounterVec, Opts, Registry};

/// Metrics of the reports.
pub(super) struct ReportMetrics {
    writes: IntCounterVec,
    last: Age,
}

impl ReportMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let writes = IntCounterVec::new(
            Opts::new(
                "headstart_cachesync_report_writes_total",
                "Tries to write the node's report, by outcome",
            ),
            &["outcome"],
        )?;
        let last = Age::default();
        registry.register(Box::new(writes.clone()))?;
        registry.register(last.metric(
            "headstart_cachesync_report_age_seconds",
            "How long ago the node's report was last written, in seconds",
        )?)?;
        Ok(Self { writes, last })
    }

    pub(super) fn written(&self) {
        self.writes.with_label_values(&["written"]).inc();
        self.last.renew();
    }

    pub(super) fn failed(&self) {
        self.writes.with_label_values(&["failed"]).inc();
    }
}
