//! The controller is killed at every step: as it makes a call, and once that is done but before it hears of it.

use axum::http::{self, Method};
use headstart_tests::actions_service::{self, Caller, Endpoint, Span};
use headstart_tests::wait::until;
use serde_json::Value;

use crate::stage::{SLOW, Stage, all_are_tried, forget_leader};
use crate::weak::{Fault, Harm, Seen, Weak, Write};

/// What is in doubt is so for no longer than a call may take. The leader that is killed waits longer than that, so that it
/// cannot try again before.
const FLAGS: &[&str] = &["--runner-creation-concurrency=4", "--runner-creation-timeout=2s"];

const RUNNERS: usize = 8;

/// Which call, by whom it goes to.
enum Call {
    Kubernetes(Write),
    Service(Endpoint),
}

/// A burst, of which one call is never answered; then its controller is killed, and the next one finishes.
async fn killed(call: Call, is_done: bool) {
    let stage = Stage::new().await;
    let weak = Weak::before(stage.control_plane).await;
    let mut first = stage.leader_by_way_of("one", &weak.url(), Some(&weak.authority()), SLOW).await;
    let it = stage.enabled().await;
    stage.companion.pins("one", 1).await;
    stage.registrations_take(100);
    match call {
        Call::Kubernetes(write) => weak.add(Fault { write, harm: Harm::Silence, times: 1, is_done }),
        Call::Service(endpoint) => {
            let fault = actions_service::Fault::new(&[endpoint], actions_service::Harm::Hang, Span::Next(1));
            let fault = if is_done { fault.after() } else { fault };
            stage.service.with(|service, _| service.faults.add(fault.of(Caller::Headstart)));
        }
    }
    it.scenario.ask(RUNNERS);
    until("the call is made", || async {
        let is_asked = stage.service.with(|service, _| service.faults.are_delivered());
        (weak.is_delivered() && is_asked).then_some(())
    })
    .await;
    if is_done {
        stage.shows_what_was_done(&weak).await;
    }
    first.kill();
    forget_leader(stage.control_plane);
    let second = stage.leader("two", FLAGS).await;
    it.settles_without_others(RUNNERS).await;
    it.ends().await;
    Stage::retire(second).await;
}

impl Stage {
    /// Panics unless the one call of which nobody heard has taken effect.
    async fn shows_what_was_done(&self, weak: &Weak) {
        self.service.with(|service, _| {
            for call in service.faults.delivered() {
                assert!(service.agent(&call.name).is_some(), "{call:?}");
            }
        });
        for call in weak.harmed() {
            let request = http::Request::get(&call.object).body(vec![]).unwrap();
            let found = match self.client.request::<Value>(request).await {
                Err(kube::Error::Api(status)) if status.code == 404 => None,
                found => Some(found.unwrap()),
            };
            assert!(is_done(&call, found.as_ref()), "{call:?}: {found:#?}");
        }
    }
}

/// Whether an object is as this call makes it.
fn is_done(call: &Seen, found: Option<&Value>) -> bool {
    let Some(found) = found else { return call.method == Method::DELETE };
    let kind = call.object.rsplit('/').nth(1).unwrap();
    match (call.method.as_str(), kind) {
        ("POST", _) => true,
        ("PATCH", "ephemeralrunners") => found["status"]["runnerId"].as_i64().is_some_and(|id| id > 0),
        ("PATCH", "secrets") => found["metadata"]["ownerReferences"].is_array(),
        ("PATCH", "ephemeralrunnersets") => found["spec"]["replicas"] == RUNNERS,
        _ => false,
    }
}

macro_rules! killed {
    ($($test:ident: $call:expr, $is_done:literal, $always:literal;)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            if $always || all_are_tried() {
                killed($call, $is_done).await;
            }
        })+
    };
}

killed! {
    before_the_journal: Call::Kubernetes((Method::POST, "/configmaps")), false, false;
    after_the_journal: Call::Kubernetes((Method::POST, "/configmaps")), true, false;
    before_a_registration: Call::Service(Endpoint::GenerateJitConfig), false, false;
    after_a_registration: Call::Service(Endpoint::GenerateJitConfig), true, true;
    before_a_secret: Call::Kubernetes((Method::POST, "/secrets")), false, true;
    after_a_secret: Call::Kubernetes((Method::POST, "/secrets")), true, true;
    before_a_runner: Call::Kubernetes((Method::POST, "/ephemeralrunners")), false, false;
    after_a_runner: Call::Kubernetes((Method::POST, "/ephemeralrunners")), true, true;
    before_a_pod: Call::Kubernetes((Method::POST, "/pods")), false, false;
    after_a_pod: Call::Kubernetes((Method::POST, "/pods")), true, false;
    before_a_status: Call::Kubernetes((Method::PATCH, "/ephemeralrunners/")), false, false;
    after_a_status: Call::Kubernetes((Method::PATCH, "/ephemeralrunners/")), true, false;
    before_a_secret_is_owned: Call::Kubernetes((Method::PATCH, "/secrets/")), false, false;
    after_a_secret_is_owned: Call::Kubernetes((Method::PATCH, "/secrets/")), true, false;
    before_the_hand_back: Call::Kubernetes((Method::PATCH, "/ephemeralrunnersets/")), false, true;
    after_the_hand_back: Call::Kubernetes((Method::PATCH, "/ephemeralrunnersets/")), true, true;
    before_the_journal_goes: Call::Kubernetes((Method::DELETE, "/configmaps/")), false, false;
    after_the_journal_is_gone: Call::Kubernetes((Method::DELETE, "/configmaps/")), true, false;
}
