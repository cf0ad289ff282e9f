//! The HTTP side: one route per way to mount and one for runner sets, bounded bodies, a deadline; every request that can be
//! read is allowed.
//!
//! Under pressure pods and runner sets of ARC are left unchanged without a decision, which costs a job seconds; an error or a
//! time-out could cost it the pod, wherever the webhook's `failurePolicy` was changed.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest as _, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::map_response_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use headstart_externals::state::MountKind;
use headstart_runtime::age::Age;
use headstart_runtime::lag::Lag;
use headstart_runtime::shutdown::Shutdown;
use tokio::sync::{Semaphore, SemaphorePermit};
use tower_http::catch_panic::CatchPanicLayer;

use crate::decide::{Context, Decision, decide};
use crate::metrics::{InFlight, Metrics, Shed};
use crate::prefilter;
use crate::published::Published;
use crate::reason::{Outcome, Reason};
use crate::review::{self, Answer, NotAReview, Object, Request};
use crate::runner_sets::endpoint;
use crate::runner_sets::reason::PinReason;
use crate::runner_sets::review::Review;
use crate::runner_sets::sources::RunnerSets;

/// Largest body in bytes; the API server takes objects of at most 3 MiB.
const MAX_BODY: usize = 4 << 20;

/// Most bytes of bodies at once; further ones wait, within their time. A body takes up to twice its size while it is put
/// together, and each of 1024 connections has buffers of up to 32 KiB: in all less than the 128 MiB that a replica may use.
const BODIES: usize = 32 << 20;

/// Bytes by which they are counted.
const UNIT: usize = 1 << 10;

/// How often overload gets a line in the log at most; every case is counted.
const OVERLOAD_LOG: Duration = Duration::from_secs(1);

/// What every request needs.
pub struct Webhook {
    /// The newest published state.
    pub published: Published,
    /// What is known of runner sets.
    pub runner_sets: RunnerSets,
    /// What operators see.
    pub metrics: Metrics,
    /// How much is taken on.
    pub limits: RequestLimits,
    /// How late the process is with its work.
    pub lag: Lag,
}

/// Bounds of the work for requests.
#[derive(Clone, Copy, Debug)]
pub struct RequestLimits {
    /// Longest time for one request, body included; shorter than the API server's own time-out.
    pub deadline: Duration,
    /// Most requests between their headers and their answer; pods of ARC beyond that are left unchanged.
    pub in_flight: u32,
}

/// How the tree may get into a pod, most wanted first, by route.
const HOST_PATH: &[MountKind] = &[MountKind::HostPath];
const IMAGE: &[MountKind] = &[MountKind::Image];
const AUTO: &[MountKind] = &[MountKind::HostPath, MountKind::Image];

/// How far to go with a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Course {
    /// It concerns no pod of ARC.
    Pass,
    /// It may, but there is no room or time for it.
    Shed(Shed),
    /// It may, and is decided over.
    Decide,
}

/// A request whose body has come.
struct Received<'a> {
    body: Bytes,
    /// How long that took.
    waited: Duration,
    /// When it had come.
    at: Instant,
    /// How many requests were in progress.
    count: i64,
    _in_flight: InFlight,
    _room: SemaphorePermit<'a>,
}

/// What all routes share.
struct Shared {
    webhook: Webhook,
    shutdown: Shutdown,
    overload_told: Age,
    /// Room for bodies, in [`UNIT`]s.
    bodies: Semaphore,
}

/// The webhook's routes. From the shutdown on, answers ask their clients to close the connection.
pub fn routes(webhook: Webhook, shutdown: Shutdown) -> Router {
    let shared = Arc::new(Shared {
        webhook,
        shutdown,
        overload_told: Age::default(),
        bodies: Semaphore::new(BODIES / UNIT),
    });
    let route = |kinds: &'static [MountKind]| {
        post(
            move |State(shared): State<Arc<Shared>>, request| async move { shared.review(request, kinds).await },
        )
    };
    Router::new()
        .route("/mutate/pods/hostpath", route(HOST_PATH))
        .route("/mutate/pods/image", route(IMAGE))
        .route("/mutate/pods/auto", route(AUTO))
        .route(
            "/mutate/runnersets",
            post(
                |State(shared): State<Arc<Shared>>, request| async move { shared.runner_set(request).await },
            ),
        )
        .route("/livez", get(|| async { "ok\n" }))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(CatchPanicLayer::new())
        .layer(map_response_with_state(shared.clone(), finish))
        .with_state(shared)
}

/// The last touch of every answer: counted by status, and from the shutdown on asking for the connection to be
/// closed, so that clients move to other replicas before this one ends.
async fn finish(State(shared): State<Arc<Shared>>, mut response: Response) -> Response {
    shared.webhook.metrics.answered(response.status());
    if shared.shutdown.has_begun() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// An answer as it is sent.
pub(crate) fn respond(answer: &Answer<'_>) -> Response {
    match answer.to_json() {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

impl Shared {
    async fn review(&self, request: axum::extract::Request, kinds: &[MountKind]) -> Response {
        let received = match self.receive(request).await {
            Ok(received) => received,
            Err(refused) => return refused,
        };
        let course = self.webhook.course(&received);
        match Request::parse(&received.body, course == Course::Decide) {
            Ok(mut request) => {
                let decision = self.webhook.decide(&mut request, kinds, course);
                let response = self.answer(&request, &decision);
                self.webhook.metrics.decided(&decision, received.at.elapsed().as_secs_f64());
                response
            }
            Err(error) => self.unreadable(&error),
        }
    }

    async fn runner_set(&self, request: axum::extract::Request) -> Response {
        let received = match self.receive(request).await {
            Ok(received) => received,
            Err(refused) => return refused,
        };
        let Webhook { metrics, runner_sets, .. } = &self.webhook;
        let cause = self.webhook.shed(&received);
        let review = match Review::parse(&received.body, cause.is_none()) {
            Ok(review) => review,
            Err(error) => return self.unreadable(&error),
        };
        let decision = endpoint::decide(runner_sets, &review, cause.is_some());
        let is_overload = decision.reason == PinReason::Overloaded;
        if is_overload && let Some(cause) = cause {
            metrics.shed(cause);
        }
        if self.may_tell(is_overload) {
            endpoint::log(&review, &decision);
        }
        let response = endpoint::answer(&review, &decision);
        metrics.runner_set_decided(decision.reason, received.at.elapsed().as_secs_f64());
        response
    }

    /// Reads the body in time. One that was read is always answered, even if its time is up by then.
    async fn receive(&self, request: axum::extract::Request) -> Result<Received<'_>, Response> {
        let Webhook { metrics, limits, .. } = &self.webhook;
        let begun = Instant::now();
        let (in_flight, count) = metrics.begin();
        let (body, room) = match tokio::time::timeout(limits.deadline, self.body(request)).await {
            Ok(body) => body?,
            Err(_) => {
                return Err((StatusCode::REQUEST_TIMEOUT, "the body took too long\n").into_response());
            }
        };
        let at = Instant::now();
        Ok(Received { body, waited: at - begun, at, count, _in_flight: in_flight, _room: room })
    }

    fn unreadable(&self, error: &NotAReview) -> Response {
        self.webhook.metrics.unreadable();
        tracing::warn!(%error, "not an AdmissionReview");
        (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response()
    }

    /// The body, once there is room for it.
    async fn body(&self, request: axum::extract::Request) -> Result<(Bytes, SemaphorePermit<'_>), Response> {
        let told = request
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        let units = told.unwrap_or(MAX_BODY).min(MAX_BODY) / UNIT + 1;
        let room = self.bodies.acquire_many(u32::try_from(units).unwrap_or(u32::MAX)).await;
        let room = room.map_err(|_| StatusCode::SERVICE_UNAVAILABLE.into_response())?;
        let body = Bytes::from_request(request, &()).await.map_err(IntoResponse::into_response)?;
        Ok((body, room))
    }

    fn answer(&self, request: &Request<'_>, decision: &Decision) -> Response {
        let note = match decision.rule {
            Some(rule) => format!("{rule}/{}", decision.reason),
            None => decision.reason.to_string(),
        };
        self.log(request, decision, &note);
        let warning = review::warning(decision.reason);
        respond(&Answer {
            uid: &request.uid,
            patch: &decision.patch,
            decision: &note,
            version: decision.version.as_deref(),
            warning: warning.as_deref(),
        })
    }

    /// One line per decision: at `info` where somebody asked for the cache and did not get it.
    fn log(&self, request: &Request<'_>, decision: &Decision, note: &str) {
        let Request { uid, namespace, .. } = request;
        let reason = decision.reason;
        if reason.outcome() == Outcome::Withheld && self.may_tell(reason == Reason::Overloaded) {
            tracing::info!(
                %uid, %namespace,
                pod = %request.object_name(),
                decision = note,
                rule = decision.rule.map(|rule| rule.code()),
                reason = reason.code(),
                meaning = reason.meaning(),
                remedy = reason.remedy(),
                "left unchanged"
            );
        } else {
            tracing::debug!(
                %uid, %namespace,
                decision = note,
                version = decision.version.as_deref(),
                unpaired = decision.unpaired.map(|why| why.code()),
                operations = decision.patch.len(),
                "decided"
            );
        }
    }

    /// Overload must not make work of its own.
    fn may_tell(&self, is_overload: bool) -> bool {
        if !is_overload {
            return true;
        }
        let due = self.overload_told.get().is_none_or(|ago| ago >= OVERLOAD_LOG);
        if due {
            self.overload_told.renew();
        }
        due
    }
}

impl Webhook {
    /// How far to go with a request.
    fn course(&self, received: &Received<'_>) -> Course {
        if !prefilter::may_concern(&received.body) {
            return Course::Pass;
        }
        match self.shed(received) {
            // A pod of ours must be completed: what others added to it could write to the cache of the whole node.
            Some(cause) if !prefilter::may_be_ours(&received.body) => Course::Shed(cause),
            _ => Course::Decide,
        }
    }

    /// Why there is no room or time for a request.
    fn shed(&self, received: &Received<'_>) -> Option<Shed> {
        let RequestLimits { deadline, in_flight } = self.limits;
        let causes = [
            (received.count > i64::from(in_flight), Shed::InFlight),
            (self.lag.get() > deadline / 3, Shed::Lag),
            (received.waited > deadline, Shed::Deadline),
        ];
        causes.into_iter().find_map(|(is_so, cause)| is_so.then_some(cause))
    }

    fn decide(&self, request: &mut Request<'_>, kinds: &[MountKind], course: Course) -> Decision {
        let unchanged = |reason| Decision::unchanged(None, reason);
        if !request.creates_pod() || matches!(request.object, Object::Absent) {
            return unchanged(Reason::NotAPod);
        }
        let pod = match (course, &mut request.object) {
            (Course::Pass, _) => return unchanged(Reason::NotArc),
            (Course::Shed(cause), _) => {
                self.metrics.shed(cause);
                return unchanged(Reason::Overloaded);
            }
            (Course::Decide, Object::Read(pod)) => pod,
            (Course::Decide, _) => return unchanged(Reason::Unreadable),
        };
        let state = self.published.get();
        let context = Context {
            namespace: &request.namespace,
            kinds,
            state: state.as_deref().map_err(|reason| *reason),
            assumed: None,
        };
        // A panic would be a bug, and no reason to answer with anything but "unchanged".
        let decided = std::panic::catch_unwind(AssertUnwindSafe(|| decide(pod, context)));
        decided.unwrap_or_else(|_| unchanged(Reason::Internal))
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use serde_json::Value;

    use super::*;

    const RUNNER: &str = include_str!("../../tests/fixtures/admission/runner-kubernetes.json");

    #[tokio::test]
    async fn a_review_whose_time_is_up_once_it_was_read_is_allowed_unchanged() {
        let registry = Registry::new();
        let limits = RequestLimits { deadline: Duration::ZERO, in_flight: 8 };
        let webhook = Webhook {
            published: Published::default(),
            runner_sets: RunnerSets::unused(PinReason::NoController),
            metrics: Metrics::new(&registry).unwrap(),
            limits,
            lag: Lag::default(),
        };
        // Any client of an HTTP service will do; this one is here anyway. The body is there before the deadline.
        let client = kube::Client::new(routes(webhook, Shutdown::new()), "default");
        let request = axum::http::Request::post("/mutate/pods/hostpath").body(RUNNER.into()).unwrap();
        let answer: Value = serde_json::from_str(&client.request_text(request).await.unwrap()).unwrap();
        assert_eq!(answer["response"]["allowed"], true);
        assert_eq!(answer["response"]["auditAnnotations"]["decision"], "overloaded");
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(text.contains("headstart_webhook_shed_total{cause=\"deadline\"} 1"), "{text}");
    }
}
