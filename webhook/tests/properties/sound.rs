//! What must hold for every decision.

use headstart_externals::arch::Arch;
use headstart_externals::config::{Config, OwnTemplate};
use headstart_externals::state::{MountKind, PublishedState};
use headstart_webhook::decide::{Context, Decision, decide};
use headstart_webhook::reason::Rule;
use proptest::prelude::*;
use serde_json::Value;

const VOLUME: &str = "headstart-externals";
const FARM: &str = "headstart-farm";
const TEMPLATE: &str = "headstart-hook-template";

/// How a pod is decided over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) kind: MountKind,
    /// Whether the profile lets runners be paired.
    pub(crate) pairing: bool,
    /// Whether the agent runs on some nodes only, and the version is made for one architecture.
    pub(crate) selected: bool,
}

impl Setting {
    /// Every one.
    pub(crate) const ALL: [Self; 3] = [
        Self { kind: MountKind::HostPath, pairing: false, selected: true },
        Self { kind: MountKind::HostPath, pairing: true, selected: false },
        Self { kind: MountKind::Image, pairing: true, selected: true },
    ];

    /// The built-in profile.
    pub(crate) fn state(self) -> PublishedState {
        let mut state = PublishedState::immediate(&Config::embedded().unwrap());
        if self.pairing {
            state.versions[0].hooks.read_templates = true;
            state.versions[0].hooks.own_template = OwnTemplate::None;
        }
        if self.selected {
            state.node_selector = [("zone".to_owned(), "z".to_owned())].into();
            state.versions[0].arches = [Arch::Amd64].into();
        }
        state
    }

    /// Decides as `headstart explain --any-image` does, so that every recognised shape is rewritten.
    pub(crate) fn decide(self, pod: &mut Value) -> Decision {
        let state = self.state();
        let assumed = state.versions.first();
        decide(pod, Context { namespace: "n", kinds: &[self.kind], state: Ok(&state), assumed })
    }
}

/// The patch applies, gives the decided pod, holds documented edits alone, makes nothing that the API server would refuse,
/// and a second pass changes nothing.
pub(crate) fn check(before: &Value, setting: Setting) -> Result<Decision, TestCaseError> {
    let mut after = before.clone();
    let decision = setting.decide(&mut after);
    prop_assert_ne!(decision.reason.code(), "internal");
    let mut patched = before.clone();
    json_patch::patch(&mut patched, &decision.patch).expect("the patch applies");
    prop_assert_eq!(&patched, &after);
    if decision.patch.is_empty() {
        prop_assert_eq!(before, &after);
    }
    if let (Some(rule), false) = (decision.rule, decision.patch.is_empty()) {
        prop_assert_eq!(rest(before, rule), rest(&after, rule));
        prop_assert!(is_kept(&before["spec"]["affinity"], &after["spec"]["affinity"]));
    }
    let known = faults(before);
    for fault in faults(&after) {
        prop_assert!(known.contains(&fault), "{}", fault);
    }
    let again = setting.decide(&mut after);
    prop_assert_eq!(again.patch, vec![], "second pass: {}", again.reason);
    Ok(decision)
}

/// What Headstart must leave alone, given what it decided: all but externals and the way to them in this shape, and its
/// own marks.
fn rest(pod: &Value, rule: Rule) -> Value {
    let mut pod = pod.clone();
    let ours: &[&str] = match rule {
        Rule::WorkflowCurrent => &["externals", VOLUME, FARM, TEMPLATE],
        Rule::RunnerDind => &["dind-externals", VOLUME, FARM, TEMPLATE],
        _ => &[VOLUME, FARM, TEMPLATE],
    };
    let is_ours = |value: &Value| ours.iter().any(|name| value["name"] == *name);
    forget(&mut pod["metadata"]["labels"], "headstart.dev/version");
    forget(&mut pod["metadata"]["annotations"], "headstart.dev/decision");
    forget(&mut pod["metadata"]["annotations"], "headstart.dev/hook-template");
    let spec = &mut pod["spec"];
    spec["affinity"] = Value::Null;
    keep(&mut spec["volumes"], |volume| !is_ours(volume));
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            let copied = |mount: &Value| rule == Rule::WorkflowLegacy && mount["subPath"] == "externals";
            let shown = |mount: &Value| rule == Rule::WorkflowLegacy && is_ours(mount);
            keep(&mut container["volumeMounts"], |mount| !copied(mount) && !shown(mount) && !is_ours(mount));
            if rule == Rule::RunnerLegacy {
                keep(&mut container["env"], |entry| {
                    entry["name"] != "ACTIONS_RUNNER_CONTAINER_HOOK_TEMPLATE"
                });
            }
            if rule == Rule::WorkflowCurrent && container["name"] == "fs-init" {
                forget(container, "command");
            }
        }
    }
    if rule == Rule::RunnerDind {
        keep(&mut spec["initContainers"], |init| init["name"] != "init-dind-externals");
    }
    pod
}

fn forget(map: &mut Value, key: &str) {
    if let Some(object) = map.as_object_mut() {
        object.remove(key);
        if object.is_empty() {
            *map = Value::Null;
        }
    }
}

fn keep(list: &mut Value, wanted: impl Fn(&Value) -> bool) {
    if let Some(items) = list.as_array_mut() {
        items.retain(wanted);
        if items.is_empty() {
            *list = Value::Null;
        }
    }
}

/// Whether all that is in `before` is in `after`, at the same place.
fn is_kept(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Null, _) => true,
        (Value::Object(before), Value::Object(after)) => {
            before.iter().all(|(key, value)| after.get(key).is_some_and(|other| is_kept(value, other)))
        }
        (Value::Array(before), Value::Array(after)) => {
            before.len() <= after.len() && before.iter().zip(after).all(|(one, other)| is_kept(one, other))
        }
        _ => before == after,
    }
}

/// What the API server would refuse, of the kinds that an edit of ours could bring about.
pub(crate) fn faults(pod: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let names: Vec<Value> =
        list(&pod["spec"]["volumes"]).iter().map(|volume| volume["name"].clone()).collect();
    let double = |name: &&Value| names.iter().filter(|other| other == name).count() > 1;
    faults.extend(names.iter().filter(double).map(|name| format!("volume {name} twice")));
    for kind in ["containers", "initContainers", "ephemeralContainers"] {
        for container in list(&pod["spec"][kind]) {
            let mounts = list(&container["volumeMounts"]);
            for mount in &mounts {
                let path = &mount["mountPath"];
                if mounts.iter().filter(|other| other["mountPath"] == *path).count() > 1 {
                    faults.push(format!("{path} mounted twice"));
                }
                if !names.contains(&mount["name"]) {
                    faults.push(format!("no volume {}", mount["name"]));
                }
                let propagates = mount["mountPropagation"].as_str().is_some_and(|how| how != "None");
                if !mount["recursiveReadOnly"].is_null() && (mount["readOnly"] != true || propagates) {
                    faults.push(format!("{path} cannot be recursively read-only"));
                }
            }
        }
    }
    faults
}
