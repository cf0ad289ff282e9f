//! The rules of a played world: what no step may order, and what must be left at the end.

use super::*;
use crate::creation::call::Call;

impl World {
    /// What the engine orders must be allowed by what it was shown.
    pub(super) fn check_order(&mut self, order: &Order) {
        let (name, uid) = (&order.task.runner, &order.place.uid);
        if !name.is_empty() && self.flying.values().any(|flying| flying == name) {
            self.store.break_rule(format!("two calls for {name} at once"));
        }
        let view = self.seen.get(uid).map(|(view, _)| view);
        let generation = view.and_then(|view| view.stored.pinned());
        let is_attended = self.store.sets.get(uid).is_some_and(|set| set.is_attended);
        let is_alive = view.is_some_and(|view| !view.is_deleting && !view.is_outdated);
        let is_ours = is_alive && is_attended && generation.is_some();
        let code = order.task.call.code();
        let is_allowed = match &order.task.call {
            Call::CreateJournal(_) | Call::Register | Call::CreateSecret { .. } | Call::HandBack(_) => {
                is_ours
            }
            Call::CreateRunner { stamp } => {
                let is_last = generation.is_some_and(|it| i64::from(it.patch_id) == *stamp);
                if is_last && self.is_before_others(uid, name) {
                    self.store.break_rule(format!("{name} is posted as the last, and is not"));
                }
                is_ours
            }
            Call::CreatePod { .. } => is_alive,
            _ => true,
        };
        if !is_allowed {
            self.store.break_rule(format!("{code} of {name} although the set is not ours"));
        }
    }

    fn is_before_others(&self, uid: &str, name: &str) -> bool {
        let mut sets = self.engine.iter().flat_map(Engine::sets);
        let set = sets.find(|set| set.place().uid == uid);
        set.is_some_and(|set| {
            set.ours.values().any(|other| other.name != name && other.is_left() && !other.has_runner())
        })
    }

    /// At the end nothing is left but what the listener wants.
    pub(super) fn check_rest(&mut self) {
        let store = &self.store;
        let mut left = Vec::new();
        left.extend(store.journals.keys().map(|name| format!("journal {name}")));
        let has_runner = |name: &&String| store.ers.contains_key(*name);
        left.extend(
            store.secrets.keys().filter(|name| !has_runner(name)).map(|name| format!("Secret {name}")),
        );
        left.extend(store.agents.keys().filter(|name| !has_runner(name)).map(|name| format!("agent {name}")));
        for (uid, set) in &store.sets {
            let wanted = match set.stored {
                Stored::Raw { replicas, .. } => usize::try_from(replicas).unwrap(),
                Stored::Pinned(generation) => {
                    left.push(format!("{uid} is still pinned to {generation:?}"));
                    continue;
                }
            };
            let live = store.live(uid);
            if live != wanted && !set.is_outdated {
                left.push(format!("{uid} has {live} of {wanted} runners"));
            }
        }
        let engine = self.engine.as_ref();
        let sets = engine.into_iter().flat_map(Engine::sets);
        left.extend(sets.flat_map(|set| set.ours.keys()).map(|name| format!("{name} in mind")));
        if engine.is_some_and(|engine| engine.in_flight() > 0) {
            left.push("calls in flight".to_owned());
        }
        if !left.is_empty() {
            self.store.break_rule(format!("at the end there is left: {left:?}"));
        }
    }
}
