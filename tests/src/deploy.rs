//! The shipped manifests, rendered as `kubectl apply -k` renders them.

use serde_json::{Value, json};

use crate::bed::ControlPlane;
use crate::programs::repository;

/// Every object of `deploy/`.
pub fn objects(control_plane: &ControlPlane) -> Vec<Value> {
    let folder = repository().join("deploy").display().to_string();
    let list = ["create", "--dry-run=client", "--validate=false", "--output=json", "-k", &folder];
    let text = control_plane.kubectl(&list).unwrap();
    // kubectl prints one document after the other, or one list.
    let documents = serde_json::Deserializer::from_str(&text).into_iter::<Value>().map(Result::unwrap);
    documents
        .flat_map(|document| match document["items"].as_array() {
            Some(items) if document["kind"] == "List" => items.clone(),
            _ => vec![document],
        })
        .collect()
}

/// The shipped MutatingWebhookConfiguration, but calling `url`, which has a certificate of `authority` (PEM).
pub fn webhooks_at(control_plane: &ControlPlane, url: &str, authority: &str) -> Value {
    use base64::Engine as _;
    let mut found = objects(control_plane);
    found.retain(|object| object["kind"] == "MutatingWebhookConfiguration");
    let mut configuration = found.pop().unwrap();
    let bundle = base64::prelude::BASE64_STANDARD.encode(authority);
    for webhook in configuration["webhooks"].as_array_mut().unwrap() {
        let path = webhook["clientConfig"]["service"]["path"].as_str().unwrap();
        webhook["clientConfig"] = json!({ "url": format!("{url}{path}"), "caBundle": bundle });
    }
    configuration
}

/// Installs everything, as an administrator would.
pub fn apply(control_plane: &ControlPlane) -> anyhow::Result<()> {
    let folder = repository().join("deploy").display().to_string();
    control_plane.kubectl(&["apply", "-k", &folder]).map(drop)
}
