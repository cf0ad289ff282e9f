//! Tries pods as a dry run, under an identity that can do nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use headstart_externals::state::{Allowed, AutoKind, MountKind, Phase, PublishedState, PublishedVersion};
use headstart_runtime::cluster::{CallError, within};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::Value;

use super::auto::{Wish, bounded, resolve};
use super::outcome::Outcome;
use super::pods::{Trial, Trials, survived, trials};
use super::verdicts::{Candidate, Pair, Tried, Verdicts, live};
use crate::metrics::Metrics;

/// Longest dry run; some webhooks take their time.
const CALL: Duration = Duration::from_secs(5);

/// Dry runs at once.
const AT_ONCE: usize = 8;

/// Longest time for one pair.
const ATTEMPT: Duration = Duration::from_secs(8);

/// Longest time that one round spends on trying; the rest is tried in the next one.
const ROUND: Duration = Duration::from_secs(10);

/// Finds out which pairs work, and remembers.
pub struct Prober {
    client: Client,
    metrics: Metrics,
    verdicts: Verdicts,
}

impl Prober {
    /// `client` acts as the identity for probes.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics, verdicts: Verdicts::default() }
    }

    /// The pairs that work, of those that are asked for, with what `state` is about to give to pods. Nothing is tried
    /// while that is nothing.
    pub async fn allowed(
        &mut self,
        state: &PublishedState,
        before: Option<&PublishedState>,
        candidates: &[Candidate],
    ) -> Allowed {
        if let Some(before) = before {
            self.verdicts.inherit(before);
        }
        self.verdicts.retain(candidates);
        if live(state).next().is_some() {
            // What was found out until then is kept.
            let _ = tokio::time::timeout(ROUND, self.try_due(state, candidates)).await;
        }
        self.verdicts.allowed(state)
    }

    /// What `auto` comes to in the namespaces that ask for it.
    pub fn auto(
        &self,
        wishes: &[Wish],
        allowed: &Allowed,
        before: &BTreeMap<String, AutoKind>,
    ) -> BTreeMap<String, AutoKind> {
        let resolved = wishes.iter().map(|wish| {
            let found = |kind| self.verdicts.outcome(&Pair { namespace: wish.namespace.clone(), kind });
            (wish.namespace.clone(), resolve(wish, allowed, found, before.get(&wish.namespace)))
        });
        bounded(resolved.collect())
    }

    async fn try_due(&mut self, state: &PublishedState, candidates: &[Candidate]) {
        let now = Instant::now();
        let attempts: Vec<_> = due(&self.verdicts, state, candidates, now)
            .into_iter()
            .map(|(pair, tried)| {
                let client = self.client.clone();
                async move { (pair, tried, in_time(attempt(&client, state, pair)).await) }
            })
            .collect();
        let mut outcomes = stream::iter(attempts).buffer_unordered(AT_ONCE);
        while let Some((pair, tried, outcome)) = outcomes.next().await {
            self.metrics.probed(pair.kind, outcome.word());
            if self.verdicts.keep(pair, &outcome, tried, Instant::now()) {
                tell(&outcome, pair);
            }
        }
    }
}

/// The pairs to try now, so that each has its turn, however many there are.
fn due<'c>(
    verdicts: &Verdicts,
    state: &PublishedState,
    candidates: &'c [Candidate],
    now: Instant,
) -> Vec<(&'c Pair, Tried)> {
    let tried = candidates.iter().map(|candidate| (&candidate.pair, Tried::new(state, candidate)));
    let mut due: Vec<_> = tried.filter(|(pair, tried)| verdicts.is_due(pair, tried, now)).collect();
    due.sort_by_key(|(pair, _)| verdicts.last(pair));
    due
}

/// An attempt that ends within its round, so that a slow namespace has had its turn.
async fn in_time(attempt: impl Future<Output = Outcome>) -> Outcome {
    let slow = || Outcome::Inconclusive(format!("not done within {ATTEMPT:?}"));
    tokio::time::timeout(ATTEMPT, attempt).await.unwrap_or_else(|_| slow())
}

/// All that pods can be given must be admitted.
async fn attempt(client: &Client, state: &PublishedState, pair: &Pair) -> Outcome {
    let all: Vec<Trials> =
        shown(state, pair.kind).into_iter().flat_map(|version| trials(state, version, pair.kind)).collect();
    if all.is_empty() {
        return Outcome::Impossible;
    }
    for shape in &all {
        match try_shape(client, &pair.namespace, shape).await {
            Outcome::Works => {}
            other => return other,
        }
    }
    Outcome::Works
}

/// The versions to show: one for every image, but only one by hostPath, where all are shown alike.
fn shown(state: &PublishedState, kind: MountKind) -> Vec<&PublishedVersion> {
    let mut found: Vec<&PublishedVersion> = live(state).collect();
    found.sort_by_key(|version| version.phase != Phase::Offered);
    if kind == MountKind::Image {
        let mut images = BTreeSet::new();
        found.retain(|version| version.volume_image.as_ref().is_some_and(|image| images.insert(image)));
    } else {
        found.truncate(1);
    }
    found
}

/// A shape works if one of its trials is admitted. A refusal is ours only if the same pod is admitted without the volume.
async fn try_shape(client: &Client, namespace: &str, shape: &[Trial]) -> Outcome {
    let mut last = Outcome::Impossible;
    for trial in shape {
        last = match dry_run(client, namespace, &trial.rewritten).await {
            Ok(answer) if survived(&trial.rewritten, &answer) => return Outcome::Works,
            Ok(_) => return Outcome::Refused("the API server drops the volume or its mount".to_owned()),
            Err(CallError::Refused(status)) if matches!(status.code, 400 | 403 | 422) => {
                match dry_run(client, namespace, &trial.stock).await {
                    Ok(_) => return Outcome::Refused(status.message.clone()),
                    Err(_) => Outcome::Inconclusive(status.message.clone()),
                }
            }
            Err(error) => return Outcome::Inconclusive(error.to_string()),
        };
    }
    last
}

async fn dry_run(client: &Client, namespace: &str, pod: &Value) -> Result<Value, CallError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let call = async {
        // As JSON: a typed pod would drop fields that it does not know, and so would hide that a server dropped them.
        let body = serde_json::to_vec(pod).map_err(kube::Error::SerdeError)?;
        let request = kube::core::Request::new(api.resource_url())
            .create(&PostParams { dry_run: true, field_manager: None }, body)
            .map_err(kube::Error::BuildRequest)?;
        client.request::<Value>(request).await
    };
    within(CALL, call).await
}

fn tell(outcome: &Outcome, Pair { namespace, kind }: &Pair) {
    let say = |what: &str| tracing::info!(namespace, %kind, "{what}");
    let warn = |why: &str, what: &str| tracing::warn!(namespace, %kind, why, "{what}");
    match outcome {
        Outcome::Works => say("this volume kind works here"),
        Outcome::Impossible => say("no version has a volumeImage"),
        Outcome::Refused(why) => {
            warn(why, "pods would be refused with this volume kind; they stay unchanged");
        }
        Outcome::Inconclusive(why) => warn(why, "a dry run shows nothing about this volume kind"),
    }
}

#[cfg(test)]
mod tests {
    use headstart_externals::config::Config;

    use super::*;

    #[test]
    fn who_waited_longest_is_tried_first() {
        let state = PublishedState::immediate(&Config::embedded().unwrap());
        let candidate = |name: &str| Candidate {
            pair: Pair { namespace: name.to_owned(), kind: MountKind::HostPath },
            resource_version: "1".to_owned(),
        };
        let candidates = ["late", "early", "new"].map(candidate);
        let (mut verdicts, begun) = (Verdicts::default(), Instant::now());
        for (at, candidate) in [(2, &candidates[0]), (1, &candidates[1])] {
            let tried = Tried::new(&state, candidate);
            verdicts.keep(&candidate.pair, &Outcome::Works, tried, begun + Duration::from_secs(at));
        }
        let due = due(&verdicts, &state, &candidates, begun + Duration::from_secs(3600));
        let names: Vec<&str> = due.iter().map(|(pair, _)| pair.namespace.as_str()).collect();
        assert_eq!(names, ["new", "early", "late"]);
    }

    #[test]
    fn every_image_that_pods_can_be_given_is_shown_and_one_host_path() {
        let mut state = PublishedState::immediate(&Config::embedded().unwrap());
        let version = state.versions.remove(0);
        for (image, phase) in [
            (Some("a"), Phase::Retired),
            (None, Phase::Retiring),
            (Some("b"), Phase::Retiring),
            (Some("c"), Phase::Offered),
            (Some("b"), Phase::Offered),
        ] {
            let volume_image = image.map(str::to_owned);
            state.versions.push(PublishedVersion { volume_image, phase, ..version.clone() });
        }
        let images = |kind| {
            let found = shown(&state, kind);
            found.into_iter().map(|found| found.volume_image.as_deref()).collect::<Vec<_>>()
        };
        assert_eq!(images(MountKind::Image), [Some("c"), Some("b")]);
        assert_eq!(images(MountKind::HostPath), [Some("c")], "one that is offered");
    }
}
