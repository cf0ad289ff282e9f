//! The `directory` source: a folder on the node, read without following links.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use headstart_externals::fault::FaultReason;
use headstart_externals::relpath::RelPath;
use rustix::fs::OFlags;
use walkdir::{DirEntry, WalkDir};

use super::intake::{Intake, Item, is_executable, item_path};
use crate::fault::{Fault, Outcome};
use crate::tree::writer::{NewFile, TreeWriter};

/// Writes what `intake` admits of the folder.
pub(super) fn read(root: &Path, mut intake: Intake<'_>, writer: &mut TreeWriter) -> Outcome<()> {
    if !root.is_dir() {
        let message = format!("the source folder {} is not there", root.display());
        return Err(Fault::new(FaultReason::SourceUnavailable, message));
    }
    let mut files = Vec::new();
    let mut walk = WalkDir::new(root).min_depth(1).sort_by_file_name().into_iter();
    while let Some(entry) = walk.next() {
        let entry = entry.map_err(|error| unavailable(&error.to_string()))?;
        let below = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let Some(path) = item_path(below.as_os_str().as_bytes())? else { continue };
        // Most of a runner's externals are packages of npm, thousands of files that nobody needs.
        if entry.file_type().is_dir() && !intake.wants_of(&path) {
            walk.skip_current_dir();
        }
        files.extend(read_entry(&entry, path, &mut intake, writer)?);
    }
    // One byte more than it had, so that a file that grows meanwhile is noticed.
    writer.files(&files, |found| Ok(open(found)?.take(found.length + 1)))?;
    match files.iter().find(|file| writer.size_of(&file.path) != file.from.length) {
        Some(changed) => Err(changed_meanwhile(&changed.from.path)),
        None => Ok(()),
    }
}

/// A file as it was found.
struct Found {
    path: PathBuf,
    length: u64,
}

/// Takes one item over; the file that is to be written for it, if it is one.
fn read_entry(
    entry: &DirEntry,
    path: RelPath,
    intake: &mut Intake<'_>,
    writer: &mut TreeWriter,
) -> Outcome<Option<NewFile<Found>>> {
    let metadata = entry.metadata().map_err(|error| unavailable(&error.to_string()))?;
    let mode = metadata.permissions().mode();
    if metadata.is_symlink() {
        let target = fs::read_link(entry.path()).map_err(|error| unavailable(&error.to_string()))?;
        intake.count(0)?;
        if intake.admits(&path, &Item::Link(target.to_str()))? {
            writer.link(&path, target.to_str().unwrap_or_default())?;
        }
    } else if metadata.is_file() {
        intake.count(metadata.len())?;
        if intake.admits(&path, &Item::File { mode })? {
            let from = Found { path: entry.path().to_owned(), length: metadata.len() };
            return Ok(Some(NewFile { path, executable: is_executable(mode), from }));
        }
    } else {
        intake.count(0)?;
        intake.admits(&path, if metadata.is_dir() { &Item::Folder } else { &Item::Special })?;
    }
    Ok(None)
}

/// Opens a regular file and nothing else: what was looked at may have been replaced by a link or a pipe since.
fn open(found: &Found) -> Outcome<File> {
    let path = &found.path;
    let failed = |error: io::Error| unavailable(&format!("failed to open {}: {error}", path.display()));
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(unavailable(&format!("{} is no file any more", path.display())));
    }
    if metadata.len() != found.length {
        return Err(changed_meanwhile(path));
    }
    Ok(file)
}

fn changed_meanwhile(path: &Path) -> Fault {
    unavailable(&format!("{} changed while it was read", path.display()))
}

fn unavailable(message: &str) -> Fault {
    Fault::new(FaultReason::SourceUnavailable, message)
}
