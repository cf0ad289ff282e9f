//! Writes which runner sets may be pinned, under a key of its own in the ConfigMap of the published state.

use std::time::Duration;

use headstart_externals::names::RUNNER_SETS_KEY;
use headstart_externals::runner_sets::{PublishedRunnerSet, PublishedRunnerSets};
use headstart_runtime::cluster::{CallError, within};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

const CALL: Duration = Duration::from_secs(5);

/// The one writer of that key.
#[derive(Clone)]
pub(super) struct Publisher {
    api: Api<ConfigMap>,
    name: String,
    leader: String,
}

impl Publisher {
    /// Writes as `leader`, as the Lease names it, into the ConfigMap `name`.
    pub(super) fn new(client: Client, namespace: &str, name: &str, leader: &str) -> Self {
        let (name, leader) = (name.to_owned(), leader.to_owned());
        Self { api: Api::namespaced(client, namespace), name, leader }
    }

    /// Publishes these sets and no others.
    pub(super) async fn publish(&self, sets: Vec<PublishedRunnerSet>) -> anyhow::Result<()> {
        let text = serde_json::to_string(&PublishedRunnerSets::new(&self.leader, sets))?;
        let patch = Patch::Merge(json!({ "data": { RUNNER_SETS_KEY: text } }));
        let how = PatchParams::default();
        let write = || within(CALL, self.api.patch(&self.name, &how, &patch));
        match write().await {
            Err(error) if error.is_not_found() => match self.create(text).await {
                // Whoever writes the other keys was faster.
                Err(error) if error.is_conflict() => drop(write().await?),
                created => created?,
            },
            written => drop(written?),
        }
        Ok(())
    }

    async fn create(&self, text: String) -> Result<(), CallError> {
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
        let data = Some([(RUNNER_SETS_KEY.to_owned(), text)].into());
        let map = ConfigMap { metadata, data, ..ConfigMap::default() };
        within(CALL, self.api.create(&PostParams::default(), &map)).await.map(drop)
    }
}
