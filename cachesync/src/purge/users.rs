//! The pods of this node that use the cache, as the API server knows them.

use std::time::Duration;

use anyhow::Context as _;
use headstart_externals::names::VERSION_LABEL;
use headstart_runtime::cluster::within;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::core::PartialObjectMeta;
use kube::{Client, ResourceExt as _};

/// Longest time for the list.
const CALL: Duration = Duration::from_secs(30);

/// Most pods that are named; one is enough to refuse.
const NAMED: u32 = 20;

/// Namespace and name of unfinished pods on `node` that carry a version.
pub(super) async fn pods(client: Client, node: &str) -> anyhow::Result<Vec<String>> {
    let fields = format!("spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed");
    let list = ListParams::default().labels(VERSION_LABEL).fields(&fields).limit(NAMED);
    let pods: Api<Pod> = Api::all(client);
    let found = within(CALL, pods.list_metadata(&list)).await.with_context(|| {
        format!("failed to ask which pods of the node {node} use the cache; give --standalone to go without")
    })?;
    let name = |pod: &PartialObjectMeta<Pod>| {
        format!("pod {}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
    };
    Ok(found.items.iter().map(name).collect())
}
