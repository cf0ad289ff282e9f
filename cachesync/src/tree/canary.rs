//! The exec canary: runs every Node.js of a build where pods would see it, since mount options can forbid it.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use headstart_externals::arch::Arch;
use headstart_externals::fault::FaultReason;
use serde::Serialize;

use crate::fault::{Fault, Outcome};

/// Longest run of `node --version`.
const DEADLINE: Duration = Duration::from_secs(20);

/// How often a running canary is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Exit code of dynamic loaders that lack a library: the program itself may be executed.
const LOADER_FAILED: i32 = 127;

/// What a canary said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Canary {
    /// It ran and printed this version.
    Ran(String),
    /// Execution is allowed, but its loader or libraries are not in the agent's own image.
    Allowed(String),
}

/// Runs `node --version`.
pub(crate) fn run(node: &Path, arch: Arch) -> Outcome<Canary> {
    if let Err(error) = fs::metadata(node) {
        let message = format!("{} is not visible to the canary: {error}", node.display());
        return Err(Fault::new(FaultReason::CheckFailed, message));
    }
    check_machine(node, arch)?;
    match spawn(node) {
        Ok(child) => finish(node, child),
        Err(error) => judge_start(node, &error),
    }
}

/// ELF programs say which machine they are for; an emulator on the node must not hide that.
fn check_machine(node: &Path, arch: Arch) -> Outcome<()> {
    let mut head = [0; 20];
    let read = File::open(node).and_then(|mut file| file.read_exact(&mut head));
    let is_elf = read.is_ok() && head.starts_with(b"\x7fELF");
    let machine = u16::from_le_bytes([head[18], head[19]]);
    if is_elf && machine != arch.elf_machine() {
        let message = format!("{} is for machine {machine}, not for {arch}", node.display());
        return Err(Fault::new(FaultReason::WrongArch, message));
    }
    Ok(())
}

fn spawn(node: &Path) -> io::Result<Child> {
    let spawn = || {
        let mut command = Command::new(node);
        command.arg("--version").env_clear().current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    };
    let begun = Instant::now();
    loop {
        match spawn() {
            // Another thread's fork may hold the file open for writing for a moment.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && begun.elapsed() < DEADLINE => {
                thread::sleep(POLL);
            }
            started => return started,
        }
    }
}

fn judge_start(node: &Path, error: &io::Error) -> Outcome<Canary> {
    let message = format!("{}: {error}", node.display());
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => {
            Err(Fault::new(FaultReason::NoExec, message))
        }
        Some(rustix::io::Errno::NOEXEC) => Err(Fault::new(FaultReason::WrongArch, message)),
        // The file is there, so what is missing is its loader.
        Some(rustix::io::Errno::NOENT) => Ok(Canary::Allowed("its loader is not in this image".to_owned())),
        _ => Err(Fault::new(FaultReason::CheckFailed, message)),
    }
}

fn finish(node: &Path, mut child: Child) -> Outcome<Canary> {
    let failed =
        |what: String| Fault::new(FaultReason::CheckFailed, format!("{} --version {what}", node.display()));
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() < DEADLINE => thread::sleep(POLL),
            Ok(None) => {
                // A killed child is reaped by the wait; its failure changes nothing about the verdict.
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("did not end within {DEADLINE:?}")));
            }
            Err(error) => return Err(failed(format!("cannot be waited for: {error}"))),
        }
    };
    let text = |pipe: Option<&mut dyn io::Read>| {
        let mut text = String::new();
        if let Some(pipe) = pipe {
            let _ = pipe.take(4096).read_to_string(&mut text);
        }
        text.trim().to_owned()
    };
    let said = text(child.stdout.as_mut().map(|pipe| pipe as _));
    if status.success() && !said.is_empty() {
        return Ok(Canary::Ran(said));
    }
    let complaint = text(child.stderr.as_mut().map(|pipe| pipe as _));
    if status.code() == Some(LOADER_FAILED) {
        return Ok(Canary::Allowed(complaint));
    }
    Err(failed(format!("ended with {status}: {complaint}")))
}
