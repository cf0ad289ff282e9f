//! One round of the leader over the cluster: reports and pods in; the published state, conditions of nodes and Events out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use headstart_externals::config::Config;
use headstart_externals::state::{Allowed, AutoKind, PublishedState, PublishedVersion};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::{Client, ResourceExt as _};
use tokio::sync::watch;

use crate::events::Outbox;
use crate::lead::{Failing, ROUND, limited};
use crate::metrics::Metrics;
use crate::nodes::{
    GoneNodes, NodeWatcher, NodeWriter, Orphan, Relist, Reports, Seen, Verdict, has_any, has_traces,
    is_labelled, is_of_earlier_node, judge,
};
use crate::paired::Warner;
use crate::places::Places;
use crate::probe::{Prober, choices};
use crate::publish::{
    Ages, Announcer, Clocks, Cluster, NodeView, StateWriter, Usage, contradictions, is_rolling, next_state,
    questions,
};
use crate::watched::Watched;

/// Shortest time between two rounds: in a large cluster something changes all the time.
const REST: Duration = Duration::from_millis(200);

/// The same where there are more nodes than [`SMALL`]: a round over a thousand takes its time.
const LONG_REST: Duration = Duration::from_secs(1);

/// Nodes of a cluster that is not large.
const SMALL: usize = 100;

/// Names of what rounds read and write.
#[derive(Clone, Debug)]
pub struct Objects {
    /// Headstart's own namespace.
    pub namespace: String,
    /// ConfigMap with the published state.
    pub published_state: String,
    /// ConfigMap with the configuration, which Events of the rollout are about.
    pub config: String,
}

/// As whom the API server is asked.
pub struct Clients {
    /// The controller.
    pub own: Client,
    /// The identity for dry runs.
    pub probe: Client,
}

/// Publishes the state and tells nodes what is known of them.
pub struct ClusterDuty {
    watched: Watched,
    config: watch::Receiver<Arc<Config>>,
    prober: Prober,
    state: StateWriter,
    /// What was published when that was last known; nothing before it could be read in this term.
    known: Option<Vec<PublishedVersion>>,
    clocks: Clocks,
    usage: Usage,
    announcer: Announcer,
    warner: Warner,
    reports: Reports,
    nodes: NodeWriter,
    seen_nodes: NodeWatcher,
    gone: GoneNodes,
    relist: Relist,
    was_rolling: bool,
    places: Places,
    events: Outbox,
    metrics: Metrics,
}

impl ClusterDuty {
    /// A term begins: nothing is remembered of earlier ones but what is published.
    pub fn new(
        Clients { own: client, probe }: &Clients,
        watched: &Watched,
        config: watch::Receiver<Arc<Config>>,
        objects: &Objects,
        metrics: &Metrics,
    ) -> Self {
        Self {
            watched: watched.clone(),
            config,
            prober: Prober::new(probe.clone(), metrics.clone()),
            state: StateWriter::new(
                client.clone(),
                &objects.namespace,
                &objects.published_state,
                metrics.clone(),
            ),
            known: None,
            clocks: Clocks::default(),
            usage: Usage::new(client.clone(), metrics.clone()),
            announcer: Announcer::new(metrics.clone()),
            warner: Warner::new(client.clone(), metrics.clone()),
            reports: Reports::default(),
            nodes: NodeWriter::new(client.clone(), metrics.clone()),
            seen_nodes: NodeWatcher::default(),
            gone: GoneNodes::new(client.clone(), &objects.namespace, metrics.clone()),
            relist: Relist::new(client.clone(), &objects.namespace, metrics.clone()),
            was_rolling: true,
            places: Places::new(client.clone(), objects),
            events: Outbox::new(client.clone(), metrics.clone()),
            metrics: metrics.clone(),
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Round after round; every one can be cut off.
    pub(crate) async fn run(&mut self) -> anyhow::Result<()> {
        self.watched.ready().await?;
        let mut failing = Failing::new("cluster", self.metrics.clone());
        let changed = self.watched.changed.clone();
        let mut config = self.config.clone();
        loop {
            match failing.note(limited(self.round()).await) {
                // What changed meanwhile is seen then.
                Some(pause) => tokio::time::sleep(pause).await,
                None => {
                    let due = self.clocks.next(&config.borrow(), Instant::now());
                    let due = due.into_iter().chain(self.events.due()).min();
                    let rest = if self.watched.nodes.len() > SMALL { LONG_REST } else { REST };
                    let pause = due.unwrap_or(ROUND).clamp(rest, ROUND);
                    tokio::select! {
                        () = changed.notified() => tokio::time::sleep(rest).await,
                        _ = config.changed() => {}
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
    }

    async fn round(&mut self) -> anyhow::Result<()> {
        let config = self.config.borrow().clone();
        let nodes = self.watched.nodes.state();
        let leases = self.watched.reports.state();
        let seen = self.read_reports(&leases, &nodes).await;
        let views: Vec<NodeView> = nodes.iter().map(|node| view(node, &seen)).collect();
        let published = self.publish(&config, &views).await;
        if published.is_ok() {
            self.warner.warn().await;
        }
        // Also where nothing can be published: pods wait for taints to go.
        self.look_after_nodes(&config, &nodes, &views, &seen).await;
        self.events.flush().await;
        self.sweep(&leases, &views, &seen).await;
        published
    }

    /// The reports as they are watched. Where that has been silent for long, the API server itself is asked: else a watch
    /// that died without a sign would make all of them stale.
    async fn read_reports(&mut self, leases: &[Arc<Lease>], nodes: &[Arc<Node>]) -> HashMap<String, Seen> {
        let known: HashMap<String, &Node> =
            nodes.iter().map(|node| (node.name_any(), node.as_ref())).collect();
        let is_current = |lease: &&Lease| {
            !known.get(&lease.name_any()).is_some_and(|node| is_of_earlier_node(lease, node))
        };
        let current = leases.iter().map(AsRef::as_ref).filter(is_current);
        let seen = self.reports.read(current, Instant::now());
        if !self.reports.is_doubtful(Instant::now()) {
            return seen;
        }
        match self.relist.all().await {
            Some(listed) => self.reports.listed(listed.iter().filter(is_current), Instant::now()),
            None => seen,
        }
    }

    /// Judges all nodes and tells them, and people, what came of it.
    async fn look_after_nodes(
        &mut self,
        config: &Config,
        nodes: &[Arc<Node>],
        views: &[NodeView],
        seen: &HashMap<String, Seen>,
    ) {
        let (selected, others): (Vec<_>, Vec<_>) =
            nodes.iter().zip(views).partition(|(_, view)| view.is_selected(config));
        let judged: Vec<(&Node, &NodeView, Verdict)> = selected
            .into_iter()
            .map(|(node, view)| (node.as_ref(), view, self.judge(node, view, seen.get(&view.name))))
            .collect();
        self.metrics.nodes(judged.iter().map(|(.., verdict)| verdict.condition.status));
        let is_rolling = is_rolling(config, self.known.as_deref().unwrap_or_default());
        let is_rolling = std::mem::replace(&mut self.was_rolling, is_rolling) || is_rolling;
        let looked = judged.iter().map(|(node, view, verdict)| (*node, verdict, view.report.as_ref()));
        let told = self.seen_nodes.look(looked, is_rolling);
        told.nodes.into_iter().for_each(|(node, news)| self.events.push(node, news));
        if !told.many.is_empty() {
            let about = self.places.configuration().await;
            told.many.into_iter().for_each(|news| self.events.push(about.clone(), news));
        }
        let others = others.into_iter().map(|(node, view)| (node.as_ref(), Verdict::not_selected(view.age)));
        let is_due = |(node, verdict): &(&Node, Verdict)| {
            has_traces(node) || (verdict.opens.is_some() && has_any(node, &config.startup_taints))
        };
        let left: Vec<(&Node, Verdict)> = others.filter(is_due).collect();
        let judged = judged.iter().map(|(node, _, verdict)| (*node, verdict));
        let verdicts: Vec<(&Node, &Verdict)> =
            judged.chain(left.iter().map(|(node, verdict)| (*node, verdict))).collect();
        self.nodes.write(&verdicts, &config.startup_taints, Instant::now()).await;
    }

    /// A label stays as it is while nobody knows what pods may name.
    fn judge(&self, node: &Node, view: &NodeView, seen: Option<&Seen>) -> Verdict {
        match &self.known {
            Some(versions) => judge(view, seen, versions),
            None => Verdict { is_unserviceable: is_labelled(node), ..judge(view, seen, &[]) },
        }
    }

    /// Publishes what follows from reports, probes and pods, if it is news.
    async fn publish(&mut self, config: &Config, nodes: &[NodeView]) -> anyhow::Result<()> {
        let written = self.state.read().await?;
        let before = written.as_ref().and_then(|written| written.state.clone());
        let published = before.as_ref().map_or(&[][..], |state| &state.versions);
        self.known = Some(published.to_vec());
        let ages: Ages = self.clocks.read(config, published, Instant::now());
        let nothing = HashMap::new();
        let draft = Cluster { config, nodes, ages: &ages, carried: &nothing };
        let (allowed, auto) = self.allowed(draft, before.as_ref()).await;
        // The last thing before the state is written: a pod may come at any time.
        let asked = questions(draft, published);
        let carried = self.usage.ask(&asked, config.rollout.keep, Instant::now()).await;
        let cluster = Cluster { carried: &carried, ..draft };
        let state = next_state(cluster, allowed, auto, before.as_ref());
        self.warner.note(before.as_ref().map_or(&NOWHERE, |state| &state.allowed), &state.allowed);
        if before.as_ref() != Some(&state) {
            self.state.write(&state, written).await?;
            self.known = Some(state.versions.clone());
            // What retires begins to rest now.
            self.clocks.read(config, &state.versions, Instant::now());
            let (generation, versions) = (state.generation, state.versions.len());
            tracing::info!(generation, versions, allowed = pairs(&state.allowed), "published");
            tell_contradictions(config, before.as_ref(), &state);
        }
        self.metrics.published(state.generation);
        self.announce(cluster, before.as_ref(), &state).await;
        Ok(())
    }

    /// Which volume kinds work where, and what `auto` comes to.
    async fn allowed(
        &mut self,
        draft: Cluster<'_>,
        before: Option<&PublishedState>,
    ) -> (Allowed, BTreeMap<String, AutoKind>) {
        let allowed = before.map_or(NOWHERE, |state| state.allowed.clone());
        let auto = before.map_or_else(BTreeMap::new, |state| state.auto.clone());
        let wanted = self.places.wanted(&self.watched.namespaces.state());
        let tried = next_state(draft, allowed, auto.clone(), before);
        let allowed = self.prober.allowed(&tried, before, &wanted.candidates).await;
        let auto = self.prober.auto(&wanted.wishes, &allowed, &auto);
        (allowed, auto)
    }

    async fn announce(
        &mut self,
        cluster: Cluster<'_>,
        before: Option<&PublishedState>,
        after: &PublishedState,
    ) {
        let rollout = self.announcer.tell(cluster, before, after);
        if !rollout.is_empty() {
            let about = self.places.configuration().await;
            rollout.into_iter().for_each(|news| self.events.push(about.clone(), news));
        }
        for (namespace, news) in choices(before, after) {
            tracing::info!(namespace, reason = news.reason, "{}", news.note);
            if let Some(about) = self.places.namespace(&self.watched.namespaces.state(), &namespace) {
                self.events.push(about, news);
            }
        }
    }

    /// Looks after the reports of nodes that are not there.
    async fn sweep(&mut self, leases: &[Arc<Lease>], views: &[NodeView], seen: &HashMap<String, Seen>) {
        let known: HashSet<&str> = views.iter().map(|view| view.name.as_str()).collect();
        let is_orphan = |lease: &&Arc<Lease>| !known.contains(lease.name_any().as_str());
        let orphans = leases.iter().filter(is_orphan).map(|lease| Orphan {
            lease: lease.as_ref(),
            is_stale: seen.get(&lease.name_any()).is_some_and(|seen| seen.is_stale),
        });
        let orphans: Vec<Orphan<'_>> = orphans.collect();
        self.gone.sweep(&orphans, Instant::now()).await;
    }
}

/// What is allowed before anything was tried.
const NOWHERE: Allowed = Allowed::Namespaces(BTreeMap::new());

/// How many volume kinds are allowed in all namespaces together: there may be thousands, too many for a line of the log.
fn pairs(allowed: &Allowed) -> usize {
    match allowed {
        Allowed::Everywhere => 0,
        Allowed::Namespaces(kinds) => kinds.values().map(|kinds| kinds.len()).sum(),
    }
}

fn tell_contradictions(config: &Config, before: Option<&PublishedState>, after: &PublishedState) {
    for version in contradictions(config, before, after) {
        tracing::warn!(
            %version,
            "the runner image brings a hook template of its own although the profile says ownTemplate: none; \
             its runners are not paired. Correct hooks.ownTemplate, or take the template out of the image"
        );
    }
}

/// A node as the decisions see it.
fn view(node: &Node, seen: &HashMap<String, Seen>) -> NodeView {
    let name = node.name_any();
    let known = seen.get(&name);
    let (report, is_stale) = known.map_or((None, false), |seen| (seen.report.clone(), seen.is_stale));
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
        is_stale,
    }
}
