//! What people and other programs do in a played world: the plot of a seed.

use super::*;

impl World {
    /// Draws what will happen.
    pub(super) fn plot(&mut self) {
        self.store.quotas = store::Quotas { secrets: usize::MAX, runners: usize::MAX, pods: usize::MAX };
        let sets = 1 + self.rng.usize(..2);
        let most = [1, 6, 14, 40][self.rng.usize(..4)];
        for number in 0..sets {
            let uid = format!("set-{number}");
            self.store.sets.insert(uid.clone(), Set::new(&uid));
            self.store.changed.push((true, uid.clone()));
            self.plot_set(&uid, most);
        }
        if self.rng.u8(..4) == 0 {
            let some = self.rng.usize(..most as usize * 2) + 1;
            match self.rng.u8(..3) {
                0 => self.store.quotas.secrets = some,
                1 => self.store.quotas.runners = some,
                _ => self.store.quotas.pods = some,
            }
        }
        for _ in 0..self.rng.usize(..8) {
            let (at, which) = (self.rng.u64(..END), self.rng.u64(..));
            self.push(at, Event::Finish(which));
        }
        self.push(0, Event::Start);
        for _ in 0..self.rng.usize(..4) {
            let at = self.rng.u64(..END);
            self.push(at, Event::Kill);
            let rest = self.rng.u64(1..15_000);
            self.push(at + rest, Event::Start);
        }
        self.push(END, Event::Start);
    }

    fn plot_set(&mut self, uid: &str, most: u32) {
        let (mut at, mut patch_id) = (self.rng.u64(..3_000), 0);
        while at < END {
            patch_id = if self.rng.u8(..12) == 0 { 0 } else { patch_id + 1 };
            let replicas = self.rng.u32(..=most);
            self.push(at, Event::Listener { set: uid.to_owned(), replicas, patch_id });
            at += match self.rng.u8(..6) {
                0 => 20,
                1 => self.rng.u64(..1_000),
                2 | 3 => self.rng.u64(..6_000),
                _ => self.rng.u64(..25_000),
            };
        }
        let replicas = self.rng.u32(..=most);
        for at in [END + 100, END + 50_000, END + 100_000, END + 1_500_000] {
            self.push(at, Event::Listener { set: uid.to_owned(), replicas, patch_id: 0 });
        }
        for what in 0..5 {
            if self.rng.u8(..8) == 0 {
                let at = self.rng.u64(..END);
                self.push(at, Event::Change(what, uid.to_owned()));
            }
        }
    }

    pub(super) fn change(&mut self, what: u8, uid: &str) {
        let Some(set) = self.store.sets.get_mut(uid) else { return };
        match what {
            0 => {
                set.is_deleting = true;
                set.generation += 1;
            }
            1 => set.is_outdated = true,
            2 => {
                set.is_attended = !set.is_attended;
                if !set.is_attended && self.rng.bool() {
                    self.push(4_000, Event::Change(2, uid.to_owned()));
                }
            }
            3 => set.is_enabled = !set.is_enabled,
            _ => {
                self.store.quotas =
                    store::Quotas { secrets: usize::MAX, runners: usize::MAX, pods: usize::MAX };
            }
        }
        self.tell(format!("{uid} changes: {what}"));
        self.store.changed.push((true, uid.to_owned()));
        self.arc_is_due(uid);
    }

    /// The listener patches, and a webhook pins what it may. The shipped predicate lies in a crate that this one must not use,
    /// so this is a stand-in, and not one to rely on: it pins more than the shipped one, which the engine has to bear. What
    /// both together do is shown by the simulation in `tests/tests/simulation`, which asks the shipped one.
    pub(super) fn listener(&mut self, uid: &str, replicas: u32, patch_id: u32) {
        let now = self.moment();
        let is_published = match &self.engine {
            Some(engine) => !engine.is_suspended(uid, now),
            None => self.now < self.fresh_until,
        };
        let is_away = self.rng.u64(..100) < self.manners.raw;
        let Some(set) = self.store.sets.get_mut(uid) else { return };
        let is_lent =
            is_published && set.is_enabled && set.is_attended && !set.is_deleting && !set.is_outdated;
        let may = match set.stored {
            Stored::Pinned(_) => true,
            Stored::Raw { replicas: old, .. } => {
                let counted = i64::try_from(set.counted).unwrap();
                (old <= counted || !self.manners.is_owed_seen) && i64::from(replicas) > counted
            }
        };
        let raw = Stored::Raw { replicas: replicas.into(), patch_id: patch_id.into() };
        let stored = match Generation::pinnable(replicas.into(), patch_id.into()) {
            Some(generation) if is_lent && may && !is_away => Stored::Pinned(generation),
            _ => raw,
        };
        set.store(stored);
        self.tell(format!("{uid} stores {stored:?}"));
        self.store.changed.push((true, uid.to_owned()));
    }

    /// Some runner's job ends.
    pub(super) fn runner_finishes(&mut self, which: u64) {
        let named = self.store.ers.iter().filter(|(_, er)| !er.is_deleting && er.runner_id.is_some());
        let names: Vec<String> = named.map(|(name, _)| name.clone()).collect();
        if !names.is_empty() {
            let at = usize::try_from(which % names.len() as u64).unwrap();
            self.delete(&names[at]);
        }
    }
}
