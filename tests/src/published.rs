//! A control plane in which a test publishes what agents follow, in the controller's place.

use std::path::{Path, PathBuf};
use std::process::Command;

use headstart_externals::config::Config;
use headstart_externals::names::{REPORT_ANNOTATION, STATE_KEY};
use headstart_externals::report::NodeReport;
use headstart_externals::state::{Phase, PublishedState};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::agent::{NODE_NAME, Node};
use crate::bed::{ControlPlane, Minor};
use crate::deploy;
use crate::identity::kubeconfig;

const OURS: &str = "headstart-system";

/// A cluster with the shipped manifests and no controller.
pub struct Publisher {
    /// The API server.
    pub control_plane: ControlPlane,
    folder: TempDir,
}

impl Publisher {
    /// Starts it, with one node for the agents.
    pub async fn start() -> Self {
        let control_plane = ControlPlane::start(Minor::Newest).await.unwrap();
        deploy::apply(&control_plane).unwrap();
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE_NAME } });
        control_plane.apply(&node.to_string()).unwrap();
        Self { control_plane, folder: tempfile::tempdir().unwrap() }
    }

    /// The token that an agent gets on its node.
    pub fn agent_identity(&self) -> PathBuf {
        kubeconfig(&self.control_plane, "headstart-cachesync", Some(NODE_NAME), self.folder.path())
    }

    /// A program with the agent's flags and the agent's token.
    pub fn command(&self, node: &Node, program: &Path) -> Command {
        node.command_in(program, &self.agent_identity())
    }

    /// Publishes any text as the state.
    pub fn publish_text(&self, text: &str) {
        let state = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "headstart-state", "namespace": OURS },
            "data": { STATE_KEY: text },
        });
        self.control_plane.apply(&state.to_string()).unwrap();
    }

    /// Publishes what follows from a configuration, with the phases of some versions changed.
    pub fn publish(&self, config: &str, phases: &[(&str, Phase)]) {
        let mut state = PublishedState::immediate(&Config::parse(config).unwrap());
        for (name, phase) in phases {
            match state.versions.iter_mut().find(|version| version.name.as_str() == *name) {
                Some(version) => version.phase = *phase,
                None => {
                    let mut unknown = state.versions[0].clone();
                    (unknown.name, unknown.phase, unknown.recipe) = (name.parse().unwrap(), *phase, None);
                    unknown.images.clear();
                    state.versions.push(unknown);
                }
            }
        }
        self.publish_text(&serde_json::to_string(&state).unwrap());
    }

    /// Takes the state away.
    pub fn withdraw(&self) {
        self.control_plane.kubectl(&["delete", "configmap", "headstart-state", "--namespace", OURS]).unwrap();
    }

    /// The last report of the agent.
    pub fn report(&self) -> Option<NodeReport> {
        let words = ["get", "lease", NODE_NAME, "--namespace", OURS, "--output=json"];
        let lease: Value = serde_json::from_str(&self.control_plane.kubectl(&words).ok()?).unwrap();
        NodeReport::parse(lease["metadata"]["annotations"][REPORT_ANNOTATION].as_str()?).ok()
    }
}
