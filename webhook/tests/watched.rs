//! The published state of a cluster, against a small ConfigMap server in this process, on tokio's paused time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use headstart_externals::config::Config;
use headstart_externals::state::PublishedState;
use headstart_runtime::shutdown::Shutdown;
use headstart_webhook::metrics::Metrics;
use headstart_webhook::published::Published;
use headstart_webhook::reason::Reason;
use headstart_webhook::runner_sets::sources::RunnerSets;
use headstart_webhook::watched::WatchedState;
use kube::Client;
use prometheus::Registry;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

const PATH: &str = "/api/v1/namespaces/system/configmaps";

/// One ConfigMap, as an API server keeps it.
#[derive(Clone, Default)]
struct Server {
    stored: Arc<Mutex<Stored>>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Stored {
    data: Option<Value>,
    version: u64,
    down: bool,
    watched: bool,
}

impl Server {
    fn client(&self) -> Client {
        let routes = Router::new()
            .route(PATH, get(list_or_watch))
            .route(&format!("{PATH}/headstart-state"), get(read))
            .with_state(self.clone());
        Client::new(routes, "system")
    }

    fn with<T>(&self, look: impl FnOnce(&mut Stored) -> T) -> T {
        look(&mut self.stored.lock().unwrap())
    }

    fn object(&self) -> Option<Value> {
        self.with(|stored| {
            let metadata = json!({"name": "headstart-state", "resourceVersion": stored.version.to_string()});
            let data = stored.data.as_ref()?;
            Some(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}))
        })
    }

    /// Stores other data; whoever watches is told.
    fn store(&self, data: Option<Value>) {
        self.with(|stored| {
            stored.data = data;
            stored.version += 1;
        });
        self.changed.notify_waiters();
    }

    fn publish(&self, generation: u64) {
        self.store(Some(json!({"state.json": state(generation)})));
    }

    fn set_down(&self, down: bool) {
        self.with(|stored| stored.down = down);
    }

    async fn is_up(&self) {
        if self.with(|stored| stored.down) {
            std::future::pending::<()>().await;
        }
    }
}

async fn read(State(server): State<Server>) -> Response {
    server.is_up().await;
    let absent = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound",
        "message": "configmaps \"headstart-state\" not found", "code": 404});
    match server.object() {
        Some(object) => Json(object).into_response(),
        None => (StatusCode::NOT_FOUND, Json(absent)).into_response(),
    }
}

/// A watch gives one event and ends; clients then watch again.
async fn list_or_watch(State(server): State<Server>, RawQuery(query): RawQuery) -> Json<Value> {
    let query = query.unwrap_or_default();
    assert!(query.contains("fieldSelector=metadata.name%3Dheadstart-state"), "{query}");
    server.is_up().await;
    if !query.contains("watch=true") {
        let version = server.with(|stored| stored.version.to_string());
        let items: Vec<Value> = server.object().into_iter().collect();
        let metadata = json!({"resourceVersion": version});
        return Json(
            json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": metadata, "items": items}),
        );
    }
    let changed = server.changed.notified();
    server.with(|stored| stored.watched = true);
    changed.await;
    Json(json!({"type": "MODIFIED", "object": server.object()}))
}

/// A state of that generation, as a controller would write it.
fn state(generation: u64) -> String {
    let config = "apiVersion: headstart.dev/v1\nprofiles:\n- name: node16\n  preset: node16\n  revisions:\n  \
                  - {revision: a, source: {directory: {path: /srv/externals}}}\n";
    let state = PublishedState { generation, ..PublishedState::immediate(&Config::parse(config).unwrap()) };
    serde_json::to_string(&state).unwrap()
}

/// A webhook's state that follows the server.
struct Follower {
    server: Server,
    published: Published,
    registry: Registry,
    _task: JoinHandle<anyhow::Result<()>>,
}

impl Follower {
    fn start(server: Server) -> Self {
        let (published, registry) = (Published::watched(), Registry::new());
        let followed =
            WatchedState::new(published.clone(), RunnerSets::watched(), Metrics::new(&registry).unwrap());
        let (namespace, name) = ("system".to_owned(), "headstart-state".to_owned());
        let task = tokio::spawn(followed.run(server.client(), namespace, name, Shutdown::new()));
        Self { server, published, registry, _task: task }
    }

    /// The generation in force, or why there is none.
    fn look(&self) -> Result<u64, Reason> {
        self.published.get().map(|state| state.generation)
    }

    fn generation_metric(&self) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == "headstart_state_generation").unwrap();
        family.get_metric()[0].get_gauge().get_value()
    }
}

/// Lets that many seconds pass on the paused clock.
async fn pass(seconds: u64) {
    let _ = tokio::time::timeout(Duration::from_secs(seconds), std::future::pending::<()>()).await;
}

#[tokio::test(start_paused = true)]
async fn a_state_is_used_as_long_as_it_is_read_however_old_it_is() {
    let server = Server::default();
    server.publish(3);
    let follower = Follower::start(server);
    assert_eq!(follower.look(), Err(Reason::StateUnknown), "nothing was read yet");
    pass(1).await;
    assert_eq!((follower.look(), follower.generation_metric()), (Ok(3), 3.0));
    for _ in 0..100 {
        pass(37).await;
        assert_eq!(follower.look(), Ok(3));
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_taken_over_at_once() {
    let server = Server::default();
    server.publish(1);
    let follower = Follower::start(server);
    pass(20).await;
    assert!(follower.server.with(|stored| stored.watched), "there is a watch");
    let begun = Instant::now();
    follower.server.publish(2);
    while follower.look() != Ok(2) {
        pass(1).await;
        assert!(begun.elapsed() < Duration::from_secs(3), "it waited for the next regular read");
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_that_cannot_be_read_any_more_is_stale_after_a_minute_and_recovers() {
    let server = Server::default();
    server.publish(1);
    let follower = Follower::start(server);
    pass(20).await;
    follower.server.set_down(true);
    pass(40).await;
    assert_eq!(follower.look(), Ok(1), "a short outage changes nothing");
    pass(25).await;
    assert_eq!(follower.look(), Err(Reason::StateStale));
    pass(600).await;
    assert_eq!(follower.look(), Err(Reason::StateStale));
    follower.server.set_down(false);
    follower.server.publish(2);
    pass(20).await;
    assert_eq!(follower.look(), Ok(2));
}

#[tokio::test(start_paused = true)]
async fn a_state_that_is_gone_is_not_used() {
    let server = Server::default();
    server.publish(1);
    let follower = Follower::start(server);
    pass(1).await;
    assert_eq!(follower.look(), Ok(1));
    follower.server.store(None);
    pass(20).await;
    assert_eq!(follower.look(), Err(Reason::StateUnknown));
    follower.server.publish(1);
    pass(20).await;
    assert_eq!(follower.look(), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn content_that_cannot_be_understood_leaves_the_last_good_state_until_it_is_stale() {
    for bad in
        [json!({"state.json": "{"}), json!({"other": "{}"}), json!({"state.json": "{\"kind\": \"X\"}"})]
    {
        let server = Server::default();
        server.publish(1);
        let follower = Follower::start(server);
        pass(20).await;
        follower.server.store(Some(bad.clone()));
        pass(40).await;
        assert_eq!(follower.look(), Ok(1), "{bad}");
        pass(30).await;
        assert_eq!(follower.look(), Err(Reason::StateStale), "{bad}");
        follower.server.publish(1);
        pass(20).await;
        assert_eq!(follower.look(), Ok(1), "the same content is good again");
    }
}
