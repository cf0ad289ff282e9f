//! Whether the root is still the folder that the node has under its name. A bind mount pins the folder that was there
//! when it was made; where somebody replaces that folder, pods see the new one and this process the old one.

use std::path::{Path, PathBuf};

use crate::mount_info;

/// The mounts that this process sees.
const MOUNTS: &str = "/proc/self/mountinfo";

/// The mark of the kernel behind a folder that was removed.
const REMOVED: &str = "//deleted";

/// The root as it was at the start.
pub(crate) struct RootGuard {
    path: PathBuf,
    /// Which folder of its file system is mounted there; `None` where nothing is, so that nothing is pinned.
    pinned: Option<String>,
}

impl RootGuard {
    /// Takes a look at what is mounted at `path` now.
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), pinned: pinned(path) }
    }

    /// Why the root is not what it was; `None` while it is.
    pub(crate) fn problem(&self) -> Option<String> {
        let pinned = self.pinned.as_ref()?;
        let now = pinned_now(&self.path)?;
        let path = self.path.display();
        if now.ends_with(REMOVED) {
            Some(format!("the folder that is mounted at {path} was removed from the node"))
        } else if now != *pinned {
            Some(format!("the folder that is mounted at {path} was moved away on the node, to {now}"))
        } else {
            None
        }
    }
}

/// What is pinned at the start: a folder that was removed already is none.
fn pinned(path: &Path) -> Option<String> {
    pinned_now(path).map(|root| root.trim_end_matches(REMOVED).to_owned())
}

fn pinned_now(path: &Path) -> Option<String> {
    root_of(&std::fs::read_to_string(MOUNTS).ok()?, path)
}

/// The root field of what is mounted at exactly `path`; the last mount there counts.
fn root_of(mounts: &str, path: &Path) -> Option<String> {
    let mut at = mount_info::read(mounts).into_iter().filter(|mount| Path::new(&mount.point) == path);
    at.next_back().map(|mount| mount.root)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: &str = "21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
36 21 254:0 /var/lib/headstart /var/lib/headstart rw,relatime - ext4 /dev/vda rw
37 21 254:0 /var/lib/with\\040space//deleted /cache rw,relatime - ext4 /dev/vda rw
";

    #[test]
    fn the_root_field_of_the_mount_at_the_path_is_found() {
        let root = |path: &str| root_of(SEEN, Path::new(path));
        assert_eq!(root("/var/lib/headstart").as_deref(), Some("/var/lib/headstart"));
        assert_eq!(root("/cache").as_deref(), Some("/var/lib/with space//deleted"));
        assert_eq!(root("/var/lib"), None, "nothing is mounted there itself");
    }
}
