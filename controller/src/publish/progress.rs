//! How far a version has come: on how many of the nodes that count it is ready, and whether they have the same.

use std::collections::BTreeMap;
use std::fmt;

use headstart_externals::arch::Arch;
use headstart_externals::config::{Config, Rollout};
use headstart_externals::state::{Phase, PublishedVersion};
use headstart_externals::version::VersionName;

use super::nodes::{Made, NodeView, is_mountable};
use super::phases::{Cluster, phase_of};

/// Of the nodes that lack a version, how many are named.
const NAMED: usize = 5;

/// Of the nodes that have the same tree, how many are named where others have another one.
const NAMED_BY_TREE: usize = 3;

/// Where a version is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Nodes that have it.
    pub ready: usize,
    /// Nodes that count and lack it.
    pub missing: usize,
    /// Those of them that gave it up and serve what is offered now: they would be lost to new pods.
    pub would_lose: usize,
    /// Nodes that gave it up and serve nothing in its place, and so do not count.
    pub given_up: usize,
    /// The first of those that lack it.
    pub waits_for: Vec<String>,
    /// Whether it has waited so long that most nodes will do.
    pub patience_is_over: bool,
    /// The architectures on which nodes have different trees of it.
    pub differs_on: BTreeMap<Arch, Trees>,
}

/// Whether the target of some profile is not offered yet, so that nodes are busy with it.
pub fn is_rolling(config: &Config, published: &[PublishedVersion]) -> bool {
    let targets = config.profiles.iter().map(|profile| &profile.revisions[profile.target()].version);
    targets.into_iter().any(|target| phase_of(published, target) != Some(Phase::Offered))
}

/// By tree, the nodes that have it.
pub(super) type Trees = BTreeMap<String, Holders>;

/// Nodes that have the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// How many there are.
    pub count: usize,
    /// The first of them.
    pub named: Vec<String>,
}

impl fmt::Display for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.named.join(", "))?;
        match self.count - self.named.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
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
    let counts = |node: &&NodeView| made.counts(node, config, patience_is_over);
    let has_it = |node: &&NodeView| !made.would_cost(node) && node.is_ready_with(made.version);
    let (having, lacking): (Vec<&NodeView>, Vec<&NodeView>) =
        nodes.iter().filter(counts).partition(|node| has_it(node));
    let gave_up = |node: &&NodeView| node.is_selected(config) && node.gave_up(made.version);
    let given_up = nodes.iter().filter(gave_up).filter(|node| !counts(node)).count();
    Progress {
        ready: having.len(),
        missing: lacking.len(),
        would_lose: lacking.iter().filter(|node| made.would_cost(node)).count(),
        given_up,
        waits_for: lacking.iter().take(NAMED).map(|node| node.name.clone()).collect(),
        patience_is_over,
        differs_on: differing(nodes, config, made.version),
    }
}

/// Sources may differ by architecture, and under one name by mirror: what nodes of one architecture have must not. What
/// silent agents said is no proof.
fn differing(nodes: &[NodeView], config: &Config, version: &VersionName) -> BTreeMap<Arch, Trees> {
    let mut found: BTreeMap<Arch, Trees> = BTreeMap::new();
    for node in nodes.iter().filter(|node| node.ready && !node.is_stale && node.is_selected(config)) {
        let reported = node.reported(version).filter(|reported| is_mountable(reported));
        let Some(tree) = reported.and_then(|reported| reported.tree.as_ref()) else { continue };
        let Some(report) = node.report.as_ref().filter(|report| report.arch != Arch::Unknown) else {
            continue;
        };
        let holders = found.entry(report.arch).or_default().entry(tree.clone()).or_default();
        holders.count += 1;
        if holders.named.len() < NAMED_BY_TREE {
            holders.named.push(node.name.clone());
        }
    }
    found.retain(|_, trees| trees.len() > 1);
    found
}

#[cfg(test)]
mod tests {
    use headstart_externals::fault::FaultReason;
    use headstart_externals::state::Phase::{Offered, Retiring};

    use super::super::played::{Leader, are, configured, node, on_node, ready, version};
    use super::*;

    fn full(has_old: bool) -> NodeView {
        let new = on_node(&version("b"), "failed", Some(FaultReason::DiskFull));
        let old = has_old.then(|| on_node(&version("a"), "ready", None));
        node("full", old.into_iter().chain([new]).collect())
    }

    #[test]
    fn nodes_that_serve_the_old_version_are_not_given_away_for_the_new_one() {
        let (old, new) = (configured(&["a"], None, ""), configured(&["a", "b"], None, ""));
        let mut leader = Leader::default();
        let offered = are(&[("a", Offered)]);
        assert_eq!(leader.round(&old, &[ready(&["a"])]), offered);
        let mut nodes = vec![ready(&["a", "b"]), full(true), full(true)];
        assert_eq!(leader.round(&new, &nodes), offered, "two of three would be lost");
        assert_eq!(leader.after(&new, 3600).round(&new, &nodes), offered, "however long it takes");
        nodes[1].is_stale = true;
        nodes[2].is_stale = true;
        assert_eq!(leader.round(&new, &nodes), offered, "a silent node is lost as well");
        nodes.truncate(1);
        nodes.extend(vec![full(false); 2]);
        let turned = are(&[("a", Retiring), ("b", Offered)]);
        assert_eq!(leader.round(&new, &nodes), turned, "they serve nobody now");
    }

    #[test]
    fn a_few_of_many_may_be_lost_after_a_while() {
        let (old, new) = (configured(&["a"], None, ""), configured(&["a", "b"], None, ""));
        let mut leader = Leader::default();
        leader.round(&old, &[ready(&["a"])]);
        let mut nodes = vec![ready(&["a", "b"]); 19];
        nodes.push(full(true));
        assert_eq!(leader.round(&new, &nodes), are(&[("a", Offered)]), "not at once");
        let turned = are(&[("a", Retiring), ("b", Offered)]);
        assert_eq!(leader.after(&new, 600).round(&new, &nodes), turned);
    }

    #[test]
    fn what_silent_agents_said_offers_nothing_and_is_waited_for_no_longer_than_no_report() {
        let config = configured(&["a"], None, "");
        let silent = NodeView { is_stale: true, ..ready(&["a"]) };
        let after = |seconds: u64, nodes: &[NodeView]| {
            Leader::default().after(&config, seconds).round(&config, nodes).len()
        };
        assert_eq!(after(3600, std::slice::from_ref(&silent)), 0, "it is no proof");
        let both = [ready(&["a"]), silent];
        assert_eq!((after(0, &both), after(600, &both)), (0, 1));
        let mut leader = Leader::default();
        leader.round(&config, &both[..1]);
        assert_eq!(leader.round(&config, &both[1..]), are(&[("a", Offered)]), "what is offered stays so");
    }

    #[test]
    fn nodes_with_different_trees_are_named_unless_their_agents_are_silent() {
        let config = configured(&["a"], None, "");
        let holding = |name: &str, tree: &str, is_stale| {
            let mut report = on_node(&version("a"), "ready", None);
            report.tree = Some(tree.to_owned());
            NodeView { is_stale, ..node(name, vec![report]) }
        };
        let mut nodes: Vec<NodeView> = ["1", "2", "3", "4"].map(|name| holding(name, "x", false)).into();
        nodes.push(holding("5", "y", true));
        assert!(differing(&nodes, &config, &version("a")).is_empty());
        nodes.push(holding("6", "y", false));
        let differs = differing(&nodes, &config, &version("a"));
        let told: Vec<String> =
            differs[&Arch::Amd64].iter().map(|(tree, on)| format!("{tree} on {on}")).collect();
        assert_eq!(told, ["x on 1, 2, 3 and 1 more", "y on 6"]);
    }
}
