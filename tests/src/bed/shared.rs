//! One cluster with Headstart for all tests of a file; they take turns, since some of them take parts of it away.

use futures::future::join_all;
use headstart_externals::names::{NAMESPACE_LABEL, VERSION_LABEL};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use super::command::say;
use super::{Cluster, TestNamespace, headstart, node_unavailable};
use crate::jobs;
use crate::pods::Pods;
use crate::wait::until;

/// Creations by which a namespace is tried at once.
const AT_ONCE: usize = 12;

/// The cluster. It goes with the process.
#[derive(Default)]
pub struct Shared {
    cluster: OnceCell<Cluster>,
    turn: Mutex<()>,
}

/// A test's turn on the cluster.
pub struct Turn<'c> {
    /// The cluster, with Headstart.
    pub cluster: &'c Cluster,
    /// A client of this test's own runtime.
    pub client: Client,
    _turn: MutexGuard<'c, ()>,
}

impl Shared {
    /// One that is not there yet.
    pub const fn new() -> Self {
        Self { cluster: OnceCell::const_new(), turn: Mutex::const_new(()) }
    }

    /// The next turn on it; the first makes it. `None` where this machine cannot have a node, which is said.
    pub async fn turn(&self, make: impl AsyncFnOnce() -> anyhow::Result<Cluster>) -> Option<Turn<'_>> {
        if let Some(reason) = node_unavailable() {
            say(&format!("skipped: {reason}"));
            return None;
        }
        let turn = self.turn.lock().await;
        let cluster = self.cluster.get_or_init(|| async { make().await.unwrap() }).await;
        let turn = Turn { cluster, client: cluster.client().await.unwrap(), _turn: turn };
        // A test that failed may have left them away.
        turn.scale(headstart::WEBHOOK, 2).await;
        turn.scale(headstart::CONTROLLER, 2).await;
        Some(turn)
    }
}

impl<'c> Turn<'c> {
    /// A namespace without labels.
    pub fn plain(&self, name: &str) -> TestNamespace<'c> {
        TestNamespace::create(self.cluster, name).unwrap()
    }

    /// A namespace that asks for the cache as `kind`, has further labels, and is served.
    pub async fn opted_in(&self, name: &str, kind: &str, labels: &[&str]) -> TestNamespace<'c> {
        let asks = format!("{NAMESPACE_LABEL}={kind}");
        let labels = [&[asks.as_str()], labels].concat();
        let namespace = TestNamespace::labelled(self.cluster, name, &labels).unwrap();
        self.served(namespace.name()).await;
        namespace
    }

    /// Lets a namespace ask for the cache that did not yet.
    pub async fn opt_in(&self, namespace: &str, kind: &str) {
        let label = format!("{NAMESPACE_LABEL}={kind}");
        self.cluster.kubectl(&["label", "namespace", namespace, &label]).unwrap();
        self.served(namespace).await;
    }

    async fn served(&self, namespace: &str) {
        self.gives(namespace, None).await;
    }

    /// Waits until every new pod of the namespace is given this version; or any.
    pub async fn gives(&self, namespace: &str, version: Option<&str>) {
        // As strict as can be, so that it is admitted in every namespace.
        let pod = jobs::restricted(jobs::workflow("hooks/v0.8.1/prepare-plain.json", namespace));
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let dry_run = PostParams { dry_run: true, field_manager: None };
        // Many at once: so the API server opens connections to every replica of the webhook, and each learns by itself.
        until(&format!("{namespace} is served"), || async {
            let tries = (0..AT_ONCE).map(|_| pods.create(&dry_run, &pod));
            let tried = join_all(tries).await;
            let served = |tried: &Result<Pod, _>| {
                let given = tried.as_ref().ok().and_then(|pod: &Pod| pod.labels().get(VERSION_LABEL));
                given.is_some_and(|given| version.is_none_or(|version| given == version))
            };
            tried.iter().all(served).then_some(())
        })
        .await;
    }

    /// The pods of a namespace.
    pub fn pods<'n>(&self, namespace: &'n TestNamespace<'_>) -> Pods<'n>
    where
        'c: 'n,
    {
        Pods::of(self.cluster, &self.client, namespace.name())
    }

    /// Changes how many replicas a part of Headstart has, and waits until they serve, or until all are gone.
    pub async fn scale(&self, part: &str, replicas: usize) {
        headstart::scale(self.cluster, part, replicas).unwrap();
        headstart::is_scaled(&self.client, part, replicas).await;
    }
}
