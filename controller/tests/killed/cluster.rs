//! An API server in this process, as much of one as a leader asks, that lets its client die at one of its calls.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use futures::stream;
use headstart_externals::names::STATE_KEY;
use headstart_externals::state::PublishedState;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

/// The folders of the API that are kept here.
const NODES: &str = "/api/v1/nodes";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/system/leases";
const STATE: &str = "/api/v1/namespaces/system/configmaps/state";

/// At which call its client dies, and whether the call still takes effect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Death {
    /// Counted from one; watches and the lists that these begin with do not count.
    pub(crate) at: usize,
    /// Whether it is done before the client is gone.
    pub(crate) is_done: bool,
}

/// What the server knows.
#[derive(Clone)]
pub(crate) struct Cluster {
    kept: Arc<Mutex<Kept>>,
    version: watch::Sender<u64>,
    death: Arc<Notify>,
}

#[derive(Default)]
struct Kept {
    objects: BTreeMap<String, Value>,
    /// Every change, with the version that it made.
    log: Vec<(u64, String, Value)>,
    published: Vec<PublishedState>,
    calls: usize,
    deadly: Option<Death>,
}

impl Cluster {
    /// One whose client dies once.
    pub(crate) fn new(deadly: Death) -> Self {
        let kept = Kept { deadly: Some(deadly), ..Kept::default() };
        Self { kept: Arc::new(Mutex::new(kept)), version: watch::Sender::new(1), death: Arc::default() }
    }

    /// A client, or one more.
    pub(crate) fn client(&self) -> Client {
        Client::new(Router::new().fallback(answer).with_state(self.clone()), "default")
    }

    /// When the client has to die.
    pub(crate) async fn death(&self) {
        self.death.notified().await;
    }

    /// Waits until something has changed.
    pub(crate) async fn changed(&self) {
        let mut version = self.version.subscribe();
        // What changed just before that would not be waited for.
        let _ = tokio::time::timeout(Duration::from_millis(200), version.changed()).await;
    }

    /// Whether it was to die and has not.
    pub(crate) fn is_death_to_come(&self) -> bool {
        self.kept.lock().unwrap().deadly.is_some()
    }

    /// Everything that was published, in order.
    pub(crate) fn published(&self) -> Vec<PublishedState> {
        self.kept.lock().unwrap().published.clone()
    }

    /// A node.
    pub(crate) fn node(&self, name: &str) -> Value {
        self.kept.lock().unwrap().objects[&format!("{NODES}/{name}")].clone()
    }

    /// Puts an object there, as somebody else would.
    pub(crate) fn add_node(&self, name: &str, node: Value) {
        self.store(&mut self.kept.lock().unwrap(), format!("{NODES}/{name}"), node);
    }

    /// The same for a report.
    pub(crate) fn add_lease(&self, name: &str, lease: Value) {
        self.store(&mut self.kept.lock().unwrap(), format!("{LEASES}/{name}"), lease);
    }

    /// The same for the published state.
    pub(crate) fn publish(&self, state: &PublishedState) {
        let object = json!({ "metadata": { "name": "state" }, "data": { STATE_KEY: serde_json::to_string(state).unwrap() } });
        let mut kept = self.kept.lock().unwrap();
        kept.published.push(state.clone());
        self.store(&mut kept, STATE.to_owned(), object);
    }

    fn store(&self, kept: &mut Kept, path: String, mut object: Value) -> Value {
        let version = *self.version.borrow() + 1;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        kept.objects.insert(path.clone(), object.clone());
        kept.log.push((version, path, object.clone()));
        self.version.send_replace(version);
        object
    }

    fn list(&self, folder: &str) -> Response {
        let kept = self.kept.lock().unwrap();
        let of_folder =
            |(path, _): &(&String, &Value)| path.rsplit_once('/').is_some_and(|(found, _)| found == folder);
        let items: Vec<&Value> = kept.objects.iter().filter(of_folder).map(|(_, object)| object).collect();
        let version = self.version.borrow().to_string();
        Json(json!({
            "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": version }, "items": items,
        }))
        .into_response()
    }

    /// All changes in a folder after a version, without an end.
    fn watch(self, folder: String, after: u64) -> Response {
        let seen = (self.version.subscribe(), after);
        let changes = stream::unfold((self, seen), move |(cluster, (mut version, mut seen))| {
            let folder = format!("{folder}/");
            async move {
                loop {
                    let next = {
                        let kept = cluster.kept.lock().unwrap();
                        let is_new =
                            |(at, path, _): &&(u64, String, Value)| *at > seen && path.starts_with(&folder);
                        kept.log.iter().find(is_new).cloned()
                    };
                    if let Some((at, _, object)) = next {
                        seen = at;
                        let line = json!({ "type": "MODIFIED", "object": object }).to_string() + "\n";
                        return Some((Ok::<_, std::io::Error>(line), (cluster, (version, seen))));
                    }
                    version.changed().await.ok()?;
                }
            }
        });
        Body::from_stream(changes).into_response()
    }

    fn act(&self, method: &Method, path: &str, body: Value) -> Response {
        let mut kept = self.kept.lock().unwrap();
        let target = path.strip_suffix("/status").unwrap_or(path).to_owned();
        let known = kept.objects.get(&target).cloned();
        match (method, known) {
            (&Method::GET, _) if path == "/api/v1/pods" => {
                Json(json!({ "kind": "List", "apiVersion": "v1", "metadata": {}, "items": [] }))
                    .into_response()
            }
            (&Method::GET, Some(known)) => Json(known).into_response(),
            (&Method::POST, _) if path.contains("/events") => {
                (StatusCode::CREATED, Json(body)).into_response()
            }
            (&Method::PATCH, Some(known)) => match patched(known, body) {
                Some(object) => Json(self.store(&mut kept, target, object)).into_response(),
                None => refusal(StatusCode::UNPROCESSABLE_ENTITY),
            },
            (&Method::PUT, Some(known)) => {
                if body["metadata"]["resourceVersion"] != known["metadata"]["resourceVersion"] {
                    return refusal(StatusCode::CONFLICT);
                }
                let text = body["data"][STATE_KEY].as_str().unwrap();
                kept.published.push(PublishedState::parse(text).unwrap());
                Json(self.store(&mut kept, target, body)).into_response()
            }
            _ => refusal(StatusCode::NOT_FOUND),
        }
    }
}

fn refusal(code: StatusCode) -> Response {
    let reason = code.canonical_reason().unwrap().replace(' ', "");
    let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no",
        "reason": reason, "code": code.as_u16() });
    (code, Json(status)).into_response()
}

/// What a patch makes of an object: one with operations, or one to merge, where conditions are told apart by type.
fn patched(mut object: Value, patch: Value) -> Option<Value> {
    if patch.is_array() {
        json_patch::patch(&mut object, &serde_json::from_value::<json_patch::Patch>(patch).unwrap()).ok()?;
        return Some(object);
    }
    let mut conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    for new in patch["status"]["conditions"].as_array().into_iter().flatten() {
        conditions.retain(|old| old["type"] != new["type"]);
        conditions.push(new.clone());
    }
    json_patch::merge(&mut object, &patch);
    object["status"]["conditions"] = conditions.into();
    Some(object)
}

async fn answer(State(cluster): State<Cluster>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let body = serde_json::from_slice(&to_bytes(body, 1 << 20).await.unwrap()).unwrap_or_default();
    let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
    if head.method == Method::GET && [NODES, LEASES, "/api/v1/namespaces"].contains(&path) {
        let after = query.split('&').find_map(|part| part.strip_prefix("resourceVersion="));
        return match after.and_then(|after| after.parse().ok()) {
            Some(after) if query.contains("watch=true") => cluster.watch(path.to_owned(), after),
            _ => cluster.list(path),
        };
    }
    let deadly = {
        let mut kept = cluster.kept.lock().unwrap();
        kept.calls += 1;
        let calls = kept.calls;
        kept.deadly.take_if(|death| death.at == calls)
    };
    match deadly {
        None => cluster.act(&head.method, path, body),
        Some(Death { is_done, .. }) => {
            if is_done {
                cluster.act(&head.method, path, body);
            }
            cluster.death.notify_one();
            std::future::pending().await
        }
    }
}
