//! The one writer of the published state: a ConfigMap, replaced only if nobody else wrote it meanwhile.

use std::collections::BTreeMap;

use anyhow::Context as _;
use headstart_externals::names::STATE_KEY;
use headstart_externals::state::PublishedState;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

/// Reads and writes the published state.
pub struct StateWriter {
    api: Api<ConfigMap>,
    name: String,
}

/// What is published.
pub struct Written {
    /// The state; `None` where the ConfigMap holds nothing that can be read.
    pub state: Option<PublishedState>,
    config_map: ConfigMap,
}

impl StateWriter {
    /// The ConfigMap `name` in `namespace`.
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned() }
    }

    /// What is published now; `None` if nothing ever was.
    pub async fn read(&self) -> anyhow::Result<Option<Written>> {
        let found = self.api.get_opt(&self.name).await;
        let found = found.with_context(|| format!("failed to read the ConfigMap {}", self.name))?;
        Ok(found.map(|config_map| {
            let text = config_map.data.as_ref().and_then(|data| data.get(STATE_KEY));
            let state = match text.map(|text| PublishedState::parse(text)) {
                Some(Ok(state)) => Some(state),
                Some(Err(problem)) => {
                    tracing::warn!(
                        config_map = self.name,
                        problem,
                        "the published state cannot be read; making it anew"
                    );
                    None
                }
                None => None,
            };
            Written { state, config_map }
        }))
    }

    /// Publishes `state` in place of what was read.
    pub async fn write(&self, state: &PublishedState, before: Option<Written>) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(state)?;
        let data = Some(BTreeMap::from([(STATE_KEY.to_owned(), text)]));
        let post = PostParams::default();
        let done = match before {
            Some(Written { config_map, .. }) => {
                self.api.replace(&self.name, &post, &ConfigMap { data, ..config_map }).await
            }
            None => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                self.api.create(&post, &ConfigMap { metadata, data, ..ConfigMap::default() }).await
            }
        };
        done.map(drop).with_context(|| format!("failed to write the ConfigMap {}", self.name))
    }
}
