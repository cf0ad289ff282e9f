//! What people are told of the making of runners, before it becomes a line of the log, an Event or a metric.

use std::time::Duration;

use headstart_externals::pin::Generation;

/// Why the making of runners ended, or was not begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The listener's word was stored as it is: ARC owns the generation.
    Raw,
    /// The set is being deleted.
    Deleting,
    /// The set is gone.
    Gone,
    /// ARC has given the set up.
    Outdated,
    /// The listener, or the AutoscalingRunnerSet, is not there or about to go.
    Unattended,
    /// Parallel creation is switched off for this set, or may not be done.
    Disabled,
    /// The set is left to ARC for a while, after an earlier failure.
    Suspended,
    /// ARC did not come to rest in time.
    NoQuiet,
    /// Nothing went on for too long.
    NoProgress,
    /// A quota is exhausted.
    Quota(String),
    /// An upstream fails again and again.
    BreakerOpen(&'static str),
    /// A call was refused, and others like it would be.
    Refused(String),
    /// The set cannot be handed back.
    Stuck,
}

impl Stop {
    /// Its code in metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Deleting => "deleting",
            Self::Gone => "gone",
            Self::Outdated => "outdated",
            Self::Unattended => "unattended",
            Self::Disabled => "disabled",
            Self::Suspended => "suspended",
            Self::NoQuiet => "no-quiet",
            Self::NoProgress => "no-progress",
            Self::Quota(_) => "quota",
            Self::BreakerOpen(_) => "breaker-open",
            Self::Refused(_) => "refused",
            Self::Stuck => "stuck",
        }
    }

    /// Whether the set is left to ARC for a while.
    pub fn suspends(&self) -> bool {
        matches!(
            self,
            Self::NoProgress | Self::Quota(_) | Self::BreakerOpen(_) | Self::Refused(_) | Self::Stuck
        )
    }

    /// Whether the set's runners end with it.
    pub fn is_an_end(&self) -> bool {
        matches!(self, Self::Deleting | Self::Gone | Self::Outdated)
    }

    /// Whether what failed last says more than it does itself.
    pub fn needs_a_cause(&self) -> bool {
        matches!(self, Self::NoProgress | Self::BreakerOpen(_) | Self::Stuck)
    }

    /// Whether people hear of it although nothing was begun.
    pub fn is_worth_telling(&self) -> bool {
        self.suspends() || matches!(self, Self::NoQuiet)
    }

    /// For people: what happened, and what follows.
    pub fn meaning(&self) -> String {
        match self {
            Self::Raw => "the listener's request was stored as it is, so ARC makes the rest".to_owned(),
            Self::Deleting => "the runner set is being deleted".to_owned(),
            Self::Gone => "the runner set is gone".to_owned(),
            Self::Outdated => "ARC has given the runner set up".to_owned(),
            Self::Unattended => "the listener or the AutoscalingRunnerSet is gone or going".to_owned(),
            Self::Disabled => {
                "parallel creation is switched off here, or not possible for now (see the controller's log)"
                    .to_owned()
            }
            Self::Suspended => {
                "the runner set is left to ARC for a while after an earlier failure".to_owned()
            }
            Self::NoQuiet => "ARC was still making runners, so it makes these too".to_owned(),
            Self::NoProgress => "nothing went on for too long; ARC makes the rest".to_owned(),
            Self::Quota(why) => format!("a quota is exhausted: {why}; ARC makes the rest once there is room"),
            Self::BreakerOpen(upstream) => format!("{upstream} fails again and again; ARC makes the rest"),
            Self::Refused(why) => format!("{why}; ARC makes the rest"),
            Self::Stuck => {
                "the runner set could not be handed back; ARC makes what is missing at its listener's next \
                            write, within 50 s"
                    .to_owned()
            }
        }
    }
}

/// Something that happened to a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Runners are being made.
    Started {
        /// How many.
        need: usize,
        /// For which generation.
        generation: Generation,
    },
    /// Some of them are made.
    Progress {
        /// How many.
        made: usize,
        /// Of how many.
        need: usize,
        /// How long it has taken so far.
        took: Duration,
        /// The quarter that was reached since the last time: 25, 50 or 75.
        percent: Option<u8>,
    },
    /// All are made, and ARC has its set back.
    Finished {
        /// How many.
        made: usize,
        /// How long it took, hand-back included.
        took: Duration,
    },
    /// It ended before all were made.
    Stopped {
        /// How many are made.
        made: usize,
        /// Of how many.
        need: usize,
        /// Why.
        why: Stop,
        /// The call that failed last and how, where that explains it.
        cause: Option<String>,
    },
}
