//! A real control plane: etcd, API server and controller manager as plain processes on loopback. Needs no root.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use super::command::{output, say};
use super::owner::Bed;
use super::pki::{Authority, service_account_keys};
use super::plan::Plan;
use super::programs::Programs;
use super::protocol::Request;
use super::supervise::Shape;
use super::versions::Minor;
use crate::wait::within;

/// Longest wait for a control plane that is being started on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The services of a control plane.
pub(super) const SERVICES: [&str; 3] = ["etcd", "kube-apiserver", "kube-controller-manager"];

/// A running control plane; gone when dropped, and also when its process ends in any other way.
pub struct ControlPlane {
    bed: Bed,
    plan: Plan,
    begun: Instant,
}

impl ControlPlane {
    /// Starts one with the API server of that version and waits until it is usable.
    pub async fn start(minor: Minor) -> Result<Self> {
        let control_plane = Self::begin(minor, Shape { node: false, kept: false }, &[])?;
        control_plane.usable().await?;
        control_plane.say_up("control plane");
        Ok(control_plane)
    }

    /// The first half of a start: all files are there and etcd and the API server have been started.
    pub(super) fn begin(minor: Minor, shape: Shape, more: &[&str]) -> Result<Self> {
        let newest: Vec<&str> = SERVICES.iter().chain(&["kubectl"]).chain(more).copied().collect();
        let newest = Programs::obtain(&newest, Minor::Newest)?;
        let programs = newest.and(Programs::obtain(&["kube-apiserver"], minor)?);
        let begun = Instant::now();
        let bed = Bed::make(shape)?;
        let plan = Plan::new(bed.place(), programs, shape.node);
        write_identities(&plan)?;
        bed.start(plan.etcd()?)?;
        bed.start(plan.api_server()?)?;
        Ok(Self { bed, plan, begun })
    }

    /// The second half: the API server answers, controllers run, and a pod could be created in `default`.
    pub(super) async fn usable(&self) -> Result<()> {
        self.ready().await?;
        self.bed.start(self.plan.controller_manager()?)?;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, "default");
        let found = within(PATIENCE, || async { accounts.get("default").await.ok() }).await;
        found.map(drop).with_context(|| self.failure("no default ServiceAccount", &SERVICES))
    }

    /// Waits until the API server says that it is ready; for tests that took it or etcd away.
    pub async fn ready(&self) -> Result<()> {
        let ready = within(PATIENCE, || async { self.answers().await.ok() }).await;
        ready.with_context(|| self.failure("the API server does not become ready", &SERVICES))
    }

    async fn answers(&self) -> Result<()> {
        let request = axum::http::Request::get("/readyz").body(vec![])?;
        let answer = self.client().await?.request_text(request).await?;
        if answer == "ok" { Ok(()) } else { bail!(answer) }
    }

    /// A client with all rights. It belongs to the runtime of the test that asks for it.
    pub async fn client(&self) -> Result<Client> {
        client_of(&self.kubeconfig()).await
    }

    /// The kubeconfig of a user with all rights.
    pub fn kubeconfig(&self) -> PathBuf {
        self.plan.pki().join("admin.kubeconfig")
    }

    /// The URL of the API server.
    pub fn server(&self) -> String {
        self.plan.server()
    }

    /// The API server's certificate authority.
    pub fn authority(&self) -> PathBuf {
        self.plan.pki().join("ca.crt")
    }

    /// Where kubectl lies.
    pub fn kubectl_program(&self) -> Result<&Path> {
        self.plan.programs.path("kubectl")
    }

    /// Runs kubectl with all rights and gives what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        output(&mut self.kubectl_command(arguments)?)
    }

    /// Applies a manifest.
    pub fn apply(&self, manifest: &str) -> Result<()> {
        let mut command = self.kubectl_command(&["apply", "-f", "-"])?;
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut kubectl = command.spawn()?;
        kubectl.stdin.take().context("no pipe")?.write_all(manifest.as_bytes())?;
        let output = kubectl.wait_with_output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { bail!("kubectl apply: {}", complaint.trim_end()) }
    }

    /// Stores an object in etcd, behind the API server's back: with an age, say, that nothing gets through it. `path` is that
    /// below `/registry/`.
    pub async fn store(&self, path: &str, object: &Value) -> Result<()> {
        let encoded = |text: String| BASE64_STANDARD.encode(text);
        let put =
            json!({ "key": encoded(format!("/registry/{path}")), "value": encoded(object.to_string()) });
        let url = format!("http://127.0.0.1:{}/v3/kv/put", self.plan.ports[0]);
        let answer = reqwest::Client::new().post(url).body(put.to_string()).send().await?;
        answer.error_for_status().map(drop).context("etcd does not store it")
    }

    fn kubectl_command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(self.kubectl_program()?);
        command.arg("--kubeconfig").arg(self.kubeconfig()).args(arguments);
        command.env("KUBECACHEDIR", self.plan.folder.join("kubectl-cache"));
        Ok(command)
    }

    /// Asks a service to end; it stays away until [`Self::start_again`].
    pub fn stop(&self, service: &str) -> Result<()> {
        self.bed.ask(&Request::Stop(service.to_owned()))
    }

    /// Kills a service; it stays away until [`Self::start_again`].
    pub fn kill(&self, service: &str) -> Result<()> {
        self.bed.ask(&Request::Kill(service.to_owned()))
    }

    /// Kills a service; it comes back at once, as under systemd.
    pub fn crash(&self, service: &str) -> Result<()> {
        self.bed.ask(&Request::Crash(service.to_owned()))
    }

    /// Starts a service that was stopped or killed.
    pub fn start_again(&self, service: &str) -> Result<()> {
        self.bed.ask(&Request::StartAgain(service.to_owned()))
    }

    /// The bed below: its place, its logs, further services, commands inside.
    pub fn bed(&self) -> &Bed {
        &self.bed
    }

    /// Tells how long the start took; programs were there before.
    pub(super) fn say_up(&self, what: &str) {
        let seconds = self.begun.elapsed().as_secs_f64();
        say(&format!("bed {}: {what} up in {seconds:.1} s", self.bed.place().index));
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// A message with the ends of logs.
    pub(super) fn failure(&self, what: &str, services: &[&str]) -> String {
        format!("{what} after {PATIENCE:?}\n{}", self.bed.tails(services))
    }
}

/// A client for whom a kubeconfig names.
pub async fn client_of(kubeconfig: &Path) -> Result<Client> {
    headstart_runtime::program::install_crypto();
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    // This machine's way to the outside does not lead to the bed.
    config.proxy_url = None;
    Ok(Client::try_from(config)?)
}

/// Who is who in this cluster.
fn write_identities(plan: &Plan) -> Result<()> {
    let (folder, server) = (plan.pki(), plan.server());
    fs::create_dir_all(&folder)?;
    let authority = Authority::create(&folder, "ca")?;
    authority.server("apiserver", &plan.server_names())?;
    authority.user("admin", "admin", Some("system:masters"), &server)?;
    for name in ["kube-controller-manager", "kube-scheduler", "kube-proxy"] {
        authority.user(name, &format!("system:{name}"), None, &server)?;
    }
    Authority::create(&folder, "front-proxy-ca")?.client("front-proxy", "front-proxy-client", None)?;
    service_account_keys(&folder)?;
    if plan.node {
        super::cluster::write_identities(&authority, plan)?;
    }
    Ok(())
}
