//! Headstart's side: the shipped controller and webhook, of which the controller is started anew for another concurrency.

use std::time::{Duration, Instant};

use headstart_externals::names::RUNNER_SETS_KEY;
use headstart_externals::runner_sets::PublishedRunnerSets;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};

use super::metrics::Metrics;
use crate::bed::ControlPlane;
use crate::companion::{Companion, metric};
use crate::played::OURS;
use crate::process::Process;
use crate::wait::{until, within};

/// A leader's Lease has to run out where its holder did not give it back.
const PATIENCE: Duration = Duration::from_secs(120);

/// The webhook, and what its controllers are started with.
pub struct Shipped<'c> {
    /// Both.
    pub companion: Companion<'c>,
    states: Api<ConfigMap>,
}

/// A controller that leads.
pub struct Controller {
    /// Most calls at once.
    pub concurrency: u32,
    process: Process,
    admin: String,
}

impl<'c> Shipped<'c> {
    /// Installs the manifests and starts the webhook.
    pub async fn install(control_plane: &'c ControlPlane, client: &Client) -> Self {
        let companion = Companion::install(control_plane).await;
        Self { companion, states: Api::namespaced(client.clone(), OURS) }
    }

    /// Starts a controller and waits until it leads.
    pub async fn controller(&self, concurrency: u32) -> Controller {
        let flags = ["--runner-creation-concurrency", &concurrency.to_string()];
        let process = self.companion.controller("bench", &flags);
        let admin = process.says("serving").await["admin"].as_str().unwrap().to_owned();
        let leads = within(PATIENCE, || async { process.has_said("leading").then_some(()) }).await;
        leads.unwrap_or_else(|| panic!("the controller does not lead after {PATIENCE:?}"));
        let begun = Instant::now();
        let webhook = &self.companion.webhook.process;
        until("the webhook has seen it renew its Lease", || async {
            let age = metric(webhook, "headstart_leader_age_seconds").await?;
            (0.0..begun.elapsed().as_secs_f64()).contains(&age).then_some(())
        })
        .await;
        Controller { concurrency, process, admin }
    }

    /// Waits until exactly this runner set is served, or none.
    pub async fn serves(&self, set: Option<&str>) {
        let there = || async {
            let state = self.states.get_opt("headstart-state").await.unwrap()?;
            let published = PublishedRunnerSets::parse(state.data?.get(RUNNER_SETS_KEY)?).ok()?;
            let is_it = published.sets.iter().map(|published| published.uid.as_str()).eq(set);
            let count = u64::from(set.is_some());
            (is_it && self.taken_over().unwrap_or_default() == count).then_some(())
        };
        let served = within(PATIENCE, there).await;
        served.unwrap_or_else(|| panic!("{set:?} is not what the webhook serves after {PATIENCE:?}"));
    }

    /// How many sets the webhook knows of.
    fn taken_over(&self) -> Option<u64> {
        let log = self.companion.webhook.process.log();
        let last = log.iter().rfind(|line| line["message"] == "published runner sets taken over")?;
        last["sets"].as_u64()
    }

    /// How many generations were pinned so far.
    pub fn pinned(&self) -> usize {
        self.companion.webhook.decided("pinned")
    }
}

impl Controller {
    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it counts.
    pub async fn metrics(&self) -> Metrics {
        Metrics::of(&self.admin).await
    }

    /// Ends it as a rollout would, so that its Lease is free at once.
    pub async fn stop(mut self) {
        self.process.terminate();
        self.process.ended().await;
    }
}
