//! All runner sets together: who may call next, and whose answer it was. Pure: it is told what is there, what came of calls
//! and what time it is, and says which calls to make. The process around it, and a simulation of it, do the rest.

mod asked;
mod gates;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use fastrand::Rng;

use crate::creation::borrow::{Borrow, Context, Place, Timing, Wish};
use crate::creation::call::{Answer, Call, CallId, Order, Task, Upstream};
use crate::creation::gate::backoff::Backoff;
use crate::creation::gate::{Admission, Gate, Permit, Signal};
use crate::creation::journal::Journal;
use crate::creation::report::{News, Stop};
use crate::creation::runner::Goal;
use crate::creation::view::{RunnerView, SetView};
pub use gates::GateKey;

/// How runners are made.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Most calls at once to each upstream.
    pub concurrency: NonZeroU32,
    /// Whether Pods are made too, or left to ARC.
    pub with_pods: bool,
    /// How long things may take.
    pub timing: Timing,
}

/// What is known of a set beside the set itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether its listener and its AutoscalingRunnerSet are there to stay.
    pub is_attended: bool,
    /// Whether we may make runners for it.
    pub is_enabled: bool,
    /// Which Actions service it registers at: all sets with the same word share one gate.
    pub service: String,
}

/// What has to be done now.
#[derive(Debug, Default)]
pub struct Step {
    /// The calls to make.
    pub orders: Vec<Order>,
    /// When to ask again although nothing happens.
    pub wake: Option<Duration>,
    /// What people are told.
    pub news: Vec<(Place, News)>,
}

#[derive(Debug)]
pub(super) struct InFlight {
    set: String,
    task: Task,
    begun: Duration,
    /// Of the gate that it went through, if it went through one.
    permit: Option<(GateKey, Permit)>,
}

/// A wish of a set, and when its turn is.
#[derive(Debug)]
struct Wanted {
    uid: String,
    turn: (u8, usize, CallId),
    /// `None` for what waits for nobody.
    key: Option<GateKey>,
    wish: Wish,
}

/// The engine.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    rng: Rng,
    pub(super) sets: BTreeMap<String, Borrow>,
    services: BTreeMap<String, String>,
    /// The last call of each set.
    served: BTreeMap<String, CallId>,
    pub(super) gates: BTreeMap<GateKey, Gate>,
    pub(super) calls: BTreeMap<CallId, InFlight>,
    last_call: u64,
    /// Runners of sets that are not known yet: their watches know no order.
    strays: BTreeMap<String, BTreeMap<String, RunnerView>>,
    news: Vec<(Place, News)>,
}

impl Engine {
    /// An engine that knows nothing yet. `seed` decides every name and every pause.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            rng: Rng::with_seed(seed),
            sets: BTreeMap::new(),
            services: BTreeMap::new(),
            served: BTreeMap::new(),
            gates: BTreeMap::new(),
            calls: BTreeMap::new(),
            last_call: 0,
            strays: BTreeMap::new(),
            news: Vec::new(),
        }
    }

    /// Other settings from now on; the gates keep theirs.
    pub fn configure(&mut self, with_pods: bool) {
        self.settings.with_pods = with_pods;
    }

    /// Takes over the journal of an earlier leader. Before the next [`Self::step`], all that exists must be observed.
    /// The last journal of a leader that died may appear late: all that are listed later are given here too, known or not.
    pub fn inherit(&mut self, journal: Journal, now: Duration, unix_ms: i64) {
        let age = u64::try_from(unix_ms.saturating_sub(journal.pinned_at)).unwrap_or(0);
        let place = Place {
            uid: journal.set.clone(),
            namespace: journal.namespace.clone(),
            name: journal.set_name.clone(),
            owner: journal.owner.clone(),
        };
        self.with(&place, now, unix_ms, |borrow, context| {
            borrow.inherit(journal, Duration::from_millis(age), context)
        });
        self.adopt(&place.uid, now);
    }

    fn adopt(&mut self, uid: &str, now: Duration) {
        let Some(borrow) = self.sets.get_mut(uid) else { return };
        let runners = self.strays.remove(uid).unwrap_or_default();
        runners.into_values().for_each(|view| borrow.runner(view, now));
    }

    /// A set is stored like this.
    pub fn set(&mut self, view: SetView, now: Duration) {
        let place = Place {
            uid: view.uid.clone(),
            namespace: view.namespace.clone(),
            name: view.name.clone(),
            owner: view.owner.clone(),
        };
        let uid = place.uid.clone();
        self.sets.entry(uid.clone()).or_insert_with(|| Borrow::new(place, now)).observe(view, now);
        self.adopt(&uid, now);
    }

    /// A set is not there any more.
    pub fn set_gone(&mut self, uid: &str) {
        if let Some(borrow) = self.sets.get_mut(uid) {
            borrow.set_gone();
        }
    }

    /// A runner is stored like this.
    pub fn runner(&mut self, view: RunnerView, now: Duration) {
        match self.sets.get_mut(&view.set) {
            Some(borrow) => borrow.runner(view, now),
            None => {
                self.strays.entry(view.set.clone()).or_default().insert(view.name.clone(), view);
            }
        }
    }

    /// A runner is not there any more.
    pub fn runner_gone(&mut self, set: &str, name: &str) {
        if let Some(borrow) = self.sets.get_mut(set) {
            borrow.runner_gone(name);
        }
        if let Some(strays) = self.strays.get_mut(set) {
            strays.remove(name);
            if strays.is_empty() {
                self.strays.remove(set);
            }
        }
    }

    /// What else is known of a set; before that nothing is made for it.
    pub fn stands(&mut self, uid: &str, standing: Standing) {
        if let Some(borrow) = self.sets.get_mut(uid) {
            borrow.is_known = true;
            borrow.is_attended = standing.is_attended;
            borrow.is_enabled = standing.is_enabled;
            self.services.insert(uid.to_owned(), standing.service);
        }
    }

    /// Takes the answer to a call.
    pub fn answered(&mut self, id: CallId, answer: Answer, now: Duration, unix_ms: i64) {
        let Some(InFlight { set, task, begun, permit }) = self.calls.remove(&id) else { return };
        let latency = now.saturating_sub(begun);
        let (signal, retry_after) = match &answer {
            Answer::Trouble(trouble) => (trouble.signal(), trouble.retry_after()),
            _ => (Signal::Success { latency }, None),
        };
        if let Some((key, permit)) = permit
            && let Some(gate) = self.gates.get_mut(&key)
        {
            gate.finish(permit, signal, now, &mut self.rng);
        }
        let failures = self.sets.get(&set).map_or(0, |borrow| borrow.failures(&task)) + 1;
        let pause = Backoff::default().delay(failures, retry_after, &mut self.rng);
        if let Some(place) = self.sets.get(&set).map(|borrow| borrow.place().clone()) {
            self.with(&place, now, unix_ms, |borrow, context| borrow.answered(&task, answer, pause, context));
        }
    }

    /// Decides what to do now. `unix_ms` is the same moment in milliseconds of the Unix epoch.
    pub fn step(&mut self, now: Duration, unix_ms: i64) -> Step {
        let mut orders = Vec::new();
        let mut wake = None;
        // A stop because of an open breaker leads to other wishes, and each breaker stops once.
        for _ in 0..self.gates.len() + 2 {
            let places: Vec<Place> = self.sets.values().map(|borrow| borrow.place().clone()).collect();
            for place in &places {
                self.with(place, now, unix_ms, Borrow::update);
            }
            let (is_stopped, next) = self.admit(&mut orders, now, unix_ms);
            wake = next;
            if !is_stopped {
                break;
            }
        }
        let sets = self.sets.values().filter_map(|borrow| borrow.wake(now, &self.settings.timing));
        let wake = sets.chain(wake).min();
        let (services, served) = (&mut self.services, &mut self.served);
        self.sets.retain(|uid, borrow| {
            let is_kept = !borrow.is_gone();
            if !is_kept {
                services.remove(uid);
                served.remove(uid);
            }
            is_kept
        });
        self.drop_gates();
        Step { orders, wake, news: std::mem::take(&mut self.news) }
    }

    /// Lets wishes through the gates, most urgent first; sets take turns. A hand-back waits at none: it is one call for a whole
    /// set, and while it waits nobody makes runners there. Gives whether a set was stopped, and when a gate
    /// opens.
    fn admit(&mut self, orders: &mut Vec<Order>, now: Duration, unix_ms: i64) -> (bool, Option<Duration>) {
        let wishes = self.wishes(now, unix_ms);
        let mut closed: Vec<(GateKey, Option<Duration>)> = Vec::new();
        let (mut wake, mut stopped) = (None::<Duration>, BTreeSet::new());
        for wanted in wishes {
            // What a set that was stopped wished before counts no more.
            if stopped.contains(&wanted.uid) {
                continue;
            }
            let Some(key) = wanted.key.clone() else {
                orders.extend(self.begin(wanted, None, now));
                continue;
            };
            if let Some((_, open)) = closed.iter().find(|(closed, _)| *closed == key) {
                if open.is_some() && self.breaker_is_open(&wanted, &key, now, unix_ms) {
                    stopped.insert(wanted.uid);
                }
                continue;
            }
            let concurrency = self.settings.concurrency;
            let gate = self.gates.entry(key.clone()).or_insert_with(|| Gate::new(concurrency));
            let until = match gate.admit(now) {
                Admission::Go(permit) => {
                    orders.extend(self.begin(wanted, Some((key, permit)), now));
                    continue;
                }
                Admission::Wait { until } => {
                    closed.push((key, None));
                    until
                }
                Admission::Open { until } => {
                    if self.breaker_is_open(&wanted, &key, now, unix_ms) {
                        stopped.insert(wanted.uid);
                    }
                    closed.push((key, Some(until)));
                    Some(until)
                }
            };
            wake = wake.into_iter().chain(until).min();
        }
        (!stopped.is_empty(), wake)
    }

    /// The wishes of all sets in their order. Of two that are as urgent, that of the set goes first which has fewer calls
    /// under way there, its earlier wishes counted in; then that of the set which has waited longer.
    fn wishes(&mut self, now: Duration, unix_ms: i64) -> Vec<Wanted> {
        let mut under_way: BTreeMap<(String, GateKey), usize> = BTreeMap::new();
        for InFlight { set, permit, .. } in self.calls.values() {
            if let Some((key, _)) = permit {
                *under_way.entry((set.clone(), key.clone())).or_default() += 1;
            }
        }
        let mut all = Vec::new();
        let places: Vec<Place> = self.sets.values().map(|borrow| borrow.place().clone()).collect();
        for place in places {
            let served = self.served.get(&place.uid).copied().unwrap_or_default();
            let mut ahead: BTreeMap<(u8, Upstream), usize> = BTreeMap::new();
            for wish in self.with(&place, now, unix_ms, |borrow, context| borrow.wishes(context)) {
                let upstream = wish.task.call.upstream();
                let key = self.key(&place.uid, upstream);
                if let Call::HandBack(_) = wish.task.call {
                    all.push(Wanted {
                        uid: place.uid.clone(),
                        turn: (wish.urgency, 0, served),
                        key: None,
                        wish,
                    });
                    continue;
                }
                let ahead = ahead.entry((wish.urgency, upstream)).or_insert_with(|| {
                    under_way.get(&(place.uid.clone(), key.clone())).copied().unwrap_or(0)
                });
                all.push(Wanted {
                    uid: place.uid.clone(),
                    turn: (wish.urgency, *ahead, served),
                    key: Some(key),
                    wish,
                });
                *ahead += 1;
            }
        }
        all.sort_by_key(|wanted| wanted.turn);
        all
    }

    fn begin(&mut self, wanted: Wanted, permit: Option<(GateKey, Permit)>, now: Duration) -> Option<Order> {
        let Wanted { uid, wish: Wish { task, .. }, .. } = wanted;
        let borrow = self.sets.get_mut(&uid)?;
        self.last_call += 1;
        let id = CallId(self.last_call);
        self.served.insert(uid.clone(), id);
        borrow.begin(id, &task, now);
        let place = borrow.place().clone();
        self.calls.insert(id, InFlight { set: uid, task: task.clone(), begun: now, permit });
        Some(Order { id, place, task })
    }

    /// A set whose runners cannot be made gives them back; what only cleans up waits.
    fn breaker_is_open(&mut self, wanted: &Wanted, key: &GateKey, now: Duration, unix_ms: i64) -> bool {
        let Some(borrow) = self.sets.get(&wanted.uid) else { return false };
        if !borrow.is_making() || borrow.goal(&wanted.wish.task.runner) == Some(Goal::Unmake) {
            return false;
        }
        let upstream = match key {
            GateKey::Kubernetes => "the API server",
            GateKey::Service(_) => "the Actions service",
        };
        let place = borrow.place().clone();
        self.with(&place, now, unix_ms, |borrow, context| borrow.stop(Stop::BreakerOpen(upstream), context));
        true
    }

    fn with<T>(
        &mut self,
        place: &Place,
        now: Duration,
        unix_ms: i64,
        act: impl FnOnce(&mut Borrow, &mut Context<'_>) -> T,
    ) -> T {
        let Self { settings, rng, sets, news, .. } = self;
        let ceiling = usize::try_from(settings.concurrency.get()).unwrap_or(usize::MAX);
        let mut context = Context {
            now,
            unix_ms,
            timing: &settings.timing,
            with_pods: settings.with_pods,
            most_under_way: ceiling.saturating_mul(2),
            rng,
            news,
        };
        let borrow = sets.entry(place.uid.clone()).or_insert_with(|| Borrow::new(place.clone(), now));
        act(borrow, &mut context)
    }
}
