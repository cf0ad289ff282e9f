//! What must hold when everything has come to rest: some time after a hand-back, one heartbeat after the last fault, and long
//! after the last job.

use std::time::Duration;

use headstart_tests::arc::model::{Key, Kind, Object, Phase, Runner};

use super::world::World;

/// A set one heartbeat after the last fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Calm {
    pub(crate) name: String,
    pub(crate) replicas: i64,
    pub(crate) live: usize,
    pub(crate) asked: usize,
}

impl Calm {
    /// What is wrong with it, given what became of the same set where there is only ARC.
    pub(crate) fn compared(&self, alone: &Self) -> Option<String> {
        let Self { name, replicas, live, asked } = self;
        // Jobs come at the same times in both worlds, but do not end at the same.
        let is_comparable = *asked == alone.asked;
        if is_comparable && *replicas != alone.replicas {
            return Some(format!(
                "{name} asks for {replicas} runners, with ARC alone for {}",
                alone.replicas
            ));
        }
        let is_short = live < asked && (alone.live >= alone.asked || is_comparable && *live < alone.live);
        is_short.then(|| {
            format!("{name} has {live} of {asked} runners, with ARC alone {} of {}", alone.live, alone.asked)
        })
    }
}

impl World {
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

    /// One heartbeat after the last fault ARC owns every set, and has what its listener asked for: not more, but for a reason, and
    /// not less, but where ARC alone would not have either; that is looked at afterwards.
    pub(crate) fn check_calm(&mut self) {
        let mut wrong = vec![];
        for (number, played) in self.played.iter().enumerate() {
            let Some(key) = played.runner_set() else { continue };
            let Some(set) = self.set(&key) else { continue };
            let is_outdated = set.status.is_some_and(|status| status.phase == Phase::Outdated);
            if set.meta.deleting || set.hash != set.template || is_outdated {
                continue;
            }
            if Some((set.replicas, set.patch_id)) != played.last {
                wrong.push(format!("{} stores {:?}, not {:?}", key.name, World::stored(set), played.last));
            }
            let uid = &*set.meta.uid;
            let asked = self.asked(uid).unwrap_or(0);
            let surplus = self.watched.get(uid).map_or(0, |watched| watched.surplus);
            let (name, live) = (played.key.name.to_string(), self.live(uid));
            // Jobs of a new set may run on runners of the old one.
            if !self.has_sisters(uid) {
                if live > asked + surplus {
                    wrong.push(format!(
                        "{name} has {live} runners of {asked}, {surplus} too many for a reason"
                    ));
                }
                self.calm.insert(number, Calm { name, replicas: set.replicas, live, asked });
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
