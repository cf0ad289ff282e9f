//! An API server that throttles, fails or is slow, that the controller cannot reach, or that lets no more pods in.

use std::time::Duration;

use axum::http::Method;
use headstart_tests::arc::timeline::Milestone;
use headstart_tests::depth::is_full;
use headstart_tests::gate::Gate;
use headstart_tests::process::Process;
use headstart_tests::wait::until;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::Api;
use serde_json::json;

use crate::stage::{HEARTBEAT, PATIENCE, SLOW, Stage, all_are_tried, counts};
use crate::weak::{Fault, Harm, Weak, Write};

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
    it.settles_without_others(24).await;
    gate.open();
    // What the first one had under way arrives now.
    it.settles_without_others(24).await;
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
    first.says("lost the leadership").await;
    it.scenario.settles_runners(24, PATIENCE).await;
    assert!(it.was_pinned());
    gate.open();
    // What it was posting when it was cut off arrives now, and comes on top. ARC leaves that be while there are jobs.
    let there = it.comes_to_at_least(24).await;
    assert!((24..=28).contains(&there), "{there} runners");
    it.comes_to_rest(24, there).await;
    it.ends().await;
    drop(first);
}

/// A burst of 16 while writes to the API server are harmed like this; exact all the same.
async fn in_spite_of(faults: Vec<Fault>) -> Weak {
    let stage = Stage::new().await;
    let weak = Weak::before(stage.control_plane).await;
    let controller = stage.leader_by_way_of("one", &weak.url(), Some(&weak.authority()), SLOW).await;
    let it = stage.enabled().await;
    stage.companion.pins("one", 1).await;
    stage.registrations_take(50);
    faults.into_iter().for_each(|fault| weak.add(fault));
    it.scenario.ask(16);
    it.settles_exactly(16).await;
    counts(&controller, r#"headstart_creation_batches_total{outcome="complete"}"#, 1.0).await;
    it.ends().await;
    Stage::retire(controller).await;
    weak
}

fn fault(write: Write, harm: Harm, times: usize, is_done: bool) -> Fault {
    Fault { write, harm, times, is_done }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_throttles_and_fails_for_a_moment() {
    let harm = |path, status, retry_after, times, is_done| {
        fault((Method::POST, path), Harm::Status(status, retry_after), times, is_done)
    };
    let faults = vec![
        harm("/secrets", 429, Some(1), 3, false),
        harm("/ephemeralrunners", 429, None, 2, false),
        harm("/pods", 500, None, 3, false),
        harm("/configmaps", 503, None, 1, true),
        harm("/secrets", 504, None, 2, true),
        harm("/ephemeralrunners", 504, None, 2, true),
    ];
    let weak = in_spite_of(faults).await;
    assert!(weak.is_delivered());
    weak.was_given_time();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_connections_break() {
    let (create, change) = (|path| (Method::POST, path), |path| (Method::PATCH, path));
    let faults = vec![
        fault(create("/configmaps"), Harm::Reset, 1, false),
        fault(create("/secrets"), Harm::Reset, 2, true),
        fault(create("/ephemeralrunners"), Harm::Reset, 2, true),
        fault(create("/ephemeralrunners"), Harm::Reset, 2, false),
        fault(change("/ephemeralrunners/"), Harm::Reset, 2, false),
        fault(create("/pods"), Harm::Reset, 2, true),
        fault(change("/ephemeralrunnersets/"), Harm::Reset, 1, true),
        fault(change("/secrets/"), Harm::Reset, 2, true),
    ];
    assert!(in_spite_of(faults).await.is_delivered());
}

/// On this machine a call takes a hundredth of a second or two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_becomes_ten_times_as_slow() {
    if !all_are_tried() {
        return;
    }
    let late = Harm::Late(Duration::from_millis(200));
    let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let faults = methods.map(|method| fault((method, "/"), late, usize::MAX, false));
    let harmed = in_spite_of(faults.into()).await.harmed();
    assert!(harmed.iter().any(|seen| seen.method == Method::POST), "{harmed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_lets_only_some_pods_in() {
    let stage = Stage::new().await;
    let controller = stage.leader("one", SLOW).await;
    let it = stage.enabled().await;
    stage.companion.pins("one", 1).await;
    let (fit, runners) = if is_full() { (60, 100) } else { (6, 10) };
    let quota = |pods: usize| {
        json!({
            "apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": { "name": "pods", "namespace": it.namespace.name() },
            "spec": { "hard": { "pods": pods.to_string() } },
        })
    };
    stage.control_plane.apply(&quota(fit).to_string()).unwrap();
    it.scenario.ask(runners);
    let note = it.tells("RunnerCreationQuota").await;
    let (made, rest) = note.strip_prefix("created ").unwrap().split_once('/').unwrap();
    assert!(rest.starts_with(&format!("{runners} runners: a quota is exhausted")), "{note}");
    let made: usize = made.parse().unwrap();
    // The one whose Pod was refused counts too: it is there, and ARC's.
    assert!((1..=fit + 1).contains(&made), "{note}");
    counts(&controller, r#"headstart_creation_batches_total{outcome="quota"}"#, 1.0).await;
    // ARC makes all EphemeralRunners, and their pods as there is room.
    it.scenario.settles_runners(runners, PATIENCE).await;
    let quotas: Api<ResourceQuota> = Api::namespaced(stage.client.clone(), it.namespace.name());
    until("the quota is used up", || async {
        let status = quotas.get("pods").await.unwrap().status?;
        (status.used?.get("pods")?.0 == fit.to_string()).then_some(())
    })
    .await;
    // A Pod that is posted twice, by us and by ARC, is counted twice until the quota is counted anew.
    let pods = it.scenario.timeline.most(Milestone::Pod);
    assert!((made - 1..=fit).contains(&pods), "{pods} pods of {fit}, and {note}");
    stage.control_plane.apply(&quota(runners).to_string()).unwrap();
    it.settles_after_a_part(runners).await;
    it.ends().await;
    Stage::retire(controller).await;
}
