//! Controllers that die or hand over in the middle of a batch, and listeners that begin anew.

use std::time::Duration;

use axum::http::Method;
use headstart_tests::arc::IsSetUp as _;
use headstart_tests::wait::{until, within};

use crate::stage::{HEARTBEAT, PATIENCE, SLOW, Stage, counts};
use crate::weak::{Fault, Harm, Weak};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_is_killed_and_the_next_one_finishes() {
    let stage = Stage::new().await;
    let mut first = stage.leader("one", SLOW).await;
    let second = stage.companion.controller("two", SLOW);
    let it = stage.amid(24, 5).await;
    first.kill();
    second.says("leading").await;
    // A name that came to nothing stays in its journal for minutes, so that is not waited for.
    it.settles_without_others(24).await;
    it.tells("RunnerCreationFinished").await;
    counts(&second, r#"headstart_creation_batches_total{outcome="complete"}"#, 1.0).await;
    it.ends().await;
    Stage::retire(second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_is_killed_amid_several_sets() {
    let Some(stage) = Stage::in_full_depth().await else { return };
    let mut first = stage.leader("one", SLOW).await;
    let second = stage.companion.controller("two", SLOW);
    let sets = [stage.enabled().await, stage.enabled().await, stage.enabled().await];
    stage.companion.pins("one", 3).await;
    stage.registrations_take(400);
    for it in &sets {
        it.scenario.ask(12);
    }
    for it in &sets {
        it.scenario.is_amid(1).await;
        assert!(it.was_pinned());
    }
    first.kill();
    second.says("leading").await;
    for it in &sets {
        it.settles_without_others(12).await;
        it.tells("RunnerCreationFinished").await;
    }
    for it in sets {
        it.ends().await;
    }
    Stage::retire(second).await;
}

/// What it was writing is carried out long after the next one has looked: that is found when names that were absent are looked
/// for once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_is_killed_and_its_last_writes_come_late() {
    let Some(stage) = Stage::in_full_depth().await else { return };
    let weak = Weak::before(stage.control_plane).await;
    let late = Harm::Late(Duration::from_secs(60));
    weak.add(Fault { write: (Method::POST, "/secrets"), harm: late, times: 4, is_done: false });
    let mut first = stage.leader_by_way_of("one", &weak.url(), Some(&weak.authority()), SLOW).await;
    let second = stage.companion.controller("two", SLOW);
    let it = stage.poised().await;
    it.scenario.ask(12);
    until("four Secrets are being written", || async { weak.is_used_up().then_some(()) }).await;
    first.kill();
    second.says("leading").await;
    it.tells("RunnerCreationFinished").await;
    let come = within(PATIENCE, || async { weak.is_delivered().then_some(()) });
    come.await.expect("the late writes are carried out");
    // Their Secrets are there for minutes, and no runner comes of them.
    it.settles_after_a_part(12).await;
    it.ends().await;
    Stage::retire(second).await;
}

/// A leader that stands still hears nothing of its successor, and still knows everything that it wanted to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stands_still_and_wakes_up_when_the_next_one_has_finished() {
    let stage = Stage::new().await;
    let first = stage.leader("one", SLOW).await;
    let second = stage.companion.controller("two", SLOW);
    let it = stage.amid(24, 5).await;
    first.stand_still();
    second.says("leading").await;
    it.settles_without_others(24).await;
    first.go_on();
    until("it knows that it leads no more", || async {
        let stood = first.log().iter().any(|line| line.to_string().contains("stood still"));
        (stood || first.has_said("lost the leadership")).then_some(())
    })
    .await;
    // What it had sent, or nearly, when it stood still may be carried out late.
    it.settles_after_a_part(24).await;
    it.ends().await;
    Stage::retire(second).await;
    Stage::retire(first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_one_is_killed_and_arc_makes_the_rest() {
    let Some(stage) = Stage::in_full_depth().await else { return };
    let mut first = stage.leader("one", SLOW).await;
    let it = stage.enabled().await;
    stage.companion.pins("one", 1).await;
    stage.registrations_take(400);
    stage.service.set_hold(HEARTBEAT);
    it.scenario.ask(24);
    it.scenario.is_amid(5).await;
    first.kill();
    assert!(it.was_pinned());
    // What was begun and not finished stays until a leader comes.
    it.scenario.settles_runners(24, PATIENCE).await;
    let next = stage.leader("two", SLOW).await;
    it.settles(24).await;
    it.ends().await;
    Stage::retire(next).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_ends_gracefully_and_the_next_one_finishes_at_once() {
    let stage = Stage::new().await;
    let first = stage.leader("one", SLOW).await;
    let second = stage.companion.controller("two", SLOW);
    let it = stage.amid(24, 5).await;
    Stage::retire(first).await;
    second.says("leading").await;
    // A name that came to nothing stays in its journal for minutes, so that is not waited for.
    it.settles_without_others(24).await;
    it.tells("RunnerCreationFinished").await;
    it.ends().await;
    Stage::retire(second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_listener_begins_anew_amid_a_batch() {
    let stage = Stage::new().await;
    let controller = stage.leader("one", SLOW).await;
    let it = stage.enabled().await;
    stage.companion.pins("one", 1).await;
    stage.service.with(|service, _| service.session_life = std::time::Duration::ZERO);
    stage.registrations_take(400);
    it.scenario.ask(16);
    it.scenario.is_amid(3).await;
    assert!(it.was_pinned());
    it.set.listener().crash();
    it.settles(16).await;
    it.ends().await;
    Stage::retire(controller).await;
}
