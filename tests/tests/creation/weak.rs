//! Stands in front of the API server as one that throttles, fails or falls silent: it passes requests on, or answers in its
//! place, or never.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, Response, header};
use headstart_tests::bed::ControlPlane;
use headstart_tests::server::{Running, certificate, serve};
use tempfile::TempDir;

/// What becomes of some writes.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) write: Write,
    pub(crate) harm: Harm,
    /// How often.
    pub(crate) times: usize,
    /// Whether only the answer is lost.
    pub(crate) is_done: bool,
}

/// Which writes: their method, and a part of their path.
pub(crate) type Write = (Method, &'static str);

/// How a write is harmed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Harm {
    /// It is answered with this status, and `Retry-After` in seconds if there is one.
    Status(u16, Option<u32>),
    /// It is never answered.
    Silence,
}

/// The way through; gone when dropped.
pub(crate) struct Weak {
    faults: Arc<Mutex<Vec<Fault>>>,
    authority: String,
    running: Running,
    _folder: TempDir,
}

#[derive(Clone)]
struct Way {
    server: String,
    client: reqwest::Client,
    faults: Arc<Mutex<Vec<Fault>>>,
}

impl Weak {
    pub(crate) async fn before(control_plane: &ControlPlane) -> Self {
        headstart_runtime::program::install_crypto();
        let folder = tempfile::tempdir().unwrap();
        let tls = certificate(folder.path());
        let authority = std::fs::read(control_plane.authority()).unwrap();
        let authority = reqwest::Certificate::from_pem(&authority).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap();
        let faults = Arc::default();
        let way = Way { server: control_plane.server(), client, faults: Arc::clone(&faults) };
        let running = serve(Router::new().fallback(pass).with_state(way), Some(&tls)).await;
        let authority = std::fs::read_to_string(&tls.tls_cert).unwrap();
        Self { faults, authority, running, _folder: folder }
    }

    pub(crate) fn url(&self) -> String {
        self.running.url.clone()
    }

    /// As PEM.
    pub(crate) fn authority(&self) -> String {
        self.authority.clone()
    }

    /// Such writes are harmed from now on; what was added first comes first.
    pub(crate) fn add(&self, fault: Fault) {
        self.faults.lock().unwrap().push(fault);
    }

    /// Whether all of it happened.
    pub(crate) fn is_spent(&self) -> bool {
        self.faults.lock().unwrap().iter().all(|fault| fault.times == 0)
    }
}

impl Way {
    fn strike(&self, method: &Method, path: &str) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let fits =
            |fault: &&mut Fault| fault.times > 0 && *method == fault.write.0 && path.contains(fault.write.1);
        let fault = faults.iter_mut().find(fits)?;
        fault.times -= 1;
        Some(fault.clone())
    }
}

async fn pass(State(way): State<Way>, request: Request) -> Response<Body> {
    let struck = way.strike(request.method(), request.uri().path());
    if let Some(fault) = struck.as_ref().filter(|fault| !fault.is_done) {
        return answer(fault.harm).await;
    }
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 24).await.unwrap_or_default();
    let url = format!("{}{}", way.server, parts.uri.path_and_query().unwrap());
    let mut headers = parts.headers;
    headers.remove(header::HOST);
    headers.remove(header::CONTENT_LENGTH);
    let sent = way.client.request(parts.method, url).headers(headers).body(body).send().await;
    if let Some(fault) = struck {
        return answer(fault.harm).await;
    }
    let Ok(got) = sent else {
        return Response::builder().status(502).body(Body::empty()).unwrap();
    };
    let mut response = Response::builder().status(got.status());
    for (name, value) in got.headers() {
        if name != header::TRANSFER_ENCODING && name != header::CONTENT_LENGTH {
            response = response.header(name, value);
        }
    }
    response.body(Body::from_stream(got.bytes_stream())).unwrap()
}

async fn answer(harm: Harm) -> Response<Body> {
    let Harm::Status(code, retry_after) = harm else { return std::future::pending().await };
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "message": "played", "reason": "Played",
    });
    let mut response = Response::builder().status(code).header(header::CONTENT_TYPE, "application/json");
    if let Some(seconds) = retry_after {
        response = response.header(header::RETRY_AFTER, seconds);
    }
    response.body(Body::from(status.to_string())).unwrap()
}
