//! The shipped manifests, rendered as `kubectl apply -k` renders them.

use std::path::Path;

use serde_json::{Value, json};

use crate::bed::ControlPlane;
use crate::programs::repository;

/// Every object of `deploy/`.
pub fn objects(control_plane: &ControlPlane) -> Vec<Value> {
    rendered(control_plane, &repository().join("deploy"))
}

/// Every object of a folder.
pub fn rendered(control_plane: &ControlPlane, folder: &Path) -> Vec<Value> {
    let folder = folder.display().to_string();
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

/// The configuration's object, by name; and the one stage that is shipped, with what is special in it.
const CONFIG: &str = "headstart-config";
const STAGE: &str = "headstart-stage-node16-2-304-0";
const STAGED_PROFILE: &str = "node16";
const STAGED_REVISION: &str = "2.304.0";
const STAGED_IMAGE: &str = "ghcr.io/actions/actions-runner:2.304.0";

/// Every object of `deploy/` with another configuration, and beside the shipped stage one for each further revision from a
/// runner image in it: as an administrator would copy it.
pub fn configured(control_plane: &ControlPlane, config: &Value) -> Vec<Value> {
    let mut found = objects(control_plane);
    named(&mut found, CONFIG)["data"]["config.yaml"] = config.to_string().into();
    // As the configuration says, the DaemonSets select the same nodes.
    if let Some(selector) = config.get("nodeSelector") {
        for set in found.iter_mut().filter(|object| object["kind"] == "DaemonSet") {
            set["spec"]["template"]["spec"]["nodeSelector"] = selector.clone();
        }
    }
    let shipped = named(&mut found, STAGE).to_string();
    for profile in config["profiles"].as_array().unwrap() {
        let name = profile["name"].as_str().unwrap();
        for revision in profile["revisions"].as_array().unwrap() {
            let Some(image) = revision["source"]["runnerImage"]["image"].as_str() else { continue };
            let revision = revision["revision"].as_str().unwrap();
            if (name, revision) != (STAGED_PROFILE, STAGED_REVISION) {
                found.push(stage(&shipped, name, revision, image));
            }
        }
    }
    found
}

/// What of that an administrator applies for another configuration alone: it, and the stages.
pub fn reconfigured(control_plane: &ControlPlane, config: &Value) -> Vec<Value> {
    let mut found = configured(control_plane, config);
    found.retain(|object| {
        let name = object["metadata"]["name"].as_str().unwrap();
        name == CONFIG || name.starts_with("headstart-stage-")
    });
    found
}

fn named<'o>(objects: &'o mut [Value], name: &str) -> &'o mut Value {
    let found = objects.iter_mut().find(|object| object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("deploy/ has no {name}"))
}

fn stage(shipped: &str, profile: &str, revision: &str, image: &str) -> Value {
    let dashes = |revision: &str| revision.replace('.', "-");
    let text = shipped.replace(STAGED_IMAGE, "IMAGE").replace(STAGED_PROFILE, "PROFILE");
    let text = text.replace(STAGED_REVISION, revision).replace(&dashes(STAGED_REVISION), &dashes(revision));
    serde_json::from_str(&text.replace("IMAGE", image).replace("PROFILE", profile)).unwrap()
}

/// Installs everything, as an administrator would.
pub fn apply(control_plane: &ControlPlane) -> anyhow::Result<()> {
    let folder = repository().join("deploy").display().to_string();
    control_plane.kubectl(&["apply", "-k", &folder]).map(drop)
}
