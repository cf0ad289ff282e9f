//! The HTTP side: one route per way to mount, bounded bodies, a deadline; every request that can be read is allowed.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response_with_state;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use headstart_externals::state::MountKind;
use headstart_runtime::shutdown::Shutdown;
use serde_json::Value;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

use crate::decide::{Context, Decision, decide};
use crate::metrics::Metrics;
use crate::published::Published;
use crate::reason::Reason;
use crate::review::{Answer, Request};

/// Largest body in bytes; the API server sends objects of at most 3 MiB.
const MAX_BODY: usize = 8 << 20;

/// What every request needs.
#[derive(Clone)]
pub struct Webhook {
    /// The newest published state.
    pub published: Published,
    /// What operators see.
    pub metrics: Metrics,
    /// Longest time for one request, body included; shorter than the API server's own time-out.
    pub deadline: Duration,
}

/// How the tree may get into a pod, most wanted first, by route.
const HOST_PATH: &[MountKind] = &[MountKind::HostPath];
const IMAGE: &[MountKind] = &[MountKind::Image];
const AUTO: &[MountKind] = &[MountKind::HostPath, MountKind::Image];

/// The webhook's routes. From the shutdown on, answers ask their clients to close the connection.
pub fn routes(webhook: Webhook, shutdown: Shutdown) -> Router {
    let deadline = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, webhook.deadline);
    let route = |kinds: &'static [MountKind]| {
        post(move |State(webhook): State<Webhook>, body: Bytes| async move { webhook.review(&body, kinds) })
    };
    Router::new()
        .route("/mutate/pods/hostpath", route(HOST_PATH))
        .route("/mutate/pods/image", route(IMAGE))
        .route("/mutate/pods/auto", route(AUTO))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(CatchPanicLayer::new())
        .layer(deadline)
        .layer(map_response_with_state((webhook.metrics.clone(), shutdown), finish))
        .with_state(webhook)
}

/// The last touch of every answer: counted by status, and from the shutdown on asking for the connection to be
/// closed, so that clients move to other replicas before this one ends.
async fn finish(State((metrics, shutdown)): State<(Metrics, Shutdown)>, mut response: Response) -> Response {
    metrics.answered(response.status());
    if shutdown.has_begun() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

impl Webhook {
    fn review(&self, body: &[u8], kinds: &[MountKind]) -> Response {
        let begun = Instant::now();
        match Request::parse(body) {
            Ok(request) => self.answer(&request, kinds, begun),
            Err(error) => {
                self.metrics.unreadable();
                tracing::warn!(%error, "not an AdmissionReview");
                (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response()
            }
        }
    }

    fn answer(&self, request: &Request<'_>, kinds: &[MountKind], begun: Instant) -> Response {
        let decision = self.decide(request, kinds);
        let note = match decision.rule {
            Some(rule) => format!("{rule}/{}", decision.reason),
            None => decision.reason.to_string(),
        };
        tracing::debug!(
            uid = %request.uid,
            namespace = %request.namespace,
            decision = %note,
            version = decision.version.as_deref(),
            operations = decision.patch.len(),
            "decided"
        );
        let answer = Json(Answer::allow(&request.uid, &decision.patch, note)).into_response();
        self.metrics.decided(&decision, begun.elapsed().as_secs_f64());
        answer
    }

    fn decide(&self, request: &Request<'_>, kinds: &[MountKind]) -> Decision {
        let unchanged = |reason| Decision::unchanged(None, reason);
        let Some(object) = request.object.filter(|_| request.creates_pod()) else {
            return unchanged(Reason::NotAPod);
        };
        let Ok(mut pod) = serde_json::from_str::<Value>(object.get()) else {
            return unchanged(Reason::Unreadable);
        };
        let state = self.published.get();
        let context = Context {
            namespace: &request.namespace,
            kinds,
            state: state.as_deref().map_err(|reason| *reason),
            assumed: None,
        };
        // A panic would be a bug, and no reason to answer with anything but "unchanged".
        let decided = std::panic::catch_unwind(AssertUnwindSafe(|| decide(&mut pod, context)));
        decided.unwrap_or_else(|_| unchanged(Reason::Internal))
    }
}
