//! A namespace for one test, which tells what happened in it when the test fails.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use serde_json::{Value, json};

use super::cluster;
use super::command::say;
use super::control_plane::ControlPlane;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Deleted when dropped; if the test is failing then, pods, events and the ends of all logs are printed first.
pub struct TestNamespace<'a> {
    control_plane: &'a ControlPlane,
    name: String,
    labels: Vec<String>,
}

impl<'a> TestNamespace<'a> {
    /// Makes one whose name begins like that.
    pub fn create(control_plane: &'a ControlPlane, name: &str) -> Result<Self> {
        Self::labelled(control_plane, name, &[])
    }

    /// Makes one with labels, each `name=value`.
    pub fn labelled(control_plane: &'a ControlPlane, name: &str, labels: &[&str]) -> Result<Self> {
        let name = format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let pairs = labels.iter().filter_map(|label| label.split_once('='));
        let pairs: serde_json::Map<String, Value> =
            pairs.map(|(key, value)| (key.to_owned(), value.into())).collect();
        let metadata = json!({ "name": name, "labels": pairs });
        control_plane
            .apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata }).to_string())?;
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        Ok(Self { control_plane, name, labels })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Prints pods, events and the ends of all logs.
pub fn describe(control_plane: &ControlPlane, namespaces: &[&str]) {
    let show = |arguments: &[&str]| {
        let text = control_plane.kubectl(arguments).unwrap_or_else(|error| format!("{error:#}\n"));
        say(&format!("kubectl {}\n{text}", arguments.join(" ")));
    };
    for namespace in namespaces {
        show(&["get", "pods", "--output=wide", "--namespace", namespace]);
        show(&["get", "events", "--sort-by=.lastTimestamp", "--namespace", namespace]);
        let pods = control_plane.kubectl(&["get", "pods", "--output=name", "--namespace", namespace]);
        for pod in pods.unwrap_or_default().lines() {
            show(&["logs", pod, "--all-containers", "--prefix", "--tail=25", "--namespace", namespace]);
        }
    }
    say(&control_plane.bed().tails(&cluster::SERVICES));
}

impl Drop for TestNamespace<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(&format!("namespace {} {:?} of the failed test:", self.name, self.labels));
            describe(self.control_plane, &[&self.name, "headstart-system"]);
        }
        let _ = self.control_plane.kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}
