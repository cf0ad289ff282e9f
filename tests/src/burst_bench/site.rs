//! One side of the comparison: a control plane with an ARC, on which bursts are measured one after another.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use serde_json::{Value, json};

use super::cost::{Cost, Meter, processes};
use super::matrix::Cell;
use super::metrics::Metrics;
use super::shipped::{Controller, Shipped};
use crate::actions_service::{ActionsService, Endpoint};
use crate::arc::driver::{ArcManager, ModelledManager};
use crate::arc::model::Kind;
use crate::arc::real::Manager;
use crate::arc::scenario::{Figures, Scenario};
use crate::arc::timeline::Milestone;
use crate::arc::{Asked, IsSetUp, RUNNER_SETS, Runs, Tuning, UnderTest, api, namespace};
use crate::bed::ControlPlane;

/// Room for the largest burst.
const AT_MOST: u32 = 1000;

const NAME: &str = "linux";

/// A manager that tells how often it called the API server.
#[allow(async_fn_in_trait, reason = "a benchmark awaits these itself and sends them nowhere")]
pub trait Counted: Runs {
    /// How often so far.
    async fn calls(&self) -> f64;
}

impl Counted for Manager<'_> {
    async fn calls(&self) -> f64 {
        Metrics::of(&self.metrics_address()).await.sum("rest_client_requests_total")
    }
}

impl Counted for ModelledManager {
    async fn calls(&self) -> f64 {
        let kinds = [Kind::ScaleSet, Kind::RunnerSet, Kind::Runner, Kind::Listener, Kind::Secret, Kind::Pod];
        let all =
            |manager: &ArcManager| kinds.iter().map(|kind| manager.calls().of(Some(*kind))).sum::<u64>();
        self.with(all).unwrap_or_default() as f64
    }
}

/// A control plane with an ARC in it, and the service that its runners are registered at.
pub struct Site<'c, A: UnderTest> {
    /// The client of whoever looks.
    pub client: Client,
    /// Headstart, where it is there.
    pub shipped: Option<Shipped<'c>>,
    control_plane: &'c ControlPlane,
    arc: A,
    manager: A::Manager,
    service: Arc<ActionsService>,
}

/// How a burst went and what it cost.
#[derive(Clone, Debug)]
pub struct Sample {
    /// How long after the listener's patch it was how far.
    pub figures: Figures,
    /// ARC's manager and listener.
    pub arc: Cost,
    /// Headstart's controller and webhook.
    pub own: Cost,
    /// The API server.
    pub server: Cost,
    /// etcd.
    pub store: Cost,
    /// Requests to the API server.
    pub calls: Calls,
    /// Headstart's calls by phase of a runner: how many, and how many seconds in all.
    pub phases: Vec<(String, f64, f64)>,
}

/// How many requests were made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calls {
    /// By ARC's manager.
    pub manager: f64,
    /// By Headstart's controller, to the Actions service too.
    pub own: f64,
    /// By everybody: those who play kubelets and who look on included.
    pub all: f64,
}

/// All counters at one moment.
struct Counts {
    calls: Calls,
    phases: Metrics,
}

impl<'c, A: UnderTest> Site<'c, A>
where
    A::Manager: Counted,
{
    /// Starts ARC's manager without any flags.
    pub async fn start(control_plane: &'c ControlPlane, arc: A, service: Arc<ActionsService>) -> Self {
        let client = control_plane.client().await.unwrap();
        let manager = arc.manager(Tuning::Default);
        Self { client, shipped: None, control_plane, arc, manager, service }
    }

    /// The same with Headstart.
    pub async fn with_headstart(self) -> Self {
        let shipped = Some(Shipped::install(self.control_plane, &self.client).await);
        Self { shipped, ..self }
    }

    /// How tables call its ARC.
    pub fn name(&self) -> &'static str {
        self.arc.name()
    }

    /// A burst in a scale set of its own, which is gone afterwards.
    pub async fn burst(&self, cell: Cell, controller: Option<&Controller>) -> Sample {
        self.bursts(cell, 1, controller).await.remove(0)
    }

    /// So many bursts in one scale set, each from nothing.
    pub async fn bursts(&self, cell: Cell, rounds: usize, controller: Option<&Controller>) -> Vec<Sample> {
        let namespace = namespace(self.control_plane, "runners", &[]).await;
        let at = namespace.name();
        if let (Some(shipped), Some(_)) = (&self.shipped, controller) {
            shipped.serves(None).await;
            shipped.companion.enable(at);
        }
        self.control_plane.apply(&credentials(at).to_string()).unwrap();
        let url = self.service.config_url();
        let asked = Asked { namespace: at, name: NAME, url: &url, at_least: 0, at_most: AT_MOST };
        let set = self.arc.scale_set(&asked).await;
        if let (Some(shipped), Some(_)) = (&self.shipped, controller) {
            let sets = api(&self.client, at, RUNNER_SETS);
            let uid = sets.get(set.runner_set()).await.unwrap().metadata.uid;
            shipped.serves(uid.as_deref()).await;
        }
        let registration = Duration::from_millis(cell.registration);
        self.service.with(|service, _| {
            service.faults.set_latency(Endpoint::GenerateJitConfig, registration);
        });
        let scenario = Scenario::follow(&self.service, &self.client, at, NAME).await;
        let mut samples = Vec::new();
        for round in 1..=rounds {
            let sample = self.measure(&scenario, cell, set.listener(), controller).await;
            assert_eq!(scenario.timeline.ever(Milestone::Runner), cell.runners * round, "runners in all");
            assert_eq!(scenario.timeline.most(Milestone::Runner), cell.runners, "runners at once");
            samples.push(sample);
            scenario.cancel_waiting();
            scenario.settles(0, cell.patience()).await;
        }
        set.delete().await;
        samples
    }

    async fn measure(
        &self,
        scenario: &Scenario<'_>,
        cell: Cell,
        listener: &dyn Runs,
        controller: Option<&Controller>,
    ) -> Sample {
        let before = self.counts(controller).await;
        let webhook = self.shipped.as_ref().map(|shipped| shipped.companion.webhook.process.id());
        let [arc, own, server, store] = [
            self.manager.process().into_iter().chain(listener.process()).collect(),
            controller.map(Controller::id).into_iter().chain(webhook).collect(),
            processes(self.control_plane, "kube-apiserver"),
            processes(self.control_plane, "etcd"),
        ]
        .map(|processes: Vec<u32>| Meter::begin(processes));
        let pinned = self.pinned();
        let figures = scenario.burst(cell.runners, cell.patience()).await;
        let [arc, own, server, store] = [arc, own, server, store].map(|meter| meter.end());
        let is_pinned = self.pinned() > pinned;
        assert_eq!(is_pinned, controller.is_some(), "whether the burst was Headstart's");
        let after = self.counts(controller).await;
        let (calls, phases) = after.since(&before);
        Sample { figures, arc, own, server, store, calls, phases }
    }

    fn pinned(&self) -> usize {
        self.shipped.as_ref().map_or(0, Shipped::pinned)
    }

    async fn counts(&self, controller: Option<&Controller>) -> Counts {
        let request = axum::http::Request::get("/metrics").body(vec![]).unwrap();
        let all = Metrics::read(self.client.request_text(request).await.unwrap());
        let all = all.sum_without("apiserver_request_total", "verb=\"WATCH\"");
        let phases = match controller {
            Some(controller) => controller.metrics().await,
            None => Metrics::default(),
        };
        let own = phases.sum("headstart_creation_calls_total");
        Counts { calls: Calls { manager: self.manager.calls().await, own, all }, phases }
    }
}

/// What users store beside their scale set; the model reads none and leaves it to them.
fn credentials(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": format!("{NAME}-github"), "namespace": namespace },
        "stringData": { "github_token": "a-token" },
    })
}

impl Counts {
    fn since(&self, before: &Self) -> (Calls, Vec<(String, f64, f64)>) {
        let calls = Calls {
            manager: self.calls.manager - before.calls.manager,
            own: self.calls.own - before.calls.own,
            all: self.calls.all - before.calls.all,
        };
        let grown = |of: &str| {
            let name = format!("headstart_creation_call_duration_seconds_{of}");
            let [now, then] = [&self.phases, &before.phases].map(|metrics| metrics.by_label(&name));
            now.into_iter().map(move |(phase, value)| {
                let grown = value - then.get(&phase).copied().unwrap_or_default();
                (phase, grown)
            })
        };
        let both = grown("count").zip(grown("sum"));
        let phases = both.map(|((phase, count), (_, sum))| (phase, count, sum));
        (calls, phases.filter(|(_, count, _)| *count > 0.0).collect())
    }
}
