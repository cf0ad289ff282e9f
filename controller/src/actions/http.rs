//! Requests to GitHub over many connections, through the proxy and with the authorities of a runner set.

use std::error::Error as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{HeaderMap, RETRY_AFTER, USER_AGENT};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, NoProxy, Proxy, RequestBuilder, Response};
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::answer::{Call, Received};
use super::error::ServiceError;
use super::inputs::{InputError, Inputs, Login};
use super::spec::ProxyServer;
use super::url::Target;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// How long a connection stays open for the next burst.
const IDLE: Duration = Duration::from_secs(300);

/// How soon a connection is noticed that a router on the way has forgotten.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Most redirects; a renamed repository needs one.
const REDIRECTS: usize = 5;

/// Most bytes of an answer; a runner's configuration has a few thousand.
const MOST: usize = 1 << 20;

/// Never reached through a proxy that a set names.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.0/8", "::1"];

/// Sends requests.
pub(super) struct Http {
    client: Client,
    secret: String,
}

impl Http {
    /// With connections of its own.
    pub(super) fn new(inputs: &Inputs, target: &Target) -> Result<Self, InputError> {
        let mut builder = Client::builder()
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .tcp_keepalive(KEEPALIVE)
            .redirect(Policy::limited(REDIRECTS))
            .tls_certs_merge(authorities(inputs)?);
        // Without proxies of its own, the client takes those that the environment names.
        for proxy in proxies(inputs)? {
            builder = builder.proxy(proxy);
        }
        if target.is_loopback() {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| InputError::Client(causes(&error)))?;
        Ok(Self { client, secret: inputs.secret() })
    }

    /// For building requests.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Sends a request, for a scale set or for 0, and gives an answer of whatever status.
    pub(super) async fn send(
        &self,
        call: Call,
        scale_set: i64,
        request: RequestBuilder,
    ) -> Result<Received, ServiceError> {
        let response = request.header(USER_AGENT, user_agent(scale_set)).send().await.map_err(failed)?;
        let received = receive(response).await?;
        if !received.is_success() {
            let Received { status, activity_id, request_id, .. } = &received;
            tracing::debug!(status, activity_id, request_id, "GitHub refused {}", call.what());
        }
        Ok(received)
    }

    /// The same, but an answer that says no is an error.
    pub(super) async fn ask(&self, call: Call, request: RequestBuilder) -> Result<Received, ServiceError> {
        let received = self.send(call, 0, request).await?;
        self.checked(call, received)
    }

    /// The answer, if it says yes.
    pub(super) fn checked(&self, call: Call, received: Received) -> Result<Received, ServiceError> {
        if received.is_success() { Ok(received) } else { Err(received.refusal(call, &self.secret, now())) }
    }
}

/// The time since 1970.
pub(super) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Who calls: the service knows its clients by JSON.
fn user_agent(scale_set: i64) -> String {
    let version = env!("CARGO_PKG_VERSION");
    json!({
        "system": "headstart-controller", "version": version, "commit_sha": "unknown", "scale_set_id": scale_set,
        "subsystem": "runner-creation", "build_version": version, "build_commit_sha": "unknown", "kind": "scaleset",
    })
    .to_string()
}

fn authorities(inputs: &Inputs) -> Result<Vec<Certificate>, InputError> {
    let (Some(pem), Some(place)) = (&inputs.authority, &inputs.spec.authority) else { return Ok(Vec::new()) };
    let certificates = Certificate::from_pem_bundle(pem.as_bytes()).ok().filter(|bundle| !bundle.is_empty());
    let map = || format!("{}/{}", inputs.namespace, place.name);
    certificates.ok_or_else(|| InputError::Authority(map(), place.key.clone()))
}

fn proxies(inputs: &Inputs) -> Result<Vec<Proxy>, InputError> {
    let Some(proxy) = &inputs.spec.proxy else { return Ok(Vec::new()) };
    let direct = proxy.no_proxy.iter().map(String::as_str).chain(LOOPBACK);
    let direct = NoProxy::from_string(&direct.collect::<Vec<_>>().join(","));
    let mut proxies = Vec::new();
    if let Some(server) = &proxy.http {
        let proxy = Proxy::http(&server.url).map_err(|_| InputError::Proxy("proxy.http.url"))?;
        proxies.push(with_login(proxy, server, inputs.http_login.as_ref()).no_proxy(direct.clone()));
    }
    if let Some(server) = &proxy.https {
        let proxy = Proxy::https(&server.url).map_err(|_| InputError::Proxy("proxy.https.url"))?;
        proxies.push(with_login(proxy, server, inputs.https_login.as_ref()).no_proxy(direct));
    }
    Ok(proxies)
}

fn with_login(proxy: Proxy, server: &ProxyServer, login: Option<&Login>) -> Proxy {
    match login.filter(|_| server.secret.is_some()) {
        Some(Login { username, password }) => proxy.basic_auth(username, password.expose_secret()),
        None => proxy,
    }
}

async fn receive(mut response: Response) -> Result<Received, ServiceError> {
    let headers = response.headers();
    let text = |name: &str| text(headers, name);
    let mut received = Received {
        status: response.status().as_u16(),
        is_text: text("content-type").is_some_and(|kind| kind.starts_with("text/plain")),
        retry_after: text(RETRY_AFTER.as_str()),
        rate_limit: (text("x-ratelimit-remaining"), text("x-ratelimit-reset")),
        activity_id: text("activityid"),
        request_id: text("x-github-request-id"),
        body: Vec::new(),
    };
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if received.body.len() + chunk.len() > MOST {
            return Err(ServiceError::Answer(format!("it is longer than {MOST} bytes")));
        }
        received.body.extend_from_slice(&chunk);
    }
    Ok(received)
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn failed(error: reqwest::Error) -> ServiceError {
    ServiceError::Unreachable { cause: causes(&error.without_url()) }
}

/// An error with its causes; what a cause says again is left out.
fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let below = error.to_string();
        if !text.contains(&below) {
            text = format!("{text}: {below}");
        }
        cause = error.source();
    }
    text
}
