//! The scrub: every version on disk is read again from time to time, slowly and behind everybody else's reading, so
//! that damage is found before a job does.

mod pace;
pub mod schedule;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use headstart_externals::fault::FaultReason;
use headstart_externals::layout::Root;
use headstart_externals::manifest::Manifest;
use headstart_externals::version::VersionName;
use thread_priority::ThreadPriority;
use thread_priority::unix::{
    NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};
use tokio::sync::{Notify, oneshot};

use crate::fault::{Fault, Outcome};
use crate::install::verify;
use pace::Pace;

/// Reads one version after another, on a thread of its own.
#[derive(Default)]
pub struct Scrubber {
    running: Option<Running>,
    /// Told when a version was read.
    pub(crate) done: Arc<Notify>,
}

struct Running {
    name: VersionName,
    bytes: u64,
    read: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    outcome: oneshot::Receiver<Outcome<()>>,
}

/// What a finished scrub found.
pub(crate) struct Finding {
    pub(crate) name: VersionName,
    pub(crate) outcome: Outcome<()>,
}

/// How far a scrub has come.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScrubProgress {
    /// The version that is being read.
    pub version: VersionName,
    /// Bytes read so far.
    pub bytes_done: u64,
    /// Bytes that it has.
    pub bytes_total: u64,
}

impl Scrubber {
    /// Whether a version is being read.
    pub(crate) fn is_busy(&self) -> bool {
        self.running.is_some()
    }

    /// Begins to read a version, at most so many bytes per second. It gets no `Store`, whose lock would be held until the
    /// end, also where the agent has to open the root anew meanwhile.
    pub(crate) fn begin(&mut self, root: Root, manifest: Manifest, bytes_per_second: u64) {
        let (sender, outcome) = oneshot::channel();
        let (read, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let running = Running {
            name: manifest.version.clone(),
            bytes: manifest.bytes,
            read: read.clone(),
            ended: ended.clone(),
            outcome,
        };
        let done = self.done.clone();
        let work = move || {
            be_idle();
            let mut pace = Pace::new(bytes_per_second);
            let outcome = verify(&root, &manifest, &mut |bytes| {
                read.fetch_add(bytes, Ordering::Relaxed);
                pace.read(bytes);
                while let Some(pause) = pace.pause() {
                    if ended.load(Ordering::Relaxed) {
                        return Err(Fault::new(FaultReason::Cancelled, "the scrub was ended"));
                    }
                    thread::sleep(pause);
                }
                Ok(())
            });
            // Nobody listens where the scrub was ended.
            let _ = sender.send(outcome);
            done.notify_one();
        };
        match thread::Builder::new().name("scrub".to_owned()).spawn(work) {
            Ok(_) => self.running = Some(running),
            Err(error) => tracing::warn!(%error, "failed to begin a scrub; trying again"),
        }
    }

    /// What a scrub has found that is finished.
    pub(crate) fn finding(&mut self) -> Option<Finding> {
        let outcome = match self.running.as_mut()?.outcome.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => return None,
            Ok(outcome) => outcome,
            Err(oneshot::error::TryRecvError::Closed) => {
                Err(Fault::new(FaultReason::Io, "the scrub ended without a word"))
            }
        };
        self.running.take().map(|running| Finding { name: running.name, outcome })
    }

    /// Ends the scrub of a version that is about to change.
    pub(crate) fn end(&mut self, name: &VersionName) {
        if let Some(running) = self.running.take_if(|running| running.name == *name) {
            running.ended.store(true, Ordering::Relaxed);
        }
    }

    /// How far the running scrub has come.
    pub(crate) fn progress(&self) -> Option<ScrubProgress> {
        self.running.as_ref().map(|running| ScrubProgress {
            version: running.name.clone(),
            bytes_done: running.read.load(Ordering::Relaxed),
            bytes_total: running.bytes,
        })
    }
}

/// Lets everybody else go first. The kernel gives reads of a thread with this policy the idle I/O class.
fn be_idle() {
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy) {
        tracing::debug!(?error, "the scrub runs with the usual priority");
    }
}
