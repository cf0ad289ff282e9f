//! The agent's loop: observe, decide, act, report. All file work runs on a blocking thread, one install at a time;
//! it may be killed at any point.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headstart_externals::arch::Arch;
use headstart_externals::config::Config;
use headstart_externals::fault::FaultReason;
use headstart_externals::layout::Root;
use headstart_externals::recipe::wanted;
use headstart_externals::version::VersionName;
use headstart_runtime::shutdown::Shutdown;

use crate::backoff;
use crate::fault::{Fault, Outcome};
use crate::install::{CanaryRoot, Installed, adopt, install, verify};
use crate::job::Job;
use crate::metrics::Metrics;
use crate::plan::{self, Action};
use crate::progress::{OnStep, Progress};
use crate::source::{self, Fetcher};
use crate::status::StatusBoard;
use crate::store::Store;

/// How often the configuration file is compared, and a faulty root tried again.
const POLL: Duration = Duration::from_secs(2);

/// How often a running install is logged.
const PROGRESS_LOG: Duration = Duration::from_secs(5);

/// What an agent is started with.
pub struct Options {
    /// The cache's root folder.
    pub root: PathBuf,
    /// The configuration file.
    pub config: PathBuf,
    /// Where the canary sees the root.
    pub canary_root: CanaryRoot,
    /// The architecture to install for.
    pub arch: Arch,
    /// Called at every step of an install.
    pub on_step: OnStep,
}

/// A running agent.
pub struct Agent {
    options: Arc<Options>,
    board: StatusBoard,
    metrics: Metrics,
    fetcher: Fetcher,
    store: Option<Arc<Store>>,
    config: Option<(String, Arc<Config>)>,
}

impl Agent {
    /// An agent that has not begun.
    pub fn new(options: Options, board: StatusBoard, metrics: Metrics, fetcher: Fetcher) -> Self {
        Self { options: Arc::new(options), board, metrics, fetcher, store: None, config: None }
    }

    /// Works until the shutdown begins. An install that is under way then is left to die with the process.
    pub async fn run(mut self, shutdown: Shutdown) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = shutdown.begun() => return Ok(()),
                wait = self.round() => tokio::select! {
                    () = shutdown.begun() => return Ok(()),
                    () = tokio::time::sleep(wait) => {}
                },
            }
        }
    }

    /// One round; returns how long nothing is to do.
    async fn round(&mut self) -> Duration {
        let changed = self.read_config();
        let Some((_, config)) = self.config.clone() else { return POLL };
        if changed {
            self.list_versions(&config);
        }
        if self.store.as_ref().is_some_and(|store| !store.is_intact()) {
            tracing::warn!("the root's lock was taken away; opening it anew");
            self.store = None;
        }
        let opened = self.store.is_none();
        let store = match self.open_store().await {
            Ok(store) => store,
            Err(fault) => {
                let Fault { reason, message, remedy } = &fault;
                if self.board.set_root_fault(Some(fault.clone())) {
                    tracing::warn!(%reason, cause = message, remedy, "the root is not usable");
                }
                return POLL;
            }
        };
        if opened {
            self.list_versions(&config);
        }
        let root = store.root();
        self.board.forget_lost(|version| root.version(version).manifest().exists());
        for wanted in wanted(&config, None) {
            self.board.staged(&wanted.version, source::look(root, &wanted));
        }
        let (due, _) = self.board.due(Instant::now());
        for (name, failures) in due {
            self.attempt(&store, &config, &name, failures).await;
        }
        let (due, next) = self.board.due(Instant::now());
        match next {
            _ if !due.is_empty() => Duration::ZERO,
            Some(at) => at.saturating_duration_since(Instant::now()).min(POLL),
            None => POLL,
        }
    }

    /// Tells the status what is wanted and what is on disk.
    fn list_versions(&self, config: &Config) {
        let wanted: Vec<VersionName> =
            config.revisions().map(|(_, revision)| revision.version.clone()).collect();
        let on_disk = self.store.as_ref().and_then(|store| store.names().ok()).unwrap_or_default();
        self.board.set_versions(&wanted, on_disk);
    }

    /// Takes the configuration over if it changed and is sound; whether it did.
    fn read_config(&mut self) -> bool {
        let path = &self.options.config;
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.config_problem(format!("failed to read {}: {error}", path.display())),
        };
        if self.config.as_ref().is_some_and(|(seen, _)| *seen == text) {
            self.board.set_config_problem(None);
            return false;
        }
        match Config::parse(&text) {
            Ok(config) => {
                tracing::info!(config = %path.display(), "configuration taken over");
                self.config = Some((text, Arc::new(config)));
                self.board.set_config_problem(None);
                true
            }
            Err(problems) => self.config_problem(format!("{}: {problems}", path.display())),
        }
    }

    /// Whether a sound new configuration says something else of this version; the next round takes it over.
    fn is_outdated(&self, name: &VersionName) -> bool {
        let text = std::fs::read_to_string(&self.options.config);
        let Some(new) = text.ok().and_then(|text| Config::parse(&text).ok()) else { return false };
        let of = |config: &Config| {
            let revision = config.revisions().find(|(_, revision)| revision.version == *name)?.1.clone();
            Some((revision.source, config.limits))
        };
        self.config.as_ref().is_some_and(|(_, old)| of(old) != of(&new))
    }

    fn config_problem(&self, problem: String) -> bool {
        if self.board.status().config_problem.as_ref() != Some(&problem) {
            tracing::warn!(%problem, "keeping the last good configuration");
        }
        self.board.set_config_problem(Some(problem));
        false
    }

    async fn open_store(&mut self) -> Outcome<Arc<Store>> {
        if let Some(store) = &self.store {
            return Ok(store.clone());
        }
        let root = Root::new(&self.options.root);
        let store = Arc::new(blocking(move || Store::open(root)).await?);
        tracing::info!(root = %store.root().path().display(), "the root is ours");
        self.board.set_root_fault(None);
        self.store = Some(store.clone());
        Ok(store)
    }

    async fn attempt(&self, store: &Arc<Store>, config: &Arc<Config>, name: &VersionName, failures: u32) {
        let progress = Progress::new(self.options.on_step.clone());
        self.board.begin(name, progress.clone());
        let begun = Instant::now();
        match self.act(store, config, name, &progress).await {
            Ok((verb, installed)) => {
                let seconds = begun.elapsed().as_secs_f64();
                let (files, bytes) = (installed.manifest.files.len(), installed.manifest.bytes);
                tracing::info!(version = %name, files, bytes, seconds, "{verb}");
                self.metrics.succeeded(name, bytes, seconds);
                self.board.succeed(name, installed, seconds);
            }
            Err(fault) => self.failed(name, fault, failures),
        }
    }

    /// An attempt failed after so many others: says why, and when it is tried again.
    fn failed(&self, name: &VersionName, fault: Fault, failures: u32) {
        let Fault { reason, message, remedy } = &fault;
        if *reason == FaultReason::Cancelled {
            tracing::info!(version = %name, "stopped, since the configuration changed");
            return self.board.fail(name, fault, failures, Instant::now());
        }
        self.metrics.failed(*reason);
        if reason.awaits_stage() {
            tracing::warn!(version = %name, %reason, cause = message, remedy, "waiting for a stage run on this node");
            return self.board.wait(name, fault);
        }
        let failures = failures + 1;
        let delay = backoff::delay(failures, fastrand::f64());
        tracing::warn!(version = %name, %reason, cause = message, remedy, failures, retry_in = ?delay, "install failed");
        self.board.fail(name, fault, failures, Instant::now() + delay);
    }

    /// Installs or verifies, on a blocking thread, with a word in the log every few seconds.
    async fn act(
        &self,
        store: &Arc<Store>,
        config: &Arc<Config>,
        name: &VersionName,
        progress: &Progress,
    ) -> Outcome<(&'static str, Installed)> {
        let order = Order {
            store: store.clone(),
            config: config.clone(),
            name: name.clone(),
            fetcher: self.fetcher.clone(),
            options: self.options.clone(),
            progress: progress.clone(),
        };
        let work = blocking(move || order.carry_out());
        tokio::pin!(work);
        loop {
            tokio::select! {
                outcome = &mut work => return outcome,
                () = tokio::time::sleep(PROGRESS_LOG) => {
                    if self.is_outdated(name) {
                        progress.cancel();
                    }
                    let at = progress.snapshot();
                    let (done, total, files) = (at.bytes_done, at.bytes_total, at.files_done);
                    tracing::info!(version = %name, step = ?at.step, bytes = done, of = total, files, "installing");
                }
            }
        }
    }
}

/// Everything that the blocking thread needs for one version.
struct Order {
    store: Arc<Store>,
    config: Arc<Config>,
    name: VersionName,
    fetcher: Fetcher,
    options: Arc<Options>,
    progress: Progress,
}

impl Order {
    /// What was done, in a word for the log, and what is there now.
    fn carry_out(&self) -> Outcome<(&'static str, Installed)> {
        match plan::decide(self.store.find(&self.name)?) {
            Action::Verify(manifest) => match verify(&self.store, &manifest) {
                Ok(()) => Ok(("found ready", adopt(&self.store, *manifest, &self.options.canary_root)?)),
                Err(damage) if damage.reason == FaultReason::CheckFailed => self.repair(damage),
                // Other faults are not the tree's: a new one would have them as well.
                Err(fault) => Err(fault),
            },
            Action::Replace(cause) => {
                tracing::warn!(version = %self.name, cause, "something foreign lies under the version's name");
                Ok(("installed", self.install()?))
            }
            Action::Install => Ok(("installed", self.install()?)),
        }
    }

    /// Builds a damaged version anew. Where that fails, the damage is what matters: pods may be using it.
    fn repair(&self, damage: Fault) -> Outcome<(&'static str, Installed)> {
        tracing::warn!(version = %self.name, %damage, "what is on disk is damaged; building it anew");
        match self.install() {
            Ok(installed) => Ok(("repaired", installed)),
            Err(fault) => {
                let message = format!("{}; it cannot be repaired: {fault}", damage.message);
                Err(Fault::new(damage.reason, message))
            }
        }
    }

    fn install(&self) -> Outcome<Installed> {
        let wanted = wanted(&self.config, None).into_iter().find(|wanted| wanted.version == self.name);
        let Some(wanted) = wanted else {
            return Err(Fault::new(FaultReason::Io, format!("{} is not configured any more", self.name)));
        };
        if !self.store.is_intact() {
            return Err(Fault::new(
                FaultReason::RootLocked,
                "the root's lock was taken away; opening it anew",
            ));
        }
        let job = Job { wanted: &wanted, limits: self.config.limits, arch: self.options.arch };
        install(&self.store, job, &self.fetcher, &self.options.canary_root, &self.progress)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Outcome<T> + Send + 'static) -> Outcome<T> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|error| Err(Fault::new(FaultReason::Io, format!("the work was cut off: {error}"))))
}
