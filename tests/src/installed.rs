//! The shipped manifests in a control plane without nodes, whose controller and webhook run as processes of this machine:
//! the API server reaches the webhook through its Service, with the certificate that the controller issues.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use headstart_externals::names::{REPORT_ANNOTATION, STATE_KEY};
use headstart_externals::state::PublishedState;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bed::ControlPlane;
use crate::identity::kubeconfig;
use crate::process::{Process, shipped};
use crate::wait::until;
use crate::{cases, deploy};

const OURS: &str = "headstart-system";

/// A cluster with one node that has every version of the cases; gone when dropped.
pub struct Installed {
    /// The leader.
    pub controller: Process,
    /// The webhook, which follows the published state.
    pub webhook: Process,
    /// The cluster.
    pub control_plane: ControlPlane,
    _folder: TempDir,
}

impl Installed {
    /// Installs everything and waits until the API server can call the webhook.
    pub async fn start(control_plane: ControlPlane) -> Self {
        deploy::apply(&control_plane).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.yaml");
        std::fs::write(&config, cases::configuration()).unwrap();
        let mut command = program(&control_plane, "headstart-controller", &folder);
        command.arg("--config").arg(&config);
        let controller = Process::spawn(command);
        report_ready(&control_plane);
        let webhook = serve_webhook(&control_plane, &folder).await;
        Self { controller, webhook, control_plane, _folder: folder }
    }

    /// What the leader has published.
    pub fn state(&self) -> Option<PublishedState> {
        let found = get(&self.control_plane, &["configmap", "headstart-state", "--namespace", OURS])?;
        Some(PublishedState::parse(found["data"][STATE_KEY].as_str()?).unwrap())
    }

    /// What the webhook decided over pods of a namespace, in order.
    pub fn decisions(&self, namespace: &str) -> Vec<String> {
        let log = self.webhook.log();
        let here = log.iter().filter(|line| line["namespace"] == namespace);
        here.filter_map(|line| Some(line["decision"].as_str()?.to_owned())).collect()
    }
}

/// Starts the webhook as soon as the leader has issued its certificate, and leads the API server to it.
pub async fn serve_webhook(control_plane: &ControlPlane, folder: &TempDir) -> Process {
    write_certificate(control_plane, folder).await;
    let mut command = program(control_plane, "headstart-webhook", folder);
    command.args(["--listen=127.0.0.1:0", "--published-state=headstart-state"]);
    for (flag, file) in [("--tls-cert", "tls.crt"), ("--tls-key", "tls.key")] {
        command.arg(flag).arg(folder.path().join(file));
    }
    let webhook = Process::spawn(command);
    let address = webhook.says("serving").await["https"].as_str().unwrap().to_owned();
    lead_service_to(control_plane, address.rsplit_once(':').unwrap().1);
    webhook
}

/// A shipped program with the token of its own ServiceAccount.
fn program(control_plane: &ControlPlane, name: &str, folder: &TempDir) -> std::process::Command {
    let mut command = shipped(name);
    command.args(["--namespace", OURS, "--admin-listen=127.0.0.1:0"]);
    command.env("KUBECONFIG", kubeconfig(control_plane, name, None, folder.path()));
    command
}

fn get(control_plane: &ControlPlane, words: &[&str]) -> Option<Value> {
    let words = [&["get", "--output=json"], words].concat();
    control_plane.kubectl(&words).ok().map(|text| serde_json::from_str(&text).unwrap())
}

/// A node whose kubelet is ready, and whose agent reports every version.
fn report_ready(control_plane: &ControlPlane) {
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "a" } });
    control_plane.apply(&node.to_string()).unwrap();
    let ready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } }).to_string();
    control_plane.kubectl(&["patch", "node", "a", "--subresource=status", "--patch", &ready]).unwrap();
    let versions = cases::PROFILES
        .map(|profile| json!({ "name": cases::version(profile).0, "state": "ready", "wanted": true }));
    let report = json!({
        "apiVersion": "headstart.dev/v1", "kind": "NodeReport", "node": "a", "arch": "amd64",
        "agent": "0.1.0", "versionCount": versions.len(), "versions": versions,
    });
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": "a", "namespace": OURS, "labels": { "headstart.dev/report": "node" },
            "annotations": { REPORT_ANNOTATION: report.to_string() },
        },
    });
    control_plane.apply(&lease.to_string()).unwrap();
}

/// Takes the certificate out of the Secret that the webhook's pods would mount.
async fn write_certificate(control_plane: &ControlPlane, folder: &TempDir) {
    let secret = ["secret", "headstart-webhook-tls", "--namespace", OURS];
    let secret = until("the leader issues a certificate", || async { get(control_plane, &secret) }).await;
    for key in ["tls.crt", "tls.key"] {
        let content = BASE64_STANDARD.decode(secret["data"][key].as_str().unwrap()).unwrap();
        std::fs::write(folder.path().join(key), content).unwrap();
    }
}

/// There are no pods behind the Service, so it leads to this machine instead; its name, which the certificate must
/// bear, stays.
fn lead_service_to(control_plane: &ControlPlane, port: &str) {
    let service = ["service", "headstart-webhook", "--namespace", OURS];
    control_plane.kubectl(&[&["delete"], &service[..]].concat()).unwrap();
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "headstart-webhook", "namespace": OURS },
        "spec": { "type": "ExternalName", "externalName": "localhost" },
    });
    control_plane.apply(&service.to_string()).unwrap();
    let port: u16 = port.parse().unwrap();
    let edits: Vec<Value> = (0..5)
        .map(|at| {
            let path = format!("/webhooks/{at}/clientConfig/service/port");
            json!({ "op": "replace", "path": path, "value": port })
        })
        .collect();
    let patch = json!(edits).to_string();
    let configuration = ["patch", "mutatingwebhookconfiguration", "headstart", "--type=json", "--patch"];
    control_plane.kubectl(&[&configuration[..], &[&patch]].concat()).unwrap();
}
