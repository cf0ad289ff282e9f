//! What the leader does in its term: everything level-triggered, so that a round that failed is simply repeated.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use headstart_externals::config::Config;
use headstart_externals::names::NAMESPACE_LABEL;
use headstart_externals::state::{Allowed, PublishedState};
use headstart_runtime::shutdown::Shutdown;
use headstart_runtime::trouble::Trouble;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use tokio::sync::watch;

use crate::certificates::Keeper;
use crate::metrics::Metrics;
use crate::nodes::{NodeWriter, Reports, Seen, Verdict, judge};
use crate::probe::{Candidate, Prober, candidates};
use crate::publish::{NodeView, StateWriter, next_state};
use crate::watched::Watched;

/// How often everything is looked at without a reason.
const ROUND: Duration = Duration::from_secs(15);

/// How soon after a failure.
const RETRY: Duration = Duration::from_secs(2);

/// Longest round; the API server may be slow.
const ROUND_LIMIT: Duration = Duration::from_secs(60);

/// How often the certificates are looked at, by the wall clock.
const CERTIFICATES: Duration = Duration::from_secs(10);

/// Changes come in bursts; this long is waited for the next one.
const BURST: Duration = Duration::from_millis(50);

/// The duties of a leader.
pub struct Duties {
    /// Issues certificates.
    pub keeper: Keeper,
    /// The rest.
    pub cluster: ClusterDuty,
}

impl Duties {
    /// Does them until the term is over.
    pub async fn run(self, over: Shutdown) -> anyhow::Result<()> {
        let Self { keeper, cluster } = self;
        let metrics = cluster.metrics.clone();
        metrics.leading(true);
        let done = tokio::try_join!(issue(keeper, metrics.clone(), over.clone()), cluster.run(over));
        metrics.leading(false);
        done.map(drop)
    }
}

/// Keeps the certificates until the term is over.
async fn issue(keeper: Keeper, metrics: Metrics, over: Shutdown) -> anyhow::Result<()> {
    let mut failing = Failing::new("certificates", metrics);
    loop {
        let wait = failing.note(limited(keeper.settle()).await, CERTIFICATES);
        tokio::select! {
            () = over.begun() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Publishes the state and tells nodes what is known of them.
pub struct ClusterDuty {
    /// What is watched.
    pub watched: Watched,
    /// The newest configuration.
    pub config: watch::Receiver<Arc<Config>>,
    /// Tries volume kinds.
    pub prober: Prober,
    /// Publishes.
    pub state: StateWriter,
    /// Writes to nodes.
    pub nodes: NodeWriter,
    /// When which report was renewed.
    pub reports: Reports,
    /// Counters.
    pub metrics: Metrics,
}

impl ClusterDuty {
    async fn run(mut self, over: Shutdown) -> anyhow::Result<()> {
        tokio::select! {
            () = over.begun() => return Ok(()),
            ready = self.watched.ready() => ready?,
        }
        let mut failing = Failing::new("cluster", self.metrics.clone());
        let changed = self.watched.changed.clone();
        let mut config = self.config.clone();
        loop {
            let wait = failing.note(limited(self.round()).await, ROUND);
            tokio::select! {
                () = over.begun() => return Ok(()),
                () = changed.notified() => tokio::time::sleep(BURST).await,
                _ = config.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn round(&mut self) -> anyhow::Result<()> {
        let config = self.config.borrow().clone();
        let nodes = self.watched.nodes.state();
        let leases = self.watched.reports.state();
        let seen = self.reports.read(leases.iter().map(AsRef::as_ref), Instant::now());
        let views: Vec<NodeView> = nodes.iter().map(|node| view(node, seen.get(&node.name_any()))).collect();
        let state = self.publish(&config, &views).await?;
        self.tell_nodes(&config, &state, &views, &seen).await
    }

    /// Publishes what follows from reports and probes, if it is news; returns what is published.
    async fn publish(&mut self, config: &Config, nodes: &[NodeView]) -> anyhow::Result<PublishedState> {
        let written = self.state.read().await?;
        let before = written.as_ref().and_then(|written| written.state.clone());
        let nowhere = Allowed::Namespaces(Default::default());
        let draft = next_state(config, nodes, nowhere, before.as_ref());
        let allowed = self.prober.allowed(&draft, &self.candidates()).await;
        let state = next_state(config, nodes, allowed, before.as_ref());
        if before.as_ref() != Some(&state) {
            self.state.write(&state, written).await?;
            let (generation, versions) = (state.generation, state.versions.len());
            tracing::info!(generation, versions, allowed = ?state.allowed, "published");
        }
        self.metrics.published(state.generation);
        Ok(state)
    }

    /// What the namespaces that opted in ask for.
    fn candidates(&self) -> Vec<Candidate> {
        let mut found = Vec::new();
        for namespace in self.watched.namespaces.state() {
            let wish = namespace.labels().get(NAMESPACE_LABEL).cloned().unwrap_or_default();
            let version = namespace.resource_version().unwrap_or_default();
            if namespace.metadata.deletion_timestamp.is_none() {
                found.extend(candidates(&namespace.name_any(), &version, &wish));
            }
        }
        found
    }

    async fn tell_nodes(
        &self,
        config: &Config,
        state: &PublishedState,
        views: &[NodeView],
        seen: &HashMap<String, Seen>,
    ) -> anyhow::Result<()> {
        let mut statuses = Vec::new();
        let nodes = self.watched.nodes.state();
        let mut failed = None;
        for view in views.iter().filter(|view| view.is_selected(config)) {
            let verdict: Verdict = judge(view, seen.get(&view.name), &state.versions);
            statuses.push(verdict.condition.status);
            let Some(node) = nodes.iter().find(|node| node.name_any() == view.name) else { continue };
            if let Err(error) = self.nodes.write(node, &verdict).await {
                failed = Some((view.name.clone(), error));
            }
        }
        self.metrics.nodes(&statuses);
        match failed {
            None => Ok(()),
            Some((name, error)) => Err(error).with_context(|| format!("failed to write to the node {name}")),
        }
    }
}

/// A node as the decisions see it.
fn view(node: &Node, seen: Option<&Seen>) -> NodeView {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_ready = |(kind, status): (&str, &str)| kind == "Ready" && status == "True";
    let created = node.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let age = Timestamp::now().duration_since(created);
    NodeView {
        name: node.name_any(),
        labels: node.labels().clone(),
        ready: conditions.map(|known| (known.type_.as_str(), known.status.as_str())).any(is_ready),
        age: Duration::from_secs(age.as_secs().max(0).unsigned_abs()),
        report: seen.and_then(|seen| seen.report.clone()),
    }
}

async fn limited<T>(round: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    match tokio::time::timeout(ROUND_LIMIT, round).await {
        Ok(done) => done,
        Err(_) => anyhow::bail!("not done within {ROUND_LIMIT:?}; is the API server slow?"),
    }
}

/// A duty whose failures are counted, and logged when they begin, change and end.
struct Failing {
    duty: &'static str,
    metrics: Metrics,
    trouble: Trouble,
}

impl Failing {
    fn new(duty: &'static str, metrics: Metrics) -> Self {
        Self { duty, metrics, trouble: Trouble::default() }
    }

    /// How long to wait after this outcome.
    fn note(&mut self, outcome: anyhow::Result<()>, otherwise: Duration) -> Duration {
        let duty = self.duty;
        match outcome {
            Ok(()) => {
                if self.trouble.is_over() {
                    tracing::info!(duty, "works again");
                }
                otherwise
            }
            Err(error) => {
                self.metrics.failed(duty);
                let error = format!("{error:#}");
                if self.trouble.is_news(&error) {
                    tracing::warn!(duty, error, "a round failed; trying again");
                }
                RETRY
            }
        }
    }
}
