//! The webhook is away, slow, or dies: ARC makes the runners, or the controller those that were left to it.

use headstart_tests::front::{Front, Manner};

use crate::stage::{PATIENCE, SLOW, Stage};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_a_batch() {
    let mut stage = Stage::new().await;
    let controller = stage.leader("one", SLOW).await;
    stage.registrations_take(400);
    {
        let it = stage.enabled().await;
        stage.companion.pins("one", 1).await;
        it.scenario.ask(16);
        it.scenario.is_amid(3).await;
        assert!(it.was_pinned());
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(stage.companion.webhook.process.id().try_into().unwrap()).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        it.settles_exactly(16).await;
        it.has_no_journal().await;
        it.tells("RunnerCreationFinished").await;
        it.ends().await;
    }
    stage.companion.webhook.start_again().await;
    Stage::retire(controller).await;
}
