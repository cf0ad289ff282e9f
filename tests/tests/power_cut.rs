//! Power cuts and `kill -9` at every named step and at any change of the disk: what is visible afterwards is whole or
//! not there, and the next agent converges.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use fastrand::Rng;
use headstart_cachesync::progress::Step;
use headstart_cachesync::tree::inspect::inspect;
use headstart_externals::config::Config;
use headstart_externals::layout::Root;
use headstart_externals::manifest::{Manifest, tree_digest};
use headstart_externals::staged::{SourceRecord, StageOutcome};
use headstart_externals::version::VersionName;
use headstart_tests::agent::{Agent, Node};
use headstart_tests::archive::{Tar, config_for_file};
use headstart_tests::bed::command::say;
use headstart_tests::depth;
use headstart_tests::power::{self, Loss, Power};
use headstart_tests::programs::program;
use headstart_tests::tree::{self, NODE16, node16_config};
use headstart_tests::wait::{pass, until};

const IMAGE: &str = "example.com/runner:2.304.0";

/// What takes the place of Node.js in a damaged version.
const DAMAGE: &str = "damaged";

/// What is interrupted.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Work {
    /// The first install of a version.
    Install,
    /// The repair of a damaged one.
    Repair,
    /// An install where something foreign lies under the name.
    Replace,
    /// A stage run.
    Stage,
}

const WORKS: [Work; 4] = [Work::Install, Work::Repair, Work::Replace, Work::Stage];

/// How an agent or a stage run came to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// It killed itself at the step that it was told.
    Killed,
    /// The disk had no power any more.
    PowerFailed,
    /// All was done before.
    Done,
}

/// A node with something to do.
struct Site {
    node: Node,
    version: VersionName,
    work: Work,
}

/// The version that the configuration asks for.
fn wanted(node: &Node) -> VersionName {
    let config = Config::parse(&fs::read_to_string(node.path("config.yaml")).unwrap()).unwrap();
    config.revisions().next().unwrap().1.version.clone()
}

impl Site {
    async fn new(work: Work) -> Self {
        let node = Node::new("");
        let config = match work {
            Work::Stage => node16_config(&format!("{{runnerImage: {{image: '{IMAGE}'}}}}")),
            _ => config_for_file(&node.path("source.tar.gz"), &Tar::sound().packed("gz")),
        };
        node.configure(&config);
        tree::write(&node.path("home/externals"), &NODE16);
        fs::create_dir(node.root()).unwrap();
        let site = Self { version: wanted(&node), node, work };
        match work {
            Work::Install | Work::Stage => {}
            Work::Repair => {
                site.node.start().ready().await;
                fs::write(site.binary(), DAMAGE).unwrap();
            }
            Work::Replace => tree::write_file(&site.binary(), DAMAGE.as_bytes(), 0o644),
        }
        site
    }

    fn layout(&self) -> Root {
        Root::new(self.node.root())
    }

    /// A file of the version that is damaged, or that somebody else made.
    fn binary(&self) -> PathBuf {
        self.layout().version(&self.version).tree().join("node16/bin/node")
    }

    /// The work as a command of `program`.
    fn command(&self, program: &Path) -> Command {
        if self.work != Work::Stage {
            return self.node.command_of(program);
        }
        let mut command = Command::new(program);
        command.args(["--log-format", "json", "stage", "--profile", "node16", "--image", IMAGE, "--root"]);
        command.arg(self.node.root()).arg("--config").arg(self.node.path("config.yaml"));
        command.arg("--externals").arg(self.node.path("home/externals"));
        command.env_remove("ACTIONS_RUNNER_CONTAINER_HOOK_TEMPLATE");
        command
    }

    /// Works until it is done, or killed at `step`, or the power fails; then it is killed in any case.
    async fn work(&self, step: Option<Step>, power: &Power) -> End {
        let mut command = self.command(Path::new(env!("CARGO_BIN_EXE_killed-agent")));
        if let Some(step) = step {
            command.env("KILL_AT", format!("{step:?}"));
        }
        let agent = Agent::spawn(command);
        until(&format!("the end of {:?} at {step:?}", self.work), || async {
            if power.has_failed() {
                return Some(End::PowerFailed);
            }
            if agent.end().is_some_and(|end| end.killed()) {
                return Some(End::Killed);
            }
            self.is_done(&agent).await.then_some(End::Done)
        })
        .await
    }

    async fn is_done(&self, agent: &Agent) -> bool {
        if self.work == Work::Stage {
            return agent.end().is_some_and(|end| end.exit_status() == Some(0));
        }
        let Some((_, status)) = agent.get("/v1/status").await else { return false };
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        status["ready"] == true && self.is_whole()
    }

    /// Whether the result of the work is there, whole.
    fn is_whole(&self) -> bool {
        if self.work == Work::Stage {
            let staged = self.layout().staged_source(&self.version);
            let Ok(record) = fs::read(staged.record()) else { return false };
            let Ok(StageOutcome::Staged { tree_sha256, .. }) =
                SourceRecord::parse(&record).map(|record| record.outcome)
            else {
                return false;
            };
            return inspect(&staged.tree()).is_ok_and(|files| tree_digest(&files) == tree_sha256);
        }
        self.is_version_whole()
    }

    fn is_version_whole(&self) -> bool {
        let dir = self.layout().version(&self.version);
        let Some(manifest) = fs::read(dir.manifest()).ok().and_then(|text| Manifest::parse(&text).ok())
        else {
            return false;
        };
        let links = fs::read_dir(dir.farm()).map_or(0, Iterator::count);
        links == manifest.entries().len() && inspect(&dir.tree()).is_ok_and(|files| files == manifest.files)
    }

    /// What is there after a crash, before anybody looks after it.
    fn is_sound(&self, context: &str) {
        let folder = if self.work == Work::Stage { "staged" } else { "versions" };
        let is_there = self.node.list(folder).contains(&self.version.to_string());
        match self.work {
            Work::Install | Work::Stage => {
                assert!(!is_there || self.is_whole(), "{context}: half a version in {folder}");
            }
            Work::Repair | Work::Replace => {
                assert!(is_there, "{context}: the name is never missing");
                assert!(self.is_as_before() || self.is_whole(), "{context}: the old folder or the new one");
            }
        }
    }

    fn is_as_before(&self) -> bool {
        fs::read_to_string(self.binary()).is_ok_and(|text| text == DAMAGE)
    }

    /// Whether what was under the name, if anything was, still is, or gave way.
    fn has_kept_the_old(&self) -> bool {
        if !matches!(self.work, Work::Repair | Work::Replace) {
            return true;
        }
        let replaced = self.node.list("replaced").into_iter();
        let mut binaries =
            replaced.map(|name| self.node.root().join("replaced").join(name).join("tree/node16/bin/node"));
        self.is_as_before()
            || binaries.any(|binary| fs::read_to_string(binary).is_ok_and(|text| text == DAMAGE))
    }

    /// A normal agent gets everything ready and leaves nothing else.
    async fn converges(&self, context: &str) {
        if self.work == Work::Stage {
            let output = self.command(&program("headstart-cachesync")).output().unwrap();
            assert!(output.status.success(), "{context}: {}", String::from_utf8_lossy(&output.stderr));
            assert!(self.is_whole(), "{context}");
            assert_eq!(self.node.list("staged/building"), [""; 0], "{context}");
        }
        let agent = self.node.start();
        agent.ready().await;
        until(&format!("{context}: a whole version"), || async { self.is_version_whole().then_some(()) })
            .await;
        assert_eq!(self.node.list("versions"), [self.version.to_string()], "{context}");
        for folder in ["staging", "trash"] {
            assert_eq!(self.node.list(folder), [""; 0], "{context}: {folder} is swept");
        }
        if self.work == Work::Install {
            assert_eq!(self.node.list("replaced"), [""; 0], "{context}: nothing was in the way");
        }
    }
}

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
    if skipped() {
        return;
    }
    let seeds: u64 = if depth::is_full() { 8 } else { 1 };
    let mut reached = Vec::new();
    for step in Step::ALL {
        for loss in std::iter::once(Loss::Unsynced).chain((1..=seeds).map(Loss::Part)) {
            let context = format!("{work:?}, {step:?}, {loss:?}");
            let site = Site::new(work).await;
            let power = Power::on(&site.node.root(), loss, None);
            let end = site.work(Some(step), &power).await;
            power.cut();
            site.is_sound(&context);
            assert!(may_lose(loss) || site.has_kept_the_old(), "{context}: what was there is kept");
            if end == End::Done || step >= Step::NameSynced {
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
    assert!(PASSED.iter().all(|step| reached.contains(step)), "only {reached:?}");
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

/// How many changes each kind of work makes on the disk.
async fn changes() -> BTreeMap<Work, u32> {
    let mut changes = BTreeMap::new();
    for work in WORKS {
        let site = Site::new(work).await;
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
    for (work, changes) in changes().await {
        let first = if depth::is_full() { 0 } else { changes - PUBLISHING };
        for after in first..changes {
            let context = format!("{work:?}, after {after} of {changes} changes");
            let site = Site::new(work).await;
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

/// Up to three crashes in a row, each after any number of changes; `loss` says of each what is lost.
async fn crashes_at_any_change(points: u64, loss: impl Fn(&mut Rng) -> Loss) {
    if skipped() {
        return;
    }
    let changes = changes().await;
    let mut failed = 0;
    for seed in 0..points {
        let mut random = Rng::with_seed(seed);
        let work = WORKS[random.usize(..WORKS.len())];
        let site = Site::new(work).await;
        let (mut context, mut has_lost) = (format!("seed {seed}, {work:?}"), false);
        for _ in 0..random.u32(1..=3) {
            let (drawn, after) = (loss(&mut random), random.u32(..changes[&work]));
            context += &format!(", {drawn:?} after {after}");
            let power = Power::on(&site.node.root(), drawn, Some(after));
            failed += u64::from(site.work(None, &power).await == End::PowerFailed);
            power.cut();
            site.is_sound(&context);
            has_lost |= may_lose(drawn);
            assert!(has_lost || site.has_kept_the_old(), "{context}: what was there is kept");
        }
        site.converges(&context).await;
        if seed % 50 == 49 {
            say(&format!("{} of {points} points, {failed} crashes", seed + 1));
        }
    }
    assert!(failed >= points, "{failed} crashes at {points} points");
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
    let points = if depth::is_full() { 200 } else { 8 };
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

/// The same on an ordinary disk, and by the clock.
#[tokio::test]
async fn kills_at_any_moment() {
    let points: u64 = if depth::is_full() { 200 } else { 8 };
    let mut longest = BTreeMap::new();
    for seed in 0..points {
        let mut random = Rng::with_seed(seed);
        let work = WORKS[random.usize(..WORKS.len())];
        let site = Site::new(work).await;
        let begun = Instant::now();
        let mut agent = Agent::spawn(site.command(&program("headstart-cachesync")));
        // The first of a kind shows how long it takes.
        let moment = longest.get(&work).map(|longest: &Duration| longest.mul_f64(random.f64()));
        match moment {
            Some(moment) => pass(moment),
            None => {
                until("done", || async { site.is_done(&agent).await.then_some(()) }).await;
                longest.insert(work, begun.elapsed());
            }
        }
        agent.kill();
        drop(agent);
        let context = format!("seed {seed}, {work:?}, killed after {moment:?}");
        site.is_sound(&context);
        site.converges(&context).await;
    }
}
