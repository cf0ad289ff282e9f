//! A leader's term of making runners: watches in, calls out, and between them the engine.

mod intake;
mod overshoot;
mod places;
mod standing;
mod sweeper;
mod tools;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use headstart_externals::config::{Config, Level};
use headstart_externals::runner_sets::PublishedRunnerSet;
use headstart_runtime::cluster::CallError;
use headstart_runtime::shutdown::Shutdown;
use headstart_runtime::trouble::Trouble;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use kube::Client;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::borrow::Timing;
use super::call::{Answer, CallId, Order};
use super::census::{Census, Refusal};
use super::engine::{Engine, Settings};
use super::execute::Executor;
use super::kubernetes::Kubernetes;
use super::objects::RunnerSet;
use super::publisher::Publisher;
use super::report::{self, Stop};
use super::tell;
use super::watch::Watches;
use crate::actions::Services;
use crate::events::Outbox;
use crate::metrics::{Done, Metrics};
use crate::news::News;
use overshoot::Overshoots;
use places::Places;
use standing::{Answered, Inquiry};
use sweeper::Sweeper;
use tools::{Reading, Toolbox};

/// How often what is due by the clock is looked at.
const TICK: Duration = Duration::from_secs(2);

/// The process woke up so late that another one may have settled what it knows: it begins anew. Shorter than a Lease lasts.
const STANDSTILL: Duration = Duration::from_secs(8);

/// How long calls that are under way may go on after the end of a term.
const DRAIN: Duration = Duration::from_secs(2);

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
    publish_due: Duration,
    events: UnboundedSender<(ObjectReference, News)>,
    /// The UID of every runner's set and its own name, by its UID.
    runners: HashMap<String, (String, String)>,
    overshoots: Overshoots,
    sweeper: Sweeper,
    calls: JoinSet<(CallId, Answer)>,
    /// Apart from the term: signing for a GitHub App and setting TLS up take a while.
    reads: JoinSet<Reading>,
    rights: FuturesUnordered<futures::future::BoxFuture<'static, (String, Answered)>>,
    inquiries: BTreeMap<String, Inquiry>,
    refused: BTreeMap<String, Refusal>,
    /// When it is decided anew who may be pinned; at once where something changed that it depends on.
    judged: Option<Duration>,
    /// When journals are read once more: an earlier leader's last one may have been written late.
    journals_due: Option<Duration>,
    listing: FuturesUnordered<futures::future::BoxFuture<'static, Result<Vec<ConfigMap>, CallError>>>,
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
            publish_due: Duration::ZERO,
            events: Outbox::beside(means.client.clone(), metrics.clone()),
            runners: HashMap::new(),
            sweeper: Sweeper::new(kubernetes, metrics.creation().clone()),
            overshoots: Overshoots::default(),
            calls: JoinSet::new(),
            reads: JoinSet::new(),
            rights: FuturesUnordered::new(),
            inquiries: BTreeMap::new(),
            refused: BTreeMap::new(),
            judged: None,
            journals_due: Some(timeout + TICK),
            listing: FuturesUnordered::new(),
            means,
        }
    }

    /// Makes runners until the term is over, or, switched off, only ends what was begun; then lets calls that are under way come to their end.
    pub async fn run(mut self, over: &Shutdown) -> anyhow::Result<()> {
        // Whatever was published before, nobody looks after it yet.
        self.publisher.publish(Vec::new()).await?;
        let journals = self.journals().await?;
        self.inherit(journals);
        self.configure();
        let mut config = self.means.config.clone();
        let mut stepped = Instant::now();
        while !over.has_begun() {
            let still = stepped.elapsed();
            anyhow::ensure!(
                still < STANDSTILL,
                "the process stood still for {still:?}; another one may lead by now. Give it processor time"
            );
            stepped = Instant::now();
            let wake = self.step();
            tokio::select! {
                () = over.begun() => break,
                seen = self.watches.next() => seen?.into_iter().for_each(|seen| self.take(seen)),
                Some(ended) = self.calls.join_next() => self.ended(ended)?,
                Some(reading) = self.reads.join_next() => {
                    let now = self.now();
                    self.toolbox.took(reading?, now);
                    self.judged = None;
                }
                Some((namespace, answered)) = self.rights.next() => self.learned(&namespace, answered),
                Some(done) = published(&mut self.publishing) => self.has_published(done)?,
                Some(journals) = self.listing.next() => self.listed(journals),
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

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// One step: what is due is begun. Gives how long to wait for the next one at most.
    fn step(&mut self) -> Duration {
        let now = self.now();
        self.watches.include(self.places.namespaces.keys());
        for read in self.toolbox.due(now) {
            self.reads.spawn(read);
        }
        if self.journals_due.is_some_and(|due| now >= due) {
            self.journals_due = None;
            self.listing.push(self.journals().boxed());
        }
        self.ask_for_rights(now);
        self.ripen(now);
        self.judge(now);
        let step = self.engine.step(now, Timestamp::now().as_millisecond());
        for order in step.orders {
            self.begin(order);
        }
        for (place, news) in &step.news {
            // It may be left to ARC for a while.
            self.judged = None;
            self.means.metrics.creation().told(news);
            if let report::News::Stopped { why: Stop::Refused(_) | Stop::Stuck, .. } = news {
                // A right may be gone.
                self.inquiries.remove(&place.namespace);
            }
            let owner = self.census.owner_named(&place.namespace, &place.owner).map(tell::about);
            self.overshoots.note(place, news, now, self.means.metrics.creation());
            if let (Some(event), Some(about)) = (tell::tell(place, news), owner) {
                // They are for people; where nobody takes them, nothing stops.
                let _ = self.events.send((about, event));
            }
        }
        self.overshoots.look(&self.engine, now, self.means.metrics.creation());
        self.means.metrics.creation().look(&self.engine);
        self.sweep(now);
        let (sets, engine) = (&self.sets, &self.engine);
        self.toolbox.retain(|uid| sets.contains_key(uid) || engine.has_set(uid));
        let wake = step.wake.into_iter().chain(self.toolbox.wake()).min();
        wake.map_or(TICK, |wake| wake.saturating_sub(now)).min(TICK)
    }

    fn begin(&mut self, order: Order) {
        let (executor, metrics) = (self.executor.clone(), self.means.metrics.creation().clone());
        let tools = self.toolbox.of(&order.place);
        let is_retry = self.engine.is_retry(&order);
        self.calls.spawn(async move {
            let begun = Instant::now();
            let answer = executor.run(&order, &tools).await;
            let reason = match &answer {
                Answer::Trouble(trouble) => {
                    tell::failed(&order, trouble);
                    Some(trouble.code())
                }
                _ => None,
            };
            let done = Done { phase: order.task.call.code(), took: begun.elapsed(), is_retry, reason };
            metrics.called(&done);
            if matches!(answer, Answer::Returned { .. }) {
                metrics.handed_back();
            }
            (order.id, answer)
        });
    }

    fn ended(&mut self, ended: Result<(CallId, Answer), tokio::task::JoinError>) -> anyhow::Result<()> {
        let (id, answer) = ended?;
        self.engine.answered(id, answer, self.now(), Timestamp::now().as_millisecond());
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
        // What is written from now on goes to ARC.
        let both = async { tokio::join!(ended, self.publisher.publish(Vec::new())) };
        let _ = tokio::time::timeout(DRAIN, both).await;
    }
}

async fn published<T: 'static>(
    publishing: &mut Option<JoinSet<T>>,
) -> Option<Result<T, tokio::task::JoinError>> {
    publishing.as_mut()?.join_next().await
}
