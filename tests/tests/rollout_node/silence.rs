//! A webhook that hears nothing of the API server any more, and does not notice: within a minute it leaves pods as they
//! are, and says why; when the way is back, pods get the cache again. In a control plane of its own, beside the others.

use std::process::Command;
use std::time::{Duration, Instant};

use headstart_externals::names::NAMESPACE_LABEL;
use headstart_tests::bed::command::say;
use headstart_tests::deploy;
use headstart_tests::fixtures;
use headstart_tests::gate::Gate;
use headstart_tests::identity::kubeconfig;
use headstart_tests::pods::version_of;
use headstart_tests::process::{Process, shipped};
use headstart_tests::published::Publisher;
use headstart_tests::server::certificate;
use headstart_tests::tree::node16_config;
use headstart_tests::wait::until;
use serde_json::Value;
use tempfile::TempDir;

/// What is promised, from the last read on.
const FRESH: Duration = Duration::from_secs(60);

/// It reads again at least this often, so that it need not fall silent sooner than this before the promise ends.
const READS: Duration = Duration::from_secs(16);

/// What one look takes on a busy machine.
const MARGIN: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_hears_nothing_leaves_pods_alone_after_a_minute_until_it_hears_again() {
    let cluster = Cluster::start().await;
    until("pods are given a version", || async { cluster.tries().0.is_string().then_some(()) }).await;
    cluster.gate.shut();
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    let warnings = loop {
        ticks.tick().await;
        let (version, warnings) = cluster.tries();
        if version.is_null() {
            break warnings;
        }
        assert!(begun.elapsed() <= FRESH + MARGIN, "it still rewrites pods");
    };
    let silent = begun.elapsed();
    say(&format!("{silent:.1?} after the way was cut: {}", warnings.trim()));
    assert!(warnings.contains("pod left unchanged (state-stale)"), "{warnings}");
    assert!(silent + READS + MARGIN > FRESH, "it gave up too soon, after {silent:?}");
    cluster.gate.open();
    until("pods are given a version again", || async { cluster.tries().0.is_string().then_some(()) }).await;
}

struct Cluster {
    publisher: Publisher,
    gate: Gate,
    folder: TempDir,
    _webhook: Process,
}

impl Cluster {
    /// With a published state, and a webhook of this machine whose way to the API server leads through the gate.
    async fn start() -> Self {
        let publisher = Publisher::start().await;
        publisher.publish(&node16_config("{directory: {path: /srv/externals}}"), &[]);
        let control_plane = &publisher.control_plane;
        let label = format!("{NAMESPACE_LABEL}=hostpath");
        control_plane.kubectl(&["label", "namespace", "default", &label]).unwrap();
        let server = control_plane.server();
        let gate = Gate::to(server.strip_prefix("https://").unwrap()).await;
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = kubeconfig(control_plane, "headstart-webhook", None, folder.path());
        let text = std::fs::read_to_string(&kubeconfig).unwrap();
        std::fs::write(&kubeconfig, text.replace(&server, &format!("https://{}", gate.address()))).unwrap();
        let tls = certificate(folder.path());
        let mut command = shipped("headstart-webhook");
        command.args(["--namespace=headstart-system", "--published-state=headstart-state"]);
        command.args(["--admin-listen=127.0.0.1:0", "--listen=127.0.0.1:0"]).env("KUBECONFIG", kubeconfig);
        command.arg("--tls-cert").arg(&tls.tls_cert).arg("--tls-key").arg(&tls.tls_key);
        let webhook = Process::spawn(command);
        let url = format!("https://{}", webhook.says("serving").await["https"].as_str().unwrap());
        let authority = std::fs::read_to_string(&tls.tls_cert).unwrap();
        let configuration = deploy::webhooks_at(control_plane, &url, &authority);
        control_plane.apply(&configuration.to_string()).unwrap();
        let mut pod = fixtures::read("hooks/v0.8.1/prepare-plain.json");
        pod["spec"]["initContainers"][0]["image"] = "ghcr.io/actions/actions-runner:2.304.0".into();
        std::fs::write(folder.path().join("pod.json"), pod.to_string()).unwrap();
        Self { publisher, gate, folder, _webhook: webhook }
    }

    /// Creates a pod as a dry run: the version that it is given, and what the user is warned of. It is never refused.
    fn tries(&self) -> (Value, String) {
        let control_plane = &self.publisher.control_plane;
        let mut kubectl = Command::new(control_plane.kubectl_program().unwrap());
        kubectl.arg("--kubeconfig").arg(control_plane.kubeconfig());
        kubectl.args(["create", "--dry-run=server", "--output=json", "--filename"]);
        let output = kubectl.arg(self.folder.path().join("pod.json")).output().unwrap();
        let warnings = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{warnings}");
        let pod: Value = serde_json::from_slice(&output.stdout).unwrap();
        (version_of(&pod).clone(), warnings)
    }
}
