//! What the controller watches: nodes, the namespaces that opted in, the nodes' reports. Every replica does, so that a
//! new leader knows at once.

use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use headstart_externals::names::{NAMESPACE_LABEL, REPORT_LABEL, REPORT_NODE};
use headstart_runtime::shutdown::Shutdown;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use crate::relevant::{Relevant, of_namespace, of_node, of_report};

/// How long the API server keeps a watch, in seconds. Shorter than a connection may be silent, so that a dead one is
/// noticed.
const WATCH: u32 = 45;

/// The newest known objects.
#[derive(Clone)]
pub struct Watched {
    /// All nodes.
    pub nodes: Store<Node>,
    /// The namespaces that carry our label.
    pub namespaces: Store<Namespace>,
    /// The Leases with the nodes' reports.
    pub reports: Store<Lease>,
    /// Told at every change that matters.
    pub changed: Arc<Notify>,
}

/// The streams that keep [`Watched`] new.
pub struct Watching(Vec<BoxStream<'static, bool>>, Arc<Notify>);

impl Watched {
    /// Begins to watch with a client that is made for it; nothing is known until [`Watching::run`] runs.
    pub fn new(client: &Client, namespace: &str) -> (Self, Watching) {
        let all = watcher::Config::default().timeout(WATCH);
        let labelled = all.clone().labels(NAMESPACE_LABEL);
        let of_nodes = all.clone().labels(&format!("{REPORT_LABEL}={REPORT_NODE}"));
        let (nodes, node_stream) =
            watch(Api::all(client.clone()), all, Relevant::new(of_node), |node: &mut Node| {
                node.metadata.managed_fields = None;
                // The bulk of a Node, of which nothing here makes use.
                if let Some(status) = &mut node.status {
                    status.images = None;
                }
            });
        let (namespaces, namespace_stream) = watch(
            Api::all(client.clone()),
            labelled,
            Relevant::new(of_namespace),
            |namespace: &mut Namespace| {
                namespace.metadata.managed_fields = None;
            },
        );
        let leases = Api::namespaced(client.clone(), namespace);
        // Their managed fields tell when a report was written.
        let (reports, report_stream) = watch(leases, of_nodes, Relevant::new(of_report), |_| {});
        let changed = Arc::new(Notify::new());
        let watching = Watching(vec![node_stream, namespace_stream, report_stream], changed.clone());
        (Self { nodes, namespaces, reports, changed }, watching)
    }

    /// Waits until everything was listed once.
    pub async fn ready(&self) -> anyhow::Result<()> {
        self.nodes.wait_until_ready().await?;
        self.namespaces.wait_until_ready().await?;
        self.reports.wait_until_ready().await?;
        Ok(())
    }
}

impl Watching {
    /// Watches until the shutdown.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self(streams, changed) = self;
        let mut all = stream::select_all(streams);
        loop {
            tokio::select! {
                () = shutdown.begun() => return Ok(()),
                event = all.next() => match event {
                    Some(true) => changed.notify_one(),
                    Some(false) => {}
                    None => anyhow::bail!("the watches ended"),
                },
            }
        }
    }
}

/// A store and the stream that fills it. Failures are logged and tried again with a growing pause.
fn watch<K>(
    api: Api<K>,
    config: watcher::Config,
    mut relevant: Relevant<K>,
    shorten: impl Fn(&mut K) + Send + 'static,
) -> (Store<K>, BoxStream<'static, bool>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let events = watcher(api, config).default_backoff().modify(shorten);
    let events = events.reflect(writer).map(move |event| match event {
        Ok(event) => relevant.is_news(&event),
        Err(error) => {
            tracing::warn!(kind = %K::kind(&()), error = %format!("{:#}", anyhow::Error::new(error)), "watch failed; trying again");
            false
        }
    });
    (store, events.boxed())
}
