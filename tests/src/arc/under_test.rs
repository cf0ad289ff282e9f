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

    /// Deletes it and waits until the manager has taken away everything of it.
    async fn delete(self);
}

impl Asked<'_> {
    pub(crate) fn is_served_by(&self, listener: &DynamicObject) -> bool {
        let spec = &listener.data["spec"];
        spec["autoscalingRunnerSetName"] == self.name
            && spec["autoscalingRunnerSetNamespace"] == self.namespace
    }
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
