//! The calls: who they are made as, and what their answers are.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::url::Url;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, RequestBuilder};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Call, List, Received, Registered, Runner, expiry, runner_named};
use super::credentials::{App, Credentials};
use super::error::ServiceError;
use super::http::{Http, now};
use super::inputs::{InputError, Inputs};
use super::token::{Admin, Fetched, Tokens};
use super::url::Target;

const API_VERSION: (&str, &str) = ("api-version", "6.0-preview");
const AGENTS: &str = "/_apis/distributedtask/pools/0/agents";

/// A runner that was registered.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The service's number for it.
    pub runner_id: i64,
    /// What the runner is started with, once; it cannot be had again.
    pub jit_config: SecretString,
}

/// A runner that the service knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// The service's number for it.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The scale set that it is of, 0 if it is of none.
    pub scale_set: i64,
}

/// The Actions service, for all sets with the same configuration. Clones share connections and tokens.
#[derive(Clone)]
pub struct Service(Arc<Shared>);

struct Shared {
    http: Http,
    target: Target,
    credentials: Credentials,
    tokens: Tokens,
    deadline: Duration,
    secret: String,
}

/// A call to the service itself.
struct Request<'a> {
    call: Call,
    scale_set: i64,
    method: Method,
    path: String,
    query: Option<(&'a str, &'a str)>,
    body: Option<Value>,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

#[derive(Deserialize)]
struct Access {
    url: String,
    token: String,
}

impl fmt::Debug for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { target, secret, deadline, .. } = &*self.0;
        formatter
            .debug_struct("Service")
            .field("url", &target.configured())
            .field("secret", secret)
            .field("deadline", deadline)
            .finish_non_exhaustive()
    }
}

impl Service {
    /// A service that is not asked anything yet. No call takes longer than `deadline`, the tokens that it needs included.
    /// For `is_server_forced` see [`Target::parse`].
    pub fn new(inputs: &Inputs, deadline: Duration, is_server_forced: bool) -> Result<Self, InputError> {
        let target = Target::parse(&inputs.spec.url, is_server_forced)?;
        let http = Http::new(inputs, &target)?;
        let (credentials, secret) = (inputs.credentials.clone(), inputs.secret());
        Ok(Self(Arc::new(Shared { http, target, credentials, tokens: Tokens::default(), deadline, secret })))
    }

    /// Sees to it that a token is at hand, so that the next call need not wait for one.
    pub async fn prepare(&self) -> Result<(), ServiceError> {
        self.within(async { self.admin(None).await.map(drop) }).await
    }

    /// Registers a runner under a name that nobody has. `work_folder` is the working directory of the container `runner`,
    /// or empty.
    pub async fn register(
        &self,
        scale_set: i64,
        name: &str,
        work_folder: &str,
    ) -> Result<Registration, ServiceError> {
        let path = format!("/_apis/runtime/runnerscalesets/{scale_set}/generatejitconfig");
        let body = Some(runner_named(name, work_folder));
        let (call, method) = (Call::Register, Method::POST);
        let received = self.call(&Request { call, scale_set, method, path, query: None, body }).await?;
        let registered: Registered = self.0.http.checked(call, received)?.parse(call)?;
        match (registered.runner, registered.jit_config) {
            (Some(runner), Some(config)) if !config.is_empty() => {
                Ok(Registration { runner_id: runner.id, jit_config: config.into() })
            }
            _ => Err(ServiceError::Answer("a registered runner has no id or no configuration".to_owned())),
        }
    }

    /// The runner of this name, if there is one.
    pub async fn find(&self, name: &str) -> Result<Option<Agent>, ServiceError> {
        let (call, method, path) = (Call::Find, Method::GET, AGENTS.to_owned());
        let query = Some(("agentName", name));
        let received = self.call(&Request { call, scale_set: 0, method, path, query, body: None }).await?;
        let list: List<Runner> = self.0.http.checked(call, received)?.parse(call)?;
        let runners = list.value.unwrap_or_default();
        let is_other = |runner: &Runner| !runner.name.eq_ignore_ascii_case(name);
        if runners.len() > 1 || runners.iter().any(is_other) {
            let message = format!("asked for the runner {name:?}, it gave {} others", runners.len());
            return Err(ServiceError::Answer(message));
        }
        Ok(runners.into_iter().next().map(|Runner { id, name, runner_scale_set_id }| {
            let scale_set = runner_scale_set_id.unwrap_or_default();
            Agent { id, name, scale_set }
        }))
    }

    /// Removes a runner. One that is not there is removed.
    pub async fn remove(&self, runner_id: i64) -> Result<(), ServiceError> {
        let (call, method, path) = (Call::Remove, Method::DELETE, format!("{AGENTS}/{runner_id}"));
        let request = Request { call, scale_set: 0, method, path, query: None, body: None };
        let received = self.call(&request).await?;
        if received.is_error("AgentNotFoundException") {
            return Ok(());
        }
        self.0.http.checked(call, received).map(drop)
    }

    async fn within<T>(
        &self,
        call: impl Future<Output = Result<T, ServiceError>>,
    ) -> Result<T, ServiceError> {
        let deadline = self.0.deadline;
        tokio::time::timeout(deadline, call).await.unwrap_or(Err(ServiceError::TimedOut(deadline)))
    }

    /// Makes a call, and makes it again once if the token is refused.
    async fn call(&self, request: &Request<'_>) -> Result<Received, ServiceError> {
        self.within(async {
            let Fetched { number, admin } = self.admin(None).await?;
            let received = self.send(request, &admin).await?;
            if received.status != 401 {
                return Ok(received);
            }
            let Fetched { admin, .. } = self.admin(Some(number)).await?;
            self.send(request, &admin).await
        })
        .await
    }

    async fn send(&self, request: &Request<'_>, admin: &Admin) -> Result<Received, ServiceError> {
        let mut url = admin.base.clone();
        url.set_path(&format!("{}{}", admin.base.path().trim_end_matches('/'), request.path));
        url.query_pairs_mut().extend_pairs(request.query).append_pair(API_VERSION.0, API_VERSION.1);
        let mut built = self.0.http.client().request(request.method.clone(), url);
        built = built.bearer_auth(admin.token.expose_secret()).header(CONTENT_TYPE, "application/json");
        if let Some(body) = &request.body {
            built = built.body(body.to_string());
        }
        self.0.http.send(request.call, request.scale_set, built).await
    }

    async fn admin(&self, refused: Option<u64>) -> Result<Fetched, ServiceError> {
        self.0.tokens.get(refused, now(), self.fetch()).await
    }

    /// Exchanges the credentials for access to the service.
    async fn fetch(&self) -> Result<Admin, ServiceError> {
        let Shared { http, target, credentials, .. } = &*self.0;
        let bearer = match credentials {
            Credentials::Token(token) => token.clone(),
            Credentials::App(app) => self.installation(app).await?,
        };
        let request = self.empty_post(target.registration_token(), "application/vnd.github.v3+json");
        let request = request.bearer_auth(bearer.expose_secret());
        let registration =
            token(Call::RegistrationToken, &http.ask(Call::RegistrationToken, request).await?)?;
        let body = json!({ "url": target.configured(), "runner_event": "register" });
        let request = self.post(target.runner_registration(), "application/json").body(body.to_string());
        let call = Call::RunnerRegistration;
        let received = http.ask(call, request.header(AUTHORIZATION, remote(&registration)?)).await?;
        let Access { url, token } = received.parse(call)?;
        let base = Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let base =
            base.ok_or_else(|| ServiceError::Answer("the Actions service has no HTTP address".to_owned()))?;
        let token = token.into();
        Ok(Admin { base, expiry: expiry(&token), token })
    }

    async fn installation(&self, app: &App) -> Result<SecretString, ServiceError> {
        let Shared { http, target, .. } = &*self.0;
        let proof = app.token(now()).map_err(|_| ServiceError::Unauthorized(self.0.secret.clone()))?;
        let address = target.installation_token(app.installation());
        let request =
            self.empty_post(address, "application/vnd.github+json").bearer_auth(proof.expose_secret());
        token(Call::InstallationToken, &http.ask(Call::InstallationToken, request).await?)
    }

    fn post(&self, url: Url, kind: &'static str) -> RequestBuilder {
        self.0.http.client().post(url).header(CONTENT_TYPE, kind)
    }

    /// A POST without a body, which some servers only take if it says so.
    fn empty_post(&self, url: Url, kind: &'static str) -> RequestBuilder {
        self.post(url, kind).header(CONTENT_LENGTH, "0")
    }
}

fn token(call: Call, received: &Received) -> Result<SecretString, ServiceError> {
    received.parse::<Token>(call).map(|answer| answer.token.into())
}

fn remote(token: &SecretString) -> Result<HeaderValue, ServiceError> {
    let value = HeaderValue::from_str(&format!("RemoteAuth {}", token.expose_secret()));
    let mut value = value.map_err(|_| ServiceError::Answer("a token is no text".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}
