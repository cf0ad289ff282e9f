//! The shipped manifests in a control plane whose nodes, agents and pods are played: objects that a test writes. The
//! controller runs as a process of this machine, with the rights that the manifests give it.

use std::path::PathBuf;

use headstart_externals::config::Config;
use headstart_externals::names::{NODE_CONDITION, REPORT_ANNOTATION, STATE_KEY, VERSION_LABEL};
use headstart_externals::state::{Phase, PublishedState};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bed::{ControlPlane, Minor};
use crate::identity::kubeconfig;
use crate::process::{Process, shipped};
use crate::wait::until;
use crate::{deploy, tree};

/// Headstart's own namespace.
pub const OURS: &str = "headstart-system";

/// The cluster; gone when dropped.
pub struct Played {
    /// Its control plane.
    pub control_plane: ControlPlane,
    /// For files of the test.
    pub folder: TempDir,
    config: PathBuf,
}

impl Played {
    /// Installs everything, with one revision named `test`.
    pub async fn new() -> Self {
        let control_plane = ControlPlane::start(Minor::Newest).await.unwrap();
        deploy::apply(&control_plane).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.yaml");
        let played = Self { control_plane, folder, config };
        played.configure(&tree::node16_config("{directory: {path: /srv/externals}}"));
        played
    }

    /// The same, where nobody declares nodes dead that no kubelet keeps alive, however long a test takes.
    pub async fn with_lasting_nodes() -> Self {
        let played = Self::new().await;
        played.control_plane.stop("kube-controller-manager").unwrap();
        played
    }

    /// Writes another configuration; the controller follows.
    pub fn configure(&self, text: &str) {
        // At once, as a mounted ConfigMap changes.
        let new = self.folder.path().join("config.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &self.config).unwrap();
    }

    /// A replica of the controller, with the token of its ServiceAccount.
    pub fn controller(&self, identity: &str) -> Process {
        let kubeconfig = kubeconfig(&self.control_plane, "headstart-controller", None, self.folder.path());
        let mut command = shipped("headstart-controller");
        command.args(["--namespace", OURS, "--admin-listen=127.0.0.1:0", "--identity", identity]);
        command.arg("--config").arg(&self.config).env("KUBECONFIG", kubeconfig);
        Process::spawn(command)
    }

    /// What kubectl gets, if it is there.
    pub fn get(&self, words: &[&str]) -> Option<Value> {
        let words = [&["get", "--output=json"], words].concat();
        self.control_plane.kubectl(&words).ok().map(|text| serde_json::from_str(&text).unwrap())
    }

    /// What is published.
    pub fn state(&self) -> Option<PublishedState> {
        let found = self.get(&["configmap", "headstart-state", "--namespace", OURS])?;
        Some(PublishedState::parse(found["data"][STATE_KEY].as_str()?).unwrap())
    }

    /// Waits until what is published is as `is_so` says.
    pub async fn published(&self, what: &str, is_so: impl Fn(&PublishedState) -> bool) -> PublishedState {
        until(what, || async { self.state().filter(|state| is_so(state)) }).await
    }

    /// Waits until the versions are in these phases, and no others are published.
    pub async fn phases(&self, expected: &[(&str, Phase)]) -> PublishedState {
        let what = format!("{expected:?}");
        self.published(&what, |state| phases(state) == expected).await
    }

    /// The version of the first revision.
    pub fn version(&self) -> String {
        let text = std::fs::read_to_string(&self.config).unwrap();
        Config::parse(&text).unwrap().revisions().next().unwrap().1.version.to_string()
    }

    /// A node whose kubelet says that it is ready, with taints as `key=value:effect`.
    pub fn add_node(&self, name: &str, taints: &[&str]) {
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name } });
        self.control_plane.apply(&node.to_string()).unwrap();
        for taint in taints {
            self.control_plane.kubectl(&["taint", "node", name, taint]).unwrap();
        }
        let ready =
            json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } }).to_string();
        self.control_plane
            .kubectl(&["patch", "node", name, "--subresource=status", "--patch", &ready])
            .unwrap();
    }

    /// What an agent on that node would report of the first revision.
    pub fn report(&self, node: &str, state: &str, reason: Option<&str>) {
        let mut version = json!({ "name": self.version(), "state": state, "wanted": true });
        if let Some(reason) = reason {
            version["reason"] = reason.into();
        }
        self.write_report(node, &[version]);
    }

    /// A report of versions by name and state; those that are kept are not wanted.
    pub fn holds(&self, node: &str, versions: &[(&str, &str)]) {
        let versions: Vec<Value> = versions
            .iter()
            .map(|(name, state)| json!({ "name": name, "state": state, "wanted": *state != "kept" }))
            .collect();
        self.write_report(node, &versions);
    }

    /// A report as it is.
    pub fn write_report(&self, node: &str, versions: &[Value]) {
        let lease = lease(node, versions);
        self.control_plane.apply(&lease.to_string()).unwrap();
    }

    /// A pod that carries a version and never ends by itself.
    pub fn add_pod(&self, name: &str, version: &str) {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "default", "labels": { VERSION_LABEL: version } },
            "spec": { "containers": [{ "name": "runner", "image": "x" }] },
        });
        self.control_plane.apply(&pod.to_string()).unwrap();
    }

    /// That pod has done its work.
    pub fn finish_pod(&self, name: &str) {
        let over = r#"--patch={"status": {"phase": "Succeeded"}}"#;
        self.control_plane.kubectl(&["patch", "pod", name, "--subresource=status", over]).unwrap();
    }

    /// Status and reason of the node's condition.
    pub fn condition(&self, node: &str) -> Option<(String, String)> {
        let node = self.get(&["node", node])?;
        let conditions = node["status"]["conditions"].as_array()?.clone();
        let found = conditions.iter().find(|condition| condition["type"] == NODE_CONDITION)?;
        Some((found["status"].as_str()?.to_owned(), found["reason"].as_str()?.to_owned()))
    }

    /// Waits for that.
    pub async fn becomes(&self, node: &str, status: &str, reason: &str) {
        let expected = Some((status.to_owned(), reason.to_owned()));
        until(&format!("{node} is {status}, {reason}"), || async {
            (self.condition(node) == expected).then_some(())
        })
        .await;
    }

    /// The messages of all Events with a reason about an object, oldest first.
    pub fn events(&self, namespace: &str, about: &str, reason: &str) -> Vec<String> {
        events(&self.control_plane, namespace, about, reason)
    }

    /// Waits for an Event whose message says that; returns the message.
    pub async fn event(&self, (namespace, about): (&str, &str), reason: &str, what: &str) -> String {
        until(&format!("the Event {reason} about {about}: {what}"), || async {
            self.events(namespace, about, reason).into_iter().find(|message| message.contains(what))
        })
        .await
    }

    /// Waits for an Event of the rollout whose message says that.
    pub async fn rollout_says(&self, reason: &str, what: &str) {
        self.event((OURS, "headstart-config"), reason, what).await;
    }
}

/// The Lease with which an agent reports these versions.
pub fn lease(node: &str, versions: &[Value]) -> Value {
    let report = json!({
        "apiVersion": "headstart.dev/v1", "kind": "NodeReport", "node": node, "arch": "amd64",
        "agent": "0.1.0", "versionCount": versions.len(), "versions": versions,
    });
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": node, "namespace": OURS, "labels": { "headstart.dev/report": "node" },
            "annotations": { REPORT_ANNOTATION: report.to_string() },
        },
    })
}

/// The messages of all Events with a reason about an object, oldest first.
pub fn events(control_plane: &ControlPlane, namespace: &str, about: &str, reason: &str) -> Vec<String> {
    let field = format!("--field-selector=reason={reason},involvedObject.name={about}");
    let sorted = "--sort-by=.metadata.creationTimestamp";
    let words = ["get", "--output=json", "events", "--namespace", namespace, &field, sorted];
    let found: Value = serde_json::from_str(&control_plane.kubectl(&words).unwrap()).unwrap();
    let message = |event: &Value| event["message"].as_str().unwrap().to_owned();
    found["items"].as_array().unwrap().iter().map(message).collect()
}

/// Every published version with its phase.
pub fn phases(state: &PublishedState) -> Vec<(&str, Phase)> {
    state.versions.iter().map(|version| (version.name.as_str(), version.phase)).collect()
}

/// The built-in profile with these revisions; `more` are further lines of the configuration.
pub fn revisions(names: &[&str], offer: Option<&str>, more: &str) -> String {
    let revision =
        |name: &&str| format!("      - {{revision: {name}, source: {{directory: {{path: /srv/{name}}}}}}}\n");
    let offer = offer.map_or(String::new(), |name| format!("    offer: {name}\n"));
    let revisions: String = names.iter().map(revision).collect();
    format!(
        "apiVersion: headstart.dev/v1\n{more}\nprofiles:\n  - name: node16\n    preset: node16\n{offer}    \
         revisions:\n{revisions}"
    )
}

/// The version of a revision in [`revisions`].
pub fn version(revision: &str) -> String {
    let config = Config::parse(&revisions(&[revision], None, "")).unwrap();
    config.revisions().next().unwrap().1.version.to_string()
}
