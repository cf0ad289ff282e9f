//! The processes on this machine that have a part of the cache mounted, as far as this process may see them.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context as _;

use crate::mount_info::{self, Mount};

/// The mounts that this process sees.
const OWN: &str = "/proc/self/mountinfo";

/// Processes with a mount of something below `root`, other than this one's own mounts of the root itself. It must be
/// spelled without links.
pub(super) fn users(root: &Path) -> anyhow::Result<Vec<String>> {
    let own = fs::read_to_string(OWN)
        .with_context(|| format!("failed to read {OWN}, which tells who uses the cache"))?;
    let place = Place::of(&own, root);
    let place = place.with_context(|| format!("{OWN} does not tell where {} lies", root.display()))?;
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let user = |number: u32| match fs::read_to_string(format!("/proc/{number}/mountinfo")) {
        Ok(mounts) => place.is_used_in(&mounts).then(|| format!("process {number}")),
        Err(error) if is_gone(&error) => None,
        Err(error) => Some(format!("process {number}, whose mounts cannot be read ({error})")),
    };
    Ok(numbers.filter_map(user).collect())
}

/// Whether the process has ended; what is left of one that nobody waits for has no mounts any more.
fn is_gone(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOENT | Errno::SRCH | Errno::INVAL))
}

/// Where a folder lies: the number of its file system, and its path there.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    device: String,
    path: String,
}

impl Place {
    /// Finds the folder among the mounts of a process: the deepest mount above it counts, and of several at one point the
    /// last.
    fn of(mounts: &str, folder: &Path) -> Option<Self> {
        let above = mount_info::read(mounts).into_iter().filter(|mount| folder.starts_with(&mount.point));
        let Mount { device, root, point } = above.max_by_key(|mount| mount.point.len())?;
        let below = folder.strip_prefix(point).ok()?.to_str()?;
        let path = [root.trim_end_matches('/'), below].join("/");
        Some(Self { device, path: path.trim_end_matches('/').to_owned() })
    }

    /// Whether something below the folder is mounted there.
    fn is_used_in(&self, mounts: &str) -> bool {
        let below = format!("{}/", self.path);
        mount_info::read(mounts).iter().any(|mount| {
            mount.device == self.device && mount.root.len() > below.len() && mount.root.starts_with(&below)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "21 1 254:0 / / rw - ext4 /dev/vda rw
30 21 254:1 / /var rw - ext4 /dev/vdb rw
36 30 254:1 /lib/headstart /cache rw - ext4 /dev/vdb rw
";

    #[test]
    fn a_folder_is_found_on_its_file_system() {
        let place = |folder: &str| Place::of(OWN, Path::new(folder)).unwrap();
        let cache = Place { device: "254:1".to_owned(), path: "/lib/headstart".to_owned() };
        assert_eq!(place("/var/lib/headstart"), cache);
        assert_eq!(place("/cache"), cache, "the same folder by another mount");
        assert_eq!(place("/srv").path, "/srv");
    }

    #[test]
    fn a_mount_of_a_part_is_a_use_and_one_of_the_whole_is_not() {
        let cache = Place::of(OWN, Path::new("/cache")).unwrap();
        assert!(!cache.is_used_in(OWN));
        let pod = "90 80 254:1 /lib/headstart/versions/v/tree /__e ro - ext4 /dev/vdb rw\n";
        assert!(cache.is_used_in(pod));
        let other = "90 80 254:0 /lib/headstart/versions/v/tree /__e ro - ext4 /dev/vda rw\n";
        assert!(!cache.is_used_in(other), "another file system");
        let disk = "36 30 254:2 / /cache rw - ext4 /dev/vdc rw\n";
        let own_disk = Place::of(disk, Path::new("/cache")).unwrap();
        assert!(!own_disk.is_used_in(disk), "a file system of its own");
        assert!(own_disk.is_used_in("9 8 254:2 /versions/v/tree /__e ro - ext4 /dev/vdc rw\n"));
        let beside = "90 80 254:1 /lib/headstart-other/x /x ro - ext4 /dev/vdb rw\n";
        assert!(!cache.is_used_in(beside));
    }
}
