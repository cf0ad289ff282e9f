//! Which ARC it is and how it was started.

use std::time::Duration;

/// The two ways of ARC to keep runner sets (arc.md §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// Master of June 2026: one runner set per scale set, changed in place.
    Master,
    /// Releases up to 0.14.2: a new runner set for each change.
    Release,
}

/// Flags of the manager, and what its code fixes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flags {
    /// Which ARC.
    pub generation: Generation,
    /// `--k8s-client-rate-limiter-qps`, for each kind apart.
    pub qps: f64,
    /// `--k8s-client-rate-limiter-burst`.
    pub burst: f64,
    /// `--runner-max-concurrent-reconciles`.
    pub workers: usize,
}

/// First back-off of an item; it doubles.
pub const BACKOFF: Duration = Duration::from_millis(5);
/// Longest back-off.
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(1000);
/// When a pod that is there, but not in the cache, is looked at again.
pub const POD_EXISTS: Duration = Duration::from_secs(5);
/// When a pod that met the quota, or a runner that is busy, is tried again.
pub const LATER: Duration = Duration::from_secs(30);
/// A runner that meets the quota for so long is replaced.
pub const QUOTA_PATIENCE: Duration = Duration::from_secs(600);

impl Flags {
    /// As ARC is installed.
    pub fn stock(generation: Generation) -> Self {
        Self { generation, qps: 20.0, burst: 30.0, workers: 2 }
    }

    /// As fast as flags make it.
    pub fn tuned(generation: Generation) -> Self {
        Self { generation, qps: 100.0, burst: 200.0, workers: 20 }
    }

    /// The finalizer of an EphemeralRunnerSet.
    pub fn set_finalizer(&self) -> &'static str {
        match self.generation {
            Generation::Master => "ephemeralrunnerset.actions.github.com/finalizer",
            Generation::Release => "ephemeralrunner.actions.github.com/finalizer",
        }
    }
}
