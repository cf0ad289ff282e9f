//! Where an install stands, for the status, the log and whoever wants to stop it at a step.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use headstart_externals::fault::FaultReason;
use serde::Serialize;

use crate::fault::{Fault, Outcome};

/// The steps of an install, in order; a crash after any of them leaves nothing half published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// A folder in staging is there.
    StagingCreated,
    /// The archive is there and has its pinned digest.
    SourceFetched,
    /// All files are written.
    TreeWritten,
    /// All links are written.
    FarmWritten,
    /// Node.js runs from there.
    CanaryPassed,
    /// What is on disk is what was read, and complete; also after Node.js ran from it.
    TreeChecked,
    /// The manifest is written.
    ManifestWritten,
    /// Everything has reached the disk.
    Synced,
    /// A folder under the version's name stands in the way; the build waits beside it.
    MovedBeside,
    /// The version is visible under its name.
    Published,
    /// Its name has reached the disk.
    NameSynced,
}

impl Step {
    /// Every step.
    pub const ALL: [Self; 11] = [
        Self::StagingCreated,
        Self::SourceFetched,
        Self::TreeWritten,
        Self::FarmWritten,
        Self::CanaryPassed,
        Self::TreeChecked,
        Self::ManifestWritten,
        Self::Synced,
        Self::MovedBeside,
        Self::Published,
        Self::NameSynced,
    ];
}

/// Called at every step that is reached; what a test puts in here decides where an install is killed.
pub type OnStep = Arc<dyn Fn(Step) + Send + Sync>;

/// The progress of one install; cheap to update, readable from other threads.
#[derive(Clone)]
pub struct Progress(Arc<Inner>);

struct Inner {
    begun: Instant,
    step: Mutex<Option<Step>>,
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    files_done: AtomicU64,
    cancelled: AtomicBool,
    on_step: OnStep,
}

/// A moment of a [`Progress`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The last step that was reached; absent before the first.
    pub step: Option<Step>,
    /// Bytes read from the source so far.
    pub bytes_done: u64,
    /// Bytes that the source has, if it says so; else 0.
    pub bytes_total: u64,
    /// Files written so far.
    pub files_done: u64,
    /// Seconds since the install began.
    pub elapsed_seconds: f64,
}

impl Progress {
    /// Begins now.
    pub fn new(on_step: OnStep) -> Self {
        Self(Arc::new(Inner {
            begun: Instant::now(),
            step: Mutex::new(None),
            bytes_done: AtomicU64::new(0),
            bytes_total: AtomicU64::new(0),
            files_done: AtomicU64::new(0),
            cancelled: AtomicBool::new(false),
            on_step,
        }))
    }

    /// A step was reached.
    pub fn reached(&self, step: Step) {
        *self.0.step.lock().unwrap_or_else(PoisonError::into_inner) = Some(step);
        if step == Step::SourceFetched {
            // From here on bytes are counted as they are written, no longer as they are fetched.
            self.0.bytes_done.store(0, Ordering::Relaxed);
            self.0.bytes_total.store(0, Ordering::Relaxed);
        }
        tracing::debug!(?step, "reached");
        (self.0.on_step)(step);
    }

    /// Asks the install to stop at its next piece of work.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    /// A fault if the install was asked to stop.
    pub fn check(&self) -> Outcome<()> {
        match self.0.cancelled.load(Ordering::Relaxed) {
            true => Err(Fault::new(FaultReason::Cancelled, "the configuration changed")),
            false => Ok(()),
        }
    }

    /// The source is `bytes` long.
    pub fn expect_bytes(&self, bytes: u64) {
        self.0.bytes_total.store(bytes, Ordering::Relaxed);
    }

    /// So many more bytes were read.
    pub fn add_bytes(&self, bytes: u64) {
        self.0.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// One more file was written.
    pub fn add_file(&self) {
        self.0.files_done.fetch_add(1, Ordering::Relaxed);
    }

    /// Where it stands now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            step: *self.0.step.lock().unwrap_or_else(PoisonError::into_inner),
            bytes_done: self.0.bytes_done.load(Ordering::Relaxed),
            bytes_total: self.0.bytes_total.load(Ordering::Relaxed),
            files_done: self.0.files_done.load(Ordering::Relaxed),
            elapsed_seconds: self.0.begun.elapsed().as_secs_f64(),
        }
    }
}
