//! The main job on a real cluster, with the shipped image and the shipped manifests: real kubelet and containerd, the
//! runner image's real Node.js 16, the hooks' real copy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use headstart_tests::bed::command::say;
use headstart_tests::bed::images::TestImage;
use headstart_tests::bed::slow_disk::SlowDisk;
use headstart_tests::bed::{Cluster, Shared, Turn, headstart};
use headstart_tests::jobs::{self, Storage, runners};
use headstart_tests::pods::{Copied, Pods, name, version_of};
use serde_json::{Value, json};

static SHARED: Shared = Shared::new();

async fn turn() -> Option<Turn<'static>> {
    SHARED.turn(cluster).await
}

async fn cluster() -> anyhow::Result<Cluster> {
    let cluster = Cluster::start(&headstart::images()?).await?;
    headstart::install(&cluster).await?;
    SlowDisk::mount(&cluster, "1ms", "0.3ms")?;
    Ok(cluster)
}

const NODE: &str = "/__e/node16/bin/node -p 'process.version + \" \" + process.execPath'";
const RAN: &str = "v16.20.2 /__e/node16/bin/node\n";

/// What the workflow pods of the hooks up to 0.3.2 and of those from 0.8.0 look like.
const LEGACY: &str = "hooks/v0.3.2/prepare-plain.json";
const CURRENT: &str = "hooks/v0.8.1/prepare-plain.json";

/// The story of a job with the hooks up to 0.7.0: the runner copies externals to the work volume, and the workflow pod
/// runs Node.js from there.
async fn legacy_job(turn: &Turn<'_>, pods: &Pods<'_>, storage: Storage) -> (Value, Copied) {
    let runner = runners::kubernetes(pods.namespace(), TestImage::Runner, storage);
    jobs::prepare(turn.cluster, &runner, storage);
    let runner = pods.create(&runner);
    let copied = pods.copied(name(&runner)).await;
    runs_node(pods, LEGACY).await;
    (runner, copied)
}

/// Makes a workflow pod and runs Node.js in it.
async fn runs_node(pods: &Pods<'_>, fixture: &str) -> Value {
    let workflow = pods.create(&jobs::workflow(fixture, pods.namespace()));
    pods.runs(name(&workflow)).await;
    assert_eq!(pods.exec(name(&workflow), NODE), RAN);
    workflow
}

/// How often the comparison is made: once as a test; as a benchmark more often, and then its figure is judged.
fn rounds() -> Option<usize> {
    std::env::var("HEADSTART_ROUNDS").ok().map(|text| text.parse().expect("HEADSTART_ROUNDS is a number"))
}

/// How many times faster the copy must be on slow storage, to be called that.
const FASTER: f64 = 10.0;

#[tokio::test]
async fn a_legacy_runner_copies_the_lean_tree_to_slow_storage() {
    let Some(turn) = turn().await else { return };
    let mut rows = Vec::new();
    for round in 0..rounds().unwrap_or(1) {
        let namespace = turn.plain(&format!("stock-{round}"));
        let (runner, stock) = legacy_job(&turn, &turn.pods(&namespace), Storage::Slow).await;
        assert!(version_of(&runner).is_null(), "nobody asked for it");

        let namespace = turn.opted_in(&format!("lean-{round}"), "hostpath", &[]).await;
        let (runner, lean) = legacy_job(&turn, &turn.pods(&namespace), Storage::Slow).await;
        assert!(version_of(&runner).is_string(), "{runner}");
        assert!(stock.files > 5000 && stock.bytes > 200_000_000, "{stock:?}");
        // Node.js and its licence, of the entry and of its twin.
        assert_eq!(lean.files, 4, "{lean:?}");
        rows.push((stock, lean));
    }
    let ratio = print_table(&rows);
    assert!(rounds().is_none() || ratio >= FASTER, "the figure is short");
}

/// Prints what was measured, and gives the median ratio.
fn print_table(rows: &[(Copied, Copied)]) -> f64 {
    let mut table = "| round | stock files | stock bytes | stock seconds | lean files | lean bytes | lean seconds | ratio |\n\
                     |---|---|---|---|---|---|---|---|\n"
        .to_owned();
    let mut ratios = Vec::new();
    for (at, (stock, lean)) in rows.iter().enumerate() {
        let ratio = stock.seconds / lean.seconds;
        ratios.push(ratio);
        let row = |copied: &Copied| format!("{} | {} | {:.2}", copied.files, copied.bytes, copied.seconds);
        table += &format!("| {} | {} | {} | {ratio:.1} |\n", at + 1, row(stock), row(lean));
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    let verdict = if median >= FASTER { "ok" } else { "short" };
    say(&format!("the copy of the legacy hooks, with and without Headstart\n{table}"));
    println!("result externals-copy-slow-storage-speedup {median:.1} ratio target >={FASTER} {verdict}");
    median
}

#[tokio::test]
async fn a_lean_runner_copies_onto_a_whole_copy_of_earlier_runners() {
    let Some(turn) = turn().await else { return };
    let namespace = turn.plain("whole");
    let pods = turn.pods(&namespace);
    let (runner, claim) = runners::kept(namespace.name(), TestImage::Runner, Storage::Local);
    jobs::prepare(turn.cluster, &runner, Storage::Local);
    turn.cluster.apply(&claim.to_string()).unwrap();
    let (stored, stock) = job_after_job(&pods, &runner).await;
    assert!(version_of(&stored).is_null() && stock.written > 5000, "{stock:?}");
    turn.opt_in(namespace.name(), "hostpath").await;
    let (stored, lean) = job_after_job(&pods, &runner).await;
    assert!(version_of(&stored).is_string(), "{stored}");
    assert_eq!((lean.files, lean.written), (stock.files, 4), "the rest is of the first job: {lean:?}");
    say(&format!("on one kept volume, without Headstart {stock:?}, then with it {lean:?}"));
    runs_node(&pods, LEGACY).await;
}

#[tokio::test]
async fn lean_runners_follow_one_another_on_a_kept_volume() {
    let Some(turn) = turn().await else { return };
    let namespace = turn.opted_in("twice", "hostpath", &[]).await;
    let pods = turn.pods(&namespace);
    let (runner, claim) = runners::kept(namespace.name(), TestImage::Runner, Storage::Local);
    jobs::prepare(turn.cluster, &runner, Storage::Local);
    turn.cluster.apply(&claim.to_string()).unwrap();
    for _ in 0..2 {
        let (stored, lean) = job_after_job(&pods, &runner).await;
        assert!(version_of(&stored).is_string(), "{stored}");
        assert_eq!((lean.files, lean.written), (4, 4), "{lean:?}");
    }
    runs_node(&pods, LEGACY).await;
}

/// A runner that comes, makes its copy and goes; its volume stays.
async fn job_after_job(pods: &Pods<'_>, runner: &Value) -> (Value, Copied) {
    let stored = pods.create(runner);
    let copied = pods.copied(name(runner)).await;
    pods.delete(name(runner));
    (stored, copied)
}

#[tokio::test]
async fn a_workflow_pod_of_current_hooks_gets_the_tree_instead_of_a_copy() {
    let Some(turn) = turn().await else { return };
    let namespace = turn.opted_in("current", "hostpath", &[]).await;
    let pods = turn.pods(&namespace);
    let pod = runs_node(&pods, CURRENT).await;
    assert!(version_of(&pod).is_string(), "{pod}");
    let name = name(&pod);
    let status = pods.api.get(name).await.unwrap().status.unwrap();
    let fs_init = status.init_container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!(fs_init.exit_code, 0);
    let refused = pods.exec(name, "touch /__e/x; rm -f /__e/node16/bin/node; mkdir /__e/node16/y");
    assert_eq!(refused.matches("Read-only file system").count(), 3, "{refused}");
    assert_eq!(pods.exec(name, "stat -c '%u %F' /__w/repo/repo; touch /__w/repo/repo/x"), "1001 directory\n");
}

#[tokio::test]
async fn without_the_webhook_pods_are_created_unchanged_and_work() {
    let Some(turn) = turn().await else { return };
    let namespace = turn.opted_in("alone", "hostpath", &[]).await;
    turn.scale(headstart::WEBHOOK, 0).await;
    let pods = turn.pods(&namespace);
    let (runner, copied) = legacy_job(&turn, &pods, Storage::Local).await;
    assert!(version_of(&runner).is_null(), "{runner}");
    assert!(copied.files > 5000, "{copied:?}");
    // Of the same name as the next one.
    pods.delete(&format!("{}-workflow", name(&runner)));

    let pod = runs_node(&pods, CURRENT).await;
    assert!(version_of(&pod).is_null(), "{pod}");
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    assert!(volumes.contains(&json!({ "name": "externals", "emptyDir": {} })), "{volumes:?}");
    let posted = jobs::workflow(CURRENT, namespace.name());
    assert_eq!(pod["spec"]["initContainers"][0]["command"], posted["spec"]["initContainers"][0]["command"]);
}
