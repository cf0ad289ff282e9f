//! One piece of file work on a blocking thread; it may be killed at any point.

use std::sync::Arc;

use headstart_externals::arch::Arch;
use headstart_externals::config::Limits;
use headstart_externals::fault::FaultReason;
use headstart_externals::manifest::Manifest;
use headstart_externals::recipe::Wanted;
use headstart_externals::version::VersionName;

use crate::fault::{Fault, Outcome};
use crate::install::{CanaryRoot, Installed, adopt, install};
use crate::job::Job;
use crate::progress::Progress;
use crate::source::Fetcher;
use crate::store::{Found, Store};

/// What is to be done to a version that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Take it over after a quick look.
    Adopt,
    /// Read all of it, then take it over.
    Verify,
    /// Build it.
    Install,
    /// Build it as it was before.
    Repair,
}

/// What a failed task means for the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consequence {
    /// Nothing: it was called off.
    Stopped,
    /// What lies there is damaged.
    Damaged,
    /// A stage has to run first.
    Waits,
    /// It stays damaged.
    Unrepaired,
    /// It is not there.
    Failed,
}

impl Task {
    /// What it means that this failed with `fault`.
    pub(crate) const fn consequence(self, fault: &Fault) -> Consequence {
        match (self, fault.reason) {
            (_, FaultReason::Cancelled) => Consequence::Stopped,
            (Self::Adopt | Self::Verify, FaultReason::CheckFailed) => Consequence::Damaged,
            (Self::Repair, _) => Consequence::Unrepaired,
            (Self::Install, _) if fault.awaits_stage => Consequence::Waits,
            _ => Consequence::Failed,
        }
    }

    /// In the log while it is done.
    pub(crate) const fn doing(self) -> &'static str {
        match self {
            Self::Adopt | Self::Verify => "checking",
            Self::Install => "installing",
            Self::Repair => "repairing",
        }
    }

    /// In the log when it is done.
    pub(crate) const fn done(self) -> &'static str {
        match self {
            Self::Adopt | Self::Verify => "found ready",
            Self::Install => "installed",
            Self::Repair => "repaired",
        }
    }
}

/// Everything that a blocking thread needs for one version.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) store: Arc<Store>,
    pub(crate) wanted: Wanted,
    pub(crate) limits: Limits,
    pub(crate) arch: Arch,
    pub(crate) canary_root: CanaryRoot,
    pub(crate) fetcher: Fetcher,
    /// What it was when it last served pods.
    pub(crate) known: Option<Manifest>,
    pub(crate) progress: Progress,
}

impl Work {
    /// Does it; a reason of `CheckFailed` for a version that is there means that it is damaged.
    pub(crate) fn carry_out(&self, task: Task) -> Outcome<Installed> {
        match task {
            Task::Adopt => self.adopt(false),
            Task::Verify => self.adopt(true),
            Task::Install | Task::Repair => self.install(),
        }
    }

    fn adopt(&self, whole: bool) -> Outcome<Installed> {
        let manifest = self.manifest()?;
        self.store.end_exchange(&manifest.version)?;
        adopt(&self.store, manifest, &self.canary_root, whole)
    }

    fn manifest(&self) -> Outcome<Manifest> {
        let found = manifest(&self.store, &self.wanted.version)?;
        if found.arch == self.arch {
            return Ok(found);
        }
        let message = format!("{} was built for {}, this node is {}", found.version, found.arch, self.arch);
        Err(Fault::new(FaultReason::CheckFailed, message))
    }

    /// Where even the manifest is lost since before this process began, nobody knows what it was.
    fn install(&self) -> Outcome<Installed> {
        self.store.check_intact()?;
        let before =
            self.known.clone().or_else(|| self.manifest().ok()).filter(|before| before.arch == self.arch);
        let digest = before.as_ref().map(|manifest| manifest.tree_sha256.as_str());
        let job = Job { wanted: &self.wanted, limits: self.limits, arch: self.arch, digest };
        install(&self.store, job, &self.fetcher, &self.canary_root, &self.progress)
    }
}

/// The manifest of a version that is there; what has none is damaged.
pub(crate) fn manifest(store: &Store, name: &VersionName) -> Outcome<Manifest> {
    let damaged = |cause: String| Err(Fault::new(FaultReason::CheckFailed, format!("{name}: {cause}")));
    match store.find(name)? {
        Some(Found::Complete(manifest)) => Ok(*manifest),
        Some(Found::Foreign(cause)) => damaged(cause),
        None => damaged("it is gone".to_owned()),
    }
}

/// Runs file work on a blocking thread.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Outcome<T> + Send + 'static,
) -> Outcome<T> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|error| Err(Fault::new(FaultReason::Io, format!("the work was cut off: {error}"))))
}
