//! Objects of the API as the model's objects.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::arc::model::{
    Container, Key, Kind, ListenerObject, Meta, Object, Owner, Phase, Pod, Runner, RunnerSet, RunnerStatus,
    ScaleSet, Secret, SetStatus, Text,
};

/// Annotations that hold what a runner set was made from, of both generations of ARC.
pub(super) const HASHES: [&str; 2] =
    ["actions.github.com/integrity-hash", "actions.github.com/runner-spec-hash"];

/// Annotation with the stamp of a runner.
pub(super) const PATCH_ID: &str = "actions.github.com/patch-id";

/// Reads an object; none if it is of no use.
pub fn read(kind: Kind, value: &Value) -> Option<Object> {
    let meta = meta(&value["metadata"])?;
    Some(match kind {
        Kind::ScaleSet => Object::ScaleSet(ScaleSet {
            scale_set_id: value["metadata"]["annotations"]["runner-scale-set-id"]
                .as_str()
                .and_then(|id| id.parse().ok())
                .unwrap_or(0),
            template: fingerprint(&value["spec"]["template"]),
            min: value["spec"]["minRunners"].as_i64().unwrap_or(0),
            max: value["spec"]["maxRunners"].as_i64().unwrap_or(i64::from(i32::MAX)),
            phase: phase(&value["status"]["phase"]),
            meta,
        }),
        Kind::RunnerSet => Object::RunnerSet(runner_set(meta, value)),
        Kind::Runner => Object::Runner(runner(meta, value)),
        Kind::Listener => Object::Listener(ListenerObject {
            scale_set: Key {
                namespace: text(&value["spec"]["autoscalingRunnerSetNamespace"]),
                name: text(&value["spec"]["autoscalingRunnerSetName"]),
            },
            runner_set: text(&value["spec"]["ephemeralRunnerSetName"]),
            meta,
        }),
        Kind::Pod => Object::Pod(pod(meta, value)),
        Kind::Secret => {
            let field = |name: &str| {
                use base64::Engine as _;
                let encoded = value["data"][name].as_str()?;
                let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
                String::from_utf8(bytes).ok()
            };
            let runner_id = field("runnerId").and_then(|id| id.parse().ok());
            let runner_name = field("runnerName").unwrap_or_default().as_str().into();
            Object::Secret(Secret { meta, runner_id, runner_name })
        }
        Kind::ConfigMap => return None,
    })
}

/// A short text that differs where the value does.
fn fingerprint(value: &Value) -> Text {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    format!("{:016x}", hasher.finish()).as_str().into()
}

fn runner_set(meta: Meta, value: &Value) -> RunnerSet {
    let (spec, status) = (&value["spec"], &value["status"]);
    let hash = HASHES.iter().find_map(|name| value["metadata"]["annotations"][name].as_str());
    let hash: Text = hash.unwrap_or_default().into();
    let number = |name: &str| status[name].as_i64().unwrap_or(0);
    RunnerSet {
        meta,
        replicas: spec["replicas"].as_i64().unwrap_or(0),
        patch_id: spec["patchID"].as_i64().unwrap_or(0),
        scale_set_id: spec["ephemeralRunnerSpec"]["runnerScaleSetId"].as_i64().unwrap_or(0),
        template: hash.clone(),
        hash,
        status: status.is_object().then(|| SetStatus {
            current: number("currentReplicas"),
            pending: number("pendingEphemeralRunners"),
            running: number("runningEphemeralRunners"),
            failed: number("failedEphemeralRunners"),
            phase: phase(&status["phase"]),
        }),
    }
}

fn runner(meta: Meta, value: &Value) -> Runner {
    let (spec, status) = (&value["spec"], &value["status"]);
    let stamp = value["metadata"]["annotations"][PATCH_ID].as_str();
    let failures = status["failures"].as_object().into_iter().flatten();
    let failures: BTreeMap<Text, Duration> =
        failures.filter_map(|(uid, at)| Some((uid.as_str().into(), time(at)?))).collect();
    Runner {
        meta,
        patch_id: stamp.and_then(|stamp| stamp.parse().ok()),
        scale_set_id: spec["runnerScaleSetId"].as_i64().unwrap_or(0),
        template: "".into(),
        status: RunnerStatus {
            phase: phase(&status["phase"]),
            ready: status["ready"].as_bool().unwrap_or(false),
            runner_id: status["runnerId"].as_i64().unwrap_or(0),
            runner_name: text(&status["runnerName"]),
            failures,
            has_job: status["jobId"].as_str().is_some_and(|job| !job.is_empty()),
        },
    }
}

fn pod(meta: Meta, value: &Value) -> Pod {
    let status = &value["status"];
    let named = |list: &Value, field: &str, name: &str| {
        list.as_array().into_iter().flatten().find(|item| item[field] == name).cloned()
    };
    let container = match named(&status["containerStatuses"], "name", "runner") {
        None => Container::Unknown,
        Some(found) => match found["state"]["terminated"]["exitCode"].as_i64() {
            Some(code) => Container::Exited(i32::try_from(code).unwrap_or(-1)),
            None => Container::Alive,
        },
    };
    // A pod that nobody has looked at says Pending.
    let ready = named(&status["conditions"], "type", "Ready").is_some_and(|ready| ready["status"] == "True");
    Pod { meta, phase: phase(&status["phase"]), ready, container }
}

fn meta(value: &Value) -> Option<Meta> {
    let owners = value["ownerReferences"].as_array().into_iter().flatten();
    let mut owner = owners.filter(|owner| owner["controller"] == true);
    let strings = |value: &Value| -> Vec<Text> { value.as_array().into_iter().flatten().map(text).collect() };
    let labels = value["labels"].as_object().into_iter().flatten();
    Some(Meta {
        key: Key { namespace: text(&value["namespace"]), name: value["name"].as_str()?.into() },
        uid: text(&value["uid"]),
        version: value["resourceVersion"].as_str().and_then(|version| version.parse().ok()).unwrap_or(0),
        created: time(&value["creationTimestamp"]).unwrap_or_default(),
        deleting: value["deletionTimestamp"].is_string(),
        finalizers: strings(&value["finalizers"]),
        owner: owner.next().and_then(|owner| {
            let kind = match owner["kind"].as_str()? {
                "AutoscalingRunnerSet" => Kind::ScaleSet,
                "EphemeralRunnerSet" => Kind::RunnerSet,
                "EphemeralRunner" => Kind::Runner,
                _ => return None,
            };
            Some(Owner { kind, name: text(&owner["name"]), uid: text(&owner["uid"]) })
        }),
        labels: labels.map(|(name, value)| (name.as_str().into(), text(value))).collect(),
    })
}

fn phase(value: &Value) -> Phase {
    match value.as_str() {
        Some("Pending") => Phase::Pending,
        Some("Running") => Phase::Running,
        Some("Succeeded") => Phase::Succeeded,
        Some("Failed") => Phase::Failed,
        Some("Outdated") => Phase::Outdated,
        _ => Phase::Empty,
    }
}

/// Since 1970; the model compares times of objects with each other.
fn time(value: &Value) -> Option<Duration> {
    let at: Timestamp = value.as_str()?.parse().ok()?;
    Duration::try_from(at.duration_since(Timestamp::UNIX_EPOCH)).ok()
}

fn text(value: &Value) -> Text {
    value.as_str().unwrap_or_default().into()
}
