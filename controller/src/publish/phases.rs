//! Which version of each profile new pods are given, and which older ones stay known.

use headstart_externals::config::{Config, Profile, Revision};
use headstart_externals::state::{Phase, PublishedVersion};

use super::nodes::{NodeView, eligible};

/// The versions to publish, in the order of the configuration; versions that were published and are not configured any
/// more come last, since pods may still name them.
///
/// Of each profile the newest revision that is ready wherever it counts is offered; one that was offered stays so until
/// a newer one is, whatever becomes of the nodes. Older ones are retiring, newer ones are not published yet.
pub fn phases(config: &Config, nodes: &[NodeView], before: &[PublishedVersion]) -> Vec<PublishedVersion> {
    let mut versions = Vec::new();
    for profile in &config.profiles {
        let offered = profile.revisions.iter().rposition(|revision| {
            was_offered(revision, before) || is_ready_everywhere(config, nodes, revision)
        });
        let known = offered.map_or(0, |newest| newest + 1);
        versions.extend(profile.revisions.iter().take(known).enumerate().map(|(at, revision)| {
            published(profile, revision, if Some(at) == offered { Phase::Offered } else { Phase::Retiring })
        }));
    }
    let forgotten = before.iter().filter(|old| !config.revisions().any(|(_, new)| new.version == old.name));
    versions.extend(forgotten.map(|old| PublishedVersion { phase: after_removal(old.phase), ..old.clone() }));
    versions
}

fn was_offered(revision: &Revision, before: &[PublishedVersion]) -> bool {
    before.iter().any(|old| old.name == revision.version && old.phase == Phase::Offered)
}

/// At least one node must have it: an empty cluster proves nothing.
fn is_ready_everywhere(config: &Config, nodes: &[NodeView], revision: &Revision) -> bool {
    let mut nodes = eligible(nodes, config, &revision.version).peekable();
    nodes.peek().is_some() && nodes.all(|node| node.has(&revision.version))
}

/// A revision that was taken out too early is not offered, but its pods keep their version.
fn after_removal(phase: Phase) -> Phase {
    match phase {
        Phase::Offered | Phase::Retiring => Phase::Retiring,
        other => other,
    }
}

fn published(profile: &Profile, revision: &Revision, phase: Phase) -> PublishedVersion {
    PublishedVersion {
        name: revision.version.clone(),
        phase,
        images: revision.images.clone(),
        omit: profile.selection.omit.clone(),
        hooks: profile.hooks.clone(),
        volume_image: revision.volume_image.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use headstart_externals::arch::Arch;
    use headstart_externals::fault::FaultReason;
    use headstart_externals::report::{NodeReport, VersionReport, VersionState};
    use headstart_externals::version::VersionName;

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

    #[test]
    fn nothing_is_offered_before_every_node_has_it() {
        let config = config(&["a"]);
        let a = &names(&config)[0];
        assert!(phases(&config, &[], &[]).is_empty(), "an empty cluster proves nothing");
        let ready = node("one", &[(a, VersionState::Ready, None)]);
        let late = node("two", &[(a, VersionState::Installing, None)]);
        assert!(phases(&config, &[ready.clone(), late], &[]).is_empty());
        let offered = phases(&config, std::slice::from_ref(&ready), &[]);
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
        assert_eq!(phases(&config, &[ready.clone(), down, new, broken], &[]).len(), 1);
        let silent = NodeView { report: None, ..node("silent", &[]) };
        assert!(phases(&config, &[ready, silent], &[]).is_empty(), "an old node without an agent does");
    }

    #[test]
    fn an_offered_version_stays_until_a_newer_one_is_ready() {
        let first = config(&["a"]);
        let both = config(&["a", "b"]);
        let (a, b) = (names(&both)[0].clone(), names(&both)[1].clone());
        let before = phases(&first, &[node("one", &[(&a, VersionState::Ready, None)])], &[]);
        let installing =
            node("one", &[(&a, VersionState::Failed, None), (&b, VersionState::Installing, None)]);
        assert_eq!(told(&phases(&both, &[installing], &before)), [(a.to_string(), Phase::Offered)]);
        let ready = node("one", &[(&a, VersionState::Ready, None), (&b, VersionState::Ready, None)]);
        let after = phases(&both, &[ready], &before);
        assert_eq!(told(&after), [(a.to_string(), Phase::Retiring), (b.to_string(), Phase::Offered)]);
    }

    #[test]
    fn a_version_that_was_taken_out_of_the_configuration_stays_known() {
        let first = config(&["a"]);
        let a = names(&first)[0].clone();
        let before = phases(&first, &[node("one", &[(&a, VersionState::Ready, None)])], &[]);
        let other = config(&["b"]);
        assert_eq!(told(&phases(&other, &[], &before)), [(a.to_string(), Phase::Retiring)]);
    }
}
