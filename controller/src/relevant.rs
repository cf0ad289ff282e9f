//! Which changes of watched objects matter to a round: renewed Leases and heartbeats of kubelets do not, and in a large
//! cluster there is one at every moment.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use headstart_externals::names::{NODE_CONDITION, REPORT_ANNOTATION};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::ResourceExt;
use kube::runtime::watcher::Event;

/// What matters of every object as it was last seen.
pub(crate) struct Relevant<K> {
    of: fn(&K) -> u64,
    known: HashMap<String, u64>,
    /// Of the list that is under way.
    listed: HashMap<String, u64>,
}

impl<K: ResourceExt> Relevant<K> {
    /// `of` sums up what matters of an object.
    pub(crate) fn new(of: fn(&K) -> u64) -> Self {
        Self { of, known: HashMap::new(), listed: HashMap::new() }
    }

    /// Takes note of what a watch brought; whether a round has to look at it.
    pub(crate) fn is_news(&mut self, event: &Event<K>) -> bool {
        match event {
            Event::Apply(object) => {
                let sum = (self.of)(object);
                self.known.insert(object.name_any(), sum) != Some(sum)
            }
            Event::Delete(object) => self.known.remove(&object.name_any()).is_some(),
            Event::Init => {
                self.listed.clear();
                false
            }
            Event::InitApply(object) => {
                self.listed.insert(object.name_any(), (self.of)(object));
                false
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                std::mem::replace(&mut self.known, listed) != self.known
            }
        }
    }
}

/// Its identity, labels and taints, and what is said of it by its kubelet and by us.
pub(crate) fn of_node(node: &Node) -> u64 {
    let mut sum = DefaultHasher::new();
    (node.uid(), node.labels()).hash(&mut sum);
    for taint in node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()) {
        (&taint.key, &taint.value, &taint.effect).hash(&mut sum);
    }
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    for condition in
        conditions.filter(|condition| ["Ready", NODE_CONDITION].contains(&condition.type_.as_str()))
    {
        (&condition.type_, &condition.status, &condition.reason, &condition.message).hash(&mut sum);
    }
    sum.finish()
}

/// What it says; when it was said is looked at by the clock.
pub(crate) fn of_report(lease: &Lease) -> u64 {
    let mut sum = DefaultHasher::new();
    (lease.uid(), lease.annotations().get(REPORT_ANNOTATION)).hash(&mut sum);
    sum.finish()
}

/// Everything: they change seldom, and policies follow their labels.
pub(crate) fn of_namespace(namespace: &Namespace) -> u64 {
    let mut sum = DefaultHasher::new();
    namespace.resource_version().hash(&mut sum);
    sum.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn lease(report: &str, renewed: &str) -> Lease {
        serde_json::from_value(json!({
            "metadata": { "name": "a", "uid": "u", "annotations": { REPORT_ANNOTATION: report } },
            "spec": { "renewTime": renewed },
        }))
        .unwrap()
    }

    fn node(change: impl FnOnce(&mut Value)) -> Node {
        let mut node = json!({
            "metadata": { "name": "a", "uid": "u", "labels": { "pool": "x" } },
            "spec": { "taints": [{ "key": "k", "effect": "NoSchedule" }] },
            "status": { "conditions": [
                { "type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z" },
                { "type": "MemoryPressure", "status": "False" },
            ] },
        });
        change(&mut node);
        serde_json::from_value(node).unwrap()
    }

    #[test]
    fn a_lease_that_is_only_renewed_is_no_news() {
        let mut reports = Relevant::new(of_report);
        let first = "2026-01-01T00:00:00.000000Z";
        assert!(reports.is_news(&Event::Apply(lease("x", first))));
        assert!(!reports.is_news(&Event::Apply(lease("x", "2026-01-01T00:01:00.000000Z"))));
        assert!(reports.is_news(&Event::Apply(lease("y", first))));
        for listed in ["y", "z"] {
            assert!(!reports.is_news(&Event::Init));
            assert!(!reports.is_news(&Event::InitApply(lease(listed, first))));
            assert_eq!(reports.is_news(&Event::InitDone), listed == "z");
        }
        reports.is_news(&Event::Init);
        assert!(reports.is_news(&Event::InitDone), "it is gone");
        assert!(!reports.is_news(&Event::Delete(lease("y", first))), "that was told");
    }

    #[test]
    fn of_a_node_only_what_decides_is_news() {
        let mut nodes = Relevant::new(of_node);
        nodes.is_news(&Event::Apply(node(|_| {})));
        for (path, value, is_news) in [
            ("/status/conditions/0/lastHeartbeatTime", "2026-01-01T00:05:00Z", false),
            ("/status/conditions/1/status", "True", false),
            ("/status/conditions/0/status", "False", true),
            ("/metadata/labels/pool", "y", true),
            ("/spec/taints/0/effect", "NoExecute", true),
            ("/metadata/uid", "v", true),
        ] {
            let changed = node(|node| *node.pointer_mut(path).unwrap() = value.into());
            assert_eq!(nodes.is_news(&Event::Apply(changed)), is_news, "{path}");
            nodes.is_news(&Event::Apply(node(|_| {})));
        }
    }
}
