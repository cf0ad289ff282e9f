//! What holds for every pod, however mangled: the patch applies, a second pass changes nothing, and nothing but the
//! documented edits is touched.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod generated;
mod mangled;
mod sound;

use std::collections::BTreeSet;

use generated::generated;
use headstart_externals::state::MountKind;
use headstart_webhook::decide::{Context, decide};
use headstart_webhook::reason::Reason;
use mangled::{fixtures, mangled};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use sound::{Setting, check, faults};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decisions_are_sound_for_every_recorded_pod_however_mangled(
        before in mangled(),
        setting in select(Setting::ALL.to_vec()),
    ) {
        check(&before, setting)?;
    }

    #[test]
    fn decisions_are_sound_for_pods_that_nobody_recorded(
        before in generated(),
        setting in select(Setting::ALL.to_vec()),
    ) {
        check(&before, setting)?;
    }

    #[test]
    fn without_a_state_nothing_is_ever_changed(before in mangled()) {
        let mut after = before.clone();
        let context = Context { namespace: "n", kinds: &[MountKind::HostPath], state: Err(Reason::StateUnknown), assumed: None };
        prop_assert_eq!(decide(&mut after, context).patch, vec![]);
        prop_assert_eq!(before, after);
    }
}

/// A generator whose pods are all left alone would prove nothing.
#[test]
fn generated_pods_are_rewritten_in_every_way() {
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    let generated = generated();
    for _ in 0..2_000 {
        let mut pod = generated.new_tree(&mut runner).unwrap().current();
        let decision = Setting { kind: MountKind::HostPath, pairing: true, selected: false }.decide(&mut pod);
        if !decision.patch.is_empty() {
            seen.insert(format!("{}/{}", decision.rule.unwrap(), decision.reason));
        }
    }
    let wanted = [
        "runner-legacy/paired",
        "runner-legacy/lean",
        "runner-older/lean",
        "runner-dind/mounted",
        "workflow-legacy/mounted",
        "workflow-current/mounted",
        "workflow-legacy/completed",
    ];
    for wanted in wanted {
        assert!(seen.contains(wanted), "{wanted} is not among {seen:?}");
    }
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
    let all =
        Setting::ALL.into_iter().flat_map(|setting| fixtures().into_iter().map(move |pod| (setting, pod)));
    for (setting, before) in all {
        let mut pod = before.clone();
        let first = setting.decide(&mut pod);
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
            let again = setting.decide(&mut pod);
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
