//! A node as the rollout sees it: whether it counts, and what its agent last reported.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use headstart_externals::arch::Arch;
use headstart_externals::config::Config;
use headstart_externals::fault::FaultReason;
use headstart_externals::report::{NodeReport, VersionReport, VersionState};
use headstart_externals::state::{Phase, PublishedVersion};
use headstart_externals::version::VersionName;

/// How long a node may take to install before it is counted as lacking a version.
const SETTLING: Duration = Duration::from_secs(600);

/// Label by which a kubelet tells its node's architecture.
const ARCH: &str = "kubernetes.io/arch";

/// One node of the cluster.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether the kubelet says that it is ready.
    pub ready: bool,
    /// How long ago it was created.
    pub age: Duration,
    /// The last report of its agent.
    pub report: Option<NodeReport>,
    /// Whether that report has not been renewed for long.
    pub is_stale: bool,
}

impl NodeView {
    /// Whether the agent's DaemonSet runs on it.
    pub fn is_selected(&self, config: &Config) -> bool {
        config.node_selector.iter().all(|(key, value)| self.labels.get(key) == Some(value))
    }

    /// Whether `version` is on it, so that pods can mount it, wanted or not.
    pub fn has(&self, version: &VersionName) -> bool {
        self.reported(version).is_some_and(is_mountable)
    }

    /// Whether it has `version` and will keep it: one that its agent does not want may be about to go, and what a silent
    /// agent said may be so no longer.
    pub fn is_ready_with(&self, version: &VersionName) -> bool {
        !self.is_stale && self.reported(version).is_some_and(|report| report.state == VersionState::Ready)
    }

    /// Whether new pods that are given `version` find it there.
    pub fn serves(&self, version: &VersionName) -> bool {
        self.has(version) && !self.gave_up(version)
    }

    /// Whether its agent gave a reason of the node itself why it will not have `version`; pods are kept away from it.
    pub fn gave_up(&self, version: &VersionName) -> bool {
        let Some(report) = &self.report else { return false };
        let reason = self.reported(version).and_then(|version| version.reason);
        reason.into_iter().chain(report.fault).any(FaultReason::is_final)
    }

    /// What its agent says of `version`.
    pub fn reported(&self, version: &VersionName) -> Option<&VersionReport> {
        self.report.as_ref()?.versions.iter().find(|report| report.name == *version)
    }

    /// Whether it has one of these architectures, as far as anybody said.
    pub fn is_one_of(&self, arches: &BTreeSet<Arch>) -> bool {
        match (&self.report, self.labels.get(ARCH)) {
            (Some(report), _) => report.arch.is_among(arches),
            (None, Some(label)) => arches.iter().any(|arch| arch.to_string() == *label),
            (None, None) => true,
        }
    }

    /// Whether it is so new that it may well be about to have `version`, for which pods wait there.
    pub(super) fn is_settling_in(&self, version: &VersionName) -> bool {
        let has_failed = |report: &VersionReport| report.state == VersionState::Failed;
        self.age < SETTLING && !self.gave_up(version) && !self.reported(version).is_some_and(has_failed)
    }

    fn has_no_source(&self, version: &VersionName) -> bool {
        self.reported(version).is_some_and(|report| report.reason == Some(FaultReason::NoSourceForArch))
    }
}

/// Whether pods can mount what is reported.
pub fn is_mountable(report: &VersionReport) -> bool {
    matches!(report.state, VersionState::Ready | VersionState::Kept)
}

/// A version, the architectures that it is made for, and what pods are given in its place now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made<'a> {
    /// Its name.
    pub(super) version: &'a VersionName,
    /// All of them where it is made for all.
    pub(super) arches: &'a BTreeSet<Arch>,
    /// The version of the same profile that is offered, if it is another one.
    pub(super) replaces: Option<&'a VersionName>,
}

impl<'a> Made<'a> {
    /// A version of a profile of which `before` is published.
    pub(super) fn new(
        version: &'a VersionName,
        arches: &'a BTreeSet<Arch>,
        before: &'a [PublishedVersion],
    ) -> Self {
        let is_in_its_place = |old: &&PublishedVersion| {
            old.phase == Phase::Offered && old.name.profile() == version.profile() && old.name != *version
        };
        let replaces = before.iter().find(is_in_its_place).map(|old| &old.name);
        Self { version, arches, replaces }
    }

    /// Whether offering it would take a node from the pods that it serves today.
    pub(super) fn would_cost(&self, node: &NodeView) -> bool {
        self.replaces.is_some_and(|old| node.serves(old)) && node.gave_up(self.version)
    }

    /// Whether a node must have it before pods are given it: one that serves pods, could have it, and has not given it up
    /// unless that would cost the node.
    ///
    /// A node whose agent is silent counts when it is no longer new, but only until the `patience` with it is over: there
    /// are nodes on which no agent can ever run.
    pub(super) fn counts(&self, node: &NodeView, config: &Config, patience_is_over: bool) -> bool {
        if !node.ready || !node.is_selected(config) {
            return false;
        }
        if self.would_cost(node) {
            return true;
        }
        let is_heard = node.report.is_some() && !node.is_stale;
        let is_expected = is_heard || (node.age >= SETTLING && !patience_is_over);
        let is_hopeless = node.gave_up(self.version) || node.has_no_source(self.version);
        is_expected && node.is_one_of(self.arches) && !is_hopeless
    }
}
