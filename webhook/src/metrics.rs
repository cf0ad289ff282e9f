//! What operators see of the webhook; registered at construction, passed down, never global.

use axum::http::StatusCode;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::decide::Decision;

/// The webhook's metrics.
#[derive(Clone)]
pub struct Metrics {
    decisions: IntCounterVec,
    duration: Histogram,
    unreadable: IntCounter,
    answers: IntCounterVec,
    generation: IntGauge,
}

impl Metrics {
    /// Registers all of them.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let decisions = IntCounterVec::new(
            Opts::new(
                "headstart_webhook_decisions_total",
                "Admission decisions by rule, decision and reason",
            ),
            &["rule", "decision", "reason"],
        )?;
        let buckets = vec![50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 50e-3, 250e-3, 1.0];
        let duration = Histogram::with_opts(
            HistogramOpts::new(
                "headstart_webhook_decision_duration_seconds",
                "Time to read, decide and answer",
            )
            .buckets(buckets),
        )?;
        let unreadable = IntCounter::new(
            "headstart_webhook_unreadable_requests_total",
            "Requests that are no AdmissionReview and were answered with an HTTP error",
        )?;
        let answers = IntCounterVec::new(
            Opts::new(
                "headstart_webhook_answers_total",
                "Answers by HTTP status, also to requests that are no review",
            ),
            &["status"],
        )?;
        let generation =
            IntGauge::new("headstart_state_generation", "Generation of the published state in force")?;
        registry.register(Box::new(generation.clone()))?;
        registry.register(Box::new(decisions.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(unreadable.clone()))?;
        registry.register(Box::new(answers.clone()))?;
        Ok(Self { decisions, duration, unreadable, answers, generation })
    }

    /// Counts one decision that took `seconds`.
    pub(crate) fn decided(&self, decision: &Decision, seconds: f64) {
        let rule = decision.rule.map_or("none", |rule| rule.code());
        let outcome = if decision.patch.is_empty() { "unchanged" } else { "rewritten" };
        self.decisions.with_label_values(&[rule, outcome, decision.reason.code()]).inc();
        self.duration.observe(seconds);
    }

    /// A published state came into force.
    pub(crate) fn took_state(&self, generation: u64) {
        self.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
    }

    /// Counts one answer.
    pub(crate) fn answered(&self, status: StatusCode) {
        self.answers.with_label_values(&[status.as_str()]).inc();
    }

    /// Counts one request that cannot be answered.
    pub(crate) fn unreadable(&self) {
        self.unreadable.inc();
    }
}
