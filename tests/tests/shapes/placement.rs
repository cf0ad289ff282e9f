//! Placement: rewritten pods keep away from a node whose cache is not serviceable; all others may run there.

use headstart_externals::names::{CACHE_LABEL, UNSERVICEABLE};
use headstart_tests::bed::boxed::NODE;
use headstart_tests::bed::{Cluster, Turn, headstart};
use headstart_tests::jobs;
use headstart_tests::pods::{Pods, version_of};
use headstart_tests::wait::until;
use serde_json::{Value, json};

use super::turn;

const WORKFLOW: &str = "hooks/v0.8.1/prepare-plain.json";

#[tokio::test]
async fn rewritten_pods_keep_away_from_an_unserviceable_node_until_it_serves_again() {
    let Some(turn) = turn().await else { return };
    let (namespace, plain) = (turn.opted_in("placed", "hostpath", &[]).await, turn.plain("unplaced"));
    let (pods, others) = (turn.pods(&namespace), turn.pods(&plain));
    let unserviceable = Unserviceable::make(&turn).await;

    let free = pods.create(&workflow(&pods, "free"));
    assert!(version_of(&free).is_string(), "{free}");
    let choosy = pods.create(&choosy(&pods));
    assert_eq!(expressions(&choosy), json!([own(), healthy(), selected()]), "{choosy}");
    let mut pinned = workflow(&pods, "pinned");
    pinned["spec"]["nodeName"] = NODE.into();
    let pinned = pods.create(&pinned);
    assert!(version_of(&pinned).is_string(), "{pinned}");
    let unrewritten = others.create(&workflow(&others, "unrewritten"));
    assert!(version_of(&unrewritten).is_null(), "{unrewritten}");

    pods.runs("pinned").await;
    others.runs("unrewritten").await;
    for waiting in ["free", "choosy"] {
        stays_away(&pods, waiting).await;
    }
    drop(unserviceable);
    for waiting in ["free", "choosy"] {
        pods.runs(waiting).await;
    }
}

fn workflow(pods: &Pods<'_>, name: &str) -> Value {
    let mut pod = jobs::workflow(WORKFLOW, pods.namespace());
    pod["metadata"]["name"] = name.into();
    pod
}

/// A pod that has a wish of its own.
fn choosy(pods: &Pods<'_>) -> Value {
    let mut pod = workflow(pods, "choosy");
    let terms = json!({ "nodeSelectorTerms": [{ "matchExpressions": [own()] }] });
    pod["spec"]["affinity"] =
        json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } });
    pod
}

fn own() -> Value {
    json!({ "key": "kubernetes.io/hostname", "operator": "Exists" })
}

fn healthy() -> Value {
    json!({ "key": CACHE_LABEL, "operator": "NotIn", "values": [UNSERVICEABLE] })
}

fn selected() -> Value {
    json!({ "key": "kubernetes.io/os", "operator": "In", "values": ["linux"] })
}

fn expressions(pod: &Value) -> Value {
    let required = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    required["nodeSelectorTerms"][0]["matchExpressions"].clone()
}

/// Waits for the scheduler's verdict.
async fn stays_away(pods: &Pods<'_>, name: &str) {
    let refused = until(&format!("{name} is judged by the scheduler"), || async {
        let status = pods.api.get(name).await.ok()?.status?;
        status.conditions?.into_iter().find(|condition| condition.type_ == "PodScheduled")
    })
    .await;
    assert_eq!((refused.status.as_str(), refused.reason.as_deref()), ("False", Some("Unschedulable")));
    assert!(refused.message.unwrap_or_default().contains("node affinity"));
}

/// The node as the controller labels one that gave up; it serves again when dropped, whatever the test came to.
struct Unserviceable<'c>(&'c Cluster);

impl<'c> Unserviceable<'c> {
    async fn make(turn: &Turn<'c>) -> Self {
        let made = Self(turn.cluster);
        // It would take the label back, since the node's report is good.
        turn.scale(headstart::CONTROLLER, 0).await;
        label(turn.cluster, &format!("{CACHE_LABEL}={UNSERVICEABLE}")).unwrap();
        made
    }
}

impl Drop for Unserviceable<'_> {
    fn drop(&mut self) {
        // The controller does the same as soon as it is back.
        let _ = label(self.0, &format!("{CACHE_LABEL}-"));
        let _ = headstart::scale(self.0, headstart::CONTROLLER, 2);
    }
}

fn label(cluster: &Cluster, word: &str) -> anyhow::Result<String> {
    cluster.kubectl(&["label", "node", NODE, "--overwrite", word])
}
