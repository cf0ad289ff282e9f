//! How far a version has come: on how many of the nodes that count it is ready, and whether they have the same.

use std::collections::{BTreeMap, BTreeSet};

use headstart_externals::arch::Arch;
use headstart_externals::config::Rollout;
use headstart_externals::version::VersionName;

use super::nodes::{Made, NodeView, eligible, is_mountable};
use super::phases::Cluster;

/// Of the nodes that lack a version, how many are named.
const NAMED: usize = 5;

/// Where a version is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Nodes that have it.
    pub ready: usize,
    /// Nodes that count and lack it.
    pub missing: usize,
    /// Nodes that gave it up, and so do not count.
    pub given_up: usize,
    /// The first of those that lack it.
    pub waits_for: Vec<String>,
    /// Whether it has waited so long that most nodes will do.
    pub patience_is_over: bool,
    /// The architectures on which nodes have different trees of it.
    pub differs_on: BTreeSet<Arch>,
}

impl Progress {
    /// Whether pods may begin to be given it: all nodes that count have it, or after some time enough of them. At least
    /// one must: an empty cluster proves nothing. Where its trees differ, nobody knows which is right.
    pub fn is_enough(&self, rollout: &Rollout) -> bool {
        let all = self.ready + self.missing;
        let most = self.patience_is_over && self.ready * 100 >= all * usize::from(rollout.percent);
        self.ready > 0 && self.differs_on.is_empty() && (self.missing == 0 || most)
    }
}

/// Counts the nodes.
pub(super) fn progress(cluster: Cluster<'_>, made: Made<'_>) -> Progress {
    let Cluster { config, nodes, ages, .. } = cluster;
    let waited = ages.waited.get(made.version);
    let patience_is_over = waited.is_some_and(|waited| *waited >= config.rollout.wait);
    let (having, lacking): (Vec<&NodeView>, Vec<&NodeView>) =
        eligible(nodes, config, made, patience_is_over).partition(|node| node.is_ready_with(made.version));
    let gave_up = |node: &&NodeView| node.is_selected(config) && node.gave_up(made.version);
    Progress {
        ready: having.len(),
        missing: lacking.len(),
        given_up: nodes.iter().filter(gave_up).count(),
        waits_for: lacking.iter().take(NAMED).map(|node| node.name.clone()).collect(),
        patience_is_over,
        differs_on: differing(cluster, made.version),
    }
}

/// Sources may differ by architecture, and under one name by mirror: what nodes of one architecture have must not.
fn differing(cluster: Cluster<'_>, version: &VersionName) -> BTreeSet<Arch> {
    let mut trees: BTreeMap<Arch, BTreeSet<&str>> = BTreeMap::new();
    for node in cluster.nodes.iter().filter(|node| node.ready && node.is_selected(cluster.config)) {
        let reported = node.reported(version).filter(|reported| is_mountable(reported));
        if let (Some(report), Some(tree)) =
            (&node.report, reported.and_then(|reported| reported.tree.as_ref()))
        {
            trees.entry(report.arch).or_default().insert(tree);
        }
    }
    trees.into_iter().filter(|(_, trees)| trees.len() > 1).map(|(arch, _)| arch).collect()
}
