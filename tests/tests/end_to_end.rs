//! The main job on a real cluster, with the shipped image and the shipped manifests: real kubelet and containerd, the
//! runner image's real Node.js 16, the hooks' real copy.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use headstart_externals::names::{NAMESPACE_LABEL, VERSION_LABEL};
use headstart_tests::bed::command::say;
use headstart_tests::bed::slow_disk::SlowDisk;
use headstart_tests::bed::{Cluster, TestNamespace, headstart, node_unavailable};
use headstart_tests::jobs::{self, Storage};
use headstart_tests::wait::{until, within};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{LogParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// Longest copy that is waited for: thousands of files over a slow network.
const COPY: Duration = Duration::from_secs(300);

/// The cluster of all tests of this file. It goes with the process.
static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

/// Tests take turns: one of them takes the webhook away.
static TURN: Mutex<()> = Mutex::const_new(());

/// A test's turn on the cluster; `None` where this machine cannot have a node, which is said.
async fn turn() -> Option<(&'static Cluster, Client, MutexGuard<'static, ()>)> {
    if let Some(reason) = node_unavailable() {
        say(&format!("skipped: {reason}"));
        return None;
    }
    let turn = TURN.lock().await;
    let cluster = CLUSTER.get_or_init(|| async {
        let cluster = Cluster::start(&headstart::images().unwrap()).await.unwrap();
        headstart::install(&cluster).await.unwrap();
        SlowDisk::mount(&cluster, "1ms", "0.3ms").unwrap();
        cluster
    });
    let cluster = cluster.await;
    let client = cluster.client().await.unwrap();
    // A test that failed may have left it away.
    scale_webhook(cluster, &client, 2).await;
    Some((cluster, client, turn))
}

/// A namespace that asks for the cache, and may have it.
async fn opted_in<'c>(cluster: &'c Cluster, client: &Client, name: &str) -> TestNamespace<'c> {
    let label = format!("{NAMESPACE_LABEL}=hostpath");
    let namespace = TestNamespace::labelled(cluster, name, &[&label]).unwrap();
    let pod = jobs::workflow("hooks/v0.8.1/prepare-plain.json", namespace.name());
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace.name());
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let dry_run = PostParams { dry_run: true, field_manager: None };
    // Several times in a row: the API server calls one replica of the webhook or the other, and each learns by itself.
    until("the namespace is served", || async {
        for _ in 0..6 {
            let tried = pods.create(&dry_run, &pod).await.ok()?;
            tried.labels().get(VERSION_LABEL)?;
        }
        Some(())
    })
    .await;
    namespace
}

/// Pods of one namespace.
struct Pods<'c> {
    cluster: &'c Cluster,
    api: Api<Pod>,
    namespace: &'c str,
}

impl<'c> Pods<'c> {
    fn of(cluster: &'c Cluster, client: &Client, namespace: &'c str) -> Self {
        Self { cluster, api: Api::namespaced(client.clone(), namespace), namespace }
    }

    /// Creates it and gives it as the API server made it.
    fn create(&self, pod: &Value) -> Value {
        self.cluster.apply(&pod.to_string()).unwrap();
        let name = pod["metadata"]["name"].as_str().unwrap();
        let get = ["get", "pod", name, "--namespace", self.namespace, "--output=json"];
        serde_json::from_str(&self.cluster.kubectl(&get).unwrap()).unwrap()
    }

    async fn runs(&self, name: &str) {
        let running = || async {
            let status = self.api.get(name).await.ok()?.status?;
            let statuses = status.container_statuses?;
            statuses.iter().all(|status| status.ready).then_some(())
        };
        until(&format!("{name} runs"), running).await;
    }

    /// What the hook printed about its copy.
    async fn copied(&self, name: &str) -> Copied {
        let line = || async {
            let log = self.api.logs(name, &LogParams::default()).await.ok()?;
            let line: Value = log.lines().find_map(|line| serde_json::from_str(line).ok())?;
            Some(Copied {
                files: line["files"].as_u64()?,
                bytes: line["bytes"].as_u64()?,
                seconds: line["seconds"].as_f64()?,
            })
        };
        within(COPY, line).await.expect("the hook copies")
    }

    /// What a command in the first container printed; both of its outputs.
    fn exec(&self, name: &str, command: &str) -> String {
        let script = format!("({command}) 2>&1; true");
        let words = ["exec", name, "--namespace", self.namespace, "--", "sh", "-c", &script];
        self.cluster.kubectl(&words).unwrap()
    }
}

/// What lies on the work volume after the copy, and how long it took.
#[derive(Clone, Copy, Debug)]
struct Copied {
    files: u64,
    bytes: u64,
    seconds: f64,
}

const NODE: &str = "/__e/node16/bin/node -p 'process.version + \" \" + process.execPath'";
const RAN: &str = "v16.20.2 /__e/node16/bin/node\n";

fn version_of(pod: &Value) -> &Value {
    &pod["metadata"]["labels"][VERSION_LABEL]
}

/// The story of a job with the hooks up to 0.7.0: the runner copies externals to the work volume, and the workflow pod
/// runs Node.js from there.
async fn legacy_job(pods: &Pods<'_>, storage: Storage) -> (Value, Copied) {
    jobs::prepare(pods.cluster, pods.namespace, storage);
    let runner = pods.create(&jobs::runner(pods.namespace, storage));
    let name = runner["metadata"]["name"].as_str().unwrap();
    let copied = pods.copied(name).await;
    let workflow = pods.create(&jobs::workflow("hooks/v0.3.2/prepare-plain.json", pods.namespace));
    let name = workflow["metadata"]["name"].as_str().unwrap();
    pods.runs(name).await;
    assert_eq!(pods.exec(name, NODE), RAN);
    (runner, copied)
}

/// How often the comparison is made: once as a test; as a benchmark more often, and then its figure is judged.
fn rounds() -> Option<usize> {
    std::env::var("HEADSTART_ROUNDS").ok().map(|text| text.parse().expect("HEADSTART_ROUNDS is a number"))
}

/// How many times faster the copy must be on slow storage, to be called that.
const FASTER: f64 = 10.0;

#[tokio::test]
async fn a_legacy_runner_copies_the_lean_tree_to_slow_storage() {
    let Some((cluster, client, _turn)) = turn().await else { return };
    let mut rows = Vec::new();
    for round in 0..rounds().unwrap_or(1) {
        let plain = TestNamespace::create(cluster, &format!("stock-{round}")).unwrap();
        let pods = Pods::of(cluster, &client, plain.name());
        let (runner, stock) = legacy_job(&pods, Storage::Slow).await;
        assert!(version_of(&runner).is_null(), "nobody asked for it");

        let namespace = opted_in(cluster, &client, &format!("lean-{round}")).await;
        let pods = Pods::of(cluster, &client, namespace.name());
        let (runner, lean) = legacy_job(&pods, Storage::Slow).await;
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
async fn a_workflow_pod_of_current_hooks_gets_the_tree_instead_of_a_copy() {
    let Some((cluster, client, _turn)) = turn().await else { return };
    let namespace = opted_in(cluster, &client, "current").await;
    let pods = Pods::of(cluster, &client, namespace.name());
    let pod = pods.create(&jobs::workflow("hooks/v0.8.1/prepare-plain.json", namespace.name()));
    assert!(version_of(&pod).is_string(), "{pod}");
    let name = pod["metadata"]["name"].as_str().unwrap();
    pods.runs(name).await;
    let status = pods.api.get(name).await.unwrap().status.unwrap();
    let fs_init = status.init_container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!(fs_init.exit_code, 0);
    assert_eq!(pods.exec(name, NODE), RAN);
    let refused = pods.exec(name, "touch /__e/x; rm -f /__e/node16/bin/node; mkdir /__e/node16/y");
    assert_eq!(refused.matches("Read-only file system").count(), 3, "{refused}");
    assert_eq!(pods.exec(name, "stat -c '%u %F' /__w/repo/repo; touch /__w/repo/repo/x"), "1001 directory\n");
}

#[tokio::test]
async fn without_the_webhook_pods_are_created_unchanged_and_work() {
    let Some((cluster, client, _turn)) = turn().await else { return };
    let namespace = opted_in(cluster, &client, "alone").await;
    scale_webhook(cluster, &client, 0).await;
    let pods = Pods::of(cluster, &client, namespace.name());
    let (runner, copied) = legacy_job(&pods, Storage::Local).await;
    assert!(version_of(&runner).is_null(), "{runner}");
    assert!(copied.files > 5000, "{copied:?}");
    let name = runner["metadata"]["name"].as_str().unwrap().to_owned() + "-workflow";
    cluster.kubectl(&["delete", "pod", &name, "--namespace", namespace.name(), "--now"]).unwrap();

    let posted = jobs::workflow("hooks/v0.8.1/prepare-plain.json", namespace.name());
    let pod = pods.create(&posted);
    assert!(version_of(&pod).is_null(), "{pod}");
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    assert!(volumes.contains(&json!({ "name": "externals", "emptyDir": {} })), "{volumes:?}");
    assert_eq!(pod["spec"]["initContainers"][0]["command"], posted["spec"]["initContainers"][0]["command"]);
    pods.runs(&name).await;
    assert_eq!(pods.exec(&name, NODE), RAN);
    scale_webhook(cluster, &client, 2).await;
}

/// Scales it and waits until the API server finds it, or finds nobody.
async fn scale_webhook(cluster: &Cluster, client: &Client, replicas: usize) {
    let count = format!("--replicas={replicas}");
    cluster
        .kubectl(&["scale", "deployment/headstart-webhook", &count, "--namespace", headstart::NAMESPACE])
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(client.clone(), headstart::NAMESPACE);
    let ours = kube::api::ListParams::default().labels("app.kubernetes.io/name=headstart-webhook");
    until("the webhook is scaled", || async {
        let there = pods.list(&ours).await.ok()?.items.len() == replicas;
        (there && (replicas == 0 || headstart::is_available(client, "headstart-webhook").await)).then_some(())
    })
    .await;
}
