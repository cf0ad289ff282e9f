//! The one writer of the published state: a ConfigMap, replaced only if nobody else wrote it meanwhile.

use std::collections::BTreeMap;

use anyhow::Context as _;
use headstart_externals::names::{NAMESPACE_LABEL, STATE_KEY};
use headstart_externals::state::PublishedState;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use crate::metrics::Metrics;

/// Largest state, in bytes: a ConfigMap holds 1 MiB.
const LARGEST: usize = 1_000_000;

/// Reads and writes the published state.
pub struct StateWriter {
    api: Api<ConfigMap>,
    name: String,
    metrics: Metrics,
}

/// What is published.
pub struct Written {
    /// The state; `None` where the ConfigMap holds none.
    pub state: Option<PublishedState>,
    config_map: ConfigMap,
}

impl StateWriter {
    /// The ConfigMap `name` in `namespace`.
    pub fn new(client: Client, namespace: &str, name: &str, metrics: Metrics) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned(), metrics }
    }

    /// What is published now; `None` if nothing ever was. What cannot be understood is an error: a newer program may have
    /// written it, and pods may carry what it lists.
    pub async fn read(&self) -> anyhow::Result<Option<Written>> {
        let found = self.api.get_opt(&self.name).await;
        let found = found.with_context(|| format!("failed to read the ConfigMap {}", self.name))?;
        let Some(config_map) = found else { return Ok(None) };
        let text = config_map.data.as_ref().and_then(|data| data.get(STATE_KEY));
        let state = match text.map(|text| PublishedState::parse(text)) {
            Some(Ok(state)) => Some(state),
            Some(Err(problem)) => {
                self.metrics.failed("state");
                anyhow::bail!(
                    "the published state in the ConfigMap {} cannot be understood ({problem}), so nothing is published. \
                     If a newer controller wrote it, run that; else delete the ConfigMap to begin anew",
                    self.name
                );
            }
            None => None,
        };
        Ok(Some(Written { state, config_map }))
    }

    /// Publishes `state` in place of what was read.
    pub async fn write(&self, state: &PublishedState, before: Option<Written>) -> anyhow::Result<()> {
        let text = encoded(state)?;
        self.metrics.state_bytes(text.len());
        let post = PostParams::default();
        let done = match before {
            Some(Written { mut config_map, .. }) => {
                // Which runner sets are published is written beside it.
                config_map.data.get_or_insert_default().insert(STATE_KEY.to_owned(), text);
                self.api.replace(&self.name, &post, &config_map).await
            }
            None => {
                let data = Some(BTreeMap::from([(STATE_KEY.to_owned(), text)]));
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                self.api.create(&post, &ConfigMap { metadata, data, ..ConfigMap::default() }).await
            }
        };
        done.map(drop).with_context(|| format!("failed to write the ConfigMap {}", self.name))
    }
}

fn encoded(state: &PublishedState) -> anyhow::Result<String> {
    let text = serde_json::to_string(state)?;
    anyhow::ensure!(
        text.len() <= LARGEST,
        "the published state would take {} bytes, and a ConfigMap holds 1 MiB: take retired revisions out of the \
         configuration, or the label {NAMESPACE_LABEL} off namespaces without runners",
        text.len()
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use headstart_externals::config::Config;
    use headstart_externals::state::Allowed;

    use super::*;

    #[test]
    fn a_state_that_fits_no_config_map_is_not_sent() {
        let mut state = PublishedState::immediate(&Config::embedded().unwrap());
        let text = encoded(&state).unwrap();
        assert!(!text.contains(['\n', ' ']) && PublishedState::parse(&text).unwrap() == state);
        let many = (0..100_000).map(|number| (format!("namespace-{number}"), Default::default()));
        state.allowed = Allowed::Namespaces(many.collect());
        let error = encoded(&state).unwrap_err().to_string();
        assert!(error.contains("a ConfigMap holds 1 MiB: take"), "{error}");
    }
}
