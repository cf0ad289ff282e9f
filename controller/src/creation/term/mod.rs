//! A leader's term of making runners: watches in, calls out, and between them the engine.

mod places;
mod sweeper;
mod tools;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use headstart_externals::config::{Config, Level};
use headstart_externals::names::RUNNER_SET_LABEL;
use headstart_externals::runner_sets::PublishedRunnerSet;
use headstart_runtime::cluster::within;
use headstart_runtime::shutdown::Shutdown;
use headstart_runtime::trouble::Trouble;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::borrow::Timing;
use super::call::{Answer, CallId, Order};
use super::census::{Candidate, Census, Judgement, Refusal};
use super::engine::{Engine, Settings, Standing};
use super::execute::Executor;
use super::journal::{self, Journal};
use super::kubernetes::Kubernetes;
use super::objects::{Runner, RunnerSet};
use super::publisher::Publisher;
use super::tell;
use super::view::RunnerView;
use super::watch::{Kind, Seen, Watches};
use crate::actions::Services;
use crate::events::Outbox;
use crate::metrics::Metrics;
use crate::news::News;
use places::Places;
use sweeper::Sweeper;
use tools::{Reading, Toolbox};

/// How often rights are asked for again.
const RIGHTS: Duration = Duration::from_secs(60);

/// How often what is due by the clock is looked at.
const TICK: Duration = Duration::from_secs(2);

/// How long calls that are under way may go on after the end of a term.
const DRAIN: Duration = Duration::from_secs(4);

const CALL: Duration = Duration::from_secs(10);

/// How runners are made, from the flags.
#[derive(Clone, Copy, Debug)]
pub struct CreationSettings {
    /// Whether they are made at all.
    pub is_switched_on: bool,
    /// Most calls at once to each upstream.
    pub concurrency: NonZeroU32,
    /// Longest time for a single call.
    pub timeout: Duration,
}

/// What a term needs.
#[derive(Clone)]
pub struct Means {
    /// For watches.
    pub watching: Client,
    /// For everything else.
    pub client: Client,
    /// Headstart's own namespace.
    pub namespace: String,
    /// ConfigMap with the published state.
    pub published_state: String,
    /// This replica, as the leader's Lease names it.
    pub identity: String,
    /// From the flags.
    pub settings: CreationSettings,
    /// The configuration.
    pub config: watch::Receiver<Arc<Config>>,
    /// What is counted.
    pub metrics: Metrics,
    /// The services; they outlive terms.
    pub services: Arc<Services>,
}

/// A term.
pub struct Term {
    means: Means,
    origin: Instant,
    engine: Engine,
    watches: Watches,
    census: Census,
    places: Places,
    toolbox: Toolbox,
    sets: HashMap<String, RunnerSet>,
    executor: Executor,
    publisher: Publisher,
    published: Option<Vec<PublishedRunnerSet>>,
    publishing: Option<JoinSet<anyhow::Result<Vec<PublishedRunnerSet>>>>,
    publish_trouble: Trouble,
    events: UnboundedSender<(ObjectReference, News)>,
    /// The UID and name of every runner's set and its own name, by its UID.
    runners: HashMap<String, (String, String)>,
    sweeper: Sweeper,
    calls: JoinSet<(CallId, Answer)>,
    reads: FuturesUnordered<futures::future::BoxFuture<'static, Reading>>,
    rights: FuturesUnordered<futures::future::BoxFuture<'static, (String, Option<Vec<String>>)>>,
    rights_due: BTreeMap<String, Duration>,
    refused: BTreeMap<String, Refusal>,
}

impl Term {
    /// A term that begins.
    pub fn new(means: Means) -> Self {
        let CreationSettings { concurrency, timeout, .. } = means.settings;
        let with_pods = means.config.borrow().runner_creation.level == Level::Pods;
        let timing = Timing { patience: timeout, ..Timing::default() };
        let kubernetes = Kubernetes::new(means.client.clone(), timeout);
        let metrics = means.metrics.clone();
        Self {
            origin: Instant::now(),
            engine: Engine::new(Settings { concurrency, with_pods, timing }, fastrand::u64(..)),
            watches: Watches::new(means.watching.clone()),
            census: Census::default(),
            places: Places::default(),
            toolbox: Toolbox::new(means.client.clone(), means.services.clone()),
            sets: HashMap::new(),
            executor: Executor::new(kubernetes.clone(), &means.namespace),
            publisher: Publisher::new(
                means.client.clone(),
                &means.namespace,
                &means.published_state,
                &means.identity,
            ),
            published: None,
            publishing: None,
            publish_trouble: Trouble::default(),
            events: Outbox::beside(means.client.clone(), metrics.clone()),
            runners: HashMap::new(),
            sweeper: Sweeper::new(kubernetes, metrics.creation().clone()),
            calls: JoinSet::new(),
            reads: FuturesUnordered::new(),
            rights: FuturesUnordered::new(),
            rights_due: BTreeMap::new(),
            refused: BTreeMap::new(),
            means,
        }
    }

    /// Makes runners until the term is over; then lets calls that are under way come to their end.
    pub async fn run(mut self, over: &Shutdown) -> anyhow::Result<()> {
        if !self.means.settings.is_switched_on {
            return self.stay_off(over).await;
        }
        self.inherit().await?;
        self.configure();
        let mut config = self.means.config.clone();
        while !over.has_begun() {
            let wake = self.step();
            tokio::select! {
                () = over.begun() => break,
                seen = self.watches.next() => seen?.into_iter().for_each(|seen| self.take(seen)),
                Some(ended) = self.calls.join_next() => self.ended(ended)?,
                Some(reading) = self.reads.next() => {
                    let now = self.now();
                    self.toolbox.took(reading, now);
                }
                Some((namespace, missing)) = self.rights.next() => self.learned(&namespace, missing),
                Some(done) = published(&mut self.publishing) => self.has_published(done)?,
                Ok(()) = config.changed() => self.configure(),
                () = tokio::time::sleep(wake) => {}
            }
            self.catch_up()?;
        }
        self.drain().await;
        Ok(())
    }

    /// What is there already goes with the next step: one over all is dearer than what leads to it.
    fn catch_up(&mut self) -> anyhow::Result<()> {
        while let Some(more) = self.watches.next().now_or_never() {
            more?.into_iter().for_each(|seen| self.take(seen));
        }
        while let Some(ended) = self.calls.try_join_next() {
            self.ended(ended)?;
        }
        Ok(())
    }

    /// Says that no set may be pinned; what is pinned goes back to ARC with its listener's next word.
    async fn stay_off(&mut self, over: &Shutdown) -> anyhow::Result<()> {
        loop {
            match self.publisher.publish(Vec::new()).await {
                Ok(()) => break,
                Err(error) if self.publish_trouble.is_news(&format!("{error:#}")) => {
                    tracing::warn!(error = %format!("{error:#}"), "failed to publish that no runners are created");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = over.begun() => return Ok(()),
                () = tokio::time::sleep(TICK) => {}
            }
        }
        over.begun().await;
        Ok(())
    }

    /// Reads the journals of earlier leaders.
    async fn inherit(&mut self) -> anyhow::Result<()> {
        let api: Api<ConfigMap> = Api::namespaced(self.means.client.clone(), &self.means.namespace);
        let maps = within(CALL, api.list(&ListParams::default().labels(RUNNER_SET_LABEL))).await?;
        for map in maps {
            let name = map.name_any();
            let text = map.data.as_ref().and_then(|data| data.get(journal::KEY));
            match Journal::parse(&name, text.map_or("", String::as_str)) {
                Ok(journal) => self.places.inherit(journal),
                Err(problem) => tracing::warn!(
                    journal = name,
                    problem,
                    "a journal cannot be read and is left alone; if no other release of the controller runs, delete it"
                ),
            }
        }
        Ok(())
    }

    fn configure(&mut self) {
        let config = self.means.config.borrow_and_update().clone();
        self.engine.configure(config.runner_creation.level == Level::Pods);
        self.places.configure(&config.runner_creation.namespaces);
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Takes note of something that was seen.
    fn take(&mut self, seen: Seen) {
        let now = self.now();
        match seen {
            Seen::Namespace(metadata) => self.places.labelled(*metadata),
            Seen::Owner(owner) => self.census.owner(*owner),
            Seen::Listener(listener) => self.census.listener(*listener),
            Seen::Set(set) => {
                let (Some(view), Some(uid)) = (set.view(), set.uid()) else { return };
                self.toolbox.take(&uid, &set);
                if self.places.is_live(&view.namespace) {
                    self.engine.set(view, now);
                }
                self.sets.insert(uid, *set);
            }
            Seen::Runner(runner) => {
                let namespace = runner.namespace().unwrap_or_default();
                match self.places.namespaces.get_mut(&namespace) {
                    Some(place) if !place.is_live => {
                        place.runners.insert(runner.uid().unwrap_or_default(), *runner);
                    }
                    _ => runner.view().into_iter().for_each(|view| self.observe(view, now)),
                }
            }
            Seen::Gone(kind, uid) => self.gone(kind, &uid),
            Seen::Listed(..) => {}
        }
    }

    fn observe(&mut self, view: RunnerView, now: Duration) {
        self.runners.insert(view.uid.clone(), (view.set.clone(), view.name.clone()));
        self.engine.runner(view, now);
    }

    fn gone(&mut self, kind: Kind, uid: &str) {
        match kind {
            Kind::Namespace => self.places.unlabelled(uid),
            Kind::Owner | Kind::Listener => self.census.gone(uid),
            Kind::Set => {
                self.sets.remove(uid);
                self.toolbox.gone(uid);
                self.engine.set_gone(uid);
            }
            Kind::Runner => {
                for place in self.places.namespaces.values_mut() {
                    place.runners.remove(uid);
                }
                if let Some((set, name)) = self.runners.remove(uid) {
                    self.engine.runner_gone(&set, &name);
                }
            }
        }
    }

    /// One step: what is due is begun. Gives how long to wait for the next one at most.
    fn step(&mut self) -> Duration {
        let now = self.now();
        self.watches.include(self.places.namespaces.keys());
        self.reads.extend(self.toolbox.due(now).into_iter().map(|read| read.boxed()));
        self.ask_for_rights(now);
        self.ripen(now);
        self.judge(now);
        let step = self.engine.step(now, Timestamp::now().as_millisecond());
        for order in step.orders {
            self.begin(order);
        }
        for (place, news) in &step.news {
            self.means.metrics.creation().told(news);
            let owner = self.census.owner_named(&place.namespace, &place.owner).map(tell::about);
            if let (Some(event), Some(about)) = (tell::tell(place, news), owner) {
                // They are for people; where nobody takes them, nothing stops.
                let _ = self.events.send((about, event));
            }
        }
        self.means.metrics.creation().look(&self.engine);
        self.sweep(now);
        let wake = step.wake.into_iter().chain(self.toolbox.wake()).min();
        wake.map_or(TICK, |wake| wake.saturating_sub(now)).min(TICK)
    }

    fn begin(&mut self, order: Order) {
        let (executor, metrics) = (self.executor.clone(), self.means.metrics.creation().clone());
        let tools = self.toolbox.get(&order.place.uid);
        self.calls.spawn(async move {
            let begun = Instant::now();
            let answer = executor.run(&order, &tools).await;
            let reason = match &answer {
                Answer::Trouble(trouble) => Some(trouble.code()),
                _ => None,
            };
            metrics.called(order.task.call.code(), begun.elapsed(), reason);
            (order.id, answer)
        });
    }

    fn ended(&mut self, ended: Result<(CallId, Answer), tokio::task::JoinError>) -> anyhow::Result<()> {
        let (id, answer) = ended?;
        self.engine.answered(id, answer, self.now(), Timestamp::now().as_millisecond());
        Ok(())
    }

    fn ask_for_rights(&mut self, now: Duration) {
        let with_pods = self.means.config.borrow().runner_creation.level == Level::Pods;
        for namespace in self.places.namespaces.keys() {
            if self.rights_due.get(namespace).is_some_and(|due| now < *due) {
                continue;
            }
            self.rights_due.insert(namespace.clone(), now + RIGHTS);
            let (client, namespace) = (self.means.client.clone(), namespace.clone());
            let ask = async move {
                let missing = super::rights::missing(&client, &namespace, with_pods).await;
                (namespace, missing.ok())
            };
            self.rights.push(ask.boxed());
        }
    }

    /// What was asked for is known; where the API server did not answer, what was known stays.
    fn learned(&mut self, namespace: &str, missing: Option<Vec<String>>) {
        let (Some(place), Some(missing)) = (self.places.namespaces.get_mut(namespace), missing) else {
            return;
        };
        if !missing.is_empty() && place.missing.as_ref() != Some(&missing) {
            tracing::warn!(
                namespace,
                missing = missing.join(", "),
                "runners here are left to ARC, since rights are missing; bind the ClusterRole headstart-runner-creation there"
            );
        }
        place.missing = Some(missing);
    }

    /// Gives the engine what is in namespaces of which everything is known now.
    fn ripen(&mut self, now: Duration) {
        let names: Vec<String> = self.places.namespaces.keys().cloned().collect();
        for name in names {
            if self.places.is_live(&name) || !self.watches.is_listed(&name) {
                continue;
            }
            let is_prepared = self.toolbox.sets_of(&name).all(|uid| self.toolbox.is_read(uid));
            if !self.places.ripens(&name, is_prepared, now) {
                continue;
            }
            let Some(place) = self.places.namespaces.get_mut(&name) else { continue };
            let (runners, journals) =
                (std::mem::take(&mut place.runners), std::mem::take(&mut place.journals));
            let sets = self.sets.values().filter_map(RunnerSet::view).filter(|view| view.namespace == name);
            sets.for_each(|view| self.engine.set(view, now));
            let unix_ms = Timestamp::now().as_millisecond();
            journals.into_iter().for_each(|journal| self.engine.inherit(journal, now, unix_ms));
            for view in runners.values().filter_map(Runner::view) {
                self.observe(view, now);
            }
        }
    }

    /// Decides which sets may be pinned, and publishes that.
    fn judge(&mut self, now: Duration) {
        let mut published = Vec::new();
        let mut states = Vec::new();
        for (uid, set) in &self.sets {
            let Some(view) = set.view() else { continue };
            let tools = self.toolbox.get(uid);
            let candidate = Candidate {
                uid,
                namespace: &view.namespace,
                name: &view.name,
                owner: &view.owner,
                place: self.places.place(&view.namespace),
                is_usable: tools.template.is_ok() && tools.service.is_ok(),
                is_suspended: self.engine.is_suspended(uid, now),
            };
            let Judgement { is_attended, outcome } = self.census.judge(candidate, true);
            let is_enabled = matches!(outcome, Ok(_) | Err(Refusal::Suspended));
            let service = self.toolbox.host(uid);
            self.engine.stands(uid, Standing { is_attended, is_enabled, service });
            states.push(outcome.as_ref().map_or_else(|refusal| refusal.code(), |_| "published"));
            match outcome {
                Ok(set) => {
                    self.refused.remove(uid);
                    published.push(set);
                }
                Err(refusal) => {
                    if self.refused.insert(uid.clone(), refusal) != Some(refusal) {
                        let reason = refusal.code();
                        let (namespace, name) = (&view.namespace, &view.name);
                        tracing::debug!(
                            namespace,
                            set = name,
                            reason,
                            "the runners of this set are left to ARC"
                        );
                    }
                }
            }
        }
        self.means.metrics.creation().sets(states.into_iter());
        published.sort_by(|one: &PublishedRunnerSet, other| one.uid.cmp(&other.uid));
        self.publish(published);
    }

    fn publish(&mut self, sets: Vec<PublishedRunnerSet>) {
        if self.published.as_ref() == Some(&sets) || self.publishing.is_some() {
            return;
        }
        let publisher = self.publisher.clone();
        let mut task = JoinSet::new();
        task.spawn(async move { publisher.publish(sets.clone()).await.map(|()| sets) });
        self.publishing = Some(task);
    }

    fn has_published(
        &mut self,
        done: Result<anyhow::Result<Vec<PublishedRunnerSet>>, tokio::task::JoinError>,
    ) -> anyhow::Result<()> {
        self.publishing = None;
        match done? {
            Ok(sets) => {
                self.publish_trouble.is_over();
                tracing::info!(
                    sets = sets.len(),
                    "published the runner sets whose runners are created at once"
                );
                self.published = Some(sets);
            }
            Err(error) => {
                let error = format!("{error:#}");
                if self.publish_trouble.is_news(&error) {
                    tracing::warn!(error, "failed to publish the runner sets; trying again");
                }
            }
        }
        Ok(())
    }

    fn sweep(&mut self, now: Duration) {
        if self.engine.is_making() {
            return;
        }
        let live = self
            .places
            .namespaces
            .iter()
            .filter(|(_, place)| place.is_live && place.missing.as_ref().is_some_and(Vec::is_empty));
        let live: BTreeSet<String> = live.map(|(name, _)| name.clone()).collect();
        self.sweeper.sweep(&live, &self.engine, &self.toolbox, now);
    }

    /// Nothing new is begun. What is under way ends, so that the next leader finds as little in doubt as possible.
    async fn drain(&mut self) {
        let ended = async { while self.calls.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(DRAIN, ended).await;
    }
}

async fn published<T: 'static>(
    publishing: &mut Option<JoinSet<T>>,
) -> Option<Result<T, tokio::task::JoinError>> {
    publishing.as_mut()?.join_next().await
}
