//! Played nodes: many that are Ready and run pods, and none that is not marked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use headstart_tests::bed::{ControlPlane, Minor, TestNamespace};
use headstart_tests::kwok::{self, Kwok, PLAYED};
use headstart_tests::wait::until;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

fn pod_on(node: &str) -> Pod {
    let container = |name: &str| json!({"name": name, "image": "bed.test/any:1"});
    let mut sidecar = container("sidecar");
    sidecar["restartPolicy"] = json!("Always");
    let spec = json!({
        "nodeName": node,
        "initContainers": [container("prepares"), sidecar],
        "containers": [container("main")],
    });
    serde_json::from_value(json!({"metadata": {"name": format!("on-{node}")}, "spec": spec})).unwrap()
}

#[tokio::test]
async fn played_nodes_get_ready_and_run_pods_and_others_are_left_alone() {
    let control_plane = ControlPlane::start(Minor::Newest).await.unwrap();
    let client = control_plane.client().await.unwrap();
    let namespace = TestNamespace::create(&control_plane, "played").unwrap();
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace.name());
    let nodes: Api<Node> = Api::all(client.clone());
    let how = PostParams::default();

    let mut real = kwok::node("real");
    real.metadata.labels.as_mut().unwrap().remove(PLAYED);
    nodes.create(&how, &real).await.unwrap();
    pods.create(&how, &pod_on("real")).await.unwrap();

    let played: Vec<Node> = (1..=20).map(|number| kwok::node(&format!("played{number}"))).collect();
    let kwok = Kwok::start(&control_plane).unwrap();
    kwok.play(&client, &played).await.unwrap();

    pods.create(&how, &pod_on("played7")).await.unwrap();
    let running = until("a pod runs", || async {
        let pod = pods.get("on-played7").await.unwrap();
        let status = serde_json::to_value(pod.status).unwrap();
        (status["phase"] == "Running").then_some(status)
    })
    .await;
    let started = |status: &Value| status["state"]["running"].is_object();
    assert!(started(&running["containerStatuses"][0]), "{running}");
    assert_eq!(running["initContainerStatuses"][0]["state"]["terminated"]["exitCode"], 0, "{running}");
    assert!(started(&running["initContainerStatuses"][1]), "{running}");

    // What Kubernetes itself looks at: without renewals the nodes would not stay Ready.
    let leases: Api<Lease> = Api::namespaced(client, "kube-node-lease");
    until("played nodes renew their Leases", || async {
        leases.get_opt("played20").await.unwrap()?.spec?.renew_time
    })
    .await;

    pods.delete("on-played7", &DeleteParams::default()).await.unwrap();
    until("the pod goes", || async { pods.get_opt("on-played7").await.unwrap().is_none().then_some(()) })
        .await;

    assert!(!kwok::is_ready(&nodes.get("real").await.unwrap()), "a node without the mark");
    let untouched = pods.get("on-real").await.unwrap().status.unwrap();
    assert_eq!(untouched.phase.as_deref(), Some("Pending"));
    assert!(leases.get_opt("real").await.unwrap().is_none());
}
