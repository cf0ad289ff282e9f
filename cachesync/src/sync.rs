//! The agent's loop: observe, plan, do one thing, report. All file work runs on blocking threads, one piece at a time;
//! it may be killed at any point.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use headstart_externals::arch::Arch;
use headstart_externals::config::Config;
use headstart_externals::fault::FaultReason;
use headstart_externals::layout::Root;
use headstart_externals::recipe::{Wanted, wanted};
use headstart_externals::version::VersionName;
use headstart_runtime::shutdown::Shutdown;
use tokio::sync::Notify;

use crate::config_file::{Change, ConfigFile};
use crate::disk;
use crate::fault::{Fault, Outcome};
use crate::install::CanaryRoot;
use crate::metrics::Metrics;
use crate::plan::{self, Action, Free, Retired};
use crate::progress::{OnStep, Progress};
use crate::published::Published;
use crate::root_guard::RootGuard;
use crate::scrub::{Scrubber, schedule};
use crate::source::{self, Fetcher, Look};
use crate::status::StatusBoard;
use crate::store::{Store, free_bytes};
use crate::watch::{Doubt, TreeWatch};
use crate::work::{Task, blocking, manifest};

/// How often files and folders are looked at when nothing tells of a change.
const POLL: Duration = Duration::from_secs(2);

/// How long to wait before removing again what could not be removed.
const DELETE_AGAIN: Duration = Duration::from_secs(60);

/// How long to wait for the report that the root was replaced, before the end.
const LAST_REPORT: Duration = Duration::from_secs(5);

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
    /// What the controller has published.
    pub published: Published,
    /// Called at every step of an install or a removal.
    pub on_step: OnStep,
}

/// A running agent.
pub struct Agent {
    pub(crate) options: Options,
    pub(crate) config: ConfigFile,
    pub(crate) board: StatusBoard,
    pub(crate) metrics: Metrics,
    pub(crate) fetcher: Fetcher,
    pub(crate) scrubber: Scrubber,
    guard: RootGuard,
    store: Option<Arc<Store>>,
    watch: Option<TreeWatch>,
    wake: Arc<Notify>,
    delete_again: Duration,
    doubt: Doubt,
}

impl Agent {
    /// An agent that has not begun.
    pub fn new(options: Options, board: StatusBoard, metrics: Metrics, fetcher: Fetcher) -> Self {
        let scrubber = Scrubber::default();
        Self {
            config: ConfigFile::new(options.config.clone()),
            guard: RootGuard::new(&options.root),
            board,
            metrics,
            fetcher,
            store: None,
            watch: None,
            wake: scrubber.done.clone(),
            scrubber,
            delete_again: Duration::ZERO,
            doubt: Doubt::default(),
            options,
        }
    }

    /// Works until the shutdown begins. Work that is under way then is left to die with the process.
    pub async fn run(mut self, shutdown: Shutdown) -> anyhow::Result<()> {
        let (wake, published) = (self.wake.clone(), self.options.published.clone());
        loop {
            let wait = tokio::select! {
                () = shutdown.begun() => return Ok(()),
                wait = self.round() => wait?,
            };
            tokio::select! {
                () = shutdown.begun() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
                () = wake.notified() => {}
                () = published.changed() => {}
            }
        }
    }

    /// One round; returns how long nothing is to do.
    async fn round(&mut self) -> anyhow::Result<Duration> {
        let changed = self.read_config();
        if let Some(problem) = self.guard.problem() {
            return self.give_up(problem).await;
        }
        let Some(config) = self.config.current() else { return Ok(POLL) };
        let wishes = wanted(&config, self.options.published.state().as_deref());
        let opened = match self.open_store().await {
            Ok(store) => self.observe(&store, &config, &wishes).await.map(|()| store),
            Err(fault) => Err(fault),
        };
        let store = match opened {
            Ok(store) => store,
            Err(fault) => {
                self.board.change(|ledger, _| ledger.want(&names(&wishes)));
                self.root_fault(fault);
                return Ok(POLL);
            }
        };
        self.board.set_root_fault(None);
        if changed {
            self.board.change(|ledger, now| ledger.try_again(now));
        }
        self.take_hints();
        let (actions, next) = self.plan(&config, &wishes);
        let Some(action) = actions.first() else {
            self.scrub(&store, &config);
            let now = self.board.now();
            return Ok(next.map_or(POLL, |at| at.saturating_sub(now).min(POLL)));
        };
        self.act(&store, &config, &wishes, action).await;
        Ok(Duration::ZERO)
    }

    fn plan(&self, config: &Config, wishes: &[Wanted]) -> (Vec<Action>, Option<Duration>) {
        let retired = self.options.published.retired();
        let keep = config.rollout.keep;
        let free = self.free(config);
        let (observed, now) = (self.board.look(|ledger| ledger.observed()), self.board.now());
        let names = names(wishes);
        let actions = plan::plan(&observed, &names, Retired { versions: &retired, keep }, free, now);
        (actions, plan::next(&observed, &names, keep, now))
    }

    /// What was free at the beginning of the round.
    pub(crate) fn free(&self, config: &Config) -> Free {
        Free {
            bytes: self.board.free_bytes(),
            reserve: config.limits.reserve_bytes,
            used: self.board.look(|ledger| ledger.used_bytes()),
            budget: config.limits.cache_bytes,
        }
    }

    async fn act(&mut self, store: &Arc<Store>, config: &Config, wishes: &[Wanted], action: &Action) {
        let of = |name: &VersionName| wishes.iter().find(|wanted| wanted.version == *name).cloned();
        let (name, task) = match action {
            Action::Adopt(name) => (name, Task::Adopt),
            Action::Verify(name) => (name, Task::Verify),
            Action::Install(name) => (name, Task::Install),
            Action::Repair(name) => (name, Task::Repair),
            Action::Refuse(name, reason) => {
                if let Some(wanted) = of(name) {
                    self.refuse(store, config, wanted, *reason).await;
                }
                return;
            }
            Action::Retire(name) => return self.retire(name, true),
            Action::Revive(name) => return self.retire(name, false),
            Action::Trash(name) => return self.trash(store, config, name).await,
            Action::Delete => return self.delete(store).await,
        };
        if let Some(wanted) = of(name) {
            self.attempt(store, config, wanted, task).await;
        }
    }

    /// Brings the ledger up to what lies on disk. A disk that hangs holds up nobody who asks for the status.
    async fn observe(&mut self, store: &Arc<Store>, config: &Config, wishes: &[Wanted]) -> Outcome<()> {
        let configured: BTreeSet<VersionName> =
            config.revisions().map(|(_, revision)| revision.version.clone()).collect();
        let may_delete = self.board.now() >= self.delete_again;
        let (there, asked) = (store.clone(), wishes.to_vec());
        let look = move || {
            let root = there.root();
            let looks: Vec<Look> = asked.iter().map(|wanted| source::look(root, wanted)).collect();
            let on_disk = disk::list(root, &configured)?;
            Ok((on_disk, looks, may_delete && disk::has_trash(root), free_bytes(root.path())))
        };
        let (on_disk, looks, has_trash, free) = blocking(look).await?;
        self.board.set_free_bytes(free);
        let names = names(wishes);
        let unread = self.board.change(|ledger, now| {
            ledger.observe(&names, on_disk, has_trash);
            for (name, look) in names.iter().zip(looks) {
                ledger.staged(name, look, now);
            }
            let unread = ledger.versions.iter().filter(|entry| entry.is_unread());
            unread.map(|entry| entry.name.clone()).collect::<Vec<_>>()
        });
        if unread.is_empty() {
            return Ok(());
        }
        let there = store.clone();
        let read = move || {
            // One that cannot be read says nothing of what it takes; it is in nobody's way.
            Ok(unread.into_iter().map(|name| (manifest(&there, &name).ok(), name)).collect::<Vec<_>>())
        };
        let read = blocking(read).await?;
        self.board.change(|ledger, _| read.into_iter().for_each(|(found, name)| ledger.kept(&name, found)));
        Ok(())
    }

    /// Takes the configuration over if it changed and is sound; whether it did.
    fn read_config(&mut self) -> bool {
        match self.config.read() {
            Change::None => {
                self.board.set_config_problem(None);
                false
            }
            Change::Taken => {
                self.board.set_config_problem(None);
                true
            }
            Change::Problem(problem) => {
                if self.board.set_config_problem(Some(problem.clone())) {
                    tracing::warn!(%problem, "keeping the last good configuration");
                }
                false
            }
        }
    }

    async fn open_store(&mut self) -> Outcome<Arc<Store>> {
        if let Some(store) = &self.store {
            if store.is_intact() {
                return Ok(store.clone());
            }
            tracing::warn!("the root's lock was taken away; opening it anew");
            self.store = None;
        }
        let root = Root::new(&self.options.root);
        let store = Arc::new(blocking(move || Store::open(root)).await?);
        tracing::info!(root = %store.root().path().display(), "the root is ours");
        self.store = Some(store.clone());
        self.watch = match TreeWatch::begin(&store.root().versions(), self.wake.clone()) {
            Ok(watch) => Some(watch),
            Err(error) => {
                tracing::warn!(%error, "foreign writes are found by the scrub alone; raise fs.inotify.max_user_watches");
                None
            }
        };
        Ok(store)
    }

    fn root_fault(&self, fault: Fault) {
        let Fault { reason, message, remedy, .. } = fault.clone();
        if self.board.set_root_fault(Some(fault)) {
            tracing::warn!(%reason, cause = message, remedy, "the root is not usable");
        }
    }

    /// Reports that the root is another one, then ends: only a new mount shows what pods see.
    async fn give_up(&self, problem: String) -> anyhow::Result<Duration> {
        let fault = Fault::new(FaultReason::RootReplaced, problem);
        self.root_fault(fault.clone());
        let reported = tokio::time::timeout(LAST_REPORT, self.board.reported());
        if reported.await.is_err() {
            tracing::warn!("ending without having reported why");
        }
        anyhow::bail!("{fault}; ending, so that the root is mounted anew")
    }

    /// Looks at once at what the kernel told of, and sooner than usual where something went untold.
    pub(crate) fn take_hints(&mut self) {
        let Some(hints) = self.watch.as_ref().map(TreeWatch::take) else { return };
        let is_doubtful = self.doubt.is_due(hints.overflow, self.board.now());
        if hints.changed.is_empty() && !is_doubtful {
            return;
        }
        // What a scrub has read so far says nothing of what was written since.
        let scrubbed = self.scrubber.progress().map(|scrub| scrub.version);
        if let Some(name) = scrubbed.filter(|name| is_doubtful || hints.changed.contains(name)) {
            self.scrubber.end(&name);
        }
        self.board.change(|ledger, now| {
            for name in &hints.changed {
                tracing::info!(version = %name, "something changed in a published version; reading all of it again");
                ledger.suspect(name, now);
            }
            if is_doubtful {
                ledger.doubt();
            }
        });
    }

    /// Whether the root is not what it was, so that nothing that is under way is of any use.
    pub(crate) fn is_lost(&self) -> bool {
        self.guard.problem().is_some() || self.store.as_ref().is_some_and(|store| !store.is_intact())
    }

    /// Takes what a scrub has found, and begins the next one.
    fn scrub(&mut self, store: &Arc<Store>, config: &Config) {
        if let Some(finding) = self.scrubber.finding() {
            let name = finding.name;
            match finding.outcome {
                Ok(()) => {
                    self.metrics.scrubbed(&name);
                    self.board.change(|ledger, now| ledger.verified(&name, now));
                }
                Err(fault) => {
                    tracing::warn!(version = %name, %fault, "the scrub found something; reading all of it again");
                    self.board.change(|ledger, now| ledger.suspect(&name, now));
                    self.wake.notify_one();
                }
            }
        }
        if !self.scrubber.is_busy() {
            let now = self.board.now();
            let next = self.board.look(|ledger| {
                let turn = schedule::next(ledger.served(), config.verify.interval, now)?;
                ledger.entry(turn)?.manifest.clone()
            });
            if let Some(manifest) = next {
                self.scrubber.begin(store.root().clone(), manifest, config.verify.bytes_per_second);
            }
        }
        self.board.set_scrub(self.scrubber.progress());
    }

    fn retire(&self, name: &VersionName, is_retired: bool) {
        let verb = if is_retired { "is retired" } else { "is not retired any more" };
        tracing::info!(version = %name, "{verb}");
        self.board.change(|ledger, now| ledger.retired(name, is_retired.then_some(now)));
    }

    async fn trash(&mut self, store: &Arc<Store>, config: &Config, name: &VersionName) {
        self.scrubber.end(name);
        // It serves where the version is wanted again: a stage runs only when its pod starts.
        let keep_copy = config.revisions().any(|(_, revision)| revision.version == *name);
        let (there, version, progress) =
            (store.clone(), name.clone(), Progress::new(self.options.on_step.clone()));
        match blocking(move || there.trash(&version, keep_copy, &progress)).await {
            Ok(()) => {
                tracing::info!(version = %name, "removed, since no pod names it any more");
                self.metrics.removed(name);
            }
            Err(fault) => {
                tracing::warn!(version = %name, %fault, "failed to remove a retired version; trying again");
                // As if it had been retired later, so that this is not tried again and again.
                self.board.change(|ledger, now| ledger.retired(name, Some(now + DELETE_AGAIN)));
            }
        }
    }

    async fn delete(&mut self, store: &Arc<Store>) {
        let (there, progress) = (store.clone(), Progress::new(self.options.on_step.clone()));
        if let Err(fault) = blocking(move || there.delete(&progress)).await {
            tracing::warn!(%fault, retry_in = ?DELETE_AGAIN, "failed to remove what has lost its name");
            self.delete_again = self.board.now() + DELETE_AGAIN;
        }
    }
}

fn names(wishes: &[Wanted]) -> Vec<VersionName> {
    wishes.iter().map(|wanted| wanted.version.clone()).collect()
}
