//! A node as the rollout sees it: whether it counts, and what its agent last reported.

use std::collections::BTreeMap;
use std::time::Duration;

use headstart_externals::config::Config;
use headstart_externals::report::{NodeReport, VersionState};
use headstart_externals::version::VersionName;

/// How long a node may take to install before it is counted as lacking a version, and how long a version waits for
/// all nodes before most of them will do.
pub(super) const SETTLING: Duration = Duration::from_secs(600);

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

    /// Whether it has `version`, ready for pods.
    pub fn has(&self, version: &VersionName) -> bool {
        self.state_of(version) == Some(VersionState::Ready)
    }

    /// Whether its agent gave a reason of the node itself why it will not have `version`; pods are kept away from it.
    pub fn gave_up(&self, version: &VersionName) -> bool {
        let Some(report) = &self.report else { return false };
        let reasons = report.versions.iter().filter(|report| report.name == *version);
        reasons.filter_map(|report| report.reason).chain(report.fault).any(|reason| reason.is_final())
    }

    fn state_of(&self, version: &VersionName) -> Option<VersionState> {
        let versions = &self.report.as_ref()?.versions;
        versions.iter().find(|report| report.name == *version).map(|report| report.state)
    }
}

/// The nodes that must have a version before pods are given it: those that serve pods and have not given it up.
///
/// A node that never reported counts when it is no longer new, but only until the `patience` with it is over: there are
/// nodes on which no agent can ever run.
pub fn eligible<'n>(
    nodes: &'n [NodeView],
    config: &Config,
    version: &VersionName,
    patience_is_over: bool,
) -> impl Iterator<Item = &'n NodeView> {
    let counts = move |node: &&NodeView| {
        let expected = node.report.is_some() || (node.age >= SETTLING && !patience_is_over);
        node.ready && node.is_selected(config) && expected
    };
    nodes.iter().filter(counts).filter(move |node| !node.gave_up(version))
}
