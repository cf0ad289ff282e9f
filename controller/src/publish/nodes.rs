//! A node as the rollout sees it: whether it counts, and what its agent last reported.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use headstart_externals::arch::Arch;
use headstart_externals::config::Config;
use headstart_externals::fault::FaultReason;
use headstart_externals::report::{NodeReport, VersionReport, VersionState};
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

    /// Whether it has `version` and will keep it: one that its agent does not want may be about to go.
    pub fn is_ready_with(&self, version: &VersionName) -> bool {
        self.reported(version).is_some_and(|report| report.state == VersionState::Ready)
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
            (Some(report), _) => arches.contains(&report.arch),
            (None, Some(label)) => arches.iter().any(|arch| arch.to_string() == *label),
            (None, None) => true,
        }
    }

    fn has_no_source(&self, version: &VersionName) -> bool {
        self.reported(version).is_some_and(|report| report.reason == Some(FaultReason::NoSourceForArch))
    }
}

/// Whether pods can mount what is reported.
pub fn is_mountable(report: &VersionReport) -> bool {
    matches!(report.state, VersionState::Ready | VersionState::Kept)
}

/// A version, and the architectures that it is made for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made<'a> {
    /// Its name.
    pub(super) version: &'a VersionName,
    /// All of them where it is made for all.
    pub(super) arches: &'a BTreeSet<Arch>,
}

/// The nodes that must have a version before pods are given it: those that serve pods, could have it, and have not given
/// it up.
///
/// A node that never reported counts when it is no longer new, but only until the `patience` with it is over: there are
/// nodes on which no agent can ever run.
pub(super) fn eligible<'n>(
    nodes: &'n [NodeView],
    config: &Config,
    Made { version, arches }: Made<'_>,
    patience_is_over: bool,
) -> impl Iterator<Item = &'n NodeView> {
    let counts = move |node: &&NodeView| {
        let expected = node.report.is_some() || (node.age >= SETTLING && !patience_is_over);
        node.ready && expected && node.is_selected(config) && node.is_one_of(arches)
    };
    nodes.iter().filter(counts).filter(move |node| !node.gave_up(version) && !node.has_no_source(version))
}
