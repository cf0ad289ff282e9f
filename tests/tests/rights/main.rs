//! What the shipped accounts may do, and no more: roles, and policies where a role says too little, against a real API
//! server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod creation;
mod world;

use headstart_externals::names::NODE_CONDITION;
use headstart_tests::bed::control_plane::client_of;
use headstart_tests::bed::{ControlPlane, Minor};
use headstart_tests::deploy::rendered;
use headstart_tests::identity::kubeconfig;
use headstart_tests::played::{OURS, Played};
use headstart_tests::programs::repository;
use headstart_tests::wait::until;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

#[tokio::test]
async fn tokens_can_do_nothing_but_their_duty() {
    let cluster = Played::new().await;
    let control_plane = &cluster.control_plane;
    cluster.add_node("a", &[]);
    cluster.add_node("b", &[]);
    let agent = kubeconfig(control_plane, "headstart-cachesync", Some("a"), cluster.folder.path());
    let as_agent = |words: &[&str]| {
        let file = agent.display().to_string();
        control_plane.kubectl(&[words, &["--kubeconfig", &file]].concat())
    };
    let create = |node: &str, more: &str| {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": node, "namespace": OURS, "labels": { "headstart.dev/report": "node" } },
        });
        let file = cluster.folder.path().join(format!("{node}.json"));
        std::fs::write(&file, lease.to_string()).unwrap();
        as_agent(&["create", more, "--filename", &file.display().to_string()])
    };
    // API servers take over a new policy a moment later.
    until("the policy is in force", || async {
        let refused = create("b", "--dry-run=server").err()?.to_string();
        refused.contains("an agent may write the Lease of its own node only").then_some(())
    })
    .await;
    create("a", "--dry-run=none").unwrap();
    let refused = create("b", "--dry-run=none").unwrap_err().to_string();
    assert!(refused.contains("own node only"), "{refused}");
    let update = ["annotate", "lease", "b", "x=y", "--namespace", OURS, "--overwrite"];
    cluster.report("b", "ready", None);
    assert!(as_agent(&update).is_err(), "neither to create nor to change");
    let refused = create("headstart-controller", "--dry-run=none").unwrap_err().to_string();
    assert!(refused.contains("own node only"), "{refused}");
    for forbidden in [
        &["get", "secrets", "--namespace", OURS][..],
        &["get", "pods", "--namespace", OURS],
        &["delete", "lease", "a", "--namespace", OURS],
        &["get", "nodes"],
        &["create", "configmap", "x", "--namespace", OURS],
    ] {
        let refused = as_agent(forbidden).unwrap_err().to_string();
        assert!(refused.contains("Forbidden") || refused.contains("forbidden"), "{forbidden:?}: {refused}");
    }
    let probe = kubeconfig(control_plane, "headstart-probe", None, cluster.folder.path());
    let pod = ["run", "x", "--image=x", "--kubeconfig", &probe.display().to_string()].map(str::to_owned);
    let words: Vec<&str> = pod.iter().map(String::as_str).collect();
    let refused = control_plane.kubectl(&words).unwrap_err().to_string();
    assert!(refused.contains("as a dry run only"), "{refused}");
    control_plane.kubectl(&[&words[..], &["--dry-run=server"]].concat()).unwrap();
    for system in ["kube-system", "kube-node-lease", OURS] {
        let there = [&words[..], &["--dry-run=server", "--namespace", system]].concat();
        let refused = control_plane.kubectl(&there).unwrap_err().to_string();
        assert!(refused.contains("may try nothing in the system's namespaces"), "{system}: {refused}");
    }
}

#[tokio::test]
async fn what_bounds_an_account_is_there_before_it_may_do_anything() {
    let control_plane = ControlPlane::start(Minor::Newest).await.unwrap();
    let examples =
        ["current-runners", "release-archive", "runner-creation"].map(|name| format!("examples/{name}"));
    for folder in [String::new()].into_iter().chain(examples) {
        let objects = rendered(&control_plane, &repository().join("deploy").join(&folder));
        let place = |wanted: fn(&str) -> bool| {
            let kinds = objects
                .iter()
                .enumerate()
                .filter(move |(_, object)| wanted(object["kind"].as_str().unwrap()));
            kinds.map(|(at, _)| at).collect::<Vec<_>>()
        };
        let bounds = place(|kind| kind.starts_with("ValidatingAdmissionPolicy"));
        let grants =
            place(|kind| kind.ends_with("RoleBinding") || kind == "Deployment" || kind == "DaemonSet");
        assert!(bounds.len() >= 10 && !grants.is_empty(), "{folder}");
        assert!(bounds.iter().max() < grants.iter().min(), "{folder}");
    }
}

#[tokio::test]
async fn the_controller_marks_nodes_and_changes_nothing_else_of_them() {
    let cluster = Played::new().await;
    let control_plane = &cluster.control_plane;
    cluster.add_node("a", &["foreign=x:NoSchedule", "headstart.dev/cold=x:NoSchedule"]);
    let controller = kubeconfig(control_plane, "headstart-controller", None, cluster.folder.path());
    let as_controller = |words: &[&str]| {
        let file = controller.display().to_string();
        control_plane.kubectl(&[words, &["--kubeconfig", &file]].concat())
    };
    // API servers take over a new policy a moment later.
    until("the policy is in force", || async {
        as_controller(&["label", "node", "a", "pool=x", "--dry-run=server"]).err()
    })
    .await;
    as_controller(&["label", "node", "a", "headstart.dev/cache=unserviceable"]).unwrap();
    for (patch, expected) in [
        (r#"{"metadata": {"labels": {"pool": "x"}}}"#, "no label of a node but"),
        (r#"{"spec": {"unschedulable": true}}"#, "may not change the spec"),
        (r#"{"spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]}}"#, "may not change the spec"),
        (r#"{"spec": {"taints": null}}"#, "no taint of a node but startup taints"),
        (
            r#"{"spec": {"taints": [{"key": "headstart.dev/new", "effect": "NoSchedule"}]}}"#,
            "neither add nor change a taint",
        ),
        (
            r#"{"spec": {"taints": [{"key": "headstart.dev/cold", "effect": "NoExecute"}]}}"#,
            "neither add nor change a taint",
        ),
        (r#"{"metadata": {"annotations": {"a": "b"}}}"#, "may not change annotations"),
        (r#"{"metadata": {"finalizers": ["example.com/x"]}}"#, "neither owners nor finalizers"),
        (
            r#"{"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "x", "uid": "u"}]}}"#,
            "neither owners nor finalizers",
        ),
    ] {
        let refused = as_controller(&["patch", "node", "a", "--patch", patch]).unwrap_err().to_string();
        assert!(refused.contains(expected), "{patch}: {refused}");
    }
    let keys = || {
        let taints = cluster.get(&["node", "a"]).unwrap()["spec"]["taints"].clone();
        let key = |taint: &Value| taint["key"].as_str().unwrap().to_owned();
        taints.as_array().into_iter().flatten().map(key).collect::<Vec<_>>()
    };
    let at = keys().iter().position(|key| key == "headstart.dev/cold").unwrap();
    let startup = json!([{ "op": "remove", "path": format!("/spec/taints/{at}") }]).to_string();
    as_controller(&["patch", "node", "a", "--type=json", "--patch", &startup]).unwrap();
    assert!(keys().contains(&"foreign".to_owned()) && !keys().contains(&"headstart.dev/cold".to_owned()));
    let nodes: Api<Node> = Api::all(client_of(&controller).await.unwrap());
    let condition = |name: &str| {
        let condition = json!({ "type": name, "status": "False" });
        Patch::Strategic(json!({ "status": { "conditions": [condition] } }))
    };
    nodes.patch_status("a", &PatchParams::default(), &condition(NODE_CONDITION)).await.unwrap();
    let refused = nodes.patch_status("a", &PatchParams::default(), &condition("Ready")).await.unwrap_err();
    assert!(refused.to_string().contains("no condition of a node but"), "{refused}");
    refuses_all_other_status(&nodes).await;
}

/// But `config`, which API servers drop themselves.
async fn refuses_all_other_status(nodes: &Api<Node>) {
    for (field, value) in [
        ("addresses", json!([{ "type": "InternalIP", "address": "192.0.2.1" }])),
        ("capacity", json!({ "cpu": "1" })),
        ("allocatable", json!({ "cpu": "1" })),
        ("daemonEndpoints", json!({ "kubeletEndpoint": { "Port": 1 } })),
        ("nodeInfo", json!({ "kernelVersion": "x" })),
        ("images", json!([{ "names": ["x"] }])),
        ("volumesAttached", json!([{ "name": "x", "devicePath": "" }])),
        ("volumesInUse", json!(["x"])),
        ("phase", json!("Terminated")),
        ("features", json!({ "supplementalGroupsPolicy": true })),
        ("runtimeHandlers", json!([{ "name": "x" }])),
        ("declaredFeatures", json!(["Some"])),
    ] {
        let patch = Patch::Merge(json!({ "status": { field: value } }));
        let answer = nodes.patch_status("a", &PatchParams::default(), &patch).await;
        let refused = answer.err().map(|refused| refused.to_string()).unwrap_or_default();
        assert!(refused.contains("nothing of a node's status but one condition"), "{field}: {refused}");
    }
}

#[tokio::test]
async fn the_controller_deletes_reports_and_no_other_lease_and_changes_no_webhook() {
    let cluster = Played::new().await;
    let controller = kubeconfig(&cluster.control_plane, "headstart-controller", None, cluster.folder.path());
    let as_controller = |words: &[&str]| {
        let file = controller.display().to_string();
        cluster.control_plane.kubectl(&[words, &["--kubeconfig", &file]].concat())
    };
    let lease = |name: &str| {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": name, "namespace": OURS },
        });
        cluster.control_plane.apply(&lease.to_string()).unwrap();
    };
    lease("headstart-controller");
    lease("other");
    cluster.report("a", "ready", None);
    for name in ["headstart-controller", "other"] {
        let delete = ["delete", "lease", name, "--namespace", OURS, "--dry-run=server"];
        // API servers take over a new policy a moment later.
        until("the policy is in force", || async {
            let refused = as_controller(&delete).err()?.to_string();
            refused.contains("may delete node reports only").then_some(())
        })
        .await;
    }
    as_controller(&["delete", "lease", "a", "--namespace", OURS]).unwrap();
    for (field, value) in [
        ("failurePolicy", json!("Fail")),
        ("rules/0/resources", json!(["secrets"])),
        ("namespaceSelector", json!({})),
        ("clientConfig", json!({ "url": "https://elsewhere.example.com" })),
        ("name", json!("other.headstart.dev")),
    ] {
        let path = format!("/webhooks/0/{field}");
        let patch = json!([{ "op": "replace", "path": path, "value": value }]).to_string();
        let patch = ["patch", "mutatingwebhookconfiguration", "headstart", "--type=json", "--patch", &patch];
        let refused = as_controller(&patch).unwrap_err().to_string();
        assert!(refused.contains("no field of a webhook but caBundle"), "{field}: {refused}");
    }
    let owner = json!([{ "apiVersion": "v1", "kind": "Node", "name": "x", "uid": "u" }]);
    for (field, value) in [("finalizers", json!(["example.com/x"])), ("ownerReferences", owner)] {
        let patch = json!({ "metadata": { field: value } }).to_string();
        let patch = ["patch", "mutatingwebhookconfiguration", "headstart", "--patch", &patch];
        let refused = as_controller(&patch).unwrap_err().to_string();
        assert!(refused.contains("owners or finalizers of webhooks"), "{field}: {refused}");
    }
}
