//! A mutating webhook of somebody else, as meshes and log shippers bring them: it appends containers to every pod, made
//! as the hooks make theirs, or with the mounts that it finds.

use axum::Json;
use axum::Router;
use axum::routing::post;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::{Running, certificate, serve};

/// Label of namespaces whose pods it changes; the value names the configuration.
const LABEL: &str = "appender.test/when";

/// The webhook; gone when dropped.
pub struct Appender {
    running: Running,
    folder: TempDir,
}

impl Appender {
    /// Serves it.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tls = certificate(folder.path());
        let running = serve(Router::new().route("/", post(review)), Some(&tls)).await;
        Self { running, folder }
    }

    /// The label of a namespace in which the configuration `name` counts.
    pub fn label(name: &str) -> (&str, &str) {
        (LABEL, name)
    }

    /// A configuration for it. The API server calls webhooks in the order of such names, so this decides who comes first.
    pub fn configuration(&self, name: &str) -> Value {
        let authority = std::fs::read(self.folder.path().join("tls.crt")).unwrap();
        let rule = json!({
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
        });
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": { "name": name },
            "webhooks": [{
                "name": "pods.appender.test", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "failurePolicy": "Fail", "reinvocationPolicy": "IfNeeded", "rules": [rule],
                "namespaceSelector": { "matchLabels": { LABEL: name } },
                "clientConfig": { "url": self.running.url, "caBundle": BASE64_STANDARD.encode(authority) },
            }],
        })
    }
}

async fn review(Json(review): Json<Value>) -> Json<Value> {
    let request = &review["request"];
    let mut response = json!({ "uid": request["uid"], "allowed": true });
    let patch = patch(&request["object"]);
    if !patch.is_empty() {
        response["patchType"] = "JSONPatch".into();
        response["patch"] = BASE64_STANDARD.encode(json!(patch).to_string()).into();
    }
    Json(json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response }))
}

/// Appends what is not there yet.
fn patch(pod: &Value) -> Vec<Value> {
    let containers = pod["spec"]["containers"].as_array().unwrap();
    let container = |name: &str, mounts: Vec<Value>| json!({ "name": name, "image": "registry.example.com/sidecar:1", "volumeMounts": mounts });
    let wanted = [
        container("appended-like-the-hooks", like_the_hooks(pod)),
        container("appended-as-found", as_found(&containers[0])),
    ];
    let is_missing = |new: &Value| containers.iter().all(|container| container["name"] != new["name"]);
    let missing = wanted.into_iter().filter(is_missing);
    missing.map(|new| json!({ "op": "add", "path": "/spec/containers/-", "value": new })).collect()
}

/// How charts and hooks give externals to a container of such a pod, before anybody rewrites it.
fn like_the_hooks(pod: &Value) -> Vec<Value> {
    let volume = |name: &str| {
        let mut volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
        volumes.find(|volume| volume["name"] == name)
    };
    if volume("dind-externals").is_some() {
        return vec![json!({ "name": "dind-externals", "mountPath": "/home/runner/externals" })];
    }
    if volume("externals").is_some() {
        let mounts = [("externals", "/__e"), ("github", "/github")].into_iter();
        let there = mounts.filter(|(name, _)| volume(name).is_some());
        return there.map(|(name, path)| json!({ "name": name, "mountPath": path })).collect();
    }
    let is_workflow = pod["metadata"]["labels"]["runner-pod"].is_string();
    if is_workflow && volume("work").is_some_and(|work| work["persistentVolumeClaim"].is_object()) {
        return vec![json!({ "name": "work", "mountPath": "/__e", "subPath": "externals" })];
    }
    vec![]
}

/// The mounts of a container as they are now, all of them writable.
fn as_found(container: &Value) -> Vec<Value> {
    let mut mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
    for mount in &mut mounts {
        let mount = mount.as_object_mut().unwrap();
        mount.remove("readOnly");
        mount.remove("recursiveReadOnly");
    }
    mounts
}
