//! Runners with Docker in Docker: the daemon's container sees the tree where the init container would have copied it.

use futures::future::join_all;
use headstart_tests::jobs::{self, Storage, runners};
use headstart_tests::pods::{Pods, decision_on};
use serde_json::Value;

use super::{all_refused, turn, writes};

const SHAPES: [&str; 4] = [
    "arc/dind.json",
    "arc/dind-before-k8s-1.29.json",
    "arc/dind-chart-0.10.1.json",
    "arc/dind-experimental-chart.json",
];

/// Where the daemon, and through it every job container, has externals.
const EXTERNALS: &str = "/home/runner/externals";

#[tokio::test]
async fn the_docker_daemon_of_every_chart_sees_the_tree_instead_of_a_copy() {
    let Some(turn) = turn().await else { return };
    let namespaces = join_all(SHAPES.map(|_| turn.opted_in("dind", "hostpath", &[]))).await;
    for (namespace, fixture) in namespaces.iter().zip(SHAPES) {
        let runner = runners::dind(fixture, namespace.name());
        jobs::prepare(turn.cluster, &runner, Storage::Local);
        let stored = turn.pods(namespace).create(&runner);
        assert_eq!(decision_on(&stored), "runner-dind/mounted", "{fixture}: {stored}");
        assert_eq!(containers(&stored), without_init(&runner), "{fixture}");
    }
    for namespace in &namespaces {
        sees_the_tree(&turn.pods(namespace)).await;
    }
}

/// What the job containers need, which the daemon binds from its own folder.
pub(super) async fn sees_the_tree(pods: &Pods<'_>) {
    pods.runs(runners::NAME).await;
    let daemon = |command: &str| pods.exec_in(runners::NAME, "dind", command);
    assert_eq!(daemon(&format!("{EXTERNALS}/node16/bin/node --version")), "v16.20.2\n");
    // Links would dangle in job containers.
    let counts = ["l", "f"].map(|kind| daemon(&format!("find {EXTERNALS} -type {kind} | wc -l")));
    assert_eq!(counts.each_ref().map(|count| count.trim()), ["0", "4"]);
    all_refused(&daemon(&writes(EXTERNALS)));
    // As the daemon gives it to a job container.
    let bound =
        format!("mkdir /bound && mount --bind {EXTERNALS} /bound && /bound/node16/bin/node --version");
    assert_eq!(daemon(&bound), "v16.20.2\n");
    let own = pods.exec(runners::NAME, &format!("find {EXTERNALS} -type f | wc -l"));
    assert!(own.trim().parse::<usize>().unwrap() > 5000, "the runner keeps the image's own: {own}");
}

fn containers(pod: &Value) -> Vec<&str> {
    ["initContainers", "containers"].into_iter().flat_map(|list| names(&pod["spec"][list])).collect()
}

fn without_init(pod: &Value) -> Vec<&str> {
    containers(pod).into_iter().filter(|name| *name != "init-dind-externals").collect()
}

fn names(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().map(|container| container["name"].as_str().unwrap())
}
