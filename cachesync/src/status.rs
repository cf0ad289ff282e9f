//! The node cache's status: what `/v1/status` answers, and the report for the cluster that follows from it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use headstart_externals::arch::Arch;
use headstart_externals::fault::FaultReason;
use headstart_externals::manifest::Manifest;
use headstart_externals::names::API_VERSION;
use headstart_externals::report::{NodeReport, VersionReport, VersionState};
use headstart_externals::staged::TemplateFinding;
use headstart_externals::version::VersionName;
use serde::Serialize;
use tokio::sync::watch;

use crate::fault::Fault;
use crate::install::Installed;
use crate::progress::{Progress, Snapshot};
use crate::source::Look;
use crate::tree::canary::Canary;

/// Hex digits of a tree's digest in a report: enough to compare nodes.
const REPORTED_DIGITS: usize = 16;

/// The answer of `/v1/status`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// [`API_VERSION`].
    pub api_version: &'static str,
    /// `NodeStatus`.
    pub kind: &'static str,
    /// Name of the node.
    pub node: String,
    /// Its architecture.
    pub arch: Arch,
    /// Version of the agent.
    pub agent: &'static str,
    /// The root folder.
    pub root: String,
    /// Free bytes on the root's file system; absent where that cannot be told.
    pub free_bytes: Option<u64>,
    /// Whether every wanted version is ready.
    pub ready: bool,
    /// What is wrong with the root folder itself.
    pub fault: Option<Fault>,
    /// What is wrong with the newest configuration file; the last good one is in force.
    pub config_problem: Option<String>,
    /// All versions that are wanted or on disk, wanted ones first.
    pub versions: Vec<VersionStatus>,
}

/// One version in the status.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionStatus {
    /// Its name.
    pub name: VersionName,
    /// Whether the configuration asks for it.
    pub wanted: bool,
    /// What it is doing.
    pub state: VersionState,
    /// Regular files and links in the tree; 0 while there is none.
    pub files: usize,
    /// Bytes in the tree; 0 while there is none.
    pub bytes: u64,
    /// Digest of the tree.
    pub tree_sha256: Option<String>,
    /// By entry, what its Node.js said when it was run.
    pub nodes: BTreeMap<String, Canary>,
    /// Seconds that the install or the check at start took.
    pub seconds: Option<f64>,
    /// Failed attempts in a row.
    pub failures: u32,
    /// Why the last attempt failed.
    pub fault: Option<Fault>,
    /// Seconds until it is tried again.
    pub retry_in_seconds: Option<f64>,
    /// The attempt that is under way.
    pub progress: Option<Snapshot>,
    /// Whether the stage found a hook template of the image's own; absent where no stage looked.
    pub own_template: Option<TemplateFinding>,
}

/// The agent's state, shared between the task that changes it and the endpoint that shows it.
#[derive(Clone)]
pub struct StatusBoard {
    board: Arc<Mutex<Board>>,
    /// Wakes whoever sends reports, at once and only when the report is another one.
    reports: watch::Sender<NodeReport>,
}

struct Board {
    node: String,
    arch: Arch,
    root: String,
    fault: Option<Fault>,
    config_problem: Option<String>,
    configured: bool,
    versions: Vec<Tracked>,
}

/// What the agent knows of one version.
struct Tracked {
    name: VersionName,
    wanted: bool,
    state: VersionState,
    manifest: Option<Manifest>,
    nodes: BTreeMap<String, Canary>,
    seconds: Option<f64>,
    failures: u32,
    fault: Option<Fault>,
    retry_at: Option<Instant>,
    progress: Option<Progress>,
    /// What a stage run has left for it.
    staged: Look,
    /// Nothing is to be done before a stage run changes that.
    waiting: bool,
}

impl StatusBoard {
    /// An agent that knows nothing yet.
    pub fn new(node: String, arch: Arch, root: String) -> Self {
        let board = Board {
            node,
            arch,
            root,
            fault: None,
            config_problem: None,
            configured: false,
            versions: Vec::new(),
        };
        let reports = watch::Sender::new(board.report());
        Self { board: Arc::new(Mutex::new(board)), reports }
    }

    /// Everything, as of now.
    pub fn status(&self) -> NodeStatus {
        let mut status = self.with(|board| board.status(Instant::now()));
        status.free_bytes = crate::store::free_bytes(status.root.as_ref());
        status
    }

    /// The report for the cluster, as it changes.
    pub fn reports(&self) -> watch::Receiver<NodeReport> {
        self.reports.subscribe()
    }

    /// The manifest of a version that is ready.
    pub fn manifest(&self, name: &str) -> Option<Manifest> {
        self.with(|board| board.versions.iter().find(|v| v.name.as_str() == name)?.manifest.clone())
    }

    /// `Ok` when every wanted version is ready; else what is missing.
    pub fn readiness(&self) -> Result<(), String> {
        self.with(|board| board.readiness())
    }

    /// What is wrong with the root folder, `None` when it is usable; whether that is news.
    pub fn set_root_fault(&self, fault: Option<Fault>) -> bool {
        self.change(|board| {
            let news = board.fault != fault;
            board.fault = fault;
            news
        })
    }

    /// Ready versions that are not `there` any more have to be made again.
    pub fn forget_lost(&self, there: impl Fn(&VersionName) -> bool) {
        self.change(|board| {
            let lost = |version: &&mut Tracked| version.state == VersionState::Ready && !there(&version.name);
            for version in board.versions.iter_mut().filter(lost) {
                tracing::warn!(version = %version.name, "a version that was ready is gone");
                *version = Tracked { wanted: version.wanted, ..Tracked::new(version.name.clone()) };
            }
        });
    }

    /// What is wrong with the configuration file; `None` when it was taken over.
    pub fn set_config_problem(&self, problem: Option<String>) {
        self.with(|board| board.config_problem = problem);
    }

    /// The versions that are wanted now, and those that are on disk besides; failed ones are due again at once.
    pub fn set_versions(&self, wanted: &[VersionName], on_disk: Vec<VersionName>) {
        self.change(|board| {
            let known = std::mem::take(&mut board.versions);
            let mut known: BTreeMap<VersionName, Tracked> =
                known.into_iter().map(|version| (version.name.clone(), version)).collect();
            let others = on_disk.into_iter().filter(|name| !wanted.contains(name));
            let names =
                wanted.iter().map(|name| (name.clone(), true)).chain(others.map(|name| (name, false)));
            board.versions = names
                .map(|(name, wanted)| {
                    let version = known.remove(&name).unwrap_or_else(|| Tracked::new(name));
                    // What failed may have been mended by the new configuration.
                    Tracked { wanted, failures: 0, retry_at: None, waiting: false, ..version }
                })
                .collect();
            board.configured = true;
        });
    }

    /// An attempt begins.
    pub fn begin(&self, name: &VersionName, progress: Progress) {
        self.update(name, |version| {
            version.state = VersionState::Installing;
            version.progress = Some(progress);
            version.retry_at = None;
            version.waiting = false;
        });
    }

    /// An attempt succeeded.
    pub fn succeed(&self, name: &VersionName, installed: Installed, seconds: f64) {
        self.update(name, |version| {
            *version = Tracked {
                wanted: version.wanted,
                state: VersionState::Ready,
                manifest: Some(installed.manifest),
                nodes: installed.canary,
                seconds: Some(seconds),
                staged: version.staged,
                ..Tracked::new(name.clone())
            };
        });
    }

    /// An attempt failed for the `failures`-th time in a row.
    pub fn fail(&self, name: &VersionName, fault: Fault, failures: u32, retry_at: Instant) {
        self.update(name, |version| {
            *version = Tracked {
                wanted: version.wanted,
                state: VersionState::Failed,
                fault: Some(fault),
                failures,
                retry_at: Some(retry_at),
                staged: version.staged,
                ..Tracked::new(name.clone())
            };
        });
    }

    /// An attempt found that the stage has to run first.
    pub fn wait(&self, name: &VersionName, fault: Fault) {
        let state = match fault.reason {
            FaultReason::WaitingForStage => VersionState::Pending,
            _ => VersionState::Failed,
        };
        self.update(name, |version| {
            *version = Tracked {
                wanted: version.wanted,
                state,
                fault: Some(fault),
                waiting: true,
                staged: version.staged,
                ..Tracked::new(name.clone())
            };
        });
    }

    /// What a stage run has left for a version; if that is news and the version is not ready, it is due at once.
    pub fn staged(&self, name: &VersionName, look: Look) {
        self.update(name, |version| {
            if version.staged.record != look.record {
                version.waiting = false;
                version.retry_at = None;
            }
            version.staged = look;
        });
    }

    /// The wanted versions that are due at `now`, with the number of failures so far, and when the next one is.
    pub fn due(&self, now: Instant) -> (Vec<(VersionName, u32)>, Option<Instant>) {
        self.with(|board| {
            let open = |version: &&Tracked| {
                version.wanted && version.state != VersionState::Ready && !version.waiting
            };
            let open = board.versions.iter().filter(open);
            let (due, later): (Vec<&Tracked>, Vec<&Tracked>) =
                open.partition(|version| version.retry_at.is_none_or(|at| at <= now));
            let due = due.into_iter().map(|version| (version.name.clone(), version.failures)).collect();
            (due, later.into_iter().filter_map(|version| version.retry_at).min())
        })
    }

    fn update(&self, name: &VersionName, change: impl FnOnce(&mut Tracked)) {
        self.change(|board| {
            if let Some(version) = board.versions.iter_mut().find(|version| version.name == *name) {
                change(version);
            }
        });
    }

    /// Changes something that the report may tell.
    fn change<T>(&self, change: impl FnOnce(&mut Board) -> T) -> T {
        self.with(|board| {
            let outcome = change(board);
            let new = board.report();
            self.reports.send_if_modified(|report| std::mem::replace(report, new.clone()) != new);
            outcome
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut Board) -> T) -> T {
        look(&mut self.board.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Board {
    fn readiness(&self) -> Result<(), String> {
        if let Some(fault) = &self.fault {
            return Err(fault.to_string());
        }
        if !self.configured {
            return Err(self.config_problem.clone().unwrap_or_else(|| "starting".to_owned()));
        }
        match self.versions.iter().find(|version| version.wanted && version.state != VersionState::Ready) {
            None => Ok(()),
            Some(Tracked { name, fault: Some(fault), .. }) => Err(format!("{name}: {fault}")),
            Some(Tracked { name, .. }) => Err(format!("{name} is being installed")),
        }
    }

    fn status(&self, now: Instant) -> NodeStatus {
        NodeStatus {
            api_version: API_VERSION,
            kind: "NodeStatus",
            node: self.node.clone(),
            arch: self.arch,
            agent: env!("CARGO_PKG_VERSION"),
            root: self.root.clone(),
            free_bytes: None,
            ready: self.readiness().is_ok(),
            fault: self.fault.clone(),
            config_problem: self.config_problem.clone(),
            versions: self.versions.iter().map(|version| version.status(now)).collect(),
        }
    }

    fn report(&self) -> NodeReport {
        let versions = self.versions.iter().map(|version| VersionReport {
            name: version.name.clone(),
            state: version.state,
            wanted: version.wanted,
            reason: version.fault.as_ref().map(|fault| fault.reason),
            tree: version
                .manifest
                .as_ref()
                .map(|manifest| manifest.tree_sha256[..REPORTED_DIGITS].to_owned()),
            own_template: version.staged.own_template,
            repairs: 0,
        });
        NodeReport::new(
            &self.node,
            self.arch,
            self.fault.as_ref().map(|fault| fault.reason),
            versions.collect(),
        )
    }
}

impl Tracked {
    fn new(name: VersionName) -> Self {
        Self {
            name,
            wanted: false,
            state: VersionState::Pending,
            manifest: None,
            nodes: BTreeMap::new(),
            seconds: None,
            failures: 0,
            fault: None,
            retry_at: None,
            progress: None,
            staged: Look::default(),
            waiting: false,
        }
    }

    fn status(&self, now: Instant) -> VersionStatus {
        let manifest = self.manifest.as_ref();
        VersionStatus {
            name: self.name.clone(),
            wanted: self.wanted,
            state: self.state,
            files: manifest.map_or(0, |manifest| manifest.files.len()),
            bytes: manifest.map_or(0, |manifest| manifest.bytes),
            tree_sha256: manifest.map(|manifest| manifest.tree_sha256.clone()),
            nodes: self.nodes.clone(),
            seconds: self.seconds,
            failures: self.failures,
            fault: self.fault.clone(),
            retry_in_seconds: self.retry_at.map(|at| at.saturating_duration_since(now).as_secs_f64()),
            progress: self.progress.as_ref().map(Progress::snapshot),
            own_template: self.staged.own_template,
        }
    }
}
