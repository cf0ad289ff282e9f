//! Configurations, nodes and a leader as tests of the rollout play them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use headstart_externals::arch::Arch;
use headstart_externals::config::Config;
use headstart_externals::fault::FaultReason;
use headstart_externals::report::{NodeReport, VersionReport};
use headstart_externals::state::{Phase, PublishedVersion};
use headstart_externals::version::VersionName;

use super::NodeView;
use super::forgotten::is_leftover;
use super::phases::{Ages, Cluster, phases, questions};

/// Revisions of one profile, oldest first; `more` are further lines of the configuration, such as `rollout: {…}`.
pub(super) fn configured(revisions: &[&str], offer: Option<&str>, more: &str) -> Config {
    let revisions: String = revisions
        .iter()
        .map(|name| format!("      - {{revision: {name}, source: {{directory: {{path: /x}}}}}}\n"))
        .collect();
    let offer = offer.map_or(String::new(), |name| format!("    offer: {name}\n"));
    Config::parse(&format!(
        "apiVersion: headstart.dev/v1\n{more}\nprofiles:\n  - name: node16\n    preset: node16\n{offer}    \
         revisions:\n{revisions}"
    ))
    .unwrap()
}

/// The version of a revision in [`configured`].
pub(super) fn version(revision: &str) -> VersionName {
    configured(&[revision], None, "").revisions().next().unwrap().1.version.clone()
}

/// One version on a node.
pub(super) fn on_node(version: &VersionName, state: &str, reason: Option<FaultReason>) -> VersionReport {
    let wanted = state != "kept";
    let report = serde_json::json!({ "name": version, "state": state, "wanted": wanted, "reason": reason });
    serde_json::from_value(report).unwrap()
}

/// An old node that is ready and reports this.
pub(super) fn node(name: &str, versions: Vec<VersionReport>) -> NodeView {
    NodeView {
        name: name.to_owned(),
        labels: BTreeMap::new(),
        ready: true,
        age: Duration::from_secs(3600),
        report: Some(NodeReport::new(name, Arch::Amd64, None, versions)),
        is_stale: false,
    }
}

/// A node that has these revisions ready.
pub(super) fn ready(revisions: &[&str]) -> NodeView {
    node("ready", revisions.iter().map(|revision| on_node(&version(revision), "ready", None)).collect())
}

/// A leader whose rounds are played: what it published, what pods carry, and what time has passed.
#[derive(Default)]
pub(super) struct Leader {
    pub(super) published: Vec<PublishedVersion>,
    /// Versions that unfinished pods carry.
    pub(super) pods: Vec<VersionName>,
    pub(super) ages: Ages,
}

impl Leader {
    /// Everything has waited and rested for so long.
    pub(super) fn after(&mut self, config: &Config, seconds: u64) -> &mut Self {
        let waited = Duration::from_secs(seconds);
        let configured = config.revisions().map(|(_, revision)| revision.version.clone());
        self.ages.waited = configured.map(|version| (version, waited)).collect();
        self.ages.rested = self.published.iter().map(|old| (old.name.clone(), waited)).collect();
        self
    }

    /// One round; returns the phases of what is published then.
    pub(super) fn round(&mut self, config: &Config, nodes: &[NodeView]) -> Vec<(String, Phase)> {
        let nothing = HashMap::new();
        let draft = Cluster { config, nodes, ages: &self.ages, carried: &nothing };
        let asked = questions(draft, &self.published);
        let carried = asked.into_iter().map(|question| {
            let is_carried = self.pods.contains(&question.version);
            (question.version, is_carried)
        });
        let carried = carried.collect();
        self.published = phases(Cluster { carried: &carried, ..draft }, &self.published);
        self.told()
    }

    fn told(&self) -> Vec<(String, Phase)> {
        let name = |known: &PublishedVersion| match known.recipe.as_ref().and_then(|recipe| recipe.known()) {
            Some(recipe) => recipe.revision.clone().unwrap_or_default(),
            None => known.name.to_string(),
        };
        self.published.iter().map(|known| (name(known), known.phase)).collect()
    }

    /// How many entries are there only to be deleted.
    pub(super) fn leftovers(&self) -> usize {
        self.published.iter().filter(|version| is_leftover(version)).count()
    }
}

/// Phases as [`Leader::round`] returns them.
pub(super) fn are(phases: &[(&str, Phase)]) -> Vec<(String, Phase)> {
    phases.iter().map(|(name, phase)| ((*name).to_owned(), *phase)).collect()
}
