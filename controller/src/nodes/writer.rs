//! Writes verdicts to Node objects, only where they differ from what is there.

use std::collections::BTreeSet;

use headstart_externals::names::{CACHE_LABEL, NODE_CONDITION, UNSERVICEABLE};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use super::condition::{Condition, Verdict};
use super::taints::without;

/// Writes conditions and labels, and takes startup taints away.
pub struct NodeWriter(Api<Node>);

impl NodeWriter {
    /// A writer for all nodes.
    pub fn new(client: Client) -> Self {
        Self(Api::all(client))
    }

    /// Makes `node` say what `verdict` says, and lets pods in once they would find their cache. Each write makes what was
    /// read of the node old, so a taint goes in a round that writes nothing else.
    pub async fn write(
        &self,
        node: &Node,
        verdict: &Verdict,
        startup: &BTreeSet<String>,
    ) -> kube::Result<()> {
        let is_labelled = self.label(node, verdict.is_unserviceable).await?;
        let is_told = self.condition(node, &verdict.condition).await?;
        if is_labelled || is_told || !verdict.is_served {
            return Ok(());
        }
        self.untaint(node, startup).await
    }

    async fn label(&self, node: &Node, unserviceable: bool) -> kube::Result<bool> {
        let name = node.name_any();
        let is_labelled = node.labels().get(CACHE_LABEL).is_some_and(|value| value == UNSERVICEABLE);
        if is_labelled == unserviceable {
            return Ok(false);
        }
        let patch =
            json!({ "metadata": { "labels": { CACHE_LABEL: unserviceable.then_some(UNSERVICEABLE) } } });
        self.0.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        tracing::info!(node = name, unserviceable, "label changed");
        Ok(true)
    }

    async fn condition(&self, node: &Node, condition: &Condition) -> kube::Result<bool> {
        let name = node.name_any();
        let known = current(node);
        if known.is_some_and(|known| says(known, condition)) {
            return Ok(false);
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
        self.0.patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
        tracing::info!(node = name, status, reason, because = message, "condition changed");
        Ok(true)
    }

    /// Fails where the node changed since it was read; the next round sees the change.
    async fn untaint(&self, node: &Node, startup: &BTreeSet<String>) -> kube::Result<()> {
        let Some((patch, keys)) = without(node, startup) else { return Ok(()) };
        let name = node.name_any();
        match self.0.patch(&name, &PatchParams::default(), &Patch::Json::<()>(patch)).await {
            Ok(_) => {
                tracing::info!(node = name, taints = ?keys, "the cache is ready: startup taints removed")
            }
            // A test of the patch did not hold.
            Err(kube::Error::Api(status)) if matches!(status.code, 409 | 422) => {
                tracing::debug!(
                    node = name,
                    "the node changed meanwhile; its taints stay until the next round"
                );
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
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
