//! A played kubelet: pods of runners run at once, their runners come online, and they end as a test says.

use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::actions_service::ActionsService;

/// Runs every pod of a namespace; it ends when dropped. Pods without a node go at once when they are deleted.
pub struct Kubelet {
    pods: Api<Pod>,
    task: JoinHandle<()>,
}

impl Kubelet {
    /// Starts it.
    pub fn start(client: &Client, namespace: &str, service: Arc<ActionsService>) -> Self {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let task = tokio::spawn(play(pods.clone(), service));
        Self { pods, task }
    }

    /// The runner's program ends with this code.
    pub async fn exit(&self, name: &str, code: i32) {
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        let status = status(phase, json!({"terminated": {"exitCode": code}}), "False");
        patch(&self.pods, name, &status).await.unwrap();
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn play(pods: Api<Pod>, service: Arc<ActionsService>) {
    let mut events = watcher(pods.clone(), watcher::Config::default()).boxed();
    while let Some(event) = events.next().await {
        let Ok(Event::Apply(pod) | Event::InitApply(pod)) = event else { continue };
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let waits = pod.metadata.deletion_timestamp.is_none() && matches!(phase, None | Some("Pending"));
        let Some(name) = pod.metadata.name.filter(|_| waits) else { continue };
        let (pods, service) = (pods.clone(), Arc::clone(&service));
        tokio::spawn(async move {
            let running = status("Running", json!({"running": {}}), "True");
            if patch(&pods, &name, &running).await.is_ok() {
                service.with(|service, now| service.online(&name, now));
            }
        });
    }
}

fn status(phase: &str, state: serde_json::Value, ready: &str) -> serde_json::Value {
    let container = json!({
        "name": "runner", "image": "played", "imageID": "", "ready": ready == "True", "restartCount": 0,
        "state": state,
    });
    json!({"status": {
        "phase": phase, "conditions": [{"type": "Ready", "status": ready}], "containerStatuses": [container],
    }})
}

async fn patch(pods: &Api<Pod>, name: &str, status: &serde_json::Value) -> kube::Result<Pod> {
    pods.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await
}
