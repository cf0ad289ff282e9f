//! Paired runners: the hook copies links, and the pods that it makes by the template find the tree there, with the
//! webhook or without it.

use futures::future::join;
use headstart_tests::bed::command::say;
use headstart_tests::bed::images::TestImage;
use headstart_tests::bed::{Turn, headstart};
use headstart_tests::jobs::{self, Storage, runners, template};
use headstart_tests::pods::{Pods, decision_on, name, version_of};
use serde_json::Value;

use super::{all_refused, turn, writes};

/// What the workflow pods and the steps of hooks that read templates look like before these are merged.
const WORKFLOW: &str = "hooks/v0.7.0/prepare-plain.json";
const STEP: &str = "hooks/v0.7.0/step-plain.json";

/// Most bytes that the copy may leave on the work volume.
const LINKS: u64 = 1024;

/// Both majors, as the runner starts them in the job's container.
const NODES: &str = "for node in node16 node20; do /__e/$node/bin/node -p process.version; done";
const RAN: &str = "v16.20.2\nv20.20.2\n";

#[tokio::test]
async fn a_paired_runner_copies_links_and_its_pods_run_node_with_the_webhook_and_without_it() {
    let Some(turn) = turn().await else { return };
    let namespaces =
        join(turn.opted_in("paired", "hostpath", &[]), turn.opted_in("left", "hostpath", &[])).await;
    let (with, without) = (turn.pods(&namespaces.0), turn.pods(&namespaces.1));
    let with_template = copies_links(&turn, &with).await;
    let without_template = copies_links(&turn, &without).await;

    let workflow = runs_node(&with, &with_template).await;
    let version = version_of(&workflow);
    assert_eq!(decision_on(&workflow), "workflow-legacy/completed", "{workflow}");
    runs_a_step(&with, &with_template).await;

    turn.scale(headstart::WEBHOOK, 0).await;
    let workflow = runs_node(&without, &without_template).await;
    assert_eq!(version_of(&workflow), version, "the template says it");
    let mounts = workflow["spec"]["containers"][0]["volumeMounts"].as_array().unwrap();
    let copied = mounts.iter().find(|mount| mount["mountPath"] == "/__e").unwrap();
    assert_eq!(copied["name"], "work", "nobody changed what the hook posted: {workflow}");
    runs_a_step(&without, &without_template).await;
}

/// Makes a runner, lets its hook copy externals, and gives the template that the hook sees.
async fn copies_links(turn: &Turn<'_>, pods: &Pods<'_>) -> Value {
    let runner = runners::kubernetes(pods.namespace(), TestImage::NewerRunner, Storage::Local);
    jobs::prepare(turn.cluster, &runner, Storage::Local);
    let runner = pods.create(&runner);
    assert_eq!(decision_on(&runner), "runner-legacy/paired", "{runner}");
    let name = name(&runner);
    let copied = pods.copied(name).await;
    say(&format!("the copy of a paired runner: {copied:?}"));
    assert_eq!((copied.files, copied.links), (0, 2), "{copied:?}");
    assert!(copied.bytes <= LINKS, "{copied:?}");
    let text = pods.exec(name, "cat \"$ACTIONS_RUNNER_CONTAINER_HOOK_TEMPLATE\"");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Makes the workflow pod by the template, as the hook does, and runs Node.js in it.
async fn runs_node(pods: &Pods<'_>, template: &Value) -> Value {
    let workflow = template::merge(jobs::workflow(WORKFLOW, pods.namespace()), template);
    let workflow = pods.create(&workflow);
    let name = name(&workflow);
    pods.runs(name).await;
    assert_eq!(pods.exec(name, NODES), RAN);
    // The links lie on the work volume, which is the job's own; what they lead to is not.
    all_refused(&pods.exec(name, &writes("/opt/headstart/externals")));
    workflow
}

/// Runs a container step by the template, as the hook does.
async fn runs_a_step(pods: &Pods<'_>, template: &Value) {
    let script =
        "pwd; ls /__w; touch /__w/made; test -x /opt/headstart/externals/node20/bin/node && echo there";
    let job = template::merge_step(jobs::step(STEP, pods.namespace(), script), template);
    let (printed, _) = pods.finish(&job).await;
    assert_eq!(printed, "/github/workspace\n_temp\nexternals\nrepo\nthere\n");
}
