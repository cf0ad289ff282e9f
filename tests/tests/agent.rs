//! The agent as it is shipped: installs from every source, adopts, repairs, shares a root with nobody, says what it does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use axum::Router;
use axum::response::Redirect;
use axum::routing::get;
use headstart_tests::agent::{Agent, Node};
use headstart_tests::archive::{Tar, config, config_for_file, sha256};
use headstart_tests::programs::program;
use headstart_tests::server::{certificate, serve};
use headstart_tests::tree::{self, NODE16, directory_config};
use headstart_tests::wait::until;
use serde_json::{Value, json};

#[tokio::test]
async fn real_node_runs_from_the_minimal_tree() {
    let node = Node::new("");
    tree::write(&node.path("externals"), &NODE16);
    for entry in ["node16", "node16_alpine"] {
        let program = node.path("externals").join(entry).join("bin/node");
        fs::copy(tree::real_node(), program).unwrap();
    }
    node.configure(&directory_config(&node.path("externals")));
    let status = node.start().ready().await;
    let said = Command::new(tree::real_node()).arg("--version").output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert_eq!(status["versions"][0]["nodes"]["node16"], json!({"ran": said.trim()}));
    let program = node.installed().join("tree/node16/bin/node");
    let answer = Command::new(program).args(["-p", "6 * 7"]).output().unwrap();
    assert_eq!(String::from_utf8(answer.stdout).unwrap().trim(), "42");
}

#[tokio::test]
async fn only_what_is_kept_is_there_with_exact_modes() {
    let node = Node::with_folder();
    let mut command = Command::new("sh");
    let agent = node.command();
    // A hostile umask must not show in the tree.
    command.args(["-c", "umask 077; exec \"$0\" \"$@\""]).arg(agent.get_program()).args(agent.get_args());
    let agent = Agent::spawn(command);
    agent.ready().await;
    let version = node.installed();
    let mut found = Vec::new();
    for entry in walkdir::WalkDir::new(&version).sort_by_file_name() {
        let entry = entry.unwrap();
        let path = entry.path().strip_prefix(&version).unwrap().to_str().unwrap().to_owned();
        let mode = entry.path().symlink_metadata().unwrap().permissions().mode() & 0o7777;
        found.push((path, if entry.path_is_symlink() { 0 } else { mode }));
    }
    let expected = [
        ("", 0o755),
        ("farm", 0o755),
        ("farm/node16", 0),
        ("farm/node16_alpine", 0),
        ("manifest.json", 0o644),
        ("tree", 0o755),
        ("tree/node16", 0o755),
        ("tree/node16/LICENSE", 0o644),
        ("tree/node16/bin", 0o755),
        ("tree/node16/bin/node", 0o755),
        ("tree/node16_alpine", 0o755),
        ("tree/node16_alpine/LICENSE", 0o644),
        ("tree/node16_alpine/bin", 0o755),
        ("tree/node16_alpine/bin/node", 0o755),
    ];
    assert_eq!(found, expected.map(|(path, mode)| (path.to_owned(), mode)));
    let link = fs::read_link(version.join("farm/node16")).unwrap();
    assert_eq!(link.to_str(), Some("/opt/headstart/externals/node16"));
}

#[tokio::test]
async fn every_archive_format_gives_the_same_tree() {
    let mut digests = Vec::new();
    for name in ["source.tar.gz", "source.tar.xz", "source.tar.zst"] {
        let node = Node::new("");
        node.configure(&config_for_file(&node.path(name), &Tar::sound().packed(name)));
        let status = node.start().ready().await;
        digests.push(status["versions"][0]["treeSha256"].clone());
    }
    assert!(digests[0].is_string());
    assert!(digests.iter().all(|digest| *digest == digests[0]));
}

#[tokio::test]
async fn archives_come_over_http_and_https_through_redirects() {
    let content = Tar::sound().packed("gz");
    let body = content.clone();
    let routes = || {
        let body = body.clone();
        Router::new()
            .route("/source.tar.gz", get(|| async move { body }))
            .route("/moved.tar.gz", get(|| async { Redirect::temporary("/source.tar.gz") }))
    };
    let folder = tempfile::tempdir().unwrap();
    let tls = certificate(folder.path());
    for tls in [None, Some(&tls)] {
        let server = serve(routes(), tls).await;
        let node = Node::new(&config(&format!("{}/moved.tar.gz", server.url), &sha256(&content)));
        let mut command = node.command();
        if let Some(tls) = tls {
            command.env("SSL_CERT_FILE", &tls.tls_cert);
        }
        Agent::spawn(command).ready().await;
    }
}

#[tokio::test]
async fn a_failing_server_is_tried_again_until_it_recovers() {
    let content = Tar::sound().packed("gz");
    let attempts = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (body, count) = (content.clone(), attempts.clone());
    let answer = move || async move {
        match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Err(axum::http::StatusCode::SERVICE_UNAVAILABLE),
            _ => Ok(body),
        }
    };
    let server = serve(Router::new().route("/source.tar.gz", get(answer)), None).await;
    let node = Node::new(&config(&format!("{}/source.tar.gz", server.url), &sha256(&content)));
    let agent = node.start();
    assert_eq!(agent.failed().await, "SourceUnavailable");
    let status = agent.ready().await;
    assert_eq!(status["versions"][0]["failures"], 0);
    assert_eq!(attempts.load(std::sync::atomic::Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_archive_that_had_too_little_room_is_not_fetched_again_before_there_is_more() {
    let content = Tar::sound().packed("gz");
    let fetched = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (body, count) = (content.clone(), fetched.clone());
    let answer = move || async move {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        body
    };
    let server = serve(Router::new().route("/source.tar.gz", get(answer)), None).await;
    let config = config(&format!("{}/source.tar.gz", server.url), &sha256(&content));
    let node = Node::new(&config.replace("limits: {", "limits: {cacheBytes: 5, "));
    let agent = node.start();
    let refused = |status: &Value| status["versions"][0]["failures"].as_u64() >= Some(3);
    let status = agent.status("refused", refused).await;
    assert_eq!(status["versions"][0]["fault"]["reason"], "OverBudget");
    assert_eq!(fetched.load(std::sync::atomic::Ordering::SeqCst), 1);
    node.configure(&config);
    agent.ready().await;
}

/// A server that sends `part` of an answer of `length` bytes and then falls silent.
async fn stalling_server(part: Vec<u8>, length: usize) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/source.tar.gz", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await.unwrap();
        stream
            .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        stream.write_all(&part).await.unwrap();
        std::future::pending::<()>().await;
    });
    url
}

#[tokio::test]
async fn progress_is_in_the_status_while_it_installs() {
    let content = Tar::sound().packed("gz");
    let half = content[..content.len() / 2].to_vec();
    let sent = half.len();
    let url = stalling_server(half, content.len()).await;
    let node = Node::new(&config(&url, &sha256(&content)));
    let agent = node.start();
    let half_done = |status: &Value| status["versions"][0]["progress"]["bytesDone"] == json!(sent);
    let status = agent.status("half of the archive is there", half_done).await;
    assert_eq!(status["versions"][0]["state"], "installing");
    assert_eq!(status["versions"][0]["progress"]["step"], "stagingCreated");
    let (code, text) = agent.get("/readyz").await.unwrap();
    assert_eq!((code, text.contains("is being installed")), (503, true), "{text}");
    assert_eq!(agent.get("/livez").await.unwrap().0, 200);
    until("a line of progress in the log", || async {
        agent.log().iter().any(|line| line["message"] == "installing").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_changed_configuration_ends_an_install_that_hangs() {
    let content = Tar::sound().packed("gz");
    let url = stalling_server(content[..content.len() / 2].to_vec(), content.len()).await;
    let node = Node::new(&config(&url, &sha256(&content)));
    let agent = node.start();
    agent.status("installing", |status| status["versions"][0]["state"] == "installing").await;
    tree::write(&node.path("externals"), &NODE16);
    node.configure(&directory_config(&node.path("externals")));
    agent.ready().await;
    assert_eq!(node.list("staging"), [""; 0]);
}

#[tokio::test]
async fn a_broken_configuration_ends_no_install() {
    let content = Tar::sound().packed("gz");
    let url = stalling_server(content[..content.len() / 2].to_vec(), content.len()).await;
    let node = Node::new(&config(&url, &sha256(&content)));
    let agent = node.start();
    agent.status("installing", |status| status["versions"][0]["state"] == "installing").await;
    node.configure("apiVersion: nonsense\n");
    // Two lines of progress: the configuration was looked at in between, and the install goes on.
    until("the install goes on", || async {
        let lines = agent.log().iter().filter(|line| line["message"] == "installing").count();
        (lines >= 2).then_some(())
    })
    .await;
    let status = agent.status("installing", |_| true).await;
    assert_eq!(
        (&status["versions"][0]["state"], &status["versions"][0]["failures"]),
        (&json!("installing"), &json!(0))
    );
}

#[tokio::test]
async fn a_mended_configuration_is_tried_at_once() {
    let content = Tar::sound().packed("gz");
    let node = Node::new(&config("file:///nowhere.tar.gz", &sha256(&content)));
    let agent = node.start();
    let often = |status: &Value| status["versions"][0]["failures"].as_u64() >= Some(3);
    agent.status("failed several times", often).await;
    node.configure(&config_for_file(&node.path("source.tar.gz"), &content));
    assert_eq!(agent.ready().await["versions"][0]["failures"], 0);
}

#[tokio::test]
async fn secrets_in_addresses_are_not_shown() {
    let node = Node::new(&config("http://127.0.0.1:9/source.tar.gz?signature=SECRET", &sha256(b"")));
    let agent = node.start();
    agent.failed().await;
    for path in ["/v1/status", "/readyz"] {
        assert!(!agent.get(path).await.unwrap().1.contains("SECRET"));
    }
    assert!(!format!("{:?}", agent.log()).contains("SECRET"));
}

#[tokio::test]
async fn a_new_revision_is_installed_beside_the_old_one() {
    let node = Node::with_folder();
    let agent = node.start();
    agent.ready().await;
    let config = directory_config(&node.path("externals"));
    node.configure(&config.replace("revision: test", "revision: other"));
    let both = |status: &Value| status["ready"] == true && status["versions"].as_array().unwrap().len() == 2;
    let status = agent.status("the other revision is ready", both).await;
    assert_eq!(status["versions"][0]["wanted"], true);
    assert_eq!(
        status["versions"][1]["wanted"], false,
        "nothing is ever deleted without the controller's word"
    );
    assert_eq!(node.list("versions").len(), 2);
}

#[tokio::test]
async fn a_configuration_that_turns_bad_is_reported_and_the_last_good_one_kept() {
    let node = Node::with_folder();
    let agent = node.start();
    agent.ready().await;
    node.configure("apiVersion: headstart.dev/v1\nprofles: []\n");
    let reported = |status: &Value| status["configProblem"].is_string();
    let status = agent.status("the problem is reported", reported).await;
    assert!(status["configProblem"].as_str().unwrap().contains("profles: unknown field"), "{status}");
    assert_eq!(status["ready"], true);
    node.configure(&directory_config(&node.path("externals")));
    agent.status("the problem is gone", |status| status["configProblem"].is_null()).await;
}

#[tokio::test]
async fn the_status_endpoint_shows_manifests_and_metrics() {
    let node = Node::with_folder();
    let agent = node.start();
    let status = agent.ready().await;
    assert_eq!((&status["apiVersion"], &status["kind"]), (&json!("headstart.dev/v1"), &json!("NodeStatus")));
    assert_eq!(status["node"], "test-node");
    let name = status["versions"][0]["name"].as_str().unwrap();
    let (code, manifest) = agent.get(&format!("/v1/versions/{name}")).await.unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!((code, &manifest["treeSha256"]), (200, &status["versions"][0]["treeSha256"]));
    assert_eq!(agent.get("/v1/versions/node16-000000000000").await.unwrap().0, 404);
    assert_eq!(agent.get("/readyz").await.unwrap(), (200, "ok\n".to_owned()));
    let (_, metrics) = agent.get("/metrics").await.unwrap();
    for metric in
        ["headstart_cachesync_versions{state=\"ready\",wanted=\"true\"} 1", "process_resident_memory_bytes"]
    {
        assert!(metrics.contains(metric), "{metrics}");
    }
}

#[tokio::test]
async fn sigterm_ends_it_cleanly_and_deletes_nothing() {
    let node = Node::with_folder();
    let mut agent = node.start();
    agent.ready().await;
    agent.terminate();
    assert_eq!(agent.ended().await.code(), Some(0), "{:#?}", agent.log());
    node.installed();
}

#[test]
fn bad_flags_and_files_give_one_clear_message() {
    let run = |arguments: &[&str]| {
        let output = Command::new(program("headstart-cachesync")).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let node = Node::new("apiVersion: headstart.dev/v1\nprofiles: []\nextra: 1\n");
    let (root, config) = (node.root(), node.path("config.yaml"));
    let (root, config) = (root.to_str().unwrap(), config.to_str().unwrap());
    let (code, text) = run(&["run", "--root", root, "--config", "/nowhere.yaml", "--standalone"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("/nowhere.yaml") && text.contains("--config"), "{text}");
    let (code, text) = run(&["run", "--root", root, "--config", config, "--standalone"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("extra: unknown field") && text.contains("profiles: there is no profile"),
        "{text}"
    );
    let (code, text) = run(&["run", "--root", root, "--config", config]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("--standalone|--namespace <NAME>"), "{text}");
    let (code, text) =
        run(&["run", "--config", config, "--standalone", "--namespace", "n", "--node-name", "a"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("'--standalone' cannot be used with '--namespace <NAME>'"), "{text}");
    let (code, text) = run(&["run", "--config", config, "--namespace", "n"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("--node-name <NAME>"), "{text}");
    let (code, text) =
        run(&["--log", "nonsense=[", "run", "--root", root, "--config", config, "--standalone"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(!std::path::Path::new(root).exists(), "nothing was written");
}
