//! The leader's watches: they lag, bring things twice or once more from before, break off and list everything anew; and while
//! the leader is cut off they bring nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use headstart_controller::creation::seen::Known;
use headstart_tests::arc::model::manager::Change;
use headstart_tests::arc::model::{Key, Kind, Object};
use kube::runtime::watcher::Event as Watched;

use super::broken::Broken;
use super::shown::{self, Shown};
use super::world::{Event, Watcher, World, ms};

/// What a leader watches.
pub(crate) const KINDS: [Kind; 4] = [Kind::RunnerSet, Kind::Runner, Kind::ScaleSet, Kind::Listener];

/// A watch that has been broken for so long counts for nothing.
const BROKEN: Duration = Duration::from_secs(10);

/// How many of the last things a watch may bring once more.
const PAST: usize = 4;

/// One watch of a leader.
#[derive(Default)]
pub(crate) struct Watch {
    known: Known,
    /// Whether everything was listed once.
    pub(crate) is_listed: bool,
    /// Whether it brings what happens.
    is_open: bool,
    /// Since when it does not, although it did.
    blind: Option<Duration>,
}

impl Watch {
    /// Whether what it brought still counts.
    pub(crate) fn is_sound(&self, now: Duration) -> bool {
        self.is_listed && self.blind.is_none_or(|since| now < since + BROKEN)
    }
}

/// Something that a watch brings: an object that is there, or one that was.
#[derive(Clone)]
pub(crate) struct Delivery {
    object: Arc<Object>,
    is_gone: bool,
}

/// What watches could bring, by kind, and when they brought nothing.
#[derive(Default)]
pub(crate) struct Deliveries {
    there: BTreeMap<(Kind, Key), Arc<Object>>,
    past: BTreeMap<Kind, VecDeque<Delivery>>,
    gaps: Vec<(Duration, Duration)>,
    /// Runners that were ever shown, by name.
    pub(crate) shown: BTreeSet<String>,
}

impl World {
    /// What has changed is on its way to the leader, if its watch works.
    pub(crate) fn show_leader(&mut self, change: &Change) {
        let delivery = match change {
            Change::Put(object) => {
                let at = (object.kind(), object.key().clone());
                self.deliveries.there.insert(at, Arc::clone(object));
                Delivery { object: Arc::clone(object), is_gone: false }
            }
            Change::Gone(kind, key) => {
                let Some(object) = self.deliveries.there.remove(&(*kind, key.clone())) else { return };
                Delivery { object, is_gone: true }
            }
        };
        let kind = delivery.object.kind();
        let past = self.deliveries.past.entry(kind).or_default();
        past.push_back(delivery.clone());
        if past.len() > PAST {
            past.pop_front();
        }
        if !self.leader.as_ref().is_some_and(|leader| leader.watches[&kind].is_open) {
            return;
        }
        match self.rng.u64(..100) {
            fate if fate >= self.manners.losses => self.deliver(kind, delivery),
            fate if fate % 3 == 0 => {
                self.deliver(kind, delivery.clone());
                self.deliver(kind, delivery);
            }
            fate if fate % 3 == 1 => {
                self.deliver(kind, delivery);
                // Once more from a little before.
                for again in self.deliveries.past[&kind].clone() {
                    self.deliver(kind, again);
                }
            }
            _ => {
                let rest = self.between(20, 1_000);
                self.go_blind(kind, self.now + rest);
            }
        }
    }

    fn deliver(&mut self, kind: Kind, delivery: Delivery) {
        let lag = self.between(1, self.manners.our_lag);
        let at = self.arrival(Watcher::Leader, kind, lag);
        self.at(at, Event::Brought(self.term, delivery));
    }

    /// A watch of the leader breaks off, and what happens until it lists everything anew goes unseen.
    fn go_blind(&mut self, kind: Kind, until: Duration) {
        let (now, lag) = (self.now, self.manners.our_lag);
        let at = self.arrival(Watcher::Leader, kind, Duration::ZERO).max(until);
        let Some(watch) = self.leader.as_mut().and_then(|leader| leader.watches.get_mut(&kind)) else {
            return;
        };
        watch.is_open = false;
        watch.blind.get_or_insert(now);
        self.deliveries.gaps.push((now, at + ms(lag)));
        self.at(at, Event::Listed(self.term, kind));
    }

    /// All watches of the leader are cut off, and come back one by one.
    pub(crate) fn cut_watches(&mut self, until: Duration) {
        for kind in KINDS {
            let wait = self.between(10, 1_500);
            self.go_blind(kind, until + wait);
        }
    }

    /// Before when at the latest whatever the leader knew at a time had happened.
    pub(crate) fn picture(&self, time: Duration) -> Duration {
        let lag = ms(self.manners.our_lag + 50);
        let gaps = self.deliveries.gaps.iter();
        let blind = gaps.filter(|(from, until)| *from <= time && time <= *until).map(|(from, _)| *from);
        blind.chain([time]).min().unwrap_or(time).saturating_sub(lag)
    }

    /// Whether the leader could not know by then that this runner has come to its end: it happened while no watch showed it, and
    /// what came and went meanwhile no later list tells of either.
    pub(crate) fn is_end_unseen(&self, runner: &str, end: Duration, by: Duration) -> bool {
        let is_shown = self.deliveries.shown.contains(runner);
        let mut gaps = self.deliveries.gaps.iter().filter(|(from, until)| *from <= end && end <= *until);
        gaps.any(|(_, until)| !is_shown || by <= *until)
    }

    /// A watch of the leader has listed everything there is.
    pub(crate) fn leader_lists(&mut self, term: u32, kind: Kind) {
        // What broke off and was cut off afterwards comes back with the rest.
        if term != self.term || self.leader.is_none() || self.is_cut_off() {
            return;
        }
        let objects: Vec<Arc<Object>> = self.store.of_kind(kind).cloned().map(Arc::new).collect();
        let shown: Vec<Shown> = objects.into_iter().map(|object| self.shown(object)).collect();
        let listed = shown.into_iter().map(Watched::InitApply);
        for event in [Watched::Init].into_iter().chain(listed).chain([Watched::InitDone]) {
            self.bring(kind, event);
        }
        let Some(watch) = self.leader.as_mut().and_then(|leader| leader.watches.get_mut(&kind)) else {
            return;
        };
        (watch.is_open, watch.blind) = (true, None);
        if !std::mem::replace(&mut watch.is_listed, true) {
            self.ripen();
        }
        self.engine_is_due();
    }

    /// A watch of the leader brings something.
    pub(crate) fn brought(&mut self, term: u32, delivery: Delivery) {
        if term != self.term || self.leader.is_none() {
            return;
        }
        let kind = delivery.object.kind();
        let shown = self.shown(delivery.object);
        self.bring(kind, if delivery.is_gone { Watched::Delete(shown) } else { Watched::Apply(shown) });
        self.engine_is_due();
    }

    fn bring(&mut self, kind: Kind, event: Watched<Shown>) {
        let watch = self.leader.as_mut().and_then(|leader| leader.watches.get_mut(&kind));
        let seen = watch.map(|watch| shown::seen(&mut watch.known, kind, event));
        seen.into_iter().flatten().for_each(|seen| self.take(seen));
    }

    fn shown(&self, object: Arc<Object>) -> Shown {
        let (uid, version) = (&*object.meta().uid, object.meta().version);
        let generation = self.watched.get(uid).and_then(|watched| watched.generation(version)).unwrap_or(0);
        Shown { object: self.misheard(object), generation }
    }

    /// Where the engine is not to hear of something.
    fn misheard(&self, object: Arc<Object>) -> Arc<Object> {
        match self.broken {
            Broken::DeletionUnheard if object.meta().deleting && object.kind() != Kind::Runner => {
                let mut object = Object::clone(&object);
                object.meta_mut().deleting = false;
                Arc::new(object)
            }
            _ => object,
        }
    }
}
