//! What the runners of one set have in common, worked out once for all of them: the objects that ARC would create for a
//! runner, so exactly that ARC takes them for its own. Pure.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use headstart_externals::names::RUNNER_SET_LABEL;
use headstart_externals::pin::Generation;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};

use super::view::PATCH_ID;

/// API version of ARC's kinds.
pub const API_VERSION: &str = "actions.github.com/v1alpha1";

const FINALIZERS: [&str; 2] = [
    "ephemeralrunner.actions.github.com/finalizer",
    "ephemeralrunner.actions.github.com/runner-registration-finalizer",
];

/// Label with ARC's own version.
const VERSION: &str = "app.kubernetes.io/version";

/// The first minor of ARC 0 that understands the exit code of outdated runners.
const KNOWS_EXIT_CODE: u64 = 14;

/// Everything about a set's runners but their names and numbers.
#[derive(Clone, Debug)]
pub struct Template {
    /// The scale set that runners are registered in.
    pub scale_set: i64,
    /// The folder that runners are registered with; empty for the runner's own choice.
    pub work_folder: String,
    runner: Value,
    secret: Value,
    pod: Value,
}

/// Why a set's runners cannot be made by us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot read `{0}` of the runner set, so its runners are left to ARC; compare it with the CRD that is installed"
)]
pub struct Unreadable(&'static str);

impl Template {
    /// Works it out from an EphemeralRunnerSet.
    pub fn of(set: &Value) -> Result<Self, Unreadable> {
        let metadata = &set["metadata"];
        let text = |value: &Value, field| value.as_str().map(str::to_owned).ok_or(Unreadable(field));
        let (name, namespace) =
            (text(&metadata["name"], "metadata.name")?, text(&metadata["namespace"], "metadata.namespace")?);
        let uid = text(&metadata["uid"], "metadata.uid")?;
        let spec = &set["spec"]["ephemeralRunnerSpec"];
        let scale_set = spec["runnerScaleSetId"].as_i64();
        let scale_set = scale_set.ok_or(Unreadable("spec.ephemeralRunnerSpec.runnerScaleSetId"))?;
        let container = runner_container(&spec["spec"]);
        let container = container.ok_or(Unreadable("spec.ephemeralRunnerSpec.spec.containers"))?;
        let work_folder = container["workingDir"].as_str().unwrap_or_default().to_owned();
        let runner = runner(set, &name, &namespace, &uid);
        let secret = secret(spec, &namespace, &uid);
        let version = metadata["labels"][VERSION].as_str().unwrap_or_default();
        let pod = pod(&runner, version);
        Ok(Self { scale_set, work_folder, runner, secret, pod })
    }

    /// The EphemeralRunner.
    pub fn runner(&self, name: &str, stamp: i64) -> Value {
        let mut runner = self.runner.clone();
        runner["metadata"]["name"] = name.into();
        runner["metadata"]["annotations"][PATCH_ID] = stamp.to_string().into();
        runner
    }

    /// The runner's Secret.
    pub fn secret(&self, name: &str, runner_id: i64, jit_config: &SecretString) -> Value {
        let mut secret = self.secret.clone();
        secret["metadata"]["name"] = name.into();
        let encoded = |text: &str| BASE64_STANDARD.encode(text);
        secret["data"] = json!({
            "jitToken": encoded(jit_config.expose_secret()),
            "runnerName": encoded(name),
            "runnerId": encoded(&runner_id.to_string()),
            "scaleSetId": encoded(&self.scale_set.to_string()),
        });
        secret
    }

    /// The runner's Pod, owned by the EphemeralRunner with this UID; its stamp is there for people only.
    pub fn pod(&self, name: &str, owner: &str, stamp: Option<i64>) -> Value {
        let mut pod = self.pod.clone();
        let metadata = &mut pod["metadata"];
        metadata["name"] = name.into();
        metadata["ownerReferences"] = json!([owner_reference(name, owner)]);
        if let Some(stamp) = stamp {
            metadata["annotations"][PATCH_ID] = stamp.to_string().into();
        }
        // Nobody reads it; it must be there, and differ.
        let hash = name.rsplit('-').next().unwrap_or_default();
        metadata["labels"]["pod-template-hash"] = hash.into();
        let containers = pod["spec"]["containers"].as_array_mut();
        let environment = containers.and_then(|containers| {
            let container = containers.iter_mut().find(|container| container["name"] == "runner")?;
            container["env"].as_array_mut()
        });
        // Ours comes after those of the user.
        let ours = environment.into_iter().flatten().rev().find(|variable| variable["name"] == JIT_VARIABLE);
        if let Some(variable) = ours {
            variable["valueFrom"]["secretKeyRef"]["name"] = name.into();
        }
        pod
    }
}

/// The merge patch of an EphemeralRunner's status.
pub fn status(name: &str, runner_id: i64) -> Value {
    json!({ "status": { "runnerId": runner_id, "runnerName": name } })
}

/// The merge patch that makes an EphemeralRunner the owner of its Secret.
pub fn owned(name: &str, owner: &str) -> Value {
    json!({ "metadata": { "ownerReferences": [owner_reference(name, owner)] } })
}

/// The JSON patch of a set that stores what its listener asked for, if that is still pinned.
pub fn handed_back(generation: Generation) -> Value {
    json!([
        { "op": "test", "path": "/spec/patchID", "value": generation.pinned() },
        { "op": "add", "path": "/spec/replicas", "value": generation.replicas },
        { "op": "replace", "path": "/spec/patchID", "value": generation.patch_id },
    ])
}

const JIT_VARIABLE: &str = "ACTIONS_RUNNER_INPUT_JITCONFIG";

fn runner_container(pod_spec: &Value) -> Option<&Value> {
    pod_spec["containers"].as_array()?.iter().find(|container| container["name"] == "runner")
}

fn owner_reference(name: &str, uid: &str) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": "EphemeralRunner", "name": name, "uid": uid,
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// `below` with what `above` says in addition or instead.
fn overlaid(below: &Value, above: &Value) -> Map<String, Value> {
    let entries = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let mut all = entries(below);
    all.extend(entries(above));
    all
}

fn runner(set: &Value, set_name: &str, namespace: &str, uid: &str) -> Value {
    let (metadata, more) = (&set["metadata"], &set["spec"]["ephemeralRunnerMetadata"]);
    let mut labels = overlaid(&more["labels"], &metadata["labels"]);
    labels.insert("app.kubernetes.io/component".to_owned(), "runner".into());
    let annotations = overlaid(&more["annotations"], &metadata["annotations"]);
    let mut spec = set["spec"]["ephemeralRunnerSpec"].clone();
    if spec["proxy"].is_object() {
        spec["proxySecretRef"] = format!("{set_name}-{}-runner-proxy", short_hash(namespace)).into();
    }
    json!({
        "apiVersion": API_VERSION,
        "kind": "EphemeralRunner",
        "metadata": {
            "generateName": format!("{set_name}-runner-"),
            "namespace": namespace,
            "labels": labels,
            "annotations": annotations,
            "finalizers": FINALIZERS,
            "ownerReferences": [{
                "apiVersion": API_VERSION, "kind": "EphemeralRunnerSet", "name": set_name, "uid": uid,
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": spec,
    })
}

fn secret(spec: &Value, namespace: &str, set_uid: &str) -> Value {
    let more = &spec["ephemeralRunnerConfigSecretMetadata"];
    let mut labels = overlaid(&more["labels"], &Value::Null);
    labels.insert(RUNNER_SET_LABEL.to_owned(), set_uid.into());
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {
            "namespace": namespace,
            "labels": labels,
            "annotations": overlaid(&more["annotations"], &Value::Null),
        },
    })
}

fn pod(runner: &Value, version: &str) -> Value {
    let (metadata, spec) = (&runner["metadata"], &runner["spec"]);
    let mut labels = overlaid(&metadata["labels"], &spec["metadata"]["labels"]);
    labels.insert("actions-ephemeral-runner".to_owned(), "True".into());
    let mut pod_spec = spec["spec"].clone();
    let containers = pod_spec["containers"].as_array_mut();
    for container in containers.into_iter().flatten().filter(|container| container["name"] == "runner") {
        let mut environment = container["env"].as_array().cloned().unwrap_or_default();
        environment.extend(environment_of(spec, version));
        container["env"] = environment.into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": overlaid(&metadata["annotations"], &spec["metadata"]["annotations"]),
        },
        "spec": pod_spec,
    })
}

/// What ARC adds to the environment of the runner's container, in its order.
fn environment_of(spec: &Value, version: &str) -> Vec<Value> {
    let plain = |name: &str, value: &str| json!({ "name": name, "value": value });
    let from = |name: &str, secret: &Value, key: &str| json!({ "name": name, "valueFrom": { "secretKeyRef": { "name": secret, "key": key } } });
    let mut environment = vec![
        from(JIT_VARIABLE, &Value::Null, "jitToken"),
        plain("GITHUB_ACTIONS_RUNNER_EXTRA_USER_AGENT", &format!("actions-runner-controller/{version}")),
    ];
    if knows_exit_code(version) {
        environment.push(plain("ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE", "1"));
    }
    let (proxy, secret) = (&spec["proxy"], &spec["proxySecretRef"]);
    let is_set = |server: &str| proxy[server].is_object();
    let has_exceptions = proxy["noProxy"].as_array().is_some_and(|hosts| !hosts.is_empty());
    let variables =
        [(is_set("http"), "http_proxy"), (is_set("https"), "https_proxy"), (has_exceptions, "no_proxy")];
    let proxies =
        variables.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| from(name, secret, name));
    environment.extend(proxies);
    environment
}

/// Releases before 0.14 do not ask for it. Builds without a number are newer.
fn knows_exit_code(version: &str) -> bool {
    let mut parts = version.split('.').map(str::parse::<u64>);
    match (parts.next(), parts.next()) {
        (Some(Ok(0)), Some(Ok(minor))) => minor >= KNOWS_EXIT_CODE,
        _ => true,
    }
}

/// ARC's short hash of a namespace: FNV-1a of 32 bits in decimal, its digits as letters that make no words.
fn short_hash(text: &str) -> String {
    let hash =
        text.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let letter = |digit: char| match digit {
        '0'..='5' => char::from_digit(digit.to_digit(10).unwrap_or(0) + 4, 10).unwrap_or(digit),
        '6' => 'b',
        '7' => 'c',
        '8' => 'd',
        _ => 'f',
    };
    hash.to_string().chars().map(letter).take(8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> Value {
        json!({
            "metadata": {
                "name": "ci", "namespace": "arc-runners", "uid": "set-uid",
                "labels": { "app.kubernetes.io/version": "0.14.2", "app.kubernetes.io/component": "runner-set", "team": "a" },
                "annotations": { "actions.github.com/runner-group-name": "default" },
            },
            "spec": {
                "patchID": 7,
                "ephemeralRunnerMetadata": { "labels": { "team": "z", "more": "m" }, "annotations": { "note": "n" } },
                "ephemeralRunnerSpec": {
                    "githubConfigUrl": "https://github.com/acme", "githubConfigSecret": "token", "runnerScaleSetId": 3,
                    "ephemeralRunnerConfigSecretMetadata": { "labels": { "own": "o" } },
                    "metadata": { "labels": { "pod": "p" }, "annotations": { "note": "of the pod" } },
                    "spec": { "restartPolicy": "Never", "containers": [
                        { "name": "runner", "image": "x", "workingDir": "/w", "env": [{ "name": "A", "value": "1" }] },
                        { "name": "side", "image": "y" },
                    ] },
                },
            },
        })
    }

    #[test]
    fn a_runner_is_as_arc_makes_it() {
        let template = Template::of(&set()).unwrap();
        assert_eq!((template.scale_set, template.work_folder.as_str()), (3, "/w"));
        let runner = template.runner("ci-runner-x", 6);
        let metadata = &runner["metadata"];
        assert_eq!(metadata["name"], "ci-runner-x");
        assert_eq!(
            metadata["labels"],
            json!({ "app.kubernetes.io/version": "0.14.2", "app.kubernetes.io/component": "runner", "team": "a", "more": "m" })
        );
        assert_eq!(
            metadata["annotations"],
            json!({ "actions.github.com/runner-group-name": "default", "note": "n", "actions.github.com/patch-id": "6" })
        );
        assert_eq!(metadata["finalizers"].as_array().unwrap().len(), 2);
        let owner = &metadata["ownerReferences"][0];
        assert_eq!((&owner["kind"], &owner["uid"]), (&json!("EphemeralRunnerSet"), &json!("set-uid")));
        assert_eq!(owner["controller"], true);
        assert_eq!(runner["spec"], set()["spec"]["ephemeralRunnerSpec"]);
    }

    #[test]
    fn a_secret_is_complete_and_marked_as_ours() {
        let template = Template::of(&set()).unwrap();
        let secret = template.secret("ci-runner-x", 42, &"jit".into());
        assert_eq!(secret["metadata"]["labels"], json!({ "own": "o", RUNNER_SET_LABEL: "set-uid" }));
        let plain = |key: &str| BASE64_STANDARD.decode(secret["data"][key].as_str().unwrap()).unwrap();
        assert_eq!(plain("jitToken"), b"jit");
        assert_eq!(plain("runnerName"), b"ci-runner-x");
        assert_eq!(plain("runnerId"), b"42");
        assert_eq!(plain("scaleSetId"), b"3");
    }

    #[test]
    fn a_pod_is_as_arc_makes_it() {
        let template = Template::of(&set()).unwrap();
        let pod = template.pod("ci-runner-x", "runner-uid", Some(6));
        let metadata = &pod["metadata"];
        assert_eq!(metadata["labels"]["actions-ephemeral-runner"], "True");
        assert_eq!(
            (&metadata["labels"]["pod"], &metadata["labels"]["pod-template-hash"]),
            (&json!("p"), &json!("x"))
        );
        assert_eq!(metadata["annotations"]["note"], "of the pod");
        assert_eq!(metadata["annotations"]["actions.github.com/patch-id"], "6");
        assert_eq!(metadata["ownerReferences"][0]["uid"], "runner-uid");
        let environment = pod["spec"]["containers"][0]["env"].as_array().unwrap();
        let names: Vec<&str> =
            environment.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
        assert_eq!(
            names,
            [
                "A",
                "ACTIONS_RUNNER_INPUT_JITCONFIG",
                "GITHUB_ACTIONS_RUNNER_EXTRA_USER_AGENT",
                "ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE"
            ]
        );
        assert_eq!(
            environment[1]["valueFrom"]["secretKeyRef"],
            json!({ "name": "ci-runner-x", "key": "jitToken" })
        );
        assert_eq!(environment[2]["value"], "actions-runner-controller/0.14.2");
        assert_eq!(pod["spec"]["containers"][1], json!({ "name": "side", "image": "y" }));
    }

    #[test]
    fn proxies_come_from_the_secret_that_arc_makes() {
        let mut set = set();
        set["spec"]["ephemeralRunnerSpec"]["proxy"] =
            json!({ "https": { "url": "http://p" }, "noProxy": ["example.com"] });
        let template = Template::of(&set).unwrap();
        let runner = template.runner("ci-runner-x", 6);
        let secret = runner["spec"]["proxySecretRef"].as_str().unwrap();
        assert!(secret.starts_with("ci-") && secret.ends_with("-runner-proxy"), "{secret}");
        let pod = template.pod("ci-runner-x", "u", None);
        let environment = pod["spec"]["containers"][0]["env"].as_array().unwrap();
        let proxies: Vec<&Value> =
            environment.iter().filter(|v| v["valueFrom"]["secretKeyRef"]["name"] == secret).collect();
        assert_eq!(proxies.len(), 2);
        assert_eq!((&proxies[0]["name"], &proxies[1]["name"]), (&json!("https_proxy"), &json!("no_proxy")));
    }

    #[test]
    fn older_releases_know_no_exit_code() {
        for (version, knows) in
            [("0.13.1", false), ("0.14.0", true), ("1.2.3", true), ("dev", true), ("", true)]
        {
            assert_eq!(knows_exit_code(version), knows, "{version}");
        }
    }

    #[test]
    fn a_set_that_cannot_be_read_is_left_to_arc() {
        let mut broken = set();
        broken["spec"]["ephemeralRunnerSpec"]["spec"]["containers"][0]["name"] = "other".into();
        assert!(Template::of(&broken).unwrap_err().to_string().contains("containers"));
        broken["spec"]["ephemeralRunnerSpec"]["runnerScaleSetId"] = Value::Null;
        assert!(Template::of(&broken).unwrap_err().to_string().contains("runnerScaleSetId"));
    }

    /// The known values of FNV-1a: `` is 0x811c9dc5, `a` is 0xe40c292c, `foobar` is 0xbf9cf968.
    #[test]
    fn the_hash_is_arcs() {
        assert_eq!(short_hash(""), "65bb57b6");
        assert_eq!(short_hash("a"), "7d6b4466");
        assert_eq!(short_hash("foobar"), "7658c79c");
    }
}
