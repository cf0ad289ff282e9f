//! An Actions service that pushes back, fails, is slow, breaks off, or is away.

use std::time::Duration;

use headstart_tests::actions_service::{Caller, Endpoint, Fault, Harm, Span};
use headstart_tests::companion::metric;
use headstart_tests::depth::is_full;
use headstart_tests::wait::until;

use crate::stage::{SLOW, Stage, all_are_tried, counts};

const REGISTRATION: [Endpoint; 1] = [Endpoint::GenerateJitConfig];

/// A burst while some registrations are harmed, each kind counted by its reason; exact all the same, but for what was done and
/// nobody heard of.
async fn in_spite_of(harms: &[(Harm, u32, &str)], after: bool) {
    let stage = Stage::new().await;
    let controller = stage.leader("one", SLOW).await;
    let it = stage.enabled().await;
    stage.companion.pins("one", 1).await;
    stage.registrations_take(50);
    for (harm, times, _) in harms {
        let fault = Fault::new(&REGISTRATION, harm.clone(), Span::Next(*times)).of(Caller::Headstart);
        let fault = if after { fault.after() } else { fault };
        stage.service.with(|service, _| service.faults.add(fault));
    }
    it.scenario.ask(12);
    if after {
        it.settles_without_others(12).await;
    } else {
        it.settles_exactly(12).await;
    }
    assert!(stage.service.with(|service, _| service.faults.are_delivered()));
    assert_eq!(stage.pinned(), 1);
    for (harm, times, reason) in harms {
        let series = format!("headstart_creation_failures_total{{phase=\"register\",reason=\"{reason}\"}}");
        counts(&controller, &series, (*times).into()).await;
        if let Harm::Status(_, Some(seconds)) = harm {
            stage.was_given_time(Duration::from_secs((*seconds).into()));
        }
    }
    let mut retries = 0.0;
    for phase in ["register", "find-agent"] {
        let series = format!("headstart_creation_retries_total{{phase=\"{phase}\"}}");
        retries += metric(&controller, &series).await.unwrap_or_default();
    }
    assert!(retries >= 1.0, "what failed was tried again");
    counts(&controller, r#"headstart_creation_batches_total{outcome="complete"}"#, 1.0).await;
    it.ends().await;
    Stage::retire(controller).await;
}

impl Stage {
    /// Panics if we asked for a registration before the pause was over for which the service had asked last.
    fn was_given_time(&self, pause: Duration) {
        let (asked, arrivals) = self.service.with(|service, _| {
            let asked = service.faults.delivered().last().unwrap().at;
            (asked, service.calls.arrivals(Caller::Headstart, Endpoint::GenerateJitConfig).to_vec())
        });
        let next = arrivals.iter().find(|at| **at > asked).unwrap();
        assert!(*next >= asked + pause, "asked at {asked:?} to wait {pause:?}: {arrivals:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_asks_for_a_pause() {
    in_spite_of(&[(Harm::Status(429, Some(2)), 4, "pushed-back")], false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_pushes_back_without_saying_how_long_and_fails_for_a_moment() {
    let pushed_back = (Harm::Status(429, None), 6, "pushed-back");
    in_spite_of(&[pushed_back, (Harm::Status(503, None), 4, "unavailable")], false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_break_before_anything_is_done() {
    if all_are_tried() {
        in_spite_of(&[(Harm::Reset, 5, "failed")], false).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_lost() {
    in_spite_of(&[(Harm::Reset, 4, "failed")], true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_becomes_ten_times_as_slow() {
    let Some(stage) = Stage::in_full_depth().await else { return };
    let controller = stage.leader("one", SLOW).await;
    let it = stage.enabled().await;
    stage.companion.pins("one", 1).await;
    stage.registrations_take(100);
    it.scenario.ask(48);
    it.scenario.is_amid(2).await;
    stage.registrations_take(1000);
    it.settles_exactly(48).await;
    it.has_no_journal().await;
    counts(&controller, r#"headstart_creation_batches_total{outcome="complete"}"#, 1.0).await;
    let seconds =
        metric(&controller, r#"headstart_creation_call_duration_seconds_sum{phase="register"}"#).await;
    assert!(seconds > Some(10.0), "most of 48 registrations took a second, not {seconds:?} s in all");
    it.ends().await;
    Stage::retire(controller).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_away_for_a_while() {
    let stage = Stage::new().await;
    let controller = stage.leader("one", SLOW).await;
    let it = stage.poised().await;
    // From then on that no test can come too late to a batch.
    let away = Fault::new(&REGISTRATION, Harm::Status(503, None), Span::Always).sparing(3);
    stage.service.with(|service, _| service.faults.add(away));
    it.scenario.ask(16);
    let note = it.tells("RunnerCreationBreakerOpen").await;
    assert!(note.contains("/16 runners: the Actions service fails again and again"), "{note}");
    assert!(it.was_pinned());
    counts(&controller, r#"headstart_creation_batches_total{outcome="breaker-open"}"#, 1.0).await;
    counts(&controller, r#"headstart_creation_sets{state="suspended"}"#, 1.0).await;
    stage.companion.pins("one", 0).await;
    stage.service.with(|service, _| service.faults.clear());
    stage.registrations_take(0);
    it.settles_after_a_part(16).await;
    it.ends().await;
    Stage::retire(controller).await;
}

/// Only Headstart is cut off from it: ARC makes the rest while that lasts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_controller_alone_does_not_reach_it() {
    let stage = Stage::new().await;
    let controller = stage.leader("one", SLOW).await;
    let it = stage.poised().await;
    let cut = |endpoints| Fault::new(endpoints, Harm::Reset, Span::Always).of(Caller::Headstart);
    stage.service.with(|service, _| service.faults.add(cut(&REGISTRATION).sparing(3)));
    it.scenario.ask(16);
    it.scenario.is_amid(3).await;
    assert!(it.was_pinned());
    stage.service.with(|service, _| service.faults.add(cut(&[])));
    it.tells("RunnerCreationBreakerOpen").await;
    stage.registrations_take(0);
    it.settles_after_a_part(16).await;
    counts(&controller, "headstart_creation_runners_total", 3.0).await;
    it.ends().await;
    Stage::retire(controller).await;
}

/// Amid a batch nobody can talk to it for so long, listeners that wait for a message included.
async fn out_of_reach(harm: Harm, seconds: u64) {
    let stage = Stage::new().await;
    let flags = [SLOW, &["--runner-creation-timeout=2s"]].concat();
    let controller = stage.leader("one", &flags).await;
    let it = stage.poised().await;
    let outage = stage.service.with(|service, now| {
        let outage = Span::Until(now + Duration::from_secs(seconds));
        service.faults.add(Fault::new(&REGISTRATION, harm.clone(), outage).sparing(3));
        outage
    });
    it.scenario.ask(16);
    it.scenario.is_amid(3).await;
    stage.service.with(|service, _| service.faults.add(Fault::new(&[], harm, outage)));
    until("the listener is cut off", || async {
        (!stage.service.with(|service, _| service.is_polled(it.scenario.id()))).then_some(())
    })
    .await;
    it.tells("RunnerCreationBreakerOpen").await;
    it.settles_after_a_part(16).await;
    it.ends().await;
    Stage::retire(controller).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_reaches_it_for_a_minute() {
    if all_are_tried() {
        out_of_reach(Harm::Reset, 60).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_falls_silent() {
    out_of_reach(Harm::Hang, if is_full() { 60 } else { 10 }).await;
}
