//! The manager's calls as requests to the API server and to the Actions service.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use reqwest::Method;
use serde_json::{Value, json};

use super::agents::Agents;
use super::read::{HASHES, PATCH_ID, read};
use super::resources::{api, resource};
use crate::arc::model::calls::{Creation, RunnerPatch};
use crate::arc::model::{Answer, Call, Failure, Generation, Key, Kind, Meta, Object, Secret, SetStatus};

/// Who makes the calls. It knows the whole objects of which the model knows what matters.
pub struct Actor {
    client: Client,
    generation: Generation,
    agents: Agents,
    whole: Mutex<BTreeMap<(Kind, Key), Value>>,
}

type Outcome = Result<Answer, kube::Error>;

impl Actor {
    /// Calls as this client.
    pub fn new(client: Client, generation: Generation, agents: Agents) -> Self {
        Self { client, generation, agents, whole: Mutex::default() }
    }

    /// What a watch showed of an object.
    pub fn remember(&self, kind: Kind, key: Key, value: Value) {
        self.whole.lock().unwrap().insert((kind, key), value);
    }

    /// An object is gone.
    pub fn forget(&self, kind: Kind, key: &Key) {
        self.whole.lock().unwrap().remove(&(kind, key.clone()));
    }

    fn recall(&self, kind: Kind, key: &Key) -> Value {
        let whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        whole.get(&(kind, key.clone())).cloned().unwrap_or_default()
    }

    fn api(&self, kind: Kind, key: &Key) -> Api<DynamicObject> {
        api(&self.client, kind, &key.namespace)
    }

    /// Makes the call.
    pub async fn act(&self, call: Call) -> Answer {
        let outcome = match call {
            call if call.bucket().is_none() => return self.ask(&call).await,
            Call::ReadCredentials(key) => self.read_credentials(&key).await,
            Call::ReadSecret(key) => self.read_secret(&key).await,
            Call::Create(creation) => self.create(*creation).await,
            Call::Delete(kind, key) => {
                let deleted = self.api(kind, &key).delete(&key.name, &DeleteParams::default()).await;
                deleted.map(|_| Answer::Done)
            }
            Call::Finalizers(kind, key, all) => {
                let all: Vec<&str> = all.iter().map(|name| &**name).collect();
                self.patch(kind, &key, json!({"metadata": {"finalizers": all}})).await
            }
            Call::SetStatus(key, old, new) => {
                let status = set_status(self.generation, old, new);
                self.patch_status(Kind::RunnerSet, &key, status).await
            }
            Call::Upgrade(key, template) => self.upgrade(&key, &template).await,
            Call::Drain(key) => {
                self.patch(Kind::RunnerSet, &key, json!({"spec": {"replicas": null, "patchID": 0}})).await
            }
            Call::RunnerStatus(key, patch) => {
                self.patch_status(Kind::Runner, &key, runner_status(&patch)).await
            }
            _ => Ok(Answer::Failed(Failure::Other)),
        };
        outcome.unwrap_or_else(|error| Answer::Failed(failure(&error)))
    }

    async fn patch(&self, kind: Kind, key: &Key, patch: Value) -> Outcome {
        let how = PatchParams::default();
        self.api(kind, key).patch(&key.name, &how, &Patch::Merge(patch)).await.map(|_| Answer::Done)
    }

    async fn patch_status(&self, kind: Kind, key: &Key, status: Value) -> Outcome {
        let patch = Patch::Merge(json!({"status": status}));
        let patched = self.api(kind, key).patch_status(&key.name, &PatchParams::default(), &patch).await;
        patched.map(|_| Answer::Done)
    }

    /// Whether there are any is not asked: here it is the call that counts.
    async fn read_credentials(&self, key: &Key) -> Outcome {
        self.api(Kind::Secret, key).get_opt("github").await.map(|_| Answer::Done)
    }

    async fn read_secret(&self, key: &Key) -> Outcome {
        let found = self.api(Kind::Secret, key).get(&key.name).await?;
        let value = serde_json::to_value(found).unwrap_or_default();
        let secret = read(Kind::Secret, &value).and_then(|object| object.secret().cloned());
        Ok(secret.map_or(Answer::Failed(Failure::NotFound), Answer::Secret))
    }

    async fn create(&self, creation: Creation) -> Outcome {
        let kind = creation.kind();
        let (meta, body) = match creation {
            Creation::Runner(runner) => {
                let body = self.runner(&runner.meta, runner.patch_id.unwrap_or(0));
                (runner.meta, body)
            }
            Creation::Secret(secret) => {
                let body = secret_body(&secret);
                (secret.meta, body)
            }
            Creation::Pod(pod) => {
                let body = self.pod(&pod.meta);
                (pod.meta, body)
            }
            Creation::RunnerSet(set) => {
                let body = self.runner_set(&set.meta, &set.template);
                (set.meta, body)
            }
            Creation::Listener(listener) => {
                let body = json!({"spec": {
                    "autoscalingRunnerSetNamespace": &*listener.scale_set.namespace,
                    "autoscalingRunnerSetName": &*listener.scale_set.name,
                    "ephemeralRunnerSetName": &*listener.runner_set,
                }});
                (listener.meta, body)
            }
        };
        let object = complete(kind, &meta, body);
        let object: DynamicObject = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
        self.api(kind, &meta.key).create(&PostParams::default(), &object).await.map(|_| Answer::Done)
    }

    /// A runner as ARC makes it of its set.
    fn runner(&self, meta: &Meta, stamp: i64) -> Value {
        let owner = meta.owner_of(Kind::RunnerSet).unwrap_or_else(|| meta.key.clone());
        let set = self.recall(Kind::RunnerSet, &owner);
        let mut labels = set["spec"]["ephemeralRunnerMetadata"]["labels"].clone();
        merge(&mut labels, &set["metadata"]["labels"]);
        merge(&mut labels, &json!({"app.kubernetes.io/component": "runner"}));
        let mut annotations = set["spec"]["ephemeralRunnerMetadata"]["annotations"].clone();
        merge(&mut annotations, &set["metadata"]["annotations"]);
        merge(&mut annotations, &json!({PATCH_ID: stamp.to_string()}));
        json!({
            "metadata": {"labels": labels, "annotations": annotations},
            "spec": set["spec"]["ephemeralRunnerSpec"],
        })
    }

    /// The pod of a runner.
    fn pod(&self, meta: &Meta) -> Value {
        let runner = self.recall(Kind::Runner, &meta.key);
        let mut labels = runner["metadata"]["labels"].clone();
        merge(&mut labels, &runner["spec"]["metadata"]["labels"]);
        merge(&mut labels, &json!({"actions-ephemeral-runner": "True", "pod-template-hash": "played"}));
        let mut annotations = runner["metadata"]["annotations"].clone();
        merge(&mut annotations, &runner["spec"]["metadata"]["annotations"]);
        let mut spec = runner["spec"]["spec"].clone();
        let token = json!({
            "name": "ACTIONS_RUNNER_INPUT_JITCONFIG",
            "valueFrom": {"secretKeyRef": {"name": &*meta.key.name, "key": "jitToken"}},
        });
        let plain = |name: &str, value: &str| json!({"name": name, "value": value});
        let more = [
            token,
            plain("GITHUB_ACTIONS_RUNNER_EXTRA_USER_AGENT", "actions-runner-controller/dev"),
            plain("ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE", "1"),
        ];
        let containers = spec["containers"].as_array_mut().into_iter().flatten();
        for container in containers.filter(|container| container["name"] == "runner") {
            let mut env = container["env"].as_array().cloned().unwrap_or_default();
            env.extend(more.clone());
            container["env"] = env.into();
        }
        json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": spec})
    }

    /// A runner set as ARC makes it of its scale set.
    fn runner_set(&self, meta: &Meta, template: &str) -> Value {
        let owner = meta.owner_of(Kind::ScaleSet).unwrap_or_else(|| meta.key.clone());
        let scale_set = self.recall(Kind::ScaleSet, &owner);
        let mut labels = scale_set["metadata"]["labels"].clone();
        merge(
            &mut labels,
            &json!({
                "app.kubernetes.io/component": "runner-set",
                "app.kubernetes.io/part-of": "gha-runner-scale-set",
                "actions.github.com/scale-set-name": &*owner.name,
                "actions.github.com/scale-set-namespace": &*owner.namespace,
            }),
        );
        let hash = HASHES[usize::from(self.generation == Generation::Release)];
        json!({
            "metadata": {"labels": labels, "annotations": {hash: template}},
            "spec": {"patchID": 0, "ephemeralRunnerSpec": runner_spec(&scale_set)},
        })
    }

    async fn upgrade(&self, key: &Key, template: &str) -> Outcome {
        let set = self.recall(Kind::RunnerSet, key);
        let owner = read(Kind::RunnerSet, &set).and_then(|object| object.meta().owner_of(Kind::ScaleSet));
        let scale_set = self.recall(Kind::ScaleSet, &owner.unwrap_or_else(|| key.clone()));
        let spec = json!({"ephemeralRunnerSpec": runner_spec(&scale_set)});
        let patch = json!({"metadata": {"annotations": {HASHES[0]: template}}, "spec": spec});
        self.patch(Kind::RunnerSet, key, patch).await
    }

    /// A call of the service.
    async fn ask(&self, call: &Call) -> Answer {
        let agents = "distributedtask/pools/0/agents";
        let asked = match call {
            Call::Register(set, name) => {
                let path = format!("runtime/runnerscalesets/{set}/generatejitconfig");
                let body = json!({"name": &**name, "workFolder": ""});
                self.agents.ask(Method::POST, &path, &body).await
            }
            Call::FindAgent(name) => {
                self.agents.ask(Method::GET, &format!("{agents}?agentName={name}"), &Value::Null).await
            }
            Call::RemoveAgent(id) => {
                self.agents.ask(Method::DELETE, &format!("{agents}/{id}"), &Value::Null).await
            }
            Call::DeleteScaleSet(id) => {
                let path = format!("runtime/runnerscalesets/{id}");
                self.agents.ask(Method::DELETE, &path, &Value::Null).await
            }
            _ => return Answer::Failed(Failure::Other),
        };
        let Ok((status, answer)) = asked else { return Answer::Failed(Failure::Other) };
        let kind = answer["typeName"].as_str().unwrap_or_default();
        match (call, status) {
            (Call::Register(..), 200) => answer["runner"]["id"].as_i64().map_or(Answer::Done, Answer::Agent),
            (Call::FindAgent(_), 200) => {
                let found = &answer["value"][0];
                Answer::Found(found["id"].as_i64().zip(found["runnerScaleSetId"].as_i64()))
            }
            (_, 200 | 204) => Answer::Done,
            _ if kind.contains("AgentExistsException") => Answer::Failed(Failure::AgentExists),
            _ if kind.contains("JobStillRunningException") => Answer::Failed(Failure::JobStillRunning),
            _ => Answer::Failed(Failure::Other),
        }
    }
}

/// Metadata of the model around a body.
fn complete(kind: Kind, meta: &Meta, mut body: Value) -> Value {
    let resource = resource(kind);
    let mut metadata = json!({"namespace": &*meta.key.namespace});
    let name = if meta.key.name.ends_with('-') { "generateName" } else { "name" };
    metadata[name] = (*meta.key.name).into();
    if !meta.finalizers.is_empty() {
        metadata["finalizers"] = meta.finalizers.iter().map(|name| &**name).collect::<Vec<&str>>().into();
    }
    if let Some(owner) = &meta.owner {
        metadata["ownerReferences"] = json!([{
            "apiVersion": "actions.github.com/v1alpha1", "kind": super::resource(owner.kind).kind,
            "name": &*owner.name, "uid": &*owner.uid, "controller": true, "blockOwnerDeletion": true,
        }]);
    }
    merge(&mut metadata, &body["metadata"]);
    body["metadata"] = metadata;
    body["apiVersion"] = resource.api_version.into();
    body["kind"] = resource.kind.into();
    body
}

fn merge(into: &mut Value, from: &Value) {
    if !into.is_object() {
        *into = json!({});
    }
    for (name, value) in from.as_object().into_iter().flatten() {
        into[name] = value.clone();
    }
}

/// The specification of runners, as a scale set says it.
fn runner_spec(scale_set: &Value) -> Value {
    let id = match read(Kind::ScaleSet, scale_set) {
        Some(Object::ScaleSet(set)) => set.scale_set_id,
        _ => 0,
    };
    json!({
        "githubConfigUrl": scale_set["spec"]["githubConfigUrl"],
        "githubConfigSecret": scale_set["spec"]["githubConfigSecret"],
        "runnerScaleSetId": id,
        "metadata": scale_set["spec"]["template"]["metadata"],
        "spec": scale_set["spec"]["template"]["spec"],
    })
}

fn secret_body(secret: &Secret) -> Value {
    json!({"type": "Opaque", "stringData": {
        "jitToken": "played", "runnerName": &*secret.runner_name, "scaleSetId": "1",
        "runnerId": secret.runner_id.unwrap_or(0).to_string(),
    }})
}

/// Master sends what differs only; the releases always name `currentReplicas`.
fn set_status(generation: Generation, old: Option<SetStatus>, new: SetStatus) -> Value {
    let fields = |status: SetStatus| {
        json!({
            "currentReplicas": status.current, "pendingEphemeralRunners": status.pending,
            "runningEphemeralRunners": status.running, "failedEphemeralRunners": status.failed,
            "phase": status.phase.text(),
        })
    };
    let (before, mut after) = (fields(old.unwrap_or_default()), fields(new));
    let always = |name: &str| generation == Generation::Release && name == "currentReplicas";
    if let Some(after) = after.as_object_mut() {
        after.retain(|name, value| always(name) || before[name] != *value);
    }
    after
}

fn runner_status(patch: &RunnerPatch) -> Value {
    match patch {
        RunnerPatch::Registered(id, name) => json!({"runnerId": id, "runnerName": &**name}),
        RunnerPatch::Phase(to, ready) => json!({"phase": to.text(), "ready": ready}),
        RunnerPatch::Failure(pod, _) => json!({"failures": {&**pod: Timestamp::now().to_string()}}),
    }
}

fn failure(error: &kube::Error) -> Failure {
    let kube::Error::Api(status) = error else { return Failure::Other };
    match status.code {
        404 => Failure::NotFound,
        409 if status.reason == "AlreadyExists" => Failure::AlreadyExists,
        409 => Failure::Conflict,
        422 => Failure::Invalid,
        403 if status.message.contains("exceeded quota:") => Failure::Quota,
        403 => Failure::Forbidden,
        _ => Failure::Other,
    }
}
