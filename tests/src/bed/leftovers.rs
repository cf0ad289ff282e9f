//! What a bed may leave behind, outside its box: looking for it, and removing it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::cgroup::Group;
use super::network::Network;
use super::place::Place;
use crate::wait::blocking;

/// Longest wait for the kernel to let go of processes and groups.
const PATIENCE: Duration = Duration::from_secs(20);

/// Everything of a bed that is there, one line each; nothing while there is nothing.
pub fn remains(place: &Place) -> Vec<String> {
    let mut found = host_side(place);
    let named = processes_that_name(&place.folder).into_iter();
    found.extend(named.map(|(process, line)| format!("process {process} {line}")));
    found.extend(place.folder.exists().then(|| format!("folder {}", place.folder.display())));
    let locked = place.lock_file().exists() && !place.is_succeeded();
    found.extend(locked.then(|| format!("lock {}", place.lock_file().display())));
    found
}

/// Removes what is left of a bed; its lock stays with the caller.
pub fn clear(place: &Place) -> Result<()> {
    let group = Group::new(&place.name);
    let network = Network::new(place.index);
    let gone = blocking(PATIENCE, || {
        for process in group.processes() {
            let _ = Pid::from_raw(process).map(|pid| kill_process(pid, Signal::KILL));
        }
        // A control plane alone has no group, but all its processes were started with files of the folder.
        for (process, _) in processes_that_name(&place.folder) {
            let _ = Pid::from_raw(process).map(|pid| kill_process(pid, Signal::KILL));
        }
        group.remove();
        network.remove();
        let is_clear = host_side(place).is_empty() && processes_that_name(&place.folder).is_empty();
        is_clear.then_some(())
    });
    if gone.is_none() {
        bail!("still there after {PATIENCE:?}: {}", host_side(place).join(", "));
    }
    if place.folder.exists() {
        fs::remove_dir_all(&place.folder)?;
    }
    Ok(())
}

/// What must be gone before the folder may be deleted; above all mounts, below which foreign files may lie.
fn host_side(place: &Place) -> Vec<String> {
    let group = Group::new(&place.name);
    let network = Network::new(place.index);
    let mut found: Vec<String> = group.processes().iter().map(|pid| format!("process {pid}")).collect();
    found.extend(group.folders().iter().map(|folder| format!("cgroup {}", folder.display())));
    let linked = network.exists() && !place.is_succeeded();
    found.extend(linked.then(|| format!("link {}", network.link())));
    found.extend(mounts_below(&place.folder).into_iter().map(|line| format!("mount {line}")));
    found
}

fn mounts_below(folder: &Path) -> Vec<String> {
    let below = format!("{}/", folder.display());
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = text.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| point.starts_with(&below)).map(str::to_owned).collect()
}

/// Processes of this machine whose command line names the folder.
fn processes_that_name(folder: &Path) -> Vec<(i32, String)> {
    // With what follows, so that it is not taken for another one whose name is longer.
    let folder = format!("{}/", folder.display());
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let lines = entries.filter_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let process = entry.file_name().to_str()?.parse().ok()?;
        let is_other = u32::try_from(process).ok() != Some(std::process::id());
        (is_other && line.contains(&folder)).then_some((process, line))
    });
    lines.collect()
}
