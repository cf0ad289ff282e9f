//! Which version of each profile new pods are given, and which older ones stay known.

use std::collections::HashMap;
use std::time::Duration;

use headstart_externals::config::{Config, Hooks, Revision};
use headstart_externals::state::{Phase, PublishedVersion};
use headstart_externals::version::VersionName;

use super::nodes::{NodeView, SETTLING, eligible};
use super::template::own_template;

/// Of a hundred nodes that count, how many must have a version once it has waited long enough.
const ENOUGH: usize = 95;

/// What is known of the cluster.
#[derive(Clone, Copy)]
pub struct Cluster<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// All nodes.
    pub nodes: &'a [NodeView],
    /// How long each configured version has been waiting to be offered.
    pub waited: &'a HashMap<VersionName, Duration>,
}

/// The versions to publish, in the order of the configuration; versions that were published and are not configured any
/// more come last, since pods may still name them.
///
/// Of each profile the newest revision that is ready wherever it counts is offered, and stays so until a newer one is,
/// as long as any node has it: where none has, new pods had better stay as they are. Older ones are retiring, newer ones
/// are not published yet.
pub fn phases(cluster: Cluster<'_>, before: &[PublishedVersion]) -> Vec<PublishedVersion> {
    let mut versions = Vec::new();
    for profile in &cluster.config.profiles {
        let known = |revision: &Revision| before.iter().any(|old| old.name == revision.version);
        let newest = profile
            .revisions
            .iter()
            .rposition(|revision| known(revision) || is_ready(cluster, &revision.version));
        let published_so_far = newest.map_or(0, |newest| newest + 1);
        let offered = newest.filter(|newest| {
            let version = &profile.revisions[*newest].version;
            cluster.nodes.iter().any(|node| node.is_selected(cluster.config) && node.has(version))
        });
        versions.extend(profile.revisions.iter().take(published_so_far).enumerate().map(|(at, revision)| {
            let phase = if Some(at) == offered { Phase::Offered } else { Phase::Retiring };
            let own_template = own_template(cluster.nodes, profile, revision, before);
            PublishedVersion {
                hooks: Hooks { own_template, ..profile.hooks.clone() },
                ..PublishedVersion::of(profile, revision, phase)
            }
        }));
    }
    let is_configured =
        |old: &PublishedVersion| cluster.config.revisions().any(|(_, new)| new.version == old.name);
    let forgotten = before.iter().filter(|old| !is_configured(old));
    versions.extend(forgotten.map(|old| PublishedVersion { phase: after_removal(old.phase), ..old.clone() }));
    versions
}

/// Whether all nodes that count have it, or after some time enough of them. At least one must: an empty cluster proves
/// nothing.
fn is_ready(cluster: Cluster<'_>, version: &VersionName) -> bool {
    let patience_is_over = cluster.waited.get(version).is_some_and(|waited| *waited >= SETTLING);
    let (mut having, mut all) = (0, 0);
    for node in eligible(cluster.nodes, cluster.config, version, patience_is_over) {
        all += 1;
        having += usize::from(node.has(version));
    }
    having > 0 && (having == all || (patience_is_over && having * 100 >= all * ENOUGH))
}

/// A revision that was taken out too early is not offered, but its pods keep their version.
fn after_removal(phase: Phase) -> Phase {
    match phase {
        Phase::Offered | Phase::Retiring => Phase::Retiring,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use headstart_externals::arch::Arch;
    use headstart_externals::fault::FaultReason;
    use headstart_externals::report::{NodeReport, VersionReport, VersionState};

    use super::*;

    fn config(revisions: &[&str]) -> Config {
        let revisions: String = revisions
            .iter()
            .map(|name| format!("      - {{revision: {name}, source: {{directory: {{path: /x}}}}}}\n"))
            .collect();
        let text = format!(
            "apiVersion: headstart.dev/v1\nprofiles:\n  - name: node16\n    preset: node16\n    revisions:\n{revisions}"
        );
        Config::parse(&text).unwrap()
    }

    fn names(config: &Config) -> Vec<VersionName> {
        config.revisions().map(|(_, revision)| revision.version.clone()).collect()
    }

    fn node(name: &str, versions: &[(&VersionName, VersionState, Option<FaultReason>)]) -> NodeView {
        let versions = versions.iter().map(|(name, state, reason)| VersionReport {
            name: (*name).clone(),
            state: *state,
            reason: *reason,
            ..serde_json::from_str(&format!(r#"{{"name":"{name}","state":"ready","wanted":true}}"#)).unwrap()
        });
        NodeView {
            name: name.to_owned(),
            labels: BTreeMap::new(),
            ready: true,
            age: Duration::from_secs(3600),
            report: Some(NodeReport::new(name, Arch::Amd64, None, versions.collect())),
        }
    }

    fn told(versions: &[PublishedVersion]) -> Vec<(String, Phase)> {
        versions.iter().map(|version| (version.name.to_string(), version.phase)).collect()
    }

    fn after(
        seconds: u64,
        config: &Config,
        nodes: &[NodeView],
        before: &[PublishedVersion],
    ) -> Vec<PublishedVersion> {
        let waited = names(config).into_iter().map(|name| (name, Duration::from_secs(seconds))).collect();
        phases(Cluster { config, nodes, waited: &waited }, before)
    }

    fn at_once(config: &Config, nodes: &[NodeView], before: &[PublishedVersion]) -> Vec<PublishedVersion> {
        after(0, config, nodes, before)
    }

    #[test]
    fn nothing_is_offered_before_every_node_has_it() {
        let config = config(&["a"]);
        let a = &names(&config)[0];
        assert!(at_once(&config, &[], &[]).is_empty(), "an empty cluster proves nothing");
        let ready = node("one", &[(a, VersionState::Ready, None)]);
        let late = node("two", &[(a, VersionState::Installing, None)]);
        assert!(at_once(&config, &[ready.clone(), late], &[]).is_empty());
        let offered = at_once(&config, std::slice::from_ref(&ready), &[]);
        assert_eq!(told(&offered), [(a.to_string(), Phase::Offered)]);
    }

    #[test]
    fn nodes_that_do_not_count_hold_nothing_up() {
        let config = config(&["a"]);
        let a = &names(&config)[0];
        let ready = node("ready", &[(a, VersionState::Ready, None)]);
        let down = NodeView { ready: false, ..node("down", &[]) };
        let new = NodeView { report: None, age: Duration::from_secs(30), ..node("new", &[]) };
        let broken = node("broken", &[(a, VersionState::Failed, Some(FaultReason::NoExec))]);
        assert_eq!(at_once(&config, &[ready.clone(), down, new, broken], &[]).len(), 1);
    }

    #[test]
    fn an_old_node_without_an_agent_is_waited_for_but_not_for_ever() {
        let config = config(&["a"]);
        let a = &names(&config)[0];
        let ready = node("ready", &[(a, VersionState::Ready, None)]);
        let silent = NodeView { report: None, ..node("silent", &[]) };
        let nodes = [ready, silent];
        assert!(at_once(&config, &nodes, &[]).is_empty());
        assert_eq!(after(600, &config, &nodes, &[]).len(), 1);
        assert!(after(600, &config, &nodes[1..], &[]).is_empty(), "somebody must have it");
    }

    #[test]
    fn a_few_nodes_that_fail_do_not_hold_up_many() {
        let config = config(&["a"]);
        let a = &names(&config)[0];
        let failing = node("failing", &[(a, VersionState::Failed, Some(FaultReason::SourceUnavailable))]);
        let mut nodes = vec![node("ready", &[(a, VersionState::Ready, None)]); 19];
        nodes.push(failing.clone());
        assert!(at_once(&config, &nodes, &[]).is_empty());
        assert_eq!(after(600, &config, &nodes, &[]).len(), 1);
        nodes.push(failing);
        assert!(after(600, &config, &nodes, &[]).is_empty(), "two of 21 are too many");
    }

    #[test]
    fn a_version_that_no_node_has_any_more_is_not_offered_until_one_has_it_again() {
        let config = config(&["a"]);
        let a = names(&config)[0].clone();
        let ready = [node("one", &[(&a, VersionState::Ready, None)])];
        let before = at_once(&config, &ready, &[]);
        let broken = [node("one", &[(&a, VersionState::Failed, Some(FaultReason::DiskFull))])];
        let lost = at_once(&config, &broken, &before);
        assert_eq!(told(&lost), [(a.to_string(), Phase::Retiring)]);
        assert_eq!(told(&at_once(&config, &ready, &lost)), [(a.to_string(), Phase::Offered)]);
    }

    #[test]
    fn an_offered_version_stays_until_a_newer_one_is_ready() {
        let first = config(&["a"]);
        let both = config(&["a", "b"]);
        let (a, b) = (names(&both)[0].clone(), names(&both)[1].clone());
        let before = at_once(&first, &[node("one", &[(&a, VersionState::Ready, None)])], &[]);
        let installing =
            node("one", &[(&a, VersionState::Ready, None), (&b, VersionState::Installing, None)]);
        assert_eq!(told(&at_once(&both, &[installing], &before)), [(a.to_string(), Phase::Offered)]);
        let ready = node("one", &[(&a, VersionState::Ready, None), (&b, VersionState::Ready, None)]);
        let after = at_once(&both, &[ready], &before);
        assert_eq!(told(&after), [(a.to_string(), Phase::Retiring), (b.to_string(), Phase::Offered)]);
    }

    #[test]
    fn a_version_that_was_taken_out_of_the_configuration_stays_known() {
        let first = config(&["a"]);
        let a = names(&first)[0].clone();
        let before = at_once(&first, &[node("one", &[(&a, VersionState::Ready, None)])], &[]);
        let other = config(&["b"]);
        assert_eq!(told(&at_once(&other, &[], &before)), [(a.to_string(), Phase::Retiring)]);
    }
}
