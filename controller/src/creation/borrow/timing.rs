//! How long things may take, and what all sets share in one step.

use std::time::Duration;

use fastrand::Rng;

use super::Place;
use crate::creation::report::News;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// For how long nobody else may have made a runner before we begin.
    pub quiet: Duration,
    /// How long we wait for that.
    pub quiet_limit: Duration,
    /// How long ARC may take to count our runners before we hand back all the same.
    pub count_limit: Duration,
    /// The same where no runner shields ARC from its own old count: its highest stamp is another one than the generation's.
    pub count_limit_unshielded: Duration,
    /// How long we go on without any progress.
    pub progress_limit: Duration,
    /// How long a set is left to ARC after a failure.
    pub suspension: Duration,
    /// How long nothing of a runner may be there before it is looked for a last time.
    pub absence: Duration,
    /// How long a call without an answer may still be carried out.
    pub patience: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(300),
            quiet_limit: Duration::from_secs(2),
            count_limit: Duration::from_secs(2),
            count_limit_unshielded: Duration::from_secs(15),
            progress_limit: Duration::from_secs(15),
            suspension: Duration::from_secs(300),
            absence: Duration::from_secs(300),
            patience: Duration::from_secs(30),
        }
    }
}

/// What all sets share in one step.
pub struct Context<'e> {
    /// Now, since an origin of the caller's choice.
    pub now: Duration,
    /// The same moment in milliseconds of the Unix epoch, for journals.
    pub unix_ms: i64,
    /// How long things may take.
    pub timing: &'e Timing,
    /// Whether Pods are made too.
    pub with_pods: bool,
    /// Most runners that may be registered and not yet posted.
    pub most_under_way: usize,
    /// For names and pauses.
    pub rng: &'e mut Rng,
    /// What people are told.
    pub news: &'e mut Vec<(Place, News)>,
}
