//! `headstart demo` as a stranger runs it: it shows its parts, cleans up, and can be talked to while it serves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use headstart_tests::programs::program;
use headstart_tests::tree;
use headstart_tests::wait::until;

fn demo(folder: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(program("headstart"));
    command.args(["demo", "--log", "warn", "--dir"]).arg(folder).args(flags);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn it_shows_the_main_job_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let output = demo(folder.path(), &[]).output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{out}\n{err}");
    for words in [
        "6,715 files",
        "\"state\": \"ready\"",
        "runner pod, hooks that copy (chart mode kubernetes): rewritten (runner-legacy/lean)",
        "workflow pod of hooks 0.8.1: rewritten (workflow-current/mounted)",
        "workflow pod of hooks 0.7.0: unchanged (workflow-legacy/version-unknown)",
        "the same, with its runner's version label: rewritten (workflow-legacy/mounted)",
        "a pod that has nothing to do with it: unchanged (not-arc)",
        "stock / lean: 1679 times the files",
    ] {
        assert!(out.contains(words), "{words:?} is not in {out}");
    }
    assert!(!out.contains('\x1b'), "colours only on a terminal");
    assert!(err.contains("copied both, round 3 of 3"), "progress while it works: {err}");
    assert!(is_empty(folder.path()));
}

#[test]
fn another_externals_folder_may_have_other_entries() {
    let folder = tempfile::tempdir().unwrap();
    let externals = tempfile::tempdir().unwrap();
    tree::write(externals.path(), &["node20", "node20_alpine", "node24", "node24_alpine"]);
    let output = demo(folder.path(), &["--externals", externals.path().to_str().unwrap()]).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{out}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(out.contains("node24_alpine") && out.contains("12 files"), "{out}");
    assert!(externals.path().join("node20/bin/node").exists(), "the user's folder stays");
    assert!(is_empty(folder.path()));
}

#[test]
fn bad_input_gives_one_clear_message() {
    let empty = tempfile::tempdir().unwrap();
    for (flags, words) in [
        (["--externals", "/nowhere"], "/nowhere is not there"),
        (["--externals", empty.path().to_str().unwrap()], "has no entry with bin/node"),
        (["--dir", "/nowhere"], "/nowhere is not a folder"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(program("headstart"));
        let output = command.arg("demo").args(flags).env("TMPDIR", folder.path()).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.lines().last().unwrap().starts_with("error: ") && err.contains(words), "{err}");
        assert!(is_empty(folder.path()));
    }
}

#[test]
fn odd_places_variables_and_readers_that_leave_are_fine() {
    let folder = tempfile::tempdir().unwrap();
    let externals = folder.path().join("externals");
    tree::write(&externals, &tree::NODE16);
    std::fs::create_dir(folder.path().join("demo dir")).unwrap();
    let mut command = demo(std::path::Path::new("./demo dir/../demo dir//"), &["--externals", "externals"]);
    command
        .current_dir(folder.path())
        .env("HEADSTART_CANARY_ROOT", "/nowhere")
        .env("HEADSTART_DEADLINE_MS", "abc");
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(is_empty(&folder.path().join("demo dir")));
}

/// A demo that serves, with its output so far; killed when dropped.
struct Serving {
    child: Child,
    out: Arc<Mutex<Vec<String>>>,
}

impl Serving {
    async fn start(folder: &Path) -> Self {
        let externals = folder.join("externals");
        tree::write(&externals, &tree::NODE16);
        let demo_folder = folder.join("demo");
        std::fs::create_dir(&demo_folder).unwrap();
        let mut child =
            demo(&demo_folder, &["--serve", "--externals", externals.to_str().unwrap()]).spawn().unwrap();
        let out = Arc::new(Mutex::new(Vec::new()));
        let (lines, sink) = (BufReader::new(child.stdout.take().unwrap()).lines(), out.clone());
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| sink.lock().unwrap().push(line))
        });
        Self { child, out }
    }

    /// The command lines that were printed to try.
    async fn commands(&self) -> Vec<String> {
        until("the lines to try", || async {
            let out = self.out.lock().unwrap();
            let lines: Vec<String> = out.iter().filter(|line| line.starts_with("  curl ")).cloned().collect();
            (lines.len() == 2).then_some(lines)
        })
        .await
    }

    async fn interrupt(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let child = Mutex::new(&mut self.child);
        until("the demo ends", || async { child.lock().unwrap().try_wait().unwrap() }).await.code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn serving_answers_the_lines_that_it_prints_and_ends_cleanly() {
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        headstart_tests::bed::command::say("skipped: needs curl");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut serving = Serving::start(folder.path()).await;
    for (line, words) in serving.commands().await.into_iter().zip(["\"ready\":true", "\"allowed\":true"]) {
        let output = Command::new("sh").args(["-c", &line]).output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        assert!(out.contains(words), "{line}: {out} {}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(serving.interrupt().await, Some(0));
    assert!(is_empty(&folder.path().join("demo")));
}

#[tokio::test]
async fn an_interrupted_demo_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let child = demo(folder.path(), &[]).spawn().unwrap();
    let mut running = Serving { child, out: Arc::default() };
    until("the demo writes", || async { (!is_empty(folder.path())).then_some(()) }).await;
    assert_eq!(running.interrupt().await, Some(1));
    assert!(is_empty(folder.path()));
}
