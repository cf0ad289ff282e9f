//! Headstart on a bed: the shipped image and the shipped manifests, installed as an administrator would.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use headstart_externals::names::STATE_KEY;
use headstart_externals::state::{Phase, PublishedState};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::Value;

use super::cluster::Cluster;
use super::command::say;
use super::images::{Profile, TestImage, archive, shipped_image};
use super::namespace::describe;
use crate::deploy;
use crate::wait::{until, within};

/// The Deployment of the webhook.
pub const WEBHOOK: &str = "headstart-webhook";

/// The Deployment of the controller.
pub const CONTROLLER: &str = "headstart-controller";

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
    deploy::apply(cluster)?;
    is_ready(cluster, 1).await
}

/// The same with this configuration in place of the shipped one, as by an overlay: with a stage of its own for each
/// revision from a runner image in it. Waits until as many versions are offered as there are profiles.
pub async fn install_with(cluster: &Cluster, config: &Value) -> Result<()> {
    apply_all(cluster, deploy::configured(cluster, config))?;
    is_ready(cluster, config["profiles"].as_array().map_or(0, Vec::len)).await
}

/// Applies objects in one go.
pub fn apply_all(cluster: &Cluster, objects: Vec<Value>) -> Result<()> {
    cluster.apply(&serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string())
}

async fn is_ready(cluster: &Cluster, versions: usize) -> Result<()> {
    let begun = Instant::now();
    let client = cluster.client().await?;
    let ready = within(PATIENCE, || async {
        let ready = is_available(&client, WEBHOOK).await
            && is_available(&client, CONTROLLER).await
            && offered(&client).await >= versions;
        ready.then_some(())
    });
    if ready.await.is_none() {
        describe(cluster, &[NAMESPACE]);
        anyhow::bail!("Headstart does not become ready within {PATIENCE:?}, see above");
    }
    say(&format!("Headstart is ready after {:.1} s", begun.elapsed().as_secs_f64()));
    Ok(())
}

/// Changes how many replicas a Deployment has.
pub fn scale(cluster: &Cluster, deployment: &str, replicas: usize) -> Result<()> {
    let (deployment, count) = (format!("deployment/{deployment}"), format!("--replicas={replicas}"));
    cluster.kubectl(&["scale", &deployment, &count, "--namespace", NAMESPACE]).map(drop)
}

/// Waits until all replicas of a Deployment serve and others are gone.
pub async fn is_scaled(client: &Client, deployment: &str, replicas: usize) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let its = ListParams::default().labels(&format!("app.kubernetes.io/name={deployment}"));
    until(&format!("{deployment} has {replicas} replicas"), || async {
        let there = pods.list(&its).await.ok()?.items.len() == replicas;
        (there && (replicas == 0 || is_available(client, deployment).await)).then_some(())
    })
    .await;
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

async fn offered(client: &Client) -> usize {
    let versions = published(client).await.map(|state| state.versions).unwrap_or_default();
    versions.iter().filter(|version| version.phase == Phase::Offered).count()
}

/// The published state.
pub async fn published(client: &Client) -> Result<PublishedState> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let data = api.get("headstart-state").await?.data.unwrap_or_default();
    let text = data.get(STATE_KEY).context("no state")?;
    PublishedState::parse(text).map_err(anyhow::Error::msg)
}
