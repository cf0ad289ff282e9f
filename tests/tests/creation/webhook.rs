//! The webhook is away, slow, or dies: ARC makes the runners, or the controller those that were left to it.

use headstart_tests::arc::timeline::Milestone;
use headstart_tests::front::{Front, Manner, as_it_is};
use headstart_tests::process::Process;
use headstart_tests::wait::until;

use crate::stage::{PATIENCE, SLOW, Stage, counts};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_or_with_a_silent_webhook_arc_makes_them() {
    let Some(mut stage) = Stage::in_full_depth().await else { return };
    let controller = stage.leader("one", &[]).await;
    let front = Front::start(&stage.companion.webhook.tls(), &stage.companion.webhook.url()).await;
    stage.companion.webhook.register(stage.control_plane, &front.url());
    stage.companion.webhook.process.kill();
    let it = stage.enabled().await;
    it.scenario.burst(3, PATIENCE).await;
    it.settles_exactly(3).await;
    front.behave(Manner::SilentAfterHandshake);
    it.scenario.burst(3, PATIENCE).await;
    it.settles_exactly(6).await;
    assert!(!it.was_pinned());
    it.ends().await;
    Stage::retire(controller).await;
}

/// Amid a batch of 16 the webhook dies, perhaps over the review of what the listener writes next, which asks for 4 more: that is
/// stored as it is, and ARC makes what is missing then.
async fn killed_amid(stage: &Stage, front: Option<&Front>, controller: &Process) {
    let it = stage.amid(16, 3).await;
    let webhook = &stage.companion.webhook.process;
    match front {
        None => {
            webhook.strike();
            it.scenario.ask(4);
        }
        Some(front) => {
            front.behave(Manner::SilentTo("/mutate/runnersets"));
            it.scenario.ask(4);
            until("its word is reviewed", || async { (front.held() > 0).then_some(()) }).await;
            webhook.strike();
            front.behave(Manner::Answering(as_it_is));
            front.cut();
        }
    }
    it.is_raw(20).await;
    // What was being posted then may come on top of it. ARC leaves that be while there are jobs.
    let there = it.comes_to_at_least(20).await;
    let most = it.scenario.timeline.most(Milestone::Runner);
    assert!((20..=24).contains(&there) && there == most, "{there} runners, and {most} at most");
    it.comes_to_rest(20, there).await;
    counts(controller, "headstart_creation_overshoot_total", (there - 20) as f64).await;
    let stopped = it.tells("RunnerCreationStopped").await;
    assert!(stopped.contains("stored as it is, so ARC makes the rest"), "{stopped}");
    it.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_a_batch() {
    let mut stage = Stage::new().await;
    let controller = stage.leader("one", SLOW).await;
    killed_amid(&stage, None, &controller).await;
    stage.companion.webhook.start_again().await;
    Stage::retire(controller).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_over_a_review() {
    let Some(mut stage) = Stage::in_full_depth().await else { return };
    let controller = stage.leader("one", SLOW).await;
    let front = Front::start(&stage.companion.webhook.tls(), &stage.companion.webhook.url()).await;
    stage.companion.webhook.register(stage.control_plane, &front.url());
    killed_amid(&stage, Some(&front), &controller).await;
    stage.companion.webhook.start_again().await;
    Stage::retire(controller).await;
}
