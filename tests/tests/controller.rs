//! The controller as it is shipped, with the rights that the manifests give it, against a real API server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use headstart_externals::names::{DECISION_ANNOTATION, NAMESPACE_LABEL, PAIRED_RUNNER, VERSION_LABEL};
use headstart_externals::state::{MountKind, Phase};
use headstart_tests::bed::{ControlPlane, TestNamespace};
use headstart_tests::played::{OURS, Played};
use headstart_tests::wait::{until, within};
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
    assert_eq!(published.len(), 5);
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
