//! Played nodes: kwok keeps nodes Ready and lets their pods run, without any machine behind them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Node;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::bed::programs::Programs;
use crate::bed::protocol::Service;
use crate::bed::{ControlPlane, Minor};
use crate::wait::within;

/// The program, and the name of its service.
pub const PROGRAM: &str = "kwok";

/// Nodes with this label are played; no other node is touched.
pub const PLAYED: &str = "bed.test/played";

/// What happens to played nodes and to pods on them.
const STAGES: &str = include_str!("../bed/kwok/stages.yaml");

const PATIENCE: Duration = Duration::from_secs(60);

/// Plays nodes; it goes with the control plane. As any service, it can be stopped, after which its nodes fall silent.
pub struct Kwok<'c> {
    control_plane: &'c ControlPlane,
}

impl<'c> Kwok<'c> {
    /// Starts to play every node that is marked.
    pub fn start(control_plane: &'c ControlPlane) -> Result<Self> {
        let program = Programs::obtain(&[PROGRAM], Minor::Newest)?;
        let bed = control_plane.bed();
        let stages = bed.place().path("kwok.yaml");
        std::fs::write(&stages, STAGES)?;
        let words = vec![
            program.path(PROGRAM)?.display().to_string(),
            format!("--kubeconfig={}", control_plane.kubeconfig().display()),
            format!("--config={}", stages.display()),
            "--manage-all-nodes=false".to_owned(),
            format!("--manage-nodes-with-label-selector={PLAYED}"),
            "--node-lease-duration-seconds=40".to_owned(),
        ];
        bed.start(Service { name: PROGRAM.to_owned(), words, path: vec![] })?;
        Ok(Self { control_plane })
    }

    /// Creates these nodes and waits until they are Ready.
    pub async fn play(&self, client: &Client, nodes: &[Node]) -> Result<()> {
        let api: Api<Node> = Api::all(client.clone());
        let how = PostParams::default();
        let made = try_join_all(nodes.iter().map(|node| api.create(&how, node))).await?;
        let names: Vec<String> = made.into_iter().filter_map(|node| node.metadata.name).collect();
        let all_ready = || async {
            let there = api.list(&ListParams::default().labels(PLAYED)).await.ok()?;
            let ready: Vec<&str> = there
                .iter()
                .filter(|node| is_ready(node))
                .filter_map(|node| node.metadata.name.as_deref())
                .collect();
            names.iter().all(|name| ready.contains(&name.as_str())).then_some(())
        };
        let tails =
            || format!("no played nodes after {PATIENCE:?}\n{}", self.control_plane.bed().tails(&[PROGRAM]));
        within(PATIENCE, all_ready).await.with_context(tails)
    }
}

/// A node to be played, as a kubelet would register it. Without a taint, schedulers use it as any other.
pub fn node(name: &str) -> Node {
    let labels = json!({
        PLAYED: "",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
    });
    let node = json!({"metadata": {"name": name, "labels": labels}});
    serde_json::from_value(node).unwrap()
}

/// Whether it says that it is ready.
pub fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|it| it.type_ == "Ready" && it.status == "True")
}
