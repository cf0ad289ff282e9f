//! Pods that come before the cache: they wait, and start without anybody's help when it is there.

use std::fs;

use headstart_externals::names::{REPORT_ANNOTATION, REPORT_LABEL, REPORT_NODE};
use headstart_tests::bed::boxed::NODE;
use headstart_tests::bed::headstart::NAMESPACE;
use headstart_tests::bed::{Cluster, Turn};
use headstart_tests::node_cache::{AGENT, NodeCache};
use headstart_tests::pods::{Pods, version_of};
use headstart_tests::wait::until;
use serde_json::{Value, json};

use super::{PROFILE, RAN, RUN_NODE, TAINT, turn, workflow};

#[tokio::test]
async fn a_pod_that_comes_before_its_version_waits_and_starts_when_it_is_there() {
    let Some(turn) = turn().await else { return };
    let cache = NodeCache::of(&turn);
    let namespace = turn.opted_in("waiting", "hostpath", &[]).await;
    let pods = turn.pods(&namespace);
    let version = cache.offered(PROFILE).await;
    let held = cache.hold_back(&[AGENT.to_owned()]).await;
    let folder = format!("versions/{version}");
    fs::remove_dir_all(cache.path(&folder)).unwrap();
    let stored = pods.create(&workflow(&pods, "early"));
    assert_eq!(version_of(&stored), version.as_str(), "{stored}");
    let said = cache.event((pods.namespace(), "early"), "FailedMount", &version).await;
    assert!(said.contains("is not a directory"), "{said}");
    assert!(!cache.path(&folder).exists(), "no empty folder in its place");

    drop(held);
    starts_by_itself(&pods, "early", &stored).await;
    pods.delete("early");
}

#[tokio::test]
async fn a_fresh_node_loses_its_startup_taint_when_its_cache_is_ready_and_no_pod_comes_before() {
    let Some(turn) = turn().await else { return };
    let cache = NodeCache::of(&turn);
    let namespace = turn.opted_in("fresh", "hostpath", &[]).await;
    let pods = turn.pods(&namespace);
    let version = cache.offered(PROFILE).await;
    let _elsewhere = Elsewhere::with(&turn, &version).await;
    let held = cache.hold_back(&cache.daemon_sets()).await;
    make_fresh(&turn);
    let tainted = Tainted::make(turn.cluster);
    cache.becomes("Unknown", "NoReport").await;

    let stored = pods.create(&workflow(&pods, "early"));
    assert_eq!(version_of(&stored), version.as_str(), "{stored}");
    let refused = until("the scheduler has judged", || async {
        let conditions = pods.api.get("early").await.ok()?.status?.conditions?;
        conditions.into_iter().find(|condition| condition.type_ == "PodScheduled")
    })
    .await;
    assert_eq!((refused.status.as_str(), refused.reason.as_deref()), ("False", Some("Unschedulable")));
    assert!(refused.message.unwrap_or_default().contains("taint"));
    assert!(tainted.is_there());

    drop(held);
    starts_by_itself(&pods, "early", &stored).await;
    assert!(!tainted.is_there());
    cache.becomes("True", "CacheReady").await;
    let mounted =
        cache.get(&["events", "--namespace", pods.namespace(), "--field-selector=reason=FailedMount"]);
    assert_eq!(mounted.unwrap()["items"], json!([]), "it never had to wait on the node");
    pods.delete("early");
}

/// It is the pod that was stored, none of whose containers was ever started twice, and it runs Node.js.
async fn starts_by_itself(pods: &Pods<'_>, name: &str, stored: &Value) {
    pods.runs(name).await;
    assert_eq!(pods.exec(name, RUN_NODE), RAN);
    let pod = pods.api.get(name).await.unwrap();
    assert_eq!(pod.metadata.uid.as_deref(), stored["metadata"]["uid"].as_str());
    let statuses = pod.status.unwrap().container_statuses.unwrap();
    assert!(statuses.iter().all(|status| status.restart_count == 0), "{statuses:?}");
}

/// As if it had just been made: nothing on its disk, and nobody heard of its cache.
fn make_fresh(turn: &Turn<'_>) {
    turn.cluster.bed().run_inside(&["find", "/var/lib/headstart", "-mindepth", "1", "-delete"]).unwrap();
    turn.cluster.kubectl(&["delete", "lease", NODE, "--namespace", NAMESPACE]).unwrap();
}

/// A taint that the node has until its cache is ready; gone in any case when dropped.
struct Tainted<'c>(&'c Cluster);

impl<'c> Tainted<'c> {
    fn make(cluster: &'c Cluster) -> Self {
        let made = Self(cluster);
        cluster.kubectl(&["taint", "node", NODE, &format!("{TAINT}=x:NoSchedule")]).unwrap();
        made
    }

    fn is_there(&self) -> bool {
        let keys = "--output=jsonpath={.spec.taints[*].key}";
        self.0.kubectl(&["get", "node", NODE, keys]).unwrap().contains(TAINT)
    }
}

impl Drop for Tainted<'_> {
    fn drop(&mut self) {
        if self.is_there() {
            let _ = self.0.kubectl(&["taint", "node", NODE, &format!("{TAINT}-")]);
        }
    }
}

/// Another node that has a version, so that pods are given it; played, and no pod can come to it.
struct Elsewhere<'c>(&'c Cluster);

impl<'c> Elsewhere<'c> {
    const NAME: &'static str = "elsewhere";

    async fn with(turn: &Turn<'c>, version: &str) -> Self {
        let made = Self(turn.cluster);
        let taint = json!({ "key": "bed.test/played", "effect": "NoSchedule" });
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": Self::NAME },
            "spec": { "taints": [taint], "unschedulable": true },
        });
        let report = json!({
            "apiVersion": "headstart.dev/v1", "kind": "NodeReport", "node": Self::NAME, "arch": "amd64",
            "agent": "0.1.0", "versionCount": 1,
            "versions": [{ "name": version, "state": "ready", "wanted": true }],
        });
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {
                "name": Self::NAME, "namespace": NAMESPACE, "labels": { REPORT_LABEL: REPORT_NODE },
                "annotations": { REPORT_ANNOTATION: report.to_string() },
            },
        });
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": [node, lease] });
        turn.cluster.apply(&list.to_string()).unwrap();
        let heard = "--for=condition=headstart.dev/CacheReady";
        turn.cluster.kubectl(&["wait", heard, "node", Self::NAME, "--timeout=60s"]).unwrap();
        made
    }
}

impl Drop for Elsewhere<'_> {
    fn drop(&mut self) {
        let _ = self.0.kubectl(&["delete", "node", Self::NAME, "--ignore-not-found"]);
        let lease = ["delete", "lease", Self::NAME, "--ignore-not-found", "--namespace", NAMESPACE];
        let _ = self.0.kubectl(&lease);
    }
}
