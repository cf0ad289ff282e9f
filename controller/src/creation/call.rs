//! What the engine asks of the outside world, and what it may hear back: plain values, so that a simulation answers as well.

use std::time::Duration;

use headstart_externals::pin::Generation;
use secrecy::SecretString;

use super::borrow::Place;
use super::gate::Signal;
use super::journal::Journal;

/// A number by which an answer finds its call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// A call that has to be made now.
#[derive(Clone, Debug)]
pub struct Order {
    /// Its number.
    pub id: CallId,
    /// The runner set that it is for.
    pub place: Place,
    /// What to do.
    pub task: Task,
}

/// One call to the API server or to the Actions service. Objects are named by the runner's name in the set's namespace.
#[derive(Clone, Debug)]
pub enum Call {
    /// Writes a journal; answered by [`Answer::Done`].
    CreateJournal(Journal),
    /// Deletes the journal of that name.
    DeleteJournal(String),
    /// Registers a runner at the service; answered by [`Answer::Registered`].
    Register,
    /// Looks a registration up by name; answered by [`Answer::Agent`].
    FindAgent,
    /// Removes a registration.
    RemoveAgent(i64),
    /// Creates the runner's Secret, complete.
    CreateSecret {
        /// The registration's number.
        runner_id: i64,
        /// What the runner needs to connect.
        jit_config: SecretString,
    },
    /// Reads it; answered by [`Answer::Secret`].
    GetSecret,
    /// Deletes it.
    DeleteSecret,
    /// Creates the EphemeralRunner; answered by [`Answer::Created`].
    CreateRunner {
        /// Its `patch-id`.
        stamp: i64,
    },
    /// Looks whether it is there; answered by [`Answer::Runner`].
    GetRunner,
    /// Writes `runnerId` and `runnerName` into its status.
    SetStatus {
        /// The registration's number.
        runner_id: i64,
    },
    /// Creates its Pod.
    CreatePod {
        /// UID of the EphemeralRunner.
        owner: String,
        /// The `patch-id` that it was posted with, if it was posted by us.
        stamp: Option<i64>,
    },
    /// Makes the EphemeralRunner the owner of the Secret.
    OwnSecret {
        /// UID of the EphemeralRunner.
        owner: String,
    },
    /// Stores the generation as its listener wrote it, if it is still pinned; answered by [`Answer::Returned`].
    HandBack(Generation),
}

/// A call together with the runner that it is about.
#[derive(Clone, Debug)]
pub struct Task {
    /// Name of the runner; empty where the call is about the set.
    pub runner: String,
    /// What to do.
    pub call: Call,
}

/// Whose patience a call costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Upstream {
    /// The API server.
    Kubernetes,
    /// The Actions service of the set.
    Service,
}

impl Call {
    /// Whom it goes to.
    pub fn upstream(&self) -> Upstream {
        match self {
            Self::Register | Self::FindAgent | Self::RemoveAgent(_) => Upstream::Service,
            _ => Upstream::Kubernetes,
        }
    }

    /// Whether what it is about may as well not be there.
    pub const fn is_a_removal(&self) -> bool {
        matches!(self, Self::DeleteJournal(_) | Self::RemoveAgent(_) | Self::DeleteSecret)
    }

    /// Its name in logs and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::CreateJournal(_) => "create-journal",
            Self::DeleteJournal(_) => "delete-journal",
            Self::Register => "register",
            Self::FindAgent => "find-agent",
            Self::RemoveAgent(_) => "remove-agent",
            Self::CreateSecret { .. } => "create-secret",
            Self::GetSecret => "get-secret",
            Self::DeleteSecret => "delete-secret",
            Self::CreateRunner { .. } => "create-runner",
            Self::GetRunner => "get-runner",
            Self::SetStatus { .. } => "set-status",
            Self::CreatePod { .. } => "create-pod",
            Self::OwnSecret { .. } => "own-secret",
            Self::HandBack(_) => "hand-back",
        }
    }
}

/// A Secret that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundSecret {
    /// The registration that it belongs to; `None` if it is not complete.
    pub runner_id: Option<i64>,
}

/// What came of a call.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It was done.
    Done,
    /// The runner is registered.
    Registered {
        /// The registration's number.
        runner_id: i64,
        /// What the runner needs to connect.
        jit_config: SecretString,
    },
    /// The number of the registration of that name, if there is one.
    Agent(Option<i64>),
    /// The Secret, if it is there.
    Secret(Option<FoundSecret>),
    /// UID of the EphemeralRunner, if it is there.
    Runner(Option<String>),
    /// The EphemeralRunner was created, with this UID.
    Created(String),
    /// The set is handed back.
    Returned {
        /// Its `metadata.generation` now: what shows an older one is older.
        generation: i64,
    },
    /// It was not done, or nobody knows.
    Trouble(Trouble),
}

/// Why a call was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Something of that name is there already.
    #[error("it exists already")]
    Exists,
    /// What it is about is not there.
    #[error("it is not there")]
    NotFound,
    /// The set does not store that generation any more.
    #[error("the set has changed")]
    Conflict,
    /// A quota forbids it.
    #[error("{0}")]
    Quota(String),
    /// What stands in its way passes, and is no sign of how the upstream is.
    #[error("{0}")]
    Obstructed(String),
    /// It is refused, and would be again.
    #[error("{0}")]
    Refused(String),
    /// Too many calls; the upstream asks for time.
    #[error("too many requests")]
    PushedBack {
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// The upstream sheds load, or is not there for the moment.
    #[error("it is not available")]
    Unavailable {
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// It failed, and may have been done all the same.
    #[error("{why}")]
    Failed {
        /// How long the upstream asks to wait.
        retry_after: Option<Duration>,
        /// For people.
        why: String,
    },
    /// No answer in time; it may be done all the same.
    #[error("no answer in time")]
    TimedOut,
}

impl Trouble {
    /// Its code in metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Exists => "exists",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::Quota(_) => "quota",
            Self::Obstructed(_) => "obstructed",
            Self::Refused(_) => "refused",
            Self::PushedBack { .. } => "pushed-back",
            Self::Unavailable { .. } => "unavailable",
            Self::Failed { .. } => "failed",
            Self::TimedOut => "timed-out",
        }
    }

    /// Whether the call may have been done all the same.
    pub fn is_doubtful(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Failed { .. } | Self::TimedOut)
    }

    /// Whether it says more than that something is, or is not, there already.
    pub fn is_a_failure(&self) -> bool {
        !matches!(self, Self::Exists | Self::NotFound)
    }

    /// How long the upstream asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::PushedBack { retry_after }
            | Self::Unavailable { retry_after }
            | Self::Failed { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// What it says of the upstream.
    pub fn signal(&self) -> Signal {
        match self {
            Self::PushedBack { retry_after } => Signal::PushedBack { retry_after: *retry_after },
            Self::Unavailable { retry_after } => Signal::Unavailable { retry_after: *retry_after },
            Self::Failed { retry_after, .. } => Signal::Failed { retry_after: *retry_after },
            Self::TimedOut => Signal::TimedOut,
            _ => Signal::Neutral,
        }
    }
}
