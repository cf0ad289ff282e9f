//! Any body: nothing panics, and what is decided over a pod can be applied and changes nothing the second time.

#![no_main]

use std::sync::LazyLock;

use headstart_externals::config::{Config, OwnTemplate};
use headstart_externals::state::{MountKind, PublishedState};
use headstart_webhook::decide::{Context, decide};
use headstart_webhook::review::{Object, Request};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// The built-in profile, and a copy of it whose runners may be paired.
static STATES: LazyLock<[PublishedState; 2]> = LazyLock::new(|| {
    let lean = PublishedState::immediate(&Config::embedded().expect("the built-in profile is sound"));
    let mut paired = lean.clone();
    paired.versions[0].hooks.read_templates = true;
    paired.versions[0].hooks.own_template = OwnTemplate::None;
    [lean, paired]
});

fuzz_target!(|body: &[u8]| {
    let pod = match Request::parse(body, true) {
        Ok(Request { object: Object::Read(pod), .. }) => pod,
        Ok(_) => return,
        Err(_) => match serde_json::from_slice(body) {
            Ok(pod) => pod,
            Err(_) => return,
        },
    };
    for state in STATES.iter() {
        for kind in [MountKind::HostPath, MountKind::Image] {
            let assumed = state.versions.first();
            check(&pod, Context { namespace: "n", kinds: &[kind], state: Ok(state), assumed });
        }
    }
});

fn check(before: &Value, context: Context<'_>) {
    let mut after = before.clone();
    let decision = decide(&mut after, context);
    assert_ne!(decision.reason.code(), "internal");
    let mut patched = before.clone();
    json_patch::patch(&mut patched, &decision.patch).expect("the patch applies");
    assert_eq!(patched, after);
    let again = decide(&mut after, context);
    assert!(again.patch.is_empty(), "second pass: {}", again.reason);
    assert_eq!(patched, after);
}
