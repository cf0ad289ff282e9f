//! The `directory` source: a folder on the node, read without following links.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use headstart_externals::fault::FaultReason;
use headstart_externals::relpath::RelPath;
use walkdir::DirEntry;

use super::intake::{Intake, Item, is_executable, item_path};
use crate::fault::{Fault, Outcome};
use crate::tree::writer::TreeWriter;

/// Writes what `intake` admits of the folder.
pub(super) fn read(root: &Path, mut intake: Intake<'_>, writer: &mut TreeWriter) -> Outcome<()> {
    if !root.is_dir() {
        let message = format!("the source folder {} is not there", root.display());
        return Err(Fault::new(FaultReason::SourceUnavailable, message));
    }
    for entry in walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name() {
        let entry = entry.map_err(|error| unavailable(&error.to_string()))?;
        let below = entry.path().strip_prefix(root).unwrap_or(entry.path());
        if let Some(path) = item_path(below.as_os_str().as_bytes())? {
            read_entry(&entry, &path, &mut intake, writer)?;
        }
    }
    Ok(())
}

fn read_entry(
    entry: &DirEntry,
    path: &RelPath,
    intake: &mut Intake<'_>,
    writer: &mut TreeWriter,
) -> Outcome<()> {
    let metadata = entry.metadata().map_err(|error| unavailable(&error.to_string()))?;
    let mode = metadata.permissions().mode();
    if metadata.is_symlink() {
        let target = fs::read_link(entry.path()).map_err(|error| unavailable(&error.to_string()))?;
        intake.count(0)?;
        if intake.admits(path, &Item::Link(target.to_str()))? {
            writer.link(path, target.to_str().unwrap_or_default())?;
        }
    } else if metadata.is_file() {
        intake.count(metadata.len())?;
        if intake.admits(path, &Item::File { mode })? {
            let mut file = File::open(entry.path()).map_err(|error| {
                unavailable(&format!("failed to open {}: {error}", entry.path().display()))
            })?;
            writer.file(path, is_executable(mode), &mut file)?;
        }
    } else {
        intake.count(0)?;
        intake.admits(path, if metadata.is_dir() { &Item::Folder } else { &Item::Special })?;
    }
    Ok(())
}

fn unavailable(message: &str) -> Fault {
    Fault::new(FaultReason::SourceUnavailable, message)
}
