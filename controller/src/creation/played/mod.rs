//! The engine played against a small world with faults, by seeds and in virtual time: watches that lag, calls that are lost
//! before or after they take effect, leaders that die, listeners that change their minds, and ARC beside it.

mod arc;
mod calls;
pub(super) mod desk;
mod lasting;
mod rules;
mod store;
mod stories;
mod story;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use fastrand::Rng;
use headstart_externals::pin::{Generation, Stored};

use self::arc::Arc;
use self::store::{Set, Store};
use super::borrow::Timing;
use super::call::{Answer, CallId, Order};
use super::engine::{Engine, Settings, Standing};
use super::view::{RunnerView, SetView};

/// Faults, kills and changes of mind end here, in milliseconds.
const END: u64 = 60_000;

/// Everything has come to rest by then.
const REST: u64 = 3_600_000;

/// How long a pin may still happen after the leader died.
const FRESH: u64 = 10_000;

#[derive(Debug)]
enum Event {
    SetSeen { term: u32, uid: String, seen: Option<(SetView, u32)> },
    RunnerSeen { term: u32, set: String, name: String, view: Option<RunnerView> },
    ArcSeesSet(String, Option<Stored>),
    ArcSeesRunner(String, String, Option<(i64, bool)>),
    ArcPass(String),
    ArcMakes { set: String, left: usize, stamp: i64, total: usize },
    ArcFinishes(String),
    CarryOut(Flight),
    Answered { term: u32, id: CallId, answer: Answer },
    Wake,
    Gone(String),
    Listener { set: String, replicas: u32, patch_id: u32 },
    Finish(u64),
    Kill,
    Start,
    Sweep(u32),
    Change(u8, String),
}

/// A call on its way.
#[derive(Clone, Debug)]
struct Flight {
    term: u32,
    order: Order,
    /// That of the set, as the engine saw it when it ordered the call.
    epoch: u32,
    /// When the answer comes after it, if one comes.
    reply: Option<u64>,
    is_late: bool,
}

/// How bad a world is.
#[derive(Clone, Copy, Debug)]
struct Manners {
    /// Share of calls that go wrong, in percent.
    faults: u64,
    /// Longest call.
    latency: u64,
    /// Longest lag of a watch.
    lag: u64,
    /// Share of pins that are stored raw, in percent.
    raw: u64,
    /// Whether the webhook sees what ARC owes.
    is_owed_seen: bool,
}

struct World {
    rng: Rng,
    now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    events: u64,
    manners: Manners,
    store: Store,
    arcs: BTreeMap<String, Arc>,
    /// To which set each runner ever belonged.
    owners: BTreeMap<String, String>,
    /// When the last object of each watch arrives.
    watches: [u64; 4],
    engine: Option<Engine>,
    term: u32,
    fresh_until: u64,
    /// What the engine was shown of each set, and the epoch of that.
    seen: BTreeMap<String, (SetView, u32)>,
    flying: BTreeMap<CallId, String>,
    wake: Option<u64>,
    story: Option<Vec<String>>,
    steps: u64,
}

impl World {
    fn new(seed: u64, with_story: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let manners = Manners {
            faults: [0, 5, 25][rng.usize(..3)],
            latency: [20, 150, 400][rng.usize(..3)],
            lag: [5, 80][rng.usize(..2)],
            raw: [0, 15][rng.usize(..2)],
            is_owed_seen: rng.bool(),
        };
        let mut world = Self {
            rng,
            now: 0,
            queue: BTreeMap::new(),
            events: 0,
            manners,
            store: Store::default(),
            arcs: BTreeMap::new(),
            owners: BTreeMap::new(),
            watches: [0; 4],
            engine: None,
            term: 0,
            fresh_until: 0,
            seen: BTreeMap::new(),
            flying: BTreeMap::new(),
            wake: None,
            story: with_story.then(Vec::new),
            steps: 0,
        };
        world.plot();
        world
    }

    fn push(&mut self, after: u64, event: Event) {
        self.events += 1;
        self.queue.insert((self.now + after, self.events), event);
    }

    fn tell(&mut self, line: String) {
        if let Some(story) = &mut self.story {
            story.push(format!("{:>9.3} {line}", self.now as f64 / 1000.0));
        }
    }

    /// Until nothing happens any more, or a rule is broken.
    fn play(&mut self) {
        while let Some(((at, _), event)) = self.queue.pop_first() {
            self.now = at;
            if at > REST {
                self.store.break_rule("it does not come to rest".to_owned());
            }
            self.happens(event);
            self.spread();
            if self.steps > 200_000 {
                self.store.break_rule("it never rests".to_owned());
            }
            if self.store.broken.is_some() {
                return;
            }
        }
        self.check_rest();
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::SetSeen { term, uid, seen } if term == self.term => self.set_seen(&uid, seen),
            Event::RunnerSeen { term, set, name, view } if term == self.term => {
                let now = self.moment();
                if let Some(engine) = &mut self.engine {
                    match view {
                        Some(view) => engine.runner(view, now),
                        None => engine.runner_gone(&set, &name),
                    }
                    self.step_soon();
                }
            }
            Event::Answered { term, id, answer } if term == self.term => self.answered(id, answer),
            Event::SetSeen { .. } | Event::RunnerSeen { .. } | Event::Answered { .. } => {}
            Event::ArcSeesSet(set, stored) => {
                self.arcs.entry(set.clone()).or_default().stored = stored;
                self.arc_is_due(&set);
            }
            Event::ArcSeesRunner(set, name, seen) => self.arc_sees(&set, &name, seen),
            Event::ArcPass(set) => self.arc_pass(&set),
            Event::ArcMakes { set, left, stamp, total } => self.arc_makes(&set, left, stamp, total),
            Event::ArcFinishes(name) => self.arc_finishes(&name),
            Event::CarryOut(flight) => self.carry_out(flight),
            Event::Wake if self.wake == Some(self.now) => self.step(),
            Event::Wake => {}
            Event::Gone(name) => self.gone(&name),
            Event::Listener { set, replicas, patch_id } => self.listener(&set, replicas, patch_id),
            Event::Finish(which) => self.runner_finishes(which),
            Event::Kill => self.kill(),
            Event::Start => self.start(),
            Event::Sweep(term) => self.sweep(term),
            Event::Change(what, set) => self.change(what, &set),
        }
    }

    fn moment(&self) -> Duration {
        Duration::from_millis(self.now)
    }

    fn kill(&mut self) {
        self.tell("the leader dies".to_owned());
        self.engine = None;
        self.fresh_until = self.now + FRESH;
        self.term += 1;
    }

    fn start(&mut self) {
        if self.engine.is_some() {
            return;
        }
        self.tell("a leader starts".to_owned());
        let timing = Timing::default();
        let concurrency = NonZeroU32::new(4).unwrap();
        let with_pods = self.rng.u8(..4) > 0;
        let mut engine = Engine::new(Settings { concurrency, with_pods, timing }, self.rng.u64(..));
        let now = self.moment();
        self.seen.clear();
        self.flying.clear();
        for set in self.store.sets.values() {
            engine.set(set.view(), now);
            self.seen.insert(set.uid.clone(), (set.view(), set.epoch));
        }
        for name in self.store.ers.keys() {
            engine.runner(self.store.view(name).unwrap(), now);
        }
        for journal in self.store.journals.values() {
            engine.inherit(journal.clone(), now, self.unix());
        }
        self.engine = Some(engine);
        self.push(31_000, Event::Sweep(self.term));
        self.step();
    }

    /// The last journal of an earlier leader may be written late.
    fn sweep(&mut self, term: u32) {
        let (now, unix) = (self.moment(), self.unix());
        let Some(engine) = self.engine.as_mut().filter(|_| term == self.term) else { return };
        self.store.journals.values().for_each(|journal| engine.inherit(journal.clone(), now, unix));
        self.step_soon();
    }

    fn unix(&self) -> i64 {
        1_700_000_000_000 + i64::try_from(self.now).unwrap()
    }

    fn set_seen(&mut self, uid: &str, seen: Option<(SetView, u32)>) {
        let now = self.moment();
        let Some(engine) = &mut self.engine else { return };
        match seen {
            Some((view, epoch)) => {
                engine.set(view.clone(), now);
                self.seen.insert(uid.to_owned(), (view, epoch));
            }
            None => {
                engine.set_gone(uid);
                self.seen.remove(uid);
            }
        }
        self.step_soon();
    }

    /// Most events lead to a step at once; some wait for the next.
    fn step_soon(&mut self) {
        if self.rng.u8(..4) > 0 { self.step() } else { self.wake_after(1) }
    }

    fn wake_after(&mut self, after: u64) {
        self.wake = Some(self.now + after);
        self.push(after, Event::Wake);
    }

    fn step(&mut self) {
        let (now, unix) = (self.moment(), self.unix());
        let Some(engine) = &mut self.engine else { return };
        for uid in self.seen.keys() {
            let set = self.store.sets.get(uid);
            let standing = Standing {
                is_attended: set.is_some_and(|set| set.is_attended),
                is_enabled: set.is_some_and(|set| set.is_enabled),
                service: "s".to_owned(),
            };
            engine.stands(uid, standing);
        }
        let step = engine.step(now, unix);
        self.steps += 1;
        for (place, news) in &step.news {
            self.tell(format!("news of {}: {news:?}", place.uid));
        }
        self.wake = None;
        if let Some(wake) = step.wake {
            if wake <= now {
                self.store.break_rule(format!("it wants to be woken at {wake:?}, and now is {now:?}"));
            }
            let after = u64::try_from((wake - now).as_nanos().div_ceil(1_000_000)).unwrap();
            self.wake_after(after);
        }
        for order in step.orders {
            self.check_order(&order);
            self.dispatch(order);
        }
    }

    /// What has changed travels to those who watch.
    fn spread(&mut self) {
        for (is_set, name) in std::mem::take(&mut self.store.changed) {
            if is_set {
                let set = self.store.sets.get(&name);
                let (seen, stored) = (set.map(|set| (set.view(), set.epoch)), set.map(|set| set.stored));
                self.travel(0, Event::SetSeen { term: self.term, uid: name.clone(), seen });
                self.travel(2, Event::ArcSeesSet(name, stored));
                continue;
            }
            let (view, er) = (self.store.view(&name), self.store.ers.get(&name).cloned());
            if let Some(er) = &er
                && !self.owners.contains_key(&name)
            {
                self.owners.insert(name.clone(), er.set.clone());
                let at = 1 + self.rng.u64(..400);
                self.push(at, Event::ArcFinishes(name.clone()));
            }
            let set = self.owners[&name].clone();
            if er.as_ref().is_some_and(|er| !er.is_deleting) && !self.store.sets.contains_key(&set) {
                self.delete(&name);
            }
            let stamp = er.map(|er| (er.stamp, !er.is_deleting));
            self.travel(1, Event::RunnerSeen { term: self.term, set: set.clone(), name: name.clone(), view });
            self.travel(3, Event::ArcSeesRunner(set, name, stamp));
        }
    }

    fn travel(&mut self, watch: usize, event: Event) {
        let at = self.now + 1 + self.rng.u64(..self.manners.lag);
        self.watches[watch] = self.watches[watch].max(at);
        let after = self.watches[watch] - self.now;
        self.push(after, event);
    }
}

/// Plays a seed; gives how many steps the engine took.
fn play(seed: u64) -> u64 {
    let mut world = World::new(seed, false);
    world.play();
    if world.store.broken.is_some() {
        let mut again = World::new(seed, true);
        again.play();
        let story = again.story.take().unwrap().join("\n");
        panic!("seed {seed}: {:?}\n{:?}\n{story}", again.store.broken.unwrap(), again.manners);
    }
    world.steps
}

/// The seeds that every run plays; more can be asked for by `HEADSTART_PLAYED=<first>..<end>`.
fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::var("HEADSTART_PLAYED").ok();
    let asked = asked.as_deref().and_then(|asked| asked.split_once(".."));
    asked.map_or(0..300, |(first, end)| first.parse().unwrap()..end.parse().unwrap())
}

#[test]
fn whatever_happens_no_rule_is_broken_and_nothing_is_left() {
    let steps: u64 = seeds().map(play).sum();
    assert!(steps > 0);
}
