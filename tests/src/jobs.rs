//! Pods as ARC and the hooks post them, from the recorded bodies, fitted to the test bed: its images, its storage, its
//! one node. Nothing that Headstart looks at is changed.

use serde_json::{Value, json};

use crate::bed::Cluster;
use crate::bed::images::TestImage;
use crate::bed::slow_disk;
use crate::fixtures;

/// The runner's name in every recorded body.
const RECORDED: &str = "arc-runner-set-x7k2p-runner-9fz4d";

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

/// What a runner pod needs around it: its claim's volume, its account, its secret.
pub fn prepare(cluster: &Cluster, namespace: &str, storage: Storage) {
    let folder = format!("{}/{namespace}", storage.folder(cluster));
    cluster.bed().run_inside(&["mkdir", "-p", "-m", "0777", &folder]).unwrap();
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": format!("{namespace}-work") },
        "spec": {
            "capacity": { "storage": "10Gi" }, "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage.class(), "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": { "path": folder, "type": "Directory" },
            "claimRef": { "namespace": namespace, "name": format!("{RECORDED}-work") },
        },
    });
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "name": "arc-runner-set-gha-rs-kube-mode", "namespace": namespace },
    });
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": RECORDED, "namespace": namespace },
        "stringData": { "jitToken": "none" },
    });
    for object in [volume, account, secret] {
        cluster.apply(&object.to_string()).unwrap();
    }
}

/// The runner pod of ARC's `kubernetes` mode.
pub fn runner(namespace: &str, storage: Storage) -> Value {
    let mut pod = fixtures::read("arc/kubernetes.json");
    pod["metadata"]["namespace"] = namespace.into();
    // The owner is not there, so the garbage collector would take the pod.
    pod["metadata"].as_object_mut().unwrap().remove("ownerReferences");
    pod["spec"]["containers"][0]["image"] = TestImage::Runner.name().into();
    let template = &mut pod["spec"]["volumes"][0]["ephemeral"]["volumeClaimTemplate"];
    template["spec"]["storageClassName"] = storage.class().into();
    pod
}

/// The workflow pod that a hook posts, from its recorded body.
pub fn workflow(fixture: &str, namespace: &str) -> Value {
    let mut pod = fixtures::read(fixture);
    pod["metadata"]["namespace"] = namespace.into();
    if pod["spec"]["nodeName"].is_string() {
        pod["spec"]["nodeName"] = "node1".into();
    }
    for container in pod["spec"]["containers"].as_array_mut().unwrap() {
        container["image"] = TestImage::Job.name().into();
    }
    if let Some(containers) = pod["spec"]["initContainers"].as_array_mut() {
        containers.iter_mut().for_each(|container| container["image"] = TestImage::Runner.name().into());
    }
    pod
}
