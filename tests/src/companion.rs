//! Headstart as it creates runners: the shipped controller and webhook as processes of this machine, with the rights of the
//! shipped manifests, in a cluster that has an ARC.

use std::path::PathBuf;
use std::process::Command;

use headstart_externals::names::{CREATION_ENABLED, CREATION_LABEL, RUNNER_SETS_KEY};
use headstart_externals::runner_sets::PublishedRunnerSets;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bed::ControlPlane;
use crate::host_webhook::HostWebhook;
use crate::identity::kubeconfig;
use crate::played::OURS;
use crate::process::{Process, shipped};
use crate::programs::repository;
use crate::wait::{DEADLINE, until, within};
use crate::{deploy, tree};

/// The example that creates runners, and the namespace that its RoleBinding is for.
const EXAMPLE: &str = "deploy/examples/runner-creation";
const NAMESPACE: &str = "arc-runners";

/// What of the manifests runs programs, or is registered apart.
const LEFT_OUT: [&str; 3] = ["Deployment", "DaemonSet", "MutatingWebhookConfiguration"];

/// Headstart beside an ARC.
pub struct Companion<'c> {
    /// The webhook; killed when dropped.
    pub webhook: HostWebhook,
    control_plane: &'c ControlPlane,
    folder: TempDir,
}

impl<'c> Companion<'c> {
    /// Installs the manifests and starts the webhook; no namespace asks for anything yet.
    pub async fn install(control_plane: &'c ControlPlane) -> Self {
        Self::apply(control_plane);
        Self::there(control_plane).await
    }

    /// Only the first half of [`Self::install`].
    pub fn apply(control_plane: &ControlPlane) {
        let mut objects = deploy::rendered(control_plane, &repository().join(EXAMPLE));
        objects.retain(|object| !LEFT_OUT.contains(&object["kind"].as_str().unwrap()) && !is_bound(object));
        control_plane.apply(&list(objects)).unwrap();
    }

    /// Where the manifests are installed: with a webhook of its own, that knows nothing of earlier ones.
    pub async fn there(control_plane: &'c ControlPlane) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = ["delete", "configmap", "headstart-state", "--ignore-not-found", "--namespace", OURS];
        control_plane.kubectl(&state).unwrap();
        let identity = kubeconfig(control_plane, "headstart-webhook", None, folder.path());
        let webhook = HostWebhook::follow(&identity).await;
        webhook.register(control_plane, &webhook.url());
        let companion = Self { webhook, control_plane, folder };
        companion.configure("");
        companion
    }

    /// Writes another configuration, with this at its end; controllers follow.
    pub fn configure(&self, more: &str) {
        let text = tree::node16_config("{directory: {path: /srv/externals}}") + more;
        // At once, as a mounted ConfigMap changes.
        let new = self.folder.path().join("config.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, self.config()).unwrap();
    }

    /// The configuration file of controllers.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("config.yaml")
    }

    /// A replica of the controller.
    pub fn controller(&self, identity: &str, flags: &[&str]) -> Process {
        let mut command = self.command("headstart-controller", identity);
        command.args(flags);
        Process::spawn(command)
    }

    /// Its command, for those who start it otherwise.
    pub fn command(&self, program: &str, identity: &str) -> Command {
        let mut command = shipped(program);
        command.args(["--namespace", OURS, "--admin-listen=127.0.0.1:0", "--identity", identity]);
        command.args(["--certificates", "external"]);
        command.arg("--config").arg(self.config()).env("KUBECONFIG", self.kubeconfig());
        command
    }

    /// Who the controller is.
    pub fn kubeconfig(&self) -> PathBuf {
        kubeconfig(self.control_plane, "headstart-controller", None, self.folder.path())
    }

    /// A file of the test's own.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Binds the controller's rights in a namespace, as an administrator would, and lets it ask.
    pub fn enable(&self, namespace: &str) {
        self.bind(namespace);
        let label = format!("{CREATION_LABEL}={CREATION_ENABLED}");
        self.control_plane.kubectl(&["label", "--overwrite", "namespace", namespace, &label]).unwrap();
    }

    /// Only binds the rights.
    pub fn bind(&self, namespace: &str) {
        let mut objects = deploy::rendered(self.control_plane, &repository().join(EXAMPLE));
        objects.retain(is_bound);
        for object in &mut objects {
            object["metadata"]["namespace"] = namespace.into();
        }
        self.control_plane.apply(&list(objects)).unwrap();
    }

    /// What the leader has published.
    pub fn published(&self) -> Option<PublishedRunnerSets> {
        let words = ["get", "configmap", "headstart-state", "--namespace", OURS, "--output=json"];
        let found: Value = serde_json::from_str(&self.control_plane.kubectl(&words).ok()?).unwrap();
        PublishedRunnerSets::parse(found["data"][RUNNER_SETS_KEY].as_str()?).ok()
    }

    /// Waits until so many sets are published and the webhook knows it.
    pub async fn serves(&self, sets: usize) {
        until(&format!("{sets} published sets"), || async {
            let taken = |line: &Value| {
                line["message"] == "published runner sets taken over"
                    && line["sets"].as_u64() == Some(sets as u64)
            };
            let is_published = self.published().is_some_and(|published| published.sets.len() == sets);
            (is_published && self.webhook.process.log().iter().any(taken)).then_some(())
        })
        .await;
    }

    /// Waits until a scale-up of any of so many sets would be pinned for this leader: the last that the webhook took over
    /// is what is published, and the leader was seen renewing its Lease.
    pub async fn pins(&self, leader: &str, sets: usize) {
        let is_ready = || async {
            let log = self.webhook.process.log();
            let taken =
                log.iter().rev().find(|line| line["message"] == "published runner sets taken over")?;
            let is_taken = taken["leader"] == leader && taken["sets"].as_u64() == Some(sets as u64);
            let age = metric(&self.webhook.process, "headstart_leader_age_seconds").await?;
            (is_taken && (0.0..5.0).contains(&age)).then_some(())
        };
        if within(DEADLINE, is_ready).await.is_none() {
            panic!("{leader} does not pin {sets} sets: {:#?}", self.published());
        }
    }

    /// The journals that are there.
    pub fn journals(&self) -> Vec<Value> {
        let label = format!("--selector={}", headstart_externals::names::RUNNER_SET_LABEL);
        let words = ["get", "configmaps", "--namespace", OURS, &label, "--output=json"];
        let found: Value = serde_json::from_str(&self.control_plane.kubectl(&words).unwrap()).unwrap();
        found["items"].as_array().unwrap().clone()
    }
}

/// Whether it belongs to the namespace of runners.
fn is_bound(object: &Value) -> bool {
    object["metadata"]["namespace"] == NAMESPACE
}

fn list(items: Vec<Value>) -> String {
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}

/// The value of a series of a program, by the beginning of its line; `None` if it has none.
pub async fn metric(process: &Process, series: &str) -> Option<f64> {
    let serving = process.says("serving").await;
    let admin = serving["admin"].as_str()?;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let text = client.get(format!("http://{admin}/metrics")).send().await.ok()?.text().await.ok()?;
    let mut values = text.lines().filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        (name == series).then(|| value.parse::<f64>().unwrap())
    });
    values.next()
}
