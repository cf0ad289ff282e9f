//! The service's port: real time, latency and broken connections around what [`Service`] decides.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Request as HttpRequest, Response, header};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::calls::Caller;
use super::endpoint::{Endpoint, Target};
use super::faults::{Delivered, Harm, Strike};
use super::state::Service;
use super::wire::{Poll, Reply, Request};
use crate::server::broken_off;

/// A running service; it ends when dropped.
pub struct ActionsService {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    url: String,
    begun: Instant,
    service: Mutex<Service>,
    hold: Mutex<Duration>,
    changed: Notify,
}

impl ActionsService {
    /// Starts an empty service whose long polls are held for a second.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let shared = Arc::new(Shared {
            service: Mutex::new(Service::new(url.clone(), epoch)),
            url,
            begun: Instant::now(),
            hold: Mutex::new(Duration::from_secs(1)),
            changed: Notify::new(),
        });
        let routes = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { shared, task }
    }

    /// Where it is reached, without a trailing slash.
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// What an AutoscalingRunnerSet says as `githubConfigUrl`.
    pub fn config_url(&self) -> String {
        format!("{}/org/repo", self.shared.url)
    }

    /// How long polls are held that find no message.
    pub fn set_hold(&self, hold: Duration) {
        *self.shared.hold.lock().unwrap() = hold;
    }

    /// Looks into it or changes it, at the time that is given along; who polls hears of it.
    pub fn with<T>(&self, change: impl FnOnce(&mut Service, Duration) -> T) -> T {
        let outcome = change(&mut self.shared.service(), self.shared.now());
        self.shared.changed.notify_waiters();
        outcome
    }
}

impl Drop for ActionsService {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn service(&self) -> MutexGuard<'_, Service> {
        self.service.lock().unwrap()
    }

    /// Waits for a message until the hold is over, or until an outage ends the poll.
    async fn poll(&self, poll: &Poll, caller: Caller) -> Outcome {
        let hold = *self.hold.lock().unwrap();
        let _waiting = Waiting::begin(self, poll);
        let heard = self.until(|service| {
            let cut = service.faults.cuts(Endpoint::GetMessage, caller, self.now()).map(Outcome::Harmed);
            cut.or_else(|| service.held(poll).map(Outcome::Said))
        });
        timeout(hold, heard).await.unwrap_or(Outcome::Said(Reply::bare(202)))
    }

    /// Waits until a look at the service gives something.
    async fn until<T>(&self, look: impl Fn(&Service) -> Option<T>) -> T {
        loop {
            // Asked for before the look, so that no change falls between.
            let changed = self.changed.notified();
            let found = look(&self.service());
            if let Some(found) = found {
                return found;
            }
            changed.await;
        }
    }

    /// Does what is asked for, or harms it before or after that. It goes on when whoever asks has given up.
    async fn carry_out(self: Arc<Self>, request: Request, endpoint: Endpoint, caller: Caller) -> Outcome {
        let (latency, mut struck) = {
            let mut service = self.service();
            let struck = service.faults.strike(endpoint, caller, self.now());
            (service.faults.latency(endpoint), struck)
        };
        let name = request.body["name"].as_str().unwrap_or_default().to_owned();
        let deliver = |strike: Strike| {
            let delivered = Delivered { endpoint, name: name.clone(), at: self.now() };
            self.service().faults.deliver(delivered);
            Outcome::Harmed(strike)
        };
        // Half on the way in and half on the way out.
        sleep_until(Instant::now() + latency / 2).await;
        self.until(|service| (!service.faults.holds(endpoint)).then_some(())).await;
        if let Some(strike) = struck.take_if(|strike| !strike.after) {
            return deliver(strike);
        }
        let reply = self.service().handle(&request, self.now());
        self.changed.notify_waiters();
        sleep_until(Instant::now() + latency / 2).await;
        struck.map_or(Outcome::Said(reply), deliver)
    }

    /// What a broken service or network answers, if anything.
    async fn harmed(&self, strike: Strike) -> Response<Body> {
        match (strike.harm, strike.until) {
            (Harm::Status(status, wait), _) => refusal(status, wait),
            (Harm::Reset, _) => broken_off(),
            (Harm::Hang, Some(end)) => {
                sleep_until(self.begun + end).await;
                broken_off()
            }
            (Harm::Hang, None) => std::future::pending().await,
        }
    }
}

/// What comes of a request.
enum Outcome {
    Said(Reply),
    Harmed(Strike),
}

/// A poll that waits; also one that its listener gives up ends.
struct Waiting<'s>(&'s Shared, &'s Poll);

impl<'s> Waiting<'s> {
    fn begin(shared: &'s Shared, poll: &'s Poll) -> Self {
        shared.service().polling(poll.set, &poll.session, true, shared.now());
        Self(shared, poll)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.service().polling(self.1.set, &self.1.session, false, self.0.now());
    }
}

/// A request under way; also one that is given up ends.
struct UnderWay<'s>(&'s Shared, Endpoint);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.service().calls.end(self.1);
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: HttpRequest<Body>) -> Response<Body> {
    let request = read(request).await;
    let endpoint = Target::of(&request.method, &request.path).endpoint;
    let caller = Caller::of(&request.user_agent);
    shared.service().calls.begin(caller, endpoint, shared.now());
    let _under_way = UnderWay(&shared, endpoint);
    // On its own, since the server drops this one when the connection ends: who gives up has been heard all the same.
    let outcome = tokio::spawn(Arc::clone(&shared).carry_out(request, endpoint, caller)).await.unwrap();
    let outcome = match outcome {
        Outcome::Said(Reply::Hold(poll)) => shared.poll(&poll, caller).await,
        outcome => outcome,
    };
    match outcome {
        Outcome::Said(reply) => respond(reply),
        Outcome::Harmed(strike) => shared.harmed(strike).await,
    }
}

async fn read(request: HttpRequest<Body>) -> Request {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap_or_default();
    let query = parts.uri.query().unwrap_or_default();
    Request {
        method: parts.method.as_str().to_owned(),
        path: parts.uri.path().to_owned(),
        query: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
        authorization: text(&parts.headers, header::AUTHORIZATION),
        user_agent: text(&parts.headers, header::USER_AGENT),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn refusal(status: u16, wait: Option<u32>) -> Response<Body> {
    let message = format!(r#"{{"typeName":"","message":"played status {status}"}}"#);
    let mut response = Response::builder().status(status);
    response = response.header(header::CONTENT_TYPE, "application/json");
    if let Some(seconds) = wait {
        response = response.header(header::RETRY_AFTER, seconds);
    }
    response.body(Body::from(message)).unwrap()
}

fn respond(reply: Reply) -> Response<Body> {
    let Reply::Now(status, body) = reply else { panic!("a held poll is answered by its message") };
    let response = Response::builder().status(status);
    match body {
        Some(body) => {
            let response = response.header(header::CONTENT_TYPE, "application/json; charset=utf-8");
            response.body(Body::from(body.to_string())).unwrap()
        }
        None => response.body(Body::empty()).unwrap(),
    }
}

#[cfg(test)]
mod tests {
    use reqwest::{Client, Method, StatusCode};
    use serde_json::{Value, json};

    use super::super::{Fault, Harm, Span};
    use super::*;
    use crate::wait::until;

    struct Asking {
        service: ActionsService,
        client: Client,
    }

    impl Asking {
        async fn new() -> Self {
            headstart_runtime::program::install_crypto();
            let client =
                Client::builder().no_proxy().user_agent("headstart-controller/test").build().unwrap();
            Self { service: ActionsService::start().await, client }
        }

        async fn send(
            &self,
            method: Method,
            url: &str,
            token: &str,
            body: Value,
        ) -> reqwest::Result<(u16, Value)> {
            let request = self.client.request(method, url).header("Authorization", token).json(&body);
            let response = request.send().await?;
            let status = response.status().as_u16();
            let bytes = response.bytes().await?;
            Ok((status, serde_json::from_slice(&bytes).unwrap_or_default()))
        }

        /// The service's own URL and an admin token, as clients get them.
        async fn admin(&self) -> (String, String) {
            let front = self.service.url();
            let url = format!("{front}/api/v3/repos/org/repo/actions/runners/registration-token");
            let (status, answer) = self.send(Method::POST, &url, "Bearer pat", Value::Null).await.unwrap();
            assert_eq!(status, 201);
            let token = format!("RemoteAuth {}", answer["token"].as_str().unwrap());
            let url = format!("{front}/api/v3/actions/runner-registration");
            let body = json!({"url": self.service.config_url(), "runner_event": "register"});
            let (status, answer) = self.send(Method::POST, &url, &token, body).await.unwrap();
            assert_eq!(status, 200);
            let base = answer["url"].as_str().unwrap().trim_end_matches('/').to_owned();
            (format!("{base}/_apis"), format!("Bearer {}", answer["token"].as_str().unwrap()))
        }
    }

    #[tokio::test]
    async fn a_client_registers_and_removes_a_runner() {
        let it = Asking::new().await;
        let (base, token) = it.admin().await;
        let sets = format!("{base}/runtime/runnerscalesets");
        let (status, set) = it.send(Method::POST, &sets, &token, json!({"name": "s"})).await.unwrap();
        assert_eq!((status, &set["name"], &set["runnerGroupName"]), (200, &json!("s"), &json!("Default")));
        let jit = format!("{sets}/{}/generatejitconfig", set["id"]);
        let body = json!({"name": "a", "workFolder": ""});
        let (status, made) = it.send(Method::POST, &jit, &token, body.clone()).await.unwrap();
        assert_eq!((status, &made["runner"]["name"]), (200, &json!("a")), "{made}");
        let (status, error) = it.send(Method::POST, &jit, &token, body.clone()).await.unwrap();
        assert_eq!(status, 409);
        assert!(error["typeName"].as_str().unwrap().contains("AgentExistsException"));
        let (status, _) = it.send(Method::POST, &jit, "Bearer x", body).await.unwrap();
        assert_eq!(status, 401);
        let agents = format!("{base}/distributedtask/pools/0/agents");
        let (_, found) =
            it.send(Method::GET, &format!("{agents}?agentName=a"), &token, Value::Null).await.unwrap();
        assert_eq!(found["value"][0]["id"], made["runner"]["id"]);
        for id in [made["runner"]["id"].as_i64().unwrap(), 0, 999] {
            let url = format!("{agents}/{id}");
            assert_eq!(it.send(Method::DELETE, &url, &token, Value::Null).await.unwrap().0, 204);
        }
        let (calls, left) = it.service.with(|service, _| (service.calls.clone(), service.agents().count()));
        assert_eq!((calls.of(Caller::Headstart, Endpoint::GenerateJitConfig), left), (3, 0));
    }

    #[tokio::test]
    async fn a_listener_hears_of_jobs_while_it_waits() {
        let it = Asking::new().await;
        let (base, token) = it.admin().await;
        let set = it.service.with(|service, _| service.add_set("s", 1));
        let url = format!("{base}/runtime/runnerscalesets/{set}/sessions");
        let owner = json!({"sessionId": "", "ownerName": "me"});
        let (status, session) = it.send(Method::POST, &url, &token, owner.clone()).await.unwrap();
        assert_eq!((status, &session["statistics"]["totalAssignedJobs"]), (200, &json!(0)));
        assert_eq!(it.send(Method::POST, &url, &token, owner).await.unwrap().0, 409);
        let queue = session["messageQueueUrl"].as_str().unwrap();
        let bearer = format!("Bearer {}", session["messageQueueAccessToken"].as_str().unwrap());
        it.service.set_hold(Duration::from_millis(1));
        assert_eq!(it.send(Method::GET, queue, &bearer, Value::Null).await.unwrap().0, 202);
        it.service.set_hold(Duration::from_secs(60));
        let (heard, ()) = tokio::join!(it.send(Method::GET, queue, &bearer, Value::Null), async {
            it.service.with(|service, now| service.assign(set, 3, now)).unwrap();
        });
        let (status, message) = heard.unwrap();
        assert_eq!((status, &message["statistics"]["totalAssignedJobs"]), (200, &json!(3)));
        let (path, query) = queue.split_once('?').unwrap();
        let url = format!("{path}/{}?{query}", message["messageId"]);
        assert_eq!(it.send(Method::DELETE, &url, &bearer, Value::Null).await.unwrap().0, 204);
        assert!(it.service.with(|service, _| service.message(set, 0).is_none()));
        assert_eq!(it.send(Method::GET, queue, "Bearer old", Value::Null).await.unwrap().0, 401);
    }

    #[tokio::test]
    async fn faults_reach_the_client() {
        let it = Asking::new().await;
        let (base, token) = it.admin().await;
        let set = it.service.with(|service, _| service.add_set("s", 1));
        let jit = format!("{base}/runtime/runnerscalesets/{set}/generatejitconfig");
        let register = async |name: &str| it.send(Method::POST, &jit, &token, json!({"name": name})).await;
        let strike = |fault: Fault| it.service.with(|service, _| service.faults.add(fault));
        let here = [Endpoint::GenerateJitConfig];
        strike(Fault::new(&here, Harm::Reset, Span::Next(1)));
        register("lost").await.unwrap_err();
        strike(Fault::new(&here, Harm::Status(503, None), Span::Next(1)).after());
        assert_eq!(register("made").await.unwrap().0, 503);
        assert_eq!(register("made").await.unwrap().0, 409, "it was done all the same");
        strike(Fault::new(&here, Harm::Status(429, Some(7)), Span::Next(1)));
        let asked = it.client.post(&jit).header("Authorization", &token).send().await.unwrap();
        assert_eq!(
            (asked.status(), &asked.headers()["retry-after"]),
            (StatusCode::TOO_MANY_REQUESTS, &"7".parse().unwrap())
        );
        strike(Fault::new(&here, Harm::Hang, Span::Next(1)));
        timeout(Duration::from_millis(50), register("never")).await.unwrap_err();
        assert_eq!(register("next").await.unwrap().0, 200);
    }

    #[tokio::test]
    async fn who_gives_up_has_been_heard_and_an_outage_ends_what_waits() {
        let it = Asking::new().await;
        let (base, token) = it.admin().await;
        let set = it.service.with(|service, _| service.add_set("s", 1));
        let jit = format!("{base}/runtime/runnerscalesets/{set}/generatejitconfig");
        let register = async |name: &str| it.send(Method::POST, &jit, &token, json!({"name": name})).await;
        let here = [Endpoint::GenerateJitConfig];
        it.service.with(|service, _| {
            service.faults.hold(here[0]);
            service.faults.add(Fault::new(&here, Harm::Hang, Span::Next(1)).after());
        });
        let came = |service: &mut Service, _| service.calls.of(Caller::Headstart, here[0]) > 0;
        let arrived = until("it arrives", || async { it.service.with(came).then_some(()) });
        tokio::select! {
            answer = register("given-up") => panic!("{answer:?}"),
            () = arrived => {}
        }
        let look =
            |service: &mut Service, _| (service.agent("given-up").is_some(), service.faults.are_delivered());
        assert_eq!(it.service.with(look), (false, false), "it is held");
        it.service.with(|service, _| service.faults.release());
        until("it is done", || async { (it.service.with(look) == (true, true)).then_some(()) }).await;
        // It says nothing for a while, then the connection breaks.
        it.service.with(|service, now| {
            let end = Span::Until(now + Duration::from_millis(50));
            service.faults.add(Fault::new(&here, Harm::Hang, end));
        });
        register("silent").await.unwrap_err();
        assert_eq!(register("again").await.unwrap().0, 200);
    }
}
