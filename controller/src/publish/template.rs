//! Whether a version's images bring a hook template of their own: what stages found may contradict the administrator's
//! word, and never stands in for it.

use headstart_externals::config::{Config, OwnTemplate, Profile, Revision, Source};
use headstart_externals::staged::TemplateFinding;
use headstart_externals::state::{PublishedState, PublishedVersion};
use headstart_externals::version::VersionName;

use super::nodes::NodeView;

/// What is published about it: a template that a stage found on any node is there, whatever the configuration claims.
///
/// It stays there until a stage says otherwise: an agent that has just started has not looked yet.
pub(super) fn own_template(
    nodes: &[NodeView],
    profile: &Profile,
    revision: &Revision,
    before: &[PublishedVersion],
) -> OwnTemplate {
    let reports = nodes.iter().filter_map(|node| node.report.as_ref()).flat_map(|report| &report.versions);
    let of_version = reports.filter(|report| report.name == revision.version);
    let found: Vec<Option<TemplateFinding>> = of_version.map(|report| report.own_template).collect();
    let is_staged = matches!(revision.source, Source::RunnerImage { .. });
    let was_found = is_staged && before.iter().any(|old| old.name == revision.version && has_one(old));
    // By every node: images of one name may differ, by architecture or mirror.
    let is_denied = !found.is_empty() && found.iter().all(|finding| *finding == Some(TemplateFinding::None));
    if found.contains(&Some(TemplateFinding::Present)) || (was_found && !is_denied) {
        OwnTemplate::Present
    } else {
        profile.hooks.own_template
    }
}

/// The versions whose images were found to bring a template although the configuration denies it, unless `before` says
/// so already.
pub fn contradictions<'s>(
    config: &Config,
    before: Option<&PublishedState>,
    state: &'s PublishedState,
) -> Vec<&'s VersionName> {
    let is_claim = |(profile, _): &(&Profile, &Revision)| profile.hooks.own_template == OwnTemplate::None;
    let claims: Vec<&VersionName> =
        config.revisions().filter(is_claim).map(|(_, revision)| &revision.version).collect();
    let known = |new: &PublishedVersion| {
        before.iter().flat_map(|state| &state.versions).any(|old| old.name == new.name && has_one(old))
    };
    let new = state.versions.iter().filter(|version| has_one(version) && !known(version));
    new.map(|version| &version.name).filter(|name| claims.contains(name)).collect()
}

fn has_one(version: &PublishedVersion) -> bool {
    version.hooks.own_template == OwnTemplate::Present
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use headstart_externals::arch::Arch;
    use headstart_externals::report::NodeReport;
    use headstart_externals::state::Allowed;

    use super::super::{Cluster, next_state};
    use super::*;

    const STAGED: &str = "runnerImage: {image: runner:2.300.0}";

    fn config(claim: &str, source: &str) -> Config {
        let text = format!(
            "apiVersion: headstart.dev/v1\nprofiles:\n  - name: node16\n    preset: node16\n    \
             hooks: {{ownTemplate: {claim}}}\n    revisions: [{{revision: a, source: {{{source}}}}}]\n"
        );
        Config::parse(&text).unwrap()
    }

    /// A node that has the version, and what its stage found.
    fn node(config: &Config, finding: Option<&str>) -> NodeView {
        let name = &config.revisions().next().unwrap().1.version;
        let mut version = serde_json::json!({ "name": name, "state": "ready", "wanted": true });
        if let Some(finding) = finding {
            version["ownTemplate"] = finding.into();
        }
        let versions = vec![serde_json::from_value(version).unwrap()];
        NodeView {
            name: "one".to_owned(),
            labels: BTreeMap::new(),
            ready: true,
            age: Duration::from_secs(3600),
            report: Some(NodeReport::new("one", Arch::Amd64, None, versions)),
            is_stale: false,
        }
    }

    fn state(config: &Config, findings: &[Option<&str>], before: Option<&PublishedState>) -> PublishedState {
        let nodes: Vec<NodeView> = findings.iter().map(|finding| node(config, *finding)).collect();
        let (ages, carried) = Default::default();
        let cluster = Cluster { config, nodes: &nodes, ages: &ages, carried: &carried };
        next_state(cluster, Allowed::Everywhere, Default::default(), before)
    }

    fn published(config: &Config, findings: &[Option<&str>], before: Option<&PublishedState>) -> OwnTemplate {
        state(config, findings, before).versions[0].hooks.own_template
    }

    #[test]
    fn a_finding_on_any_node_contradicts_the_claim_and_nothing_else_changes_it() {
        let denied = config("none", STAGED);
        assert_eq!(published(&denied, &[None], None), OwnTemplate::None);
        assert_eq!(published(&denied, &[Some("none"), None], None), OwnTemplate::None);
        assert_eq!(published(&denied, &[Some("seen by a newer stage")], None), OwnTemplate::None);
        assert_eq!(published(&denied, &[Some("none"), Some("present")], None), OwnTemplate::Present);
        let unknown = config("unknown", STAGED);
        assert_eq!(
            published(&unknown, &[Some("none")], None),
            OwnTemplate::Unknown,
            "no stage can assert it"
        );
        assert_eq!(published(&unknown, &[Some("present")], None), OwnTemplate::Present);
    }

    #[test]
    fn a_finding_stays_until_a_stage_says_otherwise() {
        let denied = config("none", STAGED);
        let found = state(&denied, &[Some("present")], None);
        assert_eq!(published(&denied, &[None], Some(&found)), OwnTemplate::Present, "the agent is new");
        let half = [None, Some("none")];
        assert_eq!(published(&denied, &half, Some(&found)), OwnTemplate::Present, "another node found it");
        assert_eq!(published(&denied, &[Some("none")], Some(&found)), OwnTemplate::None);
    }

    #[test]
    fn where_no_stage_looks_the_configuration_alone_counts() {
        let directory = "directory: {path: /x}";
        let before = state(&config("present", directory), &[None], None);
        assert_eq!(before.versions[0].hooks.own_template, OwnTemplate::Present);
        assert_eq!(published(&config("none", directory), &[None], Some(&before)), OwnTemplate::None);
    }

    #[test]
    fn a_contradiction_is_told_once_and_only_where_the_claim_is_wrong() {
        let denied = config("none", STAGED);
        let sound = state(&denied, &[Some("none")], None);
        assert!(contradictions(&denied, None, &sound).is_empty());
        let found = state(&denied, &[Some("present")], Some(&sound));
        assert_eq!(contradictions(&denied, Some(&sound), &found), [&found.versions[0].name]);
        assert!(contradictions(&denied, Some(&found), &found).is_empty(), "told before");
        assert!(contradictions(&config("present", STAGED), Some(&sound), &found).is_empty(), "well known");
    }
}
