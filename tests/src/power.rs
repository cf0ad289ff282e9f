//! A folder on a disk that loses what was not synced when its power is cut; needs root and FUSE.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use crate::bed::Minor;
use crate::bed::command::run;
use crate::bed::programs::Programs;
use crate::process::with_owner;
use crate::required::all_are_required;

/// The file system's program.
pub const PROGRAM: &str = "powercut";

/// What of the changes to a disk is lost.
#[derive(Clone, Copy, Debug)]
pub enum Loss {
    /// Everything that was not synced.
    Unsynced,
    /// Any part of what was not synced, drawn from this seed, which must not be 0.
    Part(u64),
    /// Nothing: only the program that made them is killed.
    Nothing,
}

/// A folder's disk while it has power.
pub struct Power {
    disk: Child,
    input: Option<ChildStdin>,
    has_failed: Arc<AtomicBool>,
    synced: mpsc::Receiver<()>,
    output: Option<JoinHandle<Option<u32>>>,
}

/// Why this machine cannot have such a disk, if so. Where all tests are required there is no such reason: then they fail.
pub fn unavailable() -> Option<String> {
    if all_are_required() {
        return None;
    }
    static REASON: OnceLock<Option<String>> = OnceLock::new();
    REASON.get_or_init(look_for_a_reason).clone()
}

fn look_for_a_reason() -> Option<String> {
    let why = |cause: String| Some(format!("a disk that loses what was not synced needs {cause}"));
    if !rustix::process::geteuid().is_root() {
        return why("root".to_owned());
    }
    if let Err(error) = File::options().read(true).write(true).open("/dev/fuse") {
        return why(format!("/dev/fuse: {error}"));
    }
    // Who may not do this may not mount either.
    run(&["unshare", "--mount", "true"]).err().and_then(|error| why(format!("mounts: {error:#}")))
}

impl Power {
    /// Puts the folder on such a disk, with what is in it. With `after`, the power fails by itself after that many
    /// changes.
    pub fn on(folder: &Path, loss: Loss, after: Option<u32>) -> Self {
        let mut command = with_owner(program());
        match loss {
            Loss::Unsynced => {}
            Loss::Part(seed) => drop(command.arg("-seed").arg(seed.to_string())),
            Loss::Nothing => drop(command.arg("-keep")),
        }
        if let Some(after) = after {
            command.arg("-after").arg(after.to_string());
        }
        let mut disk = command.arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(disk.stdout.take().unwrap());
        let mut first = String::new();
        output.read_line(&mut first).unwrap();
        assert_eq!(first, "mounted\n", "what the disk says first");
        let has_failed = Arc::new(AtomicBool::new(false));
        let (answers, synced) = mpsc::channel();
        let failed = has_failed.clone();
        let output = std::thread::spawn(move || follow(output, &failed, &answers));
        let input = disk.stdin.take();
        Self { disk, input, has_failed, synced, output: Some(output) }
    }

    /// Whether the power has failed by itself; until the cut, what is done since then is refused.
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Makes everything certain, as sync(2).
    pub fn sync(&mut self) {
        writeln!(self.input.as_mut().unwrap(), "sync").unwrap();
        self.synced.recv().unwrap();
    }

    /// Cuts the power: the folder holds what survived. Nobody may be using it any more. Gives the number of changes
    /// that there were.
    pub fn cut(mut self) -> u32 {
        drop(self.input.take());
        assert!(self.disk.wait().unwrap().success(), "what survived could not be saved");
        self.output.take().unwrap().join().unwrap().expect("the number of changes")
    }
}

/// Follows what the disk says to the end, where it tells the number of changes.
fn follow(output: BufReader<ChildStdout>, failed: &AtomicBool, synced: &mpsc::Sender<()>) -> Option<u32> {
    let mut changes = None;
    for line in output.lines().map_while(Result::ok) {
        match line.as_str() {
            "stopped" => failed.store(true, Ordering::Relaxed),
            "synced" => drop(synced.send(())),
            line => changes = line.strip_prefix("changes ").and_then(|number| number.parse().ok()),
        }
    }
    changes
}

impl Drop for Power {
    /// Also after a failed test the mount goes away.
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.disk.wait();
    }
}

fn program() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let programs = Programs::obtain(&[PROGRAM], Minor::Newest).unwrap();
        programs.path(PROGRAM).unwrap().to_owned()
    })
}
