//! The objects of ARC as the API server knows them, and those that its users write.

use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::under_test::Asked;

/// The namespace in which ARC runs.
pub const ARC_NAMESPACE: &str = "arc-systems";

/// Plurals of ARC's kinds.
pub const SCALE_SETS: &str = "autoscalingrunnersets";
/// The runners of one scale set.
pub const RUNNER_SETS: &str = "ephemeralrunnersets";
/// One runner each.
pub const RUNNERS: &str = "ephemeralrunners";
/// One per scale set, in the namespace of ARC.
pub const LISTENERS: &str = "autoscalinglisteners";

const GROUP: &str = "actions.github.com";
const VERSION: &str = "v1alpha1";

/// The node on which runners are played.
pub(crate) const NODE: &str = "runners";

/// ARC's objects of one kind in a namespace; `plural` is one of the constants here.
pub fn api(client: &Client, namespace: &str, plural: &str) -> Api<DynamicObject> {
    let kind = match plural {
        SCALE_SETS => "AutoscalingRunnerSet",
        RUNNER_SETS => "EphemeralRunnerSet",
        RUNNERS => "EphemeralRunner",
        LISTENERS => "AutoscalingListener",
        other => panic!("ARC has no {other}"),
    };
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, kind), plural);
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// The scale set and its credentials, as Helm would write them. Runners need no scheduler.
pub(crate) fn scale_set(asked: &Asked<'_>) -> Value {
    let secret = format!("{}-github", asked.name);
    let metadata = |name: &str| json!({ "name": name, "namespace": asked.namespace });
    let mut labelled = metadata(asked.name);
    // A stamp other than that of the manager's own build makes it delete the scale set.
    labelled["labels"] = json!({ "app.kubernetes.io/version": "dev", "app.kubernetes.io/name": asked.name });
    let runner =
        json!({ "name": "runner", "image": "bed.test/runner:1", "command": ["/home/runner/run.sh"] });
    let spec = json!({
        "githubConfigUrl": asked.url,
        "githubConfigSecret": secret,
        "minRunners": asked.at_least,
        "maxRunners": asked.at_most,
        "template": { "spec": { "restartPolicy": "Never", "nodeName": NODE, "containers": [runner] } },
    });
    let items = [
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": metadata(&secret),
            "stringData": { "github_token": "a-token" },
        }),
        json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "AutoscalingRunnerSet",
            "metadata": labelled, "spec": spec,
        }),
    ];
    json!({ "apiVersion": "v1", "kind": "List", "items": items })
}
