//! One attempt of the agent to install, take over or repair a version, and what becomes of the ledger by its outcome.

use std::sync::Arc;
use std::time::{Duration, Instant};

use headstart_externals::config::{Config, Source};
use headstart_externals::fault::FaultReason;
use headstart_externals::recipe::Wanted;
use headstart_externals::version::VersionName;

use crate::backoff;
use crate::fault::{Fault, Outcome};
use crate::install::Installed;
use crate::plan::Short;
use crate::progress::Progress;
use crate::room::{Room, full, over_budget};
use crate::store::Store;
use crate::sync::Agent;
use crate::work::{Consequence, Task, Work, blocking};

/// How often running work is logged.
const PROGRESS_LOG: Duration = Duration::from_secs(5);

/// How often it is looked whether running work is of any use.
const LOOK: Duration = Duration::from_secs(2);

/// How long not to build again what had too little room, where there is not more.
const TRY_ANYWAY: Duration = Duration::from_secs(3600);

impl Agent {
    /// A version cannot be built now.
    pub(crate) async fn refuse(
        &mut self,
        store: &Arc<Store>,
        config: &Config,
        wanted: Wanted,
        reason: FaultReason,
    ) {
        let name = &wanted.version.clone();
        let work = self.prepare(store, config, wanted);
        if self.has_recovered(&work).await {
            return;
        }
        let free = self.free(config);
        let fault = match reason {
            FaultReason::OverBudget => over_budget(free.left(reason).unwrap_or(0)),
            _ => full(&self.options.root, free.bytes.unwrap_or(0), free.reserve),
        };
        let is_damaged =
            self.board.look(|ledger| ledger.entry(name).is_some_and(|entry| entry.damage.is_some()));
        self.failed(name, if is_damaged { self.unrepaired(name, fault) } else { fault });
    }

    /// Does one thing to one version, and notes how that went.
    pub(crate) async fn attempt(&mut self, store: &Arc<Store>, config: &Config, wanted: Wanted, task: Task) {
        let name = wanted.version.clone();
        let work = self.prepare(store, config, wanted);
        if task == Task::Repair && self.has_recovered(&work).await {
            return;
        }
        let progress = work.progress.clone();
        self.board.change(|ledger, _| ledger.begin(&name, progress.clone()));
        let free = self.free(config);
        // What another source would bring next time nobody knows.
        let is_archive = matches!(work.wanted.recipe.source, Source::Archive { .. });
        match self.carry_out(&name, work, task).await {
            Ok(installed) => self.succeeded(&name, task, installed, &progress),
            Err(fault) => {
                if let Some(left) = free.left(fault.reason).filter(|_| is_archive) {
                    let short = |now| Short { reason: fault.reason, left, until: now + TRY_ANYWAY };
                    self.board.change(|ledger, now| ledger.short(&name, short(now)));
                }
                self.attempt_failed(&name, task, fault);
            }
        }
    }

    /// Whether a damaged version is sound after all: an error of the disk may have passed, a foreign file may have been
    /// taken away. Not asked before a repair has failed, since just before that the damage was seen.
    async fn has_recovered(&mut self, work: &Work) -> bool {
        let name = &work.wanted.version;
        let is_asked = self.board.look(|ledger| {
            ledger.entry(name).is_some_and(|entry| entry.damage.is_some() && entry.failures > 0)
        });
        if !is_asked {
            return false;
        }
        self.board.change(|ledger, _| ledger.begin(name, work.progress.clone()));
        match self.carry_out(name, work.clone(), Task::Verify).await {
            Ok(installed) => {
                self.succeeded(name, Task::Verify, installed, &work.progress);
                true
            }
            // What is wrong with it is known.
            Err(_) => false,
        }
    }

    fn prepare(&mut self, store: &Arc<Store>, config: &Config, wanted: Wanted) -> Work {
        let name = &wanted.version;
        self.scrubber.end(name);
        // What is built anew must become what it was.
        let (used, known) = self.board.look(|ledger| {
            (ledger.used_bytes(), ledger.entry(name).and_then(|entry| entry.manifest.clone()))
        });
        let limits = config.limits;
        let room = Room::new(
            self.options.root.clone(),
            limits.reserve_bytes,
            limits.cache_bytes.saturating_sub(used),
        );
        Work {
            store: store.clone(),
            wanted,
            limits,
            arch: self.options.arch,
            canary_root: self.options.canary_root.clone(),
            fetcher: self.fetcher.clone(),
            known,
            progress: Progress::within(room, self.options.on_step.clone()),
        }
    }

    /// Does the work on a blocking thread, with a word in the log every few seconds.
    async fn carry_out(&mut self, name: &VersionName, work: Work, task: Task) -> Outcome<Installed> {
        let progress = work.progress.clone();
        let work = blocking(move || work.carry_out(task));
        let mut said = Instant::now();
        tokio::pin!(work);
        loop {
            tokio::select! {
                outcome = &mut work => return outcome,
                () = tokio::time::sleep(LOOK) => {
                    // Whatever it is, the next round finds out.
                    if self.is_lost() || self.config.is_outdated(name) {
                        progress.cancel();
                    }
                    self.take_hints();
                    if said.elapsed() < PROGRESS_LOG {
                        continue;
                    }
                    said = Instant::now();
                    let at = progress.snapshot();
                    let (done, total, files) = (at.bytes_done, at.bytes_total, at.files_done);
                    tracing::info!(version = %name, step = ?at.step, bytes = done, of = total, files, "{}", task.doing());
                }
            }
        }
    }

    fn succeeded(&self, name: &VersionName, task: Task, installed: Installed, progress: &Progress) {
        let (files, bytes) = (installed.manifest.files.len(), installed.manifest.bytes);
        let seconds = progress.snapshot().elapsed_seconds;
        tracing::info!(version = %name, files, bytes, seconds, "{}", task.done());
        self.metrics.succeeded(name, task, seconds, progress);
        self.board.change(|ledger, now| {
            let verified_at = (task != Task::Adopt).then_some(now);
            ledger.ready(name, installed, seconds, verified_at);
        });
    }

    fn attempt_failed(&self, name: &VersionName, task: Task, fault: Fault) {
        let Fault { reason, message, remedy, .. } = &fault;
        match task.consequence(&fault) {
            Consequence::Stopped => {
                tracing::info!(version = %name, "stopped: the configuration or the root changed");
                self.board.change(|ledger, _| ledger.stopped(name));
            }
            Consequence::Damaged => {
                tracing::warn!(version = %name, damage = message, "what is on disk is damaged; building it anew");
                self.metrics.damaged(name);
                self.board.change(|ledger, now| ledger.damaged(name, fault, now));
            }
            Consequence::Waits => {
                self.metrics.failed(*reason);
                tracing::warn!(version = %name, %reason, cause = message, remedy, "waiting for a stage run on this node");
                self.board.change(|ledger, _| ledger.waits(name, fault));
            }
            Consequence::Unrepaired => self.failed(name, self.unrepaired(name, fault)),
            Consequence::Failed => self.failed(name, fault),
        }
    }

    /// Where damage cannot be repaired, it is what matters: pods may be using the tree.
    fn unrepaired(&self, name: &VersionName, fault: Fault) -> Fault {
        let damage = self.board.look(|ledger| ledger.entry(name)?.damage.clone());
        let damage = damage.unwrap_or_else(|| fault.clone());
        Fault::new(damage.reason, format!("{}; it cannot be repaired: {fault}", damage.message))
    }

    /// An attempt failed: says why, and when it is tried again.
    fn failed(&self, name: &VersionName, fault: Fault) {
        self.metrics.failed(fault.reason);
        let failures = self.board.look(|ledger| ledger.entry(name).map_or(0, |entry| entry.failures)) + 1;
        let delay = backoff::delay(failures, fastrand::f64());
        let Fault { reason, message, remedy, .. } = &fault;
        tracing::warn!(version = %name, %reason, cause = message, remedy, failures, retry_in = ?delay, "failed");
        self.board.change(|ledger, now| ledger.failed(name, fault, now + delay));
    }
}
