//! The supervisor of one bed (`bed supervise`): makes the place, starts what runs in it, and cleans up behind it.
//!
//! It outlives its owner by as long as cleaning takes. It never reads its input: that pipe goes to the service runner,
//! which ends when the owner's end closes, in whatever way the owner ended.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use super::cgroup::{self, Group};
use super::leftovers;
use super::network::Network;
use super::place::{Claim, Place};
use super::protocol::{Reply, reply};
use crate::wait::blocking;

/// What a bed consists of.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// A whole node in a box of its own; else plain processes.
    pub node: bool,
    /// Stays until `bed down`.
    pub kept: bool,
}

/// Runs a bed from beginning to end.
pub fn supervise(shape: Shape) -> Result<()> {
    let owner = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let claim = Claim::take(owner, shape.kept)?;
    let result = live(&claim.place, shape);
    let cleared = leftovers::clear(&claim.place);
    claim.release();
    result.and(cleared)
}

/// Tells the owner why there is no bed.
pub fn report(error: &anyhow::Error) {
    reply(&Reply::Failed(format!("{error:#}")));
}

fn live(place: &Place, shape: Shape) -> Result<()> {
    // The keys of the cluster lie there.
    let mut private = DirBuilder::new();
    let made = private.mode(0o700).create(&place.folder).and_then(|()| fs::create_dir(place.path("log")));
    made.with_context(|| format!("{}", place.folder.display()))?;
    let mut runner = if shape.node {
        in_a_box(place)?
    } else {
        reply(&Reply::Placed { place: place.clone(), process: None });
        spawn(place, &["init"])?
    };
    runner.wait()?;
    Ok(())
}

/// Starts the box. Its first process waits for the network before it says that it is ready.
fn in_a_box(place: &Place) -> Result<Child> {
    Group::new(&place.name).create()?;
    let network = Network::new(place.index);
    network.prepare()?;
    let holder = spawn(place, &["box"])?;
    let process = first_child(holder.id()).context("the box does not start; see log/box.log")?;
    cgroup::leave(holder.id())?;
    reply(&Reply::Placed { place: place.clone(), process: Some(process) });
    network.hand_over(process)?;
    Ok(holder)
}

/// A helper of ours with the owner's pipes; what it complains about goes to a log.
fn spawn(place: &Place, words: &[&str]) -> Result<Child> {
    let log = File::options().create(true).append(true).open(place.path("log/box.log"))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(words).arg("--place").arg(serde_json::to_string(place)?);
    command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(log);
    command.spawn().context("the bed's own helper does not start")
}

/// The process that `unshare` forks as the first one of its namespaces.
fn first_child(parent: u32) -> Option<i32> {
    let file = format!("/proc/{parent}/task/{parent}/children");
    blocking(Duration::from_secs(10), || {
        fs::read_to_string(&file).ok()?.split_whitespace().next()?.parse().ok()
    })
}

/// `bed box`: becomes the holder of the box's namespaces, in the cgroup that is their root.
pub fn enter_box(place: &Place) -> Result<()> {
    die_with_parent()?;
    Group::new(&place.name).join()?;
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--propagation", "private"]);
    unshare.args(["--fork", "--kill-child"]).arg(std::env::current_exe()?);
    unshare.args(["init", "--boxed", "--place"]).arg(serde_json::to_string(place)?);
    Err(unshare.exec()).context("unshare (util-linux)")
}

/// The kernel kills this process when the one that started it dies.
pub fn die_with_parent() -> Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}
