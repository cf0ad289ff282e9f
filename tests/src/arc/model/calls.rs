//! Calls that the manager makes, their answers, and how a pass ends.

use std::time::Duration;

use super::objects::{Key, Kind, ListenerObject, Phase, Pod, Runner, RunnerSet, Secret, SetStatus, Text};

/// A call to the API server or to the Actions service.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// The credentials of a service client, read live.
    ReadCredentials(Key),
    /// A runner's Secret, read live.
    ReadSecret(Key),
    /// A new object; names that end in `-` are completed.
    Create(Box<Creation>),
    /// An object goes.
    Delete(Kind, Key),
    /// All finalizers, from the cached copy.
    Finalizers(Kind, Key, Vec<Text>),
    /// Status of a runner set; the version before, since one ARC sends the difference only.
    SetStatus(Key, Option<SetStatus>, SetStatus),
    /// Specification and hash of a runner set, in place.
    Upgrade(Key, Text),
    /// `replicas: 0, patchID: 0`.
    Drain(Key),
    /// Status of a runner.
    RunnerStatus(Key, RunnerPatch),
    /// Registers a runner: scale set and name.
    Register(i64, Text),
    /// Looks for a registration by name.
    FindAgent(Text),
    /// Ends a registration.
    RemoveAgent(i64),
    /// The scale set goes.
    DeleteScaleSet(i64),
}

/// What is created.
#[derive(Clone, Debug, PartialEq)]
pub enum Creation {
    /// EphemeralRunnerSet.
    RunnerSet(RunnerSet),
    /// EphemeralRunner.
    Runner(Runner),
    /// AutoscalingListener.
    Listener(ListenerObject),
    /// Secret.
    Secret(Secret),
    /// Pod.
    Pod(Pod),
}

/// A merge patch of a runner's status.
#[derive(Clone, Debug, PartialEq)]
pub enum RunnerPatch {
    /// `runnerId` and `runnerName`.
    Registered(i64, Text),
    /// `phase` and `ready`.
    Phase(Phase, bool),
    /// One more failed pod.
    Failure(Text, Duration),
}

/// What a call brought.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It is done.
    Done,
    /// A Secret.
    Secret(Secret),
    /// A registration's id.
    Agent(i64),
    /// A registration's id and scale set.
    Found(Option<(i64, i64)>),
    /// It is not done, or not known to be.
    Failed(Failure),
}

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no such object.
    NotFound,
    /// There is one already.
    AlreadyExists,
    /// It has changed meanwhile.
    Conflict,
    /// The API server does not take it.
    Invalid,
    /// The quota is used up.
    Quota,
    /// It is not allowed.
    Forbidden,
    /// The service knows a runner of that name.
    AgentExists,
    /// The runner has a job.
    JobStillRunning,
    /// Anything else: time-outs, 5xx.
    Other,
}

/// What a pass does next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Makes a call.
    Call(Call),
    /// It is over.
    End(End),
}

/// How a pass ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing more until something happens.
    Done,
    /// Once more after that time.
    After(Duration),
    /// Once more after the item's back-off.
    Backoff,
}

impl Call {
    /// The bucket that it draws from; none for calls of the service.
    pub fn bucket(&self) -> Option<Kind> {
        match self {
            Self::ReadCredentials(_) | Self::ReadSecret(_) => Some(Kind::Secret),
            Self::Create(creation) => Some(creation.kind()),
            Self::Delete(kind, _) | Self::Finalizers(kind, _, _) => Some(*kind),
            Self::SetStatus(..) | Self::Upgrade(..) | Self::Drain(_) => Some(Kind::RunnerSet),
            Self::RunnerStatus(..) => Some(Kind::Runner),
            Self::Register(..) | Self::FindAgent(_) | Self::RemoveAgent(_) | Self::DeleteScaleSet(_) => None,
        }
    }
}

impl Creation {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::RunnerSet(_) => Kind::RunnerSet,
            Self::Runner(_) => Kind::Runner,
            Self::Listener(_) => Kind::Listener,
            Self::Secret(_) => Kind::Secret,
            Self::Pod(_) => Kind::Pod,
        }
    }
}

impl Answer {
    /// Whether it is an error other than that the thing is already gone.
    pub fn gone_or_done(&self) -> bool {
        !matches!(self, Self::Failed(failure) if *failure != Failure::NotFound)
    }
}
