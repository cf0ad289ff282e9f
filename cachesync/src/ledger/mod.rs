//! What this process knows of every version: what lies on disk, what it found out, what went wrong and when it tries again.
//!
//! All changes go through here; [`crate::status`] shares it, [`crate::plan`] decides over it. Times are durations since
//! the agent began, by its own monotonic clock, so that a wrong clock of the node changes nothing.

mod entry;

use std::collections::BTreeMap;
use std::time::Duration;

use headstart_externals::arch::Arch;
use headstart_externals::fault::FaultReason;
use headstart_externals::manifest::Manifest;
use headstart_externals::report::{NodeReport, VersionReport, VersionState};
use headstart_externals::version::VersionName;

use crate::backoff;
use crate::fault::Fault;
use crate::install::Installed;
use crate::plan::{Disk, Observed, Seen, Short, Standing};
use crate::progress::Progress;
use crate::source::Look;

pub use entry::Entry;

/// Hex digits of a tree's digest in a report: enough to compare nodes.
const REPORTED_DIGITS: usize = 16;

/// How long a repair has to last, or nothing be said of a version, for the next repair or reading to be tried at once.
const LASTING: Duration = Duration::from_secs(3600);

/// The node's versions and what is wrong with the node itself.
pub struct Ledger {
    pub(crate) node: String,
    pub(crate) arch: Arch,
    /// What is wrong with the root folder.
    pub(crate) fault: Option<Fault>,
    /// What is wrong with the newest configuration file.
    pub(crate) config_problem: Option<String>,
    /// Whether a configuration was ever taken over.
    pub(crate) configured: bool,
    /// Whether something is on its way out.
    pub(crate) has_trash: bool,
    /// Wanted ones first, most urgent first.
    pub(crate) versions: Vec<Entry>,
    /// By version, the final reason of an earlier life of this agent, until this one has a verdict of its own.
    recalled: BTreeMap<VersionName, FaultReason>,
}

/// What lies on disk of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnDisk {
    /// Its name.
    pub name: VersionName,
    /// What lies under the name.
    pub disk: Disk,
    /// How many trees lie elsewhere that gave way to it.
    pub replaced: u32,
    /// Whether a stage has left a copy for it.
    pub staged: bool,
    /// When its folder was last changed, in seconds since 1970; the order in which versions are reported, no more.
    pub changed: i64,
}

impl OnDisk {
    /// Nothing of a version is there.
    pub fn nothing(name: VersionName) -> Self {
        Self { name, disk: Disk::Absent, replaced: 0, staged: false, changed: 0 }
    }
}

impl Ledger {
    /// Nothing is known yet.
    pub fn new(node: String, arch: Arch) -> Self {
        Self {
            node,
            arch,
            fault: None,
            config_problem: None,
            configured: false,
            has_trash: false,
            versions: Vec::new(),
            recalled: BTreeMap::new(),
        }
    }

    /// Takes over what is wanted now, most urgent first, and what lies on disk. What was found out stays.
    pub fn observe(&mut self, wanted: &[VersionName], on_disk: Vec<OnDisk>, has_trash: bool) {
        let known = std::mem::take(&mut self.versions);
        let mut known: BTreeMap<VersionName, Entry> =
            known.into_iter().map(|entry| (entry.name.clone(), entry)).collect();
        let mut on_disk: BTreeMap<VersionName, OnDisk> =
            on_disk.into_iter().map(|found| (found.name.clone(), found)).collect();
        let new = |name: &VersionName| {
            let mut entry = Entry::new(name.clone());
            if was_damaged(&self.recalled, name) {
                entry.distrust();
            }
            entry
        };
        let mut entry = |name: &VersionName, wanted: bool, found: Option<OnDisk>| {
            let entry = known.remove(name).unwrap_or_else(|| new(name));
            let found = found.unwrap_or_else(|| OnDisk::nothing(name.clone()));
            let OnDisk { disk, replaced, staged, changed, .. } = found;
            if entry.disk != Disk::Absent && disk == Disk::Absent {
                tracing::warn!(version = %name, "a version that was there is gone");
            }
            Entry { wanted, disk, replaced, has_copy: staged, changed, ..entry }
        };
        for name in wanted {
            let found = on_disk.remove(name);
            self.versions.push(entry(name, true, found));
        }
        // Reports tell of the oldest, where they cannot tell of all.
        let mut others: Vec<(VersionName, OnDisk)> = on_disk.into_iter().collect();
        others.sort_by_key(|(_, found)| found.changed);
        for (name, found) in others {
            self.versions.push(entry(&name, false, Some(found)));
        }
        self.configured = true;
        self.has_trash = has_trash;
    }

    /// Takes over what is wanted now where nobody can say what lies on disk.
    pub fn want(&mut self, wanted: &[VersionName]) {
        let there = |entry: &Entry| entry.disk != Disk::Absent || entry.has_leftovers();
        let on_disk = self.versions.iter().filter(|entry| there(entry)).map(|entry| OnDisk {
            name: entry.name.clone(),
            disk: entry.disk,
            replaced: entry.replaced,
            staged: entry.has_copy,
            changed: entry.changed,
        });
        let on_disk = on_disk.collect();
        self.observe(wanted, on_disk, self.has_trash);
    }

    /// The configuration changed: what failed may have been mended by it.
    pub fn try_again(&mut self, now: Duration) {
        for entry in &mut self.versions {
            entry.failures = 0;
            entry.short = None;
            match &mut entry.standing {
                Standing::Failed { retry_at } | Standing::Damaged { retry_at } => *retry_at = now,
                standing if *standing == Standing::Waiting => *standing = Standing::Unknown,
                _ => {}
            }
        }
    }

    /// What an earlier life of this agent reported: final verdicts hold until this one has its own.
    pub fn recall(&mut self, report: &NodeReport) {
        let verdicts =
            report.versions.iter().filter_map(|version| Some((version.name.clone(), version.reason?)));
        self.recalled = verdicts.filter(|(_, reason)| reason.is_final()).collect();
        let damaged = self.versions.iter_mut().filter(|entry| was_damaged(&self.recalled, &entry.name));
        damaged.for_each(Entry::distrust);
    }

    /// An attempt begins.
    pub fn begin(&mut self, name: &VersionName, progress: Progress) {
        self.update(name, |entry| {
            entry.progress = Some(progress);
            entry.touched = false;
        });
    }

    /// It serves pods; `verified_at` tells whether all of it was read.
    pub fn ready(
        &mut self,
        name: &VersionName,
        installed: Installed,
        seconds: f64,
        verified_at: Option<Duration>,
    ) {
        let was_damaged = verified_at.is_none() && was_damaged(&self.recalled, name);
        self.update(name, |entry| {
            let is_repair = installed.is_new && matches!(entry.standing, Standing::Damaged { .. });
            let was_alarm = matches!(entry.standing, Standing::Suspect { .. });
            *entry = Entry {
                alarms: if was_alarm { entry.alarms.saturating_add(1) } else { 0 },
                repaired_at: if is_repair { verified_at } else { entry.repaired_at },
                disk: Disk::Complete,
                standing: Standing::Ready,
                manifest: Some(installed.manifest),
                nodes: installed.canary,
                seconds: Some(seconds),
                failures: 0,
                fault: None,
                damage: None,
                short: None,
                progress: None,
                verified_at,
                repairs: entry.repairs.saturating_add(u32::from(is_repair)),
                ..entry.clone()
            };
            if was_damaged {
                entry.distrust();
            } else if entry.touched {
                entry.alarm(verified_at.unwrap_or_default());
            }
        });
        if !was_damaged {
            self.recalled.remove(name);
        }
    }

    /// A scrub has read all of it, and it is sound. A suspicion stays: what was read may have been written since.
    pub fn verified(&mut self, name: &VersionName, now: Duration) {
        self.update(name, |entry| {
            if entry.standing == Standing::Ready {
                entry.verified_at = Some(now);
                entry.alarms = 0;
            }
        });
    }

    /// Something says that a version which serves pods was changed, or one that is being looked at: what was read of
    /// that so far says nothing any more.
    pub fn suspect(&mut self, name: &VersionName, now: Duration) {
        self.update(name, |entry| {
            if entry.progress.is_some() {
                entry.touched = true;
            } else if entry.standing == Standing::Ready {
                entry.alarm(now);
            }
        });
    }

    /// Writes may have gone unnoticed: every version is read again soon.
    pub fn doubt(&mut self) {
        for entry in &mut self.versions {
            entry.verified_at = None;
            entry.touched = entry.progress.is_some();
        }
    }

    /// The versions that serve pods, with when all of each was last read.
    pub fn served(&self) -> impl Iterator<Item = (&VersionName, Option<Duration>)> {
        let served = self.versions.iter().filter(|entry| entry.standing == Standing::Ready);
        served.map(|entry| (&entry.name, entry.verified_at))
    }

    /// What pods are given is not what was built. The repair is due at once, but ever more rarely where the last one did not
    /// last: each leaves a damaged tree behind.
    pub fn damaged(&mut self, name: &VersionName, fault: Fault, now: Duration) {
        self.update(name, |entry| {
            let lasted = entry.repaired_at.is_none_or(|at| now.saturating_sub(at) >= LASTING);
            let wait = if lasted { Duration::ZERO } else { backoff::delay(entry.repairs, 1.0) };
            entry.standing = Standing::Damaged { retry_at: now + wait };
            entry.damage = Some(fault.clone());
            entry.fault = Some(fault);
            entry.progress = None;
        });
        self.recalled.remove(name);
    }

    /// An attempt failed. What was damaged before stays damaged: pods may be using it.
    pub fn failed(&mut self, name: &VersionName, fault: Fault, retry_at: Duration) {
        self.update(name, |entry| {
            entry.standing = match entry.standing {
                Standing::Damaged { .. } => Standing::Damaged { retry_at },
                _ => Standing::Failed { retry_at },
            };
            entry.failures = entry.failures.saturating_add(1);
            entry.fault = Some(fault);
            entry.progress = None;
        });
        self.recalled.remove(name);
    }

    /// A build had too little room.
    pub fn short(&mut self, name: &VersionName, short: Short) {
        self.update(name, |entry| entry.short = Some(short));
    }

    /// An attempt was stopped, since what it was to make is not wanted any more in that form.
    pub fn stopped(&mut self, name: &VersionName) {
        self.update(name, |entry| entry.progress = None);
    }

    /// An attempt found that a stage has to run first.
    pub fn waits(&mut self, name: &VersionName, fault: Fault) {
        self.update(name, |entry| {
            if !matches!(entry.standing, Standing::Damaged { .. }) {
                entry.standing = Standing::Waiting;
            }
            entry.fault = Some(fault);
            entry.progress = None;
        });
    }

    /// What a stage run has left for a version; where that is news, the version is due at once.
    pub fn staged(&mut self, name: &VersionName, look: Look, now: Duration) {
        self.update(name, |entry| {
            if entry.staged.record != look.record {
                match &mut entry.standing {
                    Standing::Failed { retry_at } | Standing::Damaged { retry_at } => *retry_at = now,
                    standing if *standing == Standing::Waiting => *standing = Standing::Unknown,
                    _ => {}
                }
            }
            entry.staged = look;
        });
    }

    /// What lies on disk of a version that nobody wants, or that could not be taken over: of that it tells the size alone.
    pub fn kept(&mut self, name: &VersionName, manifest: Option<Manifest>) {
        self.update(name, |entry| {
            entry.bytes = Some(manifest.as_ref().map_or(0, |manifest| manifest.bytes));
            if !entry.wanted {
                entry.manifest = manifest;
                entry.examined = true;
            }
        });
    }

    /// A version is known to be retired from `since` on; `None` if it is not any more.
    pub fn retired(&mut self, name: &VersionName, since: Option<Duration>) {
        self.update(name, |entry| entry.retired_since = since);
    }

    /// Bytes of all versions on disk, with the trees that gave way to them, which are taken to be as large.
    pub fn used_bytes(&self) -> u64 {
        let known = |entry: &Entry| entry.manifest.as_ref().map(|manifest| manifest.bytes);
        let bytes = |entry: &Entry| known(entry).or(entry.bytes).unwrap_or(0);
        let trees = |entry: &Entry| u64::from(entry.disk == Disk::Complete) + u64::from(entry.replaced);
        self.versions.iter().map(|entry| bytes(entry).saturating_mul(trees(entry))).sum()
    }

    /// What the plan is made over.
    pub fn observed(&self) -> Observed {
        let versions = self.versions.iter().map(|entry| Seen {
            name: entry.name.clone(),
            disk: entry.disk,
            standing: entry.standing,
            short: entry.short,
            retired_since: entry.retired_since,
        });
        Observed { versions: versions.collect(), has_trash: self.has_trash }
    }

    /// `Ok` when every wanted version is ready; else what is missing.
    pub fn readiness(&self) -> Result<(), String> {
        if let Some(fault) = &self.fault {
            return Err(fault.to_string());
        }
        if !self.configured {
            return Err(self.config_problem.clone().unwrap_or_else(|| "starting".to_owned()));
        }
        match self.versions.iter().find(|entry| entry.wanted && entry.state() != VersionState::Ready) {
            None => Ok(()),
            Some(Entry { name, fault: Some(fault), .. }) => Err(format!("{name}: {fault}")),
            Some(Entry { name, .. }) => Err(format!("{name} is being installed")),
        }
    }

    /// The report for the cluster.
    pub fn report(&self) -> NodeReport {
        let versions = self.versions.iter().map(|entry| VersionReport {
            name: entry.name.clone(),
            state: entry.state(),
            wanted: entry.wanted,
            reason: entry
                .fault
                .as_ref()
                .map(|fault| fault.reason)
                .or_else(|| self.recalled.get(&entry.name).copied()),
            tree: entry
                .manifest
                .as_ref()
                .filter(|_| entry.disk == Disk::Complete)
                .map(|manifest| manifest.tree_sha256.chars().take(REPORTED_DIGITS).collect()),
            own_template: entry.staged.own_template,
            repairs: entry.repairs,
        });
        NodeReport::new(
            &self.node,
            self.arch,
            self.fault.as_ref().map(|fault| fault.reason),
            versions.collect(),
        )
    }

    /// The entry of a version.
    pub fn entry(&self, name: &VersionName) -> Option<&Entry> {
        self.versions.iter().find(|entry| entry.name == *name)
    }

    fn update(&mut self, name: &VersionName, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.versions.iter_mut().find(|entry| entry.name == *name) {
            change(entry);
        }
    }
}

/// Whether an earlier life of the agent ended with the verdict that it is damaged.
fn was_damaged(recalled: &BTreeMap<VersionName, FaultReason>, name: &VersionName) -> bool {
    recalled.get(name) == Some(&FaultReason::CheckFailed)
}
