//! Inside the box, as its first process: the view of files, cgroups and network that makes it a node of its own.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::cgroup;
use super::command::run;
use super::network::{INTERFACE, Network};
use super::place::Place;
use crate::wait::blocking;

/// The name of the node.
pub const NODE: &str = "node1";

/// Folders of a node that must lie on a real disk.
const ON_DISK: [&str; 3] = ["/var/lib/kubelet", "/var/lib/containerd", "/var/lib/headstart"];

/// Where the box has a view of its own; a bed's folder must not lie below.
const HIDDEN: [&str; 3] = ["/run", "/var/log", "/var/lib"];

/// Makes the view. Nothing is written to a folder of this machine except the bed's own.
pub fn furnish(place: &Place) -> Result<()> {
    if let Some(hidden) = HIDDEN.iter().find(|hidden| place.folder.starts_with(hidden)) {
        bail!(
            "{} lies below {hidden}, which a node hides; set TMPDIR to another folder",
            place.folder.display()
        );
    }
    // Nothing leaks out, but the kubelet finds shared mounts.
    run(&["mount", "--make-rprivate", "/"])?;
    run(&["mount", "--make-rshared", "/"])?;
    run(&["mount", "-t", "proc", "proc", "/proc"])?;
    rustix::system::sethostname(NODE.as_bytes())?;
    cgroup::mount_inside()?;
    // Absent from some kernels; only programs that load BPF miss it.
    let _ = run(&["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"]);
    run(&["mount", "-t", "tmpfs", "tmpfs", "/run", "-o", "mode=755"])?;
    run(&["mount", "-t", "tmpfs", "tmpfs", "/var/log", "-o", "mode=755"])?;
    over("/var/lib")?;
    for folder in ON_DISK {
        bind(place, folder)?;
    }
    wait_for_network()?;
    cgroup::delegate_inside()?;
    Network::new(place.index).configure_inside()
}

/// Lets the box add folders below `folder` that this machine does not see.
fn over(folder: &str) -> Result<()> {
    let (upper, work) = ("/run/bed/upper", "/run/bed/work");
    fs::create_dir_all(upper)?;
    fs::create_dir_all(work)?;
    let options = format!("lowerdir={folder},upperdir={upper},workdir={work}");
    run(&["mount", "-t", "overlay", "overlay", "-o", &options, folder]).map(|_| ())
}

/// A folder of the bed appears as a folder of the node, in a peer group of its own: else every mount that the kubelet
/// makes would appear in both.
fn bind(place: &Place, folder: &str) -> Result<()> {
    let source = place.path("disk").join(Path::new(folder).strip_prefix("/")?);
    fs::create_dir_all(&source)?;
    fs::create_dir_all(folder)?;
    run(&["mount", "--bind", &source.display().to_string(), folder])?;
    run(&["mount", "--make-private", folder])?;
    run(&["mount", "--make-shared", folder]).map(|_| ())
}

fn wait_for_network() -> Result<()> {
    let interface = Path::new("/sys/class/net").join(INTERFACE);
    blocking(Duration::from_secs(20), || interface.exists().then_some(())).context("the box got no network")
}
