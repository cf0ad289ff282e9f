//! One runner that we make: what was done for it, and what comes next. Pure; it never goes on by itself.
//!
//! The order is the only safe one: registration, complete Secret, EphemeralRunner, status, Pod, owner of the Secret. ARC
//! unregisters a runner whose Secret it does not find. Until its EphemeralRunner is posted a runner can be unmade; from
//! then on it is ARC's, and only finished.

mod outcome;
mod steps;

use std::time::Duration;

use secrecy::SecretString;

use crate::creation::call::{Call, CallId, Trouble};

/// How far a runner is.
#[derive(Clone, Debug)]
pub enum Stage {
    /// There is nothing of it that we know of.
    Drawn,
    /// An earlier leader may have made some of it: what is there has to be looked at.
    Unknown,
    /// No Secret is there; a registration may be, of which nobody has the token any more.
    Unregistered,
    /// Such a registration is there.
    Stale {
        /// Its number.
        runner_id: i64,
    },
    /// It is registered.
    Registered {
        /// The registration's number.
        runner_id: i64,
        /// What the runner needs to connect.
        jit_config: SecretString,
    },
    /// It is registered, and a Secret of its name is there that may belong to another registration.
    Clashing {
        /// The registration's number.
        runner_id: i64,
        /// What the runner needs to connect.
        jit_config: SecretString,
    },
    /// A Secret is there that belongs to no registration that we know of.
    Foreign {
        /// The registration that a new Secret is for, if there is one.
        renewed: Option<(i64, SecretString)>,
    },
    /// An earlier leader made its Secret; whether the registration in it is still there has to be looked at.
    Unverified {
        /// The registration's number.
        runner_id: i64,
    },
    /// Its Secret is complete.
    Stored {
        /// The registration's number.
        runner_id: i64,
    },
    /// Its EphemeralRunner was there before we created it, or may be there: its UID is not known.
    Taken {
        /// The registration's number.
        runner_id: i64,
    },
    /// Its EphemeralRunner is there.
    Posted {
        /// The registration's number.
        runner_id: i64,
        /// UID of the EphemeralRunner.
        uid: String,
    },
    /// Its status names the registration.
    Named {
        /// UID of the EphemeralRunner.
        uid: String,
    },
    /// Its Pod is there, or left to ARC: the runner counts as made.
    Made {
        /// UID of the EphemeralRunner.
        uid: String,
    },
    /// There is nothing of it any more, as far as we know.
    Absent,
    /// Whatever it is, it needs us no more.
    Settled,
}

/// What is wanted of a runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// That it is made.
    Make,
    /// That nothing of it is left, unless it is ARC's already.
    Unmake,
}

/// One runner of a journal.
#[derive(Clone, Debug)]
pub struct Runner {
    /// Its name.
    pub name: String,
    /// How far it is.
    pub stage: Stage,
    /// What is wanted of it.
    pub goal: Goal,
    /// The call that is under way.
    pub calling: Option<CallId>,
    /// The stamp with which its EphemeralRunner was posted; `None` if that was never tried.
    pub stamp: Option<i64>,
    /// Until when a post without a clear answer may still be carried out.
    pub doubtful_until: Option<Duration>,
    /// Whether the journal with its name is written; nothing is done for it before.
    pub is_journaled: bool,
    /// Whether the watch shows its EphemeralRunner.
    pub is_seen: bool,
    /// Whether its EphemeralRunner was there when we last heard of it by an answer, and the watch has not shown its end.
    pub(super) is_there: bool,
    /// Whether ARC makes its Pod, because we may not.
    pub is_left_to_arc: bool,
    /// Not to be called for before.
    pub not_before: Duration,
    /// Failures since it last came further.
    pub failures: u32,
    /// Refusals of what cleans it up, since the last success.
    pub(super) refusals: u32,
    /// How far it ever was: whoever goes round in circles comes no further.
    pub(super) furthest: u8,
    /// When something was last tried for it.
    pub tried: Duration,
    /// UID of its EphemeralRunner, as the watch last showed it.
    shown: Option<String>,
    /// The same, once that is gone: a watch that lags behind may show it still.
    gone: Option<String>,
    /// Whether anything was ever asked for it, by anyone.
    pub(super) is_asked: bool,
    /// Whether it is being looked for a last time.
    pub(super) is_last_look: bool,
    /// Whether an earlier leader drew it, of whose calls some may still be carried out.
    pub(super) is_inherited: bool,
    /// Whether the call that is under way posts its EphemeralRunner.
    pub(super) is_post: bool,
}

/// What an answer meant for its runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is further on its way than it ever was.
    Further,
    /// The call was answered well, and it is no further for that.
    Aside,
    /// It has to be tried again, or something else has to be looked at first.
    Again,
    /// It cannot be made, and neither can others like it.
    Hopeless(Trouble),
}

impl Runner {
    /// A name that was just drawn; ARC makes its Pod unless `with_pod`.
    pub fn drawn(name: String, with_pod: bool) -> Self {
        Self {
            name,
            stage: Stage::Drawn,
            goal: Goal::Make,
            calling: None,
            stamp: None,
            doubtful_until: None,
            is_journaled: false,
            is_seen: false,
            is_there: false,
            is_left_to_arc: !with_pod,
            not_before: Duration::ZERO,
            failures: 0,
            refusals: 0,
            furthest: 0,
            tried: Duration::ZERO,
            shown: None,
            gone: None,
            is_asked: false,
            is_last_look: false,
            is_inherited: false,
            is_post: false,
        }
    }

    /// A name from the journal of an earlier leader, whose last calls may be carried out until `doubtful_until`.
    pub fn inherited(name: String, with_pod: bool, doubtful_until: Duration) -> Self {
        Self {
            stage: Stage::Unknown,
            doubtful_until: Some(doubtful_until),
            is_journaled: true,
            is_asked: true,
            is_inherited: true,
            ..Self::drawn(name, with_pod)
        }
    }

    /// Whether its EphemeralRunner is there, or may be.
    pub fn is_posted(&self) -> bool {
        match self.stage {
            Stage::Taken { .. } | Stage::Posted { .. } | Stage::Named { .. } | Stage::Made { .. } => true,
            Stage::Stored { .. } => self.is_posting(),
            _ => false,
        }
    }

    /// Whether a post of its EphemeralRunner is under way, or had no clear answer.
    pub fn is_posting(&self) -> bool {
        matches!(self.stage, Stage::Stored { .. }) && (self.is_post || self.doubtful_until.is_some())
    }

    /// Whether an earlier leader may still be posting it, for all that we know.
    pub fn is_unclear(&self, now: Duration) -> bool {
        let is_unknown = matches!(self.stage, Stage::Unknown | Stage::Unverified { .. }) && !self.is_seen;
        is_unknown && self.doubtful_until.is_some_and(|until| now < until)
    }

    /// Whether it has to be counted although the watch does not show it.
    pub fn is_unseen(&self) -> bool {
        !self.is_seen && (self.is_posted() || (self.is_settled() && self.is_there))
    }

    /// How far it is on its way to be made.
    pub(super) fn steps_taken(&self) -> u8 {
        match self.stage {
            Stage::Registered { .. } | Stage::Clashing { .. } => 1,
            Stage::Stored { .. } | Stage::Taken { .. } => 2,
            Stage::Posted { .. } => 3,
            Stage::Named { .. } => 4,
            Stage::Made { .. } | Stage::Settled => 5,
            _ => 0,
        }
    }

    /// Whether it is still to be made.
    pub fn is_left(&self) -> bool {
        self.goal == Goal::Make && !self.is_made() && !self.is_settled()
    }

    /// Whether it was begun and its EphemeralRunner does not exist.
    pub fn is_begun(&self) -> bool {
        self.is_left() && !self.is_posted() && !self.is_seen
    }

    /// Whether its EphemeralRunner is there for sure.
    pub fn has_runner(&self) -> bool {
        matches!(self.stage, Stage::Posted { .. } | Stage::Named { .. } | Stage::Made { .. })
    }

    /// Whether it counts as made.
    pub fn is_made(&self) -> bool {
        matches!(self.stage, Stage::Made { .. })
    }

    /// Whether nothing has to be done for it any more.
    pub fn is_settled(&self) -> bool {
        matches!(self.stage, Stage::Settled)
    }

    /// Whether it takes part in what is registered and not yet posted.
    pub fn is_under_way(&self) -> bool {
        let is_begun = match self.stage {
            Stage::Drawn => self.calling.is_some(),
            Stage::Registered { .. }
            | Stage::Clashing { .. }
            | Stage::Foreign { .. }
            | Stage::Stored { .. } => true,
            _ => false,
        };
        is_begun && self.goal == Goal::Make
    }

    /// Whether its EphemeralRunner can be posted now.
    pub fn is_ready(&self, now: Duration) -> bool {
        let is_free = self.calling.is_none() && now >= self.not_before;
        is_free && self.goal == Goal::Make && matches!(self.stage, Stage::Stored { .. })
    }

    /// A call for it was begun.
    pub fn begin(&mut self, id: CallId, call: &Call, now: Duration) {
        debug_assert!(
            self.goal == Goal::Make || !matches!(call, Call::Register),
            "{} was given up and is registered",
            self.name
        );
        self.calling = Some(id);
        self.is_asked = true;
        self.tried = now;
        self.is_post = false;
        if let Call::CreateRunner { stamp } = call {
            (self.stamp, self.is_post) = (Some(*stamp), true);
        }
    }

    /// The watch shows its EphemeralRunner.
    pub fn appeared(&mut self, uid: &str) {
        if self.gone.as_deref() == Some(uid) {
            return;
        }
        (self.is_seen, self.is_there, self.shown) = (true, true, Some(uid.to_owned()));
        if self.calling.is_some() {
            return;
        }
        match self.stage {
            Stage::Taken { runner_id } | Stage::Stored { runner_id } | Stage::Unverified { runner_id } => {
                self.posted(runner_id, uid.to_owned());
            }
            // Without its Secret ARC registers it anew, and removes what is registered under its name.
            Stage::Unregistered | Stage::Stale { .. } => self.stage = Stage::Settled,
            _ => {}
        }
    }

    /// Its EphemeralRunner is gone. What ARC knew of it, ARC has removed; it is not made anew.
    pub fn vanished(&mut self) {
        (self.is_seen, self.is_there) = (false, false);
        self.gone = self.shown.take().or(self.gone.take());
        if self.is_settled() {
            return;
        }
        match &self.stage {
            // ARC may not have known the registration.
            Stage::Posted { runner_id, .. } | Stage::Taken { runner_id } => {
                self.stage = Stage::Stored { runner_id: *runner_id };
                self.doubtful_until = None;
            }
            Stage::Named { .. } | Stage::Made { .. } => self.stage = Stage::Absent,
            // What is under way comes to an end of its own.
            _ => {}
        }
        self.give_up();
    }

    /// From now on it is to be unmade; one for which nobody ever asked anything is settled at once.
    pub fn give_up(&mut self) {
        self.goal = Goal::Unmake;
        if let Stage::Drawn = self.stage
            && self.calling.is_none()
        {
            self.stage = if self.is_asked { Stage::Unknown } else { Stage::Settled };
        }
        if let Stage::Unverified { runner_id } = self.stage
            && self.calling.is_none()
        {
            self.stage = Stage::Stored { runner_id };
        }
    }

    /// Nothing of it was there for long: looks a last time.
    pub fn look_again(&mut self) {
        self.is_last_look = true;
        self.doubtful_until = None;
        self.stage = Stage::Unknown;
    }

    /// ARC makes its Pod.
    pub fn leave_to_arc(&mut self) {
        self.is_left_to_arc = true;
        if let Stage::Named { uid } = &self.stage {
            self.stage = Stage::Made { uid: uid.clone() };
        }
    }

    pub(super) fn posted(&mut self, runner_id: i64, uid: String) {
        self.is_there = true;
        self.doubtful_until = None;
        self.stage = if self.gone.as_ref().is_some_and(|gone| *gone != uid) {
            // It has lived, and a post that nobody heard of is carried out late: its registration is gone, and ARC makes another.
            self.is_left_to_arc = true;
            Stage::Made { uid }
        } else {
            Stage::Posted { runner_id, uid }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::creation::call::Answer;

    #[test]
    fn what_is_posted_late_after_its_life_is_left_to_arc() {
        let mut runner = Runner::drawn("r".to_owned(), true);
        let (now, patience) = (Duration::ZERO, Duration::from_secs(30));
        let done = |runner: &mut Runner, call: &Call, answer: Answer| {
            runner.begin(CallId(1), call, now);
            runner.answered(call, answer, now, patience);
        };
        let jit_config = || "jit".to_owned().into();
        done(&mut runner, &Call::Register, Answer::Registered { runner_id: 7, jit_config: jit_config() });
        let secret = Call::CreateSecret { runner_id: 7, jit_config: jit_config() };
        done(&mut runner, &secret, Answer::Done);
        let post = Call::CreateRunner { stamp: 1 };
        runner.begin(CallId(2), &post, now);
        // An earlier try that nobody heard of is carried out, lives and goes; then this one is.
        runner.appeared("first");
        runner.vanished();
        runner.answered(&post, Answer::Created("second".to_owned()), now, patience);
        assert!(matches!(&runner.stage, Stage::Made { uid } if uid == "second"), "{:?}", runner.stage);
        assert!(runner.is_left_to_arc, "its registration is gone, and ARC makes another");
    }
}
