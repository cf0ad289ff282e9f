//! One runner that we make: what was done for it, and what comes next. Pure; it never goes on by itself.
//!
//! The order is the only safe one: registration, complete Secret, EphemeralRunner, status, Pod, owner of the Secret. ARC
//! unregisters a runner whose Secret it does not find. Until its EphemeralRunner is posted a runner can be unmade; from
//! then on it is ARC's, and only finished.

use std::time::Duration;

use secrecy::SecretString;

use super::call::{Answer, Call, CallId, Trouble};

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
    /// Whether the watch has shown its EphemeralRunner.
    pub is_seen: bool,
    /// Whether ARC makes its Pod, because we may not.
    pub is_left_to_arc: bool,
    /// Not to be called for before.
    pub not_before: Duration,
    /// Failures since the last success.
    pub failures: u32,
    /// When something was last tried for it.
    pub tried: Duration,
    /// Whether anything was ever asked for it, by anyone.
    is_asked: bool,
    /// Whether it is being looked for a last time.
    is_last_look: bool,
}

/// What an answer meant for its runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is further than before.
    Further,
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
            is_left_to_arc: !with_pod,
            not_before: Duration::ZERO,
            failures: 0,
            tried: Duration::ZERO,
            is_asked: false,
            is_last_look: false,
        }
    }

    /// A name from the journal of an earlier leader, whose last calls may be carried out until `doubtful_until`.
    pub fn inherited(name: String, with_pod: bool, doubtful_until: Duration) -> Self {
        Self {
            stage: Stage::Unknown,
            doubtful_until: Some(doubtful_until),
            is_journaled: true,
            is_asked: true,
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
        let is_under_way = self.calling.is_some() && self.stamp.is_some();
        matches!(self.stage, Stage::Stored { .. }) && (is_under_way || self.doubtful_until.is_some())
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

    /// Whether it takes part in what is registered but not yet posted.
    pub fn is_under_way(&self) -> bool {
        let is_registering = matches!(self.stage, Stage::Drawn) && self.calling.is_some();
        is_registering
            || matches!(
                self.stage,
                Stage::Registered { .. }
                    | Stage::Clashing { .. }
                    | Stage::Foreign { .. }
                    | Stage::Stored { .. }
            )
    }

    /// What comes next, if anything is due; posting its EphemeralRunner is the caller's decision, see [`Self::is_ready`].
    pub fn next(&self, now: Duration) -> Option<Call> {
        if self.calling.is_some() || now < self.not_before || !self.is_journaled {
            return None;
        }
        match self.goal {
            Goal::Make => self.make(),
            Goal::Unmake => self.unmake(now),
        }
    }

    /// Whether its EphemeralRunner can be posted now.
    pub fn is_ready(&self, now: Duration) -> bool {
        let is_free = self.calling.is_none() && now >= self.not_before;
        is_free && self.goal == Goal::Make && matches!(self.stage, Stage::Stored { .. })
    }

    fn make(&self) -> Option<Call> {
        match &self.stage {
            Stage::Drawn => Some(Call::Register),
            Stage::Registered { runner_id, jit_config } => {
                Some(Call::CreateSecret { runner_id: *runner_id, jit_config: jit_config.clone() })
            }
            Stage::Stored { .. } | Stage::Absent => None,
            _ => self.go_on(),
        }
    }

    fn unmake(&self, now: Duration) -> Option<Call> {
        match &self.stage {
            // Its Secret may be there after a failure.
            Stage::Registered { .. } if self.failures > 0 => Some(Call::GetSecret),
            Stage::Registered { runner_id, .. } => Some(Call::RemoveAgent(*runner_id)),
            Stage::Stored { .. } => match self.doubtful_until {
                Some(until) if now < until => None,
                Some(_) => Some(Call::GetRunner),
                None => Some(Call::DeleteSecret),
            },
            Stage::Drawn | Stage::Absent => None,
            _ => self.go_on(),
        }
    }

    /// What is the same whether it is to be made or unmade.
    fn go_on(&self) -> Option<Call> {
        match &self.stage {
            Stage::Unknown | Stage::Clashing { .. } => Some(Call::GetSecret),
            Stage::Unregistered => Some(Call::FindAgent),
            Stage::Stale { runner_id } => Some(Call::RemoveAgent(*runner_id)),
            Stage::Foreign { .. } => Some(Call::DeleteSecret),
            Stage::Taken { .. } => Some(Call::GetRunner),
            Stage::Posted { runner_id, .. } => Some(Call::SetStatus { runner_id: *runner_id }),
            Stage::Named { uid } => Some(Call::CreatePod { owner: uid.clone() }),
            _ => None,
        }
    }

    /// The call that makes it independent of us, once it is made.
    pub fn last(&self, now: Duration) -> Option<Call> {
        let is_free = self.calling.is_none() && now >= self.not_before;
        match &self.stage {
            Stage::Made { uid } if is_free => Some(Call::OwnSecret { owner: uid.clone() }),
            _ => None,
        }
    }

    /// A call for it was begun.
    pub fn begin(&mut self, id: CallId, call: &Call, now: Duration) {
        self.calling = Some(id);
        self.is_asked = true;
        self.tried = now;
        if let Call::CreateRunner { stamp } = call {
            self.stamp = Some(*stamp);
        }
    }

    /// The watch shows its EphemeralRunner.
    pub fn appeared(&mut self, uid: &str) {
        self.is_seen = true;
        if let Stage::Taken { runner_id } | Stage::Stored { runner_id } = self.stage
            && self.calling.is_none()
        {
            self.posted(runner_id, uid.to_owned());
        }
    }

    /// The watch says that its EphemeralRunner is gone. What ARC knew of it, ARC has removed.
    pub fn vanished(&mut self) {
        self.stage = match &self.stage {
            Stage::Posted { runner_id, .. } | Stage::Taken { runner_id } => {
                Stage::Stored { runner_id: *runner_id }
            }
            Stage::Named { .. } | Stage::Made { .. } => Stage::Absent,
            _ => return,
        };
        self.goal = Goal::Unmake;
        self.doubtful_until = None;
    }

    /// From now on it is to be unmade; one for which nobody ever asked anything is settled at once.
    pub fn give_up(&mut self) {
        self.goal = Goal::Unmake;
        if let Stage::Drawn = self.stage
            && self.calling.is_none()
        {
            self.stage = if self.is_asked { Stage::Unknown } else { Stage::Settled };
        }
    }

    /// Nothing of it was there for long: looks a last time.
    pub fn look_again(&mut self) {
        self.is_last_look = true;
        self.stage = Stage::Unknown;
    }

    /// ARC makes its Pod.
    pub fn leave_to_arc(&mut self) {
        self.is_left_to_arc = true;
        if let Stage::Named { uid } = &self.stage {
            self.stage = Stage::Made { uid: uid.clone() };
        }
    }

    fn posted(&mut self, runner_id: i64, uid: String) {
        self.stage = Stage::Posted { runner_id, uid };
        self.doubtful_until = None;
    }
}

impl Runner {
    /// Takes the answer to its call. `patience` is how long a call without an answer may still be carried out.
    pub fn answered(&mut self, call: &Call, answer: Answer, now: Duration, patience: Duration) -> Progress {
        self.calling = None;
        self.tried = now;
        let progress = match answer {
            Answer::Trouble(trouble) => self.failed(call, trouble, now, patience),
            answer => self.succeeded(call, answer),
        };
        if progress == Progress::Further {
            self.failures = 0;
            self.not_before = now;
        }
        if self.goal == Goal::Unmake {
            self.give_up();
        }
        progress
    }

    fn succeeded(&mut self, call: &Call, answer: Answer) -> Progress {
        let next = match (call, answer, &self.stage) {
            (Call::Register, Answer::Registered { runner_id, jit_config }, _) => {
                Stage::Registered { runner_id, jit_config }
            }
            (Call::FindAgent, Answer::Agent(found), _) => match (found, self.goal) {
                (Some(runner_id), _) => Stage::Stale { runner_id },
                (None, Goal::Make) => Stage::Drawn,
                (None, Goal::Unmake) if self.is_last_look => Stage::Settled,
                (None, Goal::Unmake) => Stage::Absent,
            },
            (Call::RemoveAgent(_), Answer::Done, _) => {
                self.is_last_look = false;
                match self.goal {
                    Goal::Make => Stage::Drawn,
                    Goal::Unmake => Stage::Absent,
                }
            }
            (Call::CreateSecret { runner_id, .. }, Answer::Done, _) => {
                // Without a Secret nobody has posted it.
                self.doubtful_until = None;
                Stage::Stored { runner_id: *runner_id }
            }
            (Call::GetSecret, Answer::Secret(found), stage) => match found.map(|found| found.runner_id) {
                // ARC registers it anew under our feet; it is ARC's now.
                None | Some(None) if self.is_seen => Stage::Settled,
                found => looked(stage, found),
            },
            (Call::DeleteSecret, Answer::Done, stage) => {
                let next = deleted(stage);
                self.is_last_look = false;
                next
            }
            (Call::CreateRunner { .. }, Answer::Created(uid), Stage::Stored { runner_id }) => {
                self.posted(*runner_id, uid);
                return Progress::Further;
            }
            (
                Call::GetRunner,
                Answer::Runner(Some(uid)),
                Stage::Stored { runner_id } | Stage::Taken { runner_id },
            ) => {
                self.posted(*runner_id, uid);
                return Progress::Further;
            }
            (
                Call::GetRunner,
                Answer::Runner(None),
                Stage::Stored { runner_id } | Stage::Taken { runner_id },
            ) => {
                self.doubtful_until = None;
                Stage::Stored { runner_id: *runner_id }
            }
            (Call::SetStatus { .. }, Answer::Done, Stage::Posted { uid, .. }) => {
                if self.is_left_to_arc {
                    Stage::Made { uid: uid.clone() }
                } else {
                    Stage::Named { uid: uid.clone() }
                }
            }
            (Call::CreatePod { .. }, Answer::Done, Stage::Named { uid }) => Stage::Made { uid: uid.clone() },
            (Call::OwnSecret { .. }, Answer::Done, _) => Stage::Settled,
            // It moved on while the call was under way.
            _ => return Progress::Again,
        };
        self.stage = next;
        Progress::Further
    }

    fn failed(&mut self, call: &Call, trouble: Trouble, now: Duration, patience: Duration) -> Progress {
        let next = match (call, &trouble, &self.stage) {
            (Call::Register, Trouble::Exists, _) => {
                self.stage = Stage::Unregistered;
                self.failures += 1;
                return Progress::Again;
            }
            (Call::CreateSecret { runner_id, jit_config }, Trouble::Exists, _) => {
                Stage::Clashing { runner_id: *runner_id, jit_config: jit_config.clone() }
            }
            (Call::CreateRunner { .. }, Trouble::Exists, Stage::Stored { runner_id }) => {
                Stage::Taken { runner_id: *runner_id }
            }
            (Call::SetStatus { .. }, Trouble::NotFound, Stage::Posted { .. })
            | (Call::CreatePod { .. } | Call::OwnSecret { .. }, Trouble::NotFound, _) => {
                self.lost(call);
                return Progress::Further;
            }
            (Call::CreatePod { .. }, Trouble::Exists, Stage::Named { uid }) => {
                Stage::Made { uid: uid.clone() }
            }
            (Call::CreatePod { .. }, Trouble::Quota(_) | Trouble::Refused(_), _) => {
                self.leave_to_arc();
                return Progress::Hopeless(trouble);
            }
            (_, Trouble::Quota(_) | Trouble::Refused(_), _) => {
                if let Call::CreateRunner { .. } = call {
                    (self.stamp, self.doubtful_until) = (None, None);
                }
                self.failures += 1;
                return Progress::Hopeless(trouble);
            }
            (Call::CreateRunner { .. }, trouble, Stage::Stored { .. }) => {
                if trouble.is_doubtful() {
                    self.doubtful_until = Some(now + patience);
                } else if self.doubtful_until.is_none() {
                    self.stamp = None;
                }
                self.failures += 1;
                return Progress::Again;
            }
            _ => {
                self.failures += 1;
                return Progress::Again;
            }
        };
        self.stage = next;
        Progress::Further
    }

    /// Something that should be there is not: the EphemeralRunner, or at the very end the Secret, which goes with it.
    fn lost(&mut self, call: &Call) {
        match call {
            Call::OwnSecret { .. } => self.stage = Stage::Absent,
            _ => self.vanished(),
        }
        self.goal = Goal::Unmake;
    }
}

/// What a look at the Secret means.
fn looked(stage: &Stage, found: Option<Option<i64>>) -> Stage {
    match (stage, found) {
        (Stage::Clashing { runner_id, .. }, Some(Some(stored))) if stored == *runner_id => {
            Stage::Stored { runner_id: *runner_id }
        }
        (Stage::Clashing { runner_id, jit_config }, Some(_)) => {
            Stage::Foreign { renewed: Some((*runner_id, jit_config.clone())) }
        }
        (Stage::Clashing { runner_id, jit_config }, None) => {
            Stage::Registered { runner_id: *runner_id, jit_config: jit_config.clone() }
        }
        (_, Some(Some(runner_id))) => Stage::Stored { runner_id },
        (_, Some(None)) => Stage::Foreign { renewed: None },
        (_, None) => Stage::Unregistered,
    }
}

/// What the end of a Secret means.
fn deleted(stage: &Stage) -> Stage {
    match stage {
        Stage::Stored { runner_id } => Stage::Stale { runner_id: *runner_id },
        Stage::Foreign { renewed: Some((runner_id, jit_config)) } => {
            Stage::Registered { runner_id: *runner_id, jit_config: jit_config.clone() }
        }
        _ => Stage::Unregistered,
    }
}
