//! What lies below the root, by version: looked at from outside, so that it is cheap even with much garbage.

use std::collections::{BTreeMap, BTreeSet};
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
///
/// A staged copy alone counts only where its version is not `configured`: it serves when that is wanted again.
pub(crate) fn list(root: &Root, configured: &BTreeSet<VersionName>) -> Outcome<Vec<OnDisk>> {
    let mut found: BTreeMap<VersionName, OnDisk> = BTreeMap::new();
    for version in names(&root.versions())?.iter().filter_map(|name| name.parse::<VersionName>().ok()) {
        let disk = look(root, &version);
        if disk != Disk::Absent {
            entry(&mut found, root, version).disk = disk;
        }
    }
    for version in names(&root.replaced())?.iter().filter_map(|name| replaced_version(name)) {
        entry(&mut found, root, version).replaced += 1;
    }
    for version in names(&root.staged())?.iter().filter_map(|name| name.parse::<VersionName>().ok()) {
        if !configured.contains(&version) {
            entry(&mut found, root, version).staged = true;
        }
    }
    Ok(found.into_values().collect())
}

fn entry<'f>(
    found: &'f mut BTreeMap<VersionName, OnDisk>,
    root: &Root,
    version: VersionName,
) -> &'f mut OnDisk {
    found.entry(version).or_insert_with_key(|version| {
        let metadata = fs::symlink_metadata(root.version(version).path());
        let changed = metadata.map_or(0, |metadata| metadata.mtime());
        OnDisk { changed, ..OnDisk::nothing(version.clone()) }
    })
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
