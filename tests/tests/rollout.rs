//! How versions take each other's place in a cluster, with played nodes: upgrades, roll-backs, pauses, and a controller that
//! dies in between.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use headstart_externals::names::{CACHE_LABEL, NAMESPACE_LABEL, UNSERVICEABLE, VERSION_LABEL};
use headstart_externals::state::Phase::{Offered, Retired, Retiring};
use headstart_externals::state::PublishedState;
use headstart_tests::fixtures;
use headstart_tests::installed::serve_webhook;
use headstart_tests::played::{OURS, Played, phases, revisions, version};
use headstart_tests::wait::{until, within};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

/// A second of grace, and pods are looked for often, so that nobody waits long.
const SOON: &str = "rollout: {graceSeconds: 1, keepSeconds: 1}";

/// A cluster where revision `a` is offered: nodes `one` and `two` have it.
async fn with_a(more: &str) -> Played {
    let cluster = Played::with_lasting_nodes().await;
    cluster.configure(&revisions(&["a"], None, more));
    for node in ["one", "two"] {
        cluster.add_node(node, &[]);
        cluster.holds(node, &[(&version("a"), "ready")]);
    }
    cluster
}

fn has(state: &PublishedState, version: &str, phase: headstart_externals::state::Phase) -> bool {
    phases(state).contains(&(version, phase))
}

#[tokio::test]
async fn an_upgrade_retires_the_old_version_only_after_its_last_pod() {
    let cluster = with_a(SOON).await;
    let controller = cluster.controller("one");
    let (a, b, old) = (&version("a"), &version("b"), "old-0123456789ab");
    cluster.phases(&[(a, Offered)]).await;
    cluster.add_pod("busy", a);

    cluster.configure(&revisions(&["a", "b"], None, SOON));
    cluster.holds("one", &[(a, "ready"), (b, "ready")]);
    controller.says(&format!("version {b} ready on 1/2 nodes")).await;
    assert!(has(&cluster.state().unwrap(), a, Offered), "a node lacks the new one");
    // What an earlier life left rests as long as the old version does, and no pod carries it.
    cluster.holds("two", &[(a, "ready"), (b, "ready"), (old, "kept")]);
    let state = cluster.published("the other one is retired", |state| has(state, old, Retired)).await;
    assert_eq!(phases(&state), [(a.as_str(), Retiring), (b, Offered), (old, Retired)], "a pod carries it");
    assert!(state.versions[0].recipe.is_some(), "new nodes install it, for pods that wait");

    cluster.finish_pod("busy");
    cluster.phases(&[(a, Retired), (b, Offered), (old, Retired)]).await;
    // Agents delete what is retired; it stays listed as long as it is configured.
    cluster.holds("one", &[(b, "ready")]);
    cluster.holds("two", &[(b, "ready")]);
    cluster.phases(&[(a, Retired), (b, Offered)]).await;
    cluster.configure(&revisions(&["b"], None, SOON));
    cluster.phases(&[(b, Offered)]).await;
    for (reason, version) in [
        ("VersionOffered", a),
        ("VersionOffered", b),
        ("VersionRetiring", a),
        ("VersionRetired", a),
        ("VersionGone", a),
    ] {
        cluster.rollout_says(reason, version).await;
    }
    assert_eq!(cluster.events(OURS, "headstart-config", "VersionOffered").len(), 2);
    assert!(cluster.events(OURS, "headstart-config", "RevisionTakenOutEarly").is_empty());
}

#[tokio::test]
async fn a_revision_that_is_taken_out_too_early_stays_for_its_pods() {
    let cluster = with_a(SOON).await;
    let _controller = cluster.controller("one");
    let (a, b, old) = (&version("a"), &version("b"), "old-0123456789ab");
    cluster.phases(&[(a, Offered)]).await;
    cluster.add_pod("busy", a);
    cluster.configure(&revisions(&["b"], None, SOON));
    cluster.rollout_says("RevisionTakenOutEarly", a).await;
    cluster.holds("one", &[(a, "ready"), (b, "ready"), (old, "kept")]);
    let state = cluster.published("what was left is published", |state| has(state, old, Retired)).await;
    assert!(has(&state, a, Offered), "new pods get it until all nodes have the new one");
    assert!(state.versions[0].recipe.is_some());
    cluster.holds("two", &[(a, "ready"), (b, "ready"), (old, "kept")]);
    cluster.phases(&[(b, Offered), (a, Retiring), (old, Retired)]).await;
    cluster.control_plane.kubectl(&["delete", "pod", "busy", "--force"]).unwrap();
    cluster.phases(&[(b, Offered), (a, Retired), (old, Retired)]).await;
    // A pod that names it by hand keeps it again.
    cluster.add_pod("late", a);
    cluster.rollout_says("VersionInUseAgain", a).await;
    assert!(has(&cluster.state().unwrap(), a, Retiring));
    assert_eq!(cluster.events(OURS, "headstart-config", "RevisionTakenOutEarly").len(), 2, "once each time");
}

#[tokio::test]
async fn a_node_that_returns_with_a_version_that_is_gone_everywhere_keeps_it_for_its_pods() {
    let cluster = with_a(SOON).await;
    let _controller = cluster.controller("one");
    let (a, b, old) = (&version("a"), &version("b"), "old-0123456789ab");
    cluster.phases(&[(a, Offered)]).await;
    // Its Lease goes as well, as that of any node that is no more.
    cluster.control_plane.kubectl(&["delete", "node", "two"]).unwrap();
    cluster.control_plane.kubectl(&["delete", "lease", "two", "--namespace", OURS]).unwrap();
    cluster.configure(&revisions(&["a", "b"], None, SOON));
    cluster.holds("one", &[(b, "ready")]);
    cluster.phases(&[(a, Retired), (b, Offered)]).await;
    cluster.configure(&revisions(&["b"], None, SOON));
    cluster.phases(&[(b, Offered)]).await;

    cluster.add_pod("asleep", a);
    cluster.add_node("two", &[]);
    cluster.holds("two", &[(a, "kept"), (b, "installing")]);
    cluster.phases(&[(b, Offered), (a, Retiring)]).await;
    // Meanwhile another one rests as long as it has to.
    cluster.holds("one", &[(b, "ready"), (old, "kept")]);
    cluster.published("another one is retired", |state| has(state, old, Retired)).await;
    assert!(has(&cluster.state().unwrap(), a, Retiring), "a pod carries it");
    cluster.finish_pod("asleep");
    cluster.phases(&[(b, Offered), (a, Retired), (old, Retired)]).await;
    cluster.holds("one", &[(b, "ready")]);
    cluster.holds("two", &[(b, "ready")]);
    cluster.phases(&[(b, Offered)]).await;
}

#[tokio::test]
async fn a_roll_back_waits_for_the_end_of_a_pause() {
    let cluster = with_a("").await;
    let _controller = cluster.controller("one");
    let (a, b) = (&version("a"), &version("b"));
    cluster.phases(&[(a, Offered)]).await;
    cluster.configure(&revisions(&["a", "b"], None, ""));
    for node in ["one", "two"] {
        cluster.holds(node, &[(a, "ready"), (b, "ready")]);
    }
    cluster.phases(&[(a, Retiring), (b, Offered)]).await;

    cluster.configure(&revisions(&["a", "b"], Some("a"), "rollout: {paused: true}"));
    cluster.rollout_says("RolloutPaused", "rollout.paused").await;
    assert_eq!(phases(&cluster.state().unwrap()), [(a.as_str(), Retiring), (b, Offered)]);
    cluster.configure(&revisions(&["a", "b"], Some("a"), ""));
    cluster.phases(&[(a, Offered), (b, Retiring)]).await;
    cluster.rollout_says("VersionRolledBack", &format!("{a} again, in place of {b}")).await;
    cluster.rollout_says("RolloutResumed", "again").await;
}

#[tokio::test]
async fn a_rollout_that_cannot_go_on_says_why() {
    let cluster = with_a("").await;
    let _controller = cluster.controller("one");
    let (a, b) = (&version("a"), &version("b"));
    cluster.phases(&[(a, Offered)]).await;
    cluster.configure(&revisions(&["a", "b"], None, "rollout: {waitSeconds: 1}\nhostRoot: /elsewhere"));
    cluster.holds("one", &[(a, "ready"), (b, "ready")]);
    cluster.rollout_says("RolloutWaiting", &format!("{b} is ready on 1 of 2 nodes")).await;
    cluster.rollout_says("HostRootKept", "/elsewhere").await;
    let holds = |tree: &str| {
        let version = |name: &str| json!({ "name": name, "state": "ready", "wanted": true });
        let mut newer = version(b);
        newer["tree"] = tree.into();
        [version(a), newer]
    };
    cluster.write_report("one", &holds("0123456789abcdef"));
    cluster.write_report("two", &holds("fedcba9876543210"));
    cluster.rollout_says("TreesDiffer", b).await;
    let state = cluster.state().unwrap();
    assert_eq!(phases(&state), [(a.as_str(), Offered)], "nobody knows which is right");
    assert_eq!(state.host_root, "/var/lib/headstart");
    cluster.write_report("two", &holds("0123456789abcdef"));
    cluster.phases(&[(a, Retiring), (b, Offered)]).await;
}

#[tokio::test]
async fn a_startup_taint_goes_when_the_cache_is_ready_and_no_other_taint_does() {
    let cluster = with_a("startupTaints: [headstart.dev/cold, readiness.k8s.io/cache]").await;
    let controller = cluster.controller("one");
    let (a, b) = (&version("a"), &version("b"));
    cluster.phases(&[(a, Offered)]).await;
    let taints =
        ["headstart.dev/cold=x:NoSchedule", "foreign=x:NoSchedule", "readiness.k8s.io/cache=x:NoExecute"];
    cluster.add_node("fresh", &taints);
    let keys = || {
        let taints = cluster.get(&["node", "fresh"]).unwrap()["spec"]["taints"].clone();
        let key = |taint: &Value| taint["key"].as_str().unwrap().to_owned();
        let keys = taints.as_array().into_iter().flatten().map(key);
        // The API server itself adds some.
        keys.filter(|key| !key.starts_with("node.kubernetes.io/")).collect::<Vec<_>>()
    };
    cluster.holds("fresh", &[(a, "installing")]);
    cluster.becomes("fresh", "False", "Installing").await;
    assert_eq!(keys().len(), 3, "pods would wait there");
    // What is still to be offered keeps nobody away.
    cluster.configure(&revisions(
        &["a", "b"],
        None,
        "startupTaints: [headstart.dev/cold, readiness.k8s.io/cache]",
    ));
    cluster.holds("fresh", &[(a, "ready"), (b, "pending")]);
    until("the startup taints are gone", || async { (keys() == ["foreign"]).then_some(()) }).await;
    assert_eq!(controller.says("the cache is ready: startup taints removed").await["node"], "fresh");
}

fn is_cold(cluster: &Played, node: &str) -> bool {
    cluster.get(&["node", node]).unwrap().to_string().contains("headstart.dev/cold")
}

#[tokio::test]
async fn a_profile_that_is_taken_out_whole_is_not_offered_any_more() {
    let cluster = with_a("").await;
    let _controller = cluster.controller("one");
    let a = &version("a");
    cluster.phases(&[(a, Offered)]).await;
    cluster.configure(&revisions(&["a"], None, "").replace("name: node16", "name: other"));
    cluster.phases(&[(a, Retiring)]).await;
}

#[tokio::test]
async fn nodes_are_looked_after_while_the_state_can_be_neither_written_nor_read() {
    let startup = "startupTaints: [headstart.dev/cold]";
    let cluster = with_a(startup).await;
    let mut controller = cluster.controller("one");
    let (a, b) = (&version("a"), &version("b"));
    cluster.phases(&[(a, Offered)]).await;
    let fails = |reason: &str| {
        let failed = |name| json!({ "name": name, "state": "failed", "wanted": true, "reason": reason });
        cluster.write_report("bad", &[a, b].map(failed));
    };
    cluster.add_node("bad", &[]);
    fails("DiskFull");
    cluster.becomes("bad", "False", "DiskFull").await;
    let words = ["--namespace", OURS, "configmap", "headstart-state"];
    let state = |verb: &[&str]| cluster.control_plane.kubectl(&[verb, &words].concat()).unwrap();
    let open = async |node: &str| {
        cluster.add_node(node, &["headstart.dev/cold=x:NoSchedule"]);
        cluster.holds(node, &[(a, "ready")]);
        until("pods may come", || async { (!is_cold(&cluster, node)).then_some(()) }).await;
    };

    // API servers refuse to change such a one.
    state(&["patch", "--patch", r#"{"immutable": true}"#]);
    cluster.configure(&revisions(&["a", "b"], None, startup));
    for node in ["one", "two"] {
        cluster.holds(node, &[(a, "ready"), (b, "ready")]);
    }
    assert_eq!(controller.says("a round failed; trying again").await["duty"], "cluster");
    open("fresh").await;

    controller.kill();
    state(&["delete"]);
    let unreadable = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "headstart-state", "namespace": OURS },
        "data": { "state.json": "{}" },
    });
    cluster.control_plane.apply(&unreadable.to_string()).unwrap();
    let _next = cluster.controller("next");
    fails("WrongArch");
    cluster.becomes("bad", "False", "WrongArch").await;
    let labels = cluster.get(&["node", "bad"]).unwrap()["metadata"]["labels"].clone();
    assert_eq!(labels[CACHE_LABEL], UNSERVICEABLE, "pods may still name what it lacks");
    open("later").await;
}

#[tokio::test]
async fn a_startup_taint_goes_from_nodes_that_no_rewritten_pod_comes_to() {
    let more = "nodeSelector: {pool: runners}\nstartupTaints: [headstart.dev/cold]";
    let cluster = Played::with_lasting_nodes().await;
    cluster.configure(&revisions(&["a"], None, more));
    let _controller = cluster.controller("one");
    for node in ["other", "full", "foreign", "trying"] {
        cluster.add_node(node, &["headstart.dev/cold=x:NoSchedule"]);
    }
    for (node, reason) in
        [("full", "DiskFull"), ("foreign", "NoSourceForArch"), ("trying", "SourceUnavailable")]
    {
        cluster.control_plane.kubectl(&["label", "node", node, "pool=runners"]).unwrap();
        let failed = json!({ "name": version("a"), "state": "failed", "wanted": true, "reason": reason });
        cluster.write_report(node, &[failed]);
        cluster.becomes(node, "False", reason).await;
    }
    // The other one might have been labelled late.
    let patience = std::time::Duration::from_secs(120);
    for node in ["full", "foreign", "other"] {
        let opened = within(patience, || async { (!is_cold(&cluster, node)).then_some(()) }).await;
        assert!(opened.is_some(), "{node}");
    }
    assert!(is_cold(&cluster, "trying"), "it may still get it");
    cluster.becomes("other", "Unknown", "NotSelected").await;
}

#[tokio::test]
async fn a_node_that_is_made_anew_is_not_taken_for_the_old_one_of_its_name() {
    let cluster = with_a("startupTaints: [headstart.dev/cold]").await;
    let _controller = cluster.controller("one");
    let a = &version("a");
    cluster.phases(&[(a, Offered)]).await;
    cluster.holds("again", &[(a, "ready")]);
    let field = |words: &[&str], path: &str| {
        let words = [words, &["--show-managed-fields"]].concat();
        cluster.get(&words).unwrap().pointer(path).unwrap().as_str().unwrap().to_owned()
    };
    let written = field(&["lease", "again", "--namespace", OURS], "/metadata/managedFields/0/time");
    // The API server counts whole seconds.
    until("the node is younger than the report", || async {
        cluster.add_node("again", &["headstart.dev/cold=x:NoSchedule"]);
        if field(&["node", "again"], "/metadata/creationTimestamp") > written {
            return Some(());
        }
        cluster.control_plane.kubectl(&["delete", "node", "again"]).unwrap();
        None
    })
    .await;
    let is_cold = || is_cold(&cluster, "again");
    cluster.becomes("again", "Unknown", "NoReport").await;
    assert!(is_cold(), "pods would wait there");
    cluster.holds("again", &[(a, "installing")]);
    cluster.becomes("again", "False", "Installing").await;
    assert!(is_cold(), "pods would wait there");
    cluster.holds("again", &[(a, "ready")]);
    until("pods may come", || async { (!is_cold()).then_some(()) }).await;
}

#[tokio::test]
async fn an_upgrade_survives_the_death_of_every_leader() {
    let cluster = with_a(SOON).await;
    let (a, b) = (&version("a"), &version("b"));
    let mut replicas = [cluster.controller("first"), cluster.controller("second")];
    // Whoever leads dies, and another one takes its place.
    let mut kill_leader = || {
        let lease = cluster.get(&["lease", "headstart-controller", "--namespace", OURS]).unwrap();
        let first = lease["spec"]["holderIdentity"].as_str().unwrap().starts_with("first");
        let at = usize::from(!first);
        replicas[at].kill();
        replicas[at] = cluster.controller(["first", "second"][at]);
    };
    cluster.phases(&[(a, Offered)]).await;
    cluster.add_pod("busy", a);
    kill_leader();
    cluster.configure(&revisions(&["a", "b"], None, SOON));
    for node in ["one", "two"] {
        cluster.holds(node, &[(a, "ready"), (b, "ready")]);
    }
    let turned = [(a.as_str(), Retiring), (b.as_str(), Offered)];
    cluster.phases(&turned).await;
    kill_leader();
    cluster.holds("two", &[(a, "ready"), (b, "ready"), ("old-0123456789ab", "kept")]);
    cluster.published("another leader works", |state| has(state, "old-0123456789ab", Retired)).await;
    assert!(has(&cluster.state().unwrap(), a, Retiring), "a pod carries it");
    cluster.finish_pod("busy");
    kill_leader();
    cluster.published("it is retired", |state| has(state, a, Retired)).await;
    kill_leader();
    for node in ["one", "two"] {
        cluster.holds(node, &[(b, "ready")]);
    }
    cluster.phases(&[(a, Retired), (b, Offered)]).await;
    let state = cluster.state().unwrap();
    assert!(state.generation >= 4, "it only ever grows: {}", state.generation);
}

/// Runners at once in [`stream`].
const AT_ONCE: usize = 8;

/// Creates runner after runner until told to stop; each ends when a few more have begun. Returns the version that each was
/// given, in order.
async fn stream(pods: Api<Pod>, stop: Arc<AtomicBool>) -> Vec<String> {
    let (mut given, mut running) = (Vec::new(), VecDeque::new());
    while !stop.load(Ordering::Relaxed) {
        let mut runner = fixtures::read("arc/kubernetes.json");
        let name = format!("runner-{}", given.len());
        runner["metadata"] = json!({ "name": name, "labels": runner["metadata"]["labels"] });
        runner["spec"]["serviceAccountName"] = "default".into();
        runner["spec"]["containers"][0]["image"] = "ghcr.io/actions/actions-runner:2.304.0".into();
        let runner: Pod = serde_json::from_value(runner).unwrap();
        let created = pods.create(&PostParams::default(), &runner).await.unwrap();
        given.push(created.labels().get(VERSION_LABEL).cloned().unwrap_or_default());
        running.push_back(name);
        if running.len() > AT_ONCE {
            let over = running.pop_front().unwrap();
            pods.delete(&over, &DeleteParams::default().grace_period(0)).await.unwrap();
        }
    }
    given
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_new_pods_goes_over_to_the_new_version_and_none_is_left_out() {
    let cluster = with_a(SOON).await;
    let controller = cluster.controller("one");
    let (a, b) = (&version("a"), &version("b"));
    let label = format!("{NAMESPACE_LABEL}=hostpath");
    cluster.control_plane.kubectl(&["label", "namespace", "default", &label]).unwrap();
    cluster.phases(&[(a, Offered)]).await;
    let _webhook = serve_webhook(&cluster.control_plane, &cluster.folder).await;
    let client = cluster.control_plane.client().await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(client);
    let carrying = |version: &str| {
        let (pods, label) = (pods.clone(), format!("{VERSION_LABEL}={version}"));
        async move { pods.list(&kube::api::ListParams::default().labels(&label)).await.unwrap().items.len() }
    };
    let stop = Arc::new(AtomicBool::new(false));
    let created = tokio::spawn(stream(pods.clone(), stop.clone()));
    until("new pods get the version", || async { (carrying(a).await > 0).then_some(()) }).await;

    cluster.configure(&revisions(&["a", "b"], None, SOON));
    cluster.holds("one", &[(a, "ready"), (b, "ready")]);
    controller.says(&format!("version {b} ready on 1/2 nodes")).await;
    assert_eq!(carrying(b).await, 0, "not on every node yet");
    cluster.holds("two", &[(a, "ready"), (b, "ready")]);
    until("new pods get the new one", || async { (carrying(b).await > AT_ONCE / 2).then_some(()) }).await;
    cluster.published("the old one is retired", |state| has(state, a, Retired)).await;
    assert_eq!(carrying(a).await, 0, "its last pod is gone");
    stop.store(true, Ordering::Relaxed);

    let given = created.await.unwrap();
    let first = given.iter().position(|given| given == a).unwrap();
    let turn = given.iter().position(|given| given == b).unwrap();
    assert!(given[..first].iter().all(String::is_empty), "only before the webhook was reached");
    assert!(given[first..turn].iter().all(|given| given == a), "{given:?}");
    assert!(given[turn..].iter().all(|given| given == b), "{given:?}");
}
