//! One scale set in a namespace of its own: fake service, model of ARC, played listener and kubelet.

use std::sync::Arc;
use std::time::Duration;

use kube::api::{ListParams, ObjectList, PostParams};
use kube::{Client, api::DynamicObject};
use serde_json::json;

use super::listener::{PlayedListener, Task};
use super::resources::api;
use super::{ArcManager, Kubelet, read};
use crate::actions_service::{ActionsService, AgentState, Endpoint, Service};
use crate::arc::model::{Flags, Key, Kind, Phase, RunnerSet};
use crate::bed::ControlPlane;
use crate::wait::until;

/// All of it; gone when dropped, but for what is stored.
pub struct Stage {
    /// Who has all rights.
    pub client: Client,
    /// The service.
    pub service: Arc<ActionsService>,
    /// The kubelet.
    pub kubelet: Kubelet,
    /// ARC.
    pub manager: ArcManager,
    /// The listener; none until it is started.
    pub listener: Option<PlayedListener>,
    /// The runner set.
    pub set: Key,
    /// Its id at the service.
    pub scale_set_id: i64,
}

impl Stage {
    /// Sets it up in a new namespace; ARC's kinds are known already. Jobs are not started by themselves.
    pub async fn new(control_plane: &ControlPlane, name: &str, flags: Flags, registration: Duration) -> Self {
        control_plane.kubectl(&["create", "namespace", name]).unwrap();
        let client = control_plane.client().await.unwrap();
        let service = Arc::new(ActionsService::start().await);
        service.set_hold(Duration::from_secs(50));
        let scale_set_id = service.with(|service, _| {
            service.eager = false;
            service.faults.set_latency(Endpoint::GenerateJitConfig, registration);
            service.add_set(name, 1)
        });
        let config_url = service.config_url();
        let manager = ArcManager::start(&client, flags, name, Some(name), &config_url);
        let kubelet = Kubelet::start(&client, name, Arc::clone(&service));
        let scale_set = scale_set(name, &config_url, scale_set_id);
        api(&client, Kind::ScaleSet, name).create(&PostParams::default(), &scale_set).await.unwrap();
        let sets = api(&client, Kind::RunnerSet, name);
        let set = until("the model of ARC makes a runner set and a listener", || async {
            let listeners = list(&client, Kind::Listener, name).await;
            let set = sets.list(&ListParams::default()).await.ok()?.items.pop()?;
            let watched = set.metadata.finalizers.as_ref().is_some_and(|all| !all.is_empty());
            (watched && !listeners.items.is_empty()).then_some(set)
        })
        .await;
        let set = Key::new(name, set.metadata.name.as_deref().unwrap());
        Self { client, service, kubelet, manager, listener: None, set, scale_set_id }
    }

    /// Starts the listener, in place of the one before.
    pub fn listen(&mut self, min: i64, max: i64) {
        let task = Task { runner_set: self.set.clone(), scale_set_id: self.scale_set_id, min, max };
        let url = self.service.config_url();
        self.listener = None;
        self.listener = Some(PlayedListener::start(self.client.clone(), &url, task));
    }

    /// The runner set, as it is stored.
    pub async fn runner_set(&self) -> RunnerSet {
        let stored =
            api(&self.client, Kind::RunnerSet, &self.set.namespace).get(&self.set.name).await.unwrap();
        let read = read(Kind::RunnerSet, &serde_json::to_value(stored).unwrap()).unwrap();
        read.runner_set().unwrap().clone()
    }

    /// How many objects of a kind there are.
    pub async fn count(&self, kind: Kind) -> usize {
        list(&self.client, kind, &self.set.namespace).await.items.len()
    }

    /// The names of pods that run.
    pub async fn running(&self) -> Vec<String> {
        let pods = list(&self.client, Kind::Pod, &self.set.namespace).await.items;
        let runs = |pod: &DynamicObject| {
            let read = read(Kind::Pod, &serde_json::to_value(pod).unwrap());
            read.and_then(|object| object.pod().map(|pod| pod.phase)) == Some(Phase::Running)
        };
        pods.into_iter().filter(runs).filter_map(|pod| pod.metadata.name).collect()
    }

    /// Waits until the runners of so many running pods have come online; costs the API server nothing.
    pub async fn runs(&self, count: usize) {
        let online = |service: &mut Service| {
            service.agents().filter(|agent| agent.state != AgentState::Registered).count()
        };
        let enough = || async { self.service.with(|service, _| online(service) >= count).then_some(()) };
        until(&format!("{count} pods run"), enough).await;
    }
}

async fn list(client: &Client, kind: Kind, namespace: &str) -> ObjectList<DynamicObject> {
    api(client, kind, namespace).list(&ListParams::default()).await.unwrap()
}

/// A scale set as its chart would install it.
fn scale_set(name: &str, config_url: &str, id: i64) -> DynamicObject {
    let container = json!({"name": "runner", "image": "played/runner", "command": ["/home/runner/run.sh"]});
    let object = json!({
        "apiVersion": "actions.github.com/v1alpha1", "kind": "AutoscalingRunnerSet",
        "metadata": {
            "name": name, "namespace": name, "labels": {"app.kubernetes.io/version": "dev"},
            "annotations": {"runner-scale-set-id": id.to_string()},
        },
        "spec": {
            "githubConfigUrl": config_url, "githubConfigSecret": "github",
            "minRunners": 0, "maxRunners": 1000,
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        },
    });
    serde_json::from_value(object).unwrap()
}
