//! The webhook that is measured: the shipped program as a process of its own, and on which processor things run.

use std::path::Path;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tempfile::TempDir;

use crate::load::client::Target;
use crate::process::{Process, with_owner};
use crate::server::certificate;
use crate::tree;

/// A running webhook; its log names decisions only where something was withheld, as it does where it is installed.
pub struct Subject {
    /// Where its reviews go.
    pub target: Target,
    admin: String,
    _process: Process,
    _dir: TempDir,
}

impl Subject {
    /// Starts `program`.
    pub async fn start(program: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tls = certificate(dir.path());
        let config = dir.path().join("config.yaml");
        std::fs::write(&config, configuration()).unwrap();
        let mut command = with_owner(program);
        command.args(["--log-format=json", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"]);
        command.arg("--config").arg(&config);
        command.arg("--tls-cert").arg(&tls.tls_cert).arg("--tls-key").arg(&tls.tls_key);
        let process = Process::spawn(command);
        let serving = process.says("serving").await;
        let address = serving["https"].as_str().unwrap().parse().unwrap();
        let target = Target::new(address, &std::fs::read(&tls.tls_cert).unwrap());
        let admin = serving["admin"].as_str().unwrap().to_owned();
        Self { target, admin, _process: process, _dir: dir }
    }

    /// Its resident memory in MB, as it tells it itself.
    pub async fn memory(&self) -> f64 {
        self.metric("process_resident_memory_bytes").await / 1e6
    }

    /// The processor time that it has used, in seconds.
    pub async fn processor(&self) -> f64 {
        self.metric("process_cpu_seconds_total").await
    }

    async fn metric(&self, name: &str) -> f64 {
        let url = format!("http://{}/metrics", self.admin);
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap().parse().unwrap()
    }
}

/// The built-in profile, for the image of the recorded pods.
fn configuration() -> String {
    let config = tree::node16_config("{directory: {path: /srv/externals}}");
    let image = "images: ['ghcr.io/actions/actions-runner:latest']";
    config.replace("preset: node16", &format!("preset: node16\n    {image}"))
}

/// The processors that this thread may use, by number.
pub fn processors() -> Vec<usize> {
    let allowed = sched_getaffinity(None).unwrap();
    (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect()
}

/// Keeps this thread, and the processes that it starts from now on, on one processor.
pub fn stay_on(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set).unwrap();
}
