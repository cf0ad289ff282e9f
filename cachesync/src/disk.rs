//! What lies below the root, by version: looked at from outside, so that it is cheap even with much garbage.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use headstart_externals::layout::Root;
use headstart_externals::version::VersionName;

use crate::fault::{IoContext as _, Outcome};
use crate::ledger::OnDisk;
use crate::plan::Disk;
use crate::store::{is_absent, only_empty_folders};

/// Everything that belongs to a version, also to those that nobody wants; other names are none of ours.
pub(crate) fn list(root: &Root) -> Outcome<Vec<OnDisk>> {
    let mut found: BTreeMap<VersionName, OnDisk> = BTreeMap::new();
    let mut entry = |name: VersionName, disk: Option<Disk>| {
        let changed = fs::symlink_metadata(root.version(&name).path()).map_or(0, |metadata| metadata.mtime());
        let entry = found.entry(name.clone()).or_insert_with(|| OnDisk::nothing(name));
        entry.changed = changed;
        match disk {
            Some(disk) => entry.disk = disk,
            None => entry.leftovers = true,
        }
    };
    for name in names(&root.versions())? {
        if let Ok(version) = name.parse::<VersionName>() {
            let disk = look(root, &version);
            if disk != Disk::Absent {
                entry(version, Some(disk));
            }
        }
    }
    for version in names(&root.replaced())?.iter().filter_map(|name| replaced_version(name)) {
        entry(version, None);
    }
    for version in names(&root.staged())?.iter().filter_map(|name| name.parse().ok()) {
        entry(version, None);
    }
    Ok(found.into_values().collect())
}

/// Whether something is on its way out.
pub(crate) fn has_trash(root: &Root) -> bool {
    fs::read_dir(root.trash()).is_ok_and(|mut entries| entries.next().is_some())
}

/// The version that a folder in `replaced/` once was.
pub(crate) fn replaced_version(folder: &str) -> Option<VersionName> {
    let (version, number) = folder.rsplit_once('-')?;
    number.parse::<u32>().ok()?;
    version.parse().ok()
}

fn look(root: &Root, version: &VersionName) -> Disk {
    let dir = root.version(version);
    match fs::symlink_metadata(dir.manifest()) {
        Ok(metadata) if metadata.is_file() => Disk::Complete,
        // Container runtimes make empty folders where a mount's source is missing.
        _ if only_empty_folders(dir.path()) => Disk::Absent,
        _ => Disk::Foreign,
    }
}

/// The names in a folder; none if it is not there.
fn names(folder: &Path) -> Outcome<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        entries => entries.doing("list", folder)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.doing("list", folder)?.file_name().into_string());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_folders_name_their_version() {
        let version = replaced_version("node16-0123456789ab-12");
        assert_eq!(version.unwrap().as_str(), "node16-0123456789ab");
        for foreign in ["node16-0123456789ab", "x", "node16-1", "node16-0123456789ab-"] {
            assert_eq!(replaced_version(foreign), None, "{foreign}");
        }
    }
}
