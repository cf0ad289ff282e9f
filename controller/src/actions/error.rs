//! Why a call to the Actions service gave nothing, in words that people can act on and in kinds that the engine decides by.

use std::fmt;
use std::time::Duration;

/// Why a call gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// The name is registered already, by whomever.
    #[error("a runner of this name is registered already; look it up, and remove it or choose another name")]
    RunnerExists,
    /// The runner has a job, so that it cannot be removed.
    #[error("the runner has a job; it can be removed when the job has ended")]
    JobStillRunning,
    /// GitHub wants fewer calls.
    #[error("GitHub wants fewer calls{}; lower the concurrency if this happens often", again(.retry_after.as_ref()))]
    Throttled {
        /// How long to wait, if GitHub says so.
        retry_after: Option<Duration>,
    },
    /// GitHub is in trouble that passes. A token for registering runners that is not known yet where it is exchanged
    /// (401 or 403) counts as such.
    #[error("GitHub answers with {status}{}; see its status page if this goes on", again(.retry_after.as_ref()))]
    Unavailable {
        /// Status code of the answer.
        status: u16,
        /// How long to wait, if GitHub says so.
        retry_after: Option<Duration>,
    },
    /// No answer in time.
    #[error("no answer from GitHub within {0:?}; check the network and the proxy, or allow more time")]
    TimedOut(Duration),
    /// No connection, or one that broke before the answer was there.
    #[error(
        "cannot talk to GitHub: {cause}; check githubConfigUrl, the network, the proxy and githubServerTLS"
    )]
    Unreachable {
        /// What went wrong.
        cause: String,
    },
    /// An answer that says no.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The credentials are not accepted, also not after they were exchanged for a new token.
    #[error(
        "GitHub does not accept the credentials in Secret {0}; check that they are valid and have not expired"
    )]
    Unauthorized(String),
    /// An answer that cannot be understood.
    #[error(
        "cannot understand GitHub's answer: {0}; check that githubConfigUrl leads to GitHub and not to a proxy"
    )]
    Answer(String),
}

/// An answer that says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was asked for.
    pub what: &'static str,
    /// Status code of the answer.
    pub status: u16,
    /// The service's name for the kind of error.
    pub type_name: Option<String>,
    /// What the service says.
    pub message: String,
    /// `ActivityId` of the answer, by which GitHub's support finds it.
    pub activity_id: Option<String>,
    /// `X-GitHub-Request-Id` of the answer, likewise.
    pub request_id: Option<String>,
    /// What to do.
    pub advice: &'static str,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, status, type_name, message, activity_id, request_id, advice } = self;
        write!(formatter, "GitHub refused {what} ({status}")?;
        if let Some(name) = type_name {
            write!(formatter, ", {name}")?;
        }
        write!(formatter, "): {message}; {advice}")?;
        let ids = [("activity", activity_id), ("request", request_id)];
        for (name, id) in ids {
            if let Some(id) = id {
                write!(formatter, " [{name} {id}]")?;
            }
        }
        Ok(())
    }
}

impl ServiceError {
    /// How long GitHub asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after } | Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the same call may succeed later, without anybody doing something.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Throttled { .. }
            | Self::Unavailable { .. }
            | Self::TimedOut(_)
            | Self::Unreachable { .. }
            | Self::JobStillRunning => true,
            Self::RunnerExists | Self::Refused(_) | Self::Unauthorized(_) | Self::Answer(_) => false,
        }
    }
}

fn again(after: Option<&Duration>) -> String {
    after.map(|after| format!(" and asks to wait for {} s", after.as_secs())).unwrap_or_default()
}
