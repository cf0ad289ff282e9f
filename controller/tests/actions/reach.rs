//! How the service is reached: through proxies, with certificates of one's own, and not at all.

use std::time::{Duration, Instant};

use headstart_controller::actions::spec::{KeyReference, Proxy, ProxyServer};
use headstart_controller::actions::{InputError, Inputs, Login, Service, ServiceError, Services};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::fake::{DEADLINE, Fake, inputs, service};

/// A host that does not exist: only the proxy, which is the fake itself, answers for it.
const NOWHERE: &str = "http://ghes.invalid";

fn through(proxy: &str, login: bool, no_proxy: &[&str]) -> Inputs {
    let secret = login.then(|| "login".to_owned());
    let http = Some(ProxyServer { url: proxy.to_owned(), secret });
    let no_proxy = no_proxy.iter().map(|host| (*host).to_owned()).collect();
    let mut inputs = inputs(NOWHERE);
    inputs.spec.proxy = Some(Proxy { http, https: None, no_proxy });
    inputs.http_login =
        login.then(|| Login { username: "me".to_owned(), password: "s3cret-password".into() });
    inputs
}

/// A fake that is asked as a proxy.
async fn proxy() -> (Fake, String) {
    let fake = Fake::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    fake.claims_to_be_at("http://service.invalid/");
    tokio::spawn(axum::serve(listener, fake.router()).into_future());
    (fake, address)
}

#[tokio::test]
async fn a_proxy_is_used_with_its_login() {
    let (fake, address) = proxy().await;
    service(&through(&address, true, &["other.invalid"])).find("a").await.unwrap();
    let calls = fake.calls();
    let expected = format!("POST {NOWHERE}/api/v3/repos/o/r/actions/runners/registration-token");
    assert_eq!(calls[0].line, expected);
    assert!(calls[2].line.starts_with("GET http://service.invalid/_apis/"), "{}", calls[2].line);
    for call in &calls {
        assert_eq!(call.header("proxy-authorization"), "Basic bWU6czNjcmV0LXBhc3N3b3Jk");
    }
    service(&through(&address, false, &[])).find("a").await.unwrap();
    assert!(fake.calls().iter().all(|call| call.header("proxy-authorization").is_empty()));
}

#[tokio::test]
async fn hosts_that_need_no_proxy_are_asked_themselves() {
    let (fake, address) = proxy().await;
    let error = service(&through(&address, false, &["ghes.invalid"])).find("a").await.unwrap_err();
    assert!(matches!(error, ServiceError::Unreachable { .. }), "{error}");
    assert!(fake.calls().is_empty());
}

#[tokio::test]
async fn loopback_is_never_asked_through_a_proxy() {
    let (fake, address) = Fake::start().await;
    let mut inputs = through("http://127.0.0.1:1", false, &[]);
    inputs.spec.url = format!("{address}/o");
    service(&inputs).find("a").await.unwrap();
    assert_eq!(fake.calls().len(), 3);
}

#[tokio::test]
async fn an_authority_of_the_set_is_trusted_besides_those_of_the_system() {
    let (fake, url, authority) = Fake::start_with_tls().await;
    let mut inputs = inputs(&url);
    let error = service(&inputs).find("a").await.unwrap_err();
    assert!(matches!(error, ServiceError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("githubServerTLS"), "{error}");
    inputs.spec.authority = Some(KeyReference { name: "ca".to_owned(), key: "ca.crt".to_owned() });
    inputs.authority = Some(authority);
    service(&inputs).register(3, "a", "").await.unwrap();
    assert_eq!(fake.calls().len(), 3);
    for nonsense in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        inputs.authority = Some(nonsense.to_owned());
        let error = Service::new(&inputs, DEADLINE, false).unwrap_err();
        let expected = InputError::Authority("ns/ca".to_owned(), "ca.crt".to_owned());
        assert!(error == expected || matches!(error, InputError::Client(_)), "{nonsense:?}: {error}");
    }
}

#[tokio::test]
async fn inputs_that_cannot_be_used_are_named() {
    headstart_runtime::program::install_crypto();
    let mut wrong = inputs("http://ghes.invalid/too/many");
    let error = Service::new(&wrong, DEADLINE, false).unwrap_err().to_string();
    assert!(error.contains("githubConfigUrl"), "{error}");
    wrong = through("http://", false, &[]);
    let error = Service::new(&wrong, DEADLINE, false).unwrap_err().to_string();
    assert!(error.contains("proxy.http.url"), "{error}");
}

#[tokio::test]
async fn a_server_can_be_forced() {
    let (fake, address) = proxy().await;
    let mut inputs = through(&address, false, &[]);
    inputs.spec.url = "http://github.com/o".to_owned();
    service(&inputs).prepare().await.unwrap();
    Service::new(&inputs, DEADLINE, true).unwrap().prepare().await.unwrap();
    let lines: Vec<String> = fake.calls().into_iter().map(|call| call.line).collect();
    assert_eq!(lines[0], "POST http://api.github.com/orgs/o/actions/runners/registration-token");
    assert_eq!(lines[2], "POST http://github.com/api/v3/orgs/o/actions/runners/registration-token");
}

#[tokio::test]
async fn a_call_that_is_not_answered_ends_in_time() {
    let (fake, url) = Fake::start().await;
    let deadline = Duration::from_millis(50);
    headstart_runtime::program::install_crypto();
    let service = Service::new(&inputs(&url), deadline, false).unwrap();
    fake.answers_together("", 2);
    let error = service.register(3, "a", "").await.unwrap_err();
    assert_eq!(error, ServiceError::TimedOut(deadline));
}

#[tokio::test]
async fn a_connection_that_breaks_and_one_that_is_refused_are_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = service(&inputs(&url));
    let cut = async {
        let (mut connection, _) = listener.accept().await.unwrap();
        let read = connection.read(&mut [0; 1024]).await.unwrap();
        assert!(read > 0);
    };
    let (outcome, ()) = tokio::join!(service.prepare(), cut);
    let error = outcome.unwrap_err();
    assert!(matches!(error, ServiceError::Unreachable { .. }), "{error}");
    drop(listener);
    let error = service.prepare().await.unwrap_err();
    assert!(matches!(error, ServiceError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn sets_with_the_same_configuration_share_a_service() {
    headstart_runtime::program::install_crypto();
    let (fake, url) = Fake::start().await;
    let services = Services::new(DEADLINE, false);
    let begin = Instant::now();
    let one = inputs(&url);
    let mut other = inputs(&url);
    other.namespace = "elsewhere".to_owned();
    for (inputs, fetches) in [(&one, 1), (&one, 1), (&other, 2), (&one, 2)] {
        services.service(inputs, begin).unwrap().prepare().await.unwrap();
        assert_eq!(fake.count("/runner-registration"), fetches);
    }
    let hour = Duration::from_secs(60 * 60);
    services.service(&one, begin + hour / 2).unwrap();
    assert_eq!(services.count(), 2);
    services.service(&one, begin + hour).unwrap();
    assert_eq!(services.count(), 1, "the other one was not used for an hour");
    services.service(&one, begin + hour).unwrap().prepare().await.unwrap();
    assert_eq!(fake.count("/runner-registration"), 2, "this one was");
}

#[tokio::test]
async fn a_wrong_set_leaves_nothing_behind() {
    let services = Services::new(DEADLINE, false);
    assert!(services.service(&inputs("ftp://x"), Instant::now()).is_err());
    assert_eq!(services.count(), 0);
}

#[tokio::test]
async fn nothing_secret_is_shown() {
    let (_fake, url) = Fake::start().await;
    let mut inputs = through(&url, true, &[]);
    inputs.spec.url = format!("{url}/o/r");
    let service = service(&inputs);
    let registration = service.register(3, "a", "").await.unwrap();
    let services = Services::new(DEADLINE, false);
    services.service(&inputs, Instant::now()).unwrap();
    for shown in
        [format!("{inputs:?}"), format!("{service:?}"), format!("{services:?}"), format!("{registration:?}")]
    {
        assert!(!shown.contains("s3cret"), "{shown}");
    }
    assert!(format!("{service:?}").contains("ns/github"));
}
