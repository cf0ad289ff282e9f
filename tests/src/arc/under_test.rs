//! ARC as tests and benchmarks drive it, whoever plays it: scenarios are written against this and run on all of them.

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::DynamicObject;

use crate::bed::{ControlPlane, TestNamespace};
use crate::wait::until;

/// How fast the manager may be: flags of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tuning {
    /// Without any.
    Default,
    /// Requests to the API server are hardly limited, and runners are worked on by many at once.
    Tuned,
}

/// A scale set that a user asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Where.
    pub namespace: &'a str,
    /// Its name, also that of the runners that jobs ask for.
    pub name: &'a str,
    /// `githubConfigUrl`.
    pub url: &'a str,
    /// Runners that are there without jobs.
    pub at_least: u32,
    /// Runners that are there with however many jobs.
    pub at_most: u32,
}

/// An ARC that is installed in a cluster.
#[allow(async_fn_in_trait, reason = "a test awaits these itself and sends them nowhere")]
pub trait UnderTest {
    /// Its running manager; it stops when this is dropped.
    type Manager: Runs;
    /// A scale set that is set up.
    type ScaleSet: IsSetUp;

    /// How tables call it.
    fn name(&self) -> &'static str;

    /// Starts the manager.
    fn manager(&self, tuning: Tuning) -> Self::Manager;

    /// Asks for a scale set, waits until a running manager has set it up, and starts its listener.
    async fn scale_set(&self, asked: &Asked<'_>) -> Self::ScaleSet;
}

/// A part of ARC that can be taken away.
pub trait Runs {
    /// Kills it; it comes back at once, as a pod would.
    fn crash(&self);

    /// Kills it; it stays away.
    fn kill(&self);

    /// Starts it again after [`Self::kill`].
    fn start_again(&self);

    /// Its log so far, where it writes one.
    fn log(&self) -> String;

    /// Its process, where it is one of its own.
    fn process(&self) -> Option<u32>;
}

/// A scale set with its running listener.
#[allow(async_fn_in_trait, reason = "a test awaits these itself and sends them nowhere")]
pub trait IsSetUp {
    /// The name of its EphemeralRunnerSet.
    fn runner_set(&self) -> &str;

    /// Its listener.
    fn listener(&self) -> &dyn Runs;

    /// After a change of the scale set: waits until the manager has made another listener in place of one that it took
    /// away and that was killed, and starts that, perhaps for another EphemeralRunnerSet.
    async fn listen_anew(&mut self);

    /// Deletes it and waits until the manager has taken away everything of it.
    async fn delete(self);
}

/// Of these listeners the one that is for a scale set and there to stay, by its name, and the runner set that it patches.
pub(crate) fn listener_of(
    listeners: impl IntoIterator<Item = DynamicObject>,
    namespace: &str,
    name: &str,
) -> Option<(String, String)> {
    let ours = listeners.into_iter().find(|listener| {
        let spec = &listener.data["spec"];
        listener.metadata.deletion_timestamp.is_none()
            && spec["autoscalingRunnerSetName"] == name
            && spec["autoscalingRunnerSetNamespace"] == namespace
    })?;
    let runner_set = ours.data["spec"]["ephemeralRunnerSetName"].as_str()?.to_owned();
    Some((ours.metadata.name?, runner_set))
}

/// A namespace in which pods can be created.
pub async fn namespace<'c>(
    control_plane: &'c ControlPlane,
    name: &str,
    labels: &[&str],
) -> TestNamespace<'c> {
    let namespace = TestNamespace::labelled(control_plane, name, labels).unwrap();
    let client = control_plane.client().await.unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(client, namespace.name());
    until("the namespace's own ServiceAccount", || async { accounts.get_opt("default").await.unwrap() })
        .await;
    namespace
}
