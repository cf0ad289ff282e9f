//! What must hold: at every step, one heartbeat after the last fault, and when everything has come to rest.

use std::collections::BTreeMap;
use std::time::Duration;

use headstart_controller::creation::call::Order;
use headstart_controller::creation::journal;
use headstart_externals::pin::{Generation, Stored};
use headstart_tests::arc::model::manager::Change;
use headstart_tests::arc::model::{
    Container, Key, Kind, Object, Phase, REGISTRATION_FINALIZER, RUNNER_FINALIZER, Runner, RunnerSet, Text,
};
use headstart_webhook::runner_sets::known::LEADER_SILENT_AFTER;

use super::surplus::Maker;
use super::world::{Event, World, ms};

/// A generation may be lent for one heartbeat of the listener at most, and what a last call takes that is never answered.
const LENT: Duration = Duration::from_secs(80);

/// Only a call that is as old as this may come when all is over.
pub(crate) const LATE: Duration = Duration::from_secs(3);

/// A runner set as the rules remember it.
pub(crate) struct Watched {
    pub(crate) key: Key,
    pub(crate) scale_set_id: i64,
    generations: BTreeMap<u64, i64>,
    last: Option<(i64, i64, Text, bool)>,
    pub(crate) history: Vec<(Duration, Stored)>,
    pub(crate) deleting: Option<Duration>,
    pinned: Option<Duration>,
    /// Runners that came to their end since it was pinned, and how many had when it was handed back.
    pub(crate) ended: usize,
    pub(crate) last_end: Option<Duration>,
    pub(crate) ended_before: usize,
    /// Runners that were made although there were enough, each for a reason.
    pub(crate) surplus: usize,
    /// Whether what is stored next is a hand-back.
    pub(crate) is_returning: bool,
    /// When something raw was last stored over a generation that was lent.
    pub(crate) amid: Option<Duration>,
    /// When ARC made runners of it.
    pub(crate) arc_made: Vec<Duration>,
}

impl Watched {
    fn new(set: &RunnerSet) -> Self {
        Self {
            key: set.meta.key.clone(),
            scale_set_id: set.scale_set_id,
            generations: BTreeMap::new(),
            last: None,
            history: vec![],
            deleting: None,
            pinned: None,
            ended: 0,
            last_end: None,
            ended_before: 0,
            surplus: 0,
            is_returning: false,
            amid: None,
            arc_made: vec![],
        }
    }

    /// `metadata.generation` of a version of it.
    pub(crate) fn generation(&self, version: u64) -> Option<i64> {
        self.generations.get(&version).copied()
    }

    fn put(&mut self, set: &RunnerSet, now: Duration) {
        let (stored, spec) =
            (World::stored(set), (set.replicas, set.patch_id, set.template.clone(), set.meta.deleting));
        let known = self.generations.values().last().copied().unwrap_or(0);
        let is_new = self.last.as_ref() != Some(&spec);
        self.generations.insert(set.meta.version, known + i64::from(is_new));
        if is_new {
            self.last = Some(spec);
            self.history.push((now, stored));
        }
        if set.meta.deleting {
            self.deleting.get_or_insert(now);
        }
        match stored {
            Stored::Pinned(_) if self.pinned.is_none() => (self.pinned, self.ended) = (Some(now), 0),
            Stored::Pinned(_) => {}
            Stored::Raw { .. } if self.pinned.is_some() => {
                (self.pinned, self.ended_before) = (None, self.ended);
                self.amid = if self.is_returning { self.amid } else { Some(now) };
            }
            Stored::Raw { .. } => {}
        }
    }

    /// How many runners ARC has made since then.
    pub(crate) fn arc_made_since(&self, since: Duration) -> usize {
        self.arc_made.iter().filter(|at| **at >= since).count()
    }

    /// The most runners that anything asked for that was stored since then, raw or pinned.
    pub(crate) fn most_since(&self, since: Duration) -> usize {
        let first = self.history.iter().rposition(|(at, _)| *at <= since).unwrap_or(0);
        let asked = self.history[first..].iter().map(|(_, stored)| match stored {
            Stored::Raw { replicas, .. } => *replicas,
            Stored::Pinned(generation) => i64::from(generation.replicas),
        });
        usize::try_from(asked.max().unwrap_or(0)).unwrap()
    }

    /// The most runners that any generation asked for that was stored since then, and whether all were pinned.
    fn asked_since(&self, since: Duration) -> (usize, bool) {
        let first = self.history.iter().rposition(|(at, _)| *at <= since).unwrap_or(0);
        let stored = || self.history[first..].iter().map(|(_, stored)| stored);
        let asked = stored().map(|stored| match stored {
            Stored::Raw { .. } => 0,
            Stored::Pinned(generation) => usize::try_from(generation.replicas).unwrap(),
        });
        (asked.max().unwrap_or(0), stored().all(|stored| stored.pinned().is_some()))
    }
}

impl World {
    /// Remembers what the rules need of a change, and checks what holds at every step.
    pub(crate) fn look_at(&mut self, change: &Change) {
        let now = self.now;
        match change {
            Change::Put(object) => self.look_at_object(object),
            Change::Gone(Kind::RunnerSet, key) => {
                for watched in self.watched.values_mut().filter(|watched| watched.key == *key) {
                    (watched.pinned, _) = (None, watched.deleting.get_or_insert(now));
                }
            }
            Change::Gone(..) => {}
        }
        self.check_lent();
    }

    fn look_at_object(&mut self, object: &Object) {
        let now = self.now;
        match object {
            Object::RunnerSet(set) => {
                let watched =
                    self.watched.entry(set.meta.uid.to_string()).or_insert_with(|| Watched::new(set));
                watched.put(set, now);
                let (is_lent_now, has_surplus) = (watched.pinned == Some(now), watched.surplus > 0);
                if has_surplus {
                    self.forget_surplus(&set.meta.uid);
                }
                if is_lent_now {
                    let late = now.max(self.peace()) + LENT + ms(1);
                    self.at(late, Event::Lent);
                }
            }
            Object::Runner(runner) if runner.meta.deleting => self.runner_ends(runner),
            _ => {}
        }
    }

    fn runner_ends(&mut self, runner: &Runner) {
        if !self.ending.insert(runner.meta.uid.clone()) {
            return;
        }
        let name = &runner.meta.key.name;
        self.lived.insert(name.clone(), self.now);
        let owner = runner.meta.owner.as_ref();
        if let Some(watched) = owner.and_then(|owner| self.watched.get_mut(&*owner.uid)) {
            watched.ended += 1;
            watched.last_end = Some(self.now);
        }
        // What ARC cleans up it looks for in its cache, which may not know of the registration yet, let alone of the job.
        let set = runner.meta.owner_of(Kind::RunnerSet).and_then(|key| self.set(&key));
        let is_cleaned_up = set.is_none_or(|set| {
            let is_outdated = set.status.is_some_and(|status| status.phase == Phase::Outdated);
            set.meta.deleting || set.hash != set.template || is_outdated
        });
        if !is_cleaned_up && self.service.job_of(name).is_some() {
            self.violate(format!("{name} is deleted and has a job"));
        }
    }

    /// Since when all is well; where no leader is left, the webhook hears of that later.
    fn peace(&self) -> Duration {
        let silent = if self.manners.has_controller { Duration::ZERO } else { LEADER_SILENT_AFTER };
        self.manners.end + silent
    }

    /// No generation is lent for longer than a heartbeat once all is well.
    pub(crate) fn check_lent(&mut self) {
        let peace = self.peace();
        let late = self.watched.values().find(|watched| {
            watched.deleting.is_none()
                && watched.pinned.is_some_and(|since| self.now > since.max(peace) + LENT)
        });
        let late = late.map(|watched| (watched.key.clone(), watched.pinned.unwrap()));
        if let Some((key, since)) = late.filter(|(key, _)| self.is_attended(key)) {
            self.violate(format!("{} is pinned since {:.3} s", key.name, since.as_secs_f64()));
        }
    }

    fn is_attended(&self, key: &Key) -> bool {
        self.played.iter().any(|played| played.runner_set().as_ref() == Some(key))
    }

    /// ARC's count of a set, without runners whose work is done.
    pub(crate) fn live(&self, uid: &str) -> usize {
        let runners = self.store.of_kind(Kind::Runner).filter_map(Object::runner);
        let own = runners.filter(|runner| runner.meta.owner.as_ref().is_some_and(|owner| *owner.uid == *uid));
        own.filter(|runner| !runner.meta.deleting && !runner.status.phase.done() && !self.has_exited(runner))
            .count()
    }

    fn has_exited(&self, runner: &Runner) -> bool {
        let pod = self.store.get(Kind::Pod, &runner.meta.key).and_then(Object::pod);
        pod.is_some_and(|pod| pod.container == Container::Exited(0))
    }

    /// What the service asks for just now, whether a listener has heard of it or not.
    pub(crate) fn asked(&self, uid: &str) -> Option<usize> {
        let scale_set = self.watched.get(uid)?.scale_set_id;
        let played = self.played.iter().find(|played| played.scale_set_id == scale_set)?;
        Some(usize::try_from(played.min).unwrap() + self.service.assigned(scale_set))
    }

    /// An EphemeralRunner of ours was posted, when there were so many.
    pub(crate) fn check_post(&mut self, order: &Order, created: &Object, live: usize, begun: Duration) {
        let (uid, name) = (&order.place.uid, &*created.key().name);
        let mut broken = vec![];
        let Some(runner) = created.runner() else { return };
        let secret = self.store.get(Kind::Secret, created.key()).and_then(Object::secret);
        let id = secret.and_then(|secret| secret.runner_id);
        let agent = self.service.agent(name).map(|agent| agent.id);
        // A post may be carried out when its runner has lived and gone, if it left before anybody could see that. ARC takes it
        // for one of its own.
        let since = self.picture(begun);
        let is_unseen = |end: &Duration| *end >= since || self.is_end_unseen(name, *end, begun);
        let is_late = self.lived.get(name).is_some_and(is_unseen);
        if !is_late && (agent.is_none() || id != agent) {
            broken.push(format!("{name} is posted with registration {agent:?} and Secret of {id:?}"));
        }
        let is_owned = runner.meta.owner.as_ref().is_some_and(|owner| *owner.uid == **uid);
        if !is_owned || !runner.meta.has(RUNNER_FINALIZER) || !runner.meta.has(REGISTRATION_FINALIZER) {
            broken.push(format!("{name} is posted without its owner or its finalizers"));
        }
        if let Err(why) = self.is_one_too_many(uid, live, Maker::We { name, since }) {
            broken.push(why);
        }
        let Some(watched) = self.watched.get(uid) else { return };
        let (asked, are_all_pinned) = watched.asked_since(since);
        if watched.deleting.is_some_and(|at| at < since) {
            broken.push(format!("{name} is posted for a set that is deleted"));
        }
        if asked == 0 {
            broken.push(format!("{name} is posted although its set is not pinned"));
        } else if are_all_pinned && live >= asked + watched.arc_made_since(since) {
            broken.push(format!("{name} is posted although there are {live} runners of {asked}"));
        }
        broken.into_iter().for_each(|what| self.violate(what));
    }

    /// A registration of ours, or its Secret, is removed: never under a runner that lives. What a dead leader had sent may come
    /// when the next one has taken the runner over; ARC then makes good what is missing.
    pub(crate) fn check_removal(&mut self, key: &Key, id: Option<i64>, is_late: bool) {
        let runner = self.store.get(Kind::Runner, key).and_then(Object::runner);
        let is_its_own = |runner: &Runner| {
            let status = runner.status.runner_id;
            id.is_none_or(|id| status == id || status == 0)
        };
        if !is_late && runner.is_some_and(|runner| !runner.meta.deleting && is_its_own(runner)) {
            self.violate(format!("what belongs to {} is removed, and it lives", key.name));
        }
    }

    /// A journal comes first.
    pub(crate) fn check_journaled(&mut self, name: &str) {
        let journals = self.store.of_kind(Kind::ConfigMap).filter_map(Object::config_map);
        let mut texts = journals.filter_map(|map| map.data.get(journal::KEY));
        let is_named = texts.any(|text| text.contains(name));
        drop(texts);
        if !is_named {
            self.violate(format!("{name} is registered, and no journal tells of it"));
        }
    }

    /// A hand-back is refused: only where something else is stored by then.
    pub(crate) fn check_refused(&mut self, key: &Key, before: Stored, generation: Generation) {
        if before.pinned() == Some(generation) {
            self.violate(format!("{} stores {generation:?} and cannot be handed back", key.name));
        }
    }

    /// A set is handed back: only what it stored.
    pub(crate) fn check_hand_back(&mut self, key: &Key, before: Stored, generation: Generation) {
        if before.pinned() != Some(generation) {
            self.violate(format!("{} stores {before:?} and is handed back as {generation:?}", key.name));
        }
    }
}
