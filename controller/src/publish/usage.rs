//! Whether pods still carry a version: asked of the API server itself, never of a cache, just before it matters.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use headstart_externals::names::VERSION_LABEL;
use headstart_externals::version::VersionName;
use headstart_runtime::cluster::{CallError, within};
use headstart_runtime::trouble::Trouble;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::metrics::Metrics;

/// Longest time for one question.
const CALL: Duration = Duration::from_secs(10);

/// How long after a question the same one may be asked again: a list of pods is dear in a large cluster.
const PAUSE: Duration = Duration::from_secs(10);

/// Most questions of one round; those that waited longest come first.
const MOST: usize = 16;

/// Questions at once.
const AT_ONCE: usize = 4;

/// Asks, and remembers when.
pub struct Usage {
    pods: Api<Pod>,
    metrics: Metrics,
    asked: HashMap<VersionName, Instant>,
    trouble: Trouble,
}

impl Usage {
    /// Asks about the pods of all namespaces.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { pods: Api::all(client), metrics, asked: HashMap::new(), trouble: Trouble::default() }
    }

    /// Whether an unfinished pod carries a version, for those whose turn it is; what could not be found out is left out.
    pub async fn ask(&mut self, versions: &[VersionName], now: Instant) -> HashMap<VersionName, bool> {
        self.asked.retain(|version, _| versions.contains(version));
        let last = |version: &VersionName| self.asked.get(version).copied();
        let is_due =
            |version: &&VersionName| last(version).is_none_or(|asked| now.duration_since(asked) >= PAUSE);
        let mut due: Vec<VersionName> = versions.iter().filter(is_due).cloned().collect();
        due.sort_by_key(last);
        due.truncate(MOST);
        self.asked.extend(due.iter().map(|version| (version.clone(), now)));
        let pods = &self.pods;
        let answers = stream::iter(due).map(|version| async move {
            let answer = is_carried(pods, &version).await;
            (version, answer)
        });
        let answers: Vec<_> = answers.buffer_unordered(AT_ONCE).collect().await;
        answers.into_iter().filter_map(|(version, answer)| Some((version, self.known(answer)?))).collect()
    }

    fn known(&mut self, answer: Result<bool, CallError>) -> Option<bool> {
        match answer {
            Ok(answer) => {
                self.trouble.is_over();
                Some(answer)
            }
            Err(error) => {
                self.metrics.failed("usage");
                if self.trouble.is_news(&error) {
                    tracing::warn!(%error, "failed to ask which pods carry a version; it is not retired");
                }
                None
            }
        }
    }
}

async fn is_carried(pods: &Api<Pod>, version: &VersionName) -> Result<bool, CallError> {
    let unfinished = ListParams::default()
        .labels(&format!("{VERSION_LABEL}={version}"))
        .fields("status.phase!=Succeeded,status.phase!=Failed")
        .limit(1);
    let page = within(CALL, pods.list_metadata(&unfinished)).await?;
    // A page may be empty although more follow.
    let is_last = page.metadata.continue_.is_none_or(|more| more.is_empty());
    Ok(!page.items.is_empty() || !is_last)
}
