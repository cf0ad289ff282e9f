//! Writes verdicts to Node objects, only where they differ from what is there.

use headstart_externals::names::{CACHE_LABEL, NODE_CONDITION, UNSERVICEABLE};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use super::condition::{Condition, Verdict};

/// Writes conditions and labels.
pub struct NodeWriter(Api<Node>);

impl NodeWriter {
    /// A writer for all nodes.
    pub fn new(client: Client) -> Self {
        Self(Api::all(client))
    }

    /// Makes `node` say what `verdict` says.
    pub async fn write(&self, node: &Node, verdict: &Verdict) -> kube::Result<()> {
        let name = node.name_any();
        let params = PatchParams::default();
        let is_labelled = node.labels().get(CACHE_LABEL).is_some_and(|value| value == UNSERVICEABLE);
        if is_labelled != verdict.is_unserviceable {
            let value = verdict.is_unserviceable.then_some(UNSERVICEABLE);
            let patch = json!({ "metadata": { "labels": { CACHE_LABEL: value } } });
            self.0.patch(&name, &params, &Patch::Merge(patch)).await?;
            tracing::info!(node = name, unserviceable = verdict.is_unserviceable, "label changed");
        }
        let known = current(node);
        let Condition { status, reason, message } = &verdict.condition;
        if known.is_some_and(|known| says(known, &verdict.condition)) {
            return Ok(());
        }
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
        self.0.patch_status(&name, &params, &Patch::Strategic(patch)).await?;
        tracing::info!(node = name, status, reason, because = message, "condition changed");
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
