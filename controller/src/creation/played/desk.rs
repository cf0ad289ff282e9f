//! An engine driven by hand, for tests that tell one story each: every call goes well unless the test says otherwise.

use std::num::NonZeroU32;
use std::time::Duration;

use headstart_externals::pin::{Generation, Stored};
use secrecy::SecretString;

use super::store::{Er, Set};
use crate::creation::borrow::Timing;
use crate::creation::call::{Answer, Call, FoundSecret, Order, Trouble};
use crate::creation::engine::{Engine, Settings, Standing};
use crate::creation::report::News;

/// The engine and what was seen of it.
pub(super) struct Desk {
    pub(super) engine: Engine,
    pub(super) now: Duration,
    /// Calls that are not answered yet.
    pub(super) open: Vec<Order>,
    pub(super) news: Vec<News>,
    /// Every call that was ordered: its code, its runner, and its stamp if it has one.
    pub(super) calls: Vec<(&'static str, String, Option<i64>)>,
    pub(super) generation: i64,
    pub(super) counted: usize,
    /// Whether runners that are made are shown at once.
    pub(super) is_shown: bool,
    ids: i64,
}

pub(super) fn pinned(replicas: u32, patch_id: u32) -> Stored {
    Stored::Pinned(Generation { replicas, patch_id })
}

pub(super) fn quota() -> Answer {
    Answer::Trouble(Trouble::Quota("exceeded quota: q".to_owned()))
}

impl Desk {
    pub(super) fn new(concurrency: u32) -> Self {
        let concurrency = NonZeroU32::new(concurrency).unwrap();
        let settings = Settings { concurrency, with_pods: true, timing: Timing::default() };
        Self {
            engine: Engine::new(settings, 7),
            now: Duration::from_secs(1),
            open: Vec::new(),
            news: Vec::new(),
            calls: Vec::new(),
            generation: 0,
            counted: 0,
            is_shown: true,
            ids: 0,
        }
    }

    /// Shows the set `u` as stored; every other set by [`Self::show_set`].
    pub(super) fn show(&mut self, stored: Stored) {
        self.generation += 1;
        self.show_set("u", stored);
    }

    pub(super) fn show_set(&mut self, uid: &str, stored: Stored) {
        let (generation, counted) = (self.generation, self.counted);
        let set = Set { stored, generation, counted, ..Set::new(uid) };
        self.engine.set(set.view(), self.now);
        let standing = Standing { is_attended: true, is_enabled: true, service: "s".to_owned() };
        self.engine.stands(uid, standing);
    }

    pub(super) fn show_runner(&mut self, set: &str, name: &str) {
        let (uid, set) = (format!("of-{name}"), set.to_owned());
        let er = Er { uid, set, stamp: 1, is_deleting: false, runner_id: None };
        self.engine.runner(er.view(name), self.now);
    }

    pub(super) fn step(&mut self) -> Option<Duration> {
        let unix = 1_700_000_000_000 + i64::try_from(self.now.as_millis()).unwrap();
        let step = self.engine.step(self.now, unix);
        for order in step.orders {
            let stamp = match order.task.call {
                Call::CreateRunner { stamp } => Some(stamp),
                _ => None,
            };
            self.calls.push((order.task.call.code(), order.task.runner.clone(), stamp));
            self.open.push(order);
        }
        self.news.extend(step.news.into_iter().map(|(_, news)| news));
        step.wake
    }

    /// Lets time pass, with a step at the end.
    pub(super) fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        self.step();
    }

    /// Answers the oldest open call of that code.
    pub(super) fn answer(&mut self, code: &str, answer: Answer) -> String {
        let at = self.open.iter().position(|order| order.task.call.code() == code);
        let order = self.open.remove(at.unwrap_or_else(|| panic!("no {code} in {:?}", self.open)));
        self.engine.answered(order.id, answer, self.now, 0);
        order.task.runner
    }

    /// Steps and answers well what is not held back, until nothing is left to answer.
    pub(super) fn run(&mut self, held: &[&str]) {
        self.step();
        while let Some(at) = self.open.iter().position(|order| !held.contains(&order.task.call.code())) {
            let order = self.open.remove(at);
            let (name, set) = (order.task.runner.clone(), order.place.uid.clone());
            let answer = self.well(&order.task.call, &name);
            let is_made = matches!(answer, Answer::Created(_));
            self.now += Duration::from_millis(1);
            self.engine.answered(order.id, answer, self.now, 0);
            if is_made && self.is_shown {
                self.show_runner(&set, &name);
            }
            self.step();
        }
    }

    pub(super) fn well(&mut self, call: &Call, name: &str) -> Answer {
        self.ids += 1;
        match call {
            Call::Register => {
                Answer::Registered { runner_id: self.ids, jit_config: SecretString::from("jit") }
            }
            Call::FindAgent => Answer::Agent(None),
            Call::GetSecret => Answer::Secret(None::<FoundSecret>),
            Call::CreateRunner { .. } => Answer::Created(format!("of-{name}")),
            Call::GetRunner => Answer::Runner(None),
            Call::HandBack(_) => Answer::Returned { generation: self.generation + 1 },
            _ => Answer::Done,
        }
    }

    pub(super) fn count(&self, code: &str) -> usize {
        self.calls.iter().filter(|(called, ..)| *called == code).count()
    }

    pub(super) fn stamps(&self) -> Vec<i64> {
        self.calls.iter().filter_map(|(.., stamp)| *stamp).collect()
    }
}
