//! Reports of nodes that are no more: their Leases are deleted, since nobody else will.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use headstart_runtime::cluster::{CallError, within};
use headstart_runtime::trouble::Trouble;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client, ResourceExt as _};

use crate::metrics::Metrics;

/// How long a node must have been missing: one that is made anew under its name keeps its report.
const MISSING: Duration = Duration::from_secs(60);

/// Longest time for one call.
const CALL: Duration = Duration::from_secs(5);

/// Longest time that one round spends on them; the rest follows in the next one.
const ROUND: Duration = Duration::from_secs(10);

/// Most Leases that are looked at in one round.
const AT_ONCE: usize = 50;

/// Since when which node is missing.
pub struct GoneNodes {
    leases: Api<Lease>,
    nodes: Api<Node>,
    missing: HashMap<String, Instant>,
    /// When each was last looked at.
    looked: HashMap<String, Instant>,
    metrics: Metrics,
    trouble: Trouble,
}

/// A report and whether it is one of a node that anybody knows.
pub struct Orphan<'l> {
    /// The Lease, named as its node.
    pub lease: &'l Lease,
    /// Whether it has not been renewed for long.
    pub is_stale: bool,
}

impl GoneNodes {
    /// Reports in `namespace`.
    pub fn new(client: Client, namespace: &str, metrics: Metrics) -> Self {
        Self {
            leases: Api::namespaced(client.clone(), namespace),
            nodes: Api::all(client),
            missing: HashMap::new(),
            looked: HashMap::new(),
            metrics,
            trouble: Trouble::default(),
        }
    }

    /// Deletes the Leases of those nodes that the API server itself does not know either: at two times that are a while
    /// apart, or where the agent has been silent for long. One that cannot be deleted stops no other.
    pub async fn sweep(&mut self, orphans: &[Orphan<'_>], now: Instant) {
        let names: HashSet<String> = orphans.iter().map(|orphan| orphan.lease.name_any()).collect();
        self.missing.retain(|name, _| names.contains(name));
        self.looked.retain(|name, _| names.contains(name));
        // Between the two looks there is nothing to learn.
        let is_due = |orphan: &&Orphan<'_>| {
            let since = self.missing.get(&orphan.lease.name_any());
            orphan.is_stale || since.is_none_or(|since| is_gone(*since, now))
        };
        let mut due: Vec<&Orphan<'_>> = orphans.iter().filter(is_due).collect();
        due.sort_by_key(|orphan| self.looked.get(&orphan.lease.name_any()).copied());
        let mut failed = None;
        let _ = tokio::time::timeout(ROUND, async {
            for orphan in due.into_iter().take(AT_ONCE) {
                self.looked.insert(orphan.lease.name_any(), now);
                if let Err(error) = self.look(orphan, now).await {
                    self.metrics.failed("reports");
                    failed.get_or_insert((orphan.lease.name_any(), error));
                }
            }
        })
        .await;
        let Some((node, error)) = failed else {
            self.trouble.is_over();
            return;
        };
        if self.trouble.is_news(&error) {
            tracing::warn!(node, %error, "failed to delete the report of a node that is gone; trying again");
        }
    }

    async fn look(&mut self, Orphan { lease, is_stale }: &Orphan<'_>, now: Instant) -> Result<(), CallError> {
        let name = lease.name_any();
        if within(CALL, self.nodes.get_metadata_opt(&name)).await?.is_some() {
            self.missing.remove(&name);
        } else if *is_stale || self.missing.contains_key(&name) {
            self.delete(lease, &name).await?;
        } else {
            self.missing.insert(name, now);
        }
        Ok(())
    }

    /// Deletes it as it was read: an agent that has renewed it meanwhile lives.
    async fn delete(&self, lease: &Lease, name: &str) -> Result<(), CallError> {
        let preconditions = Preconditions { uid: lease.uid(), resource_version: lease.resource_version() };
        let params = DeleteParams::default().preconditions(preconditions);
        match within(CALL, self.leases.delete(name, &params)).await {
            Ok(_) => tracing::info!(node = name, "the node is gone: its report was deleted"),
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn is_gone(since: Instant, now: Instant) -> bool {
    now.duration_since(since) >= MISSING
}
