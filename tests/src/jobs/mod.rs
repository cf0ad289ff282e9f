//! Pods as ARC and the hooks post them, from the recorded bodies, fitted to the test bed: its images, its storage, its
//! one node. Nothing that Headstart looks at is changed.

pub mod runners;
pub mod template;

use serde_json::{Value, json};

use crate::bed::boxed::NODE;
use crate::bed::images::TestImage;
use crate::bed::{Cluster, slow_disk};
use crate::fixtures;

/// Where claims lie on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// The node's disk.
    Local,
    /// A file system with the round trips of a network.
    Slow,
}

impl Storage {
    fn class(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Slow => "slow",
        }
    }

    fn folder(self, cluster: &Cluster) -> String {
        match self {
            Self::Local => cluster.bed().place().path("claims").display().to_string(),
            Self::Slow => slow_disk::MOUNT.to_owned(),
        }
    }
}

/// What a runner pod needs around it: its account, its secret, and the volume for its claim.
pub fn prepare(cluster: &Cluster, runner: &Value, storage: Storage) {
    let (name, namespace) = (&runner["metadata"]["name"], &runner["metadata"]["namespace"]);
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name, "namespace": namespace },
        "stringData": { "jitToken": "none" },
    });
    let volume = volume(cluster, runner, storage);
    cluster
        .apply(&json!({ "apiVersion": "v1", "kind": "List", "items": [secret, volume] }).to_string())
        .unwrap();
    let account = &runner["spec"]["serviceAccountName"];
    if account.is_string() {
        let metadata = json!({ "name": account, "namespace": namespace });
        let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata });
        cluster.apply(&account.to_string()).unwrap();
    }
}

/// The volume that the runner's work claim binds to.
fn volume(cluster: &Cluster, runner: &Value, storage: Storage) -> Value {
    let metadata = &runner["metadata"];
    let (name, namespace) = (metadata["name"].as_str().unwrap(), metadata["namespace"].as_str().unwrap());
    let folder = format!("{}/{namespace}-{name}", storage.folder(cluster));
    cluster.bed().run_inside(&["mkdir", "-p", "-m", "0777", &folder]).unwrap();
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": format!("{namespace}-{name}") },
        "spec": {
            "capacity": { "storage": "10Gi" }, "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage.class(), "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": { "path": folder, "type": "Directory" },
            "claimRef": { "namespace": namespace, "name": runners::claim_of(name) },
        },
    })
}

/// The workflow pod that a hook posts, from its recorded body.
pub fn workflow(fixture: &str, namespace: &str) -> Value {
    let mut pod = fixtures::read(fixture);
    pod["metadata"]["namespace"] = namespace.into();
    fit(&mut pod["spec"]);
    pod
}

/// The Job that a legacy hook posts for a container step, from its recorded body; its container runs `script`.
pub fn step(fixture: &str, namespace: &str, script: &str) -> Value {
    let mut job = fixtures::read(fixture);
    job["metadata"]["namespace"] = namespace.into();
    let spec = &mut job["spec"]["template"]["spec"];
    fit(spec);
    let container = spec["containers"][0].as_object_mut().unwrap();
    container.insert("command".to_owned(), json!(["sh", "-c", script]));
    container.remove("args");
    // The hook makes that secret for the step's environment.
    container.remove("envFrom");
    job
}

fn fit(spec: &mut Value) {
    if spec["nodeName"].is_string() {
        spec["nodeName"] = NODE.into();
    }
    for container in spec["containers"].as_array_mut().unwrap() {
        container["image"] = TestImage::Job.name().into();
    }
    if let Some(containers) = spec["initContainers"].as_array_mut() {
        containers.iter_mut().for_each(|container| container["image"] = TestImage::Runner.name().into());
    }
}

/// The same pod as strict as Pod Security knows; its containers run as the runner's user.
pub fn restricted(mut pod: Value) -> Value {
    let spec = &mut pod["spec"];
    merge(
        &mut spec["securityContext"],
        &json!({
            "runAsNonRoot": true, "runAsUser": 1001, "seccompProfile": { "type": "RuntimeDefault" },
        }),
    );
    let own = json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } });
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            merge(&mut container["securityContext"], &own);
        }
    }
    pod
}

fn merge(into: &mut Value, fields: &Value) {
    for (key, value) in fields.as_object().unwrap() {
        into[key] = value.clone();
    }
}
