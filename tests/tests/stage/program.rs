//! The stage itself: what it leaves behind, whatever happens to it.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use headstart_cachesync::progress::Step;
use headstart_externals::fault::FaultReason;
use headstart_externals::layout::Root;
use headstart_externals::staged::StageOutcome;
use headstart_tests::agent::Agent;
use headstart_tests::programs::program;
use headstart_tests::tree;
use headstart_tests::wait::until;
use serde_json::json;

use super::{IMAGE, Site, Spoiler, count, logged};

/// Takes the lock of stage runs as another run would hold it.
fn held_lock(site: &Site) -> File {
    let path = Root::new(site.node.root()).stage_lock();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let lock = File::create(path).unwrap();
    lock.lock().unwrap();
    lock
}

#[test]
fn a_refusal_names_no_path_that_is_another_one_each_time() {
    let site = Site::new();
    tree::write_file(&site.node.path("home/externals/node16/bin/node"), &[b'x'; 100_000], 0o755);
    let mut records = Vec::new();
    for _ in 0..2 {
        let stage = site.stage(IMAGE);
        let mut limited = Command::new("sh");
        // No file of more than two kilobytes can be written.
        limited.args(["-c", "trap '' XFSZ; ulimit -f 4; exec \"$0\" \"$@\""]).arg(stage.get_program());
        let output = limited.args(stage.get_args()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        records.push((site.record(), fs::metadata(site.dir().record()).unwrap().ino()));
    }
    assert_eq!(records[0], records[1], "nothing new to tell");
    let StageOutcome::Refused { reason, message } = &records[0].0.outcome else { panic!("{records:?}") };
    assert_eq!(*reason, FaultReason::Io);
    assert!(message.starts_with("failed to write tree/node16/bin/node: "), "{message}");
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
    let count = |message: &str| runs.iter().map(|run| count(run, message)).sum::<usize>();
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
