//! Reports of nodes that are no more: their Leases are deleted, since nobody else will.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use headstart_runtime::cluster::{CallError, within};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client, ResourceExt as _};

/// How long a node must have been missing: one that is made anew under its name keeps its report.
const MISSING: Duration = Duration::from_secs(60);

/// Longest time for one call.
const CALL: Duration = Duration::from_secs(5);

/// Most Leases that are looked at in one round.
const AT_ONCE: usize = 50;

/// Since when which node is missing.
pub struct GoneNodes {
    leases: Api<Lease>,
    nodes: Api<Node>,
    missing: HashMap<String, Instant>,
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
    pub fn new(client: Client, namespace: &str) -> Self {
        let leases = Api::namespaced(client.clone(), namespace);
        Self { leases, nodes: Api::all(client), missing: HashMap::new() }
    }

    /// Deletes the Leases of those nodes that the API server itself does not know either: at two times that are a while
    /// apart, or where the agent has been silent for long.
    pub async fn sweep(&mut self, orphans: &[Orphan<'_>], now: Instant) -> Result<(), CallError> {
        let names: HashSet<String> = orphans.iter().map(|orphan| orphan.lease.name_any()).collect();
        self.missing.retain(|name, _| names.contains(name));
        for Orphan { lease, is_stale } in orphans.iter().take(AT_ONCE) {
            let name = lease.name_any();
            let since = self.missing.get(&name).copied();
            // Between the two looks there is nothing to learn.
            if !is_stale && since.is_some_and(|since| !is_gone(since, now)) {
                continue;
            }
            if within(CALL, self.nodes.get_metadata_opt(&name)).await?.is_some() {
                self.missing.remove(&name);
            } else if *is_stale || since.is_some() {
                self.delete(lease, &name).await?;
            } else {
                self.missing.insert(name, now);
            }
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
