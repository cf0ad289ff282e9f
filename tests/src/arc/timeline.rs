//! When what of a burst of runners was there, as the API server tells everybody who watches: the same for every ARC, with
//! and without Headstart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use headstart_externals::pin::Stored;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::task::JoinSet;

use super::objects::{RUNNER_SETS, RUNNERS, api};
use crate::wait::within;

/// What becomes of every runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Milestone {
    /// Its EphemeralRunner is there.
    Runner,
    /// Its Secret is there, so it is registered.
    Secret,
    /// Its Pod is there.
    Pod,
    /// Its Pod runs.
    Running,
    /// ARC says that it runs.
    Reported,
}

/// Watches one namespace until it is dropped.
pub struct Timeline {
    seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    generations: Vec<(Instant, Stored)>,
    first: BTreeMap<(Milestone, String), Instant>,
    live: BTreeMap<Milestone, BTreeSet<String>>,
    most: BTreeMap<Milestone, usize>,
}

/// What an object says about the runner of its name.
type Says = fn(&DynamicObject) -> Vec<Milestone>;

impl Timeline {
    /// Begins to watch; what is there already counts from now on.
    pub fn follow(client: &Client, namespace: &str) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut tasks = JoinSet::new();
        let native = |resource: ApiResource| Api::namespaced_with(client.clone(), namespace, &resource);
        let followed: [(Api<DynamicObject>, Says, &[Milestone]); 3] = [
            (api(client, namespace, RUNNERS), runner, &[Milestone::Runner, Milestone::Reported]),
            (native(ApiResource::erase::<Secret>(&())), secret, &[Milestone::Secret]),
            (native(ApiResource::erase::<Pod>(&())), pod, &[Milestone::Pod, Milestone::Running]),
        ];
        for (objects, says, milestones) in followed {
            tasks.spawn(follow(objects, says, milestones, seen.clone()));
        }
        tasks.spawn(generations(api(client, namespace, RUNNER_SETS), seen.clone()));
        Self { seen, _tasks: tasks }
    }

    /// The generations of runner sets as they were stored, oldest first; equal ones in a row count once.
    pub fn generations(&self) -> Vec<Stored> {
        self.seen.lock().unwrap().generations.iter().map(|(_, stored)| *stored).collect()
    }

    /// When so many runners were asked for, the last time that this was news.
    pub fn asked(&self, runners: u32) -> Option<Instant> {
        let seen = self.seen.lock().unwrap();
        let wanted = |stored: &Stored| replicas(*stored) == i64::from(runners);
        let at = |(at, stored): &(Instant, Stored)| wanted(stored).then_some(*at);
        // What is handed back is the same wish: the first of its row.
        seen.generations.iter().rev().skip_while(|(_, stored)| !wanted(stored)).map_while(at).last()
    }

    /// How many are at this milestone now.
    pub fn live(&self, milestone: Milestone) -> usize {
        self.seen.lock().unwrap().live.get(&milestone).map_or(0, BTreeSet::len)
    }

    /// The names of those that are at this milestone now.
    pub fn names(&self, milestone: Milestone) -> BTreeSet<String> {
        self.seen.lock().unwrap().live.get(&milestone).cloned().unwrap_or_default()
    }

    /// How many were at this milestone at once, at most.
    pub fn most(&self, milestone: Milestone) -> usize {
        self.seen.lock().unwrap().most.get(&milestone).copied().unwrap_or_default()
    }

    /// How many have ever been at this milestone.
    pub fn ever(&self, milestone: Milestone) -> usize {
        self.seen.lock().unwrap().first.keys().filter(|(at, _)| *at == milestone).count()
    }

    /// How long after `begun` each runner was at this milestone, the fastest first.
    pub fn times(&self, milestone: Milestone, begun: Instant) -> Vec<Duration> {
        let seen = self.seen.lock().unwrap();
        let at = seen.first.iter().filter(|((at, _), _)| *at == milestone).map(|(_, at)| *at);
        let mut times: Vec<Duration> =
            at.filter(|at| *at >= begun).map(|at| at.duration_since(begun)).collect();
        times.sort();
        times
    }

    /// Waits until exactly so many are at this milestone.
    pub async fn reaches(&self, milestone: Milestone, runners: usize, patience: Duration) {
        let there = || async { (self.live(milestone) == runners).then_some(()) };
        if within(patience, there).await.is_none() {
            let live = self.live(milestone);
            panic!("{live} runners at {milestone:?} after {patience:?}, expected {runners}");
        }
    }
}

impl Seen {
    fn is_at(&mut self, name: &str, milestone: Milestone) {
        let now = Instant::now();
        self.first.entry((milestone, name.to_owned())).or_insert(now);
        let live = self.live.entry(milestone).or_default();
        live.insert(name.to_owned());
        let most = self.most.entry(milestone).or_default();
        *most = live.len().max(*most);
    }

    fn no_longer(&mut self, name: &str, milestones: &[Milestone]) {
        for milestone in milestones {
            self.live.entry(*milestone).or_default().remove(name);
        }
    }
}

/// How many runners the listener asked for.
pub fn replicas(stored: Stored) -> i64 {
    match stored {
        Stored::Raw { replicas, .. } => replicas,
        Stored::Pinned(generation) => generation.replicas.into(),
    }
}

async fn follow(
    objects: Api<DynamicObject>,
    says: Says,
    milestones: &'static [Milestone],
    seen: Arc<Mutex<Seen>>,
) {
    let events = watcher(objects, Config::default()).default_backoff();
    let mut events = std::pin::pin!(events.filter_map(async |event| event.ok()));
    while let Some(event) = events.next().await {
        let mut seen = seen.lock().unwrap();
        match event {
            Event::Apply(object) | Event::InitApply(object) => {
                let name = object.name_any();
                let at = says(&object);
                let (now, past): (Vec<_>, Vec<_>) = milestones.iter().partition(|it| at.contains(it));
                now.into_iter().for_each(|milestone| seen.is_at(&name, milestone));
                seen.no_longer(&name, &past);
            }
            Event::Delete(object) => seen.no_longer(&object.name_any(), milestones),
            Event::Init | Event::InitDone => {}
        }
    }
}

async fn generations(sets: Api<DynamicObject>, seen: Arc<Mutex<Seen>>) {
    let events = watcher(sets, Config::default()).default_backoff().applied_objects();
    let mut events = std::pin::pin!(events.filter_map(async |event| event.ok()));
    while let Some(set) = events.next().await {
        let number = |field: &str| set.data["spec"][field].as_i64().unwrap_or_default();
        let stored = Stored::read(number("replicas"), number("patchID"));
        let mut seen = seen.lock().unwrap();
        if seen.generations.last().is_none_or(|(_, last)| *last != stored) {
            seen.generations.push((Instant::now(), stored));
        }
    }
}

fn runner(runner: &DynamicObject) -> Vec<Milestone> {
    let reported = runner.data["status"]["phase"] == "Running";
    std::iter::once(Milestone::Runner).chain(reported.then_some(Milestone::Reported)).collect()
}

/// Other Secrets have no such key.
fn secret(secret: &DynamicObject) -> Vec<Milestone> {
    let registered = secret.data["data"]["jitToken"].is_string();
    registered.then_some(Milestone::Secret).into_iter().collect()
}

fn pod(pod: &DynamicObject) -> Vec<Milestone> {
    if pod.labels().get("actions-ephemeral-runner").map(String::as_str) != Some("True") {
        return vec![];
    }
    let running = pod.data["status"]["phase"] == "Running";
    std::iter::once(Milestone::Pod).chain(running.then_some(Milestone::Running)).collect()
}
