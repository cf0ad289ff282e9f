//! A newer revision beside the old one: whoever began with the old one keeps it to the end, then it goes.

use headstart_externals::fault::FaultReason;
use headstart_externals::state::{Phase, PublishedState};
use headstart_tests::bed::headstart::{self, NAMESPACE};
use headstart_tests::bed::images::TestImage;
use headstart_tests::bed::{Cluster, Turn};
use headstart_tests::deploy;
use headstart_tests::node_cache::NodeCache;
use headstart_tests::wait::until;

use super::{FIRST, PROFILE, RAN, RUN_NODE, SECOND, config, runs_node, turn, workflow};

/// What an earlier life of the cluster left on the node.
const LEFT: &str = "old-0123456789ab";

#[tokio::test]
async fn a_pod_keeps_the_version_that_it_began_with_and_then_that_version_goes() {
    let Some(turn) = turn().await else { return };
    let cache = NodeCache::of(&turn);
    let namespace = turn.opted_in("upgrade", "hostpath", &[]).await;
    let pods = turn.pods(&namespace);
    let a = cache.offered(PROFILE).await;
    runs_node(&pods, &workflow(&pods, "old"), &a).await;
    std::fs::create_dir(cache.path(&format!("versions/{LEFT}"))).unwrap();
    std::fs::write(cache.path(&format!("versions/{LEFT}/file")), "x").unwrap();

    let b = second_revision(&turn, &cache).await;
    turn.gives(namespace.name(), Some(&b)).await;
    runs_node(&pods, &workflow(&pods, "new"), &b).await;
    // What nobody carries is retired by now and goes.
    until("what was left is gone", || async { (!has(&cache, LEFT)).then_some(()) }).await;
    let state = cache.published("one is offered", |state| is(state, &b, Phase::Offered)).await;
    assert!(is(&state, &a, Phase::Retiring), "a pod carries it: {:?}", state.versions);
    assert!(has(&cache, &a) && has(&cache, &b), "side by side");
    assert_eq!(pods.exec("old", RUN_NODE), RAN);

    pods.delete("old");
    cache.published("the old version is retired", |state| is(state, &a, Phase::Retired)).await;
    until("the old version is gone", || async { (!has(&cache, &a)).then_some(()) }).await;
    assert_eq!(pods.exec("new", RUN_NODE), RAN);
    cache.event((NAMESPACE, "headstart-config"), "VersionRetired", &a).await;

    roll_back(turn.cluster);
    cache.published("the old version is back", |state| is(state, &a, Phase::Offered)).await;
    turn.gives(namespace.name(), Some(&a)).await;
    take_second_revision_out(turn.cluster);
    cache.event((NAMESPACE, "headstart-config"), "RevisionTakenOutEarly", &b).await;
    assert_eq!(pods.exec("new", RUN_NODE), RAN);
    assert!(has(&cache, &b), "a pod carries it");
    pods.delete("new");
    cache.published("the newer version is forgotten", |state| state.versions.len() == 1).await;
    for folder in ["versions", "staged"] {
        assert!(!cache.list(folder).contains(&b), "{:?}", cache.list(folder));
    }
    assert!(has(&cache, &a));
}

/// Brings in a second revision, first with a stage of the wrong image; its version, once it is offered.
async fn second_revision(turn: &Turn<'_>, cache: &NodeCache<'_>) -> String {
    let objects = deploy::configured(turn.cluster, &config(&[FIRST, SECOND]));
    let mut wrong = objects.clone();
    let arguments = wrong.iter_mut().find(|object| object["metadata"]["name"] == stage(SECOND)).unwrap();
    let arguments = &mut arguments["spec"]["template"]["spec"]["initContainers"][1]["args"];
    for argument in arguments.as_array_mut().unwrap() {
        let text = argument.as_str().unwrap();
        *argument = text.replace(TestImage::Runner.name(), "mirror.test/actions-runner:2.304.0").into();
    }
    headstart::apply_all(turn.cluster, wrong).unwrap();
    let reason = FaultReason::StageImageMismatch;
    let said = cache.becomes("False", &reason.to_string()).await;
    assert!(said.contains(reason.remedy()), "{said}");
    let a = cache.offered(PROFILE).await;
    headstart::apply_all(turn.cluster, objects).unwrap();
    let state = cache.published("the second revision is offered", |state| is(state, &a, Phase::Retiring));
    let offered = state.await.versions.into_iter().find(|version| version.phase == Phase::Offered);
    cache.becomes("True", "CacheReady").await;
    offered.unwrap().name.to_string()
}

/// The first revision again, which every node has thrown away but for the copy of its stage.
fn roll_back(cluster: &Cluster) {
    let mut config = config(&[FIRST, SECOND]);
    config["profiles"][0]["offer"] = FIRST.into();
    headstart::apply_all(cluster, deploy::configured(cluster, &config)).unwrap();
}

fn take_second_revision_out(cluster: &Cluster) {
    headstart::apply_all(cluster, deploy::configured(cluster, &config(&[FIRST]))).unwrap();
    cluster.kubectl(&["delete", "daemonset", &stage(SECOND), "--namespace", NAMESPACE]).unwrap();
}

fn stage(revision: &str) -> String {
    format!("headstart-stage-{PROFILE}-{}", revision.replace('.', "-"))
}

fn has(cache: &NodeCache<'_>, version: &str) -> bool {
    cache.list("versions").iter().any(|name| name == version)
}

fn is(state: &PublishedState, version: &str, phase: Phase) -> bool {
    state.versions.iter().any(|found| found.name.as_str() == version && found.phase == phase)
}
