//! An agent as a process of its own, watched through its log and its status endpoint.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, with_owner};
use crate::programs::program;
use crate::schema::assert_status;
use crate::tree::{self, NODE16, directory_config};
use crate::wait::until;

/// The name of the agents' node.
pub const NODE_NAME: &str = "test-node";

/// A folder with a configuration and a root for an agent.
pub struct Node {
    dir: TempDir,
}

/// A running agent; killed when dropped.
pub struct Agent(Process);

impl Node {
    /// A node with that configuration and an empty root.
    pub fn new(config: &str) -> Self {
        let node = Self { dir: tempfile::tempdir().unwrap() };
        node.configure(config);
        node
    }

    /// A node whose source is a folder with stand-ins for Node.js.
    pub fn with_folder() -> Self {
        let node = Self::new("");
        tree::write(&node.path("externals"), &NODE16);
        node.configure(&directory_config(&node.path("externals")));
        node
    }

    /// The folder of the one version that is there.
    pub fn installed(&self) -> PathBuf {
        let versions = self.list("versions");
        assert_eq!(versions.len(), 1, "{versions:?}");
        self.root().join("versions").join(&versions[0])
    }

    /// The folder of the one version of a profile that is there.
    pub fn installed_of(&self, profile: &str) -> PathBuf {
        let mut versions = self.list("versions");
        versions.retain(|name| name.starts_with(&format!("{profile}-")));
        assert_eq!(versions.len(), 1, "{versions:?}");
        self.root().join("versions").join(&versions[0])
    }

    /// A path in the node's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The root of its cache.
    pub fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// Replaces the configuration.
    pub fn configure(&self, config: &str) {
        std::fs::write(self.path("config.yaml"), config).unwrap();
    }

    /// The shipped agent, ready to be spawned.
    pub fn command(&self) -> Command {
        self.command_of(&program("headstart-cachesync"))
    }

    /// Another program that takes the agent's flags.
    pub fn command_of(&self, program: &Path) -> Command {
        let mut command = self.flags(program);
        command.arg("--standalone");
        command
    }

    /// A program with the agent's flags that reports to a cluster, and hears from it.
    pub fn command_in(&self, program: &Path, kubeconfig: &Path) -> Command {
        let mut command = self.flags(program);
        command.args(["--namespace", "headstart-system"]).env("KUBECONFIG", kubeconfig);
        command
    }

    fn flags(&self, program: &Path) -> Command {
        let mut command = with_owner(program);
        command.args(["--log-format", "json", "run", "--admin-listen", "127.0.0.1:0"]);
        command.args(["--node-name", NODE_NAME, "--config"]).arg(self.path("config.yaml"));
        command.arg("--root").arg(self.root());
        command
    }

    /// Starts the shipped agent.
    pub fn start(&self) -> Agent {
        Agent::spawn(self.command())
    }

    /// What lies in a folder of the root; nothing if the folder is not there.
    pub fn list(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.root().join(folder)).into_iter().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Agent {
    /// Starts a prepared command and follows its log.
    pub fn spawn(command: Command) -> Self {
        Self(Process::spawn(command))
    }

    /// Fetches a path of the agent's port: status code and body.
    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        let address = self.log().iter().find_map(|line| Some(line["address"].as_str()?.to_owned()))?;
        let response = reqwest::get(format!("http://{address}{path}")).await.ok()?;
        Some((response.status().as_u16(), response.text().await.ok()?))
    }

    /// Waits for a status that `wanted` accepts.
    pub async fn status(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let log = || format!("{what}; log: {:#?}", self.log());
        until(&log(), || async {
            let (_, text) = self.get("/v1/status").await?;
            let status: Value = serde_json::from_str(&text).unwrap();
            assert_status(&status);
            wanted(&status).then_some(status)
        })
        .await
    }

    /// Waits until everything that is wanted is ready.
    pub async fn ready(&self) -> Value {
        self.status("ready", |status| status["ready"] == true).await
    }

    /// Waits until the first version has failed, and gives its reason.
    pub async fn failed(&self) -> String {
        let status = self.status("failed", |status| status["versions"][0]["fault"].is_object()).await;
        status["versions"][0]["fault"]["reason"].as_str().unwrap().to_owned()
    }
}

impl Deref for Agent {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.0
    }
}

impl DerefMut for Agent {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.0
    }
}
