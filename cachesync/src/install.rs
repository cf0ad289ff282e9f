//! One install: source into staging, checks, manifest, sync, one rename. A crash anywhere leaves the root as it was.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use headstart_externals::arch::Arch;
use headstart_externals::fault::FaultReason;
use headstart_externals::layout::VersionDir;
use headstart_externals::manifest::{FileRecord, MODE_PLAIN, Manifest};
use headstart_externals::relpath::RelPath;
use headstart_externals::selection::{NODE, Selection};

use crate::fault::{Fault, IoContext, Outcome};
use crate::job::Job;
use crate::progress::{Progress, Step};
use crate::source::{self, Fetcher, Intake};
use crate::store::{Staging, Store, sync_folder};
use crate::tree::canary::{self, Canary};
use crate::tree::farm;
use crate::tree::inspect::{check_folder, inspect};
use crate::tree::selinux;
use crate::tree::writer::TreeWriter;

/// What an install left on disk.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The manifest of the version.
    pub manifest: Manifest,
    /// By entry, what its Node.js said to the canary.
    pub canary: BTreeMap<String, Canary>,
}

/// Where the canary sees the root: the root itself, or a second, read-only mount of it, as pods have it.
#[derive(Clone, Debug)]
pub struct CanaryRoot(pub PathBuf);

/// Installs one version. On a fault nothing is published and staging is empty again.
pub fn install(
    store: &Store,
    job: Job<'_>,
    fetcher: &Fetcher,
    canary_root: &CanaryRoot,
    progress: &Progress,
) -> Outcome<Installed> {
    let staging = store.staging()?;
    progress.reached(Step::StagingCreated);
    let written = write_tree(&staging, job, fetcher, progress)?;
    progress.reached(Step::TreeWritten);
    let dir = staging.dir();
    farm::write(&dir, &written)?;
    progress.reached(Step::FarmWritten);
    check_complete(&job.profile.selection, job.arch, &written)?;
    // The canary runs what the source brought; whatever that does to the tree, the check after it will see.
    let canary = run_canary(store, &dir, &written, job.arch, canary_root)?;
    progress.reached(Step::CanaryPassed);
    let manifest = check(&dir, job, written)?;
    progress.reached(Step::TreeChecked);
    progress.check()?;
    write_manifest(&dir, &manifest)?;
    progress.reached(Step::ManifestWritten);
    sync(&dir)?;
    progress.reached(Step::Synced);
    store.publish(staging, &job.revision.version, progress)?;
    Ok(Installed { manifest, canary })
}

/// Compares a version that is on disk already with its manifest, as thoroughly as a new one.
pub fn verify(store: &Store, manifest: &Manifest) -> Outcome<()> {
    let dir = store.root().version(&manifest.version);
    check_folder(&dir)?;
    let found = inspect(&dir.tree())?;
    if found != manifest.files {
        return Err(Fault::new(FaultReason::CheckFailed, difference(&manifest.files, &found)));
    }
    farm::check(&dir, manifest)
}

/// Takes over a version that was verified.
pub fn adopt(store: &Store, manifest: Manifest, canary_root: &CanaryRoot) -> Outcome<Installed> {
    let dir = store.root().version(&manifest.version);
    let canary = run_canary(store, &dir, &manifest.files, manifest.arch, canary_root)?;
    Ok(Installed { manifest, canary })
}

type Files = BTreeMap<RelPath, FileRecord>;

fn write_tree(staging: &Staging, job: Job<'_>, fetcher: &Fetcher, progress: &Progress) -> Outcome<Files> {
    let intake = Intake::new(&job.profile.selection, job.arch, job.limits);
    let mut writer = TreeWriter::create(&staging.dir().tree(), progress.clone())?;
    let fetched = source::fetch(job, staging, fetcher, progress)?;
    progress.reached(Step::SourceFetched);
    source::unpack(&fetched, intake, &mut writer)?;
    Ok(writer.finish())
}

/// What is on disk must be what was read, and readable for pods.
fn check(dir: &VersionDir, job: Job<'_>, written: Files) -> Outcome<Manifest> {
    let found = inspect(&dir.tree())?;
    if found != written {
        return Err(Fault::new(FaultReason::CheckFailed, difference(&written, &found)));
    }
    selinux::check(&dir.tree())?;
    Ok(Manifest::new(job.revision.version.clone(), job.arch, found))
}

fn check_complete(selection: &Selection, arch: Arch, files: &Files) -> Outcome<()> {
    let missing = |path: &str| Fault::new(FaultReason::MissingFile, format!("the source has no {path}"));
    for path in selection.required(arch) {
        let is_file = matches!(files.get(&path), Some(FileRecord::File { .. }));
        let present = is_file || files.keys().any(|file| file.below(&path).is_some());
        if !present {
            return Err(missing(path.as_str()));
        }
    }
    let entries = files.keys().map(RelPath::entry).filter(|entry| entry.starts_with("node"));
    for entry in entries.collect::<std::collections::BTreeSet<_>>() {
        let node = format!("{entry}/{NODE}");
        match files.get(node.as_str()) {
            Some(FileRecord::File { executable: true, .. }) => {}
            Some(_) => {
                let message = format!("{node} of the source is not an executable file");
                return Err(Fault::new(FaultReason::MissingFile, message));
            }
            None => return Err(missing(&node)),
        }
    }
    if files.keys().any(|path| path.inside_entry() == Some(NODE)) {
        return Ok(());
    }
    let message =
        format!("the source has no entry with {NODE}; check the folder inside the archive (`path`)");
    Err(Fault::new(FaultReason::MissingFile, message))
}

/// The first path at which two trees differ, in words.
fn difference(expected: &Files, found: &Files) -> String {
    let differs = |path: &&RelPath| expected.get(*path) != found.get(*path);
    let path = expected.keys().chain(found.keys()).find(differs);
    match path {
        Some(path) if !found.contains_key(path) => format!("{path} is missing"),
        Some(path) if !expected.contains_key(path) => format!("{path} does not belong there"),
        Some(path) => format!("{path} has other content, mode or size than it should"),
        None => "the trees are equal".to_owned(),
    }
}

fn run_canary(
    store: &Store,
    dir: &VersionDir,
    files: &Files,
    arch: Arch,
    root: &CanaryRoot,
) -> Outcome<BTreeMap<String, Canary>> {
    let below = dir.path().strip_prefix(store.root().path()).unwrap_or_else(|_| Path::new(""));
    let tree = VersionDir::new(root.0.join(below)).tree();
    let nodes = files.keys().filter(|path| path.inside_entry() == Some(NODE));
    nodes.map(|node| Ok((node.entry().to_owned(), canary::run(&tree.join(node), arch)?))).collect()
}

fn write_manifest(dir: &VersionDir, manifest: &Manifest) -> Outcome<()> {
    let path = dir.manifest();
    let mut text = serde_json::to_vec_pretty(manifest)
        .map_err(|error| Fault::new(FaultReason::Io, format!("failed to write the manifest: {error}")))?;
    text.push(b'\n');
    let mut file = File::create_new(&path).doing("create", &path)?;
    file.set_permissions(Permissions::from_mode(MODE_PLAIN)).doing("set the mode of", &path)?;
    file.write_all(&text).and_then(|()| file.sync_all()).doing("write", &path)
}

/// Files were synced as they were written; now the folders that hold them.
fn sync(dir: &VersionDir) -> Outcome<()> {
    for entry in walkdir::WalkDir::new(dir.path()).contents_first(true) {
        let entry = entry.map_err(|error| Fault::new(FaultReason::Io, error.to_string()))?;
        if entry.file_type().is_dir() {
            sync_folder(entry.path())?;
        }
    }
    Ok(())
}
