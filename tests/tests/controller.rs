//! The controller as it is shipped, with the rights that the manifests give it, against a real API server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use headstart_externals::names::{
    DECISION_ANNOTATION, NAMESPACE_LABEL, NODE_CONDITION, PAIRED_RUNNER, VERSION_LABEL,
};
use headstart_externals::state::{MountKind, Phase};
use headstart_tests::bed::control_plane::client_of;
use headstart_tests::bed::{ControlPlane, Minor, TestNamespace};
use headstart_tests::deploy::rendered;
use headstart_tests::identity::kubeconfig;
use headstart_tests::played::{OURS, Played};
use headstart_tests::programs::repository;
use headstart_tests::wait::{until, within};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// Gives a pod of `kubectl run` a hostPath.
const HOST_PATH: &str = r#"--overrides={"spec": {"volumes": [{"name": "x", "hostPath": {"path": "/x"}}]}}"#;

#[tokio::test]
async fn a_report_leads_to_an_offered_version_and_to_conditions_of_nodes() {
    let cluster = Played::new().await;
    let _controller = cluster.controller("one");
    cluster.add_node("a", &[]);
    cluster.add_node("b", &[]);
    cluster.becomes("a", "Unknown", "NoReport").await;
    cluster.report("b", "installing", None);
    cluster.becomes("b", "False", "Installing").await;
    cluster.report("a", "ready", None);
    cluster.becomes("a", "True", "CacheReady").await;
    assert!(cluster.state().unwrap().versions.is_empty(), "not offered while a node lacks it");
    cluster.report("b", "ready", None);
    let state = cluster.published("the version is offered", |state| !state.versions.is_empty()).await;
    assert_eq!(state.versions[0].name.as_str(), cluster.version());
    assert_eq!(state.versions[0].phase, Phase::Offered);
    // A node that gives it up is marked, so that pods keep away; the version stays offered for the others.
    cluster.report("b", "failed", Some("NoExec"));
    cluster.becomes("b", "False", "NoExec").await;
    cluster.event(("default", "b"), "CacheFailed", "NoExec: node16-").await;
    cluster.event(("default", "b"), "CacheUnserviceable", "keep away").await;
    let labels = cluster.get(&["node", "b"]).unwrap()["metadata"]["labels"].clone();
    assert_eq!(labels["headstart.dev/cache"], "unserviceable");
    assert_eq!(cluster.state().unwrap().versions[0].phase, Phase::Offered);
    cluster.report("b", "ready", None);
    cluster.becomes("b", "True", "CacheReady").await;
    let labels = cluster.get(&["node", "b"]).unwrap()["metadata"]["labels"].clone();
    assert!(labels["headstart.dev/cache"].is_null(), "{labels}");
    cluster.event(("default", "b"), "CacheServiceable", "may come").await;
    let repaired = json!({ "name": cluster.version(), "state": "ready", "wanted": true, "repairs": 2 });
    cluster.write_report("a", &[repaired]);
    cluster.event(("default", "a"), "CacheRepaired", "2 times").await;
    // Only what ends trouble: that all nodes install what is to be offered first is none.
    assert!(cluster.events("default", "a", "CacheReady").is_empty());
    assert_eq!(cluster.events("default", "b", "CacheReady").len(), 1);
    assert!(cluster.events("default", "a", "CacheFailed").is_empty());
}

#[tokio::test]
async fn only_namespaces_that_opted_in_and_admit_the_volume_are_allowed() {
    let cluster = Played::new().await;
    let controller = cluster.controller("one");
    cluster.add_node("a", &[]);
    cluster.report("a", "ready", None);
    let control_plane = &cluster.control_plane;
    let label = |value: &str| format!("{NAMESPACE_LABEL}={value}");
    let open = TestNamespace::labelled(control_plane, "open", &[&label("hostpath")]).unwrap();
    forbid_host_paths(control_plane, "test-policy=strict");
    let strict = TestNamespace::labelled(control_plane, "strict", &["test-policy=strict"]).unwrap();
    let pod = ["run", "x", "--image=x", "--dry-run=server", "--namespace", strict.name(), HOST_PATH];
    until("the policy is in force", || async {
        control_plane.kubectl(&pod).err().filter(|error| error.to_string().contains("no hostPath here"))
    })
    .await;
    control_plane.kubectl(&["label", "namespace", strict.name(), &label("auto")]).unwrap();
    let other = TestNamespace::create(control_plane, "other").unwrap();
    let refused = controller.says("pods would be refused with this volume kind; they stay unchanged").await;
    assert_eq!(refused["namespace"], strict.name());
    assert!(refused["why"].as_str().unwrap().contains("no hostPath here"), "{refused}");
    let state =
        cluster.published("open is allowed", |state| state.allows(open.name(), MountKind::HostPath)).await;
    assert!(!state.allows(strict.name(), MountKind::HostPath), "a policy forbids it");
    assert!(!state.allows(other.name(), MountKind::HostPath), "nobody asked for it");
    let auto = &state.auto[strict.name()];
    assert_eq!(auto.kind, None);
    assert!(auto.reason.contains("no hostPath here") && auto.reason.contains("no version has a volumeImage"));
    assert!(!state.auto.contains_key(open.name()), "it chose by itself");
    let about = (strict.name(), strict.name());
    cluster.event(about, "NoVolumeKind", "no hostPath here").await;

    let enforced = "pod-security.kubernetes.io/enforce=baseline";
    control_plane.kubectl(&["label", "namespace", open.name(), enforced]).unwrap();
    cluster
        .published("open has turned strict", |state| !state.allows(open.name(), MountKind::HostPath))
        .await;
    control_plane.kubectl(&["label", "namespace", strict.name(), "test-policy-"]).unwrap();
    let opened = cluster
        .published("strict was opened", |state| state.allows(strict.name(), MountKind::HostPath))
        .await;
    assert_eq!(opened.auto[strict.name()].kind, Some(MountKind::HostPath));
    assert_eq!(opened.auto[strict.name()].reason, "hostpath is admitted");
    cluster.event(about, "VolumeKindChosen", "auto means hostpath here: hostpath is admitted").await;
    let unlabel = format!("{NAMESPACE_LABEL}-");
    control_plane.kubectl(&["label", "namespace", strict.name(), &unlabel]).unwrap();
    cluster
        .published("nobody asks any more", |state| !state.allows(strict.name(), MountKind::HostPath))
        .await;
    let pods = cluster.get(&["pods", "--all-namespaces"]).unwrap();
    let left = pods["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|pod| pod["metadata"]["name"].as_str().unwrap().starts_with("headstart-probe"));
    assert_eq!(left.count(), 0, "a dry run leaves nothing");
}

#[tokio::test]
async fn paired_runners_that_lose_host_paths_are_told_of() {
    let cluster = Played::new().await;
    let _controller = cluster.controller("one");
    cluster.add_node("a", &[]);
    cluster.report("a", "ready", None);
    let control_plane = &cluster.control_plane;
    let label = format!("{NAMESPACE_LABEL}=hostpath");
    let namespace = TestNamespace::labelled(control_plane, "open", &[&label]).unwrap();
    let name = namespace.name();
    cluster.published("hostPath is allowed", |state| state.allows(name, MountKind::HostPath)).await;
    for (pod, decision) in [("busy", PAIRED_RUNNER), ("done", PAIRED_RUNNER), ("lean", "runner-legacy/lean")]
    {
        let runner = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": pod, "namespace": name,
                "labels": { "actions-ephemeral-runner": "True", VERSION_LABEL: cluster.version() },
                "annotations": { DECISION_ANNOTATION: decision },
            },
            "spec": { "containers": [{ "name": "runner", "image": "x" }] },
        });
        control_plane.apply(&runner.to_string()).unwrap();
    }
    let over = r#"--patch={"status": {"phase": "Succeeded"}}"#;
    control_plane
        .kubectl(&["patch", "pod", "done", "--namespace", name, "--subresource=status", over])
        .unwrap();

    let strict = "pod-security.kubernetes.io/enforce=restricted";
    control_plane.kubectl(&["label", "namespace", name, strict]).unwrap();
    let events = || {
        let field = "--field-selector=reason=PairedRunnersNeedHostPath";
        let found = cluster.get(&["events", "--namespace", name, field])?;
        found["items"].as_array().filter(|items| !items.is_empty()).cloned()
    };
    let told = until("a warning", || async { events() }).await;
    assert_eq!((told.len(), &told[0]["type"]), (1, &json!("Warning")), "{told:?}");
    assert_eq!(told[0]["involvedObject"]["name"], name);
    let message = told[0]["message"].as_str().unwrap();
    assert!(message.starts_with("1 paired runner "), "the others need nothing: {message}");
    assert!(!cluster.state().unwrap().allows(name, MountKind::HostPath), "nor is a new pod given one");
    // What the Event warns of: the workflow pod as the runner's hook template makes it.
    let refused = control_plane.apply(&workflow_of_paired(name).to_string()).unwrap_err().to_string();
    assert!(refused.contains("violates PodSecurity") && refused.contains("hostPath"), "{refused}");

    // Once per change, and anew with the next one.
    control_plane.kubectl(&["label", "namespace", name, "pod-security.kubernetes.io/enforce-"]).unwrap();
    cluster.published("it is allowed again", |state| state.allows(name, MountKind::HostPath)).await;
    assert_eq!(events().unwrap().len(), 1);
    // Who does not want it any more still admits it.
    let (opt_out, opt_in) = (format!("{NAMESPACE_LABEL}-"), format!("{NAMESPACE_LABEL}=hostpath"));
    control_plane.kubectl(&["label", "namespace", name, &opt_out]).unwrap();
    cluster.published("nobody asks for it", |state| !state.allows(name, MountKind::HostPath)).await;
    control_plane.kubectl(&["label", "namespace", name, &opt_in]).unwrap();
    cluster.published("it is asked for again", |state| state.allows(name, MountKind::HostPath)).await;
    control_plane.kubectl(&["label", "namespace", name, strict]).unwrap();
    until("another warning", || async { events().filter(|events| events.len() > 1) }).await;
    assert_eq!(events().unwrap().len(), 2);
}

/// A pod that is as strict as can be but for the tree that a paired runner's template brings.
fn workflow_of_paired(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "workflow", "namespace": namespace, "labels": { "runner-pod": "busy" } },
        "spec": {
            "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "job", "image": "x",
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            }],
            "volumes": [{ "name": "headstart-externals", "hostPath": { "path": "/x", "type": "Directory" } }],
        },
    })
}

/// A policy that no label of Pod Security shows; it is in force a moment later.
fn forbid_host_paths(control_plane: &ControlPlane, selector: &str) {
    let (key, value) = selector.split_once('=').unwrap();
    let rule = json!({
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
    });
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": "no-host-path" },
        "spec": {
            "matchConstraints": {
                "resourceRules": [rule], "namespaceSelector": { "matchLabels": { key: value } },
            },
            "validations": [{
                "expression": "!object.spec.?volumes.orValue([]).exists(volume, has(volume.hostPath))",
                "message": "no hostPath here",
            }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": "no-host-path" },
        "spec": { "policyName": "no-host-path", "validationActions": ["Deny"] },
    });
    control_plane.apply(&policy.to_string()).unwrap();
    control_plane.apply(&binding.to_string()).unwrap();
}

#[tokio::test]
async fn certificates_are_issued_trusted_and_mended() {
    let cluster = Played::new().await;
    let _controller = cluster.controller("one");
    let bundles = || {
        let found = cluster.get(&["mutatingwebhookconfiguration", "headstart"])?;
        let webhooks = found["webhooks"].as_array()?.clone();
        let bundle = |webhook: &Value| webhook["clientConfig"]["caBundle"].as_str().map(str::to_owned);
        webhooks.iter().map(bundle).collect::<Option<Vec<_>>>()
    };
    let secret = || cluster.get(&["secret", "headstart-webhook-tls", "--namespace", OURS]);
    let leaf = until("the leaf", || async { secret() }).await;
    assert_eq!(leaf["type"], "kubernetes.io/tls");
    let published = bundles().unwrap();
    assert_eq!(published.len(), 4);
    assert!(published.iter().all(|bundle| *bundle == published[0]));
    assert_eq!(
        published[0],
        leaf["data"]["ca.crt"].as_str().unwrap(),
        "what signed the leaf is what is trusted"
    );
    headstart_tests::identity::verify_chain(&leaf["data"], "headstart-webhook.headstart-system.svc");

    // Whoever takes something away gets it back.
    let control_plane = &cluster.control_plane;
    control_plane.kubectl(&["delete", "secret", "headstart-webhook-tls", "--namespace", OURS]).unwrap();
    let again = until("a new leaf", || async { secret() }).await;
    assert_ne!(again["data"]["tls.crt"], leaf["data"]["tls.crt"]);
    control_plane.kubectl(&["delete", "secret", "headstart-ca", "--namespace", OURS]).unwrap();
    until("a new CA, trusted", || async { bundles().filter(|bundles| bundles[0] != published[0]) }).await;
    let last = until("a leaf of the new CA", || async {
        secret().filter(|leaf| leaf["data"]["ca.crt"] != again["data"]["ca.crt"])
    })
    .await;
    let trusted = text(&bundles().unwrap()[0]);
    for leaf in [&last, &again] {
        let authority = text(leaf["data"]["ca.crt"].as_str().unwrap());
        assert!(trusted.contains(&authority), "the webhook serves the old leaf for a while");
    }
    headstart_tests::identity::verify_chain(&last["data"], "headstart-webhook.headstart-system.svc");
}

fn text(encoded: &str) -> String {
    String::from_utf8(BASE64_STANDARD.decode(encoded).unwrap()).unwrap()
}

#[tokio::test]
async fn another_replica_takes_over_when_the_leader_dies() {
    let cluster = Played::new().await;
    let mut first = cluster.controller("first");
    let holder = || {
        let lease = cluster.get(&["lease", "headstart-controller", "--namespace", OURS])?;
        lease["spec"]["holderIdentity"].as_str().map(str::to_owned)
    };
    until("the first leads", || async { holder().filter(|name| name == "first") }).await;
    let _second = cluster.controller("second");
    first.kill();
    until("the second leads", || async { holder().filter(|name| name == "second") }).await;
    cluster.add_node("a", &[]);
    cluster.report("a", "ready", None);
    cluster.published("the second works", |state| !state.versions.is_empty()).await;
}

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
    for folder in ["deploy", "deploy/examples/current-runners", "deploy/examples/release-archive"] {
        let objects = rendered(&control_plane, &repository().join(folder));
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
    for (field, value) in [
        ("addresses", json!([{ "type": "InternalIP", "address": "192.0.2.1" }])),
        ("capacity", json!({ "cpu": "1" })),
        ("allocatable", json!({ "cpu": "1" })),
        ("daemonEndpoints", json!({ "kubeletEndpoint": { "Port": 1 } })),
        ("nodeInfo", json!({ "kernelVersion": "x" })),
        ("images", json!([{ "names": ["x"] }])),
        ("config", json!({ "error": "x" })),
        ("volumesAttached", json!([{ "name": "x", "devicePath": "" }])),
        ("volumesInUse", json!(["x"])),
    ] {
        let patch = Patch::Merge(json!({ "status": { field: value } }));
        let refused = nodes.patch_status("a", &PatchParams::default(), &patch).await.unwrap_err().to_string();
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

#[tokio::test]
async fn the_report_of_a_node_that_is_gone_is_deleted() {
    let cluster = Played::new().await;
    let controller = cluster.controller("one");
    cluster.add_node("stays", &[]);
    cluster.report("stays", "ready", None);
    cluster.report("gone", "ready", None);
    cluster.becomes("stays", "True", "CacheReady").await;
    let report = |node: &str| cluster.get(&["lease", node, "--namespace", OURS]);
    assert!(report("gone").is_some(), "a node may only be new to us");
    // It must have been missing for a minute.
    let patience = std::time::Duration::from_secs(150);
    let deleted = within(patience, || async { report("gone").is_none().then_some(()) }).await;
    assert!(deleted.is_some());
    assert_eq!(controller.says("the node is gone: its report was deleted").await["node"], "gone");
    assert!(report("stays").is_some());
}
