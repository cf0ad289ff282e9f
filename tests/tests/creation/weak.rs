//! Stands in front of the API server as one that throttles, fails, breaks off, is slow or falls silent: it passes requests
//! on, or answers in its place, or never.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Method, Response, header};
use headstart_tests::bed::ControlPlane;
use headstart_tests::server::{Running, broken_off, certificate, serve};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::sleep_until;

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
    /// The connection ends without an answer.
    Reset,
    /// It is never answered.
    Silence,
    /// It is passed on so much later.
    Late(Duration),
}

/// A request as it came by.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    at: Instant,
    pub(crate) method: Method,
    /// The path of the object that it is about.
    pub(crate) object: String,
    harm: Option<Harm>,
    /// When only the harm was left to be done.
    delivered: Option<Instant>,
}

/// The way through; gone when dropped.
pub(crate) struct Weak {
    known: Arc<Mutex<Known>>,
    authority: String,
    running: Running,
    _folder: TempDir,
}

#[derive(Default)]
struct Known {
    faults: Vec<Fault>,
    seen: Vec<Seen>,
}

#[derive(Clone)]
struct Way {
    server: String,
    client: reqwest::Client,
    known: Arc<Mutex<Known>>,
}

impl Weak {
    pub(crate) async fn before(control_plane: &ControlPlane) -> Self {
        headstart_runtime::program::install_crypto();
        let folder = tempfile::tempdir().unwrap();
        let tls = certificate(folder.path());
        let authority = std::fs::read(control_plane.authority()).unwrap();
        let authority = reqwest::Certificate::from_pem(&authority).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap();
        let known = Arc::default();
        let way = Way { server: control_plane.server(), client, known: Arc::clone(&known) };
        let running = serve(Router::new().fallback(pass).with_state(way), Some(&tls)).await;
        let authority = std::fs::read_to_string(&tls.tls_cert).unwrap();
        Self { known, authority, running, _folder: folder }
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
        self.known.lock().unwrap().faults.push(fault);
    }

    /// Whether all that is to be harmed has come.
    pub(crate) fn is_used_up(&self) -> bool {
        self.known.lock().unwrap().faults.iter().all(|fault| fault.times == 0)
    }

    /// Whether all of it happened, what was to be done before included.
    pub(crate) fn is_delivered(&self) -> bool {
        let known = self.known.lock().unwrap();
        let is_delivered = |seen: &Seen| seen.harm.is_none() || seen.delivered.is_some();
        known.faults.iter().all(|fault| fault.times == 0) && known.seen.iter().all(is_delivered)
    }

    /// The requests that were harmed.
    pub(crate) fn harmed(&self) -> Vec<Seen> {
        let known = self.known.lock().unwrap();
        known.seen.iter().filter(|seen| seen.delivered.is_some()).cloned().collect()
    }

    /// Panics unless what was answered with `Retry-After` came again, and never before that time.
    pub(crate) fn was_given_time(&self) {
        let known = self.known.lock().unwrap();
        let mut told = 0;
        for first in &known.seen {
            let (Some(Harm::Status(_, Some(seconds))), Some(at)) = (first.harm, first.delivered) else {
                continue;
            };
            told += 1;
            let is_same = |seen: &&Seen| (&seen.method, &seen.object) == (&first.method, &first.object);
            let later = known.seen.iter().filter(is_same).filter(|seen| seen.at > first.at);
            let Some(again) = later.map(|seen| seen.at).min() else { panic!("{first:?} never came again") };
            assert!(again >= at + Duration::from_secs(seconds.into()), "{first:?} came again at {again:?}");
        }
        assert!(told > 0, "nobody was told to wait");
    }
}

impl Known {
    /// What happens to this request, and its place among all.
    fn strike(&mut self, method: &Method, path: &str, object: String) -> (usize, Option<Fault>) {
        let fits =
            |fault: &&mut Fault| fault.times > 0 && *method == fault.write.0 && path.contains(fault.write.1);
        let struck = self.faults.iter_mut().find(fits).map(|fault| {
            fault.times -= 1;
            fault.clone()
        });
        let harm = struck.as_ref().map(|fault| fault.harm);
        let seen = Seen { at: Instant::now(), method: method.clone(), object, harm, delivered: None };
        self.seen.push(seen);
        (self.seen.len() - 1, struck)
    }
}

impl Way {
    /// Passes a request on, or gives the harm that is left to be done. It goes on when whoever asks has given up.
    async fn carry_out(self, parts: Parts, body: Bytes) -> Result<Response<Body>, Harm> {
        let (place, struck) =
            self.known.lock().unwrap().strike(&parts.method, parts.uri.path(), object(&parts, &body));
        let deliver = |harm: Harm| {
            self.known.lock().unwrap().seen[place].delivered = Some(Instant::now());
            harm
        };
        match &struck {
            Some(Fault { harm: Harm::Late(by), .. }) => {
                sleep_until(tokio::time::Instant::now() + *by).await;
                deliver(Harm::Late(*by));
            }
            Some(fault) if !fault.is_done => return Err(deliver(fault.harm)),
            _ => {}
        }
        let url = format!("{}{}", self.server, parts.uri.path_and_query().unwrap());
        let mut headers = parts.headers;
        headers.remove(header::HOST);
        headers.remove(header::CONTENT_LENGTH);
        let sent = self.client.request(parts.method, url).headers(headers).body(body).send().await;
        if let Some(fault) = struck.filter(|fault| fault.is_done) {
            return Err(deliver(fault.harm));
        }
        let Ok(got) = sent else {
            return Ok(Response::builder().status(502).body(Body::empty()).unwrap());
        };
        let mut response = Response::builder().status(got.status());
        for (name, value) in got.headers() {
            if name != header::TRANSFER_ENCODING && name != header::CONTENT_LENGTH {
                response = response.header(name, value);
            }
        }
        Ok(response.body(Body::from_stream(got.bytes_stream())).unwrap())
    }
}

/// The path of the object that a request is about; one that is to be created says its name in the body.
fn object(parts: &Parts, body: &Bytes) -> String {
    let path = parts.uri.path().trim_end_matches("/status");
    if parts.method != Method::POST {
        return path.to_owned();
    }
    let created: Value = serde_json::from_slice(body).unwrap_or_default();
    format!("{path}/{}", created["metadata"]["name"].as_str().unwrap_or_default())
}

async fn pass(State(way): State<Way>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 24).await.unwrap_or_default();
    // On its own, since the server drops this one when the connection ends.
    match tokio::spawn(way.carry_out(parts, body)).await.unwrap() {
        Ok(response) => response,
        Err(harm) => answer(harm).await,
    }
}

async fn answer(harm: Harm) -> Response<Body> {
    let (code, retry_after) = match harm {
        Harm::Status(code, retry_after) => (code, retry_after),
        Harm::Reset => return broken_off(),
        Harm::Silence | Harm::Late(_) => return std::future::pending().await,
    };
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
