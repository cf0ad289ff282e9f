//! A leader that dies at any of its calls, done or not: the next one brings an upgrade to the same end.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod cluster;

use std::sync::Arc;
use std::time::Duration;

use cluster::{Cluster, Death};
use futures::future::join_all;
use headstart_controller::lead::Duties;
use headstart_controller::metrics::Metrics;
use headstart_controller::round::{Clients, ClusterDuty, Objects};
use headstart_controller::watched::Watched;
use headstart_externals::arch::Arch;
use headstart_externals::config::Config;
use headstart_externals::names::{NODE_CONDITION, REPORT_ANNOTATION};
use headstart_externals::report::NodeReport;
use headstart_externals::state::{Allowed, Phase, PublishedState};
use headstart_runtime::shutdown::Shutdown;
use prometheus::Registry;
use serde_json::json;
use tokio::sync::watch;

/// Nodes `one` and `two` have both revisions, and `two` is new.
const NODES: [&str; 2] = ["one", "two"];

/// Longest time for one life; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(revisions: &str) -> Config {
    let revisions: String = revisions
        .split(' ')
        .map(|name| format!("      - {{revision: {name}, source: {{directory: {{path: /x}}}}}}\n"))
        .collect();
    Config::parse(&format!(
        "apiVersion: headstart.dev/v1\nrollout: {{graceSeconds: 1, keepSeconds: 1}}\n\
         startupTaints: [headstart.dev/cold]\nprofiles:\n  - name: node16\n    preset: node16\n    \
         revisions:\n{revisions}"
    ))
    .unwrap()
}

/// A cluster in which the older revision is offered and the newer one is ready everywhere.
fn before_an_upgrade(deadly: Death) -> Cluster {
    let cluster = Cluster::new(deadly);
    let old = PublishedState {
        generation: 1,
        allowed: Allowed::Namespaces(Default::default()),
        ..PublishedState::immediate(&config("a"))
    };
    cluster.publish(&old);
    let both = config("a b");
    let held = both.revisions().map(|(_, revision)| {
        let held = json!({ "name": revision.version, "state": "ready", "wanted": true });
        serde_json::from_value(held).unwrap()
    });
    let held: Vec<_> = held.collect();
    for name in NODES {
        let taint = json!([{ "key": "headstart.dev/cold", "effect": "NoSchedule" }]);
        cluster.add_node(
            name,
            json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": { "name": name, "uid": name, "creationTimestamp": "2020-01-01T00:00:00Z" },
                "spec": { "taints": if name == "two" { taint } else { json!([]) } },
                "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
            }),
        );
        let report = NodeReport::new(name, Arch::Amd64, None, held.clone()).encode();
        cluster.add_lease(
            name,
            json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": { "name": name, "uid": name, "annotations": { REPORT_ANNOTATION: report } },
            }),
        );
    }
    cluster
}

/// A replica that leads, until it is dropped.
async fn lead(cluster: &Cluster) {
    let (client, shutdown) = (cluster.client(), Shutdown::new());
    let (watched, watching) = Watched::new(&client, "system");
    let (_config, config) = watch::channel(Arc::new(config("a b")));
    let metrics = Metrics::new(&Registry::new()).unwrap();
    let objects = Objects {
        namespace: "system".to_owned(),
        published_state: "state".to_owned(),
        config: "config".to_owned(),
    };
    let clients = Clients { own: client.clone(), probe: client };
    let duty = ClusterDuty::new(&clients, &watched, config, &objects, &metrics);
    let duties = Duties { keeper: None, creation: None, cluster: duty };
    let (led, watched) = tokio::join!(duties.run(shutdown.clone()), watching.run(shutdown));
    panic!("it never ends by itself: {led:?}, {watched:?}");
}

fn phases(state: &PublishedState) -> Vec<Phase> {
    state.versions.iter().map(|version| version.phase).collect()
}

/// Whether all is as an upgrade leaves it.
fn is_over(cluster: &Cluster) -> bool {
    let is_told = |name: &&str| {
        let node = cluster.node(name);
        let conditions = node["status"]["conditions"].as_array().unwrap();
        let is_ready = |told: &serde_json::Value| told["type"] == NODE_CONDITION && told["status"] == "True";
        conditions.iter().any(is_ready) && node["spec"]["taints"] == json!([])
    };
    let state = cluster.published().pop().unwrap();
    phases(&state) == [Phase::Retired, Phase::Offered] && NODES.iter().all(is_told)
}

async fn until_over(cluster: &Cluster, deadly: Death) {
    let looks = async {
        while !is_over(cluster) {
            cluster.changed().await;
        }
    };
    let done = tokio::time::timeout(PATIENCE, looks).await;
    assert!(done.is_ok(), "{deadly:?}: it never ends: {:?}", cluster.published().last().map(phases));
}

/// Plays an upgrade in which the first leader dies; whether it came to that.
async fn upgrade(deadly: Death) -> bool {
    let cluster = before_an_upgrade(deadly);
    tokio::select! {
        () = lead(&cluster) => {}
        () = cluster.death() => {}
        () = until_over(&cluster, deadly) => {}
    }
    tokio::select! {
        () = lead(&cluster) => {}
        () = until_over(&cluster, deadly) => {}
    }
    let published = cluster.published();
    let steps: Vec<Vec<Phase>> = published.iter().map(phases).collect();
    use Phase::{Offered, Retired, Retiring};
    assert_eq!(steps, [vec![Offered], vec![Retiring, Offered], vec![Retired, Offered]], "{deadly:?}");
    let generations: Vec<u64> = published.iter().map(|state| state.generation).collect();
    assert_eq!(generations, [1, 2, 3], "{deadly:?}");
    !cluster.is_death_to_come()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_survives_the_death_of_the_leader_at_every_call() {
    let lives = (1..=40).flat_map(|at| [false, true].map(|is_done| Death { at, is_done }));
    let came: Vec<bool> = join_all(lives.map(upgrade)).await;
    let deaths = came.iter().filter(|died| **died).count();
    assert!(deaths >= 20, "an upgrade takes many calls: {deaths}");
    assert!(!came[came.len() - 1], "there are more calls than were tried");
}
