//! Which taints go from a node whose cache is ready, and how they go without losing what others change meanwhile.

use std::collections::BTreeSet;

use json_patch::Patch;
use k8s_openapi::api::core::v1::{Node, Taint};
use serde_json::json;

/// A patch that takes away the taints with one of these keys, and their keys; `None` where there are none.
///
/// It applies only to the very object that was read: whoever changes the node meanwhile makes it fail.
pub(super) fn without<'n>(node: &'n Node, startup: &BTreeSet<String>) -> Option<(Patch, Vec<&'n str>)> {
    let taints = node.spec.as_ref()?.taints.as_deref()?;
    let goes = |(_, taint): &(usize, &Taint)| startup.contains(&taint.key);
    // From the end, so that the places of the others stay what they are.
    let going: Vec<(usize, &Taint)> = taints.iter().enumerate().rev().filter(goes).collect();
    if going.is_empty() {
        return None;
    }
    let version = json!({
        "op": "test", "path": "/metadata/resourceVersion", "value": node.metadata.resource_version,
    });
    let removals = going.iter().flat_map(|(at, taint)| {
        let path = format!("/spec/taints/{at}");
        [json!({ "op": "test", "path": path, "value": taint }), json!({ "op": "remove", "path": path })]
    });
    let patch = serde_json::from_value(std::iter::once(version).chain(removals).collect()).ok()?;
    Some((patch, going.iter().map(|(_, taint)| taint.key.as_str()).collect()))
}

/// Whether a node has any of these taints.
pub fn has_any(node: &Node, startup: &BTreeSet<String>) -> bool {
    without(node, startup).is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn node(taints: &Value) -> Value {
        json!({ "metadata": { "name": "a", "resourceVersion": "7" }, "spec": { "taints": taints } })
    }

    fn taint(key: &str, effect: &str) -> Value {
        json!({ "key": key, "effect": effect })
    }

    #[test]
    fn only_the_named_taints_go_and_only_from_what_was_read() {
        let ours = "headstart.dev/cache-not-ready";
        let startup = BTreeSet::from([ours.to_owned()]);
        let foreign = taint("node.cilium.io/agent-not-ready", "NoSchedule");
        let read = node(&json!([taint(ours, "NoSchedule"), foreign, taint(ours, "NoExecute")]));
        let typed: Node = serde_json::from_value(read.clone()).unwrap();
        let (patch, keys) = without(&typed, &startup).unwrap();
        assert_eq!(keys, [ours, ours]);
        let mut patched = read.clone();
        json_patch::patch(&mut patched, &patch).unwrap();
        assert_eq!(patched, node(&json!([foreign])));

        let mut newer = read.clone();
        newer["metadata"]["resourceVersion"] = json!("8");
        assert!(json_patch::patch(&mut newer, &patch).is_err());
        let mut moved = node(&json!([foreign, taint(ours, "NoSchedule"), taint(ours, "NoExecute")]));
        assert!(json_patch::patch(&mut moved, &patch).is_err());

        assert!(without(&typed, &BTreeSet::new()).is_none());
        let plain: Node = serde_json::from_value(json!({ "metadata": {} })).unwrap();
        assert!(without(&plain, &startup).is_none());
    }
}
