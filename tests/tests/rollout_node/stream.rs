//! Jobs that come and go all the time, in the shapes that ARC and the hooks post: one lane on the real node, where each
//! runs Node.js, and one on played nodes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use headstart_externals::names::VERSION_LABEL;
use headstart_externals::version::VersionName;
use headstart_tests::bed::Cluster;
use headstart_tests::bed::boxed::NODE;
use headstart_tests::bed::images::TestImage;
use headstart_tests::jobs::{self, Storage, runners};
use headstart_tests::pods::Pods;
use headstart_tests::wait::until;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::world::{NODE_PROGRAM, World, on_node, on_played};

/// Pods at once on played nodes.
const AT_ONCE: usize = 6;

/// Where a pod runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Real,
    Played,
}

/// A pod that ran.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    pub(crate) lane: Lane,
    pub(crate) name: String,
    /// The version that it was given; empty if none.
    pub(crate) version: String,
    /// When it was posted, and when the API server had stored it.
    pub(crate) posted: Instant,
    pub(crate) stored: Instant,
    /// From then until all its containers were ready.
    pub(crate) took: Duration,
}

/// Kinds of pods, with the container and the command that runs Node.js.
const KINDS: [(&str, &str, &str); 3] = [
    ("workflow", "job", NODE_PROGRAM),
    ("dind", "dind", "/home/runner/externals/node16/bin/node"),
    ("legacy", "runner", "/home/runner/externals/node16/bin/node"),
];

/// The stream.
pub(crate) struct Stream {
    stop: Arc<AtomicBool>,
    ran: Arc<Mutex<Vec<Ran>>>,
    lanes: [JoinHandle<()>; 2],
}

struct Source {
    cluster: &'static Cluster,
    client: Client,
    namespace: String,
    bodies: [Value; 3],
    stop: Arc<AtomicBool>,
    ran: Arc<Mutex<Vec<Ran>>>,
}

impl Stream {
    /// Begins in that namespace.
    pub(crate) fn begin(world: &World, namespace: &str) -> Self {
        let (stop, ran) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<Ran>>>::default());
        let dind = runners::dind("arc/dind.json", namespace);
        let legacy = runners::kubernetes(namespace, TestImage::Runner, Storage::Local);
        for runner in [&dind, &legacy] {
            jobs::prepare(world.turn.cluster, runner, Storage::Local);
        }
        let bodies = [world.workflow("", namespace), world.fit(&dind), world.fit(&legacy)];
        let source = || Source {
            cluster: world.turn.cluster,
            client: world.turn.client.clone(),
            namespace: namespace.to_owned(),
            bodies: bodies.clone(),
            stop: stop.clone(),
            ran: ran.clone(),
        };
        let lanes = [tokio::spawn(source().real()), tokio::spawn(source().played())];
        Self { stop, ran, lanes }
    }

    /// Waits until pods that are created from now on were given a version and ran: some on the real node, more on played
    /// ones.
    pub(crate) async fn gives(&self, version: &VersionName) {
        let now = Instant::now();
        until(&format!("pods are given {version}"), || async {
            assert!(self.lanes.iter().all(|lane| !lane.is_finished()), "a lane has ended");
            let ran = self.ran.lock().unwrap();
            let given = |lane| {
                let its =
                    |ran: &&Ran| ran.lane == lane && ran.posted >= now && ran.version == version.as_str();
                ran.iter().filter(its).count()
            };
            (given(Lane::Real) > 1 && given(Lane::Played) > AT_ONCE).then_some(())
        })
        .await;
    }

    /// Ends it; everything that ran.
    pub(crate) async fn end(self) -> Vec<Ran> {
        self.stop.store(true, Ordering::Relaxed);
        for lane in self.lanes {
            lane.await.unwrap();
        }
        std::mem::take(&mut self.ran.lock().unwrap())
    }
}

impl Source {
    async fn real(self) {
        let pods = Pods::of(self.cluster, &self.client, &self.namespace);
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let name = self.run(&pods, Lane::Real, number).await;
            let (kind, container, program) = KINDS[number % KINDS.len()];
            if kind == "legacy" {
                pods.copied(&name).await;
            }
            let printed = pods.exec_in(&name, container, &format!("{program} -p process.version"));
            assert_eq!(printed, "v16.20.2\n", "{name}");
            remove(&pods, &name).await;
        }
    }

    async fn played(self) {
        let pods = Pods::of(self.cluster, &self.client, &self.namespace);
        let mut running = VecDeque::new();
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            running.push_back(self.run(&pods, Lane::Played, number).await);
            if running.len() > AT_ONCE {
                remove(&pods, &running.pop_front().unwrap()).await;
            }
        }
    }

    /// Creates a pod and waits until it runs.
    async fn run(&self, pods: &Pods<'_>, lane: Lane, number: usize) -> String {
        let kind = number % KINDS.len();
        let mut body = self.bodies[kind].clone();
        let name = format!("{}-{lane:?}-{number}", KINDS[kind].0).to_lowercase();
        body["metadata"]["name"] = name.clone().into();
        if KINDS[kind].0 == "legacy" {
            jobs::prepare(self.cluster, &body, Storage::Local);
        }
        let body = match lane {
            Lane::Real => on_node(body, NODE),
            Lane::Played => on_played(body),
        };
        let body: Pod = serde_json::from_value(body).unwrap();
        let posted = Instant::now();
        let created = pods.api.create(&PostParams::default(), &body).await.unwrap();
        let stored = Instant::now();
        pods.runs(&name).await;
        let version = created.labels().get(VERSION_LABEL).cloned().unwrap_or_default();
        let ran = Ran { lane, name: name.clone(), version, posted, stored, took: stored.elapsed() };
        self.ran.lock().unwrap().push(ran);
        name
    }
}

async fn remove(pods: &Pods<'_>, name: &str) {
    pods.api.delete(name, &DeleteParams::default().grace_period(0)).await.unwrap();
}
