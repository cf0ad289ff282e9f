//! Writes verdicts to Node objects, only where they differ from what is there. A node that cannot be written stops no
//! other.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use headstart_externals::names::{CACHE_LABEL, NODE_CONDITION, UNSERVICEABLE};
use headstart_runtime::cluster::{CallError, within};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use super::condition::{Condition, Verdict};
use super::memory::Memory;
use super::taints::without;
use crate::metrics::Metrics;

/// Longest time for one call.
const CALL: Duration = Duration::from_secs(5);

/// Nodes that are written to at once.
const AT_ONCE: usize = 16;

/// Longest time that one round spends on writing; the rest follows in the next one.
const ROUND: Duration = Duration::from_secs(20);

/// What became of a node: `None` if nothing was to be written, else its new resource version as far as it is known.
type Written = Option<Option<String>>;

/// Writes conditions and labels, and takes startup taints away.
pub struct NodeWriter {
    nodes: Api<Node>,
    metrics: Metrics,
    memory: Memory,
}

impl NodeWriter {
    /// A writer for all nodes.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { nodes: Api::all(client), metrics, memory: Memory::default() }
    }

    /// Makes nodes say what their verdicts say, and lets pods in where they would find their cache.
    pub async fn write(&mut self, judged: &[(&Node, &Verdict)], startup: &BTreeSet<String>, now: Instant) {
        self.memory.retain(judged.iter().map(|(node, _)| *node));
        let mut due: Vec<(&Node, &Verdict)> = judged.to_vec();
        due.retain(|(node, verdict)| self.memory.may_write(node, verdict, now));
        // So that each has its turn, however slow the API server is.
        due.sort_by_key(|(node, _)| self.memory.last(node));
        let calls = Calls(self.nodes.clone());
        let writes = due.into_iter().map(|(node, verdict)| {
            let calls = &calls;
            async move { (node, verdict, calls.write(node, verdict, startup).await) }
        });
        // Collected, since a closure over references is not general enough for a task.
        let writes: Vec<_> = writes.collect();
        let mut writes = stream::iter(writes).buffer_unordered(AT_ONCE);
        let _ = tokio::time::timeout(ROUND, async {
            while let Some((node, verdict, written)) = writes.next().await {
                self.note(node, verdict, written, now);
            }
        })
        .await;
    }

    fn note(&mut self, node: &Node, verdict: &Verdict, written: Result<Written, CallError>, now: Instant) {
        match written {
            Ok(None) => self.memory.is_right(node),
            Ok(Some(after)) => self.memory.wrote(node, verdict, after, now),
            // It has gone since it was read.
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                self.metrics.failed("nodes");
                if self.memory.failed(node, verdict, &error.to_string(), now) {
                    tracing::warn!(node = node.name_any(), %error, "failed to write to a node; trying again");
                }
            }
        }
    }
}

struct Calls(Api<Node>);

impl Calls {
    /// Each write makes what was read of the node old, so a taint goes in a round that writes nothing else.
    async fn write(
        &self,
        node: &Node,
        verdict: &Verdict,
        startup: &BTreeSet<String>,
    ) -> Result<Written, CallError> {
        let labelled = self.label(node, verdict.is_unserviceable).await?;
        let told = self.condition(node, &verdict.condition).await?;
        if told.is_some() || labelled.is_some() {
            return Ok(told.or(labelled));
        }
        // Rewritten pods keep away from a node with our label; all others are none of our business.
        match verdict.opens(is_labelled(node)) {
            Some(why) => self.untaint(node, startup, why).await,
            None => Ok(None),
        }
    }

    async fn label(&self, node: &Node, unserviceable: bool) -> Result<Written, CallError> {
        let name = node.name_any();
        if is_labelled(node) == unserviceable {
            return Ok(None);
        }
        let patch =
            json!({ "metadata": { "labels": { CACHE_LABEL: unserviceable.then_some(UNSERVICEABLE) } } });
        let changed =
            within(CALL, self.0.patch(&name, &PatchParams::default(), &Patch::Merge(patch))).await?;
        tracing::info!(node = name, unserviceable, "label changed");
        Ok(Some(changed.resource_version()))
    }

    async fn condition(&self, node: &Node, condition: &Condition) -> Result<Written, CallError> {
        let name = node.name_any();
        let known = current(node);
        if known.is_some_and(|known| says(known, condition)) {
            return Ok(None);
        }
        let Condition { status, reason, message } = condition;
        let now = Timestamp::now().to_string();
        let turned = match known {
            Some(known) if known.status == *status => {
                known.last_transition_time.as_ref().map_or(now.clone(), |time| time.0.to_string())
            }
            _ => now.clone(),
        };
        let condition = json!({
            "type": NODE_CONDITION, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": turned, "lastHeartbeatTime": now,
        });
        let patch = json!({ "status": { "conditions": [condition] } });
        let patch = Patch::Strategic(patch);
        let changed = within(CALL, self.0.patch_status(&name, &PatchParams::default(), &patch)).await?;
        tracing::info!(node = name, status, reason, because = message, "condition changed");
        Ok(Some(changed.resource_version()))
    }

    /// Fails where the node changed since it was read; a later round sees the change.
    async fn untaint(
        &self,
        node: &Node,
        startup: &BTreeSet<String>,
        why: &str,
    ) -> Result<Written, CallError> {
        let Some((patch, keys)) = without(node, startup) else { return Ok(None) };
        let name = node.name_any();
        let patch = Patch::Json::<()>(patch);
        match within(CALL, self.0.patch(&name, &PatchParams::default(), &patch)).await {
            Ok(changed) => {
                tracing::info!(node = name, taints = ?keys, "{why}: startup taints removed");
                Ok(Some(changed.resource_version()))
            }
            // A test of the patch did not hold.
            Err(CallError::Refused(status)) if matches!(status.code, 409 | 422) => {
                tracing::debug!(
                    node = name,
                    "the node changed meanwhile; its taints stay until that is seen"
                );
                Ok(Some(None))
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether rewritten pods keep away from a node.
pub fn is_labelled(node: &Node) -> bool {
    node.labels().get(CACHE_LABEL).is_some_and(|value| value == UNSERVICEABLE)
}

/// Whether a node says anything of ours that is not true of one that no agent runs on.
pub fn has_traces(node: &Node) -> bool {
    is_labelled(node)
        || current(node).is_some_and(|known| !says(known, &Verdict::not_selected(Duration::ZERO).condition))
}

fn current(node: &Node) -> Option<&NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == NODE_CONDITION)
}

fn says(known: &NodeCondition, condition: &Condition) -> bool {
    known.status == condition.status
        && known.reason.as_deref() == Some(&condition.reason)
        && known.message.as_deref() == Some(&condition.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_an_agent_has_traces_as_long_as_it_says_anything_else() {
        let node = |label: &str, reason: &str| {
            let message = Verdict::not_selected(Duration::ZERO).condition.message;
            let condition = json!({
                "type": NODE_CONDITION, "status": "Unknown", "reason": reason, "message": message,
            });
            let labels = json!({ CACHE_LABEL: label });
            serde_json::from_value::<Node>(
                json!({ "metadata": { "labels": labels }, "status": { "conditions": [condition] } }),
            )
            .unwrap()
        };
        assert!(has_traces(&node(UNSERVICEABLE, "NotSelected")));
        assert!(has_traces(&node("", "CacheReady")));
        assert!(!has_traces(&node("", "NotSelected")));
        assert!(!has_traces(&Node::default()), "it never had an agent");
    }
}
