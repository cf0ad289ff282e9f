//! The cgroup that a bed's node lives in and that its box sees as the root: version 1, or version 2 (written from the
//! kernel's documentation, not tried).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::command::run;

const ROOT: &str = "/sys/fs/cgroup";

/// The hierarchies of version 1 that kubelet and runc use.
const HIERARCHIES: [&str; 9] =
    ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd"];

/// A cgroup by its name, in all hierarchies of this machine.
pub struct Group {
    name: String,
}

impl Group {
    /// The group of that name, whether it is there or not.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    /// Its folders that are there.
    pub fn folders(&self) -> Vec<PathBuf> {
        self.all().into_iter().filter(|folder| folder.exists()).collect()
    }

    /// Makes it.
    pub fn create(&self) -> Result<()> {
        for folder in self.all() {
            fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
        }
        if is_version_2() {
            // Most often done already; where it cannot be done, the kubelet says what is missing.
            let _ = hand_down(Path::new(ROOT));
            return Ok(());
        }
        let cpuset = Path::new(ROOT).join("cpuset");
        for file in ["cpuset.cpus", "cpuset.mems"] {
            fs::write(cpuset.join(&self.name).join(file), fs::read(cpuset.join(file))?)?;
        }
        Ok(fs::write(cpuset.join(&self.name).join("cgroup.clone_children"), "1")?)
    }

    /// Moves this process into it.
    pub fn join(&self) -> Result<()> {
        for folder in self.all() {
            fs::write(folder.join("cgroup.procs"), "0").with_context(|| format!("{}", folder.display()))?;
        }
        Ok(())
    }

    /// The processes in it and below it.
    pub fn processes(&self) -> BTreeSet<i32> {
        let folders = self.folders();
        let below = folders.iter().flat_map(|folder| walkdir::WalkDir::new(folder).into_iter().flatten());
        let files = below.filter(|entry| entry.file_name() == "cgroup.procs");
        let texts = files.filter_map(|entry| fs::read_to_string(entry.path()).ok());
        texts.flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>()).collect()
    }

    /// Removes it with everything below; works once no process is left in it.
    pub fn remove(&self) {
        for folder in self.folders() {
            let below = walkdir::WalkDir::new(folder).contents_first(true).into_iter().flatten();
            for entry in below.filter(|entry| entry.file_type().is_dir()) {
                let _ = fs::remove_dir(entry.path());
            }
        }
    }

    fn all(&self) -> Vec<PathBuf> {
        hierarchies().into_iter().map(|hierarchy| hierarchy.join(&self.name)).collect()
    }
}

/// Why this machine has no cgroups for a node, if so.
pub fn unavailable() -> Option<String> {
    let probe = Group::new(&format!("headstart-probe-{}", std::process::id()));
    let result = probe.create();
    probe.remove();
    result.err().map(|error| format!("cgroups cannot be made: {error:#}"))
}

/// Mounts, inside the box, the view in which the box's own group is the root.
pub fn mount_inside() -> Result<()> {
    // What is there now shows the whole machine; it goes out of sight below a new mount.
    let (version_2, hierarchies) = (is_version_2(), hierarchies());
    run(&["mount", "-t", "sysfs", "sysfs", "/sys", "-o", "rw,nosuid,nodev,noexec"])?;
    if version_2 {
        return run(&["mount", "-t", "cgroup2", "cgroup2", ROOT]).map(|_| ());
    }
    run(&["mount", "-t", "tmpfs", "tmpfs", ROOT, "-o", "mode=755"])?;
    for folder in hierarchies.iter().map(|path| path.display().to_string()) {
        let name = folder.trim_start_matches(ROOT).trim_start_matches('/');
        let option = if name == "systemd" { "none,name=systemd".to_owned() } else { name.to_owned() };
        fs::create_dir(&folder)?;
        run(&["mount", "-t", "cgroup", "-o", &option, "cgroup", &folder])?;
    }
    Ok(())
}

/// Version 2 only, inside the box: controllers are for groups whose parent holds no process.
pub fn delegate_inside() -> Result<()> {
    if !is_version_2() {
        return Ok(());
    }
    let own = Path::new(ROOT).join("init");
    fs::create_dir_all(&own)?;
    fs::write(own.join("cgroup.procs"), "0")?;
    hand_down(Path::new(ROOT))
}

/// Version 2 only: the groups below may use all controllers that this one has.
fn hand_down(group: &Path) -> Result<()> {
    let controllers = fs::read_to_string(group.join("cgroup.controllers"))?;
    let wanted: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
    Ok(fs::write(group.join("cgroup.subtree_control"), wanted.join(" "))?)
}

/// Version 2 only, outside: the process that holds the box must not sit in the group that becomes its root.
pub fn leave(process: u32) -> Result<()> {
    if is_version_2() {
        fs::write(Path::new(ROOT).join("cgroup.procs"), process.to_string())?;
    }
    Ok(())
}

fn is_version_2() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

fn hierarchies() -> Vec<PathBuf> {
    if is_version_2() {
        return vec![PathBuf::from(ROOT)];
    }
    let all = HIERARCHIES.iter().map(|name| Path::new(ROOT).join(name));
    all.filter(|folder| folder.exists()).collect()
}
