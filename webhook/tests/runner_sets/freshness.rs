//! How long what is known may be trusted: against a small API server in this process, on tokio's paused time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use headstart_externals::names::RUNNER_SETS_KEY;
use headstart_runtime::shutdown::Shutdown;
use headstart_webhook::metrics::Metrics;
use headstart_webhook::published::Published;
use headstart_webhook::runner_sets::leader;
use headstart_webhook::runner_sets::reason::PinReason;
use headstart_webhook::runner_sets::sources::RunnerSets;
use headstart_webhook::watched::WatchedState;
use kube::Client;
use prometheus::Registry;
use serde_json::{Value, json};

use super::{LEADER, published, scale_up};

/// A ConfigMap and a Lease, as an API server keeps them; nobody is told of changes, so that only reads count.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    data: Option<Value>,
    holder: Option<String>,
    renewals: u32,
    /// Whether reads of the ConfigMap, and of the Lease, hang.
    hangs: (bool, bool),
}

impl Server {
    fn client(&self) -> Client {
        let routes = Router::new()
            .route("/api/v1/namespaces/system/configmaps", get(std::future::pending::<StatusCode>))
            .route("/api/v1/namespaces/system/configmaps/headstart-state", get(config_map))
            .route("/apis/coordination.k8s.io/v1/namespaces/system/leases/headstart-controller", get(lease))
            .with_state(self.clone());
        Client::new(routes, "system")
    }

    fn with<T>(&self, look: impl FnOnce(&mut Stored) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }
}

async fn config_map(State(server): State<Server>) -> Response {
    if server.with(|stored| stored.hangs.0) {
        return std::future::pending().await;
    }
    found("configmaps", server.with(|stored| {
        let data = stored.data.clone()?;
        Some(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "headstart-state" }, "data": data }))
    }))
}

async fn lease(State(server): State<Server>) -> Response {
    if server.with(|stored| stored.hangs.1) {
        return std::future::pending().await;
    }
    found("leases", server.with(|stored| {
        let time = format!("2026-01-01T00:{:02}:{:02}.000000Z", stored.renewals / 60, stored.renewals % 60);
        let spec = json!({ "holderIdentity": stored.holder.clone()?, "renewTime": time });
        let metadata = json!({ "name": "headstart-controller" });
        Some(json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec }))
    }))
}

fn found(what: &str, object: Option<Value>) -> Response {
    let absent = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound",
        "message": format!("{what} not found"), "code": 404});
    match object {
        Some(object) => Json(object).into_response(),
        None => (StatusCode::NOT_FOUND, Json(absent)).into_response(),
    }
}

/// A webhook that follows the server, whose leader renews its Lease every second.
struct Follower {
    server: Server,
    sets: RunnerSets,
    is_leading: bool,
}

impl Follower {
    async fn start() -> Self {
        let (server, sets) = (Server::default(), RunnerSets::watched());
        let mut this = Self { server, sets, is_leading: true };
        this.publish(Some(&text()));
        this.server.with(|stored| stored.holder = Some(LEADER.to_owned()));
        let metrics = Metrics::new(&Registry::new()).unwrap();
        let state = WatchedState::new(Published::watched(), this.sets.clone(), metrics);
        let names = ("system".to_owned(), "headstart-state".to_owned());
        tokio::spawn(state.run(this.server.client(), names.0.clone(), names.1, Shutdown::new()));
        let lease = (names.0, "headstart-controller".to_owned());
        tokio::spawn(leader::follow(this.server.client(), lease, this.sets.clone(), Shutdown::new()));
        assert_eq!(this.look(), PinReason::ListUnknown);
        this.pass(5).await;
        assert_eq!(this.look(), PinReason::Pinned);
        this
    }

    fn publish(&self, text: Option<&str>) {
        let data = text.map_or(json!({}), |text| json!({ RUNNER_SETS_KEY: text }));
        self.server.with(|stored| stored.data = Some(data));
    }

    /// What would become of a scale-up now.
    fn look(&self) -> PinReason {
        self.sets.decide(&scale_up()).reason
    }

    /// Lets that many seconds pass on the paused clock.
    async fn pass(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.server.with(|stored| stored.renewals += u32::from(self.is_leading));
            let second = Duration::from_secs(1);
            let _ = tokio::time::timeout(second, std::future::pending::<()>()).await;
        }
    }

    /// How many seconds pass until a scale-up is decided over like that.
    async fn seconds_until(&mut self, reason: PinReason) -> u32 {
        let mut seconds = 0;
        while self.look() != reason {
            assert!(seconds < 300, "still {} instead of {reason}", self.look());
            self.pass(1).await;
            seconds += 1;
        }
        seconds
    }
}

fn text() -> String {
    serde_json::to_string(&*published()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_renews_is_trusted_for_ever() {
    let mut follower = Follower::start().await;
    for _ in 0..30 {
        follower.pass(37).await;
        assert_eq!(follower.look(), PinReason::Pinned);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stops_renewing_is_silent_within_about_ten_seconds() {
    let mut follower = Follower::start().await;
    follower.is_leading = false;
    let seconds = follower.seconds_until(PinReason::LeaderSilent).await;
    assert!((8..=13).contains(&seconds), "{seconds}");
    follower.pass(600).await;
    assert_eq!(follower.look(), PinReason::LeaderSilent);
    follower.is_leading = true;
    assert!(follower.seconds_until(PinReason::Pinned).await <= 4);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_be_read_is_no_sign_of_life() {
    let mut follower = Follower::start().await;
    follower.server.with(|stored| stored.hangs.1 = true);
    let seconds = follower.seconds_until(PinReason::LeaderSilent).await;
    assert!((8..=13).contains(&seconds), "{seconds}");
    follower.server.with(|stored| stored.hangs.1 = false);
    assert!(follower.seconds_until(PinReason::Pinned).await <= 6, "a read that hangs ends");
}

#[tokio::test(start_paused = true)]
async fn another_leader_is_not_trusted_until_it_publishes() {
    let mut follower = Follower::start().await;
    follower.server.with(|stored| stored.holder = Some("other".to_owned()));
    assert!(follower.seconds_until(PinReason::LeaderOther).await <= 3);
    follower.pass(30).await;
    assert_eq!(follower.look(), PinReason::LeaderOther);
    follower.publish(Some(&text().replace(LEADER, "other")));
    assert!(follower.seconds_until(PinReason::Pinned).await <= 16);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_given_back_or_is_gone_ends_it_at_once() {
    for holder in [Some(String::new()), None] {
        let mut follower = Follower::start().await;
        follower.server.with(|stored| stored.holder = holder);
        follower.pass(3).await;
        assert!(matches!(follower.look(), PinReason::LeaderOther | PinReason::LeaderSilent));
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_gone_or_makes_no_sense_pins_nothing() {
    for text in [None, Some("{"), Some("{\"kind\": \"X\"}")] {
        let mut follower = Follower::start().await;
        follower.publish(text);
        assert!(follower.seconds_until(PinReason::ListUnknown).await <= 16);
        follower.publish(Some(&self::text()));
        assert!(follower.seconds_until(PinReason::Pinned).await <= 16);
    }
    let mut follower = Follower::start().await;
    follower.server.with(|stored| stored.data = None);
    assert!(follower.seconds_until(PinReason::ListUnknown).await <= 16);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_cannot_be_read_any_more_is_stale_after_a_minute() {
    let mut follower = Follower::start().await;
    follower.server.with(|stored| stored.hangs.0 = true);
    let seconds = follower.seconds_until(PinReason::ListStale).await;
    assert!((45..=62).contains(&seconds), "{seconds}");
    follower.pass(600).await;
    assert_eq!(follower.look(), PinReason::ListStale);
    follower.server.with(|stored| stored.hangs.0 = false);
    assert!(follower.seconds_until(PinReason::Pinned).await <= 16);
}
