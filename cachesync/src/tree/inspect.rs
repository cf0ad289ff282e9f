//! Looking at a tree as it lies on disk: every file read and hashed, everything that must not be there refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use headstart_externals::fault::FaultReason;
use headstart_externals::layout::VersionDir;
use headstart_externals::manifest::{FileRecord, MODE_EXECUTABLE, MODE_PLAIN};
use headstart_externals::relpath::RelPath;
use headstart_externals::version::hex;
use sha2::{Digest, Sha256};

use crate::fault::{Fault, IoContext, Outcome};
use crate::parallel;

/// Permission bits, setuid and the like included.
const MODE_BITS: u32 = 0o7777;

/// Everything in the tree at `root`, by path below it.
pub fn inspect(root: &Path) -> Outcome<BTreeMap<RelPath, FileRecord>> {
    let found = walk(root)?;
    let records = parallel::each(&found, |found| found.record(&mut |_| Ok(())))?;
    Ok(paths(found).zip(records).collect())
}

/// As [`inspect`], one file after another; `read` is called with the number of bytes after every piece of content, and
/// may end it.
pub(crate) fn inspect_paced(
    root: &Path,
    read: &mut dyn FnMut(u64) -> Outcome<()>,
) -> Outcome<BTreeMap<RelPath, FileRecord>> {
    let found = walk(root)?;
    let records = found.iter().map(|found| found.record(read)).collect::<Outcome<Vec<_>>>()?;
    Ok(paths(found).zip(records).collect())
}

/// As [`inspect`], but no file is read: what has the size that `expected` says is taken for what it should be.
pub(crate) fn glance(
    root: &Path,
    expected: &BTreeMap<RelPath, FileRecord>,
) -> Outcome<BTreeMap<RelPath, FileRecord>> {
    let found = walk(root)?;
    let presumed = |found: &Found| match (&found.kind, expected.get(&found.below)) {
        (Kind::File { size, executable }, Some(FileRecord::File { sha256, .. })) => {
            FileRecord::File { size: *size, executable: *executable, sha256: sha256.clone() }
        }
        (Kind::File { size, executable }, _) => {
            FileRecord::File { size: *size, executable: *executable, sha256: String::new() }
        }
        (Kind::Link { target }, _) => FileRecord::Link { target: target.clone() },
    };
    let records: Vec<FileRecord> = found.iter().map(presumed).collect();
    Ok(paths(found).zip(records).collect())
}

/// Something in a tree that is no folder, as it looks without being read.
struct Found {
    path: PathBuf,
    below: RelPath,
    kind: Kind,
}

enum Kind {
    File { size: u64, executable: bool },
    Link { target: String },
}

impl Found {
    fn record(&self, read: &mut dyn FnMut(u64) -> Outcome<()>) -> Outcome<FileRecord> {
        Ok(match &self.kind {
            Kind::Link { target } => FileRecord::Link { target: target.clone() },
            Kind::File { executable, .. } => {
                let (size, sha256) = hash(&self.path, read)?;
                FileRecord::File { size, executable: *executable, sha256 }
            }
        })
    }
}

fn paths(found: Vec<Found>) -> impl Iterator<Item = RelPath> {
    found.into_iter().map(|found| found.below)
}

/// Everything in the tree but its folders, which follow from it.
fn walk(root: &Path) -> Outcome<Vec<Found>> {
    let mut found = Vec::new();
    let mut folders = BTreeSet::new();
    for entry in walkdir::WalkDir::new(root).sort_by_file_name() {
        let entry = entry.map_err(|error| wrong(root, &error.to_string()))?;
        let path = entry.path();
        let metadata = fs::symlink_metadata(path).doing("look at", path)?;
        check_owner(path, &metadata)?;
        if metadata.is_dir() {
            check_mode(path, &metadata, &[MODE_EXECUTABLE])?;
        }
        if path == root {
            continue;
        }
        let below =
            path.strip_prefix(root).ok().and_then(Path::to_str).and_then(|path| RelPath::new(path).ok());
        let below = below.ok_or_else(|| wrong(path, "has a name that cannot be kept"))?;
        if metadata.is_dir() {
            folders.insert(below);
            continue;
        }
        let kind = kind(path, &below, &metadata)?;
        found.push(Found { path: path.to_owned(), below, kind });
    }
    let needed: BTreeSet<RelPath> =
        found.iter().flat_map(|found| found.below.ancestors().collect::<Vec<_>>()).collect();
    match folders.difference(&needed).next() {
        Some(empty) => Err(wrong(&root.join(empty), "is an empty folder and does not belong there")),
        None => Ok(found),
    }
}

/// Whether a version folder is a folder of our own that holds exactly what one must hold.
pub fn check_folder(dir: &VersionDir) -> Outcome<()> {
    for folder in [dir.path(), &dir.farm(), &dir.tree()] {
        let metadata = fs::symlink_metadata(folder).doing("look at", folder)?;
        if !metadata.is_dir() {
            return Err(wrong(folder, "is not a folder"));
        }
        check_owner(folder, &metadata)?;
        check_mode(folder, &metadata, &[MODE_EXECUTABLE])?;
    }
    let known = [dir.manifest(), dir.tree(), dir.farm()];
    for entry in fs::read_dir(dir.path()).doing("list", dir.path())? {
        let path = entry.doing("list", dir.path())?.path();
        if !known.contains(&path) {
            return Err(wrong(&path, "does not belong there"));
        }
    }
    Ok(())
}

fn kind(path: &Path, below: &RelPath, metadata: &Metadata) -> Outcome<Kind> {
    if metadata.is_symlink() {
        let target = fs::read_link(path).doing("read", path)?;
        let target = target.to_str().filter(|target| below.resolve_link(target).is_some());
        let target = target.ok_or_else(|| wrong(path, "is a link that leaves the tree"))?;
        return Ok(Kind::Link { target: target.to_owned() });
    }
    if !metadata.is_file() {
        return Err(wrong(path, "is neither a file, a folder nor a link"));
    }
    check_mode(path, metadata, &[MODE_EXECUTABLE, MODE_PLAIN])?;
    let executable = metadata.permissions().mode() & MODE_BITS == MODE_EXECUTABLE;
    Ok(Kind::File { size: metadata.len(), executable })
}

fn check_mode(path: &Path, metadata: &Metadata, allowed: &[u32]) -> Outcome<()> {
    let mode = metadata.permissions().mode() & MODE_BITS;
    if allowed.contains(&mode) { Ok(()) } else { Err(wrong(path, &format!("has mode {mode:04o}"))) }
}

fn check_owner(path: &Path, metadata: &Metadata) -> Outcome<()> {
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() == own {
        Ok(())
    } else {
        Err(wrong(path, &format!("belongs to user {}", metadata.uid())))
    }
}

/// Size and sha256 of a file's content.
fn hash(path: &Path, read: &mut dyn FnMut(u64) -> Outcome<()>) -> Outcome<(u64, String)> {
    let mut file = File::open(path).map_err(|error| wrong(path, &format!("cannot be opened: {error}")))?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 256 << 10];
    let mut size = 0;
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok((size, hex(&hasher.finalize()))),
            Ok(length) => {
                hasher.update(&chunk[..length]);
                size += length as u64;
                read(length as u64)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A sector that cannot be read is as bad for pods as one that holds something else.
            Err(error) => return Err(wrong(path, &format!("cannot be read: {error}"))),
        }
    }
}

fn wrong(path: &Path, what: &str) -> Fault {
    Fault::new(FaultReason::CheckFailed, format!("{} {what}", path.display()))
}
