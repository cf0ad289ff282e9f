//! How versions take each other's place on one real node with the shipped manifests and on played nodes around it: what
//! jobs notice of it, which is nothing.
//!
//! Played nodes are tainted, so that only what a test means for them gets there, and the parts of Headstart run on the
//! real one. The agents' and stages' pods tolerate every taint: they get to played nodes as well, where kwok lets them run
//! without doing anything; what such an agent would report is written by `played_agents`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod chronicle;
mod leaders;
mod nodes;
mod silence;
mod stream;
mod upgrade;
mod world;

use headstart_tests::bed::boxed::NODE;
use headstart_tests::bed::images::TestImage;
use headstart_tests::bed::{Cluster, Shared, Turn, headstart};
use headstart_tests::kwok::{self, Kwok, PLAYED};
use k8s_openapi::api::core::v1::{Node, Taint};
use serde_json::{Value, json};

static SHARED: Shared = Shared::new();

/// Names of the runner image under which each test has it for itself.
const IMAGES: [&str; 5] = [
    "bed.test/runner:upgraded",
    "bed.test/runner:born",
    "bed.test/runner:away",
    "bed.test/runner:held-up",
    "bed.test/runner:shaken",
];

/// The label of nodes that Headstart is to be on.
const SELECTED: &str = "bed.test/selected";

async fn turn() -> Option<Turn<'static>> {
    SHARED.turn(cluster).await
}

async fn cluster() -> anyhow::Result<Cluster> {
    let cluster = Cluster::start(&headstart::images()?).await?;
    for image in IMAGES {
        cluster.ctr(&["images", "tag", TestImage::Runner.name(), image])?;
    }
    cluster.kubectl(&["label", "node", NODE, &format!("{SELECTED}=yes")])?;
    let nodes: Vec<Node> = played_nodes().map(|name| played_node(&name)).collect();
    Kwok::start(&cluster)?.play(&cluster.client().await?, &nodes).await?;
    headstart::install_with(&cluster, &configuration()).await?;
    Ok(cluster)
}

fn played_nodes() -> impl Iterator<Item = String> {
    (1..=10).map(|number| format!("played{number}"))
}

/// A node that only takes pods that are meant for played ones.
fn played_node(name: &str) -> Node {
    let mut node = kwok::node(name);
    let taint = Taint { key: PLAYED.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() };
    node.metadata.labels.get_or_insert_default().insert(SELECTED.to_owned(), "yes".to_owned());
    node.spec.get_or_insert_default().taints = Some(vec![taint]);
    node
}

/// The shipped configuration, for nodes with a label; a test adds a profile of its own.
fn configuration() -> Value {
    json!({
        "apiVersion": "headstart.dev/v1",
        "nodeSelector": { "kubernetes.io/os": "linux", SELECTED: "yes" },
        "profiles": [{
            "name": "node16", "preset": "node16",
            "revisions": [{
                "revision": "2.304.0", "source": { "runnerImage": { "image": TestImage::Runner.name() } },
            }],
        }],
    })
}
