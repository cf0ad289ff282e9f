//! The published state, and the published runner sets beside it, from the ConfigMap that the controller writes.

use headstart_externals::names::{RUNNER_SETS_KEY, STATE_KEY};
use headstart_externals::state::PublishedState;
use headstart_runtime::config_map::{self, ConfigMapName, Followers, Reading};
use headstart_runtime::shutdown::Shutdown;
use headstart_runtime::trouble::Trouble;
use kube::Client;

use crate::metrics::Metrics;
use crate::published::Published;
use crate::runner_sets::sources::{ListReader, RunnerSets};

/// Follows what is published in a cluster.
pub struct WatchedState {
    published: Published,
    runner_sets: ListReader,
    metrics: Metrics,
    seen: Option<String>,
    trouble: Trouble,
}

impl WatchedState {
    /// A follower that has read nothing yet.
    pub fn new(published: Published, runner_sets: RunnerSets, metrics: Metrics) -> Self {
        let runner_sets = ListReader::new(runner_sets);
        Self { published, runner_sets, metrics, seen: None, trouble: Trouble::default() }
    }

    /// Follows the ConfigMap `name` until the shutdown begins.
    pub async fn run(
        mut self,
        client: Client,
        namespace: String,
        name: String,
        shutdown: Shutdown,
    ) -> anyhow::Result<()> {
        let what = ConfigMapName { namespace, name };
        config_map::follow(client, what, Followers::Few, shutdown, |reading| self.take(reading)).await
    }

    fn take(&mut self, reading: Reading) {
        match reading {
            Reading::Data(mut data) => {
                self.runner_sets.take(data.get(RUNNER_SETS_KEY).map(String::as_str));
                match data.remove(STATE_KEY) {
                    Some(text) => self.take_text(text),
                    None => self.keep(&format!("it has no key {STATE_KEY}")),
                }
            }
            Reading::Gone => {
                self.runner_sets.take(None);
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
