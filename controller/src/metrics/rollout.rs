//! How far versions have come, in numbers. Only versions that are configured or published have any.

use std::collections::BTreeSet;

use headstart_externals::state::{Phase, PublishedVersion};
use headstart_externals::version::VersionName;
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};

use crate::publish::Progress;

/// What is counted of rollouts.
#[derive(Clone)]
pub(crate) struct RolloutMetrics {
    nodes: IntGaugeVec,
    versions: IntGaugeVec,
    differing: IntGauge,
    early: IntGauge,
}

impl RolloutMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            nodes: IntGaugeVec::new(
                Opts::new(
                    "headstart_controller_rollout_nodes",
                    "Nodes by version and whether it is ready there; those that gave it up do not count for a rollout",
                ),
                &["version", "state"],
            )?,
            versions: IntGaugeVec::new(
                Opts::new("headstart_controller_rollout_versions", "Published versions by phase"),
                &["phase"],
            )?,
            differing: IntGauge::new(
                "headstart_controller_differing_versions",
                "Versions of which nodes of one architecture have different trees",
            )?,
            early: IntGauge::new(
                "headstart_controller_early_removals",
                "Versions that were taken out of the configuration before they were retired",
            )?,
        };
        registry.register(Box::new(metrics.nodes.clone()))?;
        registry.register(Box::new(metrics.versions.clone()))?;
        registry.register(Box::new(metrics.differing.clone()))?;
        registry.register(Box::new(metrics.early.clone()))?;
        Ok(metrics)
    }

    /// How far each version is; `before` are those that were told the last time.
    pub(crate) fn progress<'p>(
        &self,
        before: impl Iterator<Item = &'p VersionName>,
        now: &[(&VersionName, &Progress)],
    ) {
        let known: BTreeSet<&VersionName> = now.iter().map(|(version, _)| *version).collect();
        for gone in before.filter(|version| !known.contains(version)) {
            for state in ["ready", "missing", "given-up"] {
                let _ = self.nodes.remove_label_values(&[gone.as_str(), state]);
            }
        }
        for (version, Progress { ready, missing, given_up, .. }) in now {
            for (state, count) in [("ready", ready), ("missing", missing), ("given-up", given_up)] {
                let count = i64::try_from(*count).unwrap_or(i64::MAX);
                self.nodes.with_label_values(&[version.as_str(), state]).set(count);
            }
        }
    }

    /// How many versions are in which phase.
    pub(crate) fn phases(&self, versions: &[PublishedVersion]) {
        for (phase, word) in
            [(Phase::Offered, "offered"), (Phase::Retiring, "retiring"), (Phase::Retired, "retired")]
        {
            let count = versions.iter().filter(|version| version.phase == phase).count();
            self.versions.with_label_values(&[word]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// How many versions need somebody's attention.
    pub(crate) fn exceptions(&self, differing: usize, early: usize) {
        self.differing.set(i64::try_from(differing).unwrap_or(i64::MAX));
        self.early.set(i64::try_from(early).unwrap_or(i64::MAX));
    }

    pub(super) fn reset(&self) {
        self.nodes.reset();
        self.versions.reset();
        self.differing.set(0);
        self.early.set(0);
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn a_version_that_is_gone_has_no_numbers_any_more() {
        let registry = Registry::new();
        let metrics = RolloutMetrics::new(&registry).unwrap();
        let (a, b): (VersionName, VersionName) =
            ("a-0123456789ab".parse().unwrap(), "b-0123456789ab".parse().unwrap());
        let progress = Progress { ready: 3, missing: 1, ..Progress::default() };
        let text = || TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        metrics.progress([].iter(), &[(&a, &progress), (&b, &progress)]);
        let ready = r#"headstart_controller_rollout_nodes{state="ready",version="a-0123456789ab"} 3"#;
        assert!(text().contains(ready), "{}", text());
        metrics.progress([a.clone(), b.clone()].iter(), &[(&b, &progress)]);
        assert!(!text().contains(a.as_str()) && text().contains(b.as_str()), "{}", text());
        metrics.reset();
        assert!(!text().contains(b.as_str()), "another replica leads");
    }
}
