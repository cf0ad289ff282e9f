//! ARC's manager: queues, workers, buckets and the registration mutex around the passes; still without I/O.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::bucket::Bucket;
use super::cache::Cache;
use super::calls::{Answer, Call, End, Step};
use super::flags::{Flags, Generation};
use super::objects::{Key, Kind, LISTENER_FINALIZER, Object, Text};
use super::queue::Queue;
use super::runner::RunnerPass;
use super::runner_set::SetPass;
use super::scale_set::ScalePass;

/// The controllers that work.
const CONTROLLERS: [Kind; 4] = [Kind::ScaleSet, Kind::RunnerSet, Kind::Runner, Kind::Listener];

/// A worker of a controller; it has one call under way at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    controller: Kind,
    worker: usize,
}

/// What a watch shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It is there, or has changed.
    Put(Arc<Object>),
    /// It is gone.
    Gone(Kind, Key),
}

/// The manager. A crash is to drop it; the next one begins with an empty cache.
pub struct Manager {
    flags: Flags,
    namespace: Text,
    cache: Cache,
    queues: BTreeMap<Kind, Queue>,
    working: BTreeMap<Ticket, Work>,
    buckets: BTreeMap<Kind, Bucket>,
    clients: BTreeMap<Text, VecDeque<Ticket>>,
    leaving: BTreeSet<(Duration, u64, Ticket)>,
    counter: u64,
}

struct Work {
    key: Key,
    pass: Pass,
    call: Option<Call>,
}

enum Pass {
    ScaleSet(ScalePass),
    RunnerSet(SetPass),
    Runner(Box<RunnerPass>),
    Listener(Option<Call>),
}

impl Manager {
    /// A manager that has just started, in this namespace.
    pub fn new(flags: Flags, namespace: &str) -> Self {
        Self {
            flags,
            namespace: namespace.into(),
            cache: Cache::default(),
            queues: CONTROLLERS.into_iter().map(|kind| (kind, Queue::default())).collect(),
            working: BTreeMap::new(),
            buckets: BTreeMap::new(),
            clients: BTreeMap::new(),
            leaving: BTreeSet::new(),
            counter: 0,
        }
    }

    /// What it knows.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Which ARC it is.
    pub fn generation(&self) -> Generation {
        self.flags.generation
    }

    /// A watch shows a change.
    pub fn observe(&mut self, change: Change) {
        let object = match change {
            Change::Put(object) => self.cache.put(Arc::clone(&object)).then_some(object),
            Change::Gone(kind, key) => self.cache.remove(kind, &key),
        };
        let Some(object) = object else { return };
        let mut look = |controller: Kind, key: Key| {
            if let Some(queue) = self.queues.get_mut(&controller) {
                queue.add(key);
            }
        };
        let meta = object.meta();
        match &*object {
            Object::Listener(listener) => look(Kind::ScaleSet, listener.scale_set.clone()),
            Object::RunnerSet(_) => drop(meta.owner_of(Kind::ScaleSet).map(|key| look(Kind::ScaleSet, key))),
            Object::Runner(_) => drop(meta.owner_of(Kind::RunnerSet).map(|key| look(Kind::RunnerSet, key))),
            Object::Pod(_) => drop(meta.owner_of(Kind::Runner).map(|key| look(Kind::Runner, key))),
            Object::ScaleSet(_) | Object::Secret(_) | Object::ConfigMap(_) => {}
        }
        look(object.kind(), meta.key.clone());
    }

    /// Calls that leave now. Each has to be answered with [`Self::answer`], in whatever order.
    pub fn poll(&mut self, now: Duration) -> Vec<(Ticket, Call)> {
        self.queues.values_mut().for_each(|queue| queue.promote(now));
        while self.start(now) {}
        let mut calls = Vec::new();
        while let Some(first) = self.leaving.first().copied().filter(|(at, _, _)| *at <= now) {
            self.leaving.remove(&first);
            if let Some(call) = self.working.get(&first.2).and_then(|work| work.call.clone()) {
                calls.push((first.2, call));
            }
        }
        calls
    }

    /// When to ask again, if nothing happens before.
    pub fn wake(&self) -> Option<Duration> {
        let leaving = self.leaving.first().map(|(at, _, _)| *at);
        self.queues.values().filter_map(Queue::wake).chain(leaving).min()
    }

    /// What a call brought.
    pub fn answer(&mut self, ticket: Ticket, answer: &Answer, now: Duration) {
        let Some(work) = self.working.get_mut(&ticket) else { return };
        let called = work.call.take();
        if called.is_some_and(|call| call.bucket().is_none()) {
            self.release(ticket, now);
        }
        self.advance(ticket, Some(answer), now);
    }

    /// Whether it has nothing to do, now or later.
    pub fn idle(&self) -> bool {
        self.working.is_empty() && self.wake().is_none() && self.queues.values().all(Queue::idle)
    }

    /// A free worker takes the next item, if there are both.
    fn start(&mut self, now: Duration) -> bool {
        for controller in CONTROLLERS {
            let workers = if controller == Kind::Runner { self.flags.workers } else { 1 };
            let free = (0..workers)
                .map(|worker| Ticket { controller, worker })
                .find(|ticket| !self.working.contains_key(ticket));
            let key = free.and_then(|_| self.queues.get_mut(&controller)?.take());
            if let (Some(ticket), Some(key)) = (free, key) {
                let pass = self.pass(controller, &key);
                self.working.insert(ticket, Work { key, pass, call: None });
                self.advance(ticket, None, now);
                return true;
            }
        }
        false
    }

    fn pass(&self, controller: Kind, key: &Key) -> Pass {
        match controller {
            Kind::ScaleSet => {
                Pass::ScaleSet(ScalePass::begin(key, &self.cache, &self.flags, &self.namespace))
            }
            Kind::RunnerSet => Pass::RunnerSet(SetPass::begin(key, &self.cache, &self.flags)),
            Kind::Runner => Pass::Runner(Box::new(RunnerPass::begin(key, &self.cache))),
            // Of listeners only their end is modelled; their pods are played elsewhere.
            _ => Pass::Listener(self.cache.get(Kind::Listener, key).map(Object::meta).and_then(|meta| {
                let ends = meta.deleting && meta.has(LISTENER_FINALIZER);
                ends.then(|| Call::Finalizers(Kind::Listener, key.clone(), meta.without(LISTENER_FINALIZER)))
            })),
        }
    }

    fn advance(&mut self, ticket: Ticket, answer: Option<&Answer>, now: Duration) {
        let Some(work) = self.working.get_mut(&ticket) else { return };
        let step = match &mut work.pass {
            Pass::ScaleSet(pass) => pass.step(answer),
            Pass::RunnerSet(pass) => pass.step(answer),
            Pass::Runner(pass) => pass.step(&self.cache, &self.flags, now, answer),
            Pass::Listener(call) => call.take().map_or(Step::End(End::Done), Step::Call),
        };
        match step {
            Step::Call(call) => {
                let bucket = call.bucket();
                let client = work.key.namespace.clone();
                work.call = Some(call);
                match bucket {
                    Some(kind) => {
                        let (qps, burst) = (self.flags.qps, self.flags.burst);
                        let bucket = self.buckets.entry(kind).or_insert_with(|| Bucket::new(qps, burst));
                        let wait = bucket.take(now);
                        self.leave(ticket, now + wait);
                    }
                    None => {
                        let line = self.clients.entry(client).or_default();
                        line.push_back(ticket);
                        if line.len() == 1 {
                            self.leave(ticket, now);
                        }
                    }
                }
            }
            Step::End(end) => self.finish(ticket, end, now),
        }
    }

    fn leave(&mut self, ticket: Ticket, at: Duration) {
        self.counter += 1;
        self.leaving.insert((at, self.counter, ticket));
    }

    /// One call of a service client at a time: the next in line may leave.
    fn release(&mut self, ticket: Ticket, now: Duration) {
        let line = self.clients.values_mut().find(|line| line.front() == Some(&ticket));
        let next = line.and_then(|line| {
            line.pop_front();
            line.front().copied()
        });
        if let Some(next) = next {
            self.leave(next, now);
        }
    }

    fn finish(&mut self, ticket: Ticket, end: End, now: Duration) {
        let Some(work) = self.working.remove(&ticket) else { return };
        let Some(queue) = self.queues.get_mut(&ticket.controller) else { return };
        match end {
            End::Done => queue.forget(&work.key),
            End::After(wait) => {
                queue.forget(&work.key);
                queue.add_at(work.key.clone(), now + wait);
            }
            End::Backoff => queue.fail(work.key.clone(), now),
        }
        queue.done(&work.key);
    }
}
