//! A small Actions service with GitHub's REST API before it, in this process.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use headstart_controller::actions::credentials::Credentials;
use headstart_controller::actions::spec::Spec;
use headstart_controller::actions::{Inputs, Service};
use headstart_runtime::server::{Server, ServerLimits};
use headstart_runtime::shutdown::Shutdown;
use headstart_runtime::tls::{TlsArgs, TlsSource};
use k8s_openapi::ByteString;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Barrier;

/// Longer than any call takes here.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// What holds up calls, if their line has the word.
type Gate = (&'static str, Arc<Barrier>);

/// A call that came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Method and address.
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// An answer that is given instead of the usual one.
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Answer {
    pub(crate) fn new(status: u16, body: &str) -> Self {
        let headers = vec![("content-type", "application/json".to_owned())];
        Self { status, headers, body: body.to_owned() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value.to_owned()));
        self
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::builder().status(self.status);
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        response.body(Body::from(self.body)).unwrap()
    }
}

#[derive(Default)]
struct Inner {
    /// Where the Actions service is, by the words of the REST API.
    base: OnceLock<String>,
    calls: Mutex<Vec<Seen>>,
    /// Answers to come, to calls whose line has the word.
    scripted: Mutex<Vec<(&'static str, Answer)>>,
    gate: Mutex<Option<Gate>>,
    accepted: Mutex<BTreeSet<String>>,
    /// Seconds that tokens are good for.
    validity: Mutex<Option<u64>>,
}

#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<Inner>);

impl Fake {
    /// A fake that serves, and its address.
    pub(crate) async fn start() -> (Self, String) {
        let fake = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        fake.claims_to_be_at(&format!("{address}/tenant/1/"));
        tokio::spawn(axum::serve(listener, fake.router()).into_future());
        (fake, address)
    }

    /// The same over TLS; also the PEM text of the authority that its certificate is from.
    pub(crate) async fn start_with_tls() -> (Self, String, String) {
        let fake = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (authority, tls) = certificates(address);
        fake.claims_to_be_at(&format!("https://{address}/tenant/1/"));
        let server = Server::new(listener, Some(tls), ServerLimits::default());
        tokio::spawn(server.serve(fake.router(), Shutdown::new()));
        (fake, format!("https://{address}"), authority)
    }

    /// Sets the address of the Actions service, once.
    pub(crate) fn claims_to_be_at(&self, base: &str) {
        self.0.base.set(base.to_owned()).unwrap();
    }

    pub(crate) fn router(&self) -> Router {
        Router::new().fallback(serve).with_state(self.clone())
    }

    /// Gives this answer once to a call whose line has `word`, after those that were set before.
    pub(crate) fn answers_once(&self, word: &'static str, answer: Answer) {
        self.0.scripted.lock().unwrap().push((word, answer));
    }

    /// Answers calls with `word` only when so many of them are there at once.
    pub(crate) fn answers_together(&self, word: &'static str, count: usize) {
        *self.0.gate.lock().unwrap() = Some((word, Arc::new(Barrier::new(count))));
    }

    /// Tokens are good for so many seconds from now on.
    pub(crate) fn gives_tokens_for(&self, seconds: u64) {
        *self.0.validity.lock().unwrap() = Some(seconds);
    }

    /// Accepts none of the tokens that it gave.
    pub(crate) fn revokes(&self) {
        self.0.accepted.lock().unwrap().clear();
    }

    /// The calls since the last time.
    pub(crate) fn calls(&self) -> Vec<Seen> {
        std::mem::take(&mut self.0.calls.lock().unwrap())
    }

    /// How many calls with `word` there were in all.
    pub(crate) fn count(&self, word: &str) -> usize {
        self.0.calls.lock().unwrap().iter().filter(|call| call.line.contains(word)).count()
    }

    fn token(&self) -> String {
        let mut accepted = self.0.accepted.lock().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let exp = now + self.0.validity.lock().unwrap().unwrap_or(3600);
        let claims = json!({ "exp": exp, "number": self.count("runner-registration") });
        let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let token = format!("{}.{}.s3cret", part(json!({ "alg": "RS256", "typ": "JWT" })), part(claims));
        accepted.insert(token.clone());
        token
    }
}

async fn serve(State(fake): State<Fake>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let body = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
    let line = format!("{} {}", head.method, head.uri);
    let seen = Seen { line: line.clone(), headers: head.headers, body };
    fake.0.calls.lock().unwrap().push(seen.clone());
    let gate = fake.0.gate.lock().unwrap().clone().filter(|(word, _)| line.contains(word));
    if let Some((_, barrier)) = gate {
        barrier.wait().await;
    }
    let scripted = {
        let mut scripted = fake.0.scripted.lock().unwrap();
        scripted.iter().position(|(word, _)| line.contains(word)).map(|at| scripted.remove(at).1)
    };
    if let Some(answer) = scripted {
        return answer.into_response();
    }
    usual(&fake, &line, &seen)
}

fn usual(fake: &Fake, line: &str, seen: &Seen) -> Response {
    let is = |word| line.contains(word);
    if is("/access_tokens") {
        return (StatusCode::CREATED, Json(json!({ "token": "s3cret-installation" }))).into_response();
    }
    if is("/registration-token") {
        return (StatusCode::CREATED, Json(json!({ "token": "s3cret-registration" }))).into_response();
    }
    if is("/runner-registration") {
        let base = fake.0.base.get().unwrap();
        return Json(json!({ "url": base, "token": fake.token() })).into_response();
    }
    let token = seen.header("authorization").strip_prefix("Bearer ").unwrap_or_default();
    if !fake.0.accepted.lock().unwrap().contains(token) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if is("/generatejitconfig") {
        let body: Value = serde_json::from_str(&seen.body).unwrap();
        let runner = json!({ "id": 7, "name": body["name"], "runnerScaleSetId": 3 });
        return Json(json!({ "runner": runner, "encodedJITConfig": "s3cret-config" })).into_response();
    }
    match line.split(' ').next() {
        Some("DELETE") => StatusCode::NO_CONTENT.into_response(),
        _ => Json(json!({ "count": 0, "value": [] })).into_response(),
    }
}

/// What a set with a token says, if its GitHub is at `url`.
pub(crate) fn inputs(url: &str) -> Inputs {
    let spec = json!({ "githubConfigUrl": format!("{url}/o/r"), "githubConfigSecret": "github" });
    let data = [("github_token".to_owned(), ByteString(b"s3cret-pat".to_vec()))];
    Inputs {
        namespace: "ns".to_owned(),
        spec: Spec::read(&spec).unwrap(),
        credentials: Credentials::read(&data.into()).unwrap(),
        http_login: None,
        https_login: None,
        authority: None,
    }
}

pub(crate) fn service(inputs: &Inputs) -> Service {
    headstart_runtime::program::install_crypto();
    Service::new(inputs, DEADLINE, false).unwrap()
}

/// The PEM text of an authority, and a certificate for this address that it signed.
fn certificates(address: SocketAddr) -> (String, TlsSource) {
    headstart_runtime::program::install_crypto();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![address.ip().to_string()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let file = |end: &str| folder.join(format!("actions-{}-{}.{end}", std::process::id(), address.port()));
    let args = TlsArgs { tls_cert: file("crt"), tls_key: file("key") };
    std::fs::write(&args.tls_cert, leaf.pem()).unwrap();
    std::fs::write(&args.tls_key, key.serialize_pem()).unwrap();
    let (source, _) = TlsSource::load(&args).unwrap();
    for path in [args.tls_cert, args.tls_key] {
        std::fs::remove_file(path).unwrap();
    }
    (authority, source)
}
