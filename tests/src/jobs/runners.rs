//! Runner pods: as ARC's controllers post them.

use serde_json::{Value, json};

use super::Storage;
use crate::bed::images::TestImage;
use crate::fixtures;

/// The runner's name in every recorded body.
pub const NAME: &str = "arc-runner-set-x7k2p-runner-9fz4d";

/// The claim that Kubernetes makes for a runner's work volume, by which the hooks know it.
pub(super) fn claim_of(runner: &str) -> String {
    format!("{runner}-work")
}

/// The runner pod of ARC's `kubernetes` mode.
pub fn kubernetes(namespace: &str, image: TestImage, storage: Storage) -> Value {
    let mut pod = posted("arc/kubernetes.json", namespace);
    pod["spec"]["containers"][0]["image"] = image.name().into();
    let template = &mut pod["spec"]["volumes"][0]["ephemeral"]["volumeClaimTemplate"];
    template["spec"]["storageClassName"] = storage.class().into();
    pod
}

/// The same with a claim that outlives it, and that claim.
pub fn kept(namespace: &str, image: TestImage, storage: Storage) -> (Value, Value) {
    let mut pod = kubernetes(namespace, image, storage);
    let volume = &mut pod["spec"]["volumes"][0];
    let spec = volume["ephemeral"]["volumeClaimTemplate"]["spec"].take();
    *volume = json!({ "name": volume["name"], "persistentVolumeClaim": { "claimName": claim_of(NAME) } });
    let metadata = json!({ "name": claim_of(NAME), "namespace": namespace });
    let kind = "PersistentVolumeClaim";
    (pod, json!({ "apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec }))
}

/// The runner pod of ARC's `dind` mode. In place of the Docker daemon, a shell waits.
pub fn dind(fixture: &str, namespace: &str) -> Value {
    let mut pod = posted(fixture, namespace);
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().unwrap() {
            container["image"] = TestImage::Runner.name().into();
            if container["name"] == "dind" {
                stand_in(container);
            }
        }
    }
    pod
}

/// The recorded arguments stay: the shell does not look at them.
fn stand_in(daemon: &mut Value) {
    daemon["image"] = TestImage::Job.name().into();
    daemon["command"] = json!(["sh", "-c", "trap 'exit 0' TERM; tail -f /dev/null & wait"]);
    if daemon["startupProbe"].is_object() {
        daemon["startupProbe"]["exec"]["command"] = json!(["true"]);
    }
}

/// The runner pod that the older controller makes of a Runner without Docker (`newRunnerPodWithContainerMode` of its
/// `runner_controller.go`), in the fields that matter to the pod.
pub fn older(namespace: &str) -> Value {
    let env = [
        ("RUNNER_ORG", "acme"),
        ("DOCKER_ENABLED", "false"),
        ("DOCKERD_IN_RUNNER", "false"),
        ("RUNNER_WORKDIR", "/runner/_work"),
        ("RUNNER_EPHEMERAL", "true"),
        ("RUNNER_NAME", "older-runner"),
        ("RUNNER_TOKEN", "none"),
    ];
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "older-runner", "namespace": namespace,
            "labels": { "actions-runner": "", "actions-runner-controller/inject-registration-token": "true" },
        },
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "runner",
                "image": TestImage::OlderRunner.name(),
                "env": env.map(|(name, value)| json!({ "name": name, "value": value })),
                "volumeMounts": [{ "name": "runner", "mountPath": "/runner" }],
                "securityContext": {},
            }],
            "volumes": [{ "name": "runner", "emptyDir": {} }],
        },
    })
}

/// A recorded pod in this namespace, without its owner: that is not there, so the garbage collector would take the pod.
fn posted(fixture: &str, namespace: &str) -> Value {
    let mut pod = fixtures::read(fixture);
    pod["metadata"]["namespace"] = namespace.into();
    pod["metadata"].as_object_mut().unwrap().remove("ownerReferences");
    pod
}
