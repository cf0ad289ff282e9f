//! Bursts, in good weather.

use std::time::Instant;

use headstart_tests::actions_service::Endpoint;
use headstart_tests::arc::timeline::Milestone;
use headstart_tests::bed::command::say;
use headstart_tests::depth::is_full;

use crate::stage::{PATIENCE, SLOW, Stage, counts};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_is_made_at_once_and_is_exact() {
    let stage = Stage::new().await;
    let controller = stage.leader("one", &[]).await;
    let it = stage.enabled().await;
    stage.companion.pins("one", 1).await;
    let runners = if is_full() { 100 } else { 20 };
    stage.registrations_take(150);
    let figures = it.scenario.burst(runners, PATIENCE).await;
    say(&format!("{}\n{}", headstart_tests::arc::scenario::head(), figures.row()));
    it.settles_exactly(runners).await;
    assert_eq!(stage.pinned(), 1);
    it.has_no_journal().await;
    assert_eq!(it.tells("RunnerCreationStarted").await, format!("creating {runners} runners at once"));
    it.tells("RunnerCreationProgress").await;
    assert!(it.tells("RunnerCreationFinished").await.starts_with(&format!("created {runners} runners in ")));
    counts(&controller, r#"headstart_creation_batches_total{outcome="complete"}"#, 1.0).await;
    counts(&controller, "headstart_creation_runners_total", runners as f64).await;
    counts(&controller, "headstart_creation_overshoot_total", 0.0).await;
    counts(&controller, r#"headstart_creation_sets{state="published"}"#, 1.0).await;
    counts(&controller, "headstart_creation_pinned_sets", 0.0).await;
    counts(&controller, "headstart_creation_handed_back_total", 1.0).await;
    counts(&controller, r#"headstart_creation_in_flight{upstream="kubernetes"}"#, 0.0).await;

    let busy = it.scenario.begin(runners / 2).await;
    it.scenario.finish(&busy).await;
    it.scenario.settles(runners - runners / 2, PATIENCE).await;
    it.scenario.cancel_waiting();
    it.scenario.settles(0, PATIENCE).await;
    it.scenario.was_exact(runners);
    it.ends().await;
    Stage::retire(controller).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_few_runners_come_beside_those_that_work() {
    let stage = Stage::new().await;
    let controller = stage.leader("one", &[]).await;
    let it = stage.enabled().await;
    stage.companion.pins("one", 1).await;
    let sizes: &[usize] = if is_full() { &[1, 2, 3, 4, 5] } else { &[1, 3] };
    let (mut all, mut busy) = (0, std::collections::BTreeSet::new());
    for more in sizes {
        it.scenario.burst(*more, PATIENCE).await;
        all += more;
        it.settles_exactly(all).await;
        if busy.is_empty() {
            busy = it.scenario.begin(1).await;
        }
    }
    assert_eq!(stage.pinned(), sizes.len());
    it.has_no_journal().await;
    counts(&controller, "headstart_creation_runners_total", all as f64).await;
    assert!(it.has(&busy), "a runner with a job is never taken away");
    it.scenario.finish(&busy).await;
    it.scenario.settles(all - busy.len(), PATIENCE).await;
    it.ends().await;
    Stage::retire(controller).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_sets_are_made_at_the_same_time() {
    let stage = Stage::new().await;
    let controller = stage.leader("one", SLOW).await;
    let sets = [stage.enabled().await, stage.enabled().await, stage.enabled().await];
    stage.companion.pins("one", 3).await;
    stage.registrations_take(100);
    let runners = if is_full() { 40 } else { 8 };
    // None gets ahead before all have begun, however late a listener is.
    stage.service.with(|service, _| service.faults.hold(Endpoint::GenerateJitConfig));
    let begun = Instant::now();
    for it in &sets {
        it.scenario.ask(runners);
    }
    for it in &sets {
        it.tells("RunnerCreationStarted").await;
    }
    stage.service.with(|service, _| service.faults.release());
    for it in &sets {
        it.settles_exactly(runners).await;
        it.has_no_journal().await;
        it.tells("RunnerCreationFinished").await;
    }
    let times = sets.each_ref().map(|it| it.scenario.timeline.times(Milestone::Runner, begun));
    let begins = times.iter().map(|times| times[0]).max();
    let ends = times.iter().map(|times| times[runners - 1]).min();
    assert!(begins < ends, "each begins before another ends: {times:?}");
    assert_eq!(stage.pinned(), 3);
    counts(&controller, r#"headstart_creation_batches_total{outcome="complete"}"#, 3.0).await;
    for it in sets {
        it.ends().await;
    }
    Stage::retire(controller).await;
}
