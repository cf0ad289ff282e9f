//! The uninstall as the documentation tells it: it takes nothing from running jobs, and then leaves nothing.

use std::time::Instant;

use headstart_tests::bed::command::say;
use headstart_tests::bed::headstart::{self, NAMESPACE};
use headstart_tests::node_cache::NodeCache;
use headstart_tests::pods::version_of;
use headstart_tests::programs::repository;
use headstart_tests::wait::until;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::{FIRST, PROFILE, RAN, RUN_NODE, config, runs_node, turn, workflow};

const PURGE: &str = "headstart-purge";

#[tokio::test]
async fn headstart_goes_without_its_cache_and_the_cache_after_its_last_pod() {
    let Some(turn) = turn().await else { return };
    let cache = NodeCache::of(&turn);
    let namespace = turn.opted_in("uninstall", "hostpath", &[]).await;
    let pods = turn.pods(&namespace);
    let version = cache.offered(PROFILE).await;
    runs_node(&pods, &workflow(&pods, "last"), &version).await;
    let kustomize = |verb: &[&str], folder: &str| {
        let folder = repository().join(folder).display().to_string();
        turn.cluster.kubectl(&[verb, &["-k", &folder]].concat()).unwrap();
    };

    // Namespaces take their time to go, and nothing here depends on it.
    kustomize(&["delete", "--wait=false"], "deploy");
    let no_pods =
        || cache.get(&["pods", "--namespace", NAMESPACE]).is_none_or(|found| found["items"] == json!([]));
    until("Headstart's pods are gone", || async { no_pods().then_some(()) }).await;
    assert_eq!(cache.list("versions"), [version.as_str()]);
    assert_eq!(pods.exec("last", RUN_NODE), RAN);
    let stored = pods.create(&workflow(&pods, "without"));
    assert!(version_of(&stored).is_null(), "{stored}");

    kustomize(&["apply"], "deploy/purge");
    let purge: Api<Pod> = Api::namespaced(turn.client.clone(), PURGE);
    let refused = until("the purge refuses", || async {
        let pod = purge.list(&ListParams::default()).await.ok()?.items.pop()?.name_any();
        let of_purge = LogParams { container: Some("purge".to_owned()), ..LogParams::default() };
        let log = purge.logs(&pod, &of_purge).await.ok()?;
        log.lines().find(|line| line.contains("is in use")).map(str::to_owned)
    })
    .await;
    assert!(refused.contains(&format!("pod {}/last", pods.namespace())), "{refused}");
    assert_eq!(pods.exec("last", RUN_NODE), RAN);
    pods.delete("last");
    let begun = Instant::now();
    let rolled_out = ["rollout", "status", "daemonset", PURGE, "--namespace", PURGE, "--timeout=120s"];
    turn.cluster.kubectl(&rolled_out).unwrap();
    say(&format!("the cache is gone {:.1} s after its last pod", begun.elapsed().as_secs_f64()));
    let left = turn.cluster.bed().run_inside(&["find", "/var/lib/headstart", "-mindepth", "1"]).unwrap();
    assert_eq!(left, "");
    kustomize(&["delete", "--wait=false"], "deploy/purge");
    pods.delete("without");

    let gone = format!("namespace/{NAMESPACE}");
    turn.cluster.kubectl(&["wait", "--for=delete", &gone, "--timeout=60s"]).unwrap();
    headstart::install_with(turn.cluster, &config(&[FIRST])).await.unwrap();
    let version = cache.offered(PROFILE).await;
    turn.gives(namespace.name(), Some(&version)).await;
    runs_node(&pods, &workflow(&pods, "again"), &version).await;
    pods.delete("again");
}
