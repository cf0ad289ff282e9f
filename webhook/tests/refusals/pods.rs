//! Recorded pods, and ways to change one thing in them.

use std::path::Path;

use headstart_externals::config::Config;
use headstart_externals::image::ImagePattern;
use headstart_externals::state::{MountKind, PublishedState};
use headstart_webhook::decide::{Context, decide};
use serde_json::{Value, json};

pub(crate) const RUNNER: &str = "arc/kubernetes.json";
pub(crate) const DIND: &str = "arc/dind.json";
pub(crate) const OLDER: &str = "older/kubernetes.json";
pub(crate) const LEGACY: &str = "hooks/v0.7.0/prepare-kube-scheduler.json";
pub(crate) const CURRENT: &str = "hooks/v0.8.1/prepare-services.json";

pub(crate) fn fixture(path: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(path);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The built-in profile, for the image of the recorded pods.
pub(crate) fn state() -> PublishedState {
    let mut state = PublishedState::immediate(&Config::embedded().unwrap());
    let images = ["ghcr.io/actions/actions-runner:latest", "summerwind/actions-runner*:v2.304.0-*"];
    state.versions[0].images = images.map(ImagePattern::new).to_vec();
    state
}

pub(crate) fn reason_with(state: &PublishedState, kind: MountKind, mut pod: Value) -> &'static str {
    let before = pod.clone();
    let context = Context { namespace: "n", kinds: &[kind], state: Ok(state), assumed: None };
    let decision = decide(&mut pod, context);
    assert_eq!(decision.patch.is_empty(), before == pod);
    decision.reason.code()
}

pub(crate) fn reason(pod: Value) -> &'static str {
    reason_with(&state(), MountKind::HostPath, pod)
}

/// A fixture with `value` put at `pointer`; `-` at its end appends.
pub(crate) fn with(path: &str, pointer: &str, value: Value) -> Value {
    changed(fixture(path), pointer, value)
}

pub(crate) fn changed(mut pod: Value, pointer: &str, value: Value) -> Value {
    let operation = json!([{"op": "add", "path": pointer, "value": value}]);
    json_patch::patch(&mut pod, &serde_json::from_value::<json_patch::Patch>(operation).unwrap()).unwrap();
    pod
}

/// A fixture with another volume in place of the one named `name`.
pub(crate) fn with_volume(path: &str, name: &str, volume: Value) -> Value {
    let mut pod = fixture(path);
    let volumes = pod["spec"]["volumes"].as_array_mut().unwrap();
    *volumes.iter_mut().find(|volume| volume["name"] == name).unwrap() = volume;
    pod
}

/// The legacy workflow pod, labelled as a paired runner's template does.
pub(crate) fn labelled() -> Value {
    let version = state().versions[0].name.to_string();
    with(LEGACY, "/metadata/labels/headstart.dev~1version", json!(version))
}

pub(crate) fn script(script: &str) -> Value {
    with(CURRENT, "/spec/initContainers/0/command/2", json!(script))
}

pub(crate) const FIRST_MOUNTS: &str = "/spec/containers/0/volumeMounts/-";

pub(crate) fn own(path: &str) -> Value {
    json!({"name": "own", "mountPath": path})
}
