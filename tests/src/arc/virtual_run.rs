//! The model of ARC over a virtual API server and clock: a time-ordered queue of what happens next.

use std::collections::BTreeMap;
use std::time::Duration;

use super::apply::{patch_set, served, stored};
use super::model::calls::{Answer, Call};
use super::model::manager::{Change, Ticket};
use super::model::objects::{
    Container, Key, Kind, Meta, Object, Phase, RunnerSet, SCALE_SET_FINALIZER, ScaleSet,
};
use super::model::{Flags, Manager};
use super::store::Store;
use crate::actions_service::Service;

/// How fast the played machine and service are.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// What one call of the API server keeps a core busy for, its client's part included.
    pub call: Duration,
    /// How many cores there are.
    pub cores: usize,
    /// From storing to the manager's cache.
    pub watch: Duration,
    /// From the pod to its being run.
    pub kubelet: Duration,
    /// What a registration takes.
    pub registration: Duration,
    /// What any other call of the service takes.
    pub service: Duration,
}

/// Namespace of the runners.
pub const NAMESPACE: &str = "runners";

/// Everything, and what happens next.
pub struct VirtualRun {
    /// The API server.
    pub store: Store,
    /// The service.
    pub service: Service,
    /// ARC.
    pub manager: Manager,
    /// Calls of the manager, by bucket; those of the service have none.
    pub calls: BTreeMap<Option<Kind>, u64>,
    /// The runner set.
    pub set: Key,
    /// Its id at the service.
    pub scale_set_id: i64,
    pace: Pace,
    now: Duration,
    next: BTreeMap<(Duration, u64), Event>,
    counter: u64,
    cores: Vec<Duration>,
    shown: usize,
    seen: usize,
    waking: Option<Duration>,
    jitter: fastrand::Rng,
}

/// Something that happens at its time.
enum Event {
    Effect(Ticket, Call),
    Served(Ticket, Call),
    Answer(Ticket, Answer),
    Show(usize),
    Run(Key),
    Gone(Key),
    Wake,
    Act(Box<dyn FnOnce(&mut VirtualRun)>),
}

impl Default for Pace {
    /// A machine as the real ARC was measured on, with a service that answers at once.
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { call: ms(6), cores: 2, watch: ms(3), kubelet: ms(20), registration: ms(0), service: ms(1) }
    }
}

impl VirtualRun {
    /// A scale set without runners, once ARC has come to rest.
    pub fn new(flags: Flags, pace: Pace, seed: u64) -> Self {
        let mut service = Service::new("http://service", 0);
        let scale_set_id = service.add_set("set", 1);
        let mut run = Self {
            store: Store::new(seed),
            service,
            manager: Manager::new(flags, "arc"),
            calls: BTreeMap::new(),
            set: Key::new(NAMESPACE, "set"),
            scale_set_id,
            pace,
            now: Duration::ZERO,
            next: BTreeMap::new(),
            counter: 0,
            cores: vec![Duration::ZERO; pace.cores],
            shown: 0,
            seen: 0,
            waking: None,
            jitter: fastrand::Rng::with_seed(seed),
        };
        run.install();
        run
    }

    fn install(&mut self) {
        let meta = Meta::new(self.set.clone()).finalized(&[SCALE_SET_FINALIZER]);
        let (scale_set_id, template) = (self.scale_set_id, "one".into());
        let set = ScaleSet { meta, scale_set_id, template, min: 0, max: 1000, phase: Phase::Running };
        self.store.create(Object::ScaleSet(set), self.now).unwrap();
        let rest = Duration::from_secs(20);
        self.run_until(rest);
        let set = self.store.of_kind(Kind::RunnerSet).next().unwrap();
        self.set = set.key().clone();
        self.calls.clear();
    }

    /// The time.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// The runner set as it is stored.
    pub fn runner_set(&self) -> &RunnerSet {
        self.store.get(Kind::RunnerSet, &self.set).and_then(Object::runner_set).unwrap()
    }

    /// How many objects of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.store.of_kind(kind).count()
    }

    /// How many pods run.
    pub fn running(&self) -> usize {
        let pods = self.store.of_kind(Kind::Pod).filter_map(Object::pod);
        pods.filter(|pod| pod.phase == Phase::Running).count()
    }

    /// Calls of the manager that draw from a bucket; without one, those of the service.
    pub fn called(&self, bucket: Option<Kind>) -> u64 {
        self.calls.get(&bucket).copied().unwrap_or(0)
    }

    /// The listener writes, past any webhook.
    pub fn patch(&mut self, replicas: i64, patch_id: i64) {
        patch_set(&mut self.store, &self.set.clone(), replicas, patch_id).unwrap();
        self.happened();
    }

    /// Does something at a time.
    pub fn at(&mut self, time: Duration, act: impl FnOnce(&mut Self) + 'static) {
        self.plan(time, Event::Act(Box::new(act)));
    }

    /// Changes what is stored; everybody hears of it as usual.
    pub fn change<T>(&mut self, change: impl FnOnce(&mut Store, Duration) -> T) -> T {
        let outcome = change(&mut self.store, self.now);
        self.happened();
        outcome
    }

    /// The manager ends and starts again: it knows nothing, and what it had under way it never hears of.
    pub fn restart_manager(&mut self, flags: Flags) {
        self.manager = Manager::new(flags, "arc");
        self.next.retain(|_, event| !matches!(event, Event::Answer(..) | Event::Show(_)));
        self.waking = None;
        // What was sent is done all the same, and nobody waits for it.
        let sent: Vec<(Duration, u64)> =
            self.next.iter().filter(|(_, it)| it.is_call()).map(|(at, _)| *at).collect();
        for at in sent {
            match self.next.remove(&at) {
                Some(Event::Effect(_, call)) => {
                    drop(stored(&mut self.store, flags.generation, call, self.now))
                }
                Some(Event::Served(_, call)) => drop(served(&mut self.service, &call, self.now)),
                _ => {}
            }
        }
        (self.shown, self.seen) = (0, 0);
        self.happened();
    }

    /// Lets everything happen until that time.
    pub fn run_until(&mut self, time: Duration) {
        self.run_while(time, |_| true);
    }

    /// Lets things happen while it is so, at most until that time; whether it is no longer so.
    pub fn run_while(&mut self, limit: Duration, go_on: impl Fn(&Self) -> bool) -> bool {
        self.happened();
        while go_on(self) {
            match self.next.first_entry() {
                Some(entry) if entry.key().0 <= limit => {
                    let ((at, _), event) = entry.remove_entry();
                    self.now = at;
                    self.happen(event);
                }
                _ => {
                    self.now = limit;
                    return false;
                }
            }
        }
        true
    }

    fn plan(&mut self, at: Duration, event: Event) {
        self.counter += 1;
        self.next.insert((at.max(self.now), self.counter), event);
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Effect(ticket, call) => {
                let generation = self.manager.generation();
                let answer = stored(&mut self.store, generation, call, now);
                self.manager.answer(ticket, &answer, now);
            }
            Event::Served(ticket, call) => {
                let answer = served(&mut self.service, &call, now);
                let latency = self.latency(&call) / 2;
                self.plan(now + latency, Event::Answer(ticket, answer));
            }
            Event::Answer(ticket, answer) => self.manager.answer(ticket, &answer, now),
            Event::Show(until) => {
                let changes = self.store.since(self.shown);
                let count = until.saturating_sub(self.shown).min(changes.len());
                for change in changes[..count].iter().cloned() {
                    self.manager.observe(change);
                }
                self.shown += count;
            }
            Event::Run(key) => {
                let ran = self.store.update(Kind::Pod, &key, None, |object| {
                    let pod = object.pod_mut().unwrap();
                    (pod.phase, pod.ready, pod.container) = (Phase::Running, true, Container::Alive);
                    Ok(())
                });
                if ran.is_ok() {
                    self.service.online(&key.name, now);
                }
            }
            Event::Gone(key) => drop(self.store.delete(Kind::Pod, &key)),
            Event::Wake => self.waking = None,
            Event::Act(act) => act(self),
        }
        self.happened();
    }

    /// Shows what is new to those who watch, and lets the manager make its calls.
    fn happened(&mut self) {
        let events = self.store.events();
        if self.seen < events {
            let news = self.store.since(self.seen).to_vec();
            self.seen = events;
            self.plan(self.now + self.pace.watch, Event::Show(events));
            for change in news {
                self.play_kubelet(&change);
            }
        }
        for (ticket, call) in self.manager.poll(self.now) {
            *self.calls.entry(call.bucket()).or_default() += 1;
            if call.bucket().is_some() {
                let done = self.compute();
                self.plan(done, Event::Effect(ticket, call));
            } else {
                let heard = self.now + self.latency(&call) / 2;
                self.plan(heard, Event::Served(ticket, call));
            }
        }
        if let Some(wake) = self.manager.wake().filter(|wake| self.waking.is_none_or(|known| *wake < known)) {
            self.waking = Some(wake);
            self.plan(wake, Event::Wake);
        }
    }

    fn play_kubelet(&mut self, change: &Change) {
        let Change::Put(object) = change else { return };
        let Some(pod) = object.pod() else { return };
        let key = pod.meta.key.clone();
        if pod.meta.deleting {
            self.plan(self.now, Event::Gone(key));
        } else if pod.phase == Phase::Empty {
            let written = self.compute();
            self.plan(written + self.pace.kubelet, Event::Run(key));
        }
    }

    /// When a call that leaves now is done: cores work on calls in the order in which they come.
    fn compute(&mut self) -> Duration {
        let now = self.now;
        let share = 0.75 + self.jitter.f64() / 2.0;
        let call = self.pace.call.mul_f64(share);
        let core = self.cores.iter_mut().min().unwrap();
        *core = (*core).max(now) + call;
        *core
    }

    fn latency(&self, call: &Call) -> Duration {
        match call {
            Call::Register(..) => self.pace.registration.max(self.pace.service),
            _ => self.pace.service,
        }
    }
}

impl Event {
    fn is_call(&self) -> bool {
        matches!(self, Self::Effect(..) | Self::Served(..))
    }
}
