//! Agent and webhook in this process: configuration, a self-made certificate, ports on loopback, a client.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use headstart_cachesync::args as agent;
use headstart_cachesync::source::SourceArgs;
use headstart_externals::layout::Root;
use headstart_runtime::log::LogArgs;
use headstart_runtime::program::Tasks;
use headstart_runtime::shutdown::Shutdown;
use headstart_runtime::tls::TlsArgs;
use headstart_webhook::args as webhook;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::reviews::{Answer, Review};
use super::source::Source;

/// Longest wait for the cache.
const READY: Duration = Duration::from_secs(120);

/// Any free port, for this machine only.
const LOOPBACK: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));

/// The runner image of the recorded pods.
const RUNNER_IMAGE: &str = "ghcr.io/actions/actions-runner:latest";

/// Agent and webhook while they run.
pub(crate) struct Running {
    pub(crate) status_url: String,
    pub(crate) review_url: String,
    pub(crate) ca: PathBuf,
    root: PathBuf,
    client: reqwest::Client,
    tasks: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// Starts both.
    pub(crate) async fn start(
        source: &Source,
        folder: &Path,
        log: &LogArgs,
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        let root = folder.join("node");
        let config = folder.join("config.yaml");
        fs::write(&config, configuration(source, &root)?)?;
        let ca = make_certificate(folder)?;
        let agent = agent::prepare(agent_args(&root, &config), Arc::new(|_| {}), shutdown.clone()).await?;
        let webhook = webhook::prepare(webhook_args(folder, &config, log), shutdown.clone()).await?;
        let (status, review): (SocketAddr, SocketAddr) = (agent.address, webhook.https);
        let certificate = reqwest::Certificate::from_pem(&fs::read(&ca)?)?;
        let client = reqwest::Client::builder().tls_certs_only([certificate]).no_proxy().build()?;
        let mut tasks = Tasks::new(shutdown.clone());
        tasks.add("agent", agent.run());
        tasks.add("webhook", webhook.run());
        Ok(Self {
            status_url: format!("http://{status}/v1/status"),
            review_url: format!("https://{review}/mutate/pods/hostpath"),
            ca,
            root,
            client,
            tasks: tokio::spawn(tasks.run()),
        })
    }

    /// Waits until the cache is ready and returns its status; `on_progress` is told every second how far it is.
    pub(crate) async fn wait_until_ready(
        &self,
        shutdown: &Shutdown,
        on_progress: fn(&Value),
    ) -> anyhow::Result<Value> {
        let begun = std::time::Instant::now();
        let mut said = 0;
        loop {
            let status: Value = self.client.get(&self.status_url).send().await?.json().await?;
            if status["ready"] == true {
                return Ok(status);
            }
            let fault = status["versions"][0]["fault"].as_object();
            if let Some(fault) = fault {
                let text = |key: &str| fault[key].as_str().unwrap_or_default().to_owned();
                anyhow::bail!(
                    "the agent failed: {}: {}; {}",
                    text("reason"),
                    text("message"),
                    text("remedy")
                );
            }
            anyhow::ensure!(begun.elapsed() < READY, "the cache was not ready after {READY:?}: {status}");
            if begun.elapsed().as_secs() > said {
                said = begun.elapsed().as_secs();
                on_progress(&status["versions"][0]["progress"]);
            }
            tokio::select! {
                () = shutdown.begun() => anyhow::bail!("interrupted"),
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
    }

    /// Sends one AdmissionReview, over TLS.
    pub(crate) async fn ask(&self, review: &Review) -> anyhow::Result<Answer> {
        let response = self.client.post(&self.review_url).json(&review.body).send().await?;
        let response = response.error_for_status().context("the webhook refused a review")?;
        Answer::read(review, response.json().await?)
    }

    /// The tree of the version in `status`.
    pub(crate) fn tree(&self, status: &Value) -> anyhow::Result<PathBuf> {
        let version =
            status["versions"][0]["name"].as_str().context("the status names no version")?.parse()?;
        Ok(Root::new(&self.root).version(&version).tree())
    }

    /// Ends both and waits for them.
    pub(crate) async fn stop(self, shutdown: &Shutdown) -> anyhow::Result<()> {
        shutdown.begin();
        self.tasks.await?
    }
}

/// The built-in profile where it fits; for a folder of another kind one that keeps each entry's `bin/node`.
fn configuration(source: &Source, root: &Path) -> anyhow::Result<String> {
    let mut profile = json!({
        "name": "demo",
        "images": [RUNNER_IMAGE],
        "revisions": [{ "revision": "demo", "source": { "directory": { "path": source.path } } }],
    });
    if source.fits_builtin() {
        profile["name"] = json!("node16");
        profile["preset"] = json!("node16");
    } else {
        let keep = |entry: &String| (entry.clone(), json!(["bin/node"]));
        profile["entries"] = Value::Object(source.entries.iter().map(keep).collect());
        profile["hooks"] = json!({ "legacy": ["/home/runner/k8s/index.js"] });
    }
    let config = json!({ "apiVersion": "headstart.dev/v1", "hostRoot": root, "profiles": [profile] });
    Ok(serde_saphyr::to_string(&config)?)
}

/// Writes `tls.crt` and `tls.key`, for loopback only; the certificate is its own authority.
fn make_certificate(folder: &Path) -> anyhow::Result<PathBuf> {
    let issued = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    let certificate = folder.join("tls.crt");
    fs::write(&certificate, issued.cert.pem())?;
    let key = folder.join("tls.key");
    fs::write(&key, issued.signing_key.serialize_pem())?;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    Ok(certificate)
}

/// Built as values, so that no variable of the environment has a say.
fn agent_args(root: &Path, config: &Path) -> agent::RunArgs {
    agent::RunArgs {
        root: Some(root.to_owned()),
        config: config.to_owned(),
        canary_root: None,
        node_name: Some("demo".to_owned()),
        admin_listen: LOOPBACK,
        standalone: true,
        namespace: None,
        published_state: String::new(),
        source: SourceArgs::default(),
    }
}

fn webhook_args(folder: &Path, config: &Path, log: &LogArgs) -> webhook::Args {
    webhook::Args {
        config: Some(config.to_owned()),
        published_state: None,
        namespace: None,
        leader_lease: String::new(),
        parallel_creation: false,
        listen: LOOPBACK,
        admin_listen: LOOPBACK,
        deadline_ms: 1500,
        max_connections: 64,
        max_in_flight: 64,
        drain_delay_ms: 0,
        tls: TlsArgs { tls_cert: folder.join("tls.crt"), tls_key: folder.join("tls.key") },
        log: log.clone(),
    }
}
