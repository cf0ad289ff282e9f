//! From inside a runner image: `headstart-cachesync stage` leaves a copy on the node, the agent installs from it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use headstart_cachesync::progress::Step;
use headstart_cachesync::tree::inspect::inspect;
use headstart_externals::config::Config;
use headstart_externals::fault::FaultReason;
use headstart_externals::layout::{Root, StagedDir};
use headstart_externals::manifest::tree_digest;
use headstart_externals::staged::{SourceRecord, StageOutcome};
use headstart_tests::agent::{Agent, Node};
use headstart_tests::programs::program;
use headstart_tests::tree::{self, NODE16, node16_config};
use headstart_tests::wait::until;
use serde_json::{Value, json};

const IMAGE: &str = "example.com/runner:2.304.0";

/// Breaks something at a path.
type Spoiler = fn(&Path);

/// A node, and a runner's home with its externals as the stage sees them inside the image.
struct Site {
    node: Node,
}

impl Site {
    fn new() -> Self {
        let node = Node::new(&node16_config(&format!("{{runnerImage: {{image: '{IMAGE}'}}}}")));
        tree::write(&node.path("home/externals"), &NODE16);
        Self { node }
    }

    fn stage_of(&self, program: &Path, image: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["--log-format", "json", "stage", "--image", image]);
        command.arg("--root").arg(self.node.root()).arg("--config").arg(self.node.path("config.yaml"));
        // Flags and variables are equally good.
        command.args(["--profile", "node16"]);
        command.arg("--externals").arg(self.node.path("home/externals"));
        command.env_remove("ACTIONS_RUNNER_CONTAINER_HOOK_TEMPLATE");
        command
    }

    fn stage(&self, image: &str) -> Command {
        self.stage_of(&program("headstart-cachesync"), image)
    }

    /// Stages from the right image.
    fn staged(&self) -> String {
        let output = self.stage(IMAGE).output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{log}");
        log
    }

    /// Stages in vain; the one message of the error.
    fn not_staged(&self, image: &str) -> String {
        let output = self.stage(image).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let log = String::from_utf8(output.stderr).unwrap();
        let errors: Vec<&str> = log.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{log}");
        errors[0].to_owned()
    }

    fn dir(&self) -> StagedDir {
        let text = fs::read_to_string(self.node.path("config.yaml")).unwrap();
        let version = Config::parse(&text).unwrap().revisions().next().unwrap().1.version.clone();
        Root::new(self.node.root()).staged_source(&version)
    }

    fn record(&self) -> SourceRecord {
        SourceRecord::parse(&fs::read(self.dir().record()).unwrap()).unwrap()
    }

    /// Whether a copy is there; if it is, it must be whole, and nothing may lie about.
    fn holds_copy(&self) -> bool {
        if !self.dir().record().exists() {
            assert!(!self.dir().path().exists(), "nothing half");
            return false;
        }
        let StageOutcome::Staged { tree_sha256, .. } = self.record().outcome else { panic!() };
        assert_eq!(tree_digest(&inspect(&self.dir().tree()).unwrap()), tree_sha256);
        true
    }
}

/// Takes the lock of stage runs as another run would hold it.
fn held_lock(site: &Site) -> File {
    let path = Root::new(site.node.root()).stage_lock();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let lock = File::create(path).unwrap();
    lock.lock().unwrap();
    lock
}

async fn logged(process: &Agent, message: &str) {
    process.says(message).await;
}

fn reason_is(reason: &'static str) -> impl Fn(&Value) -> bool {
    move |status| status["versions"][0]["fault"]["reason"] == reason
}

#[tokio::test]
async fn what_is_staged_first_is_installed_by_the_agent() {
    let site = Site::new();
    site.staged();
    assert!(site.holds_copy());
    assert_eq!(site.node.list(""), ["staged"], "nothing outside `staged` is touched");
    let status = site.node.start().ready().await;
    let StageOutcome::Staged { tree_sha256, .. } = site.record().outcome else { panic!() };
    assert_eq!(status["versions"][0]["treeSha256"], tree_sha256);
    assert_eq!(status["versions"][0]["ownTemplate"], "none");
    assert_eq!(fs::read(site.node.installed().join("tree/node16/bin/node")).unwrap(), tree::STAND_IN);
    assert!(site.holds_copy(), "the copy stays for repair");
}

#[tokio::test]
async fn the_agent_waits_for_the_stage_says_so_once_and_notices_it() {
    let site = Site::new();
    let agent = site.node.start();
    let status = agent.status("waiting", reason_is("WaitingForStage")).await;
    assert_eq!(status["versions"][0]["state"], "pending");
    assert!(status["versions"][0]["fault"]["message"].as_str().unwrap().contains(IMAGE), "{status}");
    // Each of these takes a round of the agent.
    let config = fs::read_to_string(site.node.path("config.yaml")).unwrap();
    for _ in 0..2 {
        site.node.configure("nonsense");
        agent.status("a round", |status| status["configProblem"].is_string()).await;
        site.node.configure(&config);
        agent.status("a round", |status| status["configProblem"].is_null()).await;
    }
    assert!(reason_is("WaitingForStage")(&agent.status("still waiting", |_| true).await));
    let waiting = |line: &&Value| line["message"] == "waiting for a stage run on this node";
    assert_eq!(agent.log().iter().filter(waiting).count(), 1, "{:#?}", agent.log());
    site.staged();
    agent.ready().await;
}

#[tokio::test]
async fn another_image_is_refused_and_reported_until_the_right_one_comes() {
    let site = Site::new();
    let agent = site.node.start();
    let error = site.not_staged("example.com/runner:2.305.0");
    assert!(
        error.contains("StageImageMismatch") && error.contains("2.305.0") && error.contains(IMAGE),
        "{error}"
    );
    let status = agent.status("mismatch", reason_is("StageImageMismatch")).await;
    let message = status["versions"][0]["fault"]["message"].as_str().unwrap();
    assert!(message.contains("2.305.0") && message.contains(IMAGE), "{message}");
    assert_eq!(site.node.list("versions"), [""; 0]);
    site.staged();
    agent.ready().await;
    site.not_staged("example.com/runner:2.305.0");
    assert!(site.holds_copy(), "the stage of another image spoils no sound copy");
}

#[tokio::test]
async fn an_unnamed_entry_is_refused_and_reported_with_its_reason() {
    let site = Site::new();
    let agent = site.node.start();
    tree::write(&site.node.path("home/externals"), &["node20"]);
    let error = site.not_staged(IMAGE);
    assert!(
        error.contains("UnnamedEntry") && error.contains("node20") && error.contains("`omit`"),
        "{error}"
    );
    assert!(!site.dir().tree().exists());
    let status = agent.status("refused", reason_is("UnnamedEntry")).await;
    assert!(status["versions"][0]["fault"]["message"].as_str().unwrap().contains("node20"), "{status}");
    let before = fs::metadata(site.dir().record()).unwrap().ino();
    site.not_staged(IMAGE);
    assert_eq!(
        fs::metadata(site.dir().record()).unwrap().ino(),
        before,
        "an equal refusal is not written anew"
    );
    fs::remove_dir_all(site.node.path("home/externals/node20")).unwrap();
    site.staged();
    agent.ready().await;
}

#[test]
fn the_gate_is_that_of_a_directory() {
    let spoilers: [(Spoiler, FaultReason); 5] = [
        (|home| symlink("/etc/passwd", home.join("node16/bin/out")).unwrap(), FaultReason::LinkEscape),
        (|home| fs::remove_file(home.join("node16/bin/node")).unwrap(), FaultReason::MissingFile),
        (|home| fs::remove_dir_all(home).unwrap(), FaultReason::SourceUnavailable),
        (|home| tree::write_file(&home.join("node16/bin/npm"), b"x", 0o4755), FaultReason::SetuidFile),
        (
            |home| (0..1100).for_each(|n| fs::write(home.join(format!("file{n}")), b"").unwrap()),
            FaultReason::TooManyFiles,
        ),
    ];
    for (spoil, expected) in spoilers {
        let site = Site::new();
        spoil(&site.node.path("home/externals"));
        let error = site.not_staged(IMAGE);
        assert!(error.contains(&expected.to_string()), "{error}");
        let StageOutcome::Refused { reason, message } = site.record().outcome else { panic!("{expected}") };
        assert_eq!(reason, expected);
        assert!(!message.is_empty());
        assert!(!site.dir().tree().exists());
        assert_eq!(site.node.list("staged/building"), [""; 0], "{expected}");
    }
}

#[tokio::test]
async fn a_killed_run_leaves_nothing_half_and_the_next_one_converges() {
    let steps = [
        Step::StagingCreated,
        Step::TreeWritten,
        Step::TreeChecked,
        Step::ManifestWritten,
        Step::Synced,
        Step::Published,
        Step::NameSynced,
    ];
    let killed = Path::new(env!("CARGO_BIN_EXE_killed-agent"));
    for damaged_before in [false, true] {
        for step in steps {
            let site = Site::new();
            if damaged_before {
                site.staged();
                fs::write(site.dir().tree().join("node16/bin/node"), "damaged").unwrap();
            }
            let mut command = site.stage_of(killed, IMAGE);
            command.env("KILL_AT", format!("{step:?}"));
            let mut process = Agent::spawn(command);
            assert_eq!(process.ended().await.signal(), Some(9), "{step:?}: {:?}", process.log());
            if !damaged_before {
                assert_eq!(site.holds_copy(), step >= Step::Published, "{step:?}");
            }
            site.staged();
            assert!(site.holds_copy(), "{step:?}");
            assert_eq!(site.node.list("staged/building"), [""; 0], "{step:?}");
        }
    }
}

#[tokio::test]
async fn two_runs_at_once_wait_for_each_other() {
    let site = Site::new();
    let lock = held_lock(&site);
    let mut runs = [Agent::spawn(site.stage(IMAGE)), Agent::spawn(site.stage(IMAGE))];
    for run in &runs {
        logged(run, "waiting for another stage run on this node").await;
    }
    assert!(!site.holds_copy());
    drop(lock);
    for run in &mut runs {
        assert_eq!(run.ended().await.code(), Some(0), "{:#?}", run.log());
    }
    assert!(site.holds_copy());
    let count = |message: &str| {
        let lines = runs.iter().flat_map(|run| run.log()).filter(|line| line["message"] == message);
        lines.count()
    };
    until("one of them stages, the other finds it done", || async {
        let counts = (count("staged"), count("staged before and undamaged"));
        (counts == (1, 1)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_signal_ends_a_run_with_one_message() {
    let site = Site::new();
    let _lock = held_lock(&site);
    let mut run = Agent::spawn(site.stage(IMAGE));
    logged(&run, "waiting for another stage run on this node").await;
    run.terminate();
    assert_eq!(run.ended().await.code(), Some(1));
    until("the message", || async {
        let log = run.log();
        log.iter()
            .any(|line| line.as_str().is_some_and(|line| line.starts_with("error: ended by a signal")))
            .then_some(())
    })
    .await;
    assert!(!site.dir().path().exists());
}

#[test]
fn a_second_run_changes_nothing() {
    let site = Site::new();
    site.staged();
    let before = fs::metadata(site.dir().record()).unwrap();
    fs::remove_dir_all(site.node.path("home")).unwrap();
    assert!(site.staged().contains("staged before and undamaged"));
    let after = fs::metadata(site.dir().record()).unwrap();
    assert_eq!((after.ino(), after.modified().unwrap()), (before.ino(), before.modified().unwrap()));
}

#[tokio::test]
async fn a_template_of_the_images_own_is_found_and_reported() {
    let variable = "ACTIONS_RUNNER_CONTAINER_HOOK_TEMPLATE";
    let line = format!("LANG=C.UTF-8\n{variable}=/home/runner/template.yaml\n");
    for (environment, file, expected) in [
        ("/home/runner/template.yaml", "LANG=C.UTF-8\n", "present"),
        ("", line.as_str(), "present"),
        ("", "LANG=C.UTF-8\n", "none"),
    ] {
        let site = Site::new();
        fs::write(site.node.path("home/.env"), file).unwrap();
        assert!(site.stage(IMAGE).env(variable, environment).status().unwrap().success());
        let agent = site.node.start();
        assert_eq!(agent.ready().await["versions"][0]["ownTemplate"], expected);
        drop(agent);
        let adopted = site.node.start().ready().await;
        assert_eq!(adopted["versions"][0]["ownTemplate"], expected, "also after a restart");
    }
}

#[tokio::test]
async fn a_damaged_version_is_repaired_from_the_copy() {
    let site = Site::new();
    site.staged();
    site.node.start().ready().await;
    fs::remove_dir_all(site.node.path("home")).unwrap();
    let damaged = site.node.installed().join("tree/node16/bin/node");
    fs::write(&damaged, "damaged").unwrap();
    let agent = site.node.start();
    agent.ready().await;
    logged(&agent, "repaired").await;
    assert_eq!(fs::read(damaged).unwrap(), tree::STAND_IN);
    drop(agent);
    fs::remove_dir_all(site.node.root().join("staged")).unwrap();
    let agent = site.node.start();
    agent.ready().await;
    // A sound version needs no copy.
    logged(&agent, "found ready").await;
}

#[tokio::test]
async fn a_damaged_version_without_a_copy_is_repaired_once_there_is_one() {
    let site = Site::new();
    site.staged();
    site.node.start().ready().await;
    fs::write(site.node.installed().join("tree/node16/bin/node"), "damaged").unwrap();
    fs::remove_dir_all(site.dir().path()).unwrap();
    let agent = site.node.start();
    let status = agent.status("damaged", reason_is("CheckFailed")).await;
    assert!(
        status["versions"][0]["fault"]["message"].as_str().unwrap().contains("WaitingForStage"),
        "{status}"
    );
    site.staged();
    agent.ready().await;
}

#[tokio::test]
async fn a_damaged_copy_is_refused_and_staged_anew() {
    let spoilers: [Spoiler; 4] = [
        |tree| fs::write(tree.join("node16/bin/node"), "#!/bin/sh\necho v6.6.6\n").unwrap(),
        |tree| fs::remove_file(tree.join("node16/LICENSE")).unwrap(),
        |tree| fs::set_permissions(tree.join("node16/bin/node"), fs::Permissions::from_mode(0o644)).unwrap(),
        |tree| fs::write(tree.with_file_name("source.json"), "{").unwrap(),
    ];
    for spoil in spoilers {
        let site = Site::new();
        site.staged();
        spoil(&site.dir().tree());
        let agent = site.node.start();
        assert_eq!(agent.failed().await, "SourceUnavailable");
        assert_eq!(site.node.list("versions"), [""; 0]);
        site.staged();
        agent.ready().await;
        assert!(site.holds_copy());
    }
}

#[test]
fn what_the_configuration_does_not_say_is_not_guessed() {
    let site = Site::new();
    let mut command = site.stage(IMAGE);
    let output = command.args(["--revision", "nonsense"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("no revision \"nonsense\" (--revision); there is test"), "{text}");
    assert!(!site.node.root().exists(), "nothing was written");
}

#[test]
fn a_folder_that_others_may_write_is_no_place_for_a_copy() {
    let site = Site::new();
    let staged = site.node.root().join("staged");
    fs::create_dir_all(&staged).unwrap();
    fs::set_permissions(&staged, fs::Permissions::from_mode(0o777)).unwrap();
    let error = site.not_staged(IMAGE);
    assert!(error.contains("RootUnsafe") && error.contains("0777"), "{error}");
    assert!(!site.dir().path().exists());
}

#[tokio::test]
async fn the_program_brings_itself_along_and_idles() {
    let folder = tempfile::tempdir().unwrap();
    let copy = || {
        let mut command = Command::new(program("headstart-cachesync"));
        command.arg("copy-program").arg(folder.path()).status().unwrap()
    };
    assert!(copy().success() && copy().success(), "also over an earlier copy");
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["headstart-cachesync"]);
    let program = folder.path().join("headstart-cachesync");
    assert_eq!(fs::metadata(&program).unwrap().permissions().mode() & 0o7777, 0o755);
    let mut command = Command::new(program);
    command.args(["--log-format", "json", "idle"]);
    let mut idle = Agent::spawn(command);
    logged(&idle, "idle until a signal comes").await;
    idle.terminate();
    assert_eq!(idle.ended().await.code(), Some(0));
    let nowhere = Command::new(headstart_tests::programs::program("headstart-cachesync"))
        .args(["copy-program", "/nowhere"])
        .output()
        .unwrap();
    let text = String::from_utf8(nowhere.stderr).unwrap();
    assert_eq!((nowhere.status.code(), text.contains("/nowhere")), (Some(1), true), "{text}");
    assert_eq!(json!(text.lines().count()), json!(1), "{text}");
}
