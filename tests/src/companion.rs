//! Headstart as it creates runners: the shipped controller and webhook as processes of this machine, with the rights of the
//! shipped manifests, in a cluster that has an ARC.

use std::path::PathBuf;
use std::process::Command;

use headstart_externals::names::{CREATION_ENABLED, CREATION_LABEL, RUNNER_SETS_KEY};
use headstart_externals::runner_sets::PublishedRunnerSets;
use serde_json::Value;
use tempfile::TempDir;

use crate::bed::ControlPlane;
use crate::host_webhook::HostWebhook;
use crate::identity::kubeconfig;
use crate::played::OURS;
use crate::process::{Process, shipped};
use crate::programs::repository;
use crate::wait::until;
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
    objects: Vec<Value>,
    folder: TempDir,
}

impl<'c> Companion<'c> {
    /// Installs the manifests and starts the webhook; no namespace asks for anything yet.
    pub async fn install(control_plane: &'c ControlPlane) -> Self {
        let objects = deploy::rendered(control_plane, &repository().join(EXAMPLE));
        let is_bound = |object: &Value| object["metadata"]["namespace"] == NAMESPACE;
        for object in &objects {
            let kind = object["kind"].as_str().unwrap();
            if !LEFT_OUT.contains(&kind) && !is_bound(object) {
                control_plane.apply(&object.to_string()).unwrap();
            }
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("config.yaml"),
            tree::node16_config("{directory: {path: /srv/externals}}"),
        )
        .unwrap();
        let identity = kubeconfig(control_plane, "headstart-webhook", None, folder.path());
        let webhook = HostWebhook::follow(&identity).await;
        webhook.register(control_plane, &webhook.url());
        Self { webhook, control_plane, objects, folder }
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
        let kubeconfig = kubeconfig(self.control_plane, "headstart-controller", None, self.folder.path());
        let mut command = shipped(program);
        command.args(["--namespace", OURS, "--admin-listen=127.0.0.1:0", "--identity", identity]);
        command.args(["--certificates", "external"]);
        command.arg("--config").arg(self.config()).env("KUBECONFIG", kubeconfig);
        command
    }

    /// Binds the controller's rights in a namespace, as an administrator would, and lets it ask.
    pub fn enable(&self, namespace: &str) {
        for object in self.objects.iter().filter(|object| object["metadata"]["namespace"] == NAMESPACE) {
            let mut object = object.clone();
            object["metadata"]["namespace"] = namespace.into();
            self.control_plane.apply(&object.to_string()).unwrap();
        }
        let label = format!("{CREATION_LABEL}={CREATION_ENABLED}");
        self.control_plane.kubectl(&["label", "--overwrite", "namespace", namespace, &label]).unwrap();
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

    /// The journals that are there.
    pub fn journals(&self) -> Vec<Value> {
        let label = format!("--selector={}", headstart_externals::names::RUNNER_SET_LABEL);
        let words = ["get", "configmaps", "--namespace", OURS, &label, "--output=json"];
        let found: Value = serde_json::from_str(&self.control_plane.kubectl(&words).unwrap()).unwrap();
        found["items"].as_array().unwrap().clone()
    }
}
