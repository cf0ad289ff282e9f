//! Who has runners made, and how far: labels, configuration and the master switch.

use headstart_externals::names::CREATION_LABEL;
use headstart_tests::companion::metric;

use crate::stage::{HEARTBEAT, PATIENCE, Stage, Watched, counts};

impl Watched<'_> {
    fn label_namespace(&self, stage: &Stage, value: &str) {
        let label = format!("{CREATION_LABEL}={value}");
        let words = ["label", "--overwrite", "namespace", self.namespace.name(), &label];
        stage.control_plane.kubectl(&words).unwrap();
    }

    fn label_set(&self, stage: &Stage, value: &str) {
        let label = format!("{CREATION_LABEL}={value}");
        let words = ["label", "--overwrite", "--namespace", self.namespace.name()];
        let words = [&words[..], &["autoscalingrunnersets", "--all", &label]].concat();
        stage.control_plane.kubectl(&words).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_configuration_and_without_pods() {
    let stage = Stage::new().await;
    let it = stage.plain().await;
    stage.companion.bind(it.namespace.name());
    let namespace = it.namespace.name();
    stage.companion.configure(&format!("runnerCreation: {{namespaces: [{namespace}], level: runners}}\n"));
    let controller = stage.leader("one", &[]).await;
    stage.companion.pins("one", 1).await;
    it.scenario.burst(8, PATIENCE).await;
    it.settles_exactly(8).await;
    assert_eq!(stage.pinned(), 1);
    it.has_no_journal().await;
    let phase = |phase: &str| format!("headstart_creation_call_duration_seconds_count{{phase=\"{phase}\"}}");
    counts(&controller, &phase("create-runner"), 8.0).await;
    assert_eq!(metric(&controller, &phase("create-pod")).await, None, "pods are ARC's");
    it.ends().await;
    Stage::retire(controller).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_switch_it_on_and_off() {
    let stage = Stage::new().await;
    let controller = stage.leader("one", &[]).await;
    let it = stage.enabled().await;
    stage.companion.pins("one", 1).await;

    it.label_set(&stage, "disabled");
    stage.companion.pins("one", 0).await;
    counts(&controller, r#"headstart_creation_sets{state="not-asked"}"#, 1.0).await;
    it.scenario.burst(2, PATIENCE).await;
    it.settles_exactly(2).await;
    assert!(!it.was_pinned(), "{:?}", it.scenario.timeline.generations());

    it.label_set(&stage, "enabled");
    stage.companion.pins("one", 1).await;
    it.scenario.burst(3, PATIENCE).await;
    it.settles_exactly(5).await;
    assert_eq!(stage.pinned(), 1);

    // Whoever forbids it for the namespace forbids it for all in it.
    it.label_namespace(&stage, "disabled");
    stage.companion.pins("one", 0).await;
    it.scenario.burst(2, PATIENCE).await;
    it.settles_exactly(7).await;
    assert_eq!(stage.pinned(), 1);
    it.ends().await;
    Stage::retire(controller).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switched_off_nothing_is_pinned_and_what_was_goes_back() {
    let Some(stage) = Stage::in_full_depth().await else { return };
    let mut first = stage.leader("one", &["--runner-creation-concurrency=2"]).await;
    let it = stage.enabled().await;
    stage.companion.pins("one", 1).await;
    stage.registrations_take(400);
    stage.service.set_hold(HEARTBEAT);
    it.scenario.ask(12);
    it.scenario.is_amid(3).await;
    first.kill();
    assert!(it.was_pinned());
    let off = stage.leader("two", &["--parallel-creation=false"]).await;
    stage.companion.pins("two", 0).await;
    it.scenario.settles_runners(12, PATIENCE).await;
    Stage::retire(off).await;

    // What the first one left behind is for whoever makes runners again.
    let again = stage.leader("three", &[]).await;
    it.settles(12).await;
    it.ends().await;
    Stage::retire(again).await;
}
