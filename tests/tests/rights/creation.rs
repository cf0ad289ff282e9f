//! What the controller may do to create runners: in namespaces that a RoleBinding names, and of the objects there only what
//! the policies say.

use headstart_controller::creation::rights::{NEEDED, NEEDED_FOR_PODS};
use headstart_externals::pin::{Generation, Stored};
use headstart_tests::played::OURS;
use headstart_tests::wait::until;
use serde_json::{Value, json};

use super::world::{RUNNERS, Request, Target, World};

const SET: Target = ("EphemeralRunnerSet", RUNNERS, "set");
const IDLE: Target = ("EphemeralRunnerSet", RUNNERS, "idle");
const RUNNER: Target = ("EphemeralRunner", RUNNERS, "runner-1");
const SECRET: Target = ("Secret", RUNNERS, "runner-1");
const FOREIGN: Target = ("Secret", RUNNERS, "github");

/// All that creation takes in a namespace of runners, and no more: what the controller asks for beforehand, and the certificate
/// authority of a GitHub Enterprise Server.
fn granted() -> impl Iterator<Item = (String, &'static [&'static str])> {
    let needed = NEEDED.iter().chain([&NEEDED_FOR_PODS, &("", "configmaps", &["get"])]);
    needed.map(|(group, resource, verbs)| {
        let resource = if group.is_empty() { (*resource).to_owned() } else { format!("{resource}.{group}") };
        (resource, *verbs)
    })
}

const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

#[tokio::test]
async fn what_creates_runners_can_do_nothing_else() {
    let world = World::with("examples/runner-creation").await;
    rights_end_at_the_namespaces_that_are_bound(&world).await;
    a_set_is_handed_back_as_its_listener_asked(&world).await;
    what_is_not_pinned_is_not_handed_back(&world).await;
    nothing_asked_is_handed_back_as_nothing(&world).await;
    runners_are_those_of_a_set_and_keep_their_number(&world).await;
    secrets_are_its_own_and_change_owners_only(&world).await;
    pods_are_those_of_runners(&world).await;
    expressions_fit_the_types_of_what_they_judge(&world).await;
}

async fn rights_end_at_the_namespaces_that_are_bound(world: &World) {
    for (resource, granted) in granted() {
        for verb in VERBS {
            // Which pods carry a version is asked everywhere, with or without runners.
            let is_everywhere = (resource.as_str(), verb) == ("pods", "list");
            let there = world.can_i(verb, &resource, Some(RUNNERS)).await;
            assert_eq!(there, granted.contains(&verb) || is_everywhere, "{verb} {resource}");
            let elsewhere = world.can_i(verb, &resource, Some("default")).await;
            assert_eq!(elsewhere, is_everywhere, "{verb} {resource}");
        }
    }
    let status = "ephemeralrunnersets/status.actions.github.com";
    assert!(!world.can_i("patch", status, Some(RUNNERS)).await);
    // Listeners live where ARC does, and are only looked at.
    for verb in VERBS {
        let may = world.can_i(verb, "autoscalinglisteners.actions.github.com", None).await;
        assert_eq!(may, ["list", "watch"].contains(&verb), "{verb}");
    }
    let as_controller = format!("--as=system:serviceaccount:{OURS}:headstart-controller");
    let words = ["auth", "can-i", "--list", "--namespace", RUNNERS, &as_controller];
    let listed = world.control_plane.kubectl(&words).unwrap();
    assert!(listed.contains("ephemeralrunners.actions.github.com"), "{listed}");
}

#[tokio::test]
async fn without_the_component_there_is_no_right_in_runner_namespaces() {
    let world = World::with("").await;
    assert!(world.can_i("create", "selfsubjectaccessreviews.authorization.k8s.io", None).await);
    for (resource, verbs) in granted() {
        for verb in verbs {
            assert!(!world.can_i(verb, &resource, Some(RUNNERS)).await, "{verb} {resource}");
        }
    }
    assert!(!world.can_i("list", "autoscalinglisteners.actions.github.com", None).await);
    journals_come_and_go(&world).await;
    certificates_are_written_and_no_other_secret(&world).await;
}

async fn journals_come_and_go(world: &World) {
    for verb in VERBS {
        let may = world.can_i(verb, "configmaps", Some(OURS)).await;
        assert_eq!(may, ["list", "create", "delete"].contains(&verb), "{verb}");
    }
    let map = |name: &str, labels: Value| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": OURS, "labels": labels } });
    let only = "may create and delete journals only";
    world.refused(&Request::Create(map("other", json!({}))), only).await;
    world.refused(&Request::Create(map("other", json!({ "headstart.dev/runner-set": "" }))), only).await;
    world.allowed(&Request::Create(map("journal-1", json!({ "headstart.dev/runner-set": "uid-1" })))).await;
    world.allowed(&Request::Delete(("ConfigMap", OURS, "journal-1"))).await;
    world.allowed(&Request::Create(map("headstart-state", json!({})))).await;
    let state = ("ConfigMap", OURS, "headstart-state");
    world.allowed(&Request::Merge(state, json!({ "data": { "runner-sets.json": "{}" } }))).await;
    world.refused(&Request::Delete(state), only).await;
    world.refused(&Request::Delete(("ConfigMap", OURS, "headstart-config")), only).await;
    let config = Request::Merge(("ConfigMap", OURS, "headstart-config"), json!({ "data": null }));
    world.refused(&config, "forbidden").await;
}

async fn certificates_are_written_and_no_other_secret(world: &World) {
    let only = "its certificates and Secrets with the label headstart.dev/runner-set only";
    let secret = |name: &str, kind: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": { "name": name, "namespace": OURS },
            "stringData": { "tls.crt": "x", "tls.key": "y" },
        })
    };
    for (name, kind) in [
        ("other", "Opaque"),
        ("headstart-ca", "kubernetes.io/tls"),
        ("headstart-webhook-tls", "Opaque"),
        ("headstart-ca-2", "Opaque"),
    ] {
        world.refused(&Request::Create(secret(name, kind)), only).await;
    }
    for (name, kind) in [("headstart-ca", "Opaque"), ("headstart-webhook-tls", "kubernetes.io/tls")] {
        world.allowed(&Request::Create(secret(name, kind))).await;
        world.refused(&Request::Delete(("Secret", OURS, name)), "forbidden").await;
    }
}

/// A set as ARC makes it, at a stage of its life.
fn set(name: &str, generation: Generation) -> Value {
    json!({
        "apiVersion": "actions.github.com/v1alpha1", "kind": SET.0,
        "metadata": {
            "name": name, "namespace": RUNNERS, "labels": { "a": "b" }, "annotations": { "c": "d" },
            "finalizers": ["ephemeralrunnerset.actions.github.com/finalizer"],
        },
        "spec": {
            "patchID": generation.pinned(),
            "ephemeralRunnerSpec": { "githubConfigUrl": "https://github.com/o/r", "spec": { "containers": [] } },
        },
    })
}

async fn a_set_is_handed_back_as_its_listener_asked(world: &World) {
    world.given(set(SET.2, Generation::pinnable(3, 7).unwrap())).await;
    let owner = json!([{ "apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "u" }]);
    for metadata in [
        json!({ "labels": { "new": "x" } }),
        json!({ "labels": { "a": null } }),
        json!({ "annotations": { "c": "x" } }),
        json!({ "annotations": null }),
        json!({ "finalizers": null }),
        json!({ "ownerReferences": owner }),
    ] {
        let request = Request::Merge(SET, json!({ "metadata": metadata }));
        world.refused(&request, "may change no metadata of a runner set").await;
    }
    for spec in [
        json!({ "ephemeralRunnerSpec": { "githubConfigUrl": "https://elsewhere.example.com/o/r" } }),
        json!({ "ephemeralRunnerSpec": { "spec": { "hostPID": true } } }),
        json!({ "ephemeralRunnerSpec": null }),
        json!({ "ephemeralRunnerMetadata": { "labels": { "x": "y" } } }),
    ] {
        let request = Request::Merge(SET, json!({ "spec": spec }));
        world.refused(&request, "nothing of a runner set but replicas and patchID").await;
    }
    let only_back = "only hand a pinned runner set back as its listener asked";
    for (replicas, patch_id) in [(4, 7), (2, 7), (0, 7), (3, 8), (3, 0), (0, 0)] {
        let spec = json!({ "replicas": replicas, "patchID": patch_id });
        world.refused(&Request::Merge(SET, json!({ "spec": spec })), only_back).await;
    }
    let pinned = Generation::pinnable(3, 7).unwrap().pinned();
    let hand_back = json!([
        { "op": "test", "path": "/spec/patchID", "value": pinned },
        { "op": "add", "path": "/spec/replicas", "value": 3 },
        { "op": "replace", "path": "/spec/patchID", "value": 7 },
    ]);
    let stored = world.allowed(&Request::Json(SET, hand_back)).await;
    assert_eq!((&stored["spec"]["replicas"], &stored["spec"]["patchID"]), (&json!(3), &json!(7)));
    // From then on ARC owns it.
    for spec in
        [json!({ "replicas": 9 }), json!({ "replicas": 0 }), json!({ "replicas": 0, "patchID": pinned })]
    {
        world.refused(&Request::Merge(SET, json!({ "spec": spec })), only_back).await;
    }
    let same = json!({ "spec": { "replicas": 3, "patchID": 7 } });
    world.allowed(&Request::Merge(SET, same)).await;
}

/// None of these is pinned, as [`headstart_externals::pin::Stored`] reads them.
async fn what_is_not_pinned_is_not_handed_back(world: &World) {
    const RAW: Target = ("EphemeralRunnerSet", RUNNERS, "raw");
    let high = Generation::pinnable(3, 7).unwrap().pinned();
    for (stored, written) in
        [((5, high), (3, 7)), ((0, 7), (-1, 7)), ((0, high - 7), (3, 0)), ((2, 0), (-1, 0))]
    {
        assert_eq!(Stored::read(stored.0, stored.1).pinned(), None);
        let mut set = set(RAW.2, Generation::pinnable(3, 7).unwrap());
        set["spec"]["replicas"] = stored.0.into();
        set["spec"]["patchID"] = stored.1.into();
        world.control_plane.apply(&set.to_string()).unwrap();
        let spec = json!({ "replicas": written.0, "patchID": written.1 });
        world
            .refused(&Request::Merge(RAW, json!({ "spec": spec })), "only hand a pinned runner set back")
            .await;
    }
}

async fn nothing_asked_is_handed_back_as_nothing(world: &World) {
    world.given(set(IDLE.2, Generation::pinnable(0, 9).unwrap())).await;
    let stored =
        world.allowed(&Request::Merge(IDLE, json!({ "spec": { "replicas": null, "patchID": 9 } }))).await;
    assert_eq!(stored["spec"]["patchID"], 9);
}

fn owner(kind: &str, name: &str) -> Value {
    json!({ "apiVersion": "actions.github.com/v1alpha1", "kind": kind, "name": name, "uid": "u", "controller": true })
}

fn foreign(kind: &str, name: &str) -> Value {
    json!({ "apiVersion": "example.com/v1", "kind": kind, "name": name, "uid": "u", "controller": true })
}

fn subordinate(mut owner: Value) -> Value {
    owner["controller"] = false.into();
    owner
}

fn runner(owners: &[Value]) -> Value {
    json!({
        "apiVersion": "actions.github.com/v1alpha1", "kind": RUNNER.0,
        "metadata": { "name": RUNNER.2, "namespace": RUNNERS, "ownerReferences": owners },
        "spec": { "githubConfigUrl": "https://github.com/o/r", "githubConfigSecret": "github", "runnerScaleSetId": 1 },
    })
}

async fn runners_are_those_of_a_set_and_keep_their_number(world: &World) {
    let set = || owner("EphemeralRunnerSet", "set");
    for owners in [
        &[][..],
        &[owner("EphemeralRunner", "set")],
        &[foreign("EphemeralRunnerSet", "set")],
        &[subordinate(set())],
        &[set(), subordinate(foreign("Other", "x"))],
    ] {
        world.refused(&Request::Create(runner(owners)), "runners of an EphemeralRunnerSet only").await;
    }
    world.allowed(&Request::Create(runner(&[set()]))).await;
    let status = |status: Value| Request::MergeStatus(RUNNER, json!({ "status": status }));
    let nothing_else = "nothing of a runner's status but runnerId and runnerName";
    world.refused(&status(json!({ "phase": "Running" })), nothing_else).await;
    world.refused(&status(json!({ "runnerId": 5, "jobId": "x" })), nothing_else).await;
    let other = status(json!({ "runnerId": 5, "runnerName": "runner-2" }));
    world.refused(&other, "by its own name only").await;
    let registered = status(json!({ "runnerId": 5, "runnerName": RUNNER.2 }));
    let stored = world.allowed(&registered).await;
    assert_eq!(stored["status"]["runnerId"], 5);
    let running =
        json!({ "status": { "phase": "Running", "failures": { "x": "2026-01-01T00:00:00Z" } } }).to_string();
    let patch = ["--type=merge", "--subresource=status", "--namespace", RUNNERS, "--patch", &running];
    world.control_plane.kubectl(&[&["patch", "ephemeralrunner", RUNNER.2][..], &patch].concat()).unwrap();
    world.refused(&status(json!({ "phase": null })), nothing_else).await;
    world.refused(&status(json!({ "failures": null })), nothing_else).await;
    for change in [json!({ "runnerId": 6 }), json!({ "runnerId": 0 }), json!({ "runnerName": null })] {
        world.refused(&status(change), "once they are set").await;
    }
    world.refused(&status(json!({ "runnerName": "x" })), "by its own name only").await;
    world.allowed(&registered).await;
}

fn secret(name: &str, labels: Value, kind: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind, "stringData": { "jitToken": "x" },
        "metadata": {
            "name": name, "namespace": RUNNERS, "labels": labels,
            "annotations": { "kubernetes.io/service-account.name": "default" },
        },
    })
}

async fn secrets_are_its_own_and_change_owners_only(world: &World) {
    let ours = json!({ "headstart.dev/runner-set": "uid-1" });
    let only_ours = "Secrets with the label headstart.dev/runner-set only";
    world.given(secret(FOREIGN.2, json!({}), "Opaque")).await;
    let create = |labels: &Value, kind| Request::Create(secret(SECRET.2, labels.clone(), kind));
    world.refused(&create(&json!({}), "Opaque"), only_ours).await;
    world.refused(&create(&json!({ "headstart.dev/runner-set": "" }), "Opaque"), only_ours).await;
    world.refused(&create(&ours, "kubernetes.io/service-account-token"), "Opaque Secrets only").await;
    world.allowed(&create(&ours, "Opaque")).await;
    for patch in [
        json!({ "stringData": { "jitToken": "y" } }),
        json!({ "data": null }),
        json!({ "immutable": true }),
        json!({ "metadata": { "labels": { "headstart.dev/runner-set": null } } }),
        json!({ "metadata": { "annotations": { "x": "y" } } }),
        json!({ "metadata": { "finalizers": ["example.com/x"] } }),
    ] {
        world.refused(&Request::Merge(SECRET, patch), "nothing of a runner's Secret but its owners").await;
    }
    let owned = |owners: &[Value]| json!({ "metadata": { "ownerReferences": owners } });
    let its_runner = owner("EphemeralRunner", SECRET.2);
    for wrong in [
        owner("EphemeralRunner", "runner-2"),
        owner("EphemeralRunnerSet", SECRET.2),
        foreign("EphemeralRunner", SECRET.2),
    ] {
        let request = Request::Merge(SECRET, owned(&[subordinate(wrong)]));
        world.refused(&request, "the property of the runner with its name").await;
    }
    world.allowed(&Request::Merge(SECRET, owned(&[its_runner]))).await;
    world.refused(&Request::Merge(SECRET, owned(&[])), "the property of the runner with its name").await;
    let owner = owned(&[owner("EphemeralRunner", FOREIGN.2)]);
    world.refused(&Request::Merge(FOREIGN, owner), only_ours).await;
    let labels = json!({ "metadata": { "labels": ours } });
    world.refused(&Request::Merge(FOREIGN, labels), only_ours).await;
    world.refused(&Request::Delete(FOREIGN), only_ours).await;
    world.allowed(&Request::Delete(SECRET)).await;
}

async fn pods_are_those_of_runners(world: &World) {
    let pod = |label: Option<&str>, owners: &[Value]| {
        let labels = label.map_or(json!({}), |value| json!({ "actions-ephemeral-runner": value }));
        Request::Create(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "runner-1", "namespace": RUNNERS, "labels": labels, "ownerReferences": owners },
            "spec": { "containers": [{ "name": "runner", "image": "x" }] },
        }))
    };
    let its_runner = || owner("EphemeralRunner", "runner-1");
    for label in [None, Some("true")] {
        world
            .refused(&pod(label, &[its_runner()]), "with the label actions-ephemeral-runner=True only")
            .await;
    }
    for owners in [
        &[][..],
        &[owner("EphemeralRunner", "runner-2")],
        &[owner("EphemeralRunnerSet", "runner-1")],
        &[foreign("EphemeralRunner", "runner-1")],
        &[subordinate(its_runner())],
        &[its_runner(), subordinate(foreign("Other", "x"))],
    ] {
        world.refused(&pod(Some("True"), owners), "of an EphemeralRunner of the same name only").await;
    }
    world.allowed(&pod(Some("True"), &[its_runner()])).await;
}

/// The API server would judge without types too, but says which fields it does not know.
async fn expressions_fit_the_types_of_what_they_judge(world: &World) {
    let get = ["get", "validatingadmissionpolicies", "--output=json"];
    let policies = until("all policies were looked at", || async {
        let found: Value = serde_json::from_str(&world.control_plane.kubectl(&get).unwrap()).unwrap();
        let policies = found["items"].as_array().unwrap().clone();
        let is_checked = |policy: &Value| policy["status"]["observedGeneration"].is_number();
        policies.iter().all(is_checked).then_some(policies)
    })
    .await;
    // The checker knows no map of quantities, which a node's capacity is.
    let is_known = |policy: &&Value| policy["metadata"]["name"] == "headstart-controller-nodes";
    for policy in policies.iter().filter(|policy| !is_known(policy)) {
        let warnings = &policy["status"]["typeChecking"]["expressionWarnings"];
        assert!(warnings.is_null(), "{}: {warnings:#}", policy["metadata"]["name"]);
    }
}
