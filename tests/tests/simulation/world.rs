//! A world of its own: a virtual API server, service and clock, and everybody who acts on them, each when it is due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use headstart_controller::creation::call::{Answer, CallId, Order};
use headstart_externals::pin::Stored;
use headstart_externals::runner_sets::PublishedRunnerSets;
use headstart_tests::actions_service::Service;
use headstart_tests::arc::apply::{served, stored};
use headstart_tests::arc::model::manager::{Change, Ticket};
use headstart_tests::arc::model::{self, Call, Flags, Key, Kind, Manager, Object, RunnerSet, Text};
use headstart_tests::arc::store::Store;

use super::broken::Broken;
use super::calm::Calm;
use super::leader::Leader;
use super::people::{Act, Played};
use super::plot::Manners;
use super::rules::Watched;
use super::watches::{Deliveries, Delivery, KINDS};

/// Namespace of all runners.
pub(crate) const NAMESPACE: &str = "runners";

/// Milliseconds.
pub(crate) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Watcher {
    /// ARC's manager.
    Manager,
    /// The leader of our controller.
    Leader,
}

/// Something that happens at its time. Numbers say whose life it belongs to.
pub(crate) enum Event {
    Seen(u32, Change),
    Brought(u32, Delivery),
    Listed(u32, Kind),
    Effect(u32, Ticket, Call),
    Served(u32, Ticket, Call),
    ArcAnswer(u32, Ticket, model::Answer),
    ArcWake,
    PodRuns(Key),
    PodGone(Key),
    JobEnds(i64, i64),
    Hears(usize, u32),
    Writes(usize, u32, (i64, i64), bool),
    CarryOut(u32, Order, Duration, Option<Duration>),
    Answered(u32, CallId, Answer),
    EngineWake,
    Published(u32, PublishedRunnerSets),
    Sweeps(u32),
    Collect,
    Check(Key, Duration),
    Lent,
    Act(Act),
}

/// From when until when somebody renews the leader's Lease.
pub(crate) struct Reign {
    pub(crate) holder: String,
    pub(crate) from: Duration,
    pub(crate) until: Option<Duration>,
}

/// What a world came to.
pub(crate) struct Outcome {
    /// The rule that was broken, if one was.
    pub(crate) violation: Option<String>,
    /// How each set was one heartbeat after the last fault, by its number.
    pub(crate) calm: BTreeMap<usize, Calm>,
    /// What happened, if anybody wanted to know.
    pub(crate) story: Vec<String>,
}

/// Everything, and what happens next.
pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) rng: Rng,
    pub(crate) manners: Manners,
    pub(crate) broken: Broken,
    /// Whether nobody consents to parallel creation: there is only ARC.
    pub(crate) is_alone: bool,
    pub(crate) store: Store,
    pub(crate) service: Service,
    pub(crate) manager: Manager,
    pub(crate) flags: Flags,
    pub(crate) arc_life: u32,
    /// When ARC's manager last began anew.
    pub(crate) arc_restarted: Option<Duration>,
    pub(crate) leader: Option<Leader>,
    pub(crate) term: u32,
    /// The term whose leader is cut off from everything.
    pub(crate) cut: Option<u32>,
    pub(crate) deliveries: Deliveries,
    /// When a leader last died.
    pub(crate) died: Option<Duration>,
    pub(crate) reigns: Vec<Reign>,
    pub(crate) published: Vec<(Duration, Arc<PublishedRunnerSets>)>,
    pub(crate) played: Vec<Played>,
    pub(crate) watched: BTreeMap<String, Watched>,
    pub(crate) violation: Option<String>,
    /// How each set was one heartbeat after the last fault, by its number.
    pub(crate) calm: BTreeMap<usize, Calm>,
    pub(crate) posted: BTreeMap<String, u32>,
    /// The resourceVersion of the set that was last to be handed back, as the leader saw it.
    pub(crate) seen_version: Option<u64>,
    pub(crate) ending: BTreeSet<Text>,
    /// Every name that was ever drawn by us.
    pub(crate) drawn: BTreeSet<String>,
    /// When runners came to their end, by name.
    pub(crate) lived: BTreeMap<Text, Duration>,
    next: BTreeMap<(Duration, u64), Event>,
    counter: u64,
    seen: usize,
    arrivals: BTreeMap<(Watcher, Kind), Duration>,
    arc_wake: Option<Duration>,
    engine_wake: Option<Duration>,
    is_engine_due: bool,
    story: Option<Vec<String>>,
}

impl World {
    /// The world of a seed, before anything has happened: with a rule broken, and rich in what that rule is for.
    pub(crate) fn new(seed: u64, broken: Broken, focus: Broken, with_story: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let manners = Manners::draw(&mut rng, focus);
        let mut world = Self::empty(manners, rng, broken, with_story);
        world.plot(focus);
        world
    }

    /// A world in which nothing will happen.
    pub(crate) fn empty(manners: Manners, mut rng: Rng, broken: Broken, with_story: bool) -> Self {
        let flags = manners.flags;
        let mut service = Service::new("http://service", 0);
        service.eager = true;
        Self {
            now: Duration::ZERO,
            manners,
            broken,
            is_alone: false,
            store: Store::new(rng.u64(..)),
            service,
            manager: Manager::new(flags, "arc"),
            flags,
            arc_life: 0,
            arc_restarted: None,
            leader: None,
            term: 0,
            cut: None,
            deliveries: Deliveries::default(),
            died: None,
            reigns: vec![],
            published: vec![],
            played: vec![],
            watched: BTreeMap::new(),
            violation: None,
            calm: BTreeMap::new(),
            posted: BTreeMap::new(),
            seen_version: None,
            ending: BTreeSet::new(),
            drawn: BTreeSet::new(),
            lived: BTreeMap::new(),
            next: BTreeMap::new(),
            counter: 0,
            seen: 0,
            arrivals: BTreeMap::new(),
            arc_wake: None,
            engine_wake: None,
            is_engine_due: false,
            story: with_story.then(Vec::new),
            rng,
        }
    }

    /// The same world as if we were not there: ARC alone.
    pub(crate) fn alone(mut self) -> Self {
        self.is_alone = true;
        self
    }

    /// Lets everything happen, and tells what it came to.
    pub(crate) fn run(mut self) -> Outcome {
        self.play(|world, is_end| is_end || world.violation.is_some());
        let Self { violation, calm, story, .. } = self;
        Outcome { violation, calm, story: story.unwrap_or_default() }
    }

    /// Lets things happen until it is enough; each of them says whether it was the end.
    pub(crate) fn play(&mut self, is_enough: impl Fn(&Self, bool) -> bool) {
        self.happened();
        while let Some(((at, _), event)) = self.next.pop_first() {
            self.now = at;
            let is_end = matches!(event, Event::Act(Act::End));
            self.happen(event);
            self.happened();
            if is_enough(self, is_end) {
                break;
            }
        }
    }

    /// Something is to happen.
    pub(crate) fn at(&mut self, at: Duration, event: Event) {
        self.counter += 1;
        self.next.insert((at.max(self.now), self.counter), event);
    }

    /// Something is to happen after a while.
    pub(crate) fn after(&mut self, wait: Duration, event: Event) {
        self.at(self.now + wait, event);
    }

    /// A time between two numbers of milliseconds.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> Duration {
        ms(self.rng.u64(least..=most))
    }

    /// A line of the story, if anybody listens.
    pub(crate) fn tell(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.story.is_some() {
            let line = format!("{:>10.3} {}", self.now.as_secs_f64(), line(self));
            self.story.iter_mut().for_each(|story| story.push(line.clone()));
        }
    }

    /// A rule is broken; only the first counts.
    pub(crate) fn violate(&mut self, what: String) {
        self.tell(|_| format!("RULE BROKEN: {what}"));
        self.violation.get_or_insert(what);
    }

    /// The engine has something new to think about.
    pub(crate) fn engine_is_due(&mut self) {
        self.is_engine_due = true;
    }

    /// Whether the leader is cut off from everything.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.cut == Some(self.term)
    }

    /// A runner set as it is stored.
    pub(crate) fn set(&self, key: &Key) -> Option<&RunnerSet> {
        self.store.get(Kind::RunnerSet, key)?.runner_set()
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Seen(life, change) if life == self.arc_life => self.manager.observe(change),
            Event::Brought(term, delivery) => self.brought(term, delivery),
            Event::Listed(term, kind) => self.leader_lists(term, kind),
            Event::Effect(life, ticket, call) => {
                self.arc_calls(&call);
                let answer = stored(&mut self.store, self.flags.generation, call, now);
                match self.manners.arc_back {
                    // At once: before any watch shows what was done.
                    0 if life == self.arc_life => self.manager.answer(ticket, &answer, now),
                    0 => {}
                    back => self.after(ms(back), Event::ArcAnswer(life, ticket, answer)),
                }
            }
            Event::Served(life, ticket, call) => {
                self.arc_calls(&call);
                let answer = served(&mut self.service, &call, now);
                let back = self.between(1, 10);
                self.after(back, Event::ArcAnswer(life, ticket, answer));
            }
            Event::ArcAnswer(life, ticket, answer) if life == self.arc_life => {
                self.manager.answer(ticket, &answer, now);
            }
            Event::Seen(..) | Event::ArcAnswer(..) => {}
            Event::ArcWake => self.arc_wake = None,
            Event::PodRuns(key) => self.pod_runs(&key),
            Event::PodGone(key) => drop(self.store.delete(Kind::Pod, &key)),
            Event::JobEnds(set, job) => self.job_ends(set, job),
            Event::Hears(which, life) => self.listener_hears(which, life),
            Event::Writes(which, life, patch, is_past_webhook) => {
                self.listener_writes(which, life, patch, is_past_webhook);
            }
            Event::CarryOut(term, order, begun, reply) => self.carry_out(term, order, begun, reply),
            Event::Answered(term, id, answer) => self.answered(term, id, answer),
            Event::EngineWake if self.engine_wake.is_some_and(|wake| wake <= now) => {
                self.engine_wake = None;
                self.is_engine_due = true;
            }
            Event::EngineWake => {}
            Event::Published(term, sets) => self.publish_lands(term, sets),
            Event::Sweeps(term) => self.leader_sweeps(term),
            Event::Collect => drop(self.store.collect()),
            Event::Check(key, since) => self.check_filled(&key, since),
            Event::Lent => self.check_lent(),
            Event::Act(act) => self.act(act),
        }
    }

    /// Shows what is new to those who watch, and lets everybody act on it.
    fn happened(&mut self) {
        self.note();
        for (ticket, call) in self.manager.poll(self.now) {
            let most = self.manners.arc_latency;
            let wait = match (&call, call.bucket()) {
                (Call::Register(..), _) => self.between(1, self.manners.registration),
                (_, Some(_)) => self.between(2, most),
                _ => self.between(1, 10),
            };
            let event = if call.bucket().is_some() { Event::Effect } else { Event::Served };
            self.after(wait, event(self.arc_life, ticket, call));
        }
        if let Some(wake) = self.manager.wake().filter(|wake| self.arc_wake.is_none_or(|known| *wake < known))
        {
            self.arc_wake = Some(wake);
            self.at(wake, Event::ArcWake);
        }
        if std::mem::take(&mut self.is_engine_due)
            && let Some(wake) = self.step()
            && self.engine_wake.is_none_or(|known| known <= self.now || wake < known)
        {
            self.engine_wake = Some(wake);
            self.at(wake, Event::EngineWake);
        }
    }

    /// Takes note of what is new in the store.
    pub(crate) fn note(&mut self) {
        while self.seen < self.store.events() {
            let news = self.store.since(self.seen).to_vec();
            self.seen += news.len();
            for change in news {
                self.look_at(&change);
                self.kubelet(&change);
                self.show(change);
            }
        }
    }

    fn show(&mut self, change: Change) {
        let kind = match &change {
            Change::Put(object) => object.kind(),
            Change::Gone(kind, _) => *kind,
        };
        if let Change::Gone(Kind::RunnerSet | Kind::Runner | Kind::ScaleSet, _) = &change {
            let wait = self.between(100, 2_000);
            self.after(wait, Event::Collect);
        }
        if !matches!(kind, Kind::Secret | Kind::ConfigMap) {
            let lag = self.between(1, self.manners.arc_lag);
            let at = self.arrival(Watcher::Manager, kind, lag);
            self.at(at, Event::Seen(self.arc_life, change.clone()));
            if self.rng.u64(..100) < self.manners.losses {
                self.at(at, Event::Seen(self.arc_life, change.clone()));
            }
        }
        if KINDS.contains(&kind) {
            self.show_leader(&change);
        }
    }

    /// One watch brings what happened in its order, but watches know nothing of each other.
    pub(crate) fn arrival(&mut self, watcher: Watcher, kind: Kind, lag: Duration) -> Duration {
        let last = self.arrivals.entry((watcher, kind)).or_default();
        *last = (*last).max(self.now + lag);
        *last
    }

    /// The manager ends and starts again: it knows nothing, and what it has sent is done all the same.
    pub(crate) fn restart_manager(&mut self) {
        self.tell(|_| "ARC's manager starts again".to_owned());
        self.manager = Manager::new(self.flags, "arc");
        (self.arc_life, self.arc_wake) = (self.arc_life + 1, None);
        self.arc_restarted = Some(self.now);
        // It begins once all its caches are filled: children are there before their sets.
        let objects: Vec<Object> = [Kind::Pod, Kind::Runner, Kind::Listener, Kind::RunnerSet, Kind::ScaleSet]
            .into_iter()
            .flat_map(|kind| self.store.of_kind(kind).cloned().collect::<Vec<Object>>())
            .collect();
        let listed = self.now + ms(500);
        for object in objects {
            self.arrivals.insert((Watcher::Manager, object.kind()), listed);
            self.at(listed, Event::Seen(self.arc_life, Change::Put(object.into())));
        }
    }

    /// What a set has stored.
    pub(crate) fn stored(set: &RunnerSet) -> Stored {
        Stored::read(set.replicas, set.patch_id)
    }
}
