//! Every recorded pod against real API servers, the oldest and the newest: admitted with and without Headstart, or
//! refused with the same words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use headstart_externals::names::{NAMESPACE_LABEL, VERSION_LABEL};
use headstart_tests::bed::{ControlPlane, Minor, TestNamespace};
use headstart_tests::process::{Process, shipped};
use headstart_tests::server::certificate;
use headstart_tests::wait::until;
use headstart_tests::{deploy, fixtures, tree};
use kube::Client;
use serde_json::Value;
use tempfile::TempDir;

/// What an API server said to a pod that was tried.
#[derive(Debug, PartialEq)]
enum Answer {
    /// Admitted; whether Headstart had changed it.
    Admitted { rewritten: bool },
    /// Refused, with its words.
    Refused(String),
}

/// Tries an object strictly: a field that the server does not know is an error.
async fn try_out(client: &Client, namespace: &str, object: &Value) -> Answer {
    let place = match object["kind"].as_str().unwrap() {
        "Job" => format!("/apis/batch/v1/namespaces/{namespace}/jobs"),
        _ => format!("/api/v1/namespaces/{namespace}/pods"),
    };
    let request = axum::http::Request::post(format!("{place}?dryRun=All&fieldValidation=Strict"))
        .header("content-type", "application/json")
        .body(object.to_string().into_bytes());
    match client.request::<Value>(request.unwrap()).await {
        Ok(admitted) => {
            Answer::Admitted { rewritten: admitted["metadata"]["labels"][VERSION_LABEL].is_string() }
        }
        Err(kube::Error::Api(status)) => Answer::Refused(status.message.clone()),
        Err(error) => panic!("{error}"),
    }
}

/// The recorded body, for another namespace.
fn body(fixture: &str, namespace: &str) -> Value {
    let mut object = fixtures::read(fixture);
    object["metadata"]["namespace"] = namespace.into();
    object
}

/// The webhook as it is shipped, for the images of the recorded pods.
async fn webhook(folder: &TempDir) -> (Process, String, String) {
    let tls = certificate(folder.path());
    let config = folder.path().join("config.yaml");
    let image = "preset: node16\n    images: ['ghcr.io/actions/actions-runner:latest']";
    let text = tree::node16_config("{directory: {path: /srv/externals}}").replace("preset: node16", image);
    std::fs::write(&config, text).unwrap();
    let mut command = shipped("headstart-webhook");
    command.args(["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--config"]).arg(&config);
    command.arg("--tls-cert").arg(&tls.tls_cert).arg("--tls-key").arg(&tls.tls_key);
    let webhook = Process::spawn(command);
    let url = format!("https://{}", webhook.says("serving").await["https"].as_str().unwrap());
    (webhook, url, std::fs::read_to_string(&tls.tls_cert).unwrap())
}

/// Accounts that recorded pods name; the API server wants them to exist.
fn create_accounts(control_plane: &ControlPlane, namespace: &str, all: &[String]) {
    let account =
        |file: &String| fixtures::read(file)["spec"]["serviceAccountName"].as_str().map(str::to_owned);
    for name in all.iter().filter_map(account).collect::<BTreeSet<_>>() {
        control_plane.kubectl(&["create", "serviceaccount", &name, "--namespace", namespace]).unwrap();
    }
}

/// Pods that name a volume which is not there: the API server refuses them with or without us.
const BROKEN: [&str; 2] =
    ["hooks/v0.8.0/prepare-template-volumes-sidecar.json", "hooks/v0.8.0/step-template.json"];

async fn every_fixture_is_answered_alike(minor: Minor) {
    let control_plane = ControlPlane::start(minor).await.unwrap();
    let client = control_plane.client().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (_webhook, url, authority) = webhook(&folder).await;
    control_plane.apply(&deploy::webhooks_at(&control_plane, &url, &authority).to_string()).unwrap();
    let label = format!("{NAMESPACE_LABEL}=hostpath");
    let with = TestNamespace::labelled(&control_plane, "with", &[&label]).unwrap();
    let without = TestNamespace::create(&control_plane, "without").unwrap();
    let files = [fixtures::list("hooks"), fixtures::list("arc")].concat();
    for namespace in [&with, &without] {
        create_accounts(&control_plane, namespace.name(), &files);
    }
    // API servers take over a new configuration a moment later.
    let first = body("arc/kubernetes.json", with.name());
    until("the webhook is called", || async {
        let answer = try_out(&client, with.name(), &first).await;
        (answer == Answer::Admitted { rewritten: true }).then_some(())
    })
    .await;

    let mut rewritten = 0;
    for file in &files {
        let stock = try_out(&client, without.name(), &body(file, without.name())).await;
        let ours = try_out(&client, with.name(), &body(file, with.name())).await;
        match (&stock, &ours) {
            (Answer::Refused(stock), Answer::Refused(ours)) => {
                assert!(BROKEN.contains(&file.as_str()), "{file}: {stock}");
                assert_eq!(stock, ours, "{file}");
            }
            (Answer::Admitted { rewritten: false }, Answer::Admitted { rewritten: changed }) => {
                assert!(!BROKEN.contains(&file.as_str()), "{file} should be refused");
                rewritten += usize::from(*changed);
            }
            _ => panic!("{file}: {stock:?} without Headstart, {ours:?} with it"),
        }
    }
    // Legacy workflow pods stay as they are without a version label; the rest of what can be helped was.
    assert!(rewritten > 20, "{rewritten} of {} were rewritten", files.len());
    println!("{minor:?}: {} recorded pods, {rewritten} rewritten", files.len());
}

#[tokio::test]
async fn the_oldest_api_server_takes_every_recorded_pod_as_it_would_without_us() {
    every_fixture_is_answered_alike(Minor::Oldest).await;
}

#[tokio::test]
async fn the_newest_api_server_takes_every_recorded_pod_as_it_would_without_us() {
    every_fixture_is_answered_alike(Minor::Newest).await;
}
