//! The test bed's control plane: real, up in seconds, able to lose its parts, and gone without a trace.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use headstart_tests::bed::leftovers::remains;
use headstart_tests::bed::versions::Versions;
use headstart_tests::bed::{ControlPlane, Minor, TestNamespace};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, PostParams};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

/// A client that has nothing but the token of a ServiceAccount.
async fn client_with_token(control_plane: &ControlPlane, token: &str) -> Client {
    let mut kubeconfig = Kubeconfig::read_from(control_plane.kubeconfig()).unwrap();
    let auth: AuthInfo = serde_json::from_value(json!({"token": token})).unwrap();
    kubeconfig.auth_infos[0].auth_info = Some(auth);
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

fn version(control_plane: &ControlPlane) -> String {
    let version = control_plane.kubectl(&["get", "--raw=/version"]).unwrap();
    serde_json::from_str::<Value>(&version).unwrap()["gitVersion"].as_str().unwrap().to_owned()
}

fn pinned(minor: Minor) -> String {
    format!("v{}", Versions::pinned().unwrap().build("kube-apiserver", minor).unwrap().version)
}

/// When the API server's process was started.
fn started(control_plane: &ControlPlane) -> String {
    let metrics = control_plane.kubectl(&["get", "--raw=/metrics"]).unwrap();
    let line = metrics.lines().find(|line| line.starts_with("process_start_time_seconds "));
    line.unwrap().to_owned()
}

#[tokio::test]
async fn a_service_account_may_do_what_its_role_says_and_no_more() {
    let control_plane = ControlPlane::start(Minor::Newest).await.unwrap();
    assert_eq!(version(&control_plane), pinned(Minor::Newest));

    let namespace = TestNamespace::create(&control_plane, "leases").unwrap();
    let name = namespace.name();
    control_plane.kubectl(&["-n", name, "create", "serviceaccount", "agent"]).unwrap();
    let role = ["-n", name, "create", "role", "agent", "--verb=create", "--resource=leases"];
    control_plane.kubectl(&role).unwrap();
    let account = format!("--serviceaccount={name}:agent");
    control_plane.kubectl(&["-n", name, "create", "rolebinding", "agent", "--role=agent", &account]).unwrap();
    let token = control_plane.kubectl(&["-n", name, "create", "token", "agent"]).unwrap();

    let client = client_with_token(&control_plane, token.trim()).await;
    let lease: Lease = serde_json::from_value(json!({"metadata": {"name": "node1"}})).unwrap();
    Api::<Lease>::namespaced(client.clone(), name).create(&PostParams::default(), &lease).await.unwrap();
    let refused = Api::<Secret>::namespaced(client, name).list(&ListParams::default()).await;
    assert!(matches!(refused, Err(kube::Error::Api(ref status)) if status.code == 403), "{refused:?}");
    assert!(control_plane.kubectl(&["-n", name, "get", "lease", "node1"]).unwrap().contains("node1"));
}

#[tokio::test]
async fn the_oldest_version_loses_its_parts_and_comes_back_and_leaves_nothing_behind() {
    let control_plane = ControlPlane::start(Minor::Oldest).await.unwrap();
    assert_eq!(version(&control_plane), pinned(Minor::Oldest));
    assert_ne!(pinned(Minor::Oldest), pinned(Minor::Newest));

    control_plane.kubectl(&["create", "configmap", "kept", "--from-literal=key=value"]).unwrap();
    control_plane.kill("etcd").unwrap();
    let refused = control_plane.kubectl(&["get", "--raw=/readyz", "--request-timeout=5s"]);
    assert!(refused.is_err(), "an API server without etcd is not ready: {refused:?}");
    control_plane.start_again("etcd").unwrap();
    control_plane.ready().await.unwrap();
    let kept = control_plane.kubectl(&["get", "configmap", "kept", "--output=jsonpath={.data.key}"]).unwrap();
    assert_eq!(kept, "value");

    let before = started(&control_plane);
    control_plane.crash("kube-apiserver").unwrap();
    control_plane.ready().await.unwrap();
    assert_ne!(started(&control_plane), before, "a crashed API server is started again");

    let place = control_plane.bed().place().clone();
    assert!(remains(&place).iter().any(|line| line.contains("etcd")), "{:?}", remains(&place));
    drop(control_plane);
    assert_eq!(remains(&place), [""; 0]);
}
