//! The farm: one absolute link per entry, to where workflow pods see the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use headstart_externals::fault::FaultReason;
use headstart_externals::layout::{VersionDir, farm_link};
use headstart_externals::manifest::{FileRecord, Manifest};
use headstart_externals::relpath::RelPath;

use crate::fault::{Fault, IoContext, Outcome};
use crate::tree::inspect::unreadable;
use crate::tree::writer::set_folder_mode;

/// Writes the farm for the entries of a tree.
pub(crate) fn write(dir: &VersionDir, files: &BTreeMap<RelPath, FileRecord>) -> Outcome<()> {
    let farm = dir.farm();
    fs::create_dir(&farm).doing("create", &farm)?;
    set_folder_mode(&farm)?;
    for entry in files.keys().map(RelPath::entry).collect::<BTreeSet<_>>() {
        let link = farm.join(entry);
        symlink(farm_link(entry), &link).doing("link", &link)?;
    }
    Ok(())
}

/// Whether the farm has exactly the links that the manifest's entries need.
pub(crate) fn check(dir: &VersionDir, manifest: &Manifest) -> Outcome<()> {
    let farm = dir.farm();
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(&farm).map_err(|error| unreadable(&farm, &error))? {
        names.insert(entry.map_err(|error| unreadable(&farm, &error))?.file_name());
    }
    let entries = manifest.entries();
    let is_link =
        |entry: &&str| fs::read_link(farm.join(*entry)).is_ok_and(|to| to == Path::new(&farm_link(entry)));
    let complete = names.len() == entries.len() && entries.iter().all(is_link);
    let damaged = || {
        Fault::new(FaultReason::CheckFailed, format!("{} lacks links or has foreign ones", farm.display()))
    };
    if complete { Ok(()) } else { Err(damaged()) }
}
