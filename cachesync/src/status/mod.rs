//! The ledger as it is shared: the agent's loop changes it, the endpoint shows it, and whoever sends reports is woken when
//! what it says to the cluster changes.

mod view;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use headstart_externals::arch::Arch;
use headstart_externals::manifest::Manifest;
use headstart_externals::report::NodeReport;
use tokio::sync::watch;

use crate::fault::Fault;
use crate::ledger::Ledger;
use crate::published::Published;
use crate::scrub::ScrubProgress;

pub use view::{NodeStatus, PublishedStatus, VersionStatus};

/// The agent's state, shared between the task that changes it and those that show it.
#[derive(Clone)]
pub struct StatusBoard {
    shared: Arc<Shared>,
    /// Wakes whoever sends reports, at once and only when the report is another one.
    reports: watch::Sender<NodeReport>,
    /// The report that was sent last.
    sent: watch::Sender<Option<NodeReport>>,
}

struct Shared {
    begun: Instant,
    root: String,
    published: Published,
    ledger: Mutex<Ledger>,
    scrub: Mutex<Option<ScrubProgress>>,
    free_bytes: Mutex<Option<u64>>,
}

impl StatusBoard {
    /// An agent that knows nothing yet.
    pub fn new(node: String, arch: Arch, root: String, published: Published) -> Self {
        let ledger = Ledger::new(node, arch);
        let reports = watch::Sender::new(ledger.report());
        let shared = Shared {
            begun: Instant::now(),
            root,
            published,
            ledger: Mutex::new(ledger),
            scrub: Mutex::default(),
            free_bytes: Mutex::default(),
        };
        Self { shared: Arc::new(shared), reports, sent: watch::Sender::new(None) }
    }

    /// How long the agent has been at work: the time of the ledger.
    pub fn now(&self) -> Duration {
        self.shared.begun.elapsed()
    }

    /// Looks at the ledger.
    pub fn look<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the ledger, at the time that is passed on.
    pub fn change<T>(&self, change: impl FnOnce(&mut Ledger, Duration) -> T) -> T {
        let now = self.now();
        let mut ledger = self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = change(&mut ledger, now);
        let new = ledger.report();
        self.reports.send_if_modified(|report| {
            *report != new && {
                *report = new;
                true
            }
        });
        outcome
    }

    /// What is wrong with the root folder, `None` when it is usable; whether that is news.
    pub fn set_root_fault(&self, fault: Option<Fault>) -> bool {
        self.change(|ledger, _| std::mem::replace(&mut ledger.fault, fault.clone()) != fault)
    }

    /// What is wrong with the configuration file; `None` when it was taken over. Whether that is news.
    pub fn set_config_problem(&self, problem: Option<String>) -> bool {
        self.change(|ledger, _| std::mem::replace(&mut ledger.config_problem, problem.clone()) != problem)
    }

    /// How far the running scrub has come.
    pub(crate) fn set_scrub(&self, progress: Option<ScrubProgress>) {
        *self.shared.scrub.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    /// Free bytes on the root's file system when that was last looked at.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        *self.shared.free_bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many bytes are free on the root's file system.
    pub(crate) fn set_free_bytes(&self, bytes: Option<u64>) {
        *self.shared.free_bytes.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
    }

    /// Everything, as of now.
    pub fn status(&self) -> NodeStatus {
        let scrub = self.shared.scrub.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let published = self.shared.published.state().zip(self.shared.published.age());
        let published = published.map(|(state, age)| PublishedStatus {
            generation: state.generation,
            age_seconds: age.as_secs_f64(),
        });
        let now = self.now();
        let status = self.look(|ledger| NodeStatus::of(ledger, now));
        let free_bytes = self.free_bytes();
        NodeStatus { root: self.shared.root.clone(), free_bytes, published, scrub, ..status }
    }

    /// The report for the cluster, as it changes.
    pub fn reports(&self) -> watch::Receiver<NodeReport> {
        self.reports.subscribe()
    }

    /// A report was sent.
    pub(crate) fn note_sent(&self, report: &NodeReport) {
        self.sent.send_replace(Some(report.clone()));
    }

    /// Waits until what there is to report was sent; at once where nobody sends reports.
    pub(crate) async fn reported(&self) {
        if self.reports.receiver_count() == 0 {
            return;
        }
        let current = self.reports.borrow().clone();
        // The sender lives as long as this board.
        let _ = self.sent.subscribe().wait_for(|sent| sent.as_ref() == Some(&current)).await;
    }

    /// The manifest of a version that is on disk.
    pub fn manifest(&self, name: &str) -> Option<Manifest> {
        self.look(|ledger| ledger.versions.iter().find(|entry| entry.name.as_str() == name)?.manifest.clone())
    }

    /// `Ok` when every wanted version is ready; else what is missing.
    pub fn readiness(&self) -> Result<(), String> {
        self.look(Ledger::readiness)
    }
}
