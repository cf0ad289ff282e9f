//! A leader of the controller: the shipped engine and census, fed by watches that lag, whose calls take their time.

use std::collections::BTreeMap;
use std::time::Duration;

use headstart_controller::creation::call::{Answer, Call, CallId, Order, Trouble};
use headstart_controller::creation::census::{Census, Place};
use headstart_controller::creation::engine::{Engine, Settings};
use headstart_controller::creation::journal::{self, Journal};
use headstart_controller::creation::objects::{Runner, RunnerSet};
use headstart_controller::creation::seen::{self, Seen};
use headstart_controller::creation::sweep::{EVERY, OurSecret, left_over};
use headstart_controller::creation::verdict::{self, Given, Verdict};
use headstart_controller::creation::view::RunnerView;
use headstart_externals::names::RUNNER_SET_LABEL;
use headstart_externals::pin::Stored;
use headstart_externals::runner_sets::{PublishedRunnerSet, PublishedRunnerSets};
use headstart_tests::arc::model::{Key, Kind, Object};
use jiff::Timestamp;

use super::broken::Broken;
use super::shown;
use super::watches::{self, Watch};
use super::world::{Event, NAMESPACE, World, ms};

/// The Unix time at the origin of the clock, in milliseconds.
const EPOCH: i64 = 1_700_000_000_000;

/// A leader.
pub(crate) struct Leader {
    pub(crate) watches: BTreeMap<Kind, Watch>,
    engine: Engine,
    census: Census,
    /// Runner sets as it knows them, by UID.
    sets: BTreeMap<String, RunnerSet>,
    /// The set and name of each runner, by UID.
    runners: BTreeMap<String, (String, String)>,
    /// Runners that were seen before everything was listed.
    early: BTreeMap<String, Runner>,
    journals: Vec<Journal>,
    published: Option<Vec<PublishedRunnerSet>>,
    is_publishing: bool,
    /// The journal that was drawn for a stored generation of a set.
    drawn: BTreeMap<(String, i64), String>,
    timeout: Duration,
}

impl Leader {
    fn is_live(&self) -> bool {
        self.watches.values().all(|watch| watch.is_listed)
    }

    /// How long its calls may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The resourceVersion of a set, as it was seen last.
    pub(crate) fn version_of(&self, uid: &str) -> Option<u64> {
        self.sets.get(uid)?.metadata.resource_version.as_ref()?.parse().ok()
    }

    /// As if ARC had counted whatever there is.
    fn believe_all_is_counted(&mut self, now: Duration) {
        for mut view in self.sets.values().filter_map(RunnerSet::view) {
            view.counted = self.engine.count(&view.uid).map_or(0, |(live, _)| live);
            self.engine.set(view, now);
        }
    }

    fn observe(&mut self, view: RunnerView, now: Duration) {
        self.runners.insert(view.uid.clone(), (view.set.clone(), view.name.clone()));
        self.engine.runner(view, now);
    }
}

impl World {
    /// A new leader, unless there is one.
    pub(crate) fn leader_starts(&mut self) {
        if self.leader.is_some() {
            return;
        }
        self.term += 1;
        self.reign();
        let maps = self.store.of_kind(Kind::ConfigMap).filter_map(Object::config_map);
        let texts =
            maps.filter_map(|map| Some((map.meta.key.name.clone(), map.data.get(journal::KEY)?.clone())));
        let journals: Vec<Journal> =
            texts.filter_map(|(name, text)| Journal::parse(&name, &text).ok()).collect();
        let timeout = self.manners.timeout;
        let settings = Settings {
            concurrency: self.manners.concurrency,
            with_pods: self.manners.with_pods,
            timing: self.broken.timing(timeout),
        };
        self.leader = Some(Leader {
            watches: watches::KINDS.into_iter().map(|kind| (kind, Watch::default())).collect(),
            engine: Engine::new(settings, self.rng.u64(..)),
            census: Census::default(),
            sets: BTreeMap::new(),
            runners: BTreeMap::new(),
            early: BTreeMap::new(),
            journals: if self.broken == Broken::JournalsIgnored { vec![] } else { journals },
            published: None,
            is_publishing: false,
            drawn: BTreeMap::new(),
            timeout,
        });
        for kind in watches::KINDS {
            let wait = self.between(5, 300);
            self.after(wait, Event::Listed(self.term, kind));
        }
        self.after(EVERY, Event::Sweeps(self.term));
    }

    /// The leader looks for Secrets that are nobody's, and removes them with their registrations.
    pub(crate) fn leader_sweeps(&mut self, term: u32) {
        let Some(leader) = self.leader.as_ref().filter(|_| term == self.term) else { return };
        let engine = &leader.engine;
        if engine.is_making() || self.is_cut_off() {
            return self.after(ms(2_000), Event::Sweeps(term));
        }
        let at = |since: Duration| Timestamp::from_millisecond(unix_ms(since)).unwrap();
        let secrets = self.store.of_kind(Kind::Secret).filter_map(Object::secret);
        let secrets = secrets.filter(|secret| secret.meta.labels.contains_key(RUNNER_SET_LABEL));
        let secrets = secrets.map(|secret| shown::secret(secret, at(secret.meta.created)));
        let left = left_over(
            secrets.filter_map(|secret| OurSecret::read(&secret, at(self.now))).collect(),
            |secret| engine.has_runner(&secret.set, &secret.name),
            |secret| engine.knows(&secret.set, &secret.name),
        );
        for secret in left {
            let key = Key::new(NAMESPACE, &secret.name);
            if self.store.get(Kind::Runner, &key).is_some() {
                continue;
            }
            self.tell(|_| format!("Secret {} is left over", secret.name));
            let found = self.service.agent(&secret.name).map(|agent| agent.id);
            if let Some(id) = secret.registration(found) {
                self.service.remove(id).unwrap();
            }
            self.store.delete(Kind::Secret, &key).unwrap();
        }
        self.after(EVERY, Event::Sweeps(term));
    }

    /// The leader dies; what it has sent may still be done.
    pub(crate) fn leader_dies(&mut self) {
        if self.leader.take().is_some() {
            self.term += 1;
            self.died = Some(self.now);
            self.renewals_stop();
        }
    }

    /// Takes note of something that the leader saw, as a term does.
    pub(crate) fn take(&mut self, seen: Seen) {
        let (now, broken) = (self.now, self.broken);
        let Some(leader) = &mut self.leader else { return };
        let is_live = leader.is_live();
        if let Seen::Runner(runner) = &seen {
            self.deliveries.shown.extend(runner.metadata.name.clone());
        }
        match seen {
            Seen::Owner(owner) => drop(leader.census.owner(*owner)),
            Seen::Listener(listener) => leader.census.listener(*listener),
            Seen::Set(set) => {
                let Some(view) = set.view() else { return };
                let is_unheard = broken == Broken::RawUnheard && view.stored.pinned().is_none();
                leader.sets.insert(view.uid.clone(), *set);
                if is_live && !is_unheard {
                    leader.engine.set(view, now);
                }
            }
            Seen::Runner(runner) if is_live => {
                runner.view().into_iter().for_each(|view| leader.observe(view, now));
            }
            Seen::Runner(runner) => {
                leader.early.insert(runner.metadata.uid.clone().unwrap_or_default(), *runner);
            }
            Seen::Gone(seen::Kind::Set, uid) => {
                leader.sets.remove(&uid);
                leader.engine.set_gone(&uid);
            }
            Seen::Gone(seen::Kind::Runner, uid) => {
                leader.early.remove(&uid);
                if let Some((set, name)) = leader.runners.remove(&uid) {
                    leader.engine.runner_gone(&set, &name);
                    self.counts_anew(&set);
                }
            }
            Seen::Gone(..) if broken == Broken::DeletionUnheard => {}
            Seen::Gone(_, uid) => leader.census.gone(&uid),
            Seen::Namespace(_) | Seen::Listed(..) => {}
        }
    }

    /// Everything was listed once: the engine hears of all of it, and of the journals last.
    pub(crate) fn ripen(&mut self) {
        let (now, unix_ms) = (self.now, unix_ms(self.now));
        let Some(leader) = self.leader.as_mut().filter(|leader| leader.is_live()) else { return };
        leader.sets.values().filter_map(RunnerSet::view).for_each(|view| leader.engine.set(view, now));
        for view in std::mem::take(&mut leader.early).values().filter_map(Runner::view) {
            leader.observe(view, now);
        }
        let journals = std::mem::take(&mut leader.journals);
        journals.into_iter().for_each(|journal| leader.engine.inherit(journal, now, unix_ms));
    }

    /// As if the plan were made anew whenever a runner goes: it is, once it is for something else in between.
    fn counts_anew(&mut self, set: &str) {
        let (now, unix_ms) = (self.now, unix_ms(self.now));
        if self.broken != Broken::NeedCountedAnew {
            return;
        }
        let Some(leader) = &mut self.leader else { return };
        if let Some(view) = leader.sets.get(set).and_then(RunnerSet::view)
            && let Stored::Pinned(mut generation) = view.stored
        {
            generation.replicas = generation.replicas.saturating_sub(1);
            let mut other = view.clone();
            other.stored = Stored::Pinned(generation);
            leader.engine.set(other, now);
            let step = leader.engine.step(now, unix_ms);
            leader.engine.set(view, now);
            step.orders.into_iter().for_each(|order| self.begin(order));
        }
    }

    /// One step of the leader; gives when it wants to be asked again.
    pub(crate) fn step(&mut self) -> Option<Duration> {
        if !self.leader.as_ref()?.is_live() {
            return None;
        }
        self.judge();
        let (now, unix_ms, broken) = (self.now, unix_ms(self.now), self.broken);
        let leader = self.leader.as_mut()?;
        if broken == Broken::QuietGuard {
            leader.believe_all_is_counted(now);
        }
        let step = leader.engine.step(now, unix_ms);
        for (place, news) in &step.news {
            self.tell(|_| format!("news of {}: {news:?}", place.name));
        }
        for order in step.orders {
            self.begin(order);
        }
        step.wake
    }

    /// Says which sets may be pinned, as a term does.
    fn judge(&mut self) {
        let now = self.now;
        let Some(leader) = &mut self.leader else { return };
        let is_listed = leader.watches.values().all(|watch| watch.is_sound(now));
        let mut published = Vec::new();
        for view in leader.sets.values().filter_map(RunnerSet::view) {
            let is_asked =
                self.played.iter().any(|played| *played.key.name == *view.owner && played.is_asked);
            let given = Given {
                place: Place { wish: Some(is_asked), is_listed, is_permitted: true },
                is_usable: true,
                is_switched_on: true,
                service: "service".to_owned(),
            };
            let Verdict { standing, outcome } =
                verdict::judge(&leader.census, &leader.engine, &view, given, now);
            leader.engine.stands(&view.uid, standing);
            published.extend(outcome.ok());
        }
        if !leader.is_publishing && leader.published.as_ref() != Some(&published) {
            leader.is_publishing = true;
            leader.published = Some(published.clone());
            let sets = PublishedRunnerSets::new(format!("leader-{}", self.term), published);
            let wait = self.publishing();
            self.after(wait, Event::Published(self.term, sets));
        }
    }

    /// A list is published, unless the way is cut: then that is tried again.
    pub(crate) fn publish_lands(&mut self, term: u32, sets: PublishedRunnerSets) {
        if term != self.term {
            return;
        }
        if self.is_cut_off() {
            return self.after(ms(1_000), Event::Published(term, sets));
        }
        if let Some(leader) = &mut self.leader {
            leader.is_publishing = false;
            self.published.push((self.now, sets.into()));
            self.engine_is_due();
        }
    }

    /// Names that a journal draws for a generation that another one was drawn for already.
    pub(crate) fn check_drawn(&mut self, order: &Order) {
        let Call::CreateJournal(journal) = &order.task.call else { return };
        self.drawn.extend(journal.runners.iter().cloned());
        let Some(leader) = &mut self.leader else { return };
        let set = leader.sets.get(&order.place.uid).and_then(RunnerSet::view);
        // One of an earlier generation may be tried again and again.
        let set = set.filter(|view| view.stored.pinned() == Some(journal.generation()));
        let Some(generation) = set.map(|view| view.generation) else { return };
        let key = (order.place.uid.clone(), generation);
        let first = leader.drawn.entry(key).or_insert_with(|| journal.name.clone());
        if *first != journal.name {
            self.violate(format!("the need of {} is counted anew within one generation", order.place.name));
        }
    }

    /// An answer arrives.
    pub(crate) fn answered(&mut self, term: u32, id: CallId, answer: Answer) {
        let (now, unix_ms) = (self.now, unix_ms(self.now));
        if term != self.term {
            return;
        }
        if let Answer::Trouble(trouble) = &answer
            && !matches!(trouble, Trouble::Exists)
        {
            let told = trouble.clone();
            self.tell(|_| format!("call {} brings {told:?}", id.0));
        }
        let Some(leader) = self.leader.as_mut() else { return };
        leader.engine.answered(id, answer, now, unix_ms);
        self.engine_is_due();
    }
}

fn unix_ms(now: Duration) -> i64 {
    EPOCH + i64::try_from(now.as_millis()).unwrap()
}
