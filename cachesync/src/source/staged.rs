//! The `runnerImage` source as the agent sees it: what a stage run on this node has left, taken only if it says itself
//! that it is from the right image and for the right version.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use headstart_externals::config::Source;
use headstart_externals::fault::FaultReason;
use headstart_externals::layout::{Root, StagedDir};
use headstart_externals::recipe::Wanted;
use headstart_externals::staged::{SourceRecord, StageOutcome, TemplateFinding};
use headstart_externals::version::VersionName;

use crate::fault::{Fault, IoContext, Outcome};
use crate::store::is_absent;

/// A staged tree that may be installed from, if its digest turns out to be this one.
pub struct StagedCopy {
    /// The folder with the entries.
    pub(super) tree: PathBuf,
    /// The digest that its record states.
    pub(super) tree_sha256: String,
}

/// What lies there for one version, seen from outside: as long as it is equal, a stage run has changed nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Inode and time of the record.
    pub record: Option<(u64, i64, i64)>,
    /// Whether a hook template was found in the image.
    pub own_template: Option<TemplateFinding>,
}

/// Looks at what a stage run has left for this version.
pub fn look(root: &Root, wanted: &Wanted) -> Look {
    let Source::RunnerImage { image, .. } = &wanted.recipe.source else { return Look::default() };
    let dir = root.staged_source(&wanted.version);
    let record = fs::symlink_metadata(dir.record()).ok();
    let record = record.map(|metadata| (metadata.ino(), metadata.mtime(), metadata.mtime_nsec()));
    let read = record.and_then(|_| read(&dir).ok().flatten());
    let findings = read.as_ref().and_then(|read| read.staged_from(image, &wanted.version));
    Look { record, own_template: findings.map(|(_, findings)| findings.own_template) }
}

/// The staged copy for `version`, if one from `image` is there.
pub(super) fn find(root: &Root, version: &VersionName, image: &str) -> Outcome<StagedCopy> {
    let dir = root.staged_source(version);
    let Some(record) = read(&dir)? else {
        let message = format!("nothing is staged for {version} yet; its source is the runner image {image}");
        return Err(Fault::new(FaultReason::WaitingForStage, message));
    };
    match record.staged_from(image, version) {
        Some((digest, _)) => Ok(StagedCopy { tree: dir.tree(), tree_sha256: digest.to_owned() }),
        None => Err(refusal(&dir, record, version, image).until_staged()),
    }
}

/// The record in `dir`; `None` if there is none.
pub(crate) fn read(dir: &StagedDir) -> Outcome<Option<SourceRecord>> {
    let path = dir.record();
    match fs::read(&path) {
        Ok(text) => SourceRecord::parse(&text).map(Some).map_err(|cause| {
            Fault::new(FaultReason::SourceUnavailable, format!("{} cannot be used: {cause}", path.display()))
        }),
        Err(error) if is_absent(&error) => Ok(None),
        error => error.map(|_| None).doing("read", &path),
    }
}

/// Why a record gives no source.
fn refusal(dir: &StagedDir, record: SourceRecord, version: &VersionName, image: &str) -> Fault {
    let SourceRecord { image: found, version: named, outcome, .. } = record;
    match outcome {
        StageOutcome::Refused { reason, message } if named == *version && found == image => {
            Fault::new(reason, format!("the stage in {found} failed: {message}"))
        }
        _ if named != *version => {
            let message = format!("{} is the record of {named}, not of {version}", dir.record().display());
            Fault::new(FaultReason::SourceUnavailable, message)
        }
        _ => {
            let message = format!("the stage of {version} ran in {found}, the configuration says {image}");
            Fault::new(FaultReason::StageImageMismatch, message)
        }
    }
}
