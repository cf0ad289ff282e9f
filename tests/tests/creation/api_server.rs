//! An API server that throttles, that the controller cannot reach, or that lets no more pods in.

use axum::http::Method;
use headstart_tests::gate::Gate;
use headstart_tests::process::Process;
use serde_json::json;

use crate::stage::{HEARTBEAT, PATIENCE, SLOW, Stage, counts};
use crate::weak::{Fault, Harm, Weak};

impl Stage {
    /// A replica that knows the API server by another address, and perhaps another authority.
    pub(crate) async fn leader_by_way_of(
        &self,
        identity: &str,
        server: &str,
        authority: Option<&str>,
        flags: &[&str],
    ) -> Process {
        use base64::Engine as _;
        let text = std::fs::read_to_string(self.companion.kubeconfig()).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
        let cluster = &mut config["clusters"][0]["cluster"];
        cluster["server"] = server.into();
        if let Some(authority) = authority {
            let authority = base64::prelude::BASE64_STANDARD.encode(authority);
            cluster["certificate-authority-data"] = authority.into();
        }
        let path = self.companion.file(&format!("{identity}.kubeconfig"));
        std::fs::write(&path, config.to_string()).unwrap();
        let mut command = self.companion.command("headstart-controller", identity);
        command.args(flags).env("KUBECONFIG", path);
        let controller = Process::spawn(command);
        controller.says("leading").await;
        controller
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_cut_off_and_another_one_finishes() {
    let Some(stage) = Stage::in_full_depth().await else { return };
    let gate = Gate::to(stage.control_plane.server().trim_start_matches("https://")).await;
    let first = stage.leader_by_way_of("one", &format!("https://{}", gate.address()), None, SLOW).await;
    let second = stage.companion.controller("two", SLOW);
    let it = stage.amid(24, 5).await;
    gate.shut();
    second.says("leading").await;
    it.settles_after_a_change(24).await;
    gate.open();
    // What the first one had under way arrives now.
    it.settles_after_a_change(24).await;
    it.ends().await;
    Stage::retire(second).await;
    drop(first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_leader_is_cut_off_and_arc_makes_the_rest() {
    let Some(stage) = Stage::in_full_depth().await else { return };
    let gate = Gate::to(stage.control_plane.server().trim_start_matches("https://")).await;
    let first = stage.leader_by_way_of("one", &format!("https://{}", gate.address()), None, SLOW).await;
    let it = stage.enabled().await;
    stage.companion.pins("one", 1).await;
    stage.registrations_take(400);
    stage.service.set_hold(HEARTBEAT);
    it.scenario.ask(24);
    it.scenario.is_amid(5).await;
    gate.shut();
    it.scenario.settles_runners(24, PATIENCE).await;
    gate.open();
    it.settles(24).await;
    it.ends().await;
    drop(first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_throttles_and_fails_for_a_moment() {
    let stage = Stage::new().await;
    let weak = Weak::before(stage.control_plane).await;
    let controller = stage.leader_by_way_of("one", &weak.url(), Some(&weak.authority()), SLOW).await;
    let it = stage.enabled().await;
    stage.companion.pins("one", 1).await;
    stage.registrations_take(50);
    let harm = |path, status, retry_after, times, is_done| {
        let (write, harm) = ((Method::POST, path), Harm::Status(status, retry_after));
        weak.add(Fault { write, harm, times, is_done });
    };
    harm("/secrets", 429, Some(1), 3, false);
    harm("/ephemeralrunners", 429, None, 2, false);
    harm("/pods", 500, None, 3, false);
    harm("/configmaps", 503, None, 1, true);
    harm("/secrets", 504, None, 2, true);
    harm("/ephemeralrunners", 504, None, 2, true);
    it.scenario.ask(16);
    it.settles_exactly(16).await;
    it.has_no_journal().await;
    assert!(weak.is_spent());
    counts(&controller, r#"headstart_creation_batches_total{outcome="complete"}"#, 1.0).await;
    it.ends().await;
    Stage::retire(controller).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_lets_only_some_pods_in() {
    let stage = Stage::new().await;
    let controller = stage.leader("one", SLOW).await;
    let it = stage.enabled().await;
    stage.companion.pins("one", 1).await;
    let quota = |pods: u32| {
        json!({
            "apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": { "name": "pods", "namespace": it.namespace.name() },
            "spec": { "hard": { "pods": pods.to_string() } },
        })
    };
    stage.control_plane.apply(&quota(6).to_string()).unwrap();
    it.scenario.ask(10);
    let note = it.tells("RunnerCreationQuota").await;
    assert!(note.contains("/10 runners: a quota is exhausted"), "{note}");
    counts(&controller, r#"headstart_creation_batches_total{outcome="quota"}"#, 1.0).await;
    // ARC makes all EphemeralRunners, and their pods as there is room.
    it.scenario.settles_runners(10, PATIENCE).await;
    stage.control_plane.apply(&quota(60).to_string()).unwrap();
    it.settles(10).await;
    it.ends().await;
    Stage::retire(controller).await;
}
