//! Tries pods as a dry run, under an identity that can do nothing else.

use std::time::Instant;

use headstart_externals::state::{Allowed, PublishedState};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::Value;

use super::pods::{pods, survived};
use super::verdicts::{Candidate, Tried, Verdicts};
use crate::metrics::Metrics;

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

    /// The pairs that work, of those that are asked for. Nothing is known while no version is published.
    pub async fn allowed(&mut self, state: &PublishedState, candidates: &[Candidate]) -> Allowed {
        self.verdicts.retain(candidates);
        let tried = Tried::of(state);
        for candidate in candidates {
            if !state.versions.is_empty() && self.verdicts.is_due(candidate, &tried, Instant::now()) {
                self.try_pair(state, candidate, &tried).await;
            }
        }
        self.verdicts.allowed()
    }

    async fn try_pair(&mut self, state: &PublishedState, candidate: &Candidate, tried: &Tried) {
        let outcome = self.attempt(state, candidate).await;
        self.metrics.probed(candidate.kind, &outcome);
        let is_news = match outcome.verdict() {
            Some(works) => self.verdicts.keep(candidate, works, tried.clone(), Instant::now()),
            // The last verdict stays, and it is tried again soon.
            None => true,
        };
        if is_news {
            outcome.tell(candidate);
        }
    }

    async fn attempt(&self, state: &PublishedState, candidate: &Candidate) -> Outcome {
        let mut possible = state.versions.iter().map(|version| pods(state, version, candidate.kind));
        let Some(pods) = possible.find(|pods| !pods.is_empty()) else {
            return Outcome::Impossible;
        };
        for pod in pods {
            match self.dry_run(&candidate.namespace, &pod).await {
                Ok(answer) if survived(&pod, &answer) => {}
                Ok(_) => return Outcome::Refused("the API server drops the volume or its mount".to_owned()),
                Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 422) => {
                    return Outcome::Refused(status.message.clone());
                }
                Err(error) => return Outcome::Failed(error.to_string()),
            }
        }
        Outcome::Works
    }

    async fn dry_run(&self, namespace: &str, pod: &Value) -> kube::Result<Value> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        // As JSON: a typed pod would drop fields that it does not know, and so would hide that a server dropped them.
        let body = serde_json::to_vec(pod).map_err(kube::Error::SerdeError)?;
        let request = kube::core::Request::new(api.resource_url())
            .create(&PostParams { dry_run: true, field_manager: None }, body)
            .map_err(kube::Error::BuildRequest)?;
        self.client.request::<Value>(request).await
    }
}

/// What came of trying a pair.
pub enum Outcome {
    /// All pods were admitted as they are.
    Works,
    /// One was refused, or came back without its volume; with the cause.
    Refused(String),
    /// No version can be shown in this way.
    Impossible,
    /// The API server could not be asked.
    Failed(String),
}

impl Outcome {
    /// Whether the pair works; `None` where nothing can be concluded.
    fn verdict(&self) -> Option<bool> {
        match self {
            Self::Works => Some(true),
            Self::Refused(_) | Self::Impossible => Some(false),
            Self::Failed(_) => None,
        }
    }

    fn tell(&self, candidate: &Candidate) {
        let Candidate { namespace, kind, .. } = candidate;
        let say = |what: &str| tracing::info!(namespace, %kind, "{what}");
        let warn = |why: &str, what: &str| tracing::warn!(namespace, %kind, why, "{what}");
        match self {
            Self::Works => say("this volume kind works here"),
            Self::Impossible => say("no version has a volumeImage"),
            Self::Refused(why) => {
                warn(why, "pods would be refused with this volume kind; they stay unchanged");
            }
            Self::Failed(why) => warn(why, "a dry run failed; nothing is concluded from it"),
        }
    }
}
