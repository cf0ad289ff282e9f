//! Whom an agent trusts, what it tells to whom, and which way it goes.

use std::path::Path;

use headstart_runtime::tls::TlsArgs;
use headstart_tests::agent::{Agent, Node};
use headstart_tests::archive::{config, config_of, sha256};
use headstart_tests::origin::{Answer, Asked, Origin};
use headstart_tests::server::{certificate, certificate_for};
use headstart_tests::wait::until;
use tempfile::TempDir;

use super::{archive, message, mirrored, start};

const TOKEN: &str = "s3cret-token";

/// A server on loopback with a certificate that no system trusts.
struct Private {
    folder: TempDir,
    tls: TlsArgs,
}

impl Private {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tls = certificate(folder.path());
        Self { folder, tls }
    }

    async fn serve(&self, answers: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static) -> Origin {
        Origin::serve(Some(&self.tls), answers).await
    }

    /// An agent that trusts the server and has the Secrets.
    fn start(&self, node: &Node) -> Agent {
        let [authority, secrets] =
            [&self.tls.tls_cert, self.folder.path()].map(|path: &Path| path.to_str().unwrap());
        start(node, &["--ca-bundle", authority, "--credentials", secrets])
    }

    /// A file of the Secret `mirror`.
    fn secret(&self, name: &str, content: &str) {
        let folder = self.folder.path().join("mirror");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), content).unwrap();
    }
}

/// A node that wants the archive from `url` and says who it is, by `bearer` or `basic`.
fn node_with_auth(url: &str, kind: &str) -> Node {
    let digest = sha256(&archive());
    Node::new(&config_of(&format!(
        "{{url: '{url}', sha256: '{digest}', auth: {{{kind}: {{secret: mirror}}}}}}"
    )))
}

/// Gives the archive to those who say the right thing.
fn guarded(expected: &'static str) -> impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static {
    let content = archive();
    move |_, asked| match asked.header("authorization") {
        Some(said) if said == expected => Answer::part(&content, asked),
        Some(_) => Answer::status("403 Forbidden"),
        None => Answer::status("401 Unauthorized"),
    }
}

#[tokio::test]
async fn credentials_come_from_a_mounted_secret_and_are_never_shown() {
    for (kind, files, header) in [
        ("bearer", &[("token", "s3cret-token\n")][..], "Bearer s3cret-token"),
        ("basic", &[("username", "me"), ("password", "s3cret")], "Basic bWU6czNjcmV0"),
    ] {
        let private = Private::new();
        for (name, content) in files {
            private.secret(name, content);
        }
        let origin = private.serve(guarded(header)).await;
        let node = node_with_auth(&format!("{}/source.tar.gz", origin.url), kind);
        let mut command = node.command();
        command.env("HEADSTART_CA_BUNDLE", &private.tls.tls_cert).env("HEADSTART_LOG", "debug");
        command.env("HEADSTART_CREDENTIALS_DIR", private.folder.path());
        let agent = Agent::spawn(command);
        let status = agent.ready().await;
        let shown = format!("{status} {:?}", agent.log());
        assert!(!shown.contains("s3cret") && !shown.contains("czNjcmV0"), "{shown}");
    }
}

#[tokio::test]
async fn a_secret_that_is_replaced_is_used_at_once() {
    let private = Private::new();
    let origin = private.serve(guarded("Bearer s3cret-token")).await;
    let node = node_with_auth(&format!("{}/source.tar.gz", origin.url), "bearer");
    let agent = private.start(&node);
    assert_eq!(agent.failed().await, "CredentialsUnusable");
    let status = agent.status("failed", |status| status["versions"][0]["fault"].is_object()).await;
    assert!(message(&status).contains("mirror/token"), "{status}");
    assert_eq!(origin.lines(), [""; 0], "nothing is asked without them");
    private.secret("token", "an-old-one");
    let denied = |status: &serde_json::Value| status["versions"][0]["fault"]["reason"] == "SourceDenied";
    agent.status("denied", denied).await;
    private.secret("token", TOKEN);
    agent.ready().await;
}

#[tokio::test]
async fn without_the_flag_there_are_no_credentials() {
    let node = node_with_auth("https://127.0.0.1:9/source.tar.gz", "bearer");
    let agent = start(&node, &[]);
    assert_eq!(agent.failed().await, "CredentialsUnusable");
    let status = agent.status("failed", |status| status["versions"][0]["fault"].is_object()).await;
    assert!(message(&status).contains("--credentials"), "{status}");
}

#[tokio::test]
async fn credentials_reach_their_own_host_and_no_other() {
    let private = Private::new();
    private.secret("token", TOKEN);
    let content = archive();
    let other = private.serve(move |_, _| Answer::whole(&content)).await;
    let elsewhere = format!("{}/stored", other.url.replace("127.0.0.1", "localhost"));
    let origin = private.serve(move |_, asked| match asked.line.as_str() {
        "GET /source.tar.gz" => Answer::to("/moved"),
        _ => Answer::to(&elsewhere),
    });
    let origin = origin.await;
    let node = node_with_auth(&format!("{}/source.tar.gz", origin.url), "bearer");
    private.start(&node).ready().await;
    assert_eq!(origin.lines(), ["GET /source.tar.gz", "GET /moved"]);
    let bearer = format!("Bearer {TOKEN}");
    assert!(origin.asked().iter().all(|asked| asked.header("authorization") == Some(bearer.as_str())));
    assert_eq!(other.lines(), ["GET /stored"]);
    assert_eq!(other.asked()[0].header("authorization"), None, "another host");
}

#[tokio::test]
async fn a_mirror_gets_none_of_the_credentials_of_the_first_address() {
    let private = Private::new();
    private.secret("token", TOKEN);
    let content = archive();
    let mirror = private.serve(move |_, _| Answer::whole(&content)).await;
    let origin = private.serve(|_, _| Answer::status("503 Service Unavailable")).await;
    let digest = sha256(&archive());
    let node = Node::new(&config_of(&format!(
        "{{url: '{}/source.tar.gz', auth: {{bearer: {{secret: mirror}}}}, sha256: '{digest}', \
         mirrors: [{{url: '{}/mirrored'}}]}}",
        origin.url, mirror.url
    )));
    private.start(&node).ready().await;
    assert!(origin.asked()[0].header("authorization").is_some());
    assert_eq!(mirror.asked()[0].header("authorization"), None);
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_only_if_it_is_given() {
    let private = Private::new();
    let content = archive();
    let origin = private.serve(move |_, _| Answer::whole(&content)).await;
    let node = mirrored(&[format!("{}/source.tar.gz", origin.url)]);
    let agent = start(&node, &[]);
    assert_eq!(agent.failed().await, "SourceUnavailable");
    let status = agent.status("failed", |status| status["versions"][0]["fault"].is_object()).await;
    assert!(message(&status).contains("certificate"), "{status}");
    drop(agent);
    private.start(&node).ready().await;
}

#[tokio::test]
async fn a_bundle_that_cannot_be_used_is_an_error_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (name, content) in
        [("absent.crt", None), ("empty.crt", Some("no PEM at all")), ("bad.crt", Some(bad))]
    {
        let path = folder.path().join(name);
        content.map_or(Ok(()), |content| std::fs::write(&path, content)).unwrap();
        let node = Node::with_folder();
        let mut agent = start(&node, &["--ca-bundle", path.to_str().unwrap()]);
        assert_eq!(agent.ended().await.code(), Some(1), "{name}");
        let said = || async {
            let log = agent.log();
            log.iter().find_map(|line| Some(line.as_str()?.strip_prefix("error: ")?.to_owned()))
        };
        let error = until("the message", said).await;
        assert!(error.contains(name) && error.contains("--ca-bundle"), "{error}");
    }
}

/// An agent that goes by a proxy.
fn by_proxy(node: &Node, proxy: &Origin, authority: Option<&Path>) -> Agent {
    let mut command = node.command();
    for variable in ["NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy", "http_proxy", "https_proxy"] {
        command.env_remove(variable);
    }
    command.env("HTTP_PROXY", &proxy.url).env("HTTPS_PROXY", &proxy.url);
    if let Some(authority) = authority {
        command.env("HEADSTART_CA_BUNDLE", authority);
    }
    Agent::spawn(command)
}

#[tokio::test]
async fn the_way_may_lead_through_a_proxy() {
    // A name that only the proxy knows.
    let name = "archives.invalid";
    let folder = tempfile::tempdir().unwrap();
    let tls = certificate_for(folder.path(), &[name]);
    for (scheme, tls, line) in [
        ("http", None, "GET http://archives.invalid/source.tar.gz"),
        ("https", Some(&tls), "CONNECT archives.invalid:443"),
    ] {
        let content = archive();
        let origin = Origin::serve(tls, move |_, asked| Answer::part(&content, asked)).await;
        let proxy = Origin::proxy(Some(origin.address())).await;
        let node = Node::new(&config(&format!("{scheme}://{name}/source.tar.gz"), &sha256(&archive())));
        let agent = by_proxy(&node, &proxy, tls.map(|tls| tls.tls_cert.as_path()));
        agent.ready().await;
        assert_eq!(proxy.lines(), [line]);
        assert_eq!(origin.lines(), ["GET /source.tar.gz"]);
    }
}

#[tokio::test]
async fn a_proxy_that_lets_nobody_through_is_named() {
    let proxy = Origin::proxy(None).await;
    for scheme in ["http", "https"] {
        let node = mirrored(&[format!("{scheme}://archives.invalid/source.tar.gz")]);
        assert_eq!(by_proxy(&node, &proxy, None).failed().await, "SourceDenied", "{scheme}");
    }
}
