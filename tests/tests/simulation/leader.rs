//! A leader of the controller: the shipped engine and census, fed by watches that lag, whose calls take their time.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use headstart_controller::creation::call::{Answer, Call, CallId, Order, Trouble};
use headstart_controller::creation::census::{Candidate, Census, Judgement, Place, Refusal};
use headstart_controller::creation::engine::{Engine, Settings, Standing};
use headstart_controller::creation::journal::{self, Journal};
use headstart_controller::creation::sweep::{EVERY, OurSecret, left_over};
use headstart_controller::creation::view::{RunnerView, SetView};
use headstart_externals::names::RUNNER_SET_LABEL;
use headstart_externals::pin::Stored;
use headstart_externals::runner_sets::{PublishedRunnerSet, PublishedRunnerSets};
use headstart_tests::arc::model::manager::Change;
use headstart_tests::arc::model::{Key, Kind, Object, Phase, Runner, RunnerSet, Secret};
use serde_json::json;

use super::broken::Broken;
use super::world::{Event, NAMESPACE, World};

/// What a leader watches.
const KINDS: [Kind; 4] = [Kind::RunnerSet, Kind::Runner, Kind::ScaleSet, Kind::Listener];

/// The Unix time at the origin of the clock, in milliseconds.
const EPOCH: i64 = 1_700_000_000_000;

/// A leader.
pub(crate) struct Leader {
    engine: Engine,
    census: Census,
    seen: BTreeMap<(Kind, Key), Arc<Object>>,
    listed: BTreeSet<Kind>,
    journals: Vec<Journal>,
    published: Option<Vec<PublishedRunnerSet>>,
    is_publishing: bool,
    /// The journal that was drawn for a stored generation of a set.
    drawn: BTreeMap<(String, i64), String>,
    timeout: Duration,
}

impl Leader {
    /// Whether it has begun to watch a kind.
    pub(crate) fn watches(&self, kind: Kind) -> bool {
        self.listed.contains(&kind)
    }

    fn is_live(&self) -> bool {
        self.listed.len() == KINDS.len()
    }

    /// How long its calls may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
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
            concurrency: NonZeroU32::new(self.rng.u32(1..=10)).unwrap(),
            with_pods: self.manners.with_pods,
            timing: self.broken.timing(timeout),
        };
        self.leader = Some(Leader {
            engine: Engine::new(settings, self.rng.u64(..)),
            census: Census::default(),
            seen: BTreeMap::new(),
            listed: BTreeSet::new(),
            journals: if self.broken == Broken::JournalsIgnored { vec![] } else { journals },
            published: None,
            is_publishing: false,
            drawn: BTreeMap::new(),
            timeout,
        });
        for kind in KINDS {
            let wait = self.between(5, 300);
            self.after(wait, Event::Listed(self.term, kind));
        }
        self.after(EVERY, Event::Sweeps(self.term));
    }

    /// The leader looks for Secrets that are nobody's, and removes them with their registrations.
    pub(crate) fn leader_sweeps(&mut self, term: u32) {
        let Some(leader) = self.leader.as_ref().filter(|_| term == self.term) else { return };
        let engine = &leader.engine;
        let ours = |secret: &Secret| OurSecret {
            name: secret.meta.key.name.to_string(),
            set: secret.meta.labels.get(RUNNER_SET_LABEL).map(ToString::to_string).unwrap_or_default(),
            runner_id: secret.runner_id,
            age: self.now.saturating_sub(secret.meta.created),
        };
        let is_ours = |secret: &&Secret| secret.meta.labels.contains_key(RUNNER_SET_LABEL);
        let secrets = self.store.of_kind(Kind::Secret).filter_map(Object::secret).filter(is_ours).map(ours);
        let left = left_over(
            secrets.collect(),
            |secret| engine.has_runner(&secret.set, &secret.name),
            |secret| engine.knows(&secret.set, &secret.name),
        );
        for secret in left {
            let key = Key::new(NAMESPACE, &secret.name);
            if self.store.get(Kind::Runner, &key).is_some() {
                continue;
            }
            self.tell(|_| format!("Secret {} is left over", secret.name));
            let registration = self.service.agent(&secret.name).map(|agent| agent.id);
            if let Some(id) = registration.filter(|id| Some(*id) == secret.runner_id) {
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
            let now = self.now;
            self.died = Some(now);
            self.reigns.iter_mut().for_each(|reign| _ = reign.until.get_or_insert(now));
        }
    }

    /// A watch of the leader has listed everything there is.
    pub(crate) fn leader_lists(&mut self, term: u32, kind: Kind) {
        if term != self.term || self.leader.is_none() {
            return;
        }
        let objects: Vec<Arc<Object>> = self.store.of_kind(kind).cloned().map(Arc::new).collect();
        let Some(leader) = &mut self.leader else { return };
        leader.listed.insert(kind);
        for object in objects {
            leader.seen.insert((kind, object.key().clone()), object);
        }
        if !leader.is_live() {
            return;
        }
        let seen: Vec<Arc<Object>> = leader.seen.values().cloned().collect();
        let (runners, others): (Vec<Arc<Object>>, Vec<Arc<Object>>) =
            seen.into_iter().partition(|object| object.kind() == Kind::Runner);
        others.into_iter().chain(runners).for_each(|object| self.feed(&object));
        let (now, unix_ms) = (self.now, self.unix_ms());
        if let Some(leader) = &mut self.leader {
            let journals = std::mem::take(&mut leader.journals);
            journals.into_iter().for_each(|journal| leader.engine.inherit(journal, now, unix_ms));
        }
        self.tell(|world| format!("leader-{} knows everything", world.term));
        self.engine_is_due();
    }

    /// A watch of the leader brings something.
    pub(crate) fn leader_sees(&mut self, term: u32, change: Change) {
        let Some(leader) = self.leader.as_mut().filter(|_| term == self.term) else { return };
        let is_live = leader.is_live();
        match change {
            Change::Put(object) => {
                leader.seen.insert((object.kind(), object.key().clone()), Arc::clone(&object));
                if is_live {
                    self.feed(&object);
                }
            }
            Change::Gone(kind, key) => {
                let Some(object) = leader.seen.remove(&(kind, key)) else { return };
                if is_live {
                    self.feed_end(&object);
                }
            }
        }
        self.engine_is_due();
    }

    fn feed(&mut self, object: &Object) {
        let (now, meta) = (self.now, object.meta());
        let is_deleting = meta.deleting && self.broken != Broken::DeletionUnheard;
        let place = json!({
            "uid": *meta.uid, "namespace": *meta.key.namespace, "name": *meta.key.name,
            "deletionTimestamp": is_deleting.then_some("2026-01-01T00:00:00Z"),
        });
        let view = object.runner_set().and_then(|set| self.set_view(set));
        let Some(leader) = &mut self.leader else { return };
        match object {
            Object::RunnerSet(_) => view.into_iter().for_each(|view| leader.engine.set(view, now)),
            Object::Runner(runner) => {
                runner_view(runner).into_iter().for_each(|view| leader.engine.runner(view, now));
            }
            Object::ScaleSet(_) => {
                leader.census.owner(serde_json::from_value(json!({ "metadata": place })).unwrap());
            }
            Object::Listener(listener) => {
                let spec = json!({
                    "autoscalingRunnerSetNamespace": *listener.scale_set.namespace,
                    "autoscalingRunnerSetName": *listener.scale_set.name,
                    "ephemeralRunnerSetName": *listener.runner_set,
                });
                let object = json!({ "metadata": place, "spec": spec });
                leader.census.listener(serde_json::from_value(object).unwrap());
            }
            _ => {}
        }
    }

    fn feed_end(&mut self, object: &Object) {
        let (unix_ms, now, broken) = (self.unix_ms(), self.now, self.broken);
        let Some(leader) = &mut self.leader else { return };
        let uid = &object.meta().uid;
        match object {
            Object::RunnerSet(_) => leader.engine.set_gone(uid),
            Object::Runner(runner) => {
                let Some(owner) = &runner.meta.owner else { return };
                leader.engine.runner_gone(&owner.uid, &runner.meta.key.name);
                let set = leader
                    .seen
                    .values()
                    .filter_map(|object| object.runner_set())
                    .find(|set| set.meta.uid == owner.uid);
                let set = set.cloned();
                if broken == Broken::NeedCountedAnew
                    && let Some(view) = set.and_then(|set| self.set_view(&set))
                    && let Stored::Pinned(mut generation) = view.stored
                    && let Some(leader) = &mut self.leader
                {
                    // The plan is made anew once it is for something else.
                    generation.replicas = generation.replicas.saturating_sub(1);
                    leader.engine.set(SetView { stored: Stored::Pinned(generation), ..view.clone() }, now);
                    let step = leader.engine.step(now, unix_ms);
                    leader.engine.set(view, now);
                    step.orders.into_iter().for_each(|order| self.begin(order));
                }
            }
            _ if broken == Broken::DeletionUnheard => {}
            _ => leader.census.gone(uid),
        }
    }

    fn set_view(&self, set: &RunnerSet) -> Option<SetView> {
        let generation = self.watched.get(&*set.meta.uid)?.generation(set.meta.version)?;
        let stored = World::stored(set);
        if self.broken == Broken::RawUnheard && stored.pinned().is_none() {
            return None;
        }
        let status = set.status.unwrap_or_default();
        Some(SetView {
            uid: set.meta.uid.to_string(),
            namespace: set.meta.key.namespace.to_string(),
            name: set.meta.key.name.to_string(),
            owner: set.meta.owner_of(Kind::ScaleSet)?.name.to_string(),
            stored,
            generation,
            counted: usize::try_from(status.current).unwrap(),
            is_deleting: set.meta.deleting && self.broken != Broken::DeletionUnheard,
            is_outdated: status.phase == Phase::Outdated,
        })
    }

    fn unix_ms(&self) -> i64 {
        EPOCH + i64::try_from(self.now.as_millis()).unwrap()
    }

    /// One step of the leader; gives when it wants to be asked again.
    pub(crate) fn step(&mut self) -> Option<Duration> {
        if !self.leader.as_ref()?.is_live() {
            return None;
        }
        self.judge();
        let (now, unix_ms) = (self.now, self.unix_ms());
        let step = self.leader.as_mut()?.engine.step(now, unix_ms);
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
        let mut published = Vec::new();
        for set in leader.seen.values().filter_map(|object| object.runner_set()) {
            let Some(owner) = set.meta.owner_of(Kind::ScaleSet) else { continue };
            let uid = &*set.meta.uid;
            let is_asked = self.played.iter().any(|played| played.key == owner && played.is_asked);
            let candidate = Candidate {
                uid,
                namespace: &set.meta.key.namespace,
                name: &set.meta.key.name,
                owner: &owner.name,
                place: Place { wish: Some(is_asked), is_listed: true, is_permitted: true },
                is_usable: true,
                is_suspended: leader.engine.is_suspended(uid, now),
            };
            let Judgement { is_attended, outcome } = leader.census.judge(candidate, true);
            let is_enabled = matches!(outcome, Ok(_) | Err(Refusal::Suspended));
            leader.engine.stands(uid, Standing { is_attended, is_enabled, service: "service".to_owned() });
            published.extend(outcome.ok());
        }
        published.sort_by(|one: &PublishedRunnerSet, other| one.uid.cmp(&other.uid));
        if !leader.is_publishing && leader.published.as_ref() != Some(&published) {
            leader.is_publishing = true;
            leader.published = Some(published.clone());
            let sets = PublishedRunnerSets::new(format!("leader-{}", self.term), published);
            let wait = self.publishing();
            self.after(wait, Event::Published(self.term, sets));
        }
    }

    /// A list is published.
    pub(crate) fn publish_lands(&mut self, term: u32, sets: PublishedRunnerSets) {
        if term == self.term
            && let Some(leader) = &mut self.leader
        {
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
        let set = leader
            .seen
            .values()
            .filter_map(|object| object.runner_set())
            .find(|set| *set.meta.uid == *order.place.uid);
        // One of an earlier generation may be tried again and again.
        let set = set.filter(|set| World::stored(set).pinned() == Some(journal.generation()));
        let version = set.map(|set| set.meta.version).unwrap_or_default();
        let watched = self.watched.get(&order.place.uid);
        let Some(generation) = watched.and_then(|watched| watched.generation(version)) else { return };
        let key = (order.place.uid.clone(), generation);
        let first = leader.drawn.entry(key).or_insert_with(|| journal.name.clone());
        if *first != journal.name {
            self.violate(format!("the need of {} is counted anew within one generation", order.place.name));
        }
    }

    /// An answer arrives.
    pub(crate) fn answered(&mut self, term: u32, id: CallId, answer: Answer) {
        let (now, unix_ms) = (self.now, self.unix_ms());
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

fn runner_view(runner: &Runner) -> Option<RunnerView> {
    Some(RunnerView {
        name: runner.meta.key.name.to_string(),
        uid: runner.meta.uid.to_string(),
        set: runner.meta.owner.as_ref()?.uid.to_string(),
        stamp: runner.patch_id,
        is_live: !runner.meta.deleting && !matches!(runner.status.phase, Phase::Succeeded | Phase::Outdated),
    })
}
