//! Leadership against a small Lease server in this process, on tokio's paused time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use headstart_runtime::lease::election::Timing;
use headstart_runtime::lease::{self, Leading, LeaseConfig};
use headstart_runtime::shutdown::Shutdown;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/system/leases";

/// One Lease, as an API server keeps it.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    lease: Option<Value>,
    version: u64,
    written: Option<Instant>,
    /// Who gets no answer any more.
    cut_off: Vec<String>,
    /// Whether the next write is done but never answered.
    lose_answer: bool,
    refused: u32,
}

impl Server {
    /// The way of one candidate to the server.
    fn client(&self, who: &str) -> Client {
        let routes = Router::new()
            .route(PATH, get(read_nothing).post(create))
            .route(&format!("{PATH}/leader"), get(read).put(replace))
            .with_state((self.clone(), who.to_owned()));
        Client::new(routes, "system")
    }

    fn with<T>(&self, look: impl FnOnce(&mut Stored) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    fn holder(&self) -> String {
        self.with(|stored| {
            let holder = stored.lease.as_ref().and_then(|lease| lease["spec"]["holderIdentity"].as_str());
            holder.unwrap_or_default().to_owned()
        })
    }

    fn cut_off(&self, who: &str) {
        self.with(|stored| stored.cut_off.push(who.to_owned()));
    }

    fn heal(&self) {
        self.with(|stored| stored.cut_off.clear());
    }
}

type Caller = State<(Server, String)>;

async fn read_nothing() -> StatusCode {
    StatusCode::METHOD_NOT_ALLOWED
}

async fn read(State((server, who)): Caller) -> Response {
    unless_cut_off(&server, &who).await;
    match server.with(|stored| stored.lease.clone()) {
        Some(lease) => Json(lease).into_response(),
        None => refusal(StatusCode::NOT_FOUND, "NotFound"),
    }
}

async fn create(State((server, who)): Caller, Json(lease): Json<Value>) -> Response {
    unless_cut_off(&server, &who).await;
    if server.with(|stored| stored.lease.is_some()) {
        return refusal(StatusCode::CONFLICT, "AlreadyExists");
    }
    store(&server, lease).await
}

async fn replace(State((server, who)): Caller, Json(lease): Json<Value>) -> Response {
    unless_cut_off(&server, &who).await;
    let current = server.with(|stored| stored.lease.as_ref().unwrap()["metadata"]["resourceVersion"].clone());
    if lease["metadata"]["resourceVersion"] != current {
        server.with(|stored| stored.refused += 1);
        return refusal(StatusCode::CONFLICT, "Conflict");
    }
    store(&server, lease).await
}

async fn store(server: &Server, mut lease: Value) -> Response {
    let lost = server.with(|stored| {
        stored.version += 1;
        lease["metadata"]["resourceVersion"] = json!(stored.version.to_string());
        stored.lease = Some(lease.clone());
        stored.written = Some(Instant::now());
        std::mem::take(&mut stored.lose_answer)
    });
    if lost {
        std::future::pending::<()>().await;
    }
    Json(lease).into_response()
}

async fn unless_cut_off(server: &Server, who: &str) {
    if server.with(|stored| stored.cut_off.iter().any(|name| name == who)) {
        std::future::pending::<()>().await;
    }
}

fn refusal(code: StatusCode, reason: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": reason, "message": "refused", "code": code.as_u16(),
    });
    (code, Json(status)).into_response()
}

/// What candidates do, in order.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Began(&'static str, i32),
    Ended(&'static str),
}

/// All candidates of a test.
struct Stage {
    server: Server,
    events: UnboundedReceiver<(Event, Instant)>,
    sender: UnboundedSender<(Event, Instant)>,
}

impl Stage {
    fn new() -> Self {
        let (sender, events) = unbounded_channel();
        Self { server: Server::default(), events, sender }
    }

    /// A candidate whose work lasts as long as its term.
    fn enter(&self, name: &'static str) -> (Shutdown, JoinHandle<anyhow::Result<()>>) {
        let sender = self.sender.clone();
        self.enter_with(name, move |leading| {
            let sender = sender.clone();
            async move {
                let told = |event| sender.send((event, Instant::now())).unwrap();
                told(Event::Began(name, leading.term));
                leading.over.begun().await;
                told(Event::Ended(name));
                Ok(())
            }
        })
    }

    fn enter_with<F>(
        &self,
        name: &'static str,
        work: impl FnMut(Leading) -> F + Send + 'static,
    ) -> (Shutdown, JoinHandle<anyhow::Result<()>>)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let shutdown = Shutdown::new();
        let config = LeaseConfig {
            namespace: "system".to_owned(),
            name: "leader".to_owned(),
            identity: name.to_owned(),
            timing: Timing::default(),
        };
        let run = lease::run(self.server.client(name), config, shutdown.clone(), work);
        (shutdown, tokio::spawn(run))
    }

    /// The next thing that happens, and when.
    async fn next(&mut self) -> (Event, Instant) {
        tokio::time::timeout(Duration::from_secs(120), self.events.recv())
            .await
            .expect("nothing happens")
            .unwrap()
    }

    /// Whether nothing happens for a while.
    async fn is_quiet(&mut self, seconds: u64) -> bool {
        tokio::time::timeout(Duration::from_secs(seconds), self.events.recv()).await.is_err()
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_candidates_exactly_one_leads_as_long_as_it_lives() {
    let mut stage = Stage::new();
    let (_a, _) = stage.enter("a");
    let (_b, _) = stage.enter("b");
    let (Event::Began(leader, 0), _) = stage.next().await else { panic!("nobody leads") };
    assert!(stage.is_quiet(300).await, "the other one must stand by");
    assert_eq!(stage.server.holder(), leader);
}

#[tokio::test(start_paused = true)]
async fn a_partitioned_leader_has_stopped_before_another_one_leads() {
    let mut stage = Stage::new();
    let (_a, _) = stage.enter("a");
    assert_eq!(stage.next().await.0, Event::Began("a", 0));
    let (_b, _) = stage.enter("b");
    assert!(stage.is_quiet(30).await);

    let cut = Instant::now();
    stage.server.cut_off("a");
    let (ended, at) = stage.next().await;
    assert_eq!(ended, Event::Ended("a"));
    let silent = at - stage.server.with(|stored| stored.written.unwrap());
    assert!(silent <= Duration::from_secs(10), "stopped {silent:?} after the last renewal");
    let (began, later) = stage.next().await;
    assert_eq!(began, Event::Began("b", 1));
    assert!(later - at >= Duration::from_secs(3), "only {:?} between the terms", later - at);
    assert!(later - cut <= Duration::from_secs(20), "{:?} without a leader", later - cut);

    stage.server.heal();
    assert!(stage.is_quiet(60).await, "whoever comes back stands by");
}

#[tokio::test(start_paused = true)]
async fn work_that_does_not_stop_is_cut_off_before_another_one_leads() {
    let mut stage = Stage::new();
    let sender = stage.sender.clone();
    let (_a, _) = stage.enter_with("a", move |_| {
        let sender = sender.clone();
        async move {
            /// Tells when the work is gone, however it ends.
            struct Gone(UnboundedSender<(Event, Instant)>);
            impl Drop for Gone {
                fn drop(&mut self) {
                    let _ = self.0.send((Event::Ended("a"), Instant::now()));
                }
            }
            let _gone = Gone(sender.clone());
            sender.send((Event::Began("a", 0), Instant::now()))?;
            std::future::pending::<()>().await;
            Ok(())
        }
    });
    assert_eq!(stage.next().await.0, Event::Began("a", 0));
    let (_b, _) = stage.enter("b");
    assert!(stage.is_quiet(5).await);
    stage.server.cut_off("a");
    assert_eq!(stage.next().await.0, Event::Ended("a"));
    assert_eq!(stage.next().await.0, Event::Began("b", 1));
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_costs_nothing() {
    let mut stage = Stage::new();
    let (_a, _) = stage.enter("a");
    assert_eq!(stage.next().await.0, Event::Began("a", 0));
    stage.server.cut_off("a");
    assert!(stage.is_quiet(6).await);
    stage.server.heal();
    assert!(stage.is_quiet(60).await, "the term goes on");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_answer_is_lost_is_not_a_lost_term() {
    let mut stage = Stage::new();
    let (_a, _) = stage.enter("a");
    assert_eq!(stage.next().await.0, Event::Began("a", 0));
    stage.server.with(|stored| stored.lose_answer = true);
    assert!(stage.is_quiet(60).await, "the leader reads again and goes on");
    assert!(!stage.server.with(|stored| stored.lose_answer), "an answer was lost");
    assert_eq!(stage.server.with(|stored| stored.refused), 0, "it does not write on a guess");
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_was_taken_stops_at_once() {
    let mut stage = Stage::new();
    let (_a, _) = stage.enter("a");
    assert_eq!(stage.next().await.0, Event::Began("a", 0));
    let taken = Instant::now();
    stage.server.with(|stored| {
        let lease = stored.lease.as_mut().unwrap();
        lease["spec"]["holderIdentity"] = json!("somebody");
        lease["metadata"]["resourceVersion"] = json!("1000");
    });
    let (ended, at) = stage.next().await;
    assert_eq!(ended, Event::Ended("a"));
    assert!(
        at - taken <= Duration::from_secs(5),
        "a conflict and a look, not the deadline: {:?}",
        at - taken
    );
    assert_eq!(stage.server.with(|stored| stored.refused), 1);
    assert_eq!(stage.next().await.0, Event::Began("a", 1), "the one who took it gives no sign of life");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_shuts_down_hands_over_at_once() {
    let mut stage = Stage::new();
    let (shutdown, task) = stage.enter("a");
    assert_eq!(stage.next().await.0, Event::Began("a", 0));
    let (_b, _) = stage.enter("b");
    assert!(stage.is_quiet(30).await);
    shutdown.begin();
    let (ended, at) = stage.next().await;
    assert_eq!(ended, Event::Ended("a"));
    task.await.unwrap().unwrap();
    let (began, later) = stage.next().await;
    assert_eq!(began, Event::Began("b", 1));
    assert!(later - at <= Duration::from_secs(3), "the lease was not waited for: {:?}", later - at);
}

#[tokio::test(start_paused = true)]
async fn nobody_else_leads_while_a_leader_finishes_its_work() {
    let mut stage = Stage::new();
    let (finish, finished) = tokio::sync::oneshot::channel::<()>();
    let (sender, mut finished) = (stage.sender.clone(), Some(finished));
    let (shutdown, task) = stage.enter_with("a", move |leading| {
        let (sender, finished) = (sender.clone(), finished.take().unwrap());
        async move {
            sender.send((Event::Began("a", leading.term), Instant::now()))?;
            finished.await?;
            sender.send((Event::Ended("a"), Instant::now()))?;
            Ok(())
        }
    });
    assert_eq!(stage.next().await.0, Event::Began("a", 0));
    let (_b, _) = stage.enter("b");
    shutdown.begin();
    assert!(stage.is_quiet(60).await, "the term lasts as long as the work");
    finish.send(()).unwrap();
    assert_eq!(stage.next().await.0, Event::Ended("a"));
    assert_eq!(stage.next().await.0, Event::Began("b", 1));
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn work_that_fails_ends_the_candidate_and_frees_the_lease() {
    let stage = Stage::new();
    let (_shutdown, task) = stage.enter_with("a", |_| async { anyhow::bail!("lost its mind") });
    let error = task.await.unwrap().unwrap_err();
    assert_eq!(format!("{error:#}"), "the leader's work failed: lost its mind");
    assert_eq!(stage.server.holder(), "");
}
