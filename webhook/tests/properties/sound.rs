//! What must hold for every decision.

use headstart_externals::config::{Config, OwnTemplate};
use headstart_externals::state::{MountKind, PublishedState};
use headstart_webhook::decide::{Context, Decision, decide};
use headstart_webhook::reason::{Reason, Rule};
use json_patch::PatchOperation;
use proptest::prelude::*;
use serde_json::Value;

/// How a pod is decided over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) kind: MountKind,
    /// Whether the profile lets runners be paired.
    pub(crate) pairing: bool,
}

impl Setting {
    /// Every one.
    pub(crate) const ALL: [Self; 3] = [
        Self { kind: MountKind::HostPath, pairing: false },
        Self { kind: MountKind::HostPath, pairing: true },
        Self { kind: MountKind::Image, pairing: true },
    ];

    /// The built-in profile.
    pub(crate) fn state(self) -> PublishedState {
        let mut state = PublishedState::immediate(&Config::embedded().unwrap());
        if self.pairing {
            state.versions[0].hooks.read_templates = true;
            state.versions[0].hooks.own_template = OwnTemplate::None;
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
    for operation in &decision.patch {
        prop_assert!(is_documented(operation, &decision), "{}", operation);
    }
    let known = faults(before);
    for fault in faults(&after) {
        prop_assert!(known.contains(&fault), "{}", fault);
    }
    let again = setting.decide(&mut after);
    prop_assert_eq!(again.patch, vec![], "second pass: {}", again.reason);
    Ok(decision)
}

/// Whether an operation is one of the documented edits.
fn is_documented(operation: &PatchOperation, decision: &Decision) -> bool {
    let path = operation.path().as_str();
    match decision.rule.unwrap() {
        Rule::RunnerDind if matches!(operation, PatchOperation::Remove(_)) => {
            let index = path.strip_prefix("/spec/initContainers/");
            index.is_some_and(|index| index.bytes().all(|b| b.is_ascii_digit()))
        }
        Rule::RunnerLegacy if decision.reason == Reason::Paired && path.ends_with("/env/-") => true,
        _ => !matches!(operation, PatchOperation::Remove(_)) && may_be_edited(path),
    }
}

/// Where edits may happen in every shape.
fn may_be_edited(path: &str) -> bool {
    let mount = |path: &str| {
        path.starts_with("/spec/") && path.contains("ontainers/") && path.contains("/volumeMounts")
    };
    let script = |path: &str| path.starts_with("/spec/initContainers/") && path.ends_with("/command/2");
    ["/metadata/labels", "/metadata/annotations", "/spec/volumes", "/spec/affinity"]
        .iter()
        .any(|ok| path.starts_with(ok))
        || path == "/metadata"
        || mount(path)
        || script(path)
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
