//! The model of ARC at work on a real API server: its manager, its listener, and the kubelet that runs its pods.

mod act;
mod agents;
mod kubelet;
mod listener;
mod read;
mod resources;
mod stage;
mod under_test;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use kube::api::DynamicObject;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::model::manager::{Change, Ticket};
use super::model::{Answer, Flags, Key, Kind, Manager};

pub use act::Actor;
pub use agents::Agents;
pub use kubelet::Kubelet;
pub use listener::{PlayedListener, Task};
pub use read::read;
pub use resources::{CRDS, api, crds_are_there, resource};
pub use stage::Stage;
pub use under_test::{Modelled, ModelledListener, ModelledManager, ModelledSet};

/// Kinds that the manager watches; Secrets it reads live.
const WATCHED: [Kind; 5] = [Kind::ScaleSet, Kind::RunnerSet, Kind::Runner, Kind::Listener, Kind::Pod];

/// The manager is asked again at least this often.
const LONG: Duration = Duration::from_secs(3600);

/// ARC's manager; it ends when dropped, as by a kill: calls that it has sent may still be done.
pub struct ArcManager {
    tasks: Vec<JoinHandle<()>>,
    calls: Counts,
}

/// How often the manager called, by bucket; calls of the service have none.
#[derive(Clone, Default)]
pub struct Counts(Arc<Mutex<BTreeMap<Option<Kind>, u64>>>);

impl Counts {
    /// Calls that draw from this bucket.
    pub fn of(&self, bucket: Option<Kind>) -> u64 {
        self.0.lock().unwrap().get(&bucket).copied().unwrap_or(0)
    }

    /// Begins to count anew.
    pub fn reset(&self) {
        self.0.lock().unwrap().clear();
    }

    fn add(&self, bucket: Option<Kind>) {
        *self.0.lock().unwrap().entry(bucket).or_default() += 1;
    }
}

impl ArcManager {
    /// Starts it for the sets in `watched`, or in all namespaces; `own` is the namespace of its listener objects, and
    /// `config_url` is where the service is.
    pub fn start(client: &Client, flags: Flags, own: &str, watched: Option<&str>, config_url: &str) -> Self {
        let (sender, changes) = unbounded_channel();
        let actor = Arc::new(Actor::new(
            client.clone(),
            flags.generation,
            Agents::new(config_url, "gha-scale-set-controller"),
        ));
        let mut tasks: Vec<JoinHandle<()>> = WATCHED
            .into_iter()
            .map(|kind| {
                let watched = if kind == Kind::Listener { Some(own) } else { watched };
                let api = match watched {
                    Some(namespace) => api(client, kind, namespace),
                    None => Api::all_with(client.clone(), &resource(kind)),
                };
                tokio::spawn(watch(api, kind, Arc::clone(&actor), sender.clone()))
            })
            .collect();
        let calls = Counts::default();
        let manager = Manager::new(flags, own);
        tasks.push(tokio::spawn(work(manager, actor, changes, calls.clone())));
        Self { tasks, calls }
    }

    /// What it called so far.
    pub fn calls(&self) -> &Counts {
        &self.calls
    }
}

impl Drop for ArcManager {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Makes the calls that the manager wants, and tells it what they brought and what its watches show.
async fn work(
    mut manager: Manager,
    actor: Arc<Actor>,
    mut changes: UnboundedReceiver<Change>,
    calls: Counts,
) {
    // Objects say when they were made since 1970, and the model compares.
    let (begun, origin) = (Instant::now(), SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap());
    let now = || origin + begun.elapsed();
    let mut under_way: JoinSet<(Ticket, Answer)> = JoinSet::new();
    loop {
        for (ticket, call) in manager.poll(now()) {
            calls.add(call.bucket());
            let actor = Arc::clone(&actor);
            under_way.spawn(async move { (ticket, actor.act(call).await) });
        }
        let wake = manager.wake().map_or(LONG, |wake| wake.saturating_sub(origin));
        tokio::select! {
            Some(change) = changes.recv() => manager.observe(change),
            Some(done) = under_way.join_next(), if !under_way.is_empty() => {
                if let Ok((ticket, answer)) = done {
                    manager.answer(ticket, &answer, now());
                }
            }
            () = sleep_until(begun + wake) => {}
        }
    }
}

/// An informer: what is there and what changes, as the API server's watch tells it.
async fn watch(api: Api<DynamicObject>, kind: Kind, actor: Arc<Actor>, changes: UnboundedSender<Change>) {
    let mut events = watcher(api, watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        let change = match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => {
                let value = serde_json::to_value(&object).unwrap();
                let Some(object) = read(kind, &value) else { continue };
                actor.remember(kind, object.key().clone(), value);
                Change::Put(Arc::new(object))
            }
            Ok(Event::Delete(object)) => {
                let namespace = object.metadata.namespace.unwrap_or_default();
                let key = Key::new(&namespace, &object.metadata.name.unwrap_or_default());
                actor.forget(kind, &key);
                Change::Gone(kind, key)
            }
            Ok(Event::Init | Event::InitDone) => continue,
            // The watcher begins anew by itself, without a pause here: the API server is on the same machine.
            Err(_) => continue,
        };
        if changes.send(change).is_err() {
            return;
        }
    }
}
