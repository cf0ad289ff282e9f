//! ARC as far as runner creation meets it: it counts, makes what is missing when a generation is raw, takes away what is too
//! much, and finishes runners. It sees all of this late.

use std::collections::BTreeMap;

use headstart_externals::pin::Stored;

use super::{Event, World};

/// What ARC's cache shows of a runner.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cached {
    stamp: i64,
    counts: bool,
}

/// What ARC knows of one set.
#[derive(Debug, Default)]
pub(super) struct Arc {
    pub(super) stored: Option<Stored>,
    pub(super) ers: BTreeMap<String, Cached>,
    /// Whether it is inside its own loop.
    is_making: bool,
    is_due: bool,
}

impl World {
    /// ARC's cache learns what became of a runner.
    pub(super) fn arc_sees(&mut self, set: &str, name: &str, stamp: Option<(i64, bool)>) {
        let arc = self.arcs.entry(set.to_owned()).or_default();
        match stamp {
            Some((stamp, counts)) => drop(arc.ers.insert(name.to_owned(), Cached { stamp, counts })),
            None => drop(arc.ers.remove(name)),
        }
        self.arc_is_due(set);
    }

    pub(super) fn arc_is_due(&mut self, set: &str) {
        let arc = self.arcs.entry(set.to_owned()).or_default();
        if !arc.is_due {
            arc.is_due = true;
            let at = 1 + self.rng.u64(..30);
            self.push(at, Event::ArcPass(set.to_owned()));
        }
    }

    pub(super) fn arc_pass(&mut self, set: &str) {
        let arc = self.arcs.entry(set.to_owned()).or_default();
        arc.is_due = false;
        let Some(kept) = self.store.sets.get(set) else { return };
        if arc.is_making {
            return;
        }
        let total = arc.ers.values().filter(|er| er.counts).count();
        if kept.is_deleting {
            return self.arc_ends(set);
        }
        let latest = arc.ers.values().map(|er| er.stamp).max();
        if let Some(Stored::Raw { replicas, patch_id }) = arc.stored
            && !kept.is_outdated
            && (patch_id == 0 || Some(patch_id) != latest)
        {
            let replicas = usize::try_from(replicas).unwrap_or(0);
            if total < replicas {
                arc.is_making = true;
                let make =
                    Event::ArcMakes { set: set.to_owned(), left: replicas - total, stamp: patch_id, total };
                return self.push(1, make);
            }
            if patch_id == 0 && total > replicas {
                let idle =
                    |name: &&String| self.store.ers.get(*name).is_some_and(|er| er.runner_id.is_some());
                let cached = arc.ers.iter().filter(|(_, er)| er.counts).map(|(name, _)| name);
                let idle: Vec<String> = cached.filter(idle).take(total - replicas).cloned().collect();
                idle.iter().for_each(|name| self.delete(name));
            }
        }
        self.arc_counts(set, total);
    }

    fn arc_counts(&mut self, set: &str, total: usize) {
        let Some(kept) = self.store.sets.get_mut(set) else { return };
        if kept.counted != total {
            kept.counted = total;
            self.store.changed.push((true, set.to_owned()));
        }
    }

    /// One more runner of ARC's own loop, which goes on whatever is stored by now.
    pub(super) fn arc_makes(&mut self, set: &str, left: usize, stamp: i64, total: usize) {
        if left == 0 || !self.store.sets.contains_key(set) {
            if let Some(arc) = self.arcs.get_mut(set) {
                arc.is_making = false;
            }
            self.arc_counts(set, total);
            return self.arc_is_due(set);
        }
        let name = format!("{set}-arc-{}", self.store.number());
        let id = self.store.number();
        self.store.agents.insert(name.clone(), id);
        self.store.secrets.insert(name.clone(), id);
        self.store.create(&name, set, stamp, Some(id));
        self.tell(format!("ARC makes {name}, stamped {stamp}"));
        let (at, set) = (1 + self.rng.u64(..80), set.to_owned());
        self.push(at, Event::ArcMakes { set, left: left - 1, stamp, total });
    }

    fn arc_ends(&mut self, set: &str) {
        let names: Vec<String> =
            self.store.ers.iter().filter(|(_, er)| er.set == set).map(|(name, _)| name.clone()).collect();
        names.iter().for_each(|name| self.delete(name));
        if names.is_empty() {
            self.store.sets.remove(set);
            self.store.changed.push((true, set.to_owned()));
            self.tell(format!("{set} is gone"));
        } else {
            self.arc_is_due(set);
        }
    }

    /// ARC comes upon a runner: its status, and its Pod.
    pub(super) fn arc_finishes(&mut self, name: &str) {
        let secret = self.store.secrets.get(name).copied();
        let Some(er) = self.store.ers.get_mut(name).filter(|er| !er.is_deleting) else { return };
        match secret {
            Some(id) if self.store.agents.get(name) == Some(&id) => {
                er.runner_id = Some(er.runner_id.unwrap_or(id));
                self.store.pods.insert(name.to_owned());
            }
            _ => self.store.break_rule(format!("{name} has no Secret with a registration")),
        }
    }

    /// Begins to delete a runner: its registration goes first, if ARC knows it.
    pub(super) fn delete(&mut self, name: &str) {
        let Some(er) = self.store.ers.get_mut(name).filter(|er| !er.is_deleting) else { return };
        er.is_deleting = true;
        let known = er.runner_id;
        if known.is_some() && known == self.store.agents.get(name).copied() {
            self.store.agents.remove(name);
        }
        self.store.changed.push((false, name.to_owned()));
        self.tell(format!("{name} is being deleted"));
        let at = 1 + self.rng.u64(..300);
        self.push(at, Event::Gone(name.to_owned()));
    }

    pub(super) fn gone(&mut self, name: &str) {
        self.store.ers.remove(name);
        self.store.secrets.remove(name);
        self.store.pods.remove(name);
        self.store.changed.push((false, name.to_owned()));
    }
}
