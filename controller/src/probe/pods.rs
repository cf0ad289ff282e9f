//! The pods that are tried: of each shape that Headstart rewrites, one as it looks afterwards; and what must have
//! survived of them.

use headstart_externals::mount;
use headstart_externals::names::VERSION_LABEL;
use headstart_externals::state::{MountKind, PublishedState, PublishedVersion};
use serde_json::{Value, json};

/// Name of the volume that is tried.
const VOLUME: &str = "headstart-externals";

/// Where runners and job containers see externals.
const MOUNT_PATHS: [&str; 2] = ["/home/runner/externals", "/__e"];

/// The labels by which policies may know the two shapes.
const SHAPES: [(&str, &str); 2] = [("actions-ephemeral-runner", "True"), ("runner-pod", "headstart-probe")];

/// One pod per shape; none where `version` cannot be shown by `kind`.
pub(super) fn pods(state: &PublishedState, version: &PublishedVersion, kind: MountKind) -> Vec<Value> {
    let Some(volume) = mount::volume(VOLUME, kind, &state.host_root, version) else { return Vec::new() };
    let read_only = mount::read_only(kind);
    let shapes = SHAPES.iter().zip(MOUNT_PATHS);
    shapes
        .map(|((label, value), path)| {
            let mut labels = json!({ VERSION_LABEL: version.name });
            labels[label] = json!(value);
            pod(&labels, image_of(version), &volume, &mount::mount(VOLUME, path, &read_only))
        })
        .collect()
}

/// As strict as Pod Security knows, so that nothing but the volume can be the cause of a refusal.
fn pod(labels: &Value, image: String, volume: &Value, mount: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "generateName": "headstart-probe-", "labels": labels },
        "spec": {
            "automountServiceAccountToken": false,
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 1001, "seccompProfile": { "type": "RuntimeDefault" }
            },
            "containers": [{
                "name": "probe",
                "image": image,
                "resources": {
                    "requests": { "cpu": "1m", "memory": "1Mi" }, "limits": { "cpu": "1m", "memory": "1Mi" }
                },
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
                "volumeMounts": [mount]
            }],
            "volumes": [volume]
        }
    })
}

/// An image that the version stands for, since policies may look at it.
fn image_of(version: &PublishedVersion) -> String {
    let pattern = version.images.first().map_or("headstart-probe:0", |pattern| pattern.as_str());
    pattern.replace('*', "0")
}

/// Whether `answer` still has the volume and the mount of `sent`; API servers drop what they do not know or support.
pub(super) fn survived(sent: &Value, answer: &Value) -> bool {
    let volume = |pod: &Value| {
        let volumes = pod["spec"]["volumes"].as_array()?;
        volumes.iter().find(|volume| volume["name"] == VOLUME).cloned()
    };
    let mount = |pod: &Value| {
        let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array()?;
        mounts.iter().find(|mount| mount["name"] == VOLUME).cloned()
    };
    let kept = |sent: Option<Value>, answer: Option<Value>| {
        sent.zip(answer).is_some_and(|(sent, answer)| contains(&answer, &sent))
    };
    kept(volume(sent), volume(answer)) && kept(mount(sent), mount(answer))
}

/// Whether every field of `part` is in `whole`; servers add defaults.
fn contains(whole: &Value, part: &Value) -> bool {
    match part {
        Value::Object(fields) => fields.iter().all(|(key, value)| contains(&whole[key], value)),
        _ => whole == part,
    }
}

#[cfg(test)]
mod tests {
    use headstart_externals::config::Config;

    use super::*;

    fn state() -> PublishedState {
        PublishedState::immediate(&Config::embedded().unwrap())
    }

    #[test]
    fn both_shapes_are_tried_with_the_volume_that_pods_get() {
        let state = state();
        let pods = pods(&state, &state.versions[0], MountKind::HostPath);
        assert_eq!(pods.len(), 2);
        for pod in &pods {
            assert_eq!(pod["spec"]["volumes"][0]["hostPath"]["type"], "Directory");
            assert_eq!(pod["spec"]["containers"][0]["image"], "ghcr.io/actions/actions-runner:2.285.0");
            assert!(survived(pod, pod));
        }
    }

    #[test]
    fn a_version_without_an_image_is_not_tried_as_one() {
        let state = state();
        let version = PublishedVersion { volume_image: None, ..state.versions[0].clone() };
        assert!(pods(&state, &version, MountKind::Image).is_empty());
    }

    #[test]
    fn a_dropped_volume_mount_or_field_is_noticed() {
        let state = state();
        let sent = &pods(&state, &state.versions[0], MountKind::Image)[0];
        let mut defaulted = sent.clone();
        defaulted["spec"]["volumes"][0]["more"] = json!(1);
        assert!(survived(sent, &defaulted));
        for change in ["/spec/volumes", "/spec/containers/0/volumeMounts"] {
            let mut answer = sent.clone();
            *answer.pointer_mut(change).unwrap() = json!([]);
            assert!(!survived(sent, &answer), "{change}");
        }
        let mut emptied = sent.clone();
        emptied["spec"]["volumes"][0] = json!({ "name": VOLUME, "emptyDir": {} });
        assert!(!survived(sent, &emptied));
    }
}
