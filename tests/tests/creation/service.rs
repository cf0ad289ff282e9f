//! An Actions service that pushes back, fails, is slow, breaks off, or is away.

use std::time::Duration;

use headstart_tests::actions_service::{Caller, Endpoint, Fault, Harm, Span};
use headstart_tests::companion::metric;

use crate::stage::{SLOW, Stage, all_are_tried, counts};

/// A burst while registrations are harmed like this: exact all the same, and the failures are counted by that reason.
async fn in_spite_of(harm: Harm, span: Span, after: bool, reason: &str) {
    let stage = Stage::new().await;
    let controller = stage.leader("one", &[]).await;
    let it = stage.enabled().await;
    stage.companion.pins("one", 1).await;
    stage.registrations_take(50);
    let fault = Fault::new(&[Endpoint::GenerateJitConfig], harm, span).of(Caller::Headstart);
    let fault = if after { fault.after() } else { fault };
    stage.service.with(|service, _| service.faults.add(fault));
    it.scenario.ask(12);
    it.settles(12).await;
    assert_eq!(stage.pinned(), 1);
    let series = format!("headstart_creation_failures_total{{phase=\"register\",reason=\"{reason}\"}}");
    assert!(metric(&controller, &series).await.unwrap_or_default() >= 1.0, "{series}");
    let again = metric(&controller, r#"headstart_creation_retries_total{phase="register"}"#).await;
    let found = metric(&controller, r#"headstart_creation_retries_total{phase="find-agent"}"#).await;
    assert!(again.or(found).unwrap_or_default() >= 1.0, "what failed was tried again");
    counts(&controller, r#"headstart_creation_batches_total{outcome="complete"}"#, 1.0).await;
    it.has_no_journal().await;
    it.ends().await;
    Stage::retire(controller).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_asks_for_a_pause() {
    in_spite_of(Harm::Status(429, Some(2)), Span::Next(4), false, "pushed-back").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_pushes_back_without_saying_how_long() {
    if all_are_tried() {
        in_spite_of(Harm::Status(429, None), Span::Next(6), false, "pushed-back").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_fails_for_a_moment() {
    if all_are_tried() {
        in_spite_of(Harm::Status(503, None), Span::Next(5), false, "unavailable").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_break_before_anything_is_done() {
    if all_are_tried() {
        in_spite_of(Harm::Reset, Span::Next(5), false, "failed").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_lost() {
    in_spite_of(Harm::Reset, Span::Next(4), true, "failed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_becomes_ten_times_as_slow() {
    let Some(stage) = Stage::in_full_depth().await else { return };
    let controller = stage.leader("one", &[]).await;
    let it = stage.enabled().await;
    stage.companion.pins("one", 1).await;
    stage.registrations_take(100);
    it.scenario.ask(24);
    it.scenario.is_amid(2).await;
    stage.registrations_take(1000);
    it.settles_exactly(24).await;
    it.has_no_journal().await;
    it.ends().await;
    Stage::retire(controller).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_away_for_a_while() {
    let stage = Stage::new().await;
    let controller = stage.leader("one", SLOW).await;
    let it = stage.amid(16, 3).await;
    let away = Fault::new(&[Endpoint::GenerateJitConfig], Harm::Status(503, None), Span::Always);
    stage.service.with(|service, _| service.faults.add(away));
    let note = it.tells("RunnerCreationBreakerOpen").await;
    assert!(note.contains("/16 runners: the Actions service fails again and again"), "{note}");
    counts(&controller, r#"headstart_creation_batches_total{outcome="breaker-open"}"#, 1.0).await;
    counts(&controller, r#"headstart_creation_sets{state="suspended"}"#, 1.0).await;
    stage.companion.pins("one", 0).await;
    stage.service.with(|service, _| service.faults.clear());
    stage.registrations_take(0);
    it.settles(16).await;
    it.ends().await;
    Stage::retire(controller).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_away_for_a_minute() {
    let Some(stage) = Stage::in_full_depth().await else { return };
    let controller = stage.leader("one", SLOW).await;
    let it = stage.amid(16, 3).await;
    stage.service.with(|service, now| {
        for caller in [Caller::Headstart, Caller::Manager] {
            let minute = Span::Until(now + Duration::from_secs(60));
            service.faults.add(Fault::new(&[], Harm::Reset, minute).of(caller));
        }
    });
    it.tells("RunnerCreationBreakerOpen").await;
    it.settles(16).await;
    it.ends().await;
    Stage::retire(controller).await;
}
