//! The webhook as it is shipped, over real TLS: recorded reviews, bad input, slow and greedy clients.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use headstart_tests::process::{Process, shipped};
use headstart_tests::programs::program;
use headstart_tests::server::certificate;
use headstart_tests::wait::until;
use headstart_tests::{fixtures, tree};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A running webhook.
struct Webhook {
    process: Process,
    dir: TempDir,
    client: reqwest::Client,
    https: String,
    admin: String,
}

impl Webhook {
    async fn start(flags: &[&str]) -> Self {
        headstart_runtime::program::install_crypto();
        let dir = tempfile::tempdir().unwrap();
        let tls = certificate(dir.path());
        let config = dir.path().join("config.yaml");
        std::fs::write(&config, configuration()).unwrap();
        let mut command = shipped("headstart-webhook");
        command.args(["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--config"]).arg(&config);
        command.arg("--tls-cert").arg(&tls.tls_cert).arg("--tls-key").arg(&tls.tls_key).args(flags);
        let process = Process::spawn(command);
        let serving = process.says("serving").await;
        let client = client(&std::fs::read(&tls.tls_cert).unwrap());
        let text = |key: &str| serving[key].as_str().unwrap().to_owned();
        Self { process, dir, client, https: text("https"), admin: text("admin") }
    }

    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, String) {
        let url = format!("https://{}{path}", self.https);
        let response =
            self.client.post(url).header("content-type", "application/json").body(body).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// The answer to a review that must be allowed, and the pod that it leads to.
    async fn review(&self, path: &str, review: &Value) -> (Value, Value) {
        let (code, text) = self.post(path, review.to_string()).await;
        assert_eq!(code, 200, "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(answer["kind"], "AdmissionReview");
        let response = answer["response"].clone();
        assert_eq!((&response["uid"], &response["allowed"]), (&review["request"]["uid"], &json!(true)));
        assert_eq!(response["patch"].is_string(), response["patchType"] == "JSONPatch", "both or neither");
        let mut pod = review["request"]["object"].clone();
        if let Some(patch) = response["patch"].as_str() {
            let patch: json_patch::Patch =
                serde_json::from_slice(&BASE64_STANDARD.decode(patch).unwrap()).unwrap();
            json_patch::patch(&mut pod, &patch).unwrap();
        }
        (response, pod)
    }

    async fn metrics(&self) -> String {
        reqwest::get(format!("http://{}/metrics", self.admin)).await.unwrap().text().await.unwrap()
    }

    /// The value of one series.
    async fn metric(&self, series: &str) -> f64 {
        let text = self.metrics().await;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
    }

    /// A TLS connection on which nothing was said yet.
    async fn connect(&self) -> TlsStream<TcpStream> {
        let certificate = std::fs::read(self.dir.path().join("tls.crt")).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(rustls::pki_types::CertificateDer::from_pem_slice(&certificate).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(&self.https).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
    }
}

fn client(certificate: &[u8]) -> reqwest::Client {
    let certificate = reqwest::Certificate::from_pem(certificate).unwrap();
    reqwest::Client::builder().tls_certs_only([certificate]).no_proxy().build().unwrap()
}

/// The built-in profile, for the image of the recorded pods.
fn configuration() -> String {
    let config = tree::node16_config("{directory: {path: /srv/externals}}");
    let image = "images: ['ghcr.io/actions/actions-runner:latest']";
    config.replace("preset: node16", &format!("preset: node16\n    {image}"))
}

#[tokio::test]
async fn recorded_reviews_are_answered_over_tls() {
    let webhook = Webhook::start(&[]).await;
    for (file, decision) in [
        ("runner-kubernetes", "runner-legacy/lean"),
        ("workflow-current-v0.8.1", "workflow-current/mounted"),
        ("workflow-legacy-v0.7.0", "workflow-legacy/version-unknown"),
        ("runner-dind", "runner-dind/mounted"),
        ("runner-novolume", "runner/hooks-current"),
        ("step-current-HEAD", "container-step/step-plain"),
        ("step-legacy-v0.7.0", "container-step/step-legacy"),
        ("bystander", "not-arc"),
    ] {
        let review = fixtures::read(&format!("admission/{file}.json"));
        let (response, pod) = webhook.review("/mutate/pods/hostpath", &review).await;
        assert_eq!(response["auditAnnotations"]["decision"], decision, "{file}");
        let rewritten = decision.ends_with("/lean") || decision.ends_with("/mounted");
        assert_eq!(pod != review["request"]["object"], rewritten, "{file}");
        let label = &pod["metadata"]["labels"]["headstart.dev/version"];
        assert_eq!(label.is_string(), rewritten, "{file}");
    }
    let metrics = webhook.metrics().await;
    let counter =
        "headstart_webhook_decisions_total{decision=\"rewritten\",reason=\"lean\",rule=\"runner-legacy\"} 1";
    assert!(metrics.contains(counter), "{metrics}");
    assert!(metrics.contains("headstart_webhook_decision_duration_seconds_count 8"), "{metrics}");
    let decided = |line: &Value| line["message"] == "decided" && line["decision"] == "runner-legacy/lean";
    assert!(webhook.process.log().iter().any(decided), "one structured line per decision");
}

#[tokio::test]
async fn a_version_label_is_obeyed_if_it_is_offered_and_only_then() {
    let webhook = Webhook::start(&[]).await;
    let (_, runner) =
        webhook.review("/mutate/pods/hostpath", &fixtures::read("admission/runner-kubernetes.json")).await;
    let version = runner["metadata"]["labels"]["headstart.dev/version"].clone();
    let mut review = fixtures::read("admission/workflow-legacy-v0.7.0.json");
    review["request"]["object"]["metadata"]["labels"]["headstart.dev/version"] = version.clone();
    let (response, pod) = webhook.review("/mutate/pods/hostpath", &review).await;
    assert_eq!(response["auditAnnotations"]["decision"], "workflow-legacy/mounted");
    let tree = format!("/var/lib/headstart/versions/{}/tree", version.as_str().unwrap());
    assert!(
        pod["spec"]["volumes"]
            .as_array()
            .unwrap()
            .iter()
            .any(|volume| volume["hostPath"]["path"] == json!(tree))
    );
    for label in ["node16-000000000000", "../../etc", ""] {
        review["request"]["object"]["metadata"]["labels"]["headstart.dev/version"] = json!(label);
        let (response, _) = webhook.review("/mutate/pods/hostpath", &review).await;
        assert_eq!(
            response["auditAnnotations"]["decision"], "workflow-legacy/version-not-offered",
            "{label}"
        );
    }
}

#[tokio::test]
async fn a_kind_that_is_not_there_changes_nothing() {
    let webhook = Webhook::start(&[]).await;
    let review = fixtures::read("admission/runner-kubernetes.json");
    let (response, _) = webhook.review("/mutate/pods/image", &review).await;
    assert_eq!(response["auditAnnotations"]["decision"], "runner-legacy/no-volume-image");
    let (response, _) = webhook.review("/mutate/pods/auto", &review).await;
    assert_eq!(response["auditAnnotations"]["decision"], "runner-legacy/lean");
    assert_eq!(webhook.post("/mutate/pods/other", review.to_string()).await.0, 404);
}

#[tokio::test]
async fn bodies_that_are_no_review_get_an_http_error() {
    let webhook = Webhook::start(&[]).await;
    let mut no_uid = fixtures::read("admission/runner-kubernetes.json");
    no_uid["request"].as_object_mut().unwrap().remove("uid");
    for (body, words) in [
        ("<html>".to_owned(), "not an AdmissionReview"),
        (String::new(), "not an AdmissionReview"),
        (r#"{"kind":"Pod","apiVersion":"v1"}"#.to_owned(), "expected kind AdmissionReview"),
        (
            r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1","request":{}}"#.to_owned(),
            "v1beta1",
        ),
        (no_uid.to_string(), "no request with a uid"),
        ("[".repeat(100_000), "not an AdmissionReview"),
    ] {
        let (code, text) = webhook.post("/mutate/pods/hostpath", body).await;
        assert_eq!(code, 400, "{text}");
        assert!(text.contains(words), "{text:?} does not say {words:?}");
    }
    assert!(webhook.metrics().await.contains("headstart_webhook_unreadable_requests_total 6"));
}

#[tokio::test]
async fn pods_that_make_no_sense_are_allowed_as_they_are() {
    let webhook = Webhook::start(&[]).await;
    for (pointer, value, reason) in [
        ("/request/object", json!(null), "not-a-pod"),
        ("/request/object", json!("text"), "not-arc"),
        ("/request/object", json!({}), "not-arc"),
        ("/request/object/spec", json!(7), "unreadable"),
        ("/request/object/spec/volumes", json!({"a": 1}), "unreadable"),
        ("/request/object/spec/containers", json!([1, 2]), "unreadable"),
        ("/request/object/metadata/labels", json!(["actions-ephemeral-runner"]), "unreadable"),
        ("/request/object/metadata/labels", json!([]), "not-arc"),
        ("/request/operation", json!("UPDATE"), "not-a-pod"),
        ("/request/kind/kind", json!("ConfigMap"), "not-a-pod"),
    ] {
        let mut review = fixtures::read("admission/runner-kubernetes.json");
        *review.pointer_mut(pointer).unwrap() = value;
        let (response, _) = webhook.review("/mutate/pods/hostpath", &review).await;
        assert_eq!(response["auditAnnotations"]["decision"], reason, "{pointer}");
        assert!(response["patch"].is_null(), "{pointer}");
    }
}

#[tokio::test]
async fn a_huge_body_is_refused_and_the_next_request_served() {
    let webhook = Webhook::start(&[]).await;
    let huge = "x".repeat(20 << 20);
    let url = format!("https://{}/mutate/pods/hostpath", webhook.https);
    // The server may answer before it has read everything, and close; both are an error to the API server.
    if let Ok(response) = webhook.client.post(url).body(huge).send().await {
        assert_eq!(response.status().as_u16(), 413);
    }
    webhook.review("/mutate/pods/hostpath", &fixtures::read("admission/bystander.json")).await;
}

#[tokio::test]
async fn a_slow_client_gets_an_error_and_holds_up_nobody() {
    let webhook = Webhook::start(&["--deadline-ms", "300"]).await;
    let mut slow = webhook.connect().await;
    let head = "POST /mutate/pods/hostpath HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.unwrap();
    let silent = TcpStream::connect(&webhook.https).await.unwrap();
    let begun = Instant::now();
    webhook.review("/mutate/pods/hostpath", &fixtures::read("admission/bystander.json")).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "others are served meanwhile");
    let mut answer = vec![0; 12];
    slow.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 408");
    drop(silent);
}

#[tokio::test]
async fn connections_are_bounded_and_a_further_one_is_closed_at_once() {
    let webhook = Webhook::start(&["--max-connections", "2"]).await;
    let held = [
        TcpStream::connect(&webhook.https).await.unwrap(),
        TcpStream::connect(&webhook.https).await.unwrap(),
    ];
    let mut third = TcpStream::connect(&webhook.https).await.unwrap();
    let closed =
        tokio::time::timeout(Duration::from_secs(5), third.read(&mut [0; 1])).await.expect("not held");
    assert!(matches!(closed, Ok(0) | Err(_)));
    drop(held);
    let review = fixtures::read("admission/bystander.json").to_string();
    until("the webhook serves again", || async {
        let url = format!("https://{}/mutate/pods/hostpath", webhook.https);
        webhook.client.post(url).body(review.clone()).send().await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_renewed_certificate_is_served_without_a_restart() {
    let webhook = Webhook::start(&[]).await;
    certificate(webhook.dir.path());
    let renewed = client(&std::fs::read(webhook.dir.path().join("tls.crt")).unwrap());
    let review = fixtures::read("admission/bystander.json").to_string();
    until("the new certificate is served", || async {
        let url = format!("https://{}/mutate/pods/hostpath", webhook.https);
        renewed.post(url).body(review.clone()).send().await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_changed_configuration_is_taken_over_and_a_bad_one_is_not() {
    let webhook = Webhook::start(&[]).await;
    let config = webhook.dir.path().join("config.yaml");
    let review = fixtures::read("admission/runner-kubernetes.json");
    std::fs::write(&config, "apiVersion: nonsense\n").unwrap();
    webhook.process.says("keeping the last good configuration").await;
    let (response, _) = webhook.review("/mutate/pods/hostpath", &review).await;
    assert_eq!(response["auditAnnotations"]["decision"], "runner-legacy/lean");
    std::fs::write(&config, configuration().replace("actions-runner:latest", "other:1")).unwrap();
    until("the changed configuration is in force", || async {
        let (response, _) = webhook.review("/mutate/pods/hostpath", &review).await;
        (response["auditAnnotations"]["decision"] == "runner-legacy/image-unknown").then_some(())
    })
    .await;
}

/// What was decided about the answer's pod.
fn decision(response: &Value) -> &str {
    response["auditAnnotations"]["decision"].as_str().unwrap()
}

#[tokio::test]
async fn people_are_told_exactly_where_they_did_not_get_what_they_asked_for() {
    let webhook = Webhook::start(&[]).await;
    let mut other_image = fixtures::read("admission/runner-kubernetes.json");
    let pod = &mut other_image["request"]["object"];
    pod["spec"]["containers"][0]["image"] = json!("example.com/runner:1");
    pod["metadata"].as_object_mut().unwrap().remove("name");
    pod["metadata"]["generateName"] = json!("some-runner-");
    other_image["request"].as_object_mut().unwrap().remove("name");
    let (response, _) = webhook.review("/mutate/pods/hostpath", &other_image).await;
    assert_eq!(decision(&response), "runner-legacy/image-unknown");
    assert!(response["auditAnnotations"]["version"].is_null());
    let words =
        "headstart: pod left unchanged (image-unknown): no offered version stands for this image; add ";
    let warnings = response["warnings"].as_array().unwrap();
    assert!(warnings.len() == 1 && warnings[0].as_str().unwrap().starts_with(words), "{response}");
    let line = webhook.process.says("left unchanged").await;
    assert_eq!(
        json!([line["level"], line["pod"], line["rule"], line["reason"]]),
        json!(["INFO", "some-runner-", "runner-legacy", "image-unknown"])
    );
    for key in ["namespace", "uid", "meaning", "remedy"] {
        assert!(line[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {line}");
    }

    for file in ["bystander", "runner-novolume", "workflow-legacy-v0.7.0", "runner-kubernetes"] {
        let review = fixtures::read(&format!("admission/{file}.json"));
        let (response, pod) = webhook.review("/mutate/pods/hostpath", &review).await;
        assert!(response["warnings"].is_null(), "{file}: {response}");
        let version = &pod["metadata"]["labels"]["headstart.dev/version"];
        assert_eq!(&response["auditAnnotations"]["version"], version, "{file}");
    }
    let told = webhook.process.log().iter().filter(|line| line["message"] == "left unchanged").count();
    assert_eq!(told, 1, "nothing was withheld from the others");
    assert_eq!(webhook.metric("headstart_webhook_unpaired_total{reason=\"no-templates\"}").await, 1.0);
}

#[tokio::test]
async fn beyond_the_limit_pods_of_arc_are_left_unchanged_and_no_request_fails() {
    let webhook = Webhook::start(&["--max-in-flight", "1", "--deadline-ms", "60000"]).await;
    let runner = fixtures::read("admission/runner-kubernetes.json");
    let body = runner.to_string();
    let mut slow = webhook.connect().await;
    let length = body.len();
    let head = format!("POST /mutate/pods/hostpath HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    slow.write_all(head.as_bytes()).await.unwrap();
    until("the request is in progress", || async {
        (webhook.metric("headstart_webhook_requests_in_flight").await == 1.0).then_some(())
    })
    .await;
    let (response, pod) = webhook.review("/mutate/pods/hostpath", &runner).await;
    assert_eq!((decision(&response), &pod), ("overloaded", &runner["request"]["object"]));
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.contains("(overloaded)") && warning.contains("add replicas"), "{warning}");
    let (response, _) =
        webhook.review("/mutate/pods/hostpath", &fixtures::read("admission/bystander.json")).await;
    assert_eq!(
        (decision(&response), &response["warnings"]),
        ("not-arc", &json!(null)),
        "no work, no warning"
    );
    assert_eq!(webhook.metric("headstart_webhook_shed_total{cause=\"in-flight\"}").await, 1.0);

    slow.write_all(body.as_bytes()).await.unwrap();
    let answer = read_answer(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("runner-legacy/lean"), "{answer}");
    let (response, _) = webhook.review("/mutate/pods/hostpath", &runner).await;
    assert_eq!(decision(&response), "runner-legacy/lean", "there is room again");
}

/// Reads one answer to its end.
async fn read_answer(stream: &mut TlsStream<TcpStream>) -> String {
    let mut text = String::new();
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                return text;
            }
        }
        let mut part = vec![0; 1 << 16];
        let read = stream.read(&mut part).await.unwrap();
        assert!(read > 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&part[..read]).unwrap());
    }
}

#[tokio::test]
async fn one_connection_serves_many_requests_and_operators_see_it() {
    let webhook = Webhook::start(&[]).await;
    let mut kept = webhook.connect().await;
    let body = fixtures::read("admission/bystander.json").to_string();
    let length = body.len();
    for path in ["/mutate/pods/hostpath", "/mutate/pods/auto", "/mutate/pods/image"] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        kept.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        assert!(read_answer(&mut kept).await.contains("not-arc"));
    }
    kept.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert!(read_answer(&mut kept).await.ends_with("ok\n"));
    assert_eq!(webhook.metric("headstart_https_connections").await, 1.0);
    assert_eq!(webhook.metric("headstart_https_connections_accepted_total").await, 1.0);
    assert_eq!(webhook.metric("headstart_webhook_answers_total{status=\"200\"}").await, 4.0);
    let mut plain = TcpStream::connect(&webhook.https).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    until("the failed handshake is counted", || async {
        let failed = webhook.metric("headstart_tls_handshake_failures_total{cause=\"failed\"}").await;
        (failed == 1.0).then_some(())
    })
    .await;
    let expiry = webhook.metric("headstart_tls_certificate_expiry_timestamp_seconds").await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!(expiry > now, "{expiry}");
}

#[tokio::test]
async fn a_termination_drains() {
    let mut webhook = Webhook::start(&["--drain-delay-ms", "3000", "--deadline-ms", "60000"]).await;
    let review = fixtures::read("admission/bystander.json");
    webhook.review("/mutate/pods/hostpath", &review).await;
    let mut begun = webhook.connect().await;
    let body = review.to_string();
    let head =
        format!("POST /mutate/pods/hostpath HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    begun.write_all(head.as_bytes()).await.unwrap();
    webhook.process.terminate();
    until("readiness turns false", || async {
        let ready = reqwest::get(format!("http://{}/readyz", webhook.admin)).await.ok()?;
        (ready.status().as_u16() == 503).then_some(())
    })
    .await;
    webhook.review("/mutate/pods/hostpath", &review).await;
    begun.write_all(body.as_bytes()).await.unwrap();
    let answer = read_answer(&mut begun).await;
    assert!(answer.contains("not-arc") && answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(webhook.process.ended().await.code(), Some(0));
}

#[test]
fn bad_files_give_one_clear_message() {
    let dir = tempfile::tempdir().unwrap();
    let tls = certificate(dir.path());
    let config = dir.path().join("config.yaml");
    std::fs::write(&config, configuration()).unwrap();
    let run = |config: &std::path::Path, certificate: &std::path::Path| {
        let mut command = Command::new(program("headstart-webhook"));
        command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--config"]).arg(config);
        command.arg("--tls-cert").arg(certificate).arg("--tls-key").arg(&tls.tls_key);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let missing = dir.path().join("missing");
    assert!(run(&missing, &tls.tls_cert).contains("failed to read the configuration"));
    assert!(run(&config, &missing).contains("check the path and its permissions"));
    std::fs::write(&missing, "not PEM").unwrap();
    assert!(run(&config, &missing).contains("holds no PEM certificate"), "{}", run(&config, &missing));
    std::fs::write(&config, "apiVersion: headstart.dev/v1\n").unwrap();
    assert!(run(&config, &tls.tls_cert).contains("profiles: there is no profile"));
}

#[test]
fn bad_flags_give_one_clear_message() {
    let run = |flags: &[&str]| {
        let mut command = Command::new(program("headstart-webhook"));
        command.args(["--tls-cert", "/nowhere", "--tls-key", "/nowhere"]).args(flags);
        // No cluster, wherever the tests run.
        command.env("KUBECONFIG", "/nowhere").env_remove("KUBERNETES_SERVICE_HOST");
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (state, namespace) = (["--published-state", "s"], ["--namespace", "n"]);
    let cases: [(i32, Vec<&str>, &str); 4] = [
        (2, vec![], "<--config <FILE>|--published-state <NAME>>"),
        (2, [&state[..], &["--config", "f"]].concat(), "cannot be used with"),
        (2, state.to_vec(), "--namespace <NAME>"),
        (1, [state, namespace].concat(), "no cluster configuration found; run in a pod"),
    ];
    for (code, flags, message) in cases {
        let (found, text) = run(&flags);
        assert_eq!(found, code, "{flags:?}: {text}");
        assert!(text.contains(message), "{flags:?}: {text}");
    }
}
