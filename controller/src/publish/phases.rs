//! Which version of each profile new pods are given, and which older ones stay known.
//!
//! A version's life: not published → offered → retiring → retired → gone.

use std::collections::HashMap;
use std::time::Duration;

use headstart_externals::config::{Config, Hooks, Profile};
use headstart_externals::state::{Phase, PublishedVersion};
use headstart_externals::version::VersionName;

use super::forgotten::{forgotten, stays_offered};
use super::nodes::{Made, NodeView};
use super::progress::progress;
use super::template::own_template;

/// What is known of the cluster.
#[derive(Clone, Copy)]
pub struct Cluster<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// All nodes.
    pub nodes: &'a [NodeView],
    /// What takes time.
    pub ages: &'a Ages,
    /// Of the versions that were asked about, whether an unfinished pod carries them.
    pub carried: &'a HashMap<VersionName, bool>,
}

/// How long what lasts in this leader's term, by its own clock: a new leader waits anew.
#[derive(Clone, Debug, Default)]
pub struct Ages {
    /// How long each version that is to be offered has waited for it.
    pub waited: HashMap<VersionName, Duration>,
    /// How long each retiring version has been published as such.
    pub rested: HashMap<VersionName, Duration>,
}

/// The versions to publish, in the order of the configuration; what the configuration does not know comes last, since
/// pods may still name it or nodes hold it.
///
/// Of each profile the target is offered as soon as it is ready wherever it counts; until then what is offered stays so,
/// also where its revision was taken out already, as long as any node has it or there is none: where nodes lack it, new
/// pods had better stay as they are. What is not offered any more is retiring, and retired once nobody was given it for
/// long and no pod carries it. What is newer is not published yet.
pub(super) fn phases(cluster: Cluster<'_>, before: &[PublishedVersion]) -> Vec<PublishedVersion> {
    let mut versions: Vec<PublishedVersion> =
        cluster.config.profiles.iter().flat_map(|profile| of_profile(cluster, profile, before)).collect();
    let forgotten = forgotten(cluster, before, &versions);
    versions.extend(forgotten);
    versions
}

/// A version of which it must be known whether pods carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Which.
    pub version: VersionName,
    /// Whether it is retired already, and not only about to be.
    pub is_retired: bool,
}

/// The versions whose phase depends on that: those about to be retired, and those that are.
pub fn questions(cluster: Cluster<'_>, before: &[PublishedVersion]) -> Vec<Question> {
    let nobody = before.iter().map(|version| (version.name.clone(), false)).collect();
    let supposed = phases(Cluster { carried: &nobody, ..cluster }, before);
    let retired = supposed.into_iter().filter(|version| version.phase == Phase::Retired);
    retired
        .map(|version| Question {
            is_retired: phase_of(before, &version.name) == Some(Phase::Retired),
            version: version.name,
        })
        .collect()
}

/// Where `version` was in its life.
pub(super) fn phase_of(before: &[PublishedVersion], version: &VersionName) -> Option<Phase> {
    before.iter().find(|old| old.name == *version).map(|old| old.phase)
}

fn of_profile(cluster: Cluster<'_>, profile: &Profile, before: &[PublishedVersion]) -> Vec<PublishedVersion> {
    let offered = offered(cluster, profile, before);
    let phase = |at: usize| {
        let version = &profile.revisions[at].version;
        let old = phase_of(before, version);
        if offered == Some(at) {
            return Some(Phase::Offered);
        }
        if old.is_none() && offered.is_none_or(|offered| at > offered) {
            return None;
        }
        // What is to be offered does not go, and nothing goes while nothing takes its place.
        let may_go = offered.is_some() && at != profile.target();
        Some(unoffered(cluster, version, old, may_go))
    };
    let published = profile.revisions.iter().enumerate().filter_map(|(at, revision)| {
        let own_template = own_template(cluster.nodes, profile, revision, before);
        Some(PublishedVersion {
            hooks: Hooks { own_template, ..profile.hooks.clone() },
            ..PublishedVersion::of(profile, revision, phase(at)?)
        })
    });
    published.collect()
}

/// Which revision is offered: the target if it is ready or offered already, else what is offered, else the newest that
/// is ready and not newer than the target. None, where what is offered is none of the configured ones.
fn offered(cluster: Cluster<'_>, profile: &Profile, before: &[PublishedVersion]) -> Option<usize> {
    let is_paused = cluster.config.rollout.paused;
    let phase = |at: usize| phase_of(before, &profile.revisions[at].version);
    let is_ready = |at: usize| {
        let revision = &profile.revisions[at];
        let arches = revision.source.arches();
        progress(cluster, Made::new(&revision.version, &arches, before)).is_enough(&cluster.config.rollout)
    };
    let lasts = |at: usize| is_found(cluster, &profile.revisions[at].version);
    let all = 0..profile.revisions.len();
    let current = all.rev().find(|at| phase(*at) == Some(Phase::Offered) && lasts(*at));
    let target = profile.target();
    if current == Some(target) || (!is_paused && is_ready(target)) {
        return Some(target);
    }
    if current.is_none() && before.iter().any(|old| stays_offered(cluster, profile, old)) {
        return None;
    }
    // Even a pause lets come back what only was away.
    let may_stand_in = |at: &usize| !is_paused || phase(*at) == Some(Phase::Retiring);
    current.or_else(|| (0..=target).rev().find(|at| may_stand_in(at) && is_ready(*at)))
}

/// Whether pods that are given `version` find it on some node. Nothing speaks against it where there is none but new ones:
/// the first nodes of a pool that was scaled to zero bring it.
pub(super) fn is_found(cluster: Cluster<'_>, version: &VersionName) -> bool {
    let selected = cluster.nodes.iter().filter(|node| node.is_selected(cluster.config));
    let mut settled = selected.filter(|node| node.has(version) || !node.is_settling_in(version)).peekable();
    settled.peek().is_none() || settled.any(|node| node.has(version))
}

/// The phase of a version that was `old` and is not offered now.
pub(super) fn unoffered(
    cluster: Cluster<'_>,
    version: &VersionName,
    old: Option<Phase>,
    may_go: bool,
) -> Phase {
    let rollout = &cluster.config.rollout;
    let has_rested = || cluster.ages.rested.get(version).is_some_and(|rested| *rested >= rollout.grace);
    match (old, cluster.carried.get(version)) {
        // By a webhook that had not heard of it, or by hand.
        (Some(Phase::Retired), Some(true)) => Phase::Retiring,
        (Some(Phase::Retired), _) => Phase::Retired,
        (Some(Phase::Retiring), Some(false)) if may_go && !rollout.paused && has_rested() => Phase::Retired,
        _ => Phase::Retiring,
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use headstart_externals::fault::FaultReason;
    use headstart_externals::state::Phase::{Offered, Retired, Retiring};

    use super::super::played::{Leader, are, configured, node, on_node, ready, version};
    use super::*;

    fn at_once(config: &Config, nodes: &[NodeView]) -> Vec<(String, Phase)> {
        Leader::default().round(config, nodes)
    }

    fn patient(config: &Config, nodes: &[NodeView]) -> Vec<(String, Phase)> {
        Leader::default().after(config, 600).round(config, nodes)
    }

    #[test]
    fn nothing_is_offered_before_every_node_has_it() {
        let config = configured(&["a"], None, "");
        assert!(at_once(&config, &[]).is_empty(), "an empty cluster proves nothing");
        let late = node("two", vec![on_node(&version("a"), "installing", None)]);
        assert!(at_once(&config, &[ready(&["a"]), late]).is_empty());
        let kept = node("two", vec![on_node(&version("a"), "kept", None)]);
        assert!(at_once(&config, &[ready(&["a"]), kept]).is_empty(), "its agent may be about to delete it");
        assert_eq!(at_once(&config, &[ready(&["a"])]), are(&[("a", Offered)]));
    }

    #[test]
    fn nodes_that_do_not_count_hold_nothing_up() {
        let config = configured(&["a"], None, "");
        let down = NodeView { ready: false, ..node("down", vec![]) };
        let new = NodeView { report: None, age: Duration::from_secs(30), ..node("new", vec![]) };
        let failed = |reason| node("failed", vec![on_node(&version("a"), "failed", Some(reason))]);
        let broken = failed(FaultReason::NoExec);
        let foreign = failed(FaultReason::NoSourceForArch);
        let other = NodeView {
            report: None,
            labels: [("kubernetes.io/arch".to_owned(), "s390x".to_owned())].into(),
            ..node("other", vec![])
        };
        for node in [down, new, broken, foreign, other] {
            assert_eq!(at_once(&config, &[ready(&["a"]), node.clone()]).len(), 1, "{node:?}");
        }
        assert!(at_once(&config, &[ready(&["a"]), failed(FaultReason::SourceDenied)]).is_empty());
    }

    #[test]
    fn an_old_node_without_an_agent_is_waited_for_but_not_for_ever() {
        let config = configured(&["a"], None, "");
        let silent = NodeView { report: None, ..node("silent", vec![]) };
        let nodes = [ready(&["a"]), silent];
        assert!(at_once(&config, &nodes).is_empty());
        assert_eq!(patient(&config, &nodes).len(), 1);
        assert!(patient(&config, &nodes[1..]).is_empty(), "somebody must have it");
    }

    #[test]
    fn a_few_nodes_that_fail_do_not_hold_up_many() {
        let failing = node("x", vec![on_node(&version("a"), "failed", Some(FaultReason::SourceUnavailable))]);
        let config = configured(&["a"], None, "");
        let mut nodes = vec![ready(&["a"]); 19];
        nodes.push(failing.clone());
        assert!(at_once(&config, &nodes).is_empty());
        assert_eq!(patient(&config, &nodes).len(), 1);
        nodes.push(failing);
        assert!(patient(&config, &nodes).is_empty(), "two of 21 are too many");
        let easy = configured(&["a"], None, "rollout: {percent: 90}");
        assert_eq!(patient(&easy, &nodes).len(), 1);
        let slow = configured(&["a"], None, "rollout: {percent: 90, waitSeconds: 601}");
        assert!(patient(&slow, &nodes).is_empty());
    }

    #[test]
    fn a_version_that_no_node_has_any_more_is_not_offered_until_one_has_it_again() {
        let config = configured(&["a"], None, "");
        let mut leader = Leader::default();
        leader.round(&config, &[ready(&["a"])]);
        let broken = node("one", vec![on_node(&version("a"), "failed", Some(FaultReason::DiskFull))]);
        assert_eq!(leader.round(&config, from_ref(&broken)), are(&[("a", Retiring)]));
        let never = leader.after(&config, 3600).round(&config, &[broken]);
        assert_eq!(never, are(&[("a", Retiring)]), "what is to be offered is never retired");
        assert_eq!(leader.round(&config, &[ready(&["a"])]), are(&[("a", Offered)]));
    }

    #[test]
    fn what_is_offered_stays_so_while_there_are_no_nodes_but_new_ones() {
        let selecting = "nodeSelector: {pool: x}";
        let config = configured(&["a"], None, selecting);
        let mut leader = Leader::default();
        let labels = [("pool".to_owned(), "x".to_owned())];
        let selected = |revisions: &[&str]| NodeView { labels: labels.clone().into(), ..ready(revisions) };
        leader.round(&config, &[selected(&["a"])]);
        let other = ready(&[]);
        assert_eq!(leader.round(&config, from_ref(&other)), are(&[("a", Offered)]), "its pool is empty");
        let replaced = configured(&["b"], None, selecting);
        assert_eq!(leader.round(&replaced, &[]), are(&[("a", Offered)]));
        let new = NodeView { age: Duration::from_secs(30), ..selected(&[]) };
        assert_eq!(
            leader.round(&config, &[other.clone(), new]),
            are(&[("a", Offered)]),
            "it is about to come"
        );
        let report = vec![on_node(&version("a"), "failed", Some(FaultReason::SourceDenied))];
        let failed =
            NodeView { age: Duration::from_secs(30), labels: labels.clone().into(), ..node("one", report) };
        assert_eq!(leader.round(&config, &[failed]), are(&[("a", Retiring)]), "it does not come");
        leader.round(&config, &[selected(&["a"])]);
        assert_eq!(
            leader.round(&config, &[other, selected(&[])]),
            are(&[("a", Retiring)]),
            "a node lacks it"
        );
    }

    #[test]
    fn an_upgrade_ends_with_the_old_version_retired_once_it_has_rested_and_no_pod_carries_it() {
        let (old, new) = (configured(&["a"], None, ""), configured(&["a", "b"], None, ""));
        let mut leader = Leader::default();
        leader.round(&old, &[ready(&["a"])]);
        assert_eq!(leader.round(&new, &[ready(&["a"])]), are(&[("a", Offered)]));
        let nodes = [ready(&["a", "b"])];
        let both = are(&[("a", Retiring), ("b", Offered)]);
        assert_eq!(leader.round(&new, &nodes), both);
        leader.pods = vec![version("a")];
        assert_eq!(leader.after(&new, 3600).round(&new, &nodes), both, "a pod carries it");
        leader.pods.clear();
        assert_eq!(leader.after(&new, 299).round(&new, &nodes), both, "a webhook may still give it");
        assert_eq!(leader.after(&new, 300).round(&new, &nodes), are(&[("a", Retired), ("b", Offered)]));
        // Listed as long as it is configured; then as long as a node holds it.
        let last = configured(&["b"], None, "");
        assert_eq!(leader.round(&new, &[ready(&["b"])]), are(&[("a", Retired), ("b", Offered)]));
        assert_eq!(leader.round(&last, &nodes), are(&[("b", Offered), ("a", Retired)]));
        assert_eq!(leader.round(&last, &[ready(&["b"])]), are(&[("b", Offered)]));
    }

    #[test]
    fn what_could_not_be_asked_is_not_retired() {
        let config = configured(&["a", "b"], None, "");
        let mut leader = Leader::default();
        leader.round(&config, &[ready(&["a", "b"])]);
        leader.after(&config, 3600);
        let (nodes, nothing) = ([ready(&["a", "b"])], HashMap::new());
        let cluster = Cluster { config: &config, nodes: &nodes, ages: &leader.ages, carried: &nothing };
        let asked = questions(cluster, &leader.published);
        assert_eq!(asked, [Question { version: version("a"), is_retired: false }]);
        assert_eq!(phases(cluster, &leader.published)[0].phase, Retiring);
    }

    #[test]
    fn a_new_leader_begins_the_grace_anew_and_keeps_what_was_retired() {
        let config = configured(&["a", "b", "c"], None, "");
        let mut leader = Leader::default();
        leader.round(&config, &[ready(&["a", "b", "c"])]);
        leader.ages.rested = [(version("a"), Duration::from_secs(300))].into();
        let known = are(&[("a", Retired), ("b", Retiring), ("c", Offered)]);
        assert_eq!(leader.round(&config, &[ready(&["a", "b", "c"])]), known);
        let mut next = Leader { published: leader.published, ..Leader::default() };
        assert_eq!(next.round(&config, &[ready(&["a", "b", "c"])]), known);
    }

    #[test]
    fn a_retired_version_that_a_pod_carries_again_is_kept() {
        let config = configured(&["a", "b"], None, "");
        let (mut leader, nodes) = (Leader::default(), [ready(&["a", "b"])]);
        leader.round(&config, &nodes);
        assert_eq!(leader.after(&config, 300).round(&config, &nodes)[0].1, Retired);
        leader.pods = vec![version("a")];
        assert_eq!(leader.round(&config, &nodes)[0].1, Retiring);
    }

    #[test]
    fn a_roll_back_offers_the_older_one_and_retires_the_newer() {
        let config = configured(&["a", "b"], None, "");
        let back = configured(&["a", "b"], Some("a"), "");
        let (mut leader, nodes) = (Leader::default(), [ready(&["a", "b"])]);
        leader.round(&config, &nodes);
        assert_eq!(leader.after(&config, 300).round(&config, &nodes), are(&[("a", Retired), ("b", Offered)]));
        // The older one was deleted already: it must come back first.
        assert_eq!(leader.round(&back, &[ready(&["b"])]), are(&[("a", Retired), ("b", Offered)]));
        let turned = are(&[("a", Offered), ("b", Retiring)]);
        assert_eq!(leader.round(&back, &nodes), turned);
        assert_eq!(leader.after(&back, 300).round(&back, &nodes), are(&[("a", Offered), ("b", Retired)]));
        assert_eq!(
            leader.round(&config, &nodes),
            are(&[("a", Retiring), ("b", Offered)]),
            "and forward again"
        );
    }

    #[test]
    fn a_newer_revision_than_the_one_to_offer_is_not_published() {
        let config = configured(&["a", "b"], Some("a"), "");
        assert_eq!(at_once(&config, &[ready(&["a", "b"])]), are(&[("a", Offered)]));
        assert!(at_once(&config, &[ready(&["b"])]).is_empty(), "nor does it stand in");
        let newest = configured(&["a", "b"], None, "");
        assert_eq!(at_once(&newest, &[ready(&["a"])]), are(&[("a", Offered)]), "an older one does");
    }

    #[test]
    fn a_pause_offers_and_retires_nothing() {
        let paused = configured(&["a", "b"], None, "rollout: {paused: true}");
        let nodes = [ready(&["a", "b"])];
        assert!(at_once(&paused, &nodes).is_empty());
        let mut leader = Leader::default();
        leader.round(&configured(&["a"], None, ""), &nodes);
        assert_eq!(leader.after(&paused, 3600).round(&paused, &nodes), are(&[("a", Offered)]));
        let away = leader.round(&paused, &[node("one", vec![])]);
        assert_eq!(away, are(&[("a", Retiring)]));
        assert_eq!(leader.round(&paused, &nodes), are(&[("a", Offered)]), "what was only away comes back");
        let going = configured(&["a", "b"], None, "");
        leader.round(&going, &nodes);
        let rests = are(&[("a", Retiring), ("b", Offered)]);
        assert_eq!(leader.after(&paused, 3600).round(&paused, &nodes), rests);
        assert_eq!(leader.round(&going, &nodes), are(&[("a", Retired), ("b", Offered)]));
    }

    #[test]
    fn a_version_whose_trees_differ_is_not_offered_anew() {
        let config = configured(&["a"], None, "");
        let holding = |tree: &str, arch| {
            let mut view = ready(&["a"]);
            let report = view.report.as_mut().unwrap();
            report.versions[0].tree = Some(tree.to_owned());
            report.arch = arch;
            view
        };
        use headstart_externals::arch::Arch::{Amd64, Arm64};
        let same = [holding("1", Amd64), holding("1", Amd64), holding("2", Arm64)];
        let differ = [holding("1", Amd64), holding("2", Amd64)];
        assert_eq!(at_once(&config, &same), are(&[("a", Offered)]));
        assert!(at_once(&config, &differ).is_empty());
        let mut leader = Leader::default();
        leader.round(&config, &same);
        assert_eq!(leader.round(&config, &differ), are(&[("a", Offered)]), "what is offered stays so");
    }
}
