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

use super::phases::Question;
use crate::metrics::Metrics;

/// Longest time for one question.
const CALL: Duration = Duration::from_secs(10);

/// How long after a question the same one may be asked again: a list of pods is dear in a large cluster.
const PAUSE: Duration = Duration::from_secs(10);

/// Most versions that one round asks about; those that waited longest come first.
const MOST: usize = 64;

/// Longest time that one round spends on asking; the rest is asked in the next one.
const ROUND: Duration = Duration::from_secs(15);

/// Questions at once.
const AT_ONCE: usize = 4;

/// Asks, and remembers when and what came of it.
pub struct Usage {
    pods: Api<Pod>,
    metrics: Metrics,
    asked: HashMap<VersionName, Asked>,
    trouble: Trouble,
}

/// By version, whether an unfinished pod carries it.
pub type Answers = HashMap<VersionName, bool>;

#[derive(Clone, Copy)]
struct Asked {
    at: Instant,
    is_carried: bool,
}

impl Usage {
    /// Asks about the pods of all namespaces.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { pods: Api::all(client), metrics, asked: HashMap::new(), trouble: Trouble::default() }
    }

    /// Whether an unfinished pod carries a version, for those whose turn it is; what could not be found out is left out.
    ///
    /// Agents hold what is retired for the time `keep`: twice in that time is often enough to look at it again.
    pub async fn ask(&mut self, questions: &[Question], keep: Duration, now: Instant) -> Answers {
        let due = due(questions, &self.asked, keep, now);
        self.asked.retain(|version, _| questions.iter().any(|question| question.version == *version));
        let was_carried =
            |version: &VersionName| self.asked.get(version).is_some_and(|asked| asked.is_carried);
        let (held, free): (Vec<VersionName>, Vec<VersionName>) = due.into_iter().partition(was_carried);
        let mut answers = HashMap::new();
        // What was found out until then is kept.
        let _ = tokio::time::timeout(ROUND, async {
            self.each(&held, now, &mut answers).await;
            self.together(&free, now, &mut answers).await;
        })
        .await;
        answers
    }

    /// Of many versions mostly none is carried, which one question shows.
    async fn together(&mut self, versions: &[VersionName], now: Instant, answers: &mut Answers) {
        if versions.len() < 2 {
            return self.each(versions, now, answers).await;
        }
        match self.known(is_any_carried(&self.pods, versions).await) {
            Some(true) => self.each(versions, now, answers).await,
            none => versions.iter().for_each(|version| self.keep(version, now, none, answers)),
        }
    }

    async fn each(&mut self, versions: &[VersionName], now: Instant, answers: &mut Answers) {
        let pods = self.pods.clone();
        let asked = versions.iter().map(|version| {
            let pods = &pods;
            async move { (version, is_any_carried(pods, std::slice::from_ref(version)).await) }
        });
        // Collected, since a closure over references is not general enough for a task.
        let asked: Vec<_> = asked.collect();
        let mut asked = stream::iter(asked).buffer_unordered(AT_ONCE);
        while let Some((version, answer)) = asked.next().await {
            let answer = self.known(answer);
            self.keep(version, now, answer, answers);
        }
    }

    /// A question without an answer waits like any other.
    fn keep(&mut self, version: &VersionName, now: Instant, answer: Option<bool>, answers: &mut Answers) {
        let is_carried = answer.unwrap_or(true);
        self.asked.insert(version.clone(), Asked { at: now, is_carried });
        answers.extend(answer.map(|answer| (version.clone(), answer)));
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

/// Whose turn it is.
fn due(
    questions: &[Question],
    asked: &HashMap<VersionName, Asked>,
    keep: Duration,
    now: Instant,
) -> Vec<VersionName> {
    let last = |question: &Question| asked.get(&question.version).map(|asked| asked.at);
    let is_due = |question: &&Question| {
        let pause = if question.is_retired { PAUSE.max(keep / 2) } else { PAUSE };
        last(question).is_none_or(|asked| now.duration_since(asked) >= pause)
    };
    let mut due: Vec<&Question> = questions.iter().filter(is_due).collect();
    due.sort_by_key(|question| last(question));
    due.into_iter().take(MOST).map(|question| question.version.clone()).collect()
}

async fn is_any_carried(pods: &Api<Pod>, versions: &[VersionName]) -> Result<bool, CallError> {
    let names: Vec<&str> = versions.iter().map(VersionName::as_str).collect();
    let unfinished = ListParams::default()
        .labels(&format!("{VERSION_LABEL} in ({})", names.join(",")))
        .fields("status.phase!=Succeeded,status.phase!=Failed")
        .limit(1);
    let page = within(CALL, pods.list_metadata(&unfinished)).await?;
    // A page may be empty although more follow.
    let is_last = page.metadata.continue_.is_none_or(|more| more.is_empty());
    Ok(!page.items.is_empty() || !is_last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: usize) -> VersionName {
        format!("old-{number:012x}").parse().unwrap()
    }

    #[test]
    fn what_is_retired_is_asked_about_twice_while_agents_keep_it() {
        let (keep, begun) = (Duration::from_secs(600), Instant::now());
        let asked = HashMap::from([(version(1), Asked { at: begun, is_carried: false })]);
        let is_due = |is_retired: bool, seconds: u64| {
            let questions = [Question { version: version(1), is_retired }];
            !due(&questions, &asked, keep, begun + Duration::from_secs(seconds)).is_empty()
        };
        assert!(!is_due(false, 9) && is_due(false, 10));
        assert!(!is_due(true, 299) && is_due(true, 300));
        let soon = [Question { version: version(1), is_retired: true }];
        assert!(due(&soon, &asked, Duration::ZERO, begun + Duration::from_secs(9)).is_empty());
    }

    #[test]
    fn what_was_never_asked_comes_first_and_a_round_asks_no_more_than_it_can() {
        let (now, keep) = (Instant::now(), Duration::ZERO);
        let questions: Vec<Question> =
            (0..=MOST).map(|number| Question { version: version(number), is_retired: false }).collect();
        let long_ago = Asked { at: now, is_carried: true };
        let asked = HashMap::from([(version(0), long_ago)]);
        let due = due(&questions, &asked, keep, now + PAUSE);
        assert_eq!(due.len(), MOST);
        assert!(!due.contains(&version(0)));
    }
}
