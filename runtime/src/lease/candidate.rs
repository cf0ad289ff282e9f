//! One candidate's calls to the API server. Every write carries the resource version that it was decided on, so
//! that of two candidates one is refused.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};
use tokio::time::Instant;

use super::LeaseConfig;
use super::election::{Election, Record, Step};
use crate::cluster::{CallError, within};
use crate::shutdown::Shutdown;
use crate::trouble::Trouble;

/// Candidates spread their tries by up to this share, so that they do not march in step.
const SPREAD: f64 = 0.2;

/// Somebody who leads or would like to.
pub(super) struct Candidate {
    api: Api<Lease>,
    config: LeaseConfig,
    election: Election,
    origin: Instant,
    /// The Lease as last read or written; `None` if there was none.
    lease: Option<Lease>,
    /// Whether `lease` is the answer to the last call. A call without an answer may have changed it.
    current: bool,
    trouble: Trouble,
}

impl Candidate {
    pub(super) fn new(client: Client, config: LeaseConfig) -> Self {
        Self {
            api: Api::namespaced(client, &config.namespace),
            election: Election::new(config.identity.clone(), config.timing),
            config,
            origin: Instant::now(),
            lease: None,
            current: false,
            trouble: Trouble::default(),
        }
    }

    /// The number of the term that was won last.
    pub(super) fn term(&self) -> i32 {
        self.lease.as_ref().and_then(|lease| lease.spec.as_ref()?.lease_transitions).unwrap_or_default()
    }

    /// How long work may go on after a lost term: over well before anybody else can lead.
    pub(super) fn grace(&self) -> Duration {
        (self.config.timing.lease - self.config.timing.renew_deadline) / 2
    }

    /// Tries until this candidate leads; `false` if the shutdown comes first.
    pub(super) async fn campaign(&mut self, shutdown: &Shutdown) -> bool {
        while !shutdown.has_begun() {
            let before = self.election.holder().to_owned();
            self.current = false;
            self.attempt().await;
            let LeaseConfig { name, identity, .. } = &self.config;
            if self.election.deadline().is_some() {
                tracing::info!(lease = %name, identity, term = self.term(), "leading");
                return true;
            }
            let holder = self.election.holder();
            if holder != before && !holder.is_empty() {
                tracing::info!(lease = %name, leader = holder, "another one leads; standing by");
            }
            let wait = self.config.timing.retry.mul_f64(1.0 + SPREAD * fastrand::f64());
            tokio::select! {
                () = shutdown.begun() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        false
    }

    /// Renews until the term is lost. Whatever hangs, it is lost at the deadline.
    pub(super) async fn renew(&mut self) {
        while let Some(deadline) = self.election.deadline() {
            let deadline = self.origin + deadline;
            let retry = self.config.timing.retry;
            let renewal = async {
                tokio::time::sleep(retry).await;
                self.attempt().await;
            };
            let in_time = tokio::time::timeout_at(deadline, renewal).await.is_ok();
            if !in_time || self.election.decide(self.now()) == Step::StepDown {
                break;
            }
        }
        let leader = self.election.holder();
        tracing::warn!(lease = %self.config.name, last_known_leader = leader, "lost the leadership");
        self.election.step_down();
    }

    /// Gives the Lease back, if this candidate leads, so that the next one need not wait for it to expire.
    pub(super) async fn release(&mut self) {
        if self.election.deadline().is_none() {
            return;
        }
        self.election.step_down();
        // The second try is for the case that a renewal was cut off and the version is not known.
        for _ in 0..2 {
            let released = self.give_back().await;
            match released {
                Ok(()) => {
                    tracing::info!(lease = %self.config.name, "released the leadership");
                    return;
                }
                Err(error) if error.is_conflict() => {}
                Err(error) => {
                    let wait = self.config.timing.lease;
                    tracing::warn!(%error, "failed to release the leadership; the next leader waits {wait:?}");
                    return;
                }
            }
        }
    }

    async fn give_back(&mut self) -> Result<(), CallError> {
        if !self.current {
            self.read().await?;
        }
        if self.election.holder() == self.config.identity {
            self.put(LeaseSpec { holder_identity: None, ..self.spec() }).await?;
        }
        Ok(())
    }

    /// Reads where necessary, decides, writes where that was decided.
    async fn attempt(&mut self) {
        match self.try_once().await {
            Ok(()) => self.tell_end_of_trouble(),
            Err(error) if error.is_conflict() => tracing::debug!(%error, "another candidate was faster"),
            Err(error) => self.tell_trouble(&error),
        }
    }

    fn tell_trouble(&mut self, error: &CallError) {
        if self.trouble.is_news(error) {
            tracing::warn!(lease = %self.config.name, %error, "failed to use the Lease; trying again");
        }
    }

    fn tell_end_of_trouble(&mut self) {
        if self.trouble.is_over() {
            tracing::info!(lease = %self.config.name, "the Lease can be used again");
        }
    }

    async fn try_once(&mut self) -> Result<(), CallError> {
        if !self.current {
            self.read().await?;
        }
        let sent = self.now();
        let spec = match self.election.decide(sent) {
            Step::Wait | Step::StepDown => return Ok(()),
            Step::Renew => self.spec(),
            Step::Acquire => LeaseSpec {
                acquire_time: Some(wall_clock()),
                lease_transitions: Some(self.lease.as_ref().map_or(0, |_| self.term().saturating_add(1))),
                ..self.spec()
            },
        };
        self.put(spec).await?;
        if let Some(record) = self.lease.as_ref().map(record) {
            self.election.written(record, sent);
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(), CallError> {
        let LeaseConfig { name, timing, .. } = &self.config;
        self.lease = within(timing.call(), self.api.get_opt(name)).await?;
        self.current = true;
        self.election.observe(self.lease.as_ref().map(record), self.now());
        Ok(())
    }

    async fn put(&mut self, spec: LeaseSpec) -> Result<(), CallError> {
        let (name, limit) = (&self.config.name, self.config.timing.call());
        self.current = false;
        let written = match &self.lease {
            Some(lease) => {
                let lease = Lease { spec: Some(spec), ..lease.clone() };
                within(limit, self.api.replace(name, &PostParams::default(), &lease)).await?
            }
            None => {
                let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
                let lease = Lease { metadata, spec: Some(spec) };
                within(limit, self.api.create(&PostParams::default(), &lease)).await?
            }
        };
        self.lease = Some(written);
        self.current = true;
        Ok(())
    }

    /// What the Lease said last, renewed in the own name.
    fn spec(&self) -> LeaseSpec {
        let seconds = self.config.timing.lease.as_secs();
        LeaseSpec {
            holder_identity: Some(self.config.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
            renew_time: Some(wall_clock()),
            ..self.lease.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default()
        }
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }
}

/// For people and other tools; nothing here ever compares it.
fn wall_clock() -> MicroTime {
    MicroTime(jiff::Timestamp::now())
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|spec| u64::try_from(spec.lease_duration_seconds?).ok());
    Record {
        version: lease.resource_version().unwrap_or_default(),
        holder: spec.and_then(|spec| spec.holder_identity.clone()).unwrap_or_default(),
        duration: seconds.map(Duration::from_secs),
    }
}
