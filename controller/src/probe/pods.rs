//! The pods that are tried: of each shape that Headstart rewrites, one as it looks afterwards and the same one without our
//! volume; and what must have survived of the first.

use headstart_externals::mount;
use headstart_externals::names::{DECISION_ANNOTATION, VERSION_LABEL};
use headstart_externals::state::{MountKind, PublishedState, PublishedVersion};
use serde_json::{Value, json};

/// Name of the volume that is tried.
const VOLUME: &str = "headstart-externals";

const CONTAINER: &str = "headstart-probe";

/// The labels by which policies may know the two shapes, and where these see externals.
const SHAPES: [(&str, &str, &str); 2] = [
    ("actions-ephemeral-runner", "True", "/home/runner/externals"),
    ("runner-pod", "headstart-probe", "/__e"),
];

/// Some namespaces demand resources, others forbid small ones.
const RESOURCES: [Option<(&str, &str)>; 2] = [None, Some(("100m", "128Mi"))];

/// One pod to try, in two forms.
pub(super) struct Trial {
    /// With our volume.
    pub(super) rewritten: Value,
    /// With an emptyDir in its place.
    pub(super) stock: Value,
}

/// One shape: without resources and with them.
pub(super) type Trials = [Trial; 2];

/// The trials of every shape, each with and without resources; none where `version` cannot be shown by `kind`.
pub(super) fn trials(state: &PublishedState, version: &PublishedVersion, kind: MountKind) -> Vec<Trials> {
    let Some(volume) = mount::volume(VOLUME, kind, &state.host_root, version) else { return Vec::new() };
    let read_only = mount::read_only(kind);
    let of_shape = |(label, value, path): &(&str, &str, &str)| {
        RESOURCES.map(|resources| {
            let mut rewritten = pod(image_of(version), resources);
            rewritten["metadata"]["labels"] = json!({ VERSION_LABEL: version.name, *label: value });
            rewritten["metadata"]["annotations"] = json!({ DECISION_ANNOTATION: "probe" });
            let mut stock = rewritten.clone();
            rewritten["spec"]["volumes"] = json!([volume]);
            rewritten["spec"]["containers"][0]["volumeMounts"] =
                json!([mount::mount(VOLUME, path, &read_only)]);
            stock["spec"]["volumes"] = json!([{ "name": VOLUME, "emptyDir": {} }]);
            stock["spec"]["containers"][0]["volumeMounts"] = json!([mount::mount(VOLUME, path, &[])]);
            Trial { rewritten, stock }
        })
    };
    SHAPES.iter().map(of_shape).collect()
}

/// As strict as Pod Security knows.
fn pod(image: String, resources: Option<(&str, &str)>) -> Value {
    let resources = resources.map_or(json!({}), |(cpu, memory)| {
        let amount = json!({ "cpu": cpu, "memory": memory });
        json!({ "requests": amount, "limits": amount })
    });
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "generateName": "headstart-probe-" },
        "spec": {
            "automountServiceAccountToken": false,
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 1001, "seccompProfile": { "type": "RuntimeDefault" }
            },
            "containers": [{
                "name": CONTAINER,
                "image": image,
                "resources": resources,
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            }],
        }
    })
}

/// An image that the version stands for, since policies may look at it.
fn image_of(version: &PublishedVersion) -> String {
    let pattern = version.images.first().map_or("headstart-probe:0", |pattern| pattern.as_str());
    pattern.replace('*', "0")
}

/// Whether `answer` still has the volume and the mount of `sent`; API servers drop what they do not know or support, and
/// other webhooks add containers and change how images are pulled.
pub(super) fn survived(sent: &Value, answer: &Value) -> bool {
    let named = |list: &Value, name: &str| list.as_array()?.iter().find(|item| item["name"] == name).cloned();
    let shown = |pod: &Value| {
        let volume = named(&pod["spec"]["volumes"], VOLUME)?;
        let container = named(&pod["spec"]["containers"], CONTAINER)?;
        let mount = named(&container["volumeMounts"], VOLUME)?;
        let source =
            [&volume["hostPath"]["path"], &volume["hostPath"]["type"], &volume["image"]["reference"]];
        Some(json!([source, mount["mountPath"], mount["readOnly"]]))
    };
    shown(sent).is_some() && shown(sent) == shown(answer)
}

#[cfg(test)]
mod tests {
    use headstart_externals::config::Config;

    use super::*;

    fn state() -> PublishedState {
        PublishedState::immediate(&Config::embedded().unwrap())
    }

    #[test]
    fn both_shapes_are_tried_with_the_volume_that_pods_get_and_without_it() {
        let state = state();
        let trials = trials(&state, &state.versions[0], MountKind::HostPath);
        assert_eq!(trials.len(), 2);
        for Trial { rewritten, stock } in trials.iter().flatten() {
            assert_eq!(rewritten["spec"]["volumes"][0]["hostPath"]["type"], "Directory");
            assert_eq!(rewritten["spec"]["containers"][0]["image"], "ghcr.io/actions/actions-runner:2.285.0");
            assert!(survived(rewritten, rewritten));
            assert!(
                !survived(rewritten, stock),
                "an emptyDir in its place is what old API servers make of it"
            );
            assert_eq!(stock["metadata"], rewritten["metadata"], "only the volume differs");
        }
        assert_eq!(trials[0][0].stock["spec"]["containers"][0]["resources"], json!({}));
    }

    #[test]
    fn a_version_without_an_image_is_not_tried_as_one() {
        let state = state();
        let version = PublishedVersion { volume_image: None, ..state.versions[0].clone() };
        assert!(trials(&state, &version, MountKind::Image).is_empty());
    }

    #[test]
    fn what_others_change_beside_the_volume_does_not_matter_and_a_lost_mount_does() {
        let state = state();
        let sent = &trials(&state, &state.versions[0], MountKind::Image)[0][0].rewritten;
        let mut changed = sent.clone();
        changed["spec"]["volumes"][0]["image"]["pullPolicy"] = json!("Always");
        let sidecar = json!({ "name": "proxy", "volumeMounts": [] });
        changed["spec"]["containers"].as_array_mut().unwrap().insert(0, sidecar);
        assert!(survived(sent, &changed));
        for lost in ["/spec/volumes", "/spec/containers/0/volumeMounts"] {
            let mut answer = sent.clone();
            *answer.pointer_mut(lost).unwrap() = json!([]);
            assert!(!survived(sent, &answer), "{lost}");
        }
    }
}
