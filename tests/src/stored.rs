//! What must be true of a stored pod that was given the cache, held against the same pod stored without Headstart.

use std::collections::BTreeSet;

use headstart_externals::names::{CACHE_LABEL, DECISION_ANNOTATION, TEMPLATE_ANNOTATION, VERSION_LABEL};
use serde_json::{Value, json};

use crate::cases::{Case, version};

/// The lists of containers that a stored pod may have.
const LISTS: [&str; 2] = ["containers", "initContainers"];

/// Volumes whose content is the cache, or was to be filled by a copy.
const EXTERNALS: [&str; 5] =
    ["headstart-externals", "headstart-farm", "headstart-hook-template", "externals", "dind-externals"];

/// The variable that names the hook template of a paired runner.
const TEMPLATE: &str = "ACTIONS_RUNNER_CONTAINER_HOOK_TEMPLATE";

/// How the tree gets into a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// As a folder of the node.
    HostPath,
    /// As an image volume.
    Image,
}

/// What a pod is expected to have been given.
struct Expected {
    version: String,
    image: String,
    shown: Shown,
}

/// Whether Headstart says of the pod that it changed it.
pub fn is_decided(pod: &Value) -> bool {
    pod["metadata"]["annotations"][DECISION_ANNOTATION].is_string()
}

/// Asserts that both were stored alike: Headstart left no trace.
pub fn assert_untouched(what: &str, stock: &Value, stored: &Value) {
    assert_eq!(normal(stored), normal(stock), "{what} differs from what is stored without Headstart");
}

/// Asserts that the pod of a case carries the cache, complete and read-only, and that all else is as without Headstart.
pub fn assert_served(case: &Case, shown: Shown, stock: &Value, stored: &Value) {
    let expected = Expected::of(case, shown);
    let what = &case.what;
    let decision = case.decision.expect("a case that is served");
    // The farm is a folder of the node.
    let decision =
        if shown == Shown::Image { decision.replace("paired", "lean") } else { decision.to_owned() };
    assert_eq!(stored["metadata"]["annotations"][DECISION_ANNOTATION], decision, "{what}");
    assert_mounted(case, shown, stock, stored);
    let copies = |container: &Value| {
        container["name"] == "init-dind-externals" || script(container).contains("/home/runner/externals/*")
    };
    assert!(!containers(stored).any(copies), "{what} still copies: {stored:#}");
    let has_farm = volumes(stored).any(|volume| volume["hostPath"]["path"] == expected.farm());
    assert_eq!(has_farm, decision.ends_with("/paired"), "{what}: {stored:#}");
}

/// Asserts that the pod shows the version's tree wherever its stock twin shows externals, and is otherwise the same.
pub fn assert_mounted(case: &Case, shown: Shown, stock: &Value, stored: &Value) {
    let (expected, what) = (Expected::of(case, shown), &case.what);
    assert_eq!(stored["metadata"]["labels"][VERSION_LABEL], expected.version, "{what}");
    expected.assert_volumes(what, stock, stored);
    expected.assert_mounts(what, stored);
    for (container, path) in places(stock) {
        let found = containers(stored).find(|found| found["name"] == container).unwrap();
        let mount = mounts(found).find(|mount| mount["mountPath"] == path);
        let volume = mount.and_then(|mount| volumes(stored).find(|volume| volume["name"] == mount["name"]));
        let is_ours = volume.is_some_and(|volume| expected.is_ours(volume));
        assert!(is_ours, "{what}: {container} does not see the tree at {path}: {stored:#}");
    }
    if stock["spec"]["nodeName"].is_null() && stock["spec"]["affinity"].is_null() {
        assert!(stored["spec"]["affinity"].to_string().contains(CACHE_LABEL), "{what}: {stored:#}");
    }
    assert_eq!(rest(stored), rest(stock), "{what}: more was changed than the cache needs");
}

impl Expected {
    fn of(case: &Case, shown: Shown) -> Self {
        let (version, image) = version(case.profile);
        Self { version, image, shown }
    }

    fn folder(&self, name: &str) -> String {
        format!("/var/lib/headstart/versions/{}/{name}", self.version)
    }

    fn farm(&self) -> String {
        self.folder("farm")
    }

    /// Whether a volume is the tree or, in paired runners, the farm.
    fn is_ours(&self, volume: &Value) -> bool {
        let folder = |name: &str| json!({ "path": self.folder(name), "type": "Directory" });
        match self.shown {
            Shown::HostPath => ["tree", "farm"].iter().any(|name| volume["hostPath"] == folder(name)),
            Shown::Image => {
                volume["image"] == json!({ "reference": self.image, "pullPolicy": "IfNotPresent" })
            }
        }
    }

    fn assert_volumes(&self, what: &str, stock: &Value, stored: &Value) {
        let names: Vec<&str> = volumes(stored).map(|volume| text(&volume["name"])).collect();
        let distinct: BTreeSet<&&str> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{what} has a volume twice: {names:?}");
        assert!(volumes(stored).any(|volume| self.is_ours(volume)), "{what} has no tree: {stored:#}");
        let other = volumes(stored).find(|volume| {
            let foreign = !volume["hostPath"].is_null() || !volume["image"].is_null();
            foreign && !self.is_ours(volume) && !volumes(stock).any(|known| known == *volume)
        });
        assert_eq!(other, None, "{what} has a volume that nobody asked for");
    }

    fn assert_mounts(&self, what: &str, stored: &Value) {
        let ours: BTreeSet<&str> = volumes(stored)
            .filter(|volume| self.is_ours(volume))
            .map(|volume| text(&volume["name"]))
            .collect();
        let recursive = match self.shown {
            Shown::HostPath => json!("IfPossible"),
            Shown::Image => Value::Null,
        };
        for container in containers(stored) {
            let paths: Vec<&str> = mounts(container).map(|mount| text(&mount["mountPath"])).collect();
            let distinct: BTreeSet<&&str> = paths.iter().collect();
            assert_eq!(distinct.len(), paths.len(), "{what} has two mounts at one path: {paths:?}");
            for mount in mounts(container).filter(|mount| ours.contains(text(&mount["name"]))) {
                assert_eq!(mount["readOnly"], true, "{what}: {container:#}");
                assert_eq!(mount["recursiveReadOnly"], recursive, "{what}: {container:#}");
                for field in ["subPath", "subPathExpr", "mountPropagation"] {
                    assert!(mount[field].is_null(), "{what}: {container:#}");
                }
            }
        }
    }
}

/// Where the containers of a pod see externals without Headstart: their names, and the paths.
fn places(stock: &Value) -> Vec<(&str, &str)> {
    let mut places = Vec::new();
    for container in containers(stock).filter(|found| found["name"] != "init-dind-externals") {
        let name = text(&container["name"]);
        if name == "runner" && mounts(container).any(|mount| mount["mountPath"] == "/runner") {
            let within =
                container["env"].to_string().contains(r#"{"name":"DOCKERD_IN_RUNNER","value":"true"}"#);
            places.push((name, if within { "/runnertmp/externals" } else { "/runnertmp/externalstmp" }));
        } else if container["env"].to_string().contains("/k8s/index.js") {
            places.push((name, "/home/runner/externals"));
        }
        let shows = |mount: &&Value| {
            let volume = text(&mount["name"]);
            ["externals", "dind-externals"].contains(&volume) || mount["subPath"] == "externals"
        };
        places.extend(mounts(container).filter(shows).map(|mount| (name, text(&mount["mountPath"]))));
    }
    places
}

/// Without what differs between any two objects: identities, times, the random name of the account's volume.
fn normal(object: &Value) -> Value {
    let mut text = object.to_string().replace(text(&object["metadata"]["uid"]), "uid");
    let account = volumes(object).map(|volume| volume["name"].as_str().unwrap());
    if let Some(name) = account.into_iter().find(|name| name.starts_with("kube-api-access-")) {
        text = text.replace(name, "kube-api-access");
    }
    let mut object: Value = serde_json::from_str(&text).unwrap();
    object.as_object_mut().unwrap().remove("status");
    let metadata = object["metadata"].as_object_mut().unwrap();
    for field in ["uid", "creationTimestamp", "resourceVersion", "managedFields", "namespace", "generation"] {
        metadata.remove(field);
    }
    object
}

/// What Headstart must leave alone: everything but externals, the way to them, and its own marks.
fn rest(pod: &Value) -> Value {
    let mut pod = normal(pod);
    let metadata = &mut pod["metadata"];
    forget(&mut metadata["labels"], &[VERSION_LABEL]);
    forget(&mut metadata["annotations"], &[DECISION_ANNOTATION, TEMPLATE_ANNOTATION]);
    let spec = &mut pod["spec"];
    spec["affinity"] = Value::Null;
    retain(&mut spec["volumes"], |volume| !EXTERNALS.contains(&text(&volume["name"])));
    retain(&mut spec["initContainers"], |container| container["name"] != "init-dind-externals");
    for list in LISTS {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            retain(&mut container["volumeMounts"], |mount| {
                !EXTERNALS.contains(&text(&mount["name"])) && mount["mountPath"] != "/__e"
            });
            retain(&mut container["env"], |entry| entry["name"] != TEMPLATE);
            if container["name"] == "fs-init" {
                container["command"][2] = without_move(script(container)).into();
            }
        }
    }
    pod
}

/// A script without the segment that moves externals.
fn without_move(script: &str) -> String {
    let kept: Vec<&str> =
        script.split(" && ").filter(|segment| !segment.contains(" /home/runner/externals/* ")).collect();
    if kept.is_empty() { "true".to_owned() } else { kept.join(" && ") }
}

/// Takes members away; a map without any is the same as none.
fn forget(map: &mut Value, keys: &[&str]) {
    let Some(members) = map.as_object_mut() else { return };
    members.retain(|key, _| !keys.contains(&key.as_str()));
    if members.is_empty() {
        *map = Value::Null;
    }
}

/// Takes elements away; a list without any is the same as none.
fn retain(list: &mut Value, is_kept: impl FnMut(&Value) -> bool) {
    let Some(items) = list.as_array_mut() else { return };
    items.retain(is_kept);
    if items.is_empty() {
        *list = Value::Null;
    }
}

/// The script of a container that runs one.
fn script(container: &Value) -> &str {
    text(&container["command"][2])
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    LISTS.into_iter().flat_map(|list| items(&pod["spec"][list]))
}

fn volumes(pod: &Value) -> impl Iterator<Item = &Value> {
    items(&pod["spec"]["volumes"])
}

fn mounts(container: &Value) -> impl Iterator<Item = &Value> {
    items(&container["volumeMounts"])
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
