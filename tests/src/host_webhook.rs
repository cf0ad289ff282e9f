//! The shipped webhook as a process of this machine, which an API server calls by URL.

use std::path::{Path, PathBuf};
use std::process::Command;

use headstart_runtime::tls::TlsArgs;
use tempfile::TempDir;

use crate::bed::ControlPlane;
use crate::deploy;
use crate::process::{Process, shipped};
use crate::server::certificate;

/// A running webhook; killed when dropped.
pub struct HostWebhook {
    /// Its process.
    pub process: Process,
    address: String,
    folder: TempDir,
    source: Source,
}

/// Where it learns what pods may be given.
enum Source {
    /// From a configuration, at once.
    Configuration,
    /// From the cluster of a kubeconfig, as an installation does.
    Cluster(PathBuf),
}

impl HostWebhook {
    /// Starts it with a configuration, whose state follows at once.
    pub async fn start(configuration: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.yaml"), configuration).unwrap();
        Self::begin(folder, Source::Configuration).await
    }

    /// Starts it with the token in a kubeconfig, so that it follows what is published in that cluster.
    pub async fn follow(kubeconfig: &Path) -> Self {
        Self::begin(tempfile::tempdir().unwrap(), Source::Cluster(kubeconfig.to_owned())).await
    }

    async fn begin(folder: TempDir, source: Source) -> Self {
        certificate(folder.path());
        let process = Process::spawn(command(folder.path(), &source, "127.0.0.1:0"));
        let address = process.says("serving").await["https"].as_str().unwrap().to_owned();
        Self { process, address, folder, source }
    }

    /// Starts it once more, at the same address.
    pub async fn start_again(&mut self) {
        self.process = Process::spawn(command(self.folder.path(), &self.source, &self.address));
        self.process.says("serving").await;
    }

    /// Where it is reached.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Its certificate and key.
    pub fn tls(&self) -> TlsArgs {
        let file = |name: &str| self.folder.path().join(name);
        TlsArgs { tls_cert: file("tls.crt"), tls_key: file("tls.key") }
    }

    /// The authority of its certificate, as PEM.
    pub fn authority(&self) -> String {
        std::fs::read_to_string(self.tls().tls_cert).unwrap()
    }

    /// Has the API server call it, or whoever stands at `url` with the same certificate, as the shipped manifests say.
    pub fn register(&self, control_plane: &ControlPlane, url: &str) {
        let configuration = deploy::webhooks_at(control_plane, url, &self.authority());
        control_plane.apply(&configuration.to_string()).unwrap();
    }

    /// How many of its decisions end like that.
    pub fn decided(&self, end: &str) -> usize {
        let log = self.process.log();
        log.iter().filter(|line| line["decision"].as_str().is_some_and(|text| text.ends_with(end))).count()
    }
}

fn command(folder: &Path, source: &Source, listen: &str) -> Command {
    let mut command = shipped("headstart-webhook");
    command.args(["--admin-listen=127.0.0.1:0", "--listen", listen]);
    match source {
        Source::Configuration => drop(command.arg("--config").arg(folder.join("config.yaml"))),
        Source::Cluster(kubeconfig) => {
            command.args(["--published-state=headstart-state", "--namespace=headstart-system"]);
            command.env("KUBECONFIG", kubeconfig);
        }
    }
    for (flag, file) in [("--tls-cert", "tls.crt"), ("--tls-key", "tls.key")] {
        command.arg(flag).arg(folder.join(file));
    }
    command
}
