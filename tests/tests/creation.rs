//! Runners created at once: the shipped controller and webhook beside an ARC, in a real API server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use headstart_tests::actions_service::{ActionsService, Endpoint};
use headstart_tests::arc::real::scenario::{Scenario, head};
use headstart_tests::arc::real::{Asked, Installed, IsSetUp, Real, Tuning, UnderTest, namespace};
use headstart_tests::bed::command::say;
use headstart_tests::bed::{ControlPlane, Minor};
use headstart_tests::companion::Companion;

const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_burst_is_made_at_once_and_is_exact() {
    let Some(real) = Real::from_environment() else { return };
    let runners: usize =
        std::env::var("HEADSTART_RUNNERS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let registration =
        std::env::var("HEADSTART_LATENCY").ok().and_then(|text| text.parse().ok()).unwrap_or(150);
    let concurrency = std::env::var("HEADSTART_CONCURRENCY").unwrap_or_else(|_| "10".to_owned());
    let control_plane = ControlPlane::start(Minor::Newest).await.unwrap();
    let client = control_plane.client().await.unwrap();
    let arc = Installed::on(&control_plane, &real).await;
    let companion = Companion::install(&control_plane).await;
    let controller = companion.controller("one", &["--runner-creation-concurrency", &concurrency]);
    let service = ActionsService::start().await;
    let namespace = namespace(&control_plane, "runners", &[]).await;
    companion.enable(namespace.name());
    let _manager = arc.manager(Tuning::Default);
    let url = service.config_url();
    let asked = Asked { namespace: namespace.name(), name: "linux", url: &url, at_least: 0, at_most: 1000 };
    let set = arc.scale_set(&asked).await;
    companion.serves(1).await;
    controller.says("leading").await;
    let scenario = Scenario::follow(&service, &client, namespace.name(), asked.name);
    service.with(|service, _| {
        service.faults.set_latency(Endpoint::GenerateJitConfig, Duration::from_millis(registration));
    });
    let figures = scenario.burst(runners, PATIENCE).await;
    say(&format!("{}\n{}", head(), figures.row()));
    scenario.was_exact(runners);
    assert_eq!(companion.webhook.decided("pinned"), 1, "{:#?}", companion.webhook.process.log());
    let busy = scenario.begin(runners / 2).await;
    scenario.finish(&busy).await;
    scenario.settles(runners - runners / 2, PATIENCE).await;
    scenario.cancel_waiting();
    scenario.settles(0, PATIENCE).await;
    scenario.was_exact(runners);
    set.delete().await;
    headstart_tests::wait::until("no journal is left", || async {
        companion.journals().is_empty().then_some(())
    })
    .await;
}
