//! The node's report to the cluster: one Lease, written soon after a change and renewed while nothing changes.
//!
//! [`schedule`] decides when, [`lease`] what. The cache itself never waits for the API server.

pub mod lease;
mod metrics;
pub mod schedule;

use std::time::Duration;

use headstart_externals::names::REPORT_ANNOTATION;
use headstart_externals::report::NodeReport;
use headstart_runtime::cluster::{CallError, within};
use headstart_runtime::shutdown::Shutdown;
use headstart_runtime::trouble::Trouble;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::{Api, PostParams};
use prometheus::Registry;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::status::StatusBoard;
use metrics::ReportMetrics;
use schedule::Schedule;

/// Longest time for one call.
const CALL: Duration = Duration::from_secs(10);

/// Writes the reports of one node.
pub struct Reporter {
    api: Api<Lease>,
    board: StatusBoard,
    reports: watch::Receiver<NodeReport>,
    metrics: ReportMetrics,
    /// The Lease as last answered; `None` if it has to be read first.
    known: Option<Lease>,
    /// Whether what an earlier life of this agent reported was looked at.
    has_recalled: bool,
    trouble: Trouble,
}

impl Reporter {
    /// A reporter that writes into `namespace` whatever `board` has to report.
    pub fn new(
        client: Client,
        namespace: &str,
        board: StatusBoard,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        let metrics = ReportMetrics::new(registry)?;
        let (api, reports) = (Api::namespaced(client, namespace), board.reports());
        Ok(Self {
            api,
            board,
            reports,
            metrics,
            known: None,
            has_recalled: false,
            trouble: Trouble::default(),
        })
    }

    /// Reports until the shutdown begins.
    pub async fn run(mut self, shutdown: Shutdown) -> anyhow::Result<()> {
        let origin = Instant::now();
        let mut schedule = Schedule::new(origin.elapsed());
        loop {
            tokio::select! {
                () = shutdown.begun() => return Ok(()),
                changed = self.reports.changed() => match changed {
                    Ok(()) => schedule.changed(origin.elapsed()),
                    Err(_) => anyhow::bail!("nobody keeps the status any more"),
                },
                () = tokio::time::sleep_until(origin + schedule.due()) => {
                    let report = self.reports.borrow_and_update().clone();
                    let written = tokio::select! {
                        () = shutdown.begun() => return Ok(()),
                        written = self.write(&report) => written,
                    };
                    match written {
                        Ok(()) => {
                            self.tell_success();
                            schedule.written(origin.elapsed(), fastrand::f64());
                        }
                        Err(error) => {
                            self.tell_failure(&error);
                            schedule.failed(origin.elapsed(), fastrand::f64());
                        }
                    }
                }
            }
        }
    }

    async fn write(&mut self, report: &NodeReport) -> Result<(), CallError> {
        match self.put(report).await {
            // Somebody else changed or removed it: a second look shows what there is now.
            Err(error) if error.is_conflict() || error.is_not_found() => self.put(report).await,
            outcome => outcome,
        }
    }

    fn tell_success(&mut self) {
        self.metrics.written();
        if self.trouble.is_over() {
            tracing::info!("the node's report is written again");
        }
    }

    fn tell_failure(&mut self, error: &CallError) {
        self.metrics.failed();
        if self.trouble.is_news(error) {
            tracing::warn!(%error, "failed to write the node's report; the cache goes on without");
        }
    }

    async fn put(&mut self, report: &NodeReport) -> Result<(), CallError> {
        // Taken out: after a call without an answer nobody knows what is there.
        let found = match self.known.take() {
            Some(lease) => Some(lease),
            None => within(CALL, self.api.get_opt(&report.node)).await?,
        };
        let is_new = found.is_none();
        let report = self.recall(found.as_ref()).unwrap_or_else(|| report.clone());
        let lease = lease::carrying(&report, found, jiff::Timestamp::now());
        let written = if is_new {
            within(CALL, self.api.create(&PostParams::default(), &lease)).await?
        } else {
            within(CALL, self.api.replace(&report.node, &PostParams::default(), &lease)).await?
        };
        self.known = Some(written);
        self.board.note_sent(&report);
        Ok(())
    }

    /// Before the first word of this agent, the final verdicts of an earlier life of it: a restart alone mends no node.
    fn recall(&mut self, found: Option<&Lease>) -> Option<NodeReport> {
        if std::mem::replace(&mut self.has_recalled, true) {
            return None;
        }
        let text = found?.metadata.annotations.as_ref()?.get(REPORT_ANNOTATION)?;
        let report = NodeReport::parse(text).ok()?;
        self.board.change(|ledger, _| ledger.recall(&report));
        Some(self.reports.borrow_and_update().clone())
    }
}
