//! Image volumes: where a namespace asks for them, and where Pod Security leaves nothing else.

use headstart_tests::bed::Turn;
use headstart_tests::bed::images::TestImage;
use headstart_tests::jobs::{self, Storage, runners};
use headstart_tests::pods::{Pods, decision_on, name};
use serde_json::Value;

use super::{all_refused, dind, turn, writes};

const WORKFLOW: &str = "hooks/v0.8.1/prepare-plain.json";

#[tokio::test]
async fn pods_get_an_image_volume_and_nothing_of_the_node_at_every_level_of_pod_security() {
    let Some(turn) = turn().await else { return };
    for level in ["privileged", "baseline", "restricted"] {
        let enforced = format!("pod-security.kubernetes.io/enforce={level}");
        let namespace = turn.opted_in(&format!("image-{level}"), "image", &[&enforced]).await;
        let pods = turn.pods(&namespace);
        runs_as_somebody(&pods, jobs::workflow(WORKFLOW, namespace.name()), "/__e").await;
        let runner = runners::kubernetes(namespace.name(), TestImage::Runner, Storage::Local);
        jobs::prepare(turn.cluster, &runner, Storage::Local);
        let stored = runs_as_somebody(&pods, runner, "/home/runner/externals").await;
        assert_eq!(decision_on(&stored), "runner-legacy/lean", "{level}: {stored}");
        let copied = pods.copied(name(&stored)).await;
        assert_eq!((copied.files, copied.links), (4, 0), "{level}: {copied:?}");
    }
}

/// Makes it as strict as the strictest level asks, and runs Node.js in it.
async fn runs_as_somebody(pods: &Pods<'_>, pod: Value, externals: &str) -> Value {
    let stored = pods.create(&jobs::restricted(pod));
    holds_no_host_path(&stored);
    let name = name(&stored);
    pods.runs(name).await;
    let script = format!("id -u; {externals}/node16/bin/node -p process.version");
    assert_eq!(pods.exec(name, &script), "1001\nv16.20.2\n");
    all_refused(&pods.exec(name, &writes(externals)));
    stored
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
