//! What holds for every pod, however mangled: the patch applies, a second pass changes nothing, and nothing but the
//! documented edits is touched.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

use headstart_externals::config::Config;
use headstart_externals::state::{MountKind, PublishedState};
use headstart_webhook::decide::{Context, Decision, decide};
use headstart_webhook::reason::{Reason, Rule};
use json_patch::PatchOperation;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

/// Every recorded pod.
fn fixtures() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let mut pods = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "json") {
                let value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
                pods.push(match value["kind"].as_str() {
                    Some("AdmissionReview") => value["request"]["object"].clone(),
                    Some("Job") => value["spec"]["template"].clone(),
                    _ => value,
                });
            }
        }
    }
    assert!(pods.len() > 100);
    pods
}

fn state() -> PublishedState {
    PublishedState::immediate(&Config::embedded().unwrap())
}

/// Decides as `headstart explain --any-image` does, so that every recognised shape is rewritten.
fn decide_freely(pod: &mut Value, kind: MountKind) -> Decision {
    let state = state();
    let assumed = state.versions.first();
    decide(pod, Context { namespace: "n", kinds: &[kind], state: Ok(&state), assumed })
}

/// Pointers to all values in a document.
fn pointers(value: &Value, at: String, all: &mut Vec<String>) {
    all.push(at.clone());
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| pointers(value, format!("{at}/{}", escaped(key)), all))
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, value)| pointers(value, format!("{at}/{i}"), all))
        }
        _ => {}
    }
}

/// A value that may take the place of any other.
fn junk() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!({})),
        Just(json!([])),
        Just(json!([{}])),
        Just(json!("")),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        select(vec![
            "/__e",
            "/__e/",
            "/",
            "externals",
            "work",
            "fs-init",
            "runner",
            "True",
            "headstart-externals",
            "/home/runner/_work",
            "/_work",
            "_work",
            "../_work",
            "/home/runner/externals",
            "/home/runner",
            "mv /home/runner/externals/* /mnt/externals",
            "windows",
            "worker-1",
            "None",
            "HostToContainer",
            "/__e/x",
        ])
        .prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ]
}

/// A recorded pod with some values replaced, removed or doubled.
fn mangled() -> impl Strategy<Value = Value> {
    let mutations = prop::collection::vec((any::<Index>(), junk(), 0..3u8), 0..6);
    (select(fixtures()), mutations).prop_map(|(mut pod, mutations)| {
        for (at, junk, how) in mutations {
            let mut all = Vec::new();
            pointers(&pod, String::new(), &mut all);
            let pointer = at.get(&all).clone();
            match how {
                0 => *pod.pointer_mut(&pointer).unwrap() = junk,
                1 => remove(&mut pod, &pointer),
                _ => double(&mut pod, &pointer),
            }
        }
        pod
    })
}

fn parent<'a>(pod: &'a mut Value, pointer: &str) -> Option<(&'a mut Value, String)> {
    let (parent, key) = pointer.rsplit_once('/')?;
    Some((pod.pointer_mut(parent)?, key.replace("~1", "/").replace("~0", "~")))
}

fn remove(pod: &mut Value, pointer: &str) {
    match parent(pod, pointer) {
        Some((Value::Object(map), key)) => drop(map.remove(&key)),
        Some((Value::Array(list), key)) => drop(list.remove(key.parse::<usize>().unwrap())),
        _ => {}
    }
}

fn double(pod: &mut Value, pointer: &str) {
    if let Some((Value::Array(list), key)) = parent(pod, pointer) {
        list.push(list[key.parse::<usize>().unwrap()].clone());
    }
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

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decisions_are_sound_for_every_pod(before in mangled(), image in any::<bool>()) {
        let kind = if image { MountKind::Image } else { MountKind::HostPath };
        let mut after = before.clone();
        let decision = decide_freely(&mut after, kind);
        prop_assert_ne!(decision.reason.code(), "internal");
        let mut patched = before.clone();
        json_patch::patch(&mut patched, &decision.patch).expect("the patch applies");
        prop_assert_eq!(&patched, &after);
        if decision.patch.is_empty() {
            prop_assert_eq!(&before, &after);
        }
        for operation in &decision.patch {
            prop_assert!(is_documented(operation, &decision), "{}", operation);
        }
        for fault in faults(&after) {
            prop_assert!(faults(&before).contains(&fault), "{}", fault);
        }
        let mut twice = after.clone();
        let again = decide_freely(&mut twice, kind);
        prop_assert_eq!(again.patch, vec![], "second pass: {}", again.reason);
    }

    #[test]
    fn without_a_state_nothing_is_ever_changed(before in mangled()) {
        let mut after = before.clone();
        let context = Context { namespace: "n", kinds: &[MountKind::HostPath], state: Err(Reason::StateUnknown), assumed: None };
        prop_assert_eq!(decide(&mut after, context).patch, vec![]);
        prop_assert_eq!(before, after);
    }
}

/// What the API server would refuse, of the kinds that an edit of ours could bring about.
fn faults(pod: &Value) -> Vec<String> {
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

/// A container as the hooks make it, before anything was rewritten.
fn late(mut container: Value, change: impl Fn(&mut Value)) -> Value {
    container["name"] = json!("late");
    for mount in container["volumeMounts"].as_array_mut().unwrap() {
        change(mount);
    }
    container
}

#[test]
fn a_container_that_comes_later_gets_the_same_mounts() {
    let mut completed = 0;
    for (kind, before) in [MountKind::HostPath, MountKind::Image]
        .into_iter()
        .flat_map(|k| fixtures().into_iter().map(move |p| (k, p)))
    {
        let mut pod = before.clone();
        let first = decide_freely(&mut pod, kind);
        if first.patch.is_empty() || !first.rule.unwrap().code().starts_with("workflow") {
            continue;
        }
        for (list, propagation) in [
            ("containers", Value::Null),
            ("initContainers", Value::Null),
            ("containers", json!("HostToContainer")),
        ] {
            let mut pod = pod.clone();
            // Another webhook may take our label away; the volume still tells the version.
            pod["metadata"]["labels"].as_object_mut().unwrap().remove("headstart.dev/version");
            let container = late(before["spec"]["containers"][0].clone(), |mount| {
                if !propagation.is_null() {
                    mount["mountPropagation"] = propagation.clone();
                }
            });
            if pod["spec"][list].is_null() {
                pod["spec"][list] = json!([]);
            }
            pod["spec"][list].as_array_mut().unwrap().push(container);
            let again = decide_freely(&mut pod, kind);
            assert_eq!((again.reason.code(), &again.version), ("completed", &first.version));
            assert_eq!(pod["metadata"]["labels"]["headstart.dev/version"].as_str(), first.version.as_deref());
            let late = pod["spec"][list].as_array().unwrap().last().unwrap();
            let externals = late["volumeMounts"]
                .as_array()
                .unwrap()
                .iter()
                .find(|mount| mount["mountPath"] == "/__e")
                .unwrap();
            let legacy_init = list == "initContainers" && first.rule.unwrap().code() == "workflow-legacy";
            assert_eq!(externals["readOnly"] == json!(true), !legacy_init, "{list}: {externals}");
            assert_eq!(faults(&pod), faults(&before));
            completed += 1;
        }
    }
    assert!(completed > 300);
}
