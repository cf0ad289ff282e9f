//! ARC as tests and benchmarks drive it, whoever plays it: scenarios are written against this and run on all of them.

use super::{Asked, Installed, Manager, ScaleSet, Tuning};

/// How tables call the real one.
pub const REAL: &str = "real";

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
    /// Its listener.
    type Listener: Runs;

    /// The name of its EphemeralRunnerSet.
    fn runner_set(&self) -> &str;

    /// Its listener.
    fn listener(&self) -> &Self::Listener;

    /// Deletes it and waits until the manager has taken away everything of it.
    async fn delete(self);
}

impl<'c> UnderTest for Installed<'c> {
    type Manager = Manager<'c>;
    type ScaleSet = ScaleSet<'c>;

    fn name(&self) -> &'static str {
        REAL
    }

    fn manager(&self, tuning: Tuning) -> Manager<'c> {
        self.start_manager(tuning)
    }

    async fn scale_set(&self, asked: &Asked<'_>) -> ScaleSet<'c> {
        self.set_up(asked).await
    }
}
