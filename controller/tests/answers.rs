//! What the controller makes of an API server's answers, also of bad ones: a small server in this process gives them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use headstart_controller::events::Outbox;
use headstart_controller::metrics::Metrics;
use headstart_controller::news::News;
use headstart_controller::nodes::{Condition, GoneNodes, NodeWriter, Orphan, Verdict};
use headstart_controller::publish::{Question, StateWriter, Usage};
use headstart_externals::version::VersionName;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use kube::Client;
use prometheus::Registry;
use serde_json::{Value, json};

/// What the server answers; `None` for no answer at all.
type Answer = Option<(StatusCode, Value)>;

/// Gives the same answer to everybody, unless a call names one of the special words.
#[derive(Clone)]
struct Server {
    answer: Arc<Mutex<Answer>>,
    special: Arc<Mutex<Vec<(&'static str, Answer)>>>,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn answering(answer: Answer) -> Self {
        let answer = Arc::new(Mutex::new(answer));
        Self { answer, special: Arc::default(), calls: Arc::default() }
    }

    fn now_answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// The answer to calls whose address or body has `word`.
    fn but(self, word: &'static str, answer: Answer) -> Self {
        self.special.lock().unwrap().push((word, answer));
        self
    }

    fn client(&self) -> Client {
        Client::new(Router::new().fallback(answer).with_state(self.clone()), "default")
    }

    /// Method, address and body of every call since the last time.
    fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

async fn answer(State(server): State<Server>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let body = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
    let call = format!("{} {} {body}", head.method, head.uri);
    server.calls.lock().unwrap().push(call.clone());
    let special = server.special.lock().unwrap().iter().find(|(word, _)| call.contains(word)).cloned();
    let answer = special.map_or_else(|| server.answer.lock().unwrap().clone(), |(_, answer)| answer);
    match answer {
        // What is created comes back as it is.
        Some((StatusCode::CREATED, _)) if head.method == Method::POST => body.into_response(),
        Some((code, answer)) => (code, Json(answer)).into_response(),
        None => std::future::pending().await,
    }
}

fn refusal(code: StatusCode) -> Answer {
    // `NotFound` and `Conflict` are how clients know these.
    let reason = code.canonical_reason().unwrap().replace(' ', "");
    let answer = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no",
        "reason": reason, "code": code.as_u16() });
    Some((code, answer))
}

fn metrics() -> Metrics {
    Metrics::new(&Registry::new()).unwrap()
}

fn pods(names: &[&str], more: &str) -> Answer {
    let pod = |name: &&str| json!({ "metadata": { "name": name } });
    let items: Vec<Value> = names.iter().map(pod).collect();
    let metadata = json!({ "resourceVersion": "1", "continue": more });
    let list = json!({ "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items });
    Some((StatusCode::OK, list))
}

fn version(number: usize) -> VersionName {
    format!("node16-{number:012x}").parse().unwrap()
}

fn about_to_retire(count: usize) -> Vec<Question> {
    (0..count).map(|number| Question { version: version(number), is_retired: false }).collect()
}

const KEEP: Duration = Duration::from_secs(600);

#[tokio::test]
async fn one_question_shows_that_no_pod_carries_any_of_many_versions() {
    let server = Server::answering(pods(&[], ""));
    let mut usage = Usage::new(server.client(), metrics());
    let answers = usage.ask(&about_to_retire(3), KEEP, Instant::now()).await;
    assert_eq!(answers, (0..3).map(|number| (version(number), false)).collect());
    let calls = server.calls();
    assert_eq!(calls.len(), 1, "{calls:?}");
    for part in ["labelSelector=headstart.dev%2Fversion+in+%28", "status.phase%21%3DSucceeded", "limit=1"] {
        assert!(calls[0].contains(part), "{part}: {calls:?}");
    }
    assert!(!calls[0].contains("resourceVersion"), "a cache may be old: {calls:?}");
}

#[tokio::test]
async fn where_one_is_carried_each_is_asked_about() {
    let server = Server::answering(pods(&["x"], "")).but("%28node16-000000000001%29", pods(&[], ""));
    let mut usage = Usage::new(server.client(), metrics());
    let answers = usage.ask(&about_to_retire(2), KEEP, Instant::now()).await;
    assert_eq!(answers, [(version(0), true), (version(1), false)].into());
    assert_eq!(server.calls().len(), 3);
}

#[tokio::test]
async fn an_empty_page_before_the_last_one_shows_nothing() {
    let server = Server::answering(pods(&[], "more"));
    let answers = Usage::new(server.client(), metrics()).ask(&about_to_retire(1), KEEP, Instant::now()).await;
    assert_eq!(answers, [(version(0), true)].into());
}

#[tokio::test(start_paused = true)]
async fn what_nobody_answers_is_not_known_and_holds_up_nobody_for_long() {
    for answer in [refusal(StatusCode::FORBIDDEN), refusal(StatusCode::INTERNAL_SERVER_ERROR), None] {
        let server = Server::answering(answer);
        let mut usage = Usage::new(server.client(), metrics());
        let (begun, now) = (tokio::time::Instant::now(), Instant::now());
        assert!(usage.ask(&about_to_retire(20), KEEP, now).await.is_empty());
        assert!(usage.ask(&about_to_retire(1), KEEP, now).await.is_empty(), "not at once again");
        assert!(begun.elapsed() <= Duration::from_secs(20), "{:?}", begun.elapsed());
        server.now_answers(pods(&[], ""));
        let later = now + Duration::from_secs(10);
        assert_eq!(usage.ask(&about_to_retire(1), KEEP, later).await.len(), 1);
    }
}

fn about(name: &str) -> ObjectReference {
    ObjectReference {
        name: Some(name.to_owned()),
        kind: Some("Node".to_owned()),
        ..ObjectReference::default()
    }
}

#[tokio::test]
async fn an_event_that_is_refused_stops_no_other_and_one_that_fails_is_told_again() {
    let created = Some((StatusCode::CREATED, json!({})));
    let server = Server::answering(created.clone()).but("terminating", refusal(StatusCode::FORBIDDEN));
    let mut outbox = Outbox::new(server.client(), metrics());
    outbox.push(about("terminating"), News::normal("X", "x"));
    outbox.push(about("a"), News::warning("CacheFailed", "NoExec: see the mount options"));
    outbox.flush().await;
    let calls = server.calls();
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert!(calls[1].starts_with("POST /apis/events.k8s.io/v1/namespaces/default/events"), "{calls:?}");
    assert!(calls[1].contains("Warning") && calls[1].contains("NoExec: see"), "{calls:?}");

    server.now_answers(refusal(StatusCode::SERVICE_UNAVAILABLE));
    outbox.push(about("b"), News::normal("X", "x"));
    outbox.push(about("c"), News::normal("X", "x"));
    outbox.flush().await;
    assert_eq!(server.calls().len(), 1, "nobody else tries while the server is away");
    server.now_answers(created);
    outbox.flush().await;
    let calls = server.calls();
    assert!(calls.len() == 2 && calls[0].contains(r#""b""#) && calls[1].contains(r#""c""#), "{calls:?}");
    outbox.flush().await;
    assert!(server.calls().is_empty(), "each is told once");
}

fn lease() -> Lease {
    let metadata = json!({ "name": "gone", "namespace": "system", "uid": "u", "resourceVersion": "7" });
    serde_json::from_value(json!({ "metadata": metadata })).unwrap()
}

/// How many deletions a sweep at this second made.
async fn sweep(gone: &mut GoneNodes, server: &Server, is_stale: bool, at: Instant) -> usize {
    let lease = lease();
    gone.sweep(&[Orphan { lease: &lease, is_stale }], at).await;
    server.calls().iter().filter(|call| call.starts_with("DELETE")).count()
}

#[tokio::test]
async fn a_report_goes_when_its_node_was_missing_twice_or_is_missing_and_silent() {
    let done = Some((StatusCode::OK, json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" })));
    let server = Server::answering(done).but("/nodes/", refusal(StatusCode::NOT_FOUND));
    let (now, minute) = (Instant::now(), Duration::from_secs(60));
    let mut gone = GoneNodes::new(server.client(), "system", metrics());
    assert_eq!(sweep(&mut gone, &server, false, now).await, 0);
    assert_eq!(sweep(&mut gone, &server, false, now + minute / 2).await, 0);
    // One that somebody knew in between begins anew.
    gone.sweep(&[], now + minute / 2).await;
    assert_eq!(sweep(&mut gone, &server, false, now + minute).await, 0);
    assert_eq!(sweep(&mut gone, &server, false, now + 2 * minute).await, 1);
    let mut new = GoneNodes::new(server.client(), "system", metrics());
    assert_eq!(sweep(&mut new, &server, true, now).await, 1, "its agent is silent, too");
}

#[tokio::test]
async fn a_report_stays_while_the_api_server_knows_the_node_or_its_agent_renews_it() {
    let node = Some((
        StatusCode::OK,
        json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": { "name": "gone" } }),
    ));
    let server = Server::answering(node.clone()).but("DELETE", refusal(StatusCode::CONFLICT));
    let now = Instant::now();
    let mut gone = GoneNodes::new(server.client(), "system", metrics());
    for minutes in 0..3 {
        let at = now + Duration::from_secs(60 * minutes);
        assert_eq!(sweep(&mut gone, &server, true, at).await, 0, "our cache is behind");
    }
    server.now_answers(refusal(StatusCode::NOT_FOUND));
    let lease = lease();
    gone.sweep(&[Orphan { lease: &lease, is_stale: true }], now).await;
    let calls = server.calls();
    assert!(calls[1].contains(r#""resourceVersion":"7""#) && calls[1].contains(r#""uid":"u""#), "{calls:?}");
}

#[tokio::test]
async fn a_report_that_cannot_be_deleted_stops_no_other() {
    let done = Some((StatusCode::OK, json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" })));
    let server = Server::answering(done)
        .but("/nodes/", refusal(StatusCode::NOT_FOUND))
        .but("leases/bad", refusal(StatusCode::FORBIDDEN));
    let (mut bad, mut good) = (lease(), lease());
    bad.metadata.name = Some("bad".to_owned());
    good.metadata.name = Some("good".to_owned());
    let mut gone = GoneNodes::new(server.client(), "system", metrics());
    let orphans = [&bad, &good].map(|lease| Orphan { lease, is_stale: true });
    gone.sweep(&orphans, Instant::now()).await;
    let deleted: Vec<_> = server.calls().into_iter().filter(|call| call.starts_with("DELETE")).collect();
    assert!(deleted.len() == 2 && deleted[1].contains("leases/good"), "{deleted:?}");
}

/// A node of this name with what a verdict made of it.
fn node(name: &str, version: &str, more: Value) -> Node {
    let mut node = json!({ "metadata": { "name": name, "uid": name, "resourceVersion": version } });
    json_patch::merge(&mut node, &more);
    serde_json::from_value(node).unwrap()
}

fn is_full() -> Verdict {
    let condition =
        Condition { status: "False", reason: "DiskFull".to_owned(), message: "free space".to_owned() };
    Verdict { condition, is_unserviceable: true, opens: None }
}

#[tokio::test]
async fn what_a_lagging_watch_does_not_show_yet_is_not_written_again() {
    let changed = json!({ "metadata": { "name": "a", "resourceVersion": "9" } });
    let server = Server::answering(Some((StatusCode::OK, changed)));
    let mut writer = NodeWriter::new(server.client(), metrics());
    let (verdict, begun, none) = (is_full(), Instant::now(), Default::default());
    let at = |seconds: u64| begun + Duration::from_secs(seconds);
    let old = node("a", "7", json!({}));
    writer.write(&[(&old, &verdict)], &none, at(0)).await;
    assert_eq!(server.calls().len(), 2, "label and condition");
    for seconds in [1, 30, 59] {
        writer.write(&[(&old, &verdict)], &none, at(seconds)).await;
    }
    assert!(server.calls().is_empty());
    writer.write(&[(&old, &verdict)], &none, at(60)).await;
    assert_eq!(server.calls().len(), 2, "somebody may have undone it");
}

#[tokio::test]
async fn a_node_that_cannot_be_written_stops_no_other_and_is_left_alone_for_a_while() {
    let changed = json!({ "metadata": { "name": "good", "resourceVersion": "9" } });
    let server = Server::answering(Some((StatusCode::OK, changed)))
        .but("/nodes/bad", refusal(StatusCode::FORBIDDEN))
        .but("/nodes/gone", refusal(StatusCode::NOT_FOUND));
    let mut writer = NodeWriter::new(server.client(), metrics());
    let (verdict, now, none) = (is_full(), Instant::now(), Default::default());
    let nodes = ["bad", "gone", "good"].map(|name| node(name, "7", json!({})));
    let judged: Vec<_> = nodes.iter().map(|node| (node, &verdict)).collect();
    writer.write(&judged, &none, now).await;
    let calls = server.calls();
    assert_eq!(calls.iter().filter(|call| call.contains("/nodes/good")).count(), 2, "{calls:?}");
    writer.write(&judged[..1], &none, now + Duration::from_secs(4)).await;
    assert!(server.calls().is_empty());
    writer.write(&judged[..1], &none, now + Duration::from_secs(5)).await;
    assert_eq!(server.calls().len(), 1);
}

#[tokio::test]
async fn a_node_that_rewritten_pods_keep_away_from_is_opened_for_all_others() {
    let changed = json!({ "metadata": { "name": "a", "resourceVersion": "9" } });
    let server = Server::answering(Some((StatusCode::OK, changed)));
    let startup = ["headstart.dev/cold".to_owned()].into();
    let tainted = |label: Value| {
        node(
            "a",
            "7",
            json!({
                "metadata": { "labels": { "headstart.dev/cache": label } },
                "spec": { "taints": [{ "key": "headstart.dev/cold", "effect": "NoSchedule" }] },
                "status": { "conditions": [{
                    "type": "headstart.dev/CacheReady", "status": "False", "reason": "DiskFull",
                    "message": "free space",
                }] },
            }),
        )
    };
    let (verdict, now) = (is_full(), Instant::now());
    let labelled = tainted("unserviceable".into());
    NodeWriter::new(server.client(), metrics()).write(&[(&labelled, &verdict)], &startup, now).await;
    let calls = server.calls();
    assert!(calls.len() == 1 && calls[0].contains("/spec/taints/0"), "{calls:?}");
    let not_yet = tainted(Value::Null);
    NodeWriter::new(server.client(), metrics()).write(&[(&not_yet, &verdict)], &startup, now).await;
    let calls = server.calls();
    assert!(calls.len() == 1 && calls[0].contains("unserviceable"), "the label comes first: {calls:?}");
}

#[tokio::test]
async fn a_state_that_cannot_be_understood_is_left_alone_and_counted() {
    let state = |text: &str| {
        let metadata = json!({ "name": "state", "resourceVersion": "1" });
        Some((StatusCode::OK, json!({ "metadata": metadata, "data": { "state.json": text } })))
    };
    let server = Server::answering(state(r#"{"apiVersion": "headstart.dev/v2"}"#));
    let registry = Registry::new();
    let writer = StateWriter::new(server.client(), "system", "state", Metrics::new(&registry).unwrap());
    let error = writer.read().await.err().unwrap().to_string();
    assert!(error.contains("cannot be understood") && error.contains("delete the ConfigMap"), "{error}");
    let failures = registry.gather().into_iter().find(|family| family.name().ends_with("failures_total"));
    assert_eq!(failures.unwrap().get_metric()[0].get_counter().get_value(), 1.0);
    server.now_answers(refusal(StatusCode::NOT_FOUND));
    assert!(writer.read().await.unwrap().is_none(), "it is made anew once it is deleted");
}
