//! The node's report against a small Lease server in this process, on tokio's paused time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use headstart_cachesync::fault::Fault;
use headstart_cachesync::published::Published;
use headstart_cachesync::report::Reporter;
use headstart_cachesync::status::StatusBoard;
use headstart_externals::arch::Arch;
use headstart_externals::fault::FaultReason;
use headstart_externals::report::{NodeReport, VersionState};
use headstart_externals::version::VersionName;
use headstart_runtime::shutdown::Shutdown;
use kube::Client;
use prometheus::Registry;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/system/leases";

/// One Lease, as an API server keeps it, and when it was written.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Stored>>);

#[derive(Default)]
struct Stored {
    lease: Option<Value>,
    version: u64,
    writes: Vec<Instant>,
    tries: Vec<Instant>,
    down: bool,
}

impl Server {
    /// Other calls than get, create and update are not allowed, as for a real agent.
    fn client(&self) -> Client {
        let routes = Router::new()
            .route(PATH, post(create))
            .route(&format!("{PATH}/node-1"), get(read).put(replace))
            .with_state(self.clone());
        Client::new(routes, "system")
    }

    fn with<T>(&self, look: impl FnOnce(&mut Stored) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    fn lease(&self) -> Value {
        self.with(|stored| stored.lease.clone()).expect("no Lease was written")
    }

    fn report(&self) -> NodeReport {
        NodeReport::parse(
            self.lease()["metadata"]["annotations"]["headstart.dev/node-report"].as_str().unwrap(),
        )
        .unwrap()
    }

    fn writes(&self) -> usize {
        self.with(|stored| stored.writes.len())
    }

    fn set_down(&self, down: bool) {
        self.with(|stored| stored.down = down);
    }

    /// What somebody else does to the Lease.
    fn meddle(&self, change: impl FnOnce(&mut Option<Value>)) {
        self.with(|stored| {
            stored.version += 1;
            change(&mut stored.lease);
            if let Some(lease) = &mut stored.lease {
                lease["metadata"]["resourceVersion"] = json!(stored.version.to_string());
            }
        });
    }

    fn refusal(&self) -> Option<Response> {
        self.with(|stored| stored.tries.push(Instant::now()));
        self.with(|stored| stored.down)
            .then(|| refusal(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"))
    }

    fn store(&self, mut lease: Value) -> Response {
        self.with(|stored| {
            stored.version += 1;
            lease["metadata"]["resourceVersion"] = json!(stored.version.to_string());
            stored.lease = Some(lease.clone());
            stored.writes.push(Instant::now());
        });
        Json(lease).into_response()
    }
}

async fn read(State(server): State<Server>) -> Response {
    let found = server.with(|stored| stored.lease.clone());
    server.refusal().unwrap_or_else(|| match found {
        Some(lease) => Json(lease).into_response(),
        None => refusal(StatusCode::NOT_FOUND, "NotFound"),
    })
}

async fn create(State(server): State<Server>, Json(lease): Json<Value>) -> Response {
    if server.with(|stored| stored.lease.is_some()) {
        return refusal(StatusCode::CONFLICT, "AlreadyExists");
    }
    server.refusal().unwrap_or_else(|| server.store(lease))
}

async fn replace(State(server): State<Server>, Json(lease): Json<Value>) -> Response {
    let found = server.with(|stored| stored.lease.clone());
    server.refusal().unwrap_or_else(|| match found {
        None => refusal(StatusCode::NOT_FOUND, "NotFound"),
        Some(found) if found["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"] => {
            refusal(StatusCode::CONFLICT, "Conflict")
        }
        Some(_) => server.store(lease),
    })
}

fn refusal(code: StatusCode, reason: &str) -> Response {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": reason, "message": "refused", "code": code.as_u16(),
    });
    (code, Json(status)).into_response()
}

/// A node's status, and the task that reports it.
struct Node {
    server: Server,
    board: StatusBoard,
    registry: Registry,
    _task: JoinHandle<anyhow::Result<()>>,
}

impl Node {
    fn start() -> Self {
        Self::start_with(Server::default())
    }

    fn start_with(server: Server) -> Self {
        let (registry, published) = (Registry::new(), Published::default());
        let board = StatusBoard::new("node-1".to_owned(), Arch::Amd64, "/cache".to_owned(), published);
        let reporter = Reporter::new(server.client(), "system", board.clone(), &registry).unwrap();
        let task = tokio::spawn(reporter.run(Shutdown::new()));
        Self { server, board, registry, _task: task }
    }

    fn want(&self, version: &str) {
        let wanted = [version.parse::<VersionName>().unwrap()];
        self.board.change(|ledger, _| ledger.observe(&wanted, Vec::new(), false));
    }

    fn metric(&self, name: &str, outcome: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).expect(name);
        let with = |metric: &&prometheus::proto::Metric| {
            outcome.is_empty() || metric.get_label().iter().any(|label| label.value() == outcome)
        };
        let metric = family.get_metric().iter().find(with).expect(outcome);
        metric.get_counter().get_value() + metric.get_gauge().get_value()
    }
}

const VERSION: &str = "node16-0123456789ab";
const OTHER: &str = "node16-ba9876543210";

/// Lets that much time pass on the paused clock.
async fn pass(milliseconds: u64) {
    let _ = tokio::time::timeout(Duration::from_millis(milliseconds), std::future::pending::<()>()).await;
}

#[tokio::test(start_paused = true)]
async fn the_lease_says_whose_it_is_and_carries_the_report() {
    let node = Node::start();
    node.want(VERSION);
    pass(300).await;
    let lease = node.server.lease();
    assert_eq!(lease["metadata"]["name"], "node-1");
    assert_eq!(lease["metadata"]["labels"], json!({"headstart.dev/report": "node"}));
    assert_eq!(lease["spec"]["holderIdentity"], "node-1");
    assert!(lease["spec"]["renewTime"].is_string());
    assert!(lease["metadata"].get("ownerReferences").is_none());
    let report = node.server.report();
    assert_eq!((report.node.as_str(), report.versions.len()), ("node-1", 1));
    assert_eq!(report.versions[0].state, VersionState::Pending);
    assert_eq!(node.server.writes(), 1, "the start is one write");
}

#[tokio::test(start_paused = true)]
async fn a_change_is_written_within_a_second_and_a_burst_is_one_write() {
    let node = Node::start();
    pass(10_000).await;
    let before = node.server.writes();
    let fault =
        |n: u32| Fault::new(if n.is_multiple_of(2) { FaultReason::Io } else { FaultReason::DiskFull }, "no");
    for n in 0..5 {
        node.board.set_root_fault(Some(fault(n)));
        pass(50).await;
    }
    node.want(VERSION);
    pass(1_000).await;
    assert_eq!(node.server.writes(), before + 1);
    assert_eq!(node.server.report().fault, Some(FaultReason::Io));
    assert_eq!(node.server.report().version_count, 1);
    node.want(VERSION);
    pass(5_000).await;
    assert_eq!(node.server.writes(), before + 1, "what changes nothing is not written");
}

#[tokio::test(start_paused = true)]
async fn without_changes_it_is_renewed_every_minute() {
    let node = Node::start();
    pass(1_000).await;
    let first = node.server.lease()["spec"]["renewTime"].clone();
    pass(600_000).await;
    let writes = node.server.writes();
    assert!((10..=12).contains(&writes), "{writes} writes in ten minutes");
    assert_ne!(node.server.lease()["spec"]["renewTime"], first);
    assert!(node.metric("headstart_cachesync_report_age_seconds", "") <= 66.0);
}

#[tokio::test(start_paused = true)]
async fn the_report_catches_up_after_an_outage() {
    let node = Node::start();
    pass(1_000).await;
    node.server.set_down(true);
    let tries = node.server.with(|stored| stored.tries.len());
    node.want(VERSION);
    pass(600_000).await;
    let tried = node.server.with(|stored| stored.tries.len()) - tries;
    assert!((10..=40).contains(&tried), "{tried} tries in ten minutes without an API server");
    assert!(node.metric("headstart_cachesync_report_writes_total", "failed") >= 10.0);
    assert!(node.metric("headstart_cachesync_report_age_seconds", "") > 500.0);
    node.server.set_down(false);
    node.want(OTHER);
    pass(61_000).await;
    assert_eq!(node.server.report().versions[0].name.as_str(), OTHER);
    node.want(VERSION);
    pass(1_000).await;
    assert_eq!(node.server.report().versions[0].name.as_str(), VERSION, "changes count at once again");
}

#[tokio::test(start_paused = true)]
async fn what_others_do_to_the_lease_is_respected_or_mended() {
    let node = Node::start();
    pass(1_000).await;
    node.server.meddle(|lease| lease.as_mut().unwrap()["metadata"]["annotations"]["other"] = json!("kept"));
    node.want(VERSION);
    pass(1_000).await;
    assert_eq!(node.server.report().version_count, 1, "a conflict is read again at once");
    assert_eq!(node.server.lease()["metadata"]["annotations"]["other"], "kept");
    node.server.meddle(|lease| *lease = None);
    node.want(OTHER);
    pass(1_000).await;
    assert_eq!(node.server.report().versions[0].name.as_str(), OTHER, "a Lease that was removed comes back");
    assert_eq!(node.metric("headstart_cachesync_report_writes_total", "written"), 3.0);
}

#[tokio::test(start_paused = true)]
async fn a_restart_alone_takes_no_final_verdict_back() {
    let node = Node::start();
    node.want(VERSION);
    let failed = |node: &Node, reason| {
        let (version, fault) = (VERSION.parse().unwrap(), Fault::new(reason, "no"));
        node.board.change(|ledger, now| ledger.failed(&version, fault, now));
    };
    failed(&node, FaultReason::NoExec);
    pass(1_000).await;
    let restarted = Node::start_with(node.server.clone());
    drop(node);
    restarted.want(VERSION);
    pass(1_000).await;
    let reason = |node: &Node| node.server.report().versions[0].reason;
    assert_eq!(reason(&restarted), Some(FaultReason::NoExec), "until it has a verdict of its own");
    failed(&restarted, FaultReason::SourceUnavailable);
    pass(1_000).await;
    assert_eq!(reason(&restarted), Some(FaultReason::SourceUnavailable));
}
