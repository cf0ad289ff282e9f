//! The agents of played nodes: they follow the configuration and the published state by the rule of the real ones, do in
//! a moment what those do in their time, and write the same reports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use headstart_externals::config::Config;
use headstart_externals::fault::FaultReason;
use headstart_externals::names::STATE_KEY;
use headstart_externals::recipe::wanted;
use headstart_externals::state::{Phase, PublishedState};
use headstart_externals::version::VersionName;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::interval;

use crate::played::{OURS, lease};

/// How often they look.
const TICK: Duration = Duration::from_millis(250);

/// How often they renew a report that says nothing new.
const RENEWAL: Duration = Duration::from_secs(60);

/// How an agent behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// What it has to install is there at its next look.
    #[default]
    Working,
    /// It keeps what it has; what it has to install goes on installing.
    Slow,
    /// It keeps what it has; what it has to install fails for this reason.
    Failing(FaultReason),
    /// It does nothing and says nothing.
    Silent,
}

/// Agents that work until this is dropped.
pub struct PlayedAgents {
    manners: Arc<Mutex<BTreeMap<String, Manner>>>,
    task: JoinHandle<()>,
}

/// One node's disk, and what was last reported of it.
#[derive(Default)]
struct Disk {
    ready: BTreeSet<VersionName>,
    installing: BTreeSet<VersionName>,
    reported: Option<(Vec<Value>, Instant)>,
}

impl PlayedAgents {
    /// One on each of these nodes.
    pub fn start(client: &Client, nodes: impl IntoIterator<Item = String>) -> Self {
        let manners = nodes.into_iter().map(|node| (node, Manner::default())).collect();
        let manners = Arc::new(Mutex::new(manners));
        let task = tokio::spawn(work(client.clone(), manners.clone()));
        Self { manners, task }
    }

    /// The agent of that node, which may be a further one, behaves like that from now on.
    pub fn behave(&self, node: &str, manner: Manner) {
        self.manners.lock().unwrap().insert(node.to_owned(), manner);
    }
}

impl Drop for PlayedAgents {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn work(client: Client, manners: Arc<Mutex<BTreeMap<String, Manner>>>) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), OURS);
    let leases: Api<Lease> = Api::namespaced(client, OURS);
    let mut disks: BTreeMap<String, Disk> = BTreeMap::new();
    let mut ticks = interval(TICK);
    loop {
        ticks.tick().await;
        let Some(config) = text(&maps, "headstart-config", "config.yaml").await else { continue };
        let Ok(config) = Config::parse(&config) else { continue };
        let state = text(&maps, "headstart-state", STATE_KEY).await;
        let state = state.and_then(|state| PublishedState::parse(&state).ok());
        let now: Vec<_> = manners.lock().unwrap().clone().into_iter().collect();
        for (node, manner) in now.into_iter().filter(|(_, manner)| *manner != Manner::Silent) {
            let disk = disks.entry(node.clone()).or_default();
            let versions = disk.look(&config, state.as_ref(), manner);
            disk.report(&leases, &node, versions).await;
        }
    }
}

async fn text(maps: &Api<ConfigMap>, name: &str, key: &str) -> Option<String> {
    maps.get(name).await.ok()?.data?.remove(key)
}

impl Disk {
    /// Does what is due, and gives what there is to report.
    fn look(&mut self, config: &Config, state: Option<&PublishedState>, manner: Manner) -> Vec<Value> {
        let wanted: BTreeSet<VersionName> =
            wanted(config, state).into_iter().map(|wanted| wanted.version).collect();
        let published = state.map_or(&[][..], |state| &state.versions);
        let is_retired = |name: &VersionName| {
            published.iter().any(|version| version.name == *name && version.phase == Phase::Retired)
        };
        self.ready.retain(|name| wanted.contains(name) || !is_retired(name));
        if manner == Manner::Working {
            self.ready.extend(self.installing.iter().filter(|name| wanted.contains(*name)).cloned());
        }
        self.installing = wanted.difference(&self.ready).cloned().collect();
        let there = self.ready.iter().map(|name| {
            let state = if wanted.contains(name) { "ready" } else { "kept" };
            json!({ "name": name, "state": state, "wanted": wanted.contains(name) })
        });
        let coming = self.installing.iter().map(|name| match manner {
            Manner::Failing(reason) => {
                json!({ "name": name, "state": "failed", "reason": reason, "wanted": true })
            }
            _ => json!({ "name": name, "state": "installing", "wanted": true }),
        });
        there.chain(coming).collect()
    }

    /// Says it if it is news, or has not been said for long. What fails is said again at the next look.
    async fn report(&mut self, leases: &Api<Lease>, node: &str, versions: Vec<Value>) {
        let is_known = |(known, at): &(Vec<Value>, Instant)| *known == versions && at.elapsed() < RENEWAL;
        if self.reported.as_ref().is_some_and(is_known) {
            return;
        }
        let mut lease = lease(node, &versions);
        // As a renewal does, it changes the object.
        lease["spec"] = json!({ "holderIdentity": format!("{node}-{:08x}", fastrand::u32(..)) });
        let how = PatchParams::apply("played-agent").force();
        if leases.patch(node, &how, &Patch::Apply(lease)).await.is_ok() {
            self.reported = Some((versions, Instant::now()));
        }
    }
}
