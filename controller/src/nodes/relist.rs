//! Asks the API server itself for all reports where a watch may have died without a sign.

use std::time::Duration;

use headstart_externals::names::{REPORT_LABEL, REPORT_NODE};
use headstart_runtime::cluster::within;
use headstart_runtime::trouble::Trouble;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::metrics::Metrics;

/// Longest time for the list.
const CALL: Duration = Duration::from_secs(10);

/// Lists reports.
pub struct Relist {
    leases: Api<Lease>,
    metrics: Metrics,
    trouble: Trouble,
}

impl Relist {
    /// Of the Leases in `namespace`.
    pub fn new(client: Client, namespace: &str, metrics: Metrics) -> Self {
        Self { leases: Api::namespaced(client, namespace), metrics, trouble: Trouble::default() }
    }

    /// All of them as they are now; `None` where nobody says.
    pub async fn all(&mut self) -> Option<Vec<Lease>> {
        let of_nodes = ListParams::default().labels(&format!("{REPORT_LABEL}={REPORT_NODE}"));
        match within(CALL, self.leases.list(&of_nodes)).await {
            Ok(list) => {
                self.trouble.is_over();
                Some(list.items)
            }
            Err(error) => {
                self.metrics.failed("reports");
                if self.trouble.is_news(&error) {
                    tracing::warn!(%error, "no report was renewed for long, and they cannot be listed");
                }
                None
            }
        }
    }
}
