//! The pods of this node that use the cache, as the API server knows them.

use std::time::Duration;

use anyhow::Context as _;
use headstart_externals::names::VERSION_LABEL;
use headstart_runtime::cluster::within;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};

/// Longest time for the list.
const CALL: Duration = Duration::from_secs(30);

/// Most pods that are named; one is enough to refuse.
const NAMED: u32 = 20;

/// Unfinished pods that carry a version, on `node` or on none yet: the latter may still be sent there.
pub(super) async fn pods(client: Client, node: &str) -> anyhow::Result<Vec<String>> {
    let pods: Api<Pod> = Api::all(client);
    let mut users = Vec::new();
    for (place, words) in [(node, ""), ("", " (not scheduled yet)")] {
        let fields = format!("spec.nodeName={place},status.phase!=Succeeded,status.phase!=Failed");
        let list = ListParams::default().labels(VERSION_LABEL).fields(&fields).limit(NAMED);
        let found = within(CALL, pods.list_metadata(&list)).await.with_context(|| {
            format!(
                "failed to ask which pods of the node {node} use the cache; give --standalone to go without"
            )
        })?;
        users.extend(
            found
                .items
                .iter()
                .map(|pod| format!("pod {}/{}{words}", pod.namespace().unwrap_or_default(), pod.name_any())),
        );
    }
    Ok(users)
}
