//! How a burst of runners goes without Headstart, on the real ARC, where the environment names its programs, and on our
//! model of it; and what the real listener writes, on which our design relies.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use headstart_externals::pin::Stored;
use headstart_tests::actions_service::{ActionsService, Endpoint};
use headstart_tests::arc::driver::Modelled;
use headstart_tests::arc::model::Generation;
use headstart_tests::arc::real::{Installed, REAL, Real};
use headstart_tests::arc::scenario::{Scenario, head};
use headstart_tests::arc::{Asked, IsSetUp, RUNNER_SETS, Tuning, UnderTest, api, namespace};
use headstart_tests::bed::command::say;
use headstart_tests::bed::{ControlPlane, Minor};
use headstart_tests::depth::is_full;
use headstart_tests::wait::until;
use kube::Client;

/// The slowest burst takes 40 s on an idle machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// A burst of runners and how long one registration takes.
struct Burst {
    tuning: Tuning,
    runners: usize,
    registration: Duration,
}

fn bursts() -> Vec<Burst> {
    let burst = |tuning, runners, milliseconds| {
        let registration = Duration::from_millis(milliseconds);
        Burst { tuning, runners, registration }
    };
    if !is_full() {
        return vec![burst(Tuning::Default, 8, 50)];
    }
    let all = |tuning| [0, 150, 400].map(|milliseconds| burst(tuning, 100, milliseconds));
    [Tuning::Default, Tuning::Tuned].into_iter().flat_map(all).collect()
}

/// A burst, then half of the jobs are done, then the others are cancelled, then the scale set goes. A row of the table.
async fn runs(
    arc: &impl UnderTest,
    control_plane: &ControlPlane,
    service: &ActionsService,
    burst: &Burst,
) -> String {
    let client = control_plane.client().await.unwrap();
    let namespace = namespace(control_plane, "runners", &[]).await;
    let manager = arc.manager(burst.tuning);
    let url = service.config_url();
    let asked = Asked { namespace: namespace.name(), name: "linux", url: &url, at_least: 0, at_most: 1000 };
    let set = arc.scale_set(&asked).await;
    let scenario = Scenario::follow(service, &client, namespace.name(), asked.name).await;
    if arc.name() == REAL {
        idles(&client, &asked, &set).await;
    }

    service.with(|service, _| service.faults.set_latency(Endpoint::GenerateJitConfig, burst.registration));
    let figures = scenario.burst(burst.runners, PATIENCE).await;
    scenario.was_exact(burst.runners);

    let half = burst.runners / 2;
    let busy = scenario.begin(half).await;
    scenario.finish(&busy).await;
    scenario.settles(burst.runners - half, PATIENCE).await;
    // A positive patchID never deletes: only the steady state that follows does.
    scenario.cancel_waiting();
    scenario.settles(0, PATIENCE).await;
    scenario.was_exact(burst.runners);

    let generations = scenario.timeline.generations();
    let wanted = i64::try_from(burst.runners).unwrap();
    let grows = |stored: &Stored| matches!(stored, Stored::Raw { replicas, patch_id } if *replicas == wanted && *patch_id > 0);
    assert!(generations.iter().any(grows), "{generations:?}");
    assert_eq!(generations.last(), Some(&Stored::Raw { replicas: 0, patch_id: 0 }), "{generations:?}");

    set.delete().await;
    let left = service.with(|service, _| (service.sets().count(), service.agents().count()));
    assert_eq!(left, (0, 0), "scale sets and runners that the service still knows");
    drop(manager);
    let (tuning, registration) = (format!("{:?}", burst.tuning), burst.registration.as_millis());
    let row = format!("{:>9}{tuning:>9}{:>9}{registration:>9}{}", arc.name(), burst.runners, figures.row());
    say(&row);
    row
}

/// The whole table.
fn show(rows: &[String]) {
    let columns = ["ARC", "flags", "runners", "reg. ms"].map(|it| format!("{it:>9}")).concat();
    let rows = rows.join("\n");
    say(&format!(
        "seconds from the listener's patch to the last runner at each milestone\n{columns}{}\n{rows}",
        head()
    ));
}

/// What our webhook and engine rely on: in the steady state the listener writes the same merge patch at every poll, with
/// patchID 0 and the replicas taken out, and nothing of the object changes by it.
async fn idles(client: &Client, asked: &Asked<'_>, set: &impl IsSetUp) {
    let sets = api(client, asked.namespace, RUNNER_SETS);
    let version = || async { sets.get(set.runner_set()).await.unwrap().metadata.resource_version };
    let listener = set.listener();
    let steady = r#"{\"spec\":{\"patchID\":0,\"replicas\":null}}"#;
    let patches = || listener.log().matches(steady).count();
    until("the first steady patches", || async { (patches() >= 2).then_some(()) }).await;
    let (before, begun) = (version().await, patches());
    until("more of them", || async { (patches() >= begun + 2).then_some(()) }).await;
    assert_eq!(version().await, before, "a steady patch changes nothing");
}

#[tokio::test]
async fn a_burst_is_exact_and_leaves_nothing_behind() {
    let Some(real) = Real::from_environment() else { return };
    let control_plane = ControlPlane::start(Minor::Newest).await.unwrap();
    let arc = Installed::on(&control_plane, &real).await;
    let mut rows = vec![];
    for burst in bursts() {
        let service = ActionsService::start().await;
        rows.push(runs(&arc, &control_plane, &service, &burst).await);
    }
    show(&rows);
}

#[tokio::test]
async fn on_the_model_a_burst_is_exact_and_leaves_nothing_behind() {
    let control_plane = ControlPlane::start(Minor::Newest).await.unwrap();
    Modelled::install(&control_plane).await;
    let mut rows = vec![];
    for generation in [Generation::Release, Generation::Master] {
        for burst in bursts() {
            let service = Arc::new(ActionsService::start().await);
            let arc = Modelled::there(&control_plane, &service, generation).await;
            rows.push(runs(&arc, &control_plane, &service, &burst).await);
        }
    }
    show(&rows);
}
