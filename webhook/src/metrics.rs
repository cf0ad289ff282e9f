//! What operators see of the webhook; registered at construction, passed down, never global.
//!
//! Counting takes no lock: every label value is known beforehand, and its counter is kept at hand.

use std::sync::{Arc, OnceLock};

use axum::http::StatusCode;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::decide::Decision;
use crate::reason::{Outcome, Reason, Rule, Unpaired};
use crate::runner_sets::reason::PinReason;

/// The webhook's metrics.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    decisions: Decisions,
    duration: Histogram,
    unpaired: Vec<IntCounter>,
    /// By reason.
    runner_sets: Vec<IntCounter>,
    in_flight: IntGauge,
    shed: [IntCounter; Shed::ALL.len()],
    unreadable: IntCounter,
    answers: IntCounterVec,
    answered_ok: IntCounter,
    generation: IntGauge,
}

/// Why a pod or runner set was left unchanged without a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shed {
    /// Too many requests were in progress when it came.
    InFlight,
    /// The process was behind with its work.
    Lag,
    /// Its time was up when it had been read.
    Deadline,
}

impl Shed {
    const ALL: [Self; 3] = [Self::InFlight, Self::Lag, Self::Deadline];

    const fn code(self) -> &'static str {
        match self {
            Self::InFlight => "in-flight",
            Self::Lag => "lag",
            Self::Deadline => "deadline",
        }
    }
}

/// A request from its headers until its answer; counted as long as it lives.
pub(crate) struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// One counter for each rule and reason; a series appears with its first decision.
struct Decisions {
    family: IntCounterVec,
    /// By rule, the last for none, and reason.
    counters: Vec<OnceLock<IntCounter>>,
}

impl Decisions {
    fn new(family: IntCounterVec) -> Self {
        let count = (Rule::ALL.len() + 1) * Reason::ALL.len();
        Self { family, counters: std::iter::repeat_with(OnceLock::new).take(count).collect() }
    }

    fn count(&self, rule: Option<Rule>, reason: Reason) {
        let row = rule.map_or(Rule::ALL.len(), |rule| rule as usize);
        if let Some(counter) = self.counters.get(row * Reason::ALL.len() + reason as usize) {
            counter.get_or_init(|| self.counter(rule, reason)).inc();
        }
    }

    fn counter(&self, rule: Option<Rule>, reason: Reason) -> IntCounter {
        let decision = if reason.outcome() == Outcome::Rewritten { "rewritten" } else { "unchanged" };
        self.family.with_label_values(&[rule.map_or("none", Rule::code), decision, reason.code()])
    }
}

impl Metrics {
    /// Registers all of them.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let family = |name: &str, help: &str, labels: &[&str]| {
            let family = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            prometheus::Result::Ok(family)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            prometheus::Result::Ok(gauge)
        };
        let unpaired = family(
            "headstart_webhook_unpaired_total",
            "Runners that copy a few files because they could not be paired, by reason",
            &["reason"],
        )?;
        let shed = family(
            "headstart_webhook_shed_total",
            "Pods and runner sets of ARC that were left unchanged undecided, by cause",
            &["cause"],
        )?;
        let answers = family(
            "headstart_webhook_answers_total",
            "Answers by HTTP status, also to requests that are no review",
            &["status"],
        )?;
        let unreadable = IntCounter::new(
            "headstart_webhook_unreadable_requests_total",
            "Requests that are no AdmissionReview and were answered with an HTTP error",
        )?;
        registry.register(Box::new(unreadable.clone()))?;
        let runner_sets = family(
            "headstart_webhook_runner_set_decisions_total",
            "Decisions over new generations of runner sets by decision and reason",
            &["decision", "reason"],
        )?;
        let decisions = family(
            "headstart_webhook_decisions_total",
            "Admission decisions by rule, decision and reason",
            &["rule", "decision", "reason"],
        )?;
        Ok(Self(Arc::new(Inner {
            decisions: Decisions::new(decisions),
            duration: duration(registry)?,
            unpaired: Unpaired::ALL.iter().map(|why| unpaired.with_label_values(&[why.code()])).collect(),
            runner_sets: PinReason::ALL.iter().map(|reason| pin_counter(&runner_sets, *reason)).collect(),
            in_flight: gauge(
                "headstart_webhook_requests_in_flight",
                "Requests between their headers and their answer",
            )?,
            shed: Shed::ALL.map(|cause| shed.with_label_values(&[cause.code()])),
            unreadable,
            answered_ok: answers.with_label_values(&[StatusCode::OK.as_str()]),
            answers,
            generation: gauge("headstart_state_generation", "Generation of the published state in force")?,
        })))
    }

    /// A request begins; with how many there are now.
    pub(crate) fn begin(&self) -> (InFlight, i64) {
        self.0.in_flight.inc();
        (InFlight(self.0.in_flight.clone()), self.0.in_flight.get())
    }

    /// Counts one decision that took `seconds`.
    pub(crate) fn decided(&self, decision: &Decision, seconds: f64) {
        self.0.decisions.count(decision.rule, decision.reason);
        self.0.duration.observe(seconds);
        if let Some(counter) = decision.unpaired.and_then(|why| self.0.unpaired.get(why as usize)) {
            counter.inc();
        }
    }

    /// Counts one decision over a runner set that took `seconds`.
    pub(crate) fn runner_set_decided(&self, reason: PinReason, seconds: f64) {
        if let Some(counter) = self.0.runner_sets.get(reason.number()) {
            counter.inc();
        }
        self.0.duration.observe(seconds);
    }

    /// Counts one pod or runner set that was left unchanged undecided.
    pub(crate) fn shed(&self, cause: Shed) {
        if let Some(counter) = self.0.shed.get(cause as usize) {
            counter.inc();
        }
    }

    /// A published state came into force.
    pub(crate) fn took_state(&self, generation: u64) {
        self.0.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
    }

    /// Counts one answer.
    pub(crate) fn answered(&self, status: StatusCode) {
        if status == StatusCode::OK {
            self.0.answered_ok.inc();
        } else {
            self.0.answers.with_label_values(&[status.as_str()]).inc();
        }
    }

    /// Counts one request that cannot be answered.
    pub(crate) fn unreadable(&self) {
        self.0.unreadable.inc();
    }
}

fn pin_counter(family: &IntCounterVec, reason: PinReason) -> IntCounter {
    let decision = if reason.outcome() == Outcome::Rewritten { "pinned" } else { "unchanged" };
    family.with_label_values(&[decision, reason.code()])
}

fn duration(registry: &Registry) -> prometheus::Result<Histogram> {
    let buckets =
        vec![10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 50e-3, 250e-3, 1.0];
    let options =
        HistogramOpts::new("headstart_webhook_decision_duration_seconds", "Time to read, decide and answer");
    let duration = Histogram::with_opts(options.buckets(buckets))?;
    registry.register(Box::new(duration.clone()))?;
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The counters at hand are found by these numbers.
    #[test]
    fn codes_are_numbered_in_the_order_of_their_lists() {
        assert!(Rule::ALL.iter().enumerate().all(|(at, rule)| at == *rule as usize));
        assert!(Reason::ALL.iter().enumerate().all(|(at, reason)| at == *reason as usize));
        assert!(Unpaired::ALL.iter().enumerate().all(|(at, why)| at == *why as usize));
        assert!(Shed::ALL.iter().enumerate().all(|(at, cause)| at == *cause as usize));
    }

    #[test]
    fn every_decision_is_counted_under_its_own_labels() {
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let decisions = &metrics.0.decisions;
        for rule in Rule::ALL.iter().copied().map(Some).chain([None]) {
            for reason in Reason::ALL {
                decisions.count(rule, *reason);
                assert_eq!(decisions.counter(rule, *reason).get(), 1, "{rule:?} {reason}");
            }
        }
    }
}
