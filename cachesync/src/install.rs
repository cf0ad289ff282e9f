//! One install: source into staging, checks, manifest, sync, one rename. A crash anywhere leaves the root as it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use headstart_externals::arch::Arch;
use headstart_externals::fault::FaultReason;
use headstart_externals::layout::{Root, VersionDir};
use headstart_externals::manifest::Manifest;
use headstart_externals::selection::NODE;

use crate::complete::{self, Files};
use crate::durable::{sync_folders, write_document};
use crate::fault::{Fault, Outcome};
use crate::job::Job;
use crate::progress::{Progress, Step};
use crate::source::{self, Fetcher, Intake};
use crate::store::{Staging, Store};
use crate::tree::canary::{self, Canary};
use crate::tree::farm;
use crate::tree::flush::Flusher;
use crate::tree::inspect::{check_folder, glance, inspect, inspect_paced};
use crate::tree::selinux;
use crate::tree::writer::TreeWriter;

/// What an install left on disk.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The manifest of the version.
    pub manifest: Manifest,
    /// By entry, what its Node.js said to the canary.
    pub canary: BTreeMap<String, Canary>,
    /// Whether it was built, and not taken over as it was.
    pub is_new: bool,
}

/// Where the canary sees the root: the root itself, or a second, read-only mount of it, as pods have it.
#[derive(Clone, Debug)]
pub struct CanaryRoot(pub PathBuf);

/// Installs one version. On a fault nothing is published and staging is empty again.
///
/// Where it was there before, it must become what it was: `job.digest` is that tree's.
pub fn install(
    store: &Store,
    job: Job<'_>,
    fetcher: &Fetcher,
    canary_root: &CanaryRoot,
    progress: &Progress,
) -> Outcome<Installed> {
    let staging = store.staging()?;
    progress.reached(Step::StagingCreated);
    let (written, flusher) = write_tree(store.root(), &staging, job, fetcher, progress)?;
    progress.reached(Step::TreeWritten);
    let dir = staging.dir();
    farm::write(&dir, &written)?;
    progress.reached(Step::FarmWritten);
    complete::check(&job.wanted.recipe.selection, job.arch, &written)?;
    // The canary runs what the source brought; whatever that does to the tree, the check after it will see.
    let canary = run_canary(store, &dir, &written, job.arch, canary_root)?;
    progress.reached(Step::CanaryPassed);
    let manifest = check(&dir, job, written)?;
    progress.reached(Step::TreeChecked);
    progress.check()?;
    write_document(&dir.manifest(), &manifest)?;
    progress.reached(Step::ManifestWritten);
    flusher.wait()?;
    sync_folders(dir.path())?;
    progress.reached(Step::Synced);
    store.publish(staging, &job.wanted.version, progress)?;
    Ok(Installed { manifest, canary, is_new: true })
}

/// Compares a version that is on disk with its manifest; `read` is called with the number of bytes after every piece of
/// content, and may end it.
pub fn verify(root: &Root, manifest: &Manifest, read: &mut dyn FnMut(u64) -> Outcome<()>) -> Outcome<()> {
    let dir = root.version(&manifest.version);
    check_folder(&dir)?;
    complete::compare(&manifest.files, &inspect_paced(&dir.tree(), read)?)?;
    farm::check(&dir, manifest)
}

/// Takes over a version that is on disk, if Node.js runs from it and it looks as its manifest says: all of it is read
/// if `whole`, else only names, sizes and modes are compared.
pub fn adopt(store: &Store, manifest: Manifest, canary_root: &CanaryRoot, whole: bool) -> Outcome<Installed> {
    let dir = store.root().version(&manifest.version);
    if whole {
        verify(store.root(), &manifest, &mut |_| Ok(()))?;
    } else {
        check_folder(&dir)?;
        complete::compare(&manifest.files, &glance(&dir.tree(), &manifest.files)?)?;
        farm::check(&dir, &manifest)?;
    }
    let canary = run_canary(store, &dir, &manifest.files, manifest.arch, canary_root)?;
    Ok(Installed { manifest, canary, is_new: false })
}

fn write_tree(
    root: &Root,
    staging: &Staging,
    job: Job<'_>,
    fetcher: &Fetcher,
    progress: &Progress,
) -> Outcome<(Files, Flusher)> {
    let intake = Intake::new(&job.wanted.recipe.selection, job.arch, job.limits);
    let mut writer = TreeWriter::create(&staging.dir().tree(), progress.clone())?;
    let fetched = source::fetch(job, root, staging, fetcher, progress)?;
    progress.reached(Step::SourceFetched);
    source::unpack(&fetched, intake, &mut writer)?;
    let (written, flusher) = writer.finish();
    source::check(&fetched, &written)?;
    Ok((written, flusher))
}

/// What is on disk must be what was read, and readable for pods.
fn check(dir: &VersionDir, job: Job<'_>, written: Files) -> Outcome<Manifest> {
    let found = inspect(&dir.tree())?;
    complete::compare(&written, &found)?;
    selinux::check(&dir.tree())?;
    let manifest = Manifest::new(job.wanted.version.clone(), job.arch, found);
    match job.digest {
        Some(digest) if digest != manifest.tree_sha256 => {
            let message = format!("the source of {} has another content than before", manifest.version);
            Err(Fault::new(FaultReason::SourceChanged, message))
        }
        _ => Ok(manifest),
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
