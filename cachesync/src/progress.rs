//! Where an install stands, for the status, the log and whoever wants to stop it at a step.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use headstart_externals::fault::FaultReason;
use serde::Serialize;

use crate::fault::{Fault, Outcome};
use crate::room::Room;

/// The steps of an install and of a removal, in order; a crash after any of them leaves nothing half published and
/// nothing half removed.
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
    /// A version that nobody needs has lost its name, or a part of what belongs to it has.
    Trashed,
    /// That has reached the disk.
    TrashSynced,
    /// What had lost its name is removed.
    Deleted,
}

impl Step {
    /// Every step of a removal.
    pub const REMOVAL: [Self; 3] = [Self::Trashed, Self::TrashSynced, Self::Deleted];

    /// Every step of an install.
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

/// The phases of an install, for metrics: coarser than its steps.
pub(crate) struct Phase;

impl Phase {
    /// Seconds by phase, from the seconds of each step.
    pub(crate) fn seconds(steps: &[(Step, f64)]) -> BTreeMap<&'static str, f64> {
        let mut seconds = BTreeMap::new();
        for (step, took) in steps {
            *seconds.entry(Self::of(*step)).or_default() += took;
        }
        seconds
    }

    /// The phase that ends with a step.
    const fn of(step: Step) -> &'static str {
        match step {
            Step::StagingCreated | Step::SourceFetched => "fetch",
            Step::TreeWritten | Step::FarmWritten => "write",
            Step::CanaryPassed => "canary",
            Step::TreeChecked => "check",
            Step::ManifestWritten | Step::Synced => "sync",
            Step::MovedBeside | Step::Published | Step::NameSynced => "publish",
            Step::Trashed | Step::TrashSynced | Step::Deleted => "remove",
        }
    }
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
    room: Option<Room>,
    reached: Mutex<Vec<(Step, Duration)>>,
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
        Self::begin(on_step, None)
    }

    /// Begins now; only so much may be written.
    pub fn within(room: Room, on_step: OnStep) -> Self {
        Self::begin(on_step, Some(room))
    }

    fn begin(on_step: OnStep, room: Option<Room>) -> Self {
        Self(Arc::new(Inner {
            begun: Instant::now(),
            step: Mutex::new(None),
            bytes_done: AtomicU64::new(0),
            bytes_total: AtomicU64::new(0),
            files_done: AtomicU64::new(0),
            cancelled: AtomicBool::new(false),
            room,
            reached: Mutex::default(),
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
        let at = self.0.begun.elapsed();
        self.0.reached.lock().unwrap_or_else(PoisonError::into_inner).push((step, at));
        tracing::debug!(?step, "reached");
        (self.0.on_step)(step);
    }

    /// Asks the install to stop at its next piece of work.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    /// A fault if the install was asked to stop, or if the disk has become too full.
    pub fn check(&self) -> Outcome<()> {
        if self.0.cancelled.load(Ordering::Relaxed) {
            return Err(Fault::new(FaultReason::Cancelled, "the configuration changed"));
        }
        self.0.room.as_ref().map_or(Ok(()), Room::look)
    }

    /// So many bytes of the tree are about to be written.
    pub fn write(&self, bytes: u64) -> Outcome<()> {
        self.check()?;
        self.0.room.as_ref().map_or(Ok(()), |room| room.take(bytes))?;
        self.add_bytes(bytes);
        Ok(())
    }

    /// How long each step took that was reached, in seconds.
    pub fn durations(&self) -> Vec<(Step, f64)> {
        let reached = self.0.reached.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = std::iter::once(Duration::ZERO).chain(reached.iter().map(|(_, at)| *at));
        reached.iter().zip(begins).map(|((step, at), begun)| (*step, (*at - begun).as_secs_f64())).collect()
    }

    /// The source is `bytes` long.
    pub fn expect_bytes(&self, bytes: u64) {
        self.0.bytes_total.store(bytes, Ordering::Relaxed);
    }

    /// So many more bytes were read.
    pub fn add_bytes(&self, bytes: u64) {
        self.0.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The source is read anew from its beginning.
    pub fn restart_bytes(&self) {
        self.0.bytes_done.store(0, Ordering::Relaxed);
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
