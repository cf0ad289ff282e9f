//! Where trees come from: a source is fetched whole and verified first, and only then read.

mod archive;
mod args;
mod credentials;
mod directory;
mod download;
mod intake;
mod retry;
mod sink;
pub(crate) mod staged;
mod transfer;

use std::path::PathBuf;

use headstart_externals::config::{ArchiveFormat, Source};
use headstart_externals::fault::FaultReason;
use headstart_externals::layout::Root;
use headstart_externals::manifest::tree_digest;
use headstart_externals::relpath::RelPath;

use crate::complete::Files;
use crate::fault::{Fault, Outcome};
use crate::job::Job;
use crate::progress::Progress;
use crate::store::Staging;
use crate::tree::writer::TreeWriter;

pub use args::SourceArgs;
pub use download::Fetcher;
pub use intake::Intake;
pub use staged::{Look, StagedCopy, look};

/// A source that is on this disk and may be read.
pub enum Fetched<'a> {
    /// The folder that holds the entries.
    Directory(PathBuf),
    /// What a stage run took from a runner image.
    Staged(StagedCopy),
    /// An archive with the pinned digest.
    Archive {
        /// The file.
        file: PathBuf,
        /// How it is packed.
        format: ArchiveFormat,
        /// The folder inside that holds the entries.
        inside: Option<&'a RelPath>,
    },
}

/// Brings the source onto this disk.
pub fn fetch<'a>(
    job: Job<'a>,
    root: &Root,
    staging: &Staging,
    fetcher: &Fetcher,
    progress: &Progress,
) -> Outcome<Fetched<'a>> {
    match &job.wanted.recipe.source {
        Source::Directory { path } => Ok(Fetched::Directory(PathBuf::from(path))),
        Source::RunnerImage { image, .. } => {
            staged::find(root, &job.wanted.version, image).map(Fetched::Staged)
        }
        Source::Archive { path, downloads } => {
            let download = downloads.get(&job.arch).ok_or_else(|| {
                Fault::new(
                    FaultReason::NoSourceForArch,
                    format!("the archive has no download for {}", job.arch),
                )
            })?;
            let file = staging.download();
            fetcher.fetch(download, &file, job.limits.archive_bytes, progress)?;
            Ok(Fetched::Archive { file, format: download.format, inside: path.as_ref() })
        }
    }
}

/// Writes what the recipe keeps of the source into the tree.
pub fn unpack(fetched: &Fetched<'_>, intake: Intake<'_>, writer: &mut TreeWriter) -> Outcome<()> {
    match fetched {
        Fetched::Directory(path) => directory::read(path, intake, writer),
        Fetched::Staged(copy) => directory::read(&copy.tree, intake, writer),
        Fetched::Archive { file, format, inside } => archive::read(file, *format, *inside, intake, writer),
    }
}

/// Whether what was written is what a stage run says it left; archives were compared with their digest before.
pub(crate) fn check(fetched: &Fetched<'_>, written: &Files) -> Outcome<()> {
    match fetched {
        Fetched::Staged(copy) if tree_digest(written) != copy.tree_sha256 => {
            let message = format!(
                "the staged copy {} is damaged: it does not have the digest of its record; delete the stage pod on \
                 this node, so that the stage runs again",
                copy.tree.display()
            );
            Err(Fault::new(FaultReason::SourceUnavailable, message))
        }
        _ => Ok(()),
    }
}
