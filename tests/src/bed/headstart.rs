//! Headstart on a bed: the shipped image and the shipped manifests, installed as an administrator would.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use headstart_externals::names::STATE_KEY;
use headstart_externals::state::{Phase, PublishedState};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};

use super::cluster::Cluster;
use super::command::say;
use super::images::{Profile, TestImage, archive, shipped_image};
use super::namespace::describe;
use crate::deploy;
use crate::wait::within;

/// Headstart's namespace.
pub const NAMESPACE: &str = "headstart-system";

/// Longest wait from the manifests to the first version that pods are given.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a node must hold to run Headstart and the pods that it is for.
pub fn images() -> Result<Vec<PathBuf>> {
    let parts = [TestImage::Pause, TestImage::Job, TestImage::Runner];
    let mut images = parts.into_iter().map(archive).collect::<Result<Vec<_>>>()?;
    images.push(shipped_image(Profile::Bed)?);
    Ok(images)
}

/// Applies the manifests and waits until a version is offered and the webhook serves.
pub async fn install(cluster: &Cluster) -> Result<()> {
    let begun = Instant::now();
    deploy::apply(cluster)?;
    let client = cluster.client().await?;
    let ready = within(PATIENCE, || async {
        let ready = is_available(&client, "headstart-webhook").await
            && is_available(&client, "headstart-controller").await
            && is_offered(&client).await;
        ready.then_some(())
    });
    if ready.await.is_none() {
        describe(cluster, &[NAMESPACE]);
        anyhow::bail!("Headstart does not become ready within {PATIENCE:?}, see above");
    }
    say(&format!("Headstart is ready after {:.1} s", begun.elapsed().as_secs_f64()));
    Ok(())
}

/// Whether all replicas of a Deployment serve.
pub async fn is_available(client: &Client, name: &str) -> bool {
    let api: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let Ok(found) = api.get(name).await else { return false };
    let wanted = found.spec.and_then(|spec| spec.replicas);
    let status = found.status.unwrap_or_default();
    wanted.is_some()
        && status.available_replicas == wanted
        && status.observed_generation == found.metadata.generation
}

async fn is_offered(client: &Client) -> bool {
    let state = published(client).await.ok();
    state.is_some_and(|state| state.versions.iter().any(|version| version.phase == Phase::Offered))
}

/// The published state.
pub async fn published(client: &Client) -> Result<PublishedState> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let data = api.get("headstart-state").await?.data.unwrap_or_default();
    let text = data.get(STATE_KEY).context("no state")?;
    PublishedState::parse(text).map_err(anyhow::Error::msg)
}
