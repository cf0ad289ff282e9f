//! The controller's metrics, in base units, registered where they are made.

mod creation;
mod rollout;

use std::collections::BTreeMap;

use headstart_externals::state::MountKind;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

pub(crate) use creation::{CreationMetrics, Done, PUBLISHED};
use rollout::RolloutMetrics;

/// What is counted.
#[derive(Clone)]
pub struct Metrics {
    leading: IntGauge,
    generation: IntGauge,
    state_bytes: IntGauge,
    nodes: IntGaugeVec,
    probes: IntCounterVec,
    failures: IntCounterVec,
    stranded_runners: IntCounter,
    certificate_expiry: IntGauge,
    rollout: RolloutMetrics,
    creation: CreationMetrics,
}

impl Metrics {
    /// Registers all of them.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            leading: IntGauge::new("headstart_controller_leading", "1 while this replica leads")?,
            generation: IntGauge::new(
                "headstart_controller_state_generation",
                "Generation of the published state",
            )?,
            state_bytes: IntGauge::new(
                "headstart_controller_state_bytes",
                "Size of the published state; a ConfigMap holds 1048576 bytes",
            )?,
            nodes: IntGaugeVec::new(
                Opts::new("headstart_controller_nodes", "Nodes that run an agent, by cache readiness"),
                &["ready"],
            )?,
            probes: IntCounterVec::new(
                Opts::new("headstart_controller_probes_total", "Dry runs by volume kind and outcome"),
                &["kind", "outcome"],
            )?,
            failures: IntCounterVec::new(
                Opts::new("headstart_controller_failures_total", "Failed rounds by duty"),
                &["duty"],
            )?,
            stranded_runners: IntCounter::new(
                "headstart_controller_stranded_runners_total",
                "Paired runners that were there when a namespace was no longer allowed a hostPath",
            )?,
            rollout: RolloutMetrics::new(registry)?,
            creation: CreationMetrics::new(registry)?,
            certificate_expiry: IntGauge::new(
                "headstart_controller_webhook_certificate_expiry_timestamp_seconds",
                "When the issued certificate of the webhook ends; 0 while there is none",
            )?,
        };
        registry.register(Box::new(metrics.leading.clone()))?;
        registry.register(Box::new(metrics.generation.clone()))?;
        registry.register(Box::new(metrics.state_bytes.clone()))?;
        registry.register(Box::new(metrics.nodes.clone()))?;
        registry.register(Box::new(metrics.probes.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.stranded_runners.clone()))?;
        registry.register(Box::new(metrics.certificate_expiry.clone()))?;
        Ok(metrics)
    }

    pub(crate) fn published(&self, generation: u64) {
        self.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
    }

    pub(crate) fn state_bytes(&self, bytes: usize) {
        self.state_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// How many nodes have which status of the condition.
    pub(crate) fn nodes<'s>(&self, statuses: impl Iterator<Item = &'s str>) {
        let mut counts = BTreeMap::from([("True", 0), ("False", 0), ("Unknown", 0)]);
        statuses.for_each(|status| *counts.entry(status).or_default() += 1);
        for (status, count) in counts {
            self.nodes.with_label_values(&[status]).set(count);
        }
    }

    pub(crate) fn probed(&self, kind: MountKind, outcome: &str) {
        self.probes.with_label_values(&[kind.to_string().as_str(), outcome]).inc();
    }

    pub(crate) fn failed(&self, duty: &str) {
        self.failures.with_label_values(&[duty]).inc();
    }

    pub(crate) fn warned_of_paired_runners(&self, count: usize) {
        self.stranded_runners.inc_by(count as u64);
    }

    /// How far versions are, and how many are in which phase.
    pub(crate) fn rollout(&self) -> &RolloutMetrics {
        &self.rollout
    }

    /// How runners are made.
    pub(crate) fn creation(&self) -> &CreationMetrics {
        &self.creation
    }

    pub(crate) fn certificate_expires(&self, at: Option<i64>) {
        self.certificate_expiry.set(at.unwrap_or(0));
    }
}

/// While this lives, the replica says that it leads.
pub(crate) struct Leadership(Metrics);

impl Leadership {
    pub(crate) fn begin(metrics: &Metrics) -> Self {
        metrics.leading.set(1);
        Self(metrics.clone())
    }
}

impl Drop for Leadership {
    /// What only a leader knows goes with its term.
    fn drop(&mut self) {
        self.0.leading.set(0);
        self.0.generation.set(0);
        self.0.state_bytes.set(0);
        self.0.nodes.reset();
        self.0.rollout.reset();
        self.0.creation.reset();
    }
}
