//! How runners are made, in numbers; bounded labels, seconds and counts.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::creation::census::Refusal;
use crate::creation::engine::{Engine, GateKey};
use crate::creation::gate::breaker::State;
use crate::creation::report::News;

/// What is counted of the making of runners.
#[derive(Clone)]
pub(crate) struct CreationMetrics {
    calls: HistogramVec,
    failures: IntCounterVec,
    retries: IntCounterVec,
    in_flight: IntGaugeVec,
    limit: IntGaugeVec,
    breaker: IntGaugeVec,
    /// Upstreams of which the last three tell.
    upstreams: Arc<Mutex<BTreeSet<String>>>,
    sets: IntGaugeVec,
    pinned: IntGauge,
    handed_back: IntCounter,
    batches: IntCounterVec,
    seconds: Histogram,
    runners: IntCounter,
    overshoot: IntCounter,
    /// All calls; `calls` has them by phase, with their time.
    made: IntCounter,
    swept: IntCounter,
}

/// A call that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done<'a> {
    /// What it was for.
    pub(crate) phase: &'static str,
    /// How long it was under way.
    pub(crate) took: Duration,
    /// Whether the one before it, for the same thing, had failed.
    pub(crate) is_retry: bool,
    /// Why it failed, if it did.
    pub(crate) reason: Option<&'a str>,
}

/// The state of a set that the webhook may pin.
pub(crate) const PUBLISHED: &str = "published";

/// From a call that the API server answers at once, to the longest that a call may take.
const CALL_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

const BATCH_BUCKETS: &[f64] = &[0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0];

impl CreationMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let register = Register(registry);
        let (calls, seconds) = durations(&register)?;
        Ok(Self {
            calls,
            seconds,
            failures: register.counters(
                "headstart_creation_failures_total",
                "Calls that failed, by phase and reason; most are tried again",
                &["phase", "reason"],
            )?,
            retries: register.counters(
                "headstart_creation_retries_total",
                "Calls for something that had failed just before, by phase",
                &["phase"],
            )?,
            pinned: register.gauge("headstart_creation_pinned_sets", "Runner sets that are pinned now")?,
            handed_back: register.counter(
                "headstart_creation_handed_back_total",
                "Sets that were handed back to ARC",
            )?,
            in_flight: register.gauges("headstart_creation_in_flight", "Calls under way, by upstream", &["upstream"])?,
            limit: register.gauges("headstart_creation_limit", "Most calls at once, by upstream", &["upstream"])?,
            breaker: register.gauges(
                "headstart_creation_breaker_open",
                "1 while the circuit breaker of an upstream is not closed",
                &["upstream"],
            )?,
            upstreams: Arc::default(),
            sets: register.gauges(
                "headstart_creation_sets",
                "Runner sets by what they are to us: published, or why they are left to ARC",
                &["state"],
            )?,
            batches: register.counters(
                "headstart_creation_batches_total",
                "Batches of runners by how they ended",
                &["outcome"],
            )?,
            runners: register.counter("headstart_creation_runners_total", "Runners that were made")?,
            overshoot: register.counter(
                "headstart_creation_overshoot_total",
                "Runners above what a listener had asked for when ARC took a set over in the middle of a batch",
            )?,
            made: register.counter(
                "headstart_creation_calls_total",
                "Calls of all kinds; divided by the runners, calls per runner",
            )?,
            swept: register.counter(
                "headstart_creation_swept_total",
                "Secrets that were left over and removed, with their registrations",
            )?,
        })
    }

    /// A call has ended.
    pub(crate) fn called(&self, done: &Done<'_>) {
        let Done { phase, took, is_retry, reason } = *done;
        self.calls.with_label_values(&[phase]).observe(took.as_secs_f64());
        self.made.inc();
        if is_retry {
            self.retries.with_label_values(&[phase]).inc();
        }
        if let Some(reason) = reason {
            self.failures.with_label_values(&[phase, reason]).inc();
        }
    }

    /// ARC has a set back.
    pub(crate) fn handed_back(&self) {
        self.handed_back.inc();
    }

    /// Something happened to a set.
    pub(crate) fn told(&self, news: &News) {
        match news {
            News::Finished { made, took } => {
                self.batches.with_label_values(&["complete"]).inc();
                self.seconds.observe(took.as_secs_f64());
                self.runners.inc_by(*made as u64);
            }
            News::Stopped { made, why, .. } => {
                self.batches.with_label_values(&[why.code()]).inc();
                self.runners.inc_by(*made as u64);
            }
            News::Started { .. } | News::Progress { .. } => {}
        }
    }

    /// What the gates and sets are like.
    pub(crate) fn look(&self, engine: &Engine) {
        self.pinned.set(i64::try_from(engine.pinned()).unwrap_or(i64::MAX));
        let mut known = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|upstream| {
            let is_there = engine.gates().any(|(key, _)| named(key) == upstream);
            if !is_there {
                // That it has no such series is no matter.
                for family in [&self.in_flight, &self.limit, &self.breaker] {
                    let _ = family.remove_label_values(&[upstream]);
                }
            }
            is_there
        });
        for (key, gate) in engine.gates() {
            let upstream = named(key);
            if !known.contains(upstream) {
                known.insert(upstream.to_owned());
            }
            self.in_flight.with_label_values(&[upstream]).set(i64::from(gate.in_flight()));
            self.limit.with_label_values(&[upstream]).set(i64::from(gate.limit()));
            let is_open = !matches!(gate.breaker(), State::Closed);
            self.breaker.with_label_values(&[upstream]).set(i64::from(is_open));
        }
    }

    /// How many sets are what to us.
    pub(crate) fn sets(&self, states: &[&str]) {
        let refusals = Refusal::ALL.iter().map(|refusal| refusal.code());
        for state in refusals.chain([PUBLISHED]) {
            let count = states.iter().filter(|found| **found == state).count();
            self.sets.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Runners above what was asked for.
    pub(crate) fn overshot(&self, count: usize) {
        self.overshoot.inc_by(count as u64);
    }

    /// Something left over was removed.
    pub(crate) fn swept(&self) {
        self.swept.inc();
    }

    /// What only a leader knows goes with its term.
    pub(super) fn reset(&self) {
        self.in_flight.reset();
        self.limit.reset();
        self.breaker.reset();
        self.sets.reset();
        self.pinned.set(0);
    }
}

/// An upstream as metrics call it.
fn named(key: &GateKey) -> &str {
    match key {
        GateKey::Kubernetes => "kubernetes",
        GateKey::Service(service) => service,
    }
}

/// Makes families and lets them be read.
struct Register<'r>(&'r Registry);

impl Register<'_> {
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.registered(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.registered(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.registered(IntCounter::new(name, help)?)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.registered(IntGauge::new(name, help)?)
    }

    fn registered<C: Collector + Clone + 'static>(&self, family: C) -> prometheus::Result<C> {
        self.0.register(Box::new(family.clone()))?;
        Ok(family)
    }
}

/// Of single calls, by phase, and of whole batches.
fn durations(register: &Register<'_>) -> prometheus::Result<(HistogramVec, Histogram)> {
    let name = "headstart_creation_call_duration_seconds";
    let calls = HistogramOpts::new(name, "Calls by phase of a runner").buckets(CALL_BUCKETS.to_vec());
    let calls = register.registered(HistogramVec::new(calls, &["phase"])?)?;
    let name = "headstart_creation_batch_duration_seconds";
    let seconds = HistogramOpts::new(name, "From the first call of a batch to its hand-back");
    let seconds = register.registered(Histogram::with_opts(seconds.buckets(BATCH_BUCKETS.to_vec()))?)?;
    Ok((calls, seconds))
}
