//! What others ask the engine. Pure.

use std::time::Duration;

use super::{Engine, GateKey};
use crate::creation::borrow::Borrow;
use crate::creation::call::Order;
use crate::creation::gate::Gate;

impl Engine {
    /// Whether a set is left to ARC for a while.
    pub fn is_suspended(&self, uid: &str, now: Duration) -> bool {
        self.sets.get(uid).is_some_and(|borrow| borrow.is_suspended(now))
    }

    /// Whether runners are being made for any set.
    pub fn is_making(&self) -> bool {
        self.sets.values().any(Borrow::is_making)
    }

    /// Whether this name stands in a journal.
    pub fn knows(&self, set: &str, runner: &str) -> bool {
        self.sets.get(set).is_some_and(|borrow| borrow.has(runner))
    }

    /// The sets that are known.
    pub fn sets(&self) -> impl Iterator<Item = &Borrow> {
        self.sets.values()
    }

    /// The gates, for metrics.
    pub fn gates(&self) -> impl Iterator<Item = (&GateKey, &Gate)> {
        self.gates.iter()
    }

    /// Whether Pods are made too.
    pub fn makes_pods(&self) -> bool {
        self.settings.with_pods
    }

    /// How many calls are under way.
    pub fn in_flight(&self) -> usize {
        self.calls.len()
    }

    /// Whether a set is there.
    pub fn has_set(&self, uid: &str) -> bool {
        self.sets.contains_key(uid)
    }

    /// How many runners of a set there are, by ARC's own count, and how many its listener asks for.
    pub fn count(&self, uid: &str) -> Option<(usize, usize)> {
        let borrow = self.sets.get(uid)?;
        Some((borrow.live(), borrow.asked()?))
    }

    /// Whether what is ordered has just failed before.
    pub fn is_retry(&self, order: &Order) -> bool {
        self.sets.get(&order.place.uid).is_some_and(|borrow| borrow.failures(&order.task) > 0)
    }

    /// How many sets are pinned as they were seen last.
    pub fn pinned(&self) -> usize {
        self.sets.values().filter(|borrow| borrow.holds_a_pin()).count()
    }

    /// Whether a runner of that name is there.
    pub fn has_runner(&self, set: &str, name: &str) -> bool {
        self.sets.get(set).is_some_and(|borrow| borrow.sees(name))
    }
}
