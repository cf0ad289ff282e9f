//! Power cuts and `kill -9` at every named step and at any change of the disk: what is visible afterwards is whole or
//! not there, and the next agent converges.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod site;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use fastrand::Rng;
use headstart_cachesync::progress::Step;
use headstart_tests::agent::Agent;
use headstart_tests::bed::command::say;
use headstart_tests::depth;
use headstart_tests::power::{self, Loss, Power};
use headstart_tests::programs::program;
use headstart_tests::published::Publisher;
use headstart_tests::tree;
use headstart_tests::wait::{pass, until};

use site::{End, Site, WORKS, Work, retiring, wanted};

/// Whether a folder may be lost that was certain before: where one end of a move survives and the other does not.
fn may_lose(loss: Loss) -> bool {
    matches!(loss, Loss::Part(_))
}

/// Whether there is no such disk on this machine; says so.
fn skipped() -> bool {
    if let Some(reason) = power::unavailable() {
        say(&format!("skipped: {reason}"));
    }
    power::unavailable().is_some()
}

/// Steps that every kind of work passes.
const PASSED: [Step; 7] = [
    Step::StagingCreated,
    Step::TreeWritten,
    Step::TreeChecked,
    Step::ManifestWritten,
    Step::Synced,
    Step::Published,
    Step::NameSynced,
];

/// A power cut at every step, with every kind of loss.
async fn a_power_cut_at_every_step(work: Work) {
    if !skipped() {
        power_cuts_at(work, (&Step::ALL, &PASSED), None).await;
    }
}

/// A power cut at each of these steps; the second ones must have been reached.
async fn power_cuts_at(work: Work, (steps, passed): (&[Step], &[Step]), cluster: Option<&Publisher>) {
    let seeds: u64 = if depth::is_full() { 8 } else { 1 };
    let mut reached = Vec::new();
    for &step in steps {
        for loss in std::iter::once(Loss::Unsynced).chain((1..=seeds).map(Loss::Part)) {
            let context = format!("{work:?}, {step:?}, {loss:?}");
            let site = match cluster {
                Some(cluster) => Site::with(work, cluster).await,
                None => Site::new(work).await,
            };
            let power = Power::on(&site.node.root(), loss, None);
            let end = site.work(Some(step), &power).await;
            power.cut();
            site.is_sound(&context);
            assert!(may_lose(loss) || site.has_kept_the_old(), "{context}: what was there is kept");
            if end == End::Done || step == Step::NameSynced {
                assert!(site.is_whole(), "{context}: what is done survives");
            }
            site.converges(&context).await;
            if end == End::Done {
                // This kind of work has no such step.
                break;
            }
            reached.push(step);
        }
    }
    assert!(passed.iter().all(|step| reached.contains(step)), "only {reached:?}");
}

#[tokio::test]
async fn a_power_cut_at_every_step_of_an_install() {
    a_power_cut_at_every_step(Work::Install).await;
}

#[tokio::test]
async fn a_power_cut_at_every_step_of_a_repair() {
    a_power_cut_at_every_step(Work::Repair).await;
}

#[tokio::test]
async fn a_power_cut_at_every_step_of_a_replacement() {
    a_power_cut_at_every_step(Work::Replace).await;
}

#[tokio::test]
async fn a_power_cut_at_every_step_of_a_stage_run() {
    a_power_cut_at_every_step(Work::Stage).await;
}

#[tokio::test]
async fn a_power_cut_at_every_step_of_a_purge() {
    if !skipped() {
        power_cuts_at(Work::Purge, (&Step::REMOVAL, &Step::REMOVAL), None).await;
    }
}

#[tokio::test]
async fn a_power_cut_at_every_step_of_a_retirement() {
    if skipped() {
        return;
    }
    let cluster = retiring().await;
    power_cuts_at(Work::Retire, (&Step::REMOVAL, &Step::REMOVAL), Some(&cluster)).await;
}

/// How many changes each kind of work makes on the disk.
async fn changes(cluster: &Publisher) -> BTreeMap<Work, u32> {
    let mut changes = BTreeMap::new();
    for work in WORKS {
        let site = Site::with(work, cluster).await;
        let power = Power::on(&site.node.root(), Loss::Nothing, None);
        assert_eq!(site.work(None, &power).await, End::Done);
        changes.insert(work, power.cut());
    }
    say(&format!("changes of the disk: {changes:?}"));
    changes
}

/// How many of the last changes publish.
const PUBLISHING: u32 = 8;

/// A power cut before each of the last changes, or before any, with the loss of all that was not synced.
#[tokio::test]
async fn power_cuts_while_publishing() {
    if skipped() {
        return;
    }
    let cluster = retiring().await;
    for (work, changes) in changes(&cluster).await {
        let first = if depth::is_full() { 0 } else { changes - PUBLISHING };
        for after in first..changes {
            let context = format!("{work:?}, after {after} of {changes} changes");
            let site = Site::with(work, &cluster).await;
            let power = Power::on(&site.node.root(), Loss::Unsynced, Some(after));
            site.work(None, &power).await;
            power.cut();
            site.is_sound(&context);
            assert!(site.has_kept_the_old(), "{context}: what was there is kept");
            site.converges(&context).await;
        }
        say(&format!("{work:?}: a power cut before each of {} changes", changes - first));
    }
}

/// Up to three crashes in a row, each after any number of changes, of one kind of work after the other; `loss` says of each
/// what is lost.
async fn crashes_at_any_change(points: u64, loss: impl Fn(&mut Rng) -> Loss) {
    if skipped() {
        return;
    }
    let cluster = retiring().await;
    let changes = changes(&cluster).await;
    let mut failed: BTreeMap<Work, u64> = BTreeMap::new();
    for (seed, work) in (0..points).zip(WORKS.into_iter().cycle()) {
        let mut random = Rng::with_seed(seed);
        let site = Site::with(work, &cluster).await;
        let (mut context, mut has_lost) = (format!("seed {seed}, {work:?}"), false);
        for _ in 0..random.u32(1..=3) {
            let (drawn, after) = (loss(&mut random), random.u32(..changes[&work]));
            context += &format!(", {drawn:?} after {after}");
            let power = Power::on(&site.node.root(), drawn, Some(after));
            let has_failed = site.work(None, &power).await == End::PowerFailed;
            *failed.entry(work).or_default() += u64::from(has_failed);
            power.cut();
            site.is_sound(&context);
            has_lost |= may_lose(drawn);
            assert!(has_lost || site.has_kept_the_old(), "{context}: what was there is kept");
        }
        site.converges(&context).await;
        if seed % 50 == 49 {
            say(&format!("{} of {points} points, crashes: {failed:?}", seed + 1));
        }
    }
    assert!(failed.values().sum::<u64>() >= points, "{failed:?} crashes at {points} points");
    assert!(WORKS.iter().all(|work| failed[work] > 0), "{failed:?}");
}

#[tokio::test]
async fn power_cuts_after_any_change() {
    let points = if depth::is_full() { 250 } else { 12 };
    let loss = |random: &mut Rng| match random.u64(..4) {
        0 => Loss::Unsynced,
        _ => Loss::Part(random.u64(1..)),
    };
    crashes_at_any_change(points, loss).await;
}

#[tokio::test]
async fn kills_after_any_change() {
    let points = if depth::is_full() { 200 } else { 12 };
    crashes_at_any_change(points, |_| Loss::Nothing).await;
}

/// Node.js itself, of its real size: it runs from such a disk, and is there after the cut.
#[tokio::test]
async fn a_real_nodejs_survives_a_power_cut() {
    if skipped() {
        return;
    }
    let site = Site::new(Work::Install).await;
    fs::copy(tree::real_node(), site.node.path("home/externals/node16/bin/node")).unwrap();
    site.node.configure(&tree::directory_config(&site.node.path("home/externals")));
    let site = Site { version: wanted(&site.node), ..site };
    for (step, survives) in [(Step::Synced, false), (Step::NameSynced, true)] {
        let power = Power::on(&site.node.root(), Loss::Unsynced, None);
        assert_eq!(site.work(Some(step), &power).await, End::Killed);
        power.cut();
        assert_eq!(site.is_whole(), survives, "{step:?}");
    }
    site.converges("Node.js").await;
}

/// How long this work takes when nothing disturbs it.
async fn duration(work: Work, cluster: &Publisher) -> Duration {
    let site = Site::with(work, cluster).await;
    let begun = Instant::now();
    let _agent = Agent::spawn(site.command(&program("headstart-cachesync")));
    until("done", || async { site.has_been_done().then_some(()) }).await;
    begun.elapsed()
}

/// The same on an ordinary disk, and by the clock: as many kills of each kind of work as asked for find it undone.
#[tokio::test]
async fn kills_at_any_moment() {
    let kills: u64 = if depth::is_full() { 200 } else { 12 };
    let cluster = retiring().await;
    for work in WORKS {
        let mut longest = duration(work, &cluster).await;
        let (mut undone, mut random) = (0, Rng::with_seed(0));
        let asked_for = kills.div_ceil(WORKS.len() as u64);
        for _ in 0..10 * asked_for {
            let site = Site::with(work, &cluster).await;
            let moment = longest.mul_f64(random.f64());
            let mut agent = Agent::spawn(site.command(&program("headstart-cachesync")));
            pass(moment);
            agent.kill();
            drop(agent);
            if site.has_been_done() {
                // It does not always take that long.
                longest = moment;
            } else {
                undone += 1;
            }
            let context = format!("{work:?}, killed after {moment:?} of {longest:?}");
            site.is_sound(&context);
            site.converges(&context).await;
            if undone == asked_for {
                break;
            }
        }
        say(&format!("{work:?}: {undone} kills within {longest:?}"));
        assert_eq!(undone, asked_for, "kills that found {work:?} undone, which takes at most {longest:?}");
    }
}
