//! What is known of one version, and what that is called in reports.

use std::collections::BTreeMap;
use std::time::Duration;

use headstart_externals::fault::FaultReason;
use headstart_externals::manifest::Manifest;
use headstart_externals::report::VersionState;
use headstart_externals::version::VersionName;

use super::LASTING;
use crate::backoff;
use crate::fault::Fault;
use crate::plan::{Disk, Short, Standing};
use crate::progress::Progress;
use crate::source::Look;
use crate::tree::canary::Canary;

/// What is known of one version.
#[derive(Clone)]
pub struct Entry {
    pub(crate) name: VersionName,
    pub(crate) wanted: bool,
    pub(crate) disk: Disk,
    /// Trees that gave way to it and may still be in use.
    pub(crate) replaced: u32,
    /// Whether a stage has left a copy for it.
    pub(crate) has_copy: bool,
    pub(crate) changed: i64,
    pub(crate) standing: Standing,
    pub(crate) manifest: Option<Manifest>,
    pub(crate) nodes: BTreeMap<String, Canary>,
    /// Seconds that the last successful attempt took.
    pub(crate) seconds: Option<f64>,
    pub(crate) failures: u32,
    pub(crate) fault: Option<Fault>,
    /// What was not enough to build it.
    pub(crate) short: Option<Short>,
    /// What is wrong with the tree that pods are given.
    pub(crate) damage: Option<Fault>,
    /// The attempt that is under way.
    pub(crate) progress: Option<Progress>,
    /// What a stage run has left for it.
    pub(crate) staged: Look,
    pub(crate) retired_since: Option<Duration>,
    /// When all of it was last read and found sound.
    pub(crate) verified_at: Option<Duration>,
    pub(crate) repairs: u32,
    pub(crate) repaired_at: Option<Duration>,
    /// How often in a row something said that it was changed, and it was not.
    pub(crate) alarms: u32,
    /// Whether something said that it was changed since the attempt began that is under way.
    pub(crate) touched: bool,
    /// Whether its manifest was looked for while nobody wanted it.
    pub(crate) examined: bool,
    /// Bytes that its manifest tells of, where it could not be taken over.
    pub(crate) bytes: Option<u64>,
}

impl Entry {
    pub(super) fn new(name: VersionName) -> Self {
        Self {
            name,
            wanted: false,
            disk: Disk::Absent,
            replaced: 0,
            has_copy: false,
            changed: 0,
            standing: Standing::Unknown,
            manifest: None,
            nodes: BTreeMap::new(),
            seconds: None,
            failures: 0,
            fault: None,
            short: None,
            damage: None,
            progress: None,
            staged: Look::default(),
            retired_since: None,
            verified_at: None,
            repairs: 0,
            repaired_at: None,
            alarms: 0,
            touched: false,
            examined: false,
            bytes: None,
        }
    }

    /// All of it is to be read: at once, but ever more rarely where that found nothing again and again, since somebody
    /// may touch it all the time.
    pub(super) fn alarm(&mut self, now: Duration) {
        if self.verified_at.is_none_or(|at| now.saturating_sub(at) >= LASTING) {
            self.alarms = 0;
        }
        let wait = if self.alarms == 0 { Duration::ZERO } else { backoff::delay(self.alarms, 1.0) };
        self.standing = Standing::Suspect { look_at: now + wait };
    }

    /// Once somebody found it damaged, only reading all of it can tell that it is not.
    pub(super) fn distrust(&mut self) {
        if self.verified_at.is_none()
            && matches!(self.standing, Standing::Unknown | Standing::Ready | Standing::Suspect { .. })
        {
            self.standing = Standing::Failed { retry_at: Duration::ZERO };
        }
    }

    /// In the words of the report.
    pub fn state(&self) -> VersionState {
        match self.standing {
            _ if !self.wanted && self.is_mountable() => VersionState::Kept,
            _ if !self.wanted => VersionState::Failed,
            Standing::Ready | Standing::Suspect { .. } if self.disk != Disk::Absent => VersionState::Ready,
            _ if self.progress.is_some() => VersionState::Installing,
            Standing::Damaged { .. } | Standing::Failed { .. } => VersionState::Failed,
            Standing::Waiting if self.is_patient() => VersionState::Pending,
            Standing::Waiting => VersionState::Failed,
            Standing::Unknown | Standing::Ready | Standing::Suspect { .. } => VersionState::Pending,
        }
    }

    /// Whether anything of it lies elsewhere.
    pub(crate) fn has_leftovers(&self) -> bool {
        self.replaced > 0 || self.has_copy
    }

    /// Whether pods that name it find what they need.
    fn is_mountable(&self) -> bool {
        let is_damaged = matches!(self.standing, Standing::Damaged { .. });
        self.disk == Disk::Complete && self.manifest.is_some() && !is_damaged
    }

    /// Whether nobody knows yet what it holds, and nobody wants it or it could not be taken over.
    pub(crate) fn is_unread(&self) -> bool {
        let is_asked = match self.wanted {
            true => self.bytes.is_none() && self.standing != Standing::Unknown,
            false => !self.examined,
        };
        is_asked && self.manifest.is_none() && self.disk == Disk::Complete
    }

    /// Whether it merely waits for something that is on its way.
    fn is_patient(&self) -> bool {
        self.fault.as_ref().is_none_or(|fault| fault.reason == FaultReason::WaitingForStage)
    }

    /// When the next attempt is due.
    pub fn retry_at(&self) -> Option<Duration> {
        match self.standing {
            Standing::Damaged { retry_at } | Standing::Failed { retry_at } => Some(retry_at),
            _ => None,
        }
    }
}
