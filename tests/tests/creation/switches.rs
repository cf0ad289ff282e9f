//! Who has runners made, and how far: labels, configuration and the master switch.

use std::time::Duration;

use headstart_externals::names::CREATION_LABEL;
use headstart_tests::arc::{ARC_NAMESPACE, IsSetUp as _, LISTENERS, api};
use headstart_tests::companion::metric;
use headstart_tests::wait::{until, within};
use kube::api::{DynamicObject, ListParams};

use crate::stage::{HEARTBEAT, PATIENCE, Stage, Watched, counts};

impl Watched<'_> {
    fn label_namespace(&self, stage: &Stage, value: &str) {
        let label = format!("{CREATION_LABEL}={value}");
        let words = ["label", "--overwrite", "namespace", self.namespace.name(), &label];
        stage.control_plane.kubectl(&words).unwrap();
    }

    /// ARC's master makes the listener anew when labels of its set change, and a kubelet would follow; the release lets it be.
    async fn label_set(&mut self, stage: &Stage, value: &str) {
        let before = self.listener(stage).await;
        let label = format!("{CREATION_LABEL}={value}");
        let words = ["label", "--overwrite", "--namespace", self.namespace.name()];
        let words = [&words[..], &["autoscalingrunnersets", "--all", &label]].concat();
        stage.control_plane.kubectl(&words).unwrap();
        let is_another = || async { self.listener(stage).await.filter(|now| Some(now) != before.as_ref()) };
        if within(Duration::from_secs(5), is_another).await.is_some() {
            stage.service.with(|service, _| service.session_life = Duration::ZERO);
            self.set.listener().kill();
            self.set.listen_anew().await;
            until("the listener waits for jobs", || async {
                stage.service.with(|service, _| service.is_polled(self.scenario.id())).then_some(())
            })
            .await;
        }
    }

    /// UID of its listener.
    async fn listener(&self, stage: &Stage) -> Option<String> {
        let listeners =
            api(&stage.client, ARC_NAMESPACE, LISTENERS).list(&ListParams::default()).await.ok()?;
        let is_its = |listener: &DynamicObject| {
            listener.data["spec"]["ephemeralRunnerSetName"] == self.set.runner_set()
                && listener.metadata.deletion_timestamp.is_none()
        };
        listeners.into_iter().find(is_its)?.metadata.uid
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
    let mut it = stage.enabled().await;
    stage.companion.pins("one", 1).await;

    it.label_set(&stage, "disabled").await;
    stage.companion.pins("one", 0).await;
    counts(&controller, r#"headstart_creation_sets{state="not-asked"}"#, 1.0).await;
    it.scenario.burst(2, PATIENCE).await;
    it.settles_exactly(2).await;
    assert!(!it.was_pinned(), "{:?}", it.scenario.timeline.generations());

    it.label_set(&stage, "enabled").await;
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
