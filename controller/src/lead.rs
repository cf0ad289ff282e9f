//! What the leader does in its term: everything level-triggered, so that a round that failed is simply repeated.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::{StreamExt as _, stream};
use headstart_externals::config::Config;
use headstart_externals::state::{Allowed, PublishedState};
use headstart_externals::version::VersionName;
use headstart_runtime::shutdown::Shutdown;
use headstart_runtime::trouble::Trouble;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use tokio::sync::watch;

use crate::certificates::Keeper;
use crate::metrics::{Leadership, Metrics};
use crate::nodes::{NodeWriter, Reports, Seen, judge};
use crate::paired::Warner;
use crate::probe::{Candidate, Prober, candidates};
use crate::publish::{Cluster, NodeView, StateWriter, contradictions, next_state};
use crate::watched::Watched;

/// How often everything is looked at without a reason.
const ROUND: Duration = Duration::from_secs(15);

/// Shortest time between two rounds: in a large cluster something changes all the time.
const REST: Duration = Duration::from_millis(200);

/// The pause after a first failure; it doubles with each further one, up to [`ROUND`].
const RETRY: Duration = Duration::from_secs(1);

/// Longest round; the API server may be slow.
const ROUND_LIMIT: Duration = Duration::from_secs(60);

/// How often the certificates are looked at, by the wall clock.
const CERTIFICATES: Duration = Duration::from_secs(10);

/// Nodes that are written to at once.
const WRITES: usize = 16;

/// The duties of a leader.
pub struct Duties {
    /// Issues certificates; `None` where something else does.
    pub keeper: Option<Keeper>,
    /// The rest.
    pub cluster: ClusterDuty,
}

impl Duties {
    /// Does them until the term is over.
    pub async fn run(self, over: Shutdown) -> anyhow::Result<()> {
        let Self { keeper, mut cluster } = self;
        let metrics = cluster.metrics.clone();
        // Also where the term is cut off.
        let _leading = Leadership::begin(&metrics);
        let certificates = async {
            match keeper {
                Some(keeper) => issue(keeper, metrics.clone()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = over.begun() => Ok(()),
            ended = certificates => ended,
            ended = cluster.run() => ended,
        }
    }
}

/// Keeps the certificates; every step can be cut off.
async fn issue(keeper: Keeper, metrics: Metrics) -> anyhow::Result<()> {
    let mut failing = Failing::new("certificates", metrics);
    loop {
        let pause = failing.note(limited(keeper.settle()).await);
        tokio::time::sleep(pause.unwrap_or(CERTIFICATES)).await;
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
    /// Warns of runners that need what is not allowed any more.
    pub warner: Warner,
    /// Writes to nodes.
    pub nodes: NodeWriter,
    /// When which report was renewed.
    pub reports: Reports,
    /// Since when which version waits to be offered.
    pub waiting: HashMap<VersionName, Instant>,
    /// Counters.
    pub metrics: Metrics,
}

impl ClusterDuty {
    /// Round after round; every one can be cut off.
    async fn run(&mut self) -> anyhow::Result<()> {
        self.watched.ready().await?;
        let mut failing = Failing::new("cluster", self.metrics.clone());
        let changed = self.watched.changed.clone();
        let mut config = self.config.clone();
        loop {
            match failing.note(limited(self.round()).await) {
                // What changed meanwhile is seen then.
                Some(pause) => tokio::time::sleep(pause).await,
                None => tokio::select! {
                    () = changed.notified() => tokio::time::sleep(REST).await,
                    _ = config.changed() => {}
                    () = tokio::time::sleep(ROUND) => {}
                },
            }
        }
    }

    async fn round(&mut self) -> anyhow::Result<()> {
        let config = self.config.borrow().clone();
        let nodes = self.watched.nodes.state();
        let leases = self.watched.reports.state();
        let seen = self.reports.read(leases.iter().map(AsRef::as_ref), Instant::now());
        let views: Vec<NodeView> = nodes.iter().map(|node| view(node, &seen)).collect();
        let state = self.publish(&config, &views).await?;
        self.warner.warn().await;
        let told = nodes.iter().zip(&views).filter(|(_, view)| view.is_selected(&config));
        self.tell_nodes(told.map(|(node, view)| (node.as_ref(), view)), &state, &seen).await
    }

    /// Publishes what follows from reports and probes, if it is news; returns what is published.
    async fn publish(&mut self, config: &Config, nodes: &[NodeView]) -> anyhow::Result<PublishedState> {
        let written = self.state.read().await?;
        let before = written.as_ref().and_then(|written| written.state.clone());
        let now = Instant::now();
        self.waiting.retain(|version, _| config.revisions().any(|(_, known)| known.version == *version));
        for (_, revision) in config.revisions() {
            self.waiting.entry(revision.version.clone()).or_insert(now);
        }
        let waited = self.waiting.iter().map(|(version, since)| (version.clone(), now - *since)).collect();
        let cluster = Cluster { config, nodes, waited: &waited };
        let allowed_before = before.as_ref().map_or(NOWHERE, |state| state.allowed.clone());
        let draft = next_state(cluster, allowed_before.clone(), before.as_ref());
        let allowed = self.prober.allowed(&draft, &allowed_before, &self.candidates()).await;
        let state = next_state(cluster, allowed, before.as_ref());
        self.warner.note(&allowed_before, &state.allowed);
        if before.as_ref() != Some(&state) {
            self.state.write(&state, written).await?;
            let (generation, versions) = (state.generation, state.versions.len());
            tracing::info!(generation, versions, allowed = ?state.allowed, "published");
            for version in contradictions(config, before.as_ref(), &state) {
                tracing::warn!(
                    %version,
                    "the runner image brings a hook template of its own although the profile says ownTemplate: none; \
                     its runners are not paired. Correct hooks.ownTemplate, or take the template out of the image"
                );
            }
        }
        self.metrics.published(state.generation);
        Ok(state)
    }

    /// What the namespaces that opted in ask for.
    fn candidates(&self) -> Vec<Candidate> {
        let mut found = Vec::new();
        for namespace in self.watched.namespaces.state() {
            let version = namespace.resource_version().unwrap_or_default();
            if namespace.metadata.deletion_timestamp.is_none() {
                found.extend(candidates(&namespace.name_any(), &version, namespace.labels()));
            }
        }
        found
    }

    async fn tell_nodes<'n>(
        &self,
        nodes: impl Iterator<Item = (&'n Node, &'n NodeView)>,
        state: &PublishedState,
        seen: &HashMap<String, Seen>,
    ) -> anyhow::Result<()> {
        let mut writes = Vec::new();
        let mut statuses = Vec::new();
        for (node, view) in nodes {
            let verdict = judge(view, seen.get(&view.name), &state.versions);
            statuses.push(verdict.condition.status);
            writes.push(async move {
                let written = self.nodes.write(node, &verdict).await;
                written.with_context(|| format!("failed to write to the node {}", node.name_any()))
            });
        }
        self.metrics.nodes(statuses.into_iter());
        let written: Vec<_> = stream::iter(writes).buffer_unordered(WRITES).collect().await;
        written.into_iter().collect()
    }
}

/// What is allowed before anything was tried.
const NOWHERE: Allowed = Allowed::Namespaces(std::collections::BTreeMap::new());

/// A node as the decisions see it.
fn view(node: &Node, seen: &HashMap<String, Seen>) -> NodeView {
    let name = node.name_any();
    let report = seen.get(&name).and_then(|seen| seen.report.clone());
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_ready = |(kind, status): (&str, &str)| kind == "Ready" && status == "True";
    let created = node.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let age = Timestamp::now().duration_since(created);
    NodeView {
        name,
        labels: node.labels().clone(),
        ready: conditions.map(|known| (known.type_.as_str(), known.status.as_str())).any(is_ready),
        age: Duration::from_secs(age.as_secs().max(0).unsigned_abs()),
        report,
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
    failures: u32,
}

impl Failing {
    fn new(duty: &'static str, metrics: Metrics) -> Self {
        Self { duty, metrics, trouble: Trouble::default(), failures: 0 }
    }

    /// How long to pause after this outcome; `None` after a success.
    fn note(&mut self, outcome: anyhow::Result<()>) -> Option<Duration> {
        let duty = self.duty;
        let Err(error) = outcome else {
            self.failures = 0;
            if self.trouble.is_over() {
                tracing::info!(duty, "works again");
            }
            return None;
        };
        self.metrics.failed(duty);
        let error = format!("{error:#}");
        if self.trouble.is_news(&error) {
            tracing::warn!(duty, error, "a round failed; trying again");
        }
        let pause = RETRY * 2_u32.pow(self.failures.min(4));
        self.failures += 1;
        Some(pause.min(ROUND))
    }
}
