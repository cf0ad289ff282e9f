//! Image volumes: where a namespace asks for them, and where Pod Security leaves nothing else.

use futures::future::join_all;
use headstart_tests::bed::images::TestImage;
use headstart_tests::bed::{TestNamespace, Turn};
use headstart_tests::jobs::{self, Storage, runners};
use headstart_tests::pods::{Pods, decision_on, name};
use serde_json::Value;

use super::{all_refused, dind, turn, writes};

const WORKFLOW: &str = "hooks/v0.8.1/prepare-plain.json";

/// What namespaces ask for, and what Pod Security enforces there.
const NAMESPACES: [(&str, &str); 4] =
    [("image", "privileged"), ("image", "baseline"), ("image", "restricted"), ("auto", "restricted")];

/// Where containers of each shape have externals.
const SHAPES: [&str; 2] = ["/__e", "/home/runner/externals"];

#[tokio::test]
async fn pods_get_an_image_volume_and_nothing_of_the_node_at_every_level_of_pod_security() {
    let Some(turn) = turn().await else { return };
    let namespaces = join_all(NAMESPACES.map(|(kind, level)| opted_in(&turn, kind, level))).await;
    let mut jobs = Vec::new();
    for namespace in &namespaces {
        let pods = turn.pods(namespace);
        jobs.push((make(&turn, &pods), pods));
    }
    for ([workflow, runner], pods) in &jobs {
        assert_eq!(decision_on(workflow), "workflow-current/mounted", "{workflow}");
        assert_eq!(decision_on(runner), "runner-legacy/lean", "{runner}");
        for (stored, externals) in [workflow, runner].into_iter().zip(SHAPES) {
            runs_as_somebody(pods, stored, externals).await;
        }
        let copied = pods.copied(name(runner)).await;
        assert_eq!((copied.files, copied.links), (4, 0), "{copied:?}");
    }
}

async fn opted_in<'c>(turn: &Turn<'c>, kind: &str, level: &str) -> TestNamespace<'c> {
    let enforced = format!("pod-security.kubernetes.io/enforce={level}");
    turn.opted_in(&format!("{kind}-{level}"), kind, &[&enforced]).await
}

/// A workflow pod and a runner, as strict as the strictest level asks.
fn make(turn: &Turn<'_>, pods: &Pods<'_>) -> [Value; 2] {
    let runner = runners::kubernetes(pods.namespace(), TestImage::Runner, Storage::Local);
    jobs::prepare(turn.cluster, &runner, Storage::Local);
    [jobs::workflow(WORKFLOW, pods.namespace()), runner].map(|pod| pods.create(&jobs::restricted(pod)))
}

/// Runs Node.js in it as whoever the pod says, and nothing of it comes from the node.
async fn runs_as_somebody(pods: &Pods<'_>, stored: &Value, externals: &str) {
    holds_no_host_path(stored);
    let name = name(stored);
    pods.runs(name).await;
    let script = format!("id -u; {externals}/node16/bin/node -p process.version");
    assert_eq!(pods.exec(name, &script), "1001\nv16.20.2\n");
    all_refused(&pods.exec(name, &writes(externals)));
}

fn holds_no_host_path(pod: &Value) {
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    assert!(volumes.iter().any(|volume| volume["image"].is_object()), "{volumes:?}");
    assert!(volumes.iter().all(|volume| volume["hostPath"].is_null()), "{volumes:?}");
}

#[tokio::test]
async fn the_docker_daemon_sees_the_tree_of_an_image_volume() {
    let Some(turn) = turn().await else { return };
    let namespace = turn.opted_in("image-dind", "image", &[]).await;
    let stored = make_dind(&turn, &turn.pods(&namespace));
    assert_eq!(decision_on(&stored), "runner-dind/mounted", "{stored}");
    holds_no_host_path(&stored);
    dind::sees_the_tree(&turn.pods(&namespace)).await;
}

fn make_dind(turn: &Turn<'_>, pods: &Pods<'_>) -> Value {
    let runner = runners::dind("arc/dind.json", pods.namespace());
    jobs::prepare(turn.cluster, &runner, Storage::Local);
    pods.create(&runner)
}
