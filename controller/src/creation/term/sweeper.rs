//! Looks now and then for Secrets of ours that no journal tells of and no runner has, and removes them with their registration.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::tools::Toolbox;
use crate::creation::call::Trouble;
use crate::creation::engine::Engine;
use crate::creation::execute::Tools;
use crate::creation::kubernetes::Kubernetes;
use crate::creation::sweep::{EVERY, OurSecret, left_over};
use crate::creation::template::API_VERSION;
use crate::metrics::CreationMetrics;
use headstart_externals::names::RUNNER_SET_LABEL;

/// The sweeper of a term.
pub(super) struct Sweeper {
    kubernetes: Kubernetes,
    metrics: CreationMetrics,
    /// When each namespace is looked at again.
    due: BTreeMap<String, Duration>,
    looking: JoinSet<(String, Result<Vec<OurSecret>, Trouble>)>,
    removing: JoinSet<()>,
}

impl Sweeper {
    pub(super) fn new(kubernetes: Kubernetes, metrics: CreationMetrics) -> Self {
        Self { kubernetes, metrics, due: BTreeMap::new(), looking: JoinSet::new(), removing: JoinSet::new() }
    }

    /// Does what is due.
    pub(super) fn sweep(
        &mut self,
        namespaces: &BTreeSet<String>,
        engine: &Engine,
        tools: &Toolbox,
        now: Duration,
    ) {
        while self.removing.try_join_next().is_some() {}
        while let Some(looked) = self.looking.try_join_next() {
            match looked {
                Ok((namespace, Ok(secrets))) => self.remove(&namespace, secrets, engine, tools),
                Ok((namespace, Err(trouble))) => {
                    tracing::debug!(namespace, %trouble, "could not look for what is left over");
                }
                Err(_) => {}
            }
        }
        for namespace in namespaces {
            let due = self.due.entry(namespace.clone()).or_default();
            if now < *due {
                continue;
            }
            *due = now + EVERY;
            let (kubernetes, namespace) = (self.kubernetes.clone(), namespace.clone());
            self.looking.spawn(async move {
                let looked = look(&kubernetes, &namespace).await;
                (namespace, looked)
            });
        }
    }

    fn remove(&mut self, namespace: &str, secrets: Vec<OurSecret>, engine: &Engine, tools: &Toolbox) {
        let has_runner = |secret: &OurSecret| engine.has_runner(&secret.set, &secret.name);
        let is_known = |secret: &OurSecret| engine.knows(&secret.set, &secret.name);
        for secret in left_over(secrets, has_runner, is_known) {
            let tools = tools.near(namespace, &secret.set);
            let (kubernetes, metrics) = (self.kubernetes.clone(), self.metrics.clone());
            let namespace = namespace.to_owned();
            self.removing.spawn(async move {
                let name = secret.name.clone();
                match remove(&kubernetes, &namespace, secret, tools).await {
                    Ok(true) => {
                        metrics.swept();
                        tracing::warn!(namespace, secret = name, "removed a Secret that was left over");
                    }
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!(namespace, secret = name, error, "failed to remove what is left over");
                    }
                }
            });
        }
    }
}

/// Asks once more whether it is nobody's; then removes the registration first: what fails then is found again by its Secret.
async fn remove(
    kubernetes: &Kubernetes,
    namespace: &str,
    secret: OurSecret,
    tools: Option<Tools>,
) -> Result<bool, String> {
    let name = &secret.name;
    let runner = format!("/apis/{API_VERSION}/namespaces/{namespace}/ephemeralrunners/{name}");
    let words = |trouble: Trouble| trouble.to_string();
    if kubernetes.get_metadata(&runner).await.map_err(words)?.is_some() {
        return Ok(false);
    }
    // Without a service the registration stays until GitHub forgets it, within a day.
    if let Some(service) = tools.and_then(|tools| tools.service.ok()) {
        let found = service.find(name).await.map_err(|error| error.to_string())?;
        if let Some(id) = secret.registration(found.map(|agent| agent.id)) {
            service.remove(id).await.map_err(|error| error.to_string())?;
        }
    }
    let path = format!("/api/v1/namespaces/{namespace}/secrets/{name}");
    kubernetes.delete(&path).await.map_err(words)?;
    Ok(true)
}

async fn look(kubernetes: &Kubernetes, namespace: &str) -> Result<Vec<OurSecret>, Trouble> {
    let path = format!("/api/v1/namespaces/{namespace}/secrets?labelSelector={RUNNER_SET_LABEL}");
    let found = kubernetes.get(&path).await?.unwrap_or_default();
    let now = Timestamp::now();
    Ok(found["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|secret| OurSecret::read(secret, now))
        .collect())
}
