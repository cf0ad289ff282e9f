//! The webhook's replicas are replaced, and their certificates, while pods are created through a real API server: no
//! pod is created without it, and none fails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use headstart_externals::names::VERSION_LABEL;
use headstart_tests::bed::command::say;
use headstart_tests::bed::{Cluster, Shared, Turn, headstart};
use headstart_tests::jobs;
use headstart_tests::wait::until;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt as _};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::interval;

/// Creations per second, where the API server manages as many by itself.
const RATE: f64 = 200.0;

/// Creations at once: a machine that is too slow for the rate is kept busy, not buried.
const AT_ONCE: usize = 16;

/// How long the highest rate is looked for.
const MEASURED: Duration = Duration::from_secs(4);

/// How late a node may learn that a replica is leaving.
const LATE: Duration = Duration::from_secs(3);

/// The cluster of both tests.
static SHARED: Shared = Shared::new();

/// A test's turn on the cluster; `None` where this machine cannot have a node, which is said.
async fn turn() -> Option<Turn<'static>> {
    let make = async || {
        let cluster = Cluster::start(&headstart::images()?).await?;
        headstart::install(&cluster).await?;
        Ok(cluster)
    };
    SHARED.turn(make).await
}

/// A client that sees every answer: it retries nothing.
async fn client(cluster: &Cluster) -> Client {
    headstart_runtime::program::install_crypto();
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    config.proxy_url = None;
    Client::try_from(config).unwrap()
}

/// What came of creations.
#[derive(Default)]
struct Tally {
    created: usize,
    without_version: usize,
    failures: Vec<String>,
    slowest: Duration,
    took: Duration,
}

impl Tally {
    fn count(&mut self, created: Result<Pod, kube::Error>, took: Duration) {
        self.slowest = self.slowest.max(took);
        match created {
            Ok(pod) => {
                self.created += 1;
                self.without_version += usize::from(!pod.labels().contains_key(VERSION_LABEL));
            }
            Err(error) => self.failures.push(error.to_string()),
        }
    }

    fn rate(&self) -> f64 {
        self.created as f64 / self.took.as_secs_f64()
    }
}

/// Creates pods as a dry run at a steady rate until it is told to stop: the webhook is called as for any other.
async fn create_until(stop: oneshot::Receiver<()>, api: Api<Pod>, pod: Pod, rate: f64) -> Tally {
    let (mut tally, mut running, begun) = (Tally::default(), JoinSet::new(), Instant::now());
    let mut ticks = interval(Duration::from_secs_f64(1.0 / rate));
    tokio::pin!(stop);
    loop {
        tokio::select! {
            _ = &mut stop => break,
            Some(done) = running.join_next() => {
                let (created, took) = done.unwrap();
                tally.count(created, took);
            }
            _ = ticks.tick(), if running.len() < AT_ONCE => {
                let (api, pod, begun) = (api.clone(), pod.clone(), Instant::now());
                let dry_run = PostParams { dry_run: true, field_manager: None };
                running.spawn(async move { (api.create(&dry_run, &pod).await, begun.elapsed()) });
            }
        }
    }
    for (created, took) in running.join_all().await {
        tally.count(created, took);
    }
    tally.took = begun.elapsed();
    tally
}

/// Creations that go on beside the test.
struct Load {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Tally>,
}

impl Load {
    fn begin(client: &Client, namespace: &str, rate: f64) -> Self {
        let pod = jobs::workflow("hooks/v0.8.1/prepare-plain.json", namespace);
        let pod = serde_json::from_value(pod).unwrap();
        let (stop, stopped) = oneshot::channel();
        let api = Api::namespaced(client.clone(), namespace);
        Self { stop, task: tokio::spawn(create_until(stopped, api, pod, rate)) }
    }

    async fn end(self) -> Tally {
        self.stop.send(()).unwrap();
        self.task.await.unwrap()
    }
}

/// How many pods per second the API server creates in `namespace` if it is asked for more.
async fn highest_rate(client: &Client, namespace: &str) -> f64 {
    let load = Load::begin(client, namespace, 10.0 * RATE);
    passed(MEASURED).await;
    let tally = load.end().await;
    assert!(tally.failures.is_empty(), "{:?}", tally.failures.first());
    tally.rate()
}

/// Lets so much time pass, in which the load goes on.
async fn passed(time: Duration) {
    let mut ticks = interval(time);
    ticks.tick().await;
    ticks.tick().await;
}

/// What the API server counted about our webhooks: calls, and pods that were created without an answer.
async fn counted(client: &Client) -> (f64, f64) {
    let request = axum::http::Request::get("/metrics").body(vec![]).unwrap();
    let text = client.request_text(request).await.unwrap();
    let sum = |metric: &str| -> f64 {
        let of_ours = |line: &&str| line.starts_with(metric) && line.contains(".externals.headstart.dev\"");
        let values = text.lines().filter(of_ours).filter_map(|line| line.rsplit(' ').next());
        values.map(|value| value.parse::<f64>().unwrap()).sum()
    };
    let calls = sum("apiserver_admission_webhook_admission_duration_seconds_count{");
    (calls, sum("apiserver_admission_webhook_fail_open_count{"))
}

/// The webhook's pods, those that are leaving included.
async fn replicas(client: &Client) -> Vec<Pod> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), headstart::NAMESPACE);
    pods.list(&ListParams::default().labels("app.kubernetes.io/name=headstart-webhook")).await.unwrap().items
}

/// Creates pods while `change` goes on, and judges what became of them.
async fn under_load(name: &str, change: impl AsyncFnOnce(&Cluster, &Client)) {
    let Some(turn) = turn().await else { return };
    let cluster = turn.cluster;
    let client = client(cluster).await;
    let stock = turn.plain("stock");
    let namespace = turn.opted_in(name, "hostpath", &[]).await;
    let without = highest_rate(&client, stock.name()).await;
    let with = highest_rate(&client, namespace.name()).await;
    say(&format!("at most {without:.0} pods/s without Headstart, {with:.0} with it"));
    let rate = RATE.min(without);
    let before = counted(&client).await;
    let load = Load::begin(&client, namespace.name(), rate);
    change(cluster, &client).await;
    let tally = load.end().await;
    let after = counted(&client).await;
    let (calls, fail_opens) = (after.0 - before.0, after.1 - before.1);
    say(&format!(
        "{name}: {} pods in {:.1} s, {:.0} of {rate:.0}/s, slowest {:.0} ms; {calls} calls, {fail_opens} fail-opens, \
         {} failed, {} without a version",
        tally.created,
        tally.took.as_secs_f64(),
        tally.rate(),
        tally.slowest.as_secs_f64() * 1e3,
        tally.failures.len(),
        tally.without_version,
    ));
    assert!(tally.failures.is_empty(), "{:?}", tally.failures.first());
    assert_eq!(fail_opens, 0.0, "the API server gave up on the webhook");
    assert_eq!(tally.without_version, 0, "a replica answered before it knew what is published");
    assert!(tally.created > 100 && calls >= tally.created as f64, "{calls} calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_loses_no_pod() {
    under_load("rolling-restart", async |cluster, client| {
        let names = |pods: &[Pod]| pods.iter().map(Pod::name_any).collect::<BTreeSet<_>>();
        let old = names(&replicas(client).await);
        assert_eq!(old.len(), 2);
        // A node that is slow: it goes on to send requests to a replica that was told to leave.
        cluster.stop("kube-proxy").unwrap();
        let restart = ["rollout", "restart", "deployment/headstart-webhook", "--namespace"];
        cluster.kubectl(&[&restart[..], &[headstart::NAMESPACE]].concat()).unwrap();
        until("a replica was told to leave", || async {
            for pod in replicas(client).await {
                if log(client, &pod).await.is_some_and(|log| log.contains("shutting down")) {
                    return Some(());
                }
            }
            None
        })
        .await;
        passed(LATE).await;
        cluster.start_again("kube-proxy").unwrap();
        // Until the old ones are gone: they serve for a while after they were told to leave.
        until("two new replicas and no other", || async {
            let new = names(&replicas(client).await);
            let replaced = new.len() == 2 && new.is_disjoint(&old);
            (replaced && headstart::is_available(client, "headstart-webhook").await).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificates_lose_no_pod() {
    under_load("new-certificates", async |cluster, client| {
        // The leaf alone, then the authority, which brings another leaf.
        for (at, secret) in ["headstart-webhook-tls", "headstart-ca"].into_iter().enumerate() {
            let before = leaf(client).await;
            cluster.kubectl(&["delete", "secret", secret, "--namespace", headstart::NAMESPACE]).unwrap();
            until("a new leaf", || async { leaf(client).await.filter(|leaf| Some(leaf) != before.as_ref()) })
                .await;
            for pod in replicas(client).await {
                let looks = Cell::new(0_u32);
                until("the new leaf is served", || async {
                    // The kubelet looks at a pod's Secrets at once when the pod changes, and else within two minutes.
                    if looks.replace(looks.get() + 1).is_multiple_of(50) {
                        touch(client, &pod, looks.get()).await;
                    }
                    reloads(client, &pod).await.filter(|reloads| *reloads > at)
                })
                .await;
            }
        }
    })
    .await;
}

/// Changes a pod in a way that means nothing.
async fn touch(client: &Client, pod: &Pod, number: u32) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), headstart::NAMESPACE);
    let note = serde_json::json!({ "metadata": { "annotations": { "test/touched": number.to_string() } } });
    pods.patch_metadata(&pod.name_any(), &PatchParams::default(), &Patch::Merge(note)).await.unwrap();
}

/// The certificate that replicas are to serve.
async fn leaf(client: &Client) -> Option<Vec<u8>> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), headstart::NAMESPACE);
    let secret = secrets.get_opt("headstart-webhook-tls").await.ok()??;
    secret.data?.remove("tls.crt").map(|certificate| certificate.0)
}

/// How often this replica took over another certificate.
async fn reloads(client: &Client, pod: &Pod) -> Option<usize> {
    Some(log(client, pod).await?.matches("certificate reloaded").count())
}

/// What it has logged; nothing while it starts.
async fn log(client: &Client, pod: &Pod) -> Option<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), headstart::NAMESPACE);
    pods.logs(&pod.name_any(), &LogParams::default()).await.ok()
}
