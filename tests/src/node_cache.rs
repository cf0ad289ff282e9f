//! The cache on a bed's node, as its administrator sees it: the folder, the agent's pod and process, and what is said of
//! them in the cluster.

use std::fs;
use std::path::PathBuf;

use headstart_externals::names::{NODE_CONDITION, REPORT_ANNOTATION};
use headstart_externals::report::{NodeReport, VersionReport};
use headstart_externals::state::{Phase, PublishedState};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::bed::boxed::NODE;
use crate::bed::headstart::{NAMESPACE, published};
use crate::bed::{Cluster, Turn};
use crate::schema::assert_status;
use crate::wait::until;

/// The DaemonSet of the agent.
pub const AGENT: &str = "headstart-cachesync";

/// A node label that no node has.
const NOWHERE: &str = "bed.test/nowhere";

/// The cache of the one node.
pub struct NodeCache<'c> {
    cluster: &'c Cluster,
    client: Client,
}

/// A container that runs; both numbers grow when it is started anew.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    /// How often it was.
    pub restarts: i32,
    /// Its first process, as the node counts.
    pub process: u32,
}

impl<'c> NodeCache<'c> {
    /// That of this cluster.
    pub fn of(turn: &Turn<'c>) -> Self {
        Self { cluster: turn.cluster, client: turn.client.clone() }
    }

    /// A path below the root, as this machine sees it.
    pub fn path(&self, below: &str) -> PathBuf {
        self.cluster.bed().place().path("disk/var/lib/headstart").join(below)
    }

    /// What lies in a folder of the root; nothing if the folder is not there.
    pub fn list(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// What kubectl gets, if it is there.
    pub fn get(&self, words: &[&str]) -> Option<Value> {
        let words = [&["get", "--output=json"], words].concat();
        self.cluster.kubectl(&words).ok().map(|text| serde_json::from_str(&text).unwrap())
    }

    /// Waits until what is published is as `is_so` says.
    pub async fn published(&self, what: &str, is_so: impl Fn(&PublishedState) -> bool) -> PublishedState {
        until(what, || async { published(&self.client).await.ok().filter(|state| is_so(state)) }).await
    }

    /// Waits until new pods are given a version of a profile; which one.
    pub async fn offered(&self, profile: &str) -> String {
        let of = format!("{profile}-");
        until(&format!("a version of {profile} is offered"), || async {
            let versions = published(&self.client).await.ok()?.versions.into_iter();
            let offered = versions.filter(|version| version.phase == Phase::Offered);
            offered.map(|version| version.name.to_string()).find(|name| name.starts_with(&of))
        })
        .await
    }

    /// Waits until the node's report says so of a version.
    pub async fn reports(&self, version: &str, what: &str, is_so: impl Fn(&VersionReport) -> bool) {
        until(&format!("the report of {version}: {what}"), || async {
            let found = self.reported(version)?;
            is_so(&found).then_some(())
        })
        .await;
    }

    /// What the node's report says of a version now.
    pub fn reported(&self, version: &str) -> Option<VersionReport> {
        let lease = self.get(&["lease", NODE, "--namespace", NAMESPACE])?;
        let report = lease["metadata"]["annotations"][REPORT_ANNOTATION].as_str()?;
        let versions = NodeReport::parse(report).unwrap().versions;
        versions.into_iter().find(|found| found.name.as_str() == version)
    }

    /// Waits until the node's condition has this status and reason; its message.
    pub async fn becomes(&self, status: &str, reason: &str) -> String {
        until(&format!("the node's cache is {status}, {reason}"), || async {
            let node = self.get(&["node", NODE])?;
            let conditions = node["status"]["conditions"].as_array()?.clone();
            let found = conditions.into_iter().find(|found| found["type"] == NODE_CONDITION)?;
            let is_so = found["status"] == status && found["reason"] == reason;
            is_so.then(|| found["message"].as_str().unwrap_or_default().to_owned())
        })
        .await
    }

    /// Waits for an Event about an object whose message says that.
    pub async fn event(&self, (namespace, about): (&str, &str), reason: &str, what: &str) -> String {
        let field = format!("--field-selector=reason={reason},involvedObject.name={about}");
        until(&format!("the Event {reason} about {about}: {what}"), || async {
            let found = self.get(&["events", "--namespace", namespace, &field])?;
            let messages = found["items"].as_array()?.iter().filter_map(|event| event["message"].as_str());
            messages.map(str::to_owned).find(|message| message.contains(what))
        })
        .await
    }

    /// The agent's pod, once it serves.
    pub async fn agent(&self) -> Pod {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let its = ListParams::default().labels(&format!("app.kubernetes.io/name={AGENT}"));
        until("the agent serves", || async {
            let pods = api.list(&its).await.ok()?.items;
            pods.into_iter().find(|pod| pod.metadata.deletion_timestamp.is_none() && is_ready(pod))
        })
        .await
    }

    /// Waits for a status of the agent that `is_so` accepts.
    pub async fn status(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let pod = self.agent().await;
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{}:8081/proxy/v1/status", pod.name_any());
        until(what, || async {
            let text = self.cluster.kubectl(&["get", "--raw", &path]).ok()?;
            let status: Value = serde_json::from_str(&text).unwrap();
            assert_status(&status);
            is_so(&status).then_some(status)
        })
        .await
    }

    /// Waits until the first container of a pod has been started anew so often and is ready.
    pub async fn running(&self, namespace: &str, name: &str, restarts: i32) -> Running {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        until(&format!("{name} runs, {restarts} times started anew"), || async {
            let pod = api.get(name).await.ok().filter(is_ready)?;
            let status = pod.status?.container_statuses?.into_iter().next()?;
            let process = self.process(status.container_id?.strip_prefix("containerd://")?)?;
            let running = Running { restarts: status.restart_count, process };
            (running.restarts >= restarts).then_some(running)
        })
        .await
    }

    /// The first process of a container.
    fn process(&self, container: &str) -> Option<u32> {
        let tasks = self.cluster.ctr(&["tasks", "list"]).ok()?;
        let its = tasks.lines().find_map(|line| line.strip_prefix(container))?;
        its.split_whitespace().next()?.parse().ok()
    }

    /// Kills a process of the node, which has no say in it.
    pub fn kill(&self, running: Running) {
        self.cluster.bed().run_inside(&["sh", "-c", &format!("kill -9 {}", running.process)]).unwrap();
    }

    /// Every DaemonSet of ours: the agent and the stages.
    pub fn daemon_sets(&self) -> Vec<String> {
        let found = self.get(&["daemonsets", "--namespace", NAMESPACE]).unwrap();
        let names = found["items"].as_array().unwrap().iter().map(|item| &item["metadata"]["name"]);
        names.map(|name| name.as_str().unwrap().to_owned()).collect()
    }

    /// Takes the pods of these DaemonSets away until the answer is dropped.
    pub async fn hold_back(&self, names: &[String]) -> HeldBack<'c> {
        let held = HeldBack { cluster: self.cluster, names: names.to_vec() };
        held.place(&json!("yes")).unwrap();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        until(&format!("{names:?} have no pods"), || async {
            let pods = api.list(&ListParams::default()).await.ok()?.items;
            let mut owners = pods.iter().flat_map(|pod| pod.owner_references());
            (!owners.any(|owner| names.contains(&owner.name))).then_some(())
        })
        .await;
        held
    }
}

/// DaemonSets whose pods are held back.
pub struct HeldBack<'c> {
    cluster: &'c Cluster,
    names: Vec<String>,
}

impl HeldBack<'_> {
    fn place(&self, value: &Value) -> anyhow::Result<()> {
        let selector = json!({ "spec": { "template": { "spec": { "nodeSelector": { NOWHERE: value } } } } });
        let patch = selector.to_string();
        self.names.iter().try_for_each(|name| {
            let patch = ["patch", "daemonset", name, "--type=merge", "--patch", &patch];
            self.cluster.kubectl(&[&patch[..], &["--namespace", NAMESPACE]].concat()).map(drop)
        })
    }
}

impl Drop for HeldBack<'_> {
    fn drop(&mut self) {
        let _ = self.place(&Value::Null);
    }
}

fn is_ready(pod: &Pod) -> bool {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut ready = statuses.map(|status| status.ready).peekable();
    ready.peek().is_some() && ready.all(|ready| ready)
}
