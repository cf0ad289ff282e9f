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
use crate::parallel;
use crate::tree::writer::{NewFile, TreeWriter};

/// Writes what `intake` admits of the folder.
pub(super) fn read(root: &Path, intake: &Intake<'_>, writer: &mut TreeWriter) -> Outcome<()> {
    if !root.is_dir() {
        let message = format!("the source folder {} is not there", root.display());
        return Err(Fault::new(FaultReason::SourceUnavailable, message));
    }
    // Most of a whole externals folder is looked at and not kept, which takes as long as copying the rest.
    let entries = WalkDir::new(root).min_depth(1).max_depth(1).sort_by_file_name().into_iter();
    let entries: Vec<_> =
        entries.collect::<Result<_, _>>().map_err(|error| unavailable(&error.to_string()))?;
    let mut files = Vec::new();
    for taken in parallel::each(&entries, |entry| walk(root, entry, intake))?.into_iter().flatten() {
        match taken {
            Taken::File(file) => files.push(file),
            Taken::Link(path, target) => writer.link(&path, &target)?,
        }
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

/// What belongs into the tree.
enum Taken {
    File(NewFile<Found>),
    Link(RelPath, String),
}

/// What is taken of one entry of the folder at `root`.
fn walk(root: &Path, entry: &DirEntry, intake: &Intake<'_>) -> Outcome<Vec<Taken>> {
    let mut taken = Vec::new();
    for item in WalkDir::new(entry.path()).follow_root_links(false).sort_by_file_name() {
        let item = item.map_err(|error| unavailable(&error.to_string()))?;
        let below = item.path().strip_prefix(root).unwrap_or(item.path());
        if let Some(path) = item_path(below.as_os_str().as_bytes())? {
            taken.extend(judge(&item, path, intake)?);
        }
    }
    Ok(taken)
}

/// What is taken of one item.
fn judge(item: &DirEntry, path: RelPath, intake: &Intake<'_>) -> Outcome<Option<Taken>> {
    let metadata = item.metadata().map_err(|error| unavailable(&error.to_string()))?;
    let mode = metadata.permissions().mode();
    if metadata.is_symlink() {
        let target = fs::read_link(item.path()).map_err(|error| unavailable(&error.to_string()))?;
        intake.count(0)?;
        let is_kept = intake.admits(&path, &Item::Link(target.to_str()))?;
        return Ok(is_kept.then(|| Taken::Link(path, target.to_string_lossy().into_owned())));
    }
    if metadata.is_file() {
        intake.count(metadata.len())?;
        let is_kept = intake.admits(&path, &Item::File { mode })?;
        let from = Found { path: item.path().to_owned(), length: metadata.len() };
        return Ok(is_kept.then(|| Taken::File(NewFile { path, executable: is_executable(mode), from })));
    }
    intake.count(0)?;
    intake.admits(&path, if metadata.is_dir() { &Item::Folder } else { &Item::Special })?;
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
