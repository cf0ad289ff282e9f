//! Objects of the model in the controller's own types: what counts of them its own code says, and nobody here.

use std::sync::Arc;

use headstart_controller::creation::objects::{
    Listener, ListenerSpec, Owner, Runner, RunnerSet, RunnerStatus, SetStatus,
};
use headstart_controller::creation::seen::{self, Known, Seen};
use headstart_controller::creation::view::PATCH_ID;
use headstart_tests::arc::model;
use headstart_tests::arc::model::{Kind, Meta, Object};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::Resource as _;
use kube::core::ObjectMeta;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::world::NAMESPACE;

/// What a watch of objects of one kind brings means for who watches: the shipped code says so.
pub(crate) fn seen(known: &mut Known, kind: Kind, event: Event<Shown>) -> Vec<Seen> {
    let place = Some(NAMESPACE);
    match kind {
        Kind::RunnerSet => {
            let event = each(event, Shown::runner_set);
            known.take(event, seen::Kind::Set, place, |set| Seen::Set(Box::new(set)))
        }
        Kind::Runner => {
            let event = each(event, |shown| runner(shown.object.runner()));
            known.take(event, seen::Kind::Runner, place, |runner| Seen::Runner(Box::new(runner)))
        }
        Kind::ScaleSet => {
            let event = each(event, |shown| Owner { metadata: shown.metadata() });
            known.take(event, seen::Kind::Owner, place, |owner| Seen::Owner(Box::new(owner)))
        }
        _ => {
            let event = each(event, Shown::listener);
            known.take(event, seen::Kind::Listener, None, |listener| Seen::Listener(Box::new(listener)))
        }
    }
}

/// An object, and its `metadata.generation` where that counts.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) object: Arc<Object>,
    pub(crate) generation: i64,
}

fn each<K>(event: Event<Shown>, show: impl Fn(Shown) -> K) -> Event<K> {
    match event {
        Event::Apply(shown) => Event::Apply(show(shown)),
        Event::Delete(shown) => Event::Delete(show(shown)),
        Event::Init => Event::Init,
        Event::InitApply(shown) => Event::InitApply(show(shown)),
        Event::InitDone => Event::InitDone,
    }
}

impl Shown {
    fn metadata(&self) -> ObjectMeta {
        metadata(self.object.meta())
    }

    fn runner_set(self) -> RunnerSet {
        let metadata = ObjectMeta { generation: Some(self.generation), ..self.metadata() };
        let Some(set) = self.object.runner_set() else { return RunnerSet::default() };
        let status = set.status.unwrap_or_default();
        RunnerSet {
            metadata,
            spec: json!({ "replicas": set.replicas, "patchID": set.patch_id }),
            status: SetStatus { current_replicas: status.current, phase: status.phase.text().to_owned() },
        }
    }

    fn listener(self) -> Listener {
        let metadata = self.metadata();
        let Some(listener) = self.object.listener() else { return Listener::default() };
        let spec = ListenerSpec {
            autoscaling_runner_set_namespace: listener.scale_set.namespace.to_string(),
            autoscaling_runner_set_name: listener.scale_set.name.to_string(),
            ephemeral_runner_set_name: listener.runner_set.to_string(),
        };
        Listener { metadata, spec }
    }
}

fn runner(runner: Option<&model::Runner>) -> Runner {
    let Some(runner) = runner else { return Runner::default() };
    let stamp = runner.patch_id.map(|stamp| [(PATCH_ID.to_owned(), stamp.to_string())].into());
    let metadata = ObjectMeta { annotations: stamp, ..metadata(&runner.meta) };
    Runner { metadata, status: RunnerStatus { phase: runner.status.phase.text().to_owned() } }
}

fn metadata(meta: &Meta) -> ObjectMeta {
    let owners = meta.owner.as_ref().map(|owner| {
        vec![OwnerReference {
            kind: match owner.kind {
                Kind::ScaleSet => Owner::kind(&()).into_owned(),
                _ => RunnerSet::kind(&()).into_owned(),
            },
            name: owner.name.to_string(),
            uid: owner.uid.to_string(),
            controller: Some(true),
            ..OwnerReference::default()
        }]
    });
    ObjectMeta {
        name: Some(meta.key.name.to_string()),
        namespace: Some(meta.key.namespace.to_string()),
        uid: Some(meta.uid.to_string()),
        resource_version: Some(meta.version.to_string()),
        deletion_timestamp: meta.deleting.then_some(Time(Timestamp::UNIX_EPOCH)),
        owner_references: owners,
        ..ObjectMeta::default()
    }
}

/// A runner's Secret as the API server would give it.
pub(crate) fn secret(secret: &model::Secret, created: Timestamp) -> Value {
    use base64::Engine as _;
    let encoded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let labels = secret.meta.labels.iter().map(|(key, value)| (key.to_string(), json!(**value)));
    json!({
        "metadata": {
            "name": *secret.meta.key.name, "labels": labels.collect::<serde_json::Map<_, _>>(),
            "creationTimestamp": created.to_string(),
        },
        "data": {
            "runnerName": encoded(&secret.runner_name),
            "runnerId": secret.runner_id.map(|id| encoded(&id.to_string())),
        },
    })
}
