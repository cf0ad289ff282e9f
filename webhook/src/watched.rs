//! The published state from the ConfigMap that the controller writes.

use headstart_externals::names::STATE_KEY;
use headstart_externals::state::PublishedState;
use headstart_runtime::config_map::{self, ConfigMapKey, Followers, Reading};
use headstart_runtime::shutdown::Shutdown;
use headstart_runtime::trouble::Trouble;
use kube::Client;

use crate::metrics::Metrics;
use crate::published::Published;

/// Follows the published state of a cluster.
pub struct WatchedState {
    published: Published,
    metrics: Metrics,
    seen: Option<String>,
    trouble: Trouble,
}

impl WatchedState {
    /// A follower that has read nothing yet.
    pub fn new(published: Published, metrics: Metrics) -> Self {
        Self { published, metrics, seen: None, trouble: Trouble::default() }
    }

    /// Follows the ConfigMap `name` until the shutdown begins.
    pub async fn run(
        mut self,
        client: Client,
        namespace: String,
        name: String,
        shutdown: Shutdown,
    ) -> anyhow::Result<()> {
        let what = ConfigMapKey { namespace, name, key: STATE_KEY };
        config_map::follow(client, what, Followers::Few, shutdown, |reading| self.take(reading)).await
    }

    fn take(&mut self, reading: Reading) {
        match reading {
            Reading::Text(text) => self.take_text(text),
            Reading::NoKey => self.keep(&format!("it has no key {STATE_KEY}")),
            Reading::Gone => {
                self.seen = None;
                self.published.clear();
                if self.trouble.is_news(&"the ConfigMap is not there") {
                    tracing::warn!(
                        "there is no published state, so no pod is changed; is headstart-controller running?"
                    );
                }
            }
        }
    }

    fn take_text(&mut self, text: String) {
        if self.seen.as_ref() == Some(&text) {
            self.trouble.is_over();
            return self.published.renew();
        }
        match PublishedState::parse(&text) {
            Ok(state) => {
                let (generation, versions) = (state.generation, state.versions.len());
                tracing::info!(generation, versions, "published state taken over");
                self.metrics.took_state(generation);
                self.published.set(state);
                self.seen = Some(text);
                self.trouble.is_over();
            }
            Err(problem) => self.keep(&format!("{STATE_KEY} {problem}")),
        }
    }

    /// What cannot be understood was not read: the last good state stays until it is too old.
    fn keep(&mut self, problem: &str) {
        if self.trouble.is_news(&problem) {
            tracing::warn!(problem, "keeping the last good published state until it is stale");
        }
    }
}
