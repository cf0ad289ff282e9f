//! Versions that the configuration does not know: taken out too early, retired before, or left on nodes by an earlier
//! life of the cluster.

use std::collections::{BTreeMap, HashSet};

use headstart_externals::config::{Config, Hooks, Profile};
use headstart_externals::state::{Phase, PublishedVersion};
use headstart_externals::version::VersionName;

use super::nodes::NodeView;
use super::phases::{Cluster, is_found, phase_of, unoffered};

/// Most versions that are published only so that agents may delete them; the others follow when these are gone.
pub(super) const MOST_LEFTOVERS: usize = 256;

/// What is published of them besides those that are `configured`. Each is retired like any other; then it stays listed as
/// long as a node reports it.
pub(super) fn forgotten(
    cluster: Cluster<'_>,
    before: &[PublishedVersion],
    configured: &[PublishedVersion],
) -> Vec<PublishedVersion> {
    let known = before.iter().filter(|old| !is_configured(cluster.config, &old.name));
    // Once for all of them: there may be hundreds, and a thousand nodes.
    let reports = cluster.nodes.iter().filter_map(|node| node.report.as_ref());
    let held: HashSet<&VersionName> =
        reports.flat_map(|report| &report.versions).map(|version| &version.name).collect();
    let stays = |old: &&PublishedVersion| {
        old.phase != Phase::Retired
            || cluster.carried.get(&old.name) == Some(&true)
            || held.contains(&old.name)
    };
    let phase = |old: &PublishedVersion| {
        let stays_offered = |profile| stays_offered(cluster, profile, old) && !offers(configured, profile);
        match cluster.config.profiles.iter().any(stays_offered) {
            true => Phase::Offered,
            false => unoffered(cluster, &old.name, Some(old.phase), true),
        }
    };
    let mut versions: Vec<PublishedVersion> =
        known.filter(stays).map(|old| PublishedVersion { phase: phase(old), ..old.clone() }).collect();
    let room = MOST_LEFTOVERS.saturating_sub(versions.iter().filter(|version| is_leftover(version)).count());
    versions.extend(leftovers(cluster, before).into_iter().take(room).map(nameless));
    versions
}

/// Whether `old` is offered in `profile` although its revision was taken out, and stays so until another one is ready: a
/// revision that is replaced in place leaves no pod without the cache.
pub(super) fn stays_offered(cluster: Cluster<'_>, profile: &Profile, old: &PublishedVersion) -> bool {
    old.phase == Phase::Offered
        && old.name.profile() == profile.name
        && !is_configured(cluster.config, &old.name)
        && is_found(cluster, &old.name)
}

fn offers(published: &[PublishedVersion], profile: &Profile) -> bool {
    let is_offered = |version: &PublishedVersion| version.phase == Phase::Offered;
    published.iter().any(|version| is_offered(version) && version.name.profile() == profile.name)
}

/// Whether nothing is known of a version but that some node holds it.
pub fn is_leftover(version: &PublishedVersion) -> bool {
    version.recipe.is_none() && version.images.is_empty()
}

/// Versions that were published and pods may name, although the configuration has lost them.
pub(super) fn taken_out_early<'s>(config: &Config, versions: &'s [PublishedVersion]) -> Vec<&'s VersionName> {
    let is_early = |version: &&PublishedVersion| {
        let is_live = matches!(version.phase, Phase::Offered | Phase::Retiring);
        is_live && !is_leftover(version) && !is_configured(config, &version.name)
    };
    versions.iter().filter(is_early).map(|version| &version.name).collect()
}

pub(super) fn is_configured(config: &Config, version: &VersionName) -> bool {
    config.revisions().any(|(_, revision)| revision.version == *version)
}

/// What nodes hold and nobody knows. An agent may have read a newer configuration: what one wants is left alone.
fn leftovers(cluster: Cluster<'_>, before: &[PublishedVersion]) -> Vec<VersionName> {
    let mut found: BTreeMap<&VersionName, bool> = BTreeMap::new();
    let reports = cluster.nodes.iter().filter_map(|node: &NodeView| node.report.as_ref());
    for version in reports.flat_map(|report| &report.versions) {
        *found.entry(&version.name).or_default() |= version.wanted;
    }
    let is_unknown = |version: &VersionName| {
        phase_of(before, version).is_none() && !is_configured(cluster.config, version)
    };
    let unwanted = found.into_iter().filter(|(_, is_wanted)| !is_wanted).map(|(version, _)| version);
    unwanted.filter(|version| is_unknown(version)).cloned().collect()
}

/// Stands for no image: pods that name it may keep it, and no other gets it.
fn nameless(name: VersionName) -> PublishedVersion {
    PublishedVersion {
        name,
        phase: Phase::Retiring,
        images: Vec::new(),
        omit: Vec::new(),
        hooks: Hooks::default(),
        volume_image: None,
        arches: Default::default(),
        recipe: None,
    }
}

#[cfg(test)]
mod tests {
    use headstart_externals::state::Phase::{Offered, Retired, Retiring};

    use super::super::played::{Leader, are, configured, node, on_node, ready, version};
    use super::*;

    fn unknown(number: usize) -> VersionName {
        format!("old-{number:012x}").parse().unwrap()
    }

    #[test]
    fn a_revision_that_was_taken_out_early_stays_until_no_pod_carries_it() {
        let (both, last) = (configured(&["a", "b"], None, ""), configured(&["b"], None, ""));
        let (mut leader, nodes) = (Leader::default(), [ready(&["a", "b"])]);
        leader.round(&both, &nodes);
        leader.pods = vec![version("a")];
        let kept = are(&[("b", Offered), ("a", Retiring)]);
        assert_eq!(leader.after(&last, 3600).round(&last, &nodes), kept, "with its recipe");
        assert_eq!(taken_out_early(&last, &leader.published), [&version("a")]);
        assert!(taken_out_early(&both, &leader.published).is_empty());
        leader.pods.clear();
        assert_eq!(leader.round(&last, &nodes), are(&[("b", Offered), ("a", Retired)]));
        assert!(taken_out_early(&last, &leader.published).is_empty());
    }

    #[test]
    fn a_revision_that_is_replaced_in_place_is_offered_until_the_new_one_is_ready() {
        let (old, new) = (configured(&["a"], None, ""), configured(&["b"], None, ""));
        let paused = configured(&["b"], None, "rollout: {paused: true}");
        let (mut leader, nodes) = (Leader::default(), [ready(&["a", "b"])]);
        leader.round(&old, &nodes[..1]);
        let kept = are(&[("a", Offered)]);
        assert_eq!(leader.round(&new, &[ready(&["a"])]), kept, "nobody has the new one");
        assert_eq!(taken_out_early(&new, &leader.published), [&version("a")]);
        assert_eq!(leader.after(&new, 3600).round(&new, &[ready(&["a"])]), kept, "however long it takes");
        assert_eq!(leader.round(&paused, &nodes), kept, "a pause offers nothing new");
        assert_eq!(leader.round(&new, &nodes), are(&[("b", Offered), ("a", Retiring)]));
        assert_eq!(leader.after(&new, 300).round(&new, &nodes), are(&[("b", Offered), ("a", Retired)]));
        let mut lost = Leader::default();
        lost.round(&old, &nodes);
        let none = node("one", vec![]);
        assert_eq!(lost.round(&new, &[none]), are(&[("a", Retiring)]), "no node has it any more");
    }

    #[test]
    fn an_older_revision_does_not_stand_in_for_one_that_was_taken_out_and_is_still_there() {
        let (mut leader, both) = (Leader::default(), [ready(&["a", "b"])]);
        leader.round(&configured(&["a", "b"], None, ""), &both);
        let next = configured(&["a", "c"], None, "");
        assert_eq!(leader.round(&next, &both), are(&[("a", Retiring), ("b", Offered)]));
        let back = configured(&["a"], None, "");
        assert_eq!(
            leader.round(&back, &both),
            are(&[("a", Offered), ("b", Retiring)]),
            "it is the target now"
        );
    }

    #[test]
    fn a_profile_that_was_taken_out_whole_is_not_offered_any_more() {
        let mut leader = Leader::default();
        leader.round(&configured(&["a"], None, ""), &[ready(&["a"])]);
        let other = "apiVersion: headstart.dev/v1\nprofiles:\n  - name: other\n    preset: node16\n    revisions:\n      \
                     - {revision: b, source: {directory: {path: /x}}}\n";
        let other = Config::parse(other).unwrap();
        assert_eq!(leader.round(&other, &[ready(&["a"])]), are(&[("a", Retiring)]));
    }

    #[test]
    fn what_nobody_knows_is_retired_before_it_is_deleted() {
        let config = configured(&["a"], None, "");
        let held = |state: &str| {
            node("one", vec![on_node(&version("a"), "ready", None), on_node(&unknown(1), state, None)])
        };
        let mut leader = Leader::default();
        assert_eq!(
            leader.round(&config, &[held("ready")]).len(),
            1,
            "an agent wants it, so it is no leftover"
        );
        let name = unknown(1).to_string();
        let known = |phase| are(&[("a", Offered), (name.as_str(), phase)]);
        assert_eq!(leader.round(&config, &[held("kept")]), known(Retiring));
        leader.pods = vec![unknown(1)];
        assert_eq!(leader.after(&config, 300).round(&config, &[held("kept")]), known(Retiring));
        leader.pods.clear();
        assert_eq!(leader.round(&config, &[held("kept")]), known(Retired));
        assert_eq!(leader.round(&config, &[held("kept")]), known(Retired));
        assert_eq!(leader.round(&config, &[ready(&["a"])]), are(&[("a", Offered)]));
        let leftover = nameless(unknown(1));
        assert!(leftover.images.is_empty() && leftover.recipe.is_none(), "it stands for nothing");
    }

    #[test]
    fn a_node_that_returns_with_a_version_whose_life_is_over_keeps_it_as_long_as_a_pod_carries_it() {
        let (both, last) = (configured(&["a", "b"], None, ""), configured(&["b"], None, ""));
        let (a, here) = (version("a"), ready(&["b"]));
        let mut leader = Leader::default();
        leader.round(&both, &[ready(&["a", "b"])]);
        // Away: what it last said is all that is known, then not even that.
        let away = NodeView { is_stale: true, ..node("away", vec![on_node(&a, "ready", None)]) };
        let mute = NodeView { report: None, ..away.clone() };
        leader.after(&both, 300).round(&both, &[here.clone(), away.clone()]);
        let listed = are(&[("b", Offered), ("a", Retired)]);
        assert_eq!(leader.round(&last, &[here.clone(), away]), listed, "it may come back with it");
        assert_eq!(leader.round(&last, &[here.clone(), mute]), are(&[("b", Offered)]));

        let held = [on_node(&a, "kept", None), on_node(&version("b"), "installing", None)];
        let nodes = [here.clone(), node("away", held.into())];
        let name = a.to_string();
        leader.pods = vec![a];
        let known = |phase| are(&[("b", Offered), (name.as_str(), phase)]);
        let kept = known(Retiring);
        assert_eq!(leader.round(&last, &nodes), kept);
        assert_eq!(leader.after(&last, 3600).round(&last, &nodes), kept, "its pod goes on");
        leader.pods.clear();
        assert_eq!(leader.round(&last, &nodes), known(Retired));
        assert_eq!(leader.round(&last, &nodes), known(Retired), "until its agent has deleted it");
        assert_eq!(leader.round(&last, &[here.clone(), here]), are(&[("b", Offered)]));
    }

    #[test]
    fn leftovers_are_bounded_and_never_push_out_what_is_configured() {
        let config = configured(&["a", "b"], None, "");
        let mut nodes: Vec<NodeView> = (0..40)
            .map(|at| {
                let mut view = ready(&["a", "b"]);
                let held = (0..25).map(|number| on_node(&unknown(at * 25 + number), "kept", None));
                view.report.as_mut().unwrap().versions.extend(held);
                view
            })
            .collect();
        let mut leader = Leader::default();
        leader.round(&config, &nodes);
        assert_eq!((leader.leftovers(), leader.published.len()), (MOST_LEFTOVERS, MOST_LEFTOVERS + 2));
        leader.after(&config, 300).round(&config, &nodes);
        assert!(leader.published.iter().all(|known| known.phase == Retired || known.name == version("b")));
        // Those that nodes have deleted make room.
        for view in &mut nodes[..20] {
            view.report.as_mut().unwrap().versions.truncate(2);
        }
        leader.round(&config, &nodes);
        assert_eq!(leader.leftovers(), MOST_LEFTOVERS);
        assert!(leader.published.iter().any(|known| known.phase == Retiring), "others follow");
    }
}
