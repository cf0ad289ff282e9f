//! The exec canary: runs every Node.js of a build where pods would see it, since mount options can forbid it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use headstart_externals::arch::Arch;
use headstart_externals::fault::FaultReason;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Serialize;

use crate::fault::{Fault, Outcome};

/// Longest run of `node --version`.
const DEADLINE: Duration = Duration::from_secs(20);

/// How often a running canary is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Who runs the canary where that is possible: a program of the source may be hostile, and the agent's own user may write
/// every tree. Nobody's number in every distribution.
const STRANGER: u32 = 65534;

/// Bits of the capabilities that it takes (linux/capability.h).
const CAP_KILL: u32 = 5;
const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;

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
        return Err(Fault::new(FaultReason::CanaryNotVisible, message));
    }
    let is_elf = check_machine(node, arch)?;
    match spawn(node) {
        Ok(child) => finish(node, child, is_elf),
        Err(error) => judge_start(node, &error, is_elf),
    }
}

/// ELF programs say which machine they are for; an emulator on the node must not hide that. Whether it is one.
fn check_machine(node: &Path, arch: Arch) -> Outcome<bool> {
    let mut head = [0; 20];
    let read = File::open(node).and_then(|mut file| file.read_exact(&mut head));
    let is_elf = read.is_ok() && head.starts_with(b"\x7fELF");
    let machine = u16::from_le_bytes([head[18], head[19]]);
    if is_elf && machine != arch.elf_machine() {
        let message = format!("{} is for machine {machine}, not for {arch}", node.display());
        return Err(Fault::new(FaultReason::WrongArch, message));
    }
    Ok(is_elf)
}

fn spawn(node: &Path) -> io::Result<Child> {
    let spawn = || {
        let mut command = Command::new(node);
        command.arg("--version").env_clear().current_dir("/");
        if is_stranger_possible() && is_open_to_all(node) {
            command.uid(STRANGER).gid(STRANGER);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn()
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

/// Whether this process may start programs as another user, and end them.
fn is_stranger_possible() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    [CAP_KILL, CAP_SETGID, CAP_SETUID].iter().all(|bit| effective & (1 << bit) != 0)
}

/// Whether every folder on the way lets everybody through, as on a node.
fn is_open_to_all(node: &Path) -> bool {
    let folders = node.ancestors().skip(1);
    let open =
        |folder: &Path| fs::metadata(folder).is_ok_and(|metadata| metadata.permissions().mode() & 1 != 0);
    folders.into_iter().all(open)
}

fn judge_start(node: &Path, error: &io::Error, is_elf: bool) -> Outcome<Canary> {
    let message = format!("{}: {error}", node.display());
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => {
            Err(Fault::new(FaultReason::NoExec, message))
        }
        Some(rustix::io::Errno::NOEXEC) => Err(Fault::new(FaultReason::WrongArch, message)),
        // The file is there, so what is missing is its loader.
        Some(rustix::io::Errno::NOENT) if is_elf => {
            Ok(Canary::Allowed("its loader is not in this image".to_owned()))
        }
        _ => Err(Fault::new(FaultReason::CanaryFailed, message)),
    }
}

fn finish(node: &Path, mut child: Child, is_elf: bool) -> Outcome<Canary> {
    let failed =
        |what: String| Fault::new(FaultReason::CanaryFailed, format!("{} --version {what}", node.display()));
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() < DEADLINE => thread::sleep(POLL),
            Ok(None) => {
                end_group(&mut child);
                return Err(failed(format!("did not end within {DEADLINE:?}")));
            }
            Err(error) => return Err(failed(format!("cannot be waited for: {error}"))),
        }
    };
    let said = read_available(child.stdout.take());
    let complaint = read_available(child.stderr.take());
    end_group(&mut child);
    if status.success() && !said.is_empty() {
        return Ok(Canary::Ran(said));
    }
    if is_elf && status.code() == Some(LOADER_FAILED) {
        return Ok(Canary::Allowed(complaint));
    }
    Err(failed(format!("ended with {status}: {complaint}")))
}

/// What a program has written, without waiting for more: a child of its own may hold the pipe open.
fn read_available(pipe: Option<impl AsFd + Read>) -> String {
    let mut text = vec![0; 4096];
    let length = pipe.and_then(|mut pipe| {
        fcntl_setfl(&pipe, OFlags::NONBLOCK).ok()?;
        pipe.read(&mut text).ok()
    });
    String::from_utf8_lossy(&text[..length.unwrap_or(0)]).trim().to_owned()
}

/// Ends the program and whatever it has started; that nothing is left to end is no error.
fn end_group(child: &mut Child) {
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    let _ = child.wait();
}
