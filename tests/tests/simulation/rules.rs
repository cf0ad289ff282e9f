//! What must hold: at every step, one heartbeat after the last fault, and when everything has come to rest.

use std::collections::BTreeMap;
use std::time::Duration;

use headstart_controller::creation::call::Order;
use headstart_controller::creation::journal;
use headstart_externals::pin::{Generation, Stored};
use headstart_tests::arc::model::calls::Creation;
use headstart_tests::arc::model::manager::Change;
use headstart_tests::arc::model::{
    Call, Container, Key, Kind, Object, Phase, REGISTRATION_FINALIZER, RUNNER_FINALIZER, Runner, RunnerSet,
    Text,
};
use headstart_webhook::runner_sets::known::LEADER_SILENT_AFTER;

use super::world::{NAMESPACE, World};

/// A generation may be lent for one heartbeat of the listener at most, and what a last call takes that is never answered.
const LENT: Duration = Duration::from_secs(80);

/// How old the engine's picture of a set may be: the lag of a watch, and the time of a call that has left.
const PICTURE: Duration = Duration::from_millis(700);

/// How far apart what two watches show may be.
const EDGE: Duration = Duration::from_millis(150);

/// ARC that has not begun so long after a generation was stored cannot be told from one that is done with it: the engine waits
/// no longer.
const AT_REST: Duration = Duration::from_millis(300);

/// Only a call that is as old as this may come when all is over.
pub(crate) const LATE: Duration = Duration::from_secs(3);

/// A runner set as the rules remember it.
pub(crate) struct Watched {
    pub(crate) key: Key,
    pub(crate) scale_set_id: i64,
    generations: BTreeMap<u64, i64>,
    last: Option<(i64, i64, Text, bool)>,
    history: Vec<(Duration, Stored)>,
    deleting: Option<Duration>,
    pinned: Option<Duration>,
    /// Runners that came to their end since it was pinned, and how many had when it was handed back.
    ended: usize,
    ended_before: usize,
    /// Runners that were made although there were enough, by ARC of its own or because somebody wrote past the webhook.
    surplus: usize,
    /// When ARC made runners of it.
    arc_made: Vec<Duration>,
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
            ended_before: 0,
            surplus: 0,
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
                (self.pinned, self.ended_before) = (None, self.ended)
            }
            Stored::Raw { .. } => {}
        }
    }

    /// Runners that ARC made at the very moment of the pin, since our watch of runners may be later than that of sets; and those
    /// that it made after it so late that before it looked at rest.
    fn made_at_pin(&self) -> usize {
        let Some(pinned) = self.pinned else { return 0 };
        let is_raw = |(_, stored): &&(Duration, Stored)| matches!(stored, Stored::Raw { .. });
        let raw = self.history.iter().rfind(is_raw).map_or(Duration::ZERO, |(at, _)| *at);
        let is_excused =
            |at: &&Duration| at.abs_diff(pinned) < EDGE || (**at > pinned && **at > raw + AT_REST);
        self.arc_made.iter().filter(is_excused).count()
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
        self.lived.insert(name.clone());
        let owner = runner.meta.owner.as_ref();
        if let Some(watched) = owner.and_then(|owner| self.watched.get_mut(&*owner.uid)) {
            watched.ended += 1;
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

    /// No generation is lent for longer than a heartbeat once all is well.
    fn check_lent(&mut self) {
        // Where no leader is left, the webhook hears of that later.
        let silent = if self.manners.has_controller { Duration::ZERO } else { LEADER_SILENT_AFTER };
        let peace = self.manners.end + silent;
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

    /// What the service asks for just now, whether the listener has heard of it or not.
    fn asked(&self, set: &Key) -> Option<usize> {
        let played = self.played.iter().find(|played| played.runner_set().as_ref() == Some(set))?;
        Some(usize::try_from(played.min).unwrap() + self.service.assigned(played.scale_set_id))
    }

    /// The job of a runner ends. If that was replaced before, when somebody deleted it, no other runner goes with the job.
    pub(crate) fn is_outlived(&mut self, runner: &str, which: usize) {
        let set = self.played[which].runner_set().and_then(|key| self.set(&key));
        let uid = set.map(|set| set.meta.uid.to_string());
        if self.lived.contains(runner)
            && let Some(watched) = uid.and_then(|uid| self.watched.get_mut(&uid))
        {
            watched.surplus += 1;
        }
    }

    /// A call of ARC is carried out.
    pub(crate) fn arc_calls(&mut self, call: &Call) {
        if let Call::Create(creation) = call
            && let Creation::Runner(runner) = &**creation
            && let Some(owner) = &runner.meta.owner
        {
            let key = Key::new(NAMESPACE, &owner.name);
            let is_enough = self.asked(&key).is_none_or(|asked| self.live(&owner.uid) >= asked);
            self.tell(|_| format!("ARC makes a runner of {}", owner.name));
            let now = self.now;
            if let Some(watched) = self.watched.get_mut(&*owner.uid) {
                watched.arc_made.push(now);
                watched.surplus += usize::from(is_enough);
            }
        }
    }

    /// An EphemeralRunner of ours was posted, when there were so many.
    pub(crate) fn check_post(&mut self, order: &Order, created: &Object, live: usize, begun: Duration) {
        let (uid, name) = (&order.place.uid, &*created.key().name);
        let mut broken = vec![];
        let Some(runner) = created.runner() else { return };
        let secret = self.store.get(Kind::Secret, created.key()).and_then(Object::secret);
        let id = secret.and_then(|secret| secret.runner_id);
        let agent = self.service.agent(name).map(|agent| agent.id);
        // A post of a leader that is dead may be carried out when its runner has lived and gone: ARC takes that for its own.
        let is_late = self.lived.contains(name) && begun + LATE < self.now;
        if !is_late && (agent.is_none() || id != agent) {
            broken.push(format!("{name} is posted with registration {agent:?} and Secret of {id:?}"));
        }
        let is_owned = runner.meta.owner.as_ref().is_some_and(|owner| *owner.uid == **uid);
        if !is_owned || !runner.meta.has(RUNNER_FINALIZER) || !runner.meta.has(REGISTRATION_FINALIZER) {
            broken.push(format!("{name} is posted without its owner or its finalizers"));
        }
        let is_enough = self.asked(&Key::new(NAMESPACE, &order.place.name)).is_none_or(|asked| live >= asked);
        let Some(watched) = self.watched.get_mut(uid) else { return };
        watched.surplus += usize::from(is_enough);
        let since = begun.saturating_sub(PICTURE);
        let (asked, are_all_pinned) = watched.asked_since(since);
        if watched.deleting.is_some_and(|at| at < since) {
            broken.push(format!("{name} is posted for a set that is deleted"));
        }
        if asked == 0 {
            broken.push(format!("{name} is posted although its set is not pinned"));
        } else if are_all_pinned && live >= asked + watched.made_at_pin() {
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

    /// A set is handed back: only what it stored.
    pub(crate) fn check_hand_back(&mut self, key: &Key, before: Stored, generation: Generation) {
        if before.pinned() != Some(generation) {
            self.violate(format!("{} stores {before:?} and is handed back as {generation:?}", key.name));
        }
    }

    /// What was missing at a hand-back is made by ARC at once.
    pub(crate) fn check_filled(&mut self, key: &Key, since: Duration) {
        let Some(set) = self.set(key) else { return };
        let (uid, replicas) = (set.meta.uid.to_string(), usize::try_from(set.replicas).unwrap());
        let Some(watched) = self.watched.get(&uid) else { return };
        let is_same = watched.history.last().is_some_and(|(at, _)| *at == since);
        let is_healthy = watched.deleting.is_none() && watched.ended_before == 0 && self.arc_life == 0;
        let ended = watched.ended;
        let is_first = self.played.iter().any(|it| it.runner_set().as_ref() == Some(key) && it.life == 1);
        let runners = self.store.of_kind(Kind::Runner).filter_map(Object::runner);
        let own = runners.filter(|runner| runner.meta.owner.as_ref().is_some_and(|owner| *owner.uid == *uid));
        let counted = ended + own.filter(|runner| !runner.meta.deleting).count();
        let is_outdated = set.status.is_some_and(|status| status.phase == Phase::Outdated);
        if is_same && is_healthy && is_first && !is_outdated && counted < replicas {
            self.violate(format!(
                "{} was handed back short, and has {counted} of {replicas} runners",
                key.name
            ));
        }
    }

    /// One heartbeat after the last fault ARC owns every set, and has what its listener asked for.
    pub(crate) fn check_calm(&mut self) {
        let mut wrong = vec![];
        for played in &self.played {
            let Some(key) = played.runner_set() else { continue };
            let Some(set) = self.set(&key) else { continue };
            let is_alive = !set.meta.deleting && set.hash == set.template && played.is_asked;
            let is_outdated = set.status.is_some_and(|status| status.phase == Phase::Outdated);
            if !is_alive || is_outdated {
                continue;
            }
            if World::stored(set).pinned().is_none() && Some((set.replicas, set.patch_id)) != played.last {
                wrong.push(format!("{} stores {:?}, not {:?}", key.name, World::stored(set), played.last));
            }
            let (uid, asked) = (&*set.meta.uid, self.asked(&key).unwrap_or(0));
            let (live, surplus) =
                (self.live(uid), self.watched.get(uid).map_or(0, |watched| watched.surplus));
            // Jobs of a new set may run on runners of the old one.
            let sets = self.watched.values().filter(|watched| watched.scale_set_id == played.scale_set_id);
            if live > asked + surplus && sets.count() == 1 {
                wrong.push(format!("{} has {live} runners of {asked}, {surplus} too many by ARC", key.name));
            }
        }
        wrong.into_iter().for_each(|what| self.violate(what));
    }

    /// Long after the last job nothing is left but what listeners want.
    pub(crate) fn check_end(&mut self) {
        let mut left = vec![];
        let runners: Vec<Runner> =
            self.store.of_kind(Kind::Runner).filter_map(Object::runner).cloned().collect();
        let named = |name: &str| {
            runners.iter().find(|runner| *runner.meta.key.name == *name && !runner.meta.deleting)
        };
        for secret in self.store.of_kind(Kind::Secret) {
            if named(&secret.key().name).is_none() && self.manners.has_controller {
                left.push(format!("Secret {}", secret.key().name));
            }
        }
        for agent in self.service.agents() {
            let runner = named(&agent.name).filter(|runner| runner.status.runner_id == agent.id);
            // ARC forgets one of its own if the runner goes before its status names it (arc.md §5, case 8).
            let is_ours = self.drawn.contains(&agent.name);
            if runner.is_none() && self.manners.has_controller && is_ours {
                left.push(format!("registration {} of {}", agent.id, agent.name));
            }
        }
        for runner in runners.iter().filter(|runner| runner.meta.deleting) {
            left.push(format!("runner {} on its way out", runner.meta.key.name));
        }
        if self.manners.has_controller {
            left.extend(self.store.of_kind(Kind::ConfigMap).map(|map| format!("journal {}", map.key().name)));
        }
        for played in &self.played {
            let Some(set) = played.runner_set().and_then(|key| self.set(&key)) else { continue };
            let live = i64::try_from(self.live(&set.meta.uid)).unwrap();
            if live != played.min && set.status.is_none_or(|status| status.phase != Phase::Outdated) {
                left.push(format!("{} has {live} runners of {}", set.meta.key.name, played.min));
            }
        }
        let owned = |runner: &&Runner| {
            let owner = runner.meta.owner_of(Kind::RunnerSet);
            owner.is_none_or(|key| self.set(&key).is_none())
        };
        left.extend(
            runners.iter().filter(owned).map(|runner| format!("nobody's runner {}", runner.meta.key.name)),
        );
        if !left.is_empty() {
            self.violate(format!("long after the last job there is left: {left:?}"));
        }
    }
}
