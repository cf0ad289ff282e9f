//! Every reason to leave a pod alone, each shown by a recorded pod with one thing changed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod others;
mod pods;

use std::collections::BTreeSet;

use headstart_externals::arch::Arch;
use headstart_externals::state::{Allowed, MountKind, Phase};
use headstart_webhook::decide::{Context, decide};
use headstart_webhook::reason::Reason;
use serde_json::{Value, json};

use others::{cases_of_dind, cases_of_older_runners};
use pods::*;

/// Every case: what is changed, and the reason that must follow.
fn cases() -> Vec<(&'static str, Value)> {
    [
        cases_of_runners(),
        cases_of_runner_volumes(),
        cases_of_dind(),
        cases_of_older_runners(),
        cases_of_legacy_workflows(),
        cases_of_current_workflows(),
    ]
    .concat()
}

fn cases_of_runners() -> Vec<(&'static str, Value)> {
    let env = |name: &str| with(RUNNER, "/spec/containers/0/env/-", json!({"name": name, "value": "node12"}));
    vec![
        ("lean", fixture(RUNNER)),
        ("no-hooks", fixture("arc/default.json")),
        ("hooks-current", fixture("arc/kubernetes-novolume.json")),
        ("hooks-unknown", with(RUNNER, "/spec/containers/0/env/0/value", json!("/opt/own-hook.js"))),
        ("no-runner-container", with(RUNNER, "/spec/containers/0/name", json!("main"))),
        ("image-unknown", with(RUNNER, "/spec/containers/0/image", json!("example.com/runner:1"))),
        ("windows", with(RUNNER, "/spec/os", json!({"name": "windows"}))),
        ("windows", with(CURRENT, "/spec/nodeSelector", json!({"kubernetes.io/os": "windows"}))),
        ("mirror", with(RUNNER, "/metadata/annotations/kubernetes.io~1config.mirror", json!("x"))),
        ("node-chosen", env("ACTIONS_RUNNER_FORCED_INTERNAL_NODE_VERSION")),
        ("node-chosen", env("ACTIONS_ALLOW_USE_UNSECURE_NODE_VERSION")),
        (
            "owners-changed",
            with(RUNNER, "/spec/containers/0/args", json!(["-c", "chown -R 1001 /home/runner"])),
        ),
        (
            "owners-changed",
            with(
                RUNNER,
                "/spec/containers/0/command",
                json!([
                    "sh",
                    "-c",
                    "cp -a /opt/node20/. /home/runner/externals/node20/ && /home/runner/run.sh"
                ]),
            ),
        ),
        (
            "owners-changed",
            with(
                RUNNER,
                "/spec/containers/0/lifecycle",
                json!({"postStart": {"exec": {"command": ["chown", "-R", "runner", "/home/runner"]}}}),
            ),
        ),
        ("user-namespace", with(RUNNER, "/spec/hostUsers", json!(false))),
        ("lean", with(RUNNER, "/spec/hostUsers", json!(true))),
        (
            "hooks-current",
            with(RUNNER, "/spec/containers/0/env/0/value", json!("/opt/runner/k8s-novolume/index.js")),
        ),
        ("not-arc", json!({"metadata": {}, "spec": {}})),
        ("not-arc", with(RUNNER, "/metadata/labels/actions-ephemeral-runner", json!("False"))),
        ("unreadable", with(RUNNER, "/spec/containers", json!("none"))),
        ("unreadable", with(LEGACY, "/spec/affinity/nodeAffinity", json!([]))),
    ]
}

/// Where a runner has mounts and volumes of its own.
fn cases_of_runner_volumes() -> Vec<(&'static str, Value)> {
    let runner_mount = |path: &str| with(RUNNER, FIRST_MOUNTS, own(path));
    vec![
        ("work-mount-unclear", with(RUNNER, "/spec/containers/0/volumeMounts/0/mountPath", json!("/work"))),
        ("work-mount-unclear", runner_mount("/other/_work")),
        ("path-taken", runner_mount("/home/runner/externals")),
        ("path-taken", runner_mount("/home/runner//externals/node16")),
        ("path-taken", runner_mount("home/runner")),
        (
            "path-taken",
            with(
                RUNNER,
                "/spec/containers/0/volumeDevices",
                json!([{"name": "d", "devicePath": "/home/runner/externals"}]),
            ),
        ),
        (
            "name-taken",
            with(RUNNER, "/spec/volumes/-", json!({"name": "headstart-externals", "emptyDir": {}})),
        ),
        (
            "name-taken",
            with(
                RUNNER,
                "/spec/containers/0/volumeMounts/-",
                json!({"name": "headstart-externals", "mountPath": "/x"}),
            ),
        ),
    ]
}

fn cases_of_legacy_workflows() -> Vec<(&'static str, Value)> {
    let copied = json!({"name": "work", "mountPath": "/__e", "subPath": "externals"});
    vec![
        ("mounted", labelled()),
        ("version-unknown", fixture(LEGACY)),
        (
            "version-not-offered",
            with(LEGACY, "/metadata/labels/headstart.dev~1version", json!("node16-000000000000")),
        ),
        ("path-taken", changed(labelled(), FIRST_MOUNTS, own("/__e/tools"))),
        ("path-taken", changed(labelled(), FIRST_MOUNTS, copied)),
        (
            "name-taken",
            changed(labelled(), "/spec/volumes/-", json!({"name": "headstart-externals", "emptyDir": {}})),
        ),
        ("shape-unknown", changed(labelled(), "/spec/volumes/0", json!({"name": "work", "emptyDir": {}}))),
        ("step-legacy", fixture("hooks/v0.7.0/step-plain.json")["spec"]["template"].clone()),
    ]
}

fn cases_of_current_workflows() -> Vec<(&'static str, Value)> {
    let externals = |path: &str| json!({"name": "externals", "mountPath": path});
    vec![
        ("mounted", fixture(CURRENT)),
        ("step-plain", fixture("hooks/HEAD/step-plain.json")),
        (
            "step-plain",
            with("hooks/HEAD/step-plain.json", "/spec/initContainers", json!([{"name": "istio-init"}])),
        ),
        ("step-tool-copy", fixture("hooks/v0.8.0/step-plain.json")),
        ("image-unknown", with(CURRENT, "/spec/initContainers/0/image", json!("example.com/runner:1"))),
        (
            "init-replaced",
            with(
                CURRENT,
                "/spec/initContainers",
                json!([{"name": "own", "volumeMounts": [externals("/e")]}]),
            ),
        ),
        (
            "shape-unknown",
            with(CURRENT, "/spec/volumes/0", json!({"name": "externals", "hostPath": {"path": "/own"}})),
        ),
        ("script-unknown", script("mv /home/runner/externals/* /mnt/externals && touch /mnt/externals/x")),
        ("script-unknown", script("cp -r /home/runner/externals/. /mnt/externals")),
        ("script-unknown", with(CURRENT, "/spec/initContainers/0/args", json!(["x"]))),
        ("externals-shared", with(CURRENT, FIRST_MOUNTS, externals("/tools"))),
        ("externals-shared", with(CURRENT, "/spec/containers/0/volumeMounts/0/subPath", json!("node20"))),
        (
            "externals-shared",
            with(CURRENT, "/spec/containers/0/volumeMounts/0/mountPropagation", json!("Bidirectional")),
        ),
        ("externals-shared", with(CURRENT, "/spec/initContainers/0/volumeMounts/0/name", json!("github"))),
        (
            "externals-shared",
            with(
                CURRENT,
                "/spec/initContainers/-",
                json!({"name": "own", "volumeMounts": [externals("/__e")]}),
            ),
        ),
        (
            "externals-shared",
            changed(fixture(CURRENT), "/spec/containers/-", side_car(&externals("/__e"), false)),
        ),
        ("mounted", changed(fixture(CURRENT), "/spec/containers/-", side_car(&externals("/__e"), true))),
        ("path-taken", with(CURRENT, FIRST_MOUNTS, own("/__e/tools"))),
        ("path-taken", with(CURRENT, "/spec/initContainers/0/volumeMounts/-", own("/mnt/externals/tools"))),
    ]
}

/// A container of the user's own beside the hooks'.
fn side_car(mount: &Value, read_only: bool) -> Value {
    let mut mount = mount.clone();
    mount["readOnly"] = json!(read_only);
    json!({"name": "side", "image": "side:1", "volumeMounts": [mount]})
}

/// Reasons that follow from the state rather than from the pod.
fn cases_of_state() -> Vec<(&'static str, &'static str)> {
    let runner = || fixture(RUNNER);
    let mut ambiguous = state();
    let mut other = ambiguous.versions[0].clone();
    other.name = "other-0123456789ab".parse().unwrap();
    ambiguous.versions.push(other);
    let mut retired = state();
    retired.versions[0].phase = Phase::Retired;
    let mut retiring = state();
    retiring.versions[0].phase = Phase::Retiring;
    let mut refused = state();
    refused.allowed = Allowed::Namespaces([("n".to_owned(), [MountKind::Image].into())].into());
    let mut elsewhere = state();
    elsewhere.node_selector = [("pool".to_owned(), "ci".to_owned())].into();
    let selects = |value: &str| with(RUNNER, "/spec/nodeSelector", json!({"pool": value}));
    let requires = |terms: Value| {
        let required =
            json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}});
        with(RUNNER, "/spec/affinity", json!({"nodeAffinity": required}))
    };
    let pool = |operator: &str, value: &str| json!({"matchExpressions": [{"key": "pool", "operator": operator, "values": [value]}]});
    let mut arm = state();
    arm.versions[0].arches = [Arch::Arm64].into();
    let of_arch = |value: &str| with(RUNNER, "/spec/nodeSelector", json!({"kubernetes.io/arch": value}));
    let mut no_image = state();
    no_image.versions[0].volume_image = None;
    vec![
        ("image-ambiguous", reason_with(&ambiguous, MountKind::HostPath, runner())),
        ("image-unknown", reason_with(&retiring, MountKind::HostPath, runner())),
        ("mounted", reason_with(&retiring, MountKind::HostPath, labelled())),
        ("version-not-offered", reason_with(&retired, MountKind::HostPath, labelled())),
        ("kind-refused", reason_with(&refused, MountKind::HostPath, runner())),
        ("lean", reason_with(&refused, MountKind::Image, runner())),
        ("lean", reason_with(&elsewhere, MountKind::HostPath, selects("ci"))),
        ("nodes-excluded", reason_with(&elsewhere, MountKind::HostPath, selects("gpu"))),
        (
            "nodes-excluded",
            reason_with(&elsewhere, MountKind::HostPath, requires(json!([pool("In", "gpu")]))),
        ),
        (
            "nodes-excluded",
            reason_with(&elsewhere, MountKind::HostPath, requires(json!([pool("NotIn", "ci")]))),
        ),
        (
            "nodes-excluded",
            reason_with(&elsewhere, MountKind::HostPath, requires(json!([pool("DoesNotExist", "x")]))),
        ),
        (
            "lean",
            reason_with(
                &elsewhere,
                MountKind::HostPath,
                requires(json!([pool("In", "gpu"), pool("In", "ci")])),
            ),
        ),
        ("lean", reason_with(&state(), MountKind::Image, with(RUNNER, "/spec/hostUsers", json!(false)))),
        ("arch-excluded", reason_with(&arm, MountKind::HostPath, of_arch("amd64"))),
        ("lean", reason_with(&arm, MountKind::HostPath, of_arch("arm64"))),
        ("lean", reason_with(&arm, MountKind::HostPath, runner())),
        ("no-volume-image", reason_with(&no_image, MountKind::Image, runner())),
    ]
}

#[test]
fn every_pod_gets_its_reason() {
    for (at, (expected, pod)) in cases().into_iter().enumerate() {
        assert_eq!(reason(pod.clone()), expected, "case {at}: {pod}");
    }
    for (expected, found) in cases_of_state() {
        assert_eq!(found, expected);
    }
}

#[test]
fn every_reason_is_shown_by_a_case() {
    let shown: BTreeSet<&str> =
        cases().iter().map(|(reason, _)| *reason).chain(cases_of_state().iter().map(|(r, _)| *r)).collect();
    // Shown elsewhere: without a state (properties, watched), on the wire (tests/tests/webhook.rs), on a second pass and
    // with other profiles (pairing).
    let elsewhere = [
        "state-unknown",
        "state-stale",
        "not-a-pod",
        "overloaded",
        "already-done",
        "completed",
        "paired",
        "internal",
    ];
    for reason in Reason::ALL {
        assert!(
            shown.contains(reason.code()) || elsewhere.contains(&reason.code()),
            "{reason} is never shown"
        );
    }
}

#[test]
fn a_pod_of_ours_stays_ours_whatever_becomes_of_its_label() {
    for change in [json!(null), json!("node16-000000000000")] {
        let mut pod = fixture(CURRENT);
        let state = state();
        let context =
            Context { namespace: "n", kinds: &[MountKind::HostPath], state: Ok(&state), assumed: None };
        let version = decide(&mut pod, context).version.unwrap();
        let done = pod.clone();
        pod["metadata"]["labels"]["headstart.dev/version"] = change;
        pod["spec"].as_object_mut().unwrap().remove("affinity");
        let again = decide(&mut pod, context);
        assert_eq!((again.reason.code(), again.version), ("completed", Some(version)));
        assert_eq!(pod, done, "label and placement are as they were");
    }
}

#[test]
fn a_volume_that_only_looks_like_ours_is_not() {
    let name = &state().versions[0].name;
    let path = format!("/var/lib/headstart/versions/{name}/tree");
    // Without the type the runtime would make an empty folder.
    let own = json!({"name": "headstart-externals", "hostPath": {"path": path, "type": ""}});
    assert_eq!(reason(changed(labelled(), "/spec/volumes/-", own)), "name-taken");
}
