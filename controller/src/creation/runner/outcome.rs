//! What an answer means for its runner. Pure.

use std::time::Duration;

use super::{Goal, Progress, Runner, Stage};
use crate::creation::call::{Answer, Call, Trouble};

/// After so many failures in a row a Pod is left to ARC.
const MOST_POD_FAILURES: u32 = 6;

impl Runner {
    /// Takes the answer to its call. `patience` is how long a call without an answer may still be carried out.
    pub fn answered(&mut self, call: &Call, answer: Answer, now: Duration, patience: Duration) -> Progress {
        (self.calling, self.is_post) = (None, false);
        self.tried = now;
        let progress = match answer {
            Answer::Trouble(Trouble::NotFound) if call.is_a_removal() => self.succeeded(call, Answer::Done),
            Answer::Trouble(trouble) => self.failed(call, trouble, now, patience),
            answer => self.succeeded(call, answer),
        };
        let progress = if progress == Progress::Further { self.came_further(now) } else { progress };
        if self.goal == Goal::Unmake {
            self.give_up();
        }
        progress
    }

    /// A call was answered well. One that is made again and again, since the answers to it get lost, fails all the same.
    fn came_further(&mut self, now: Duration) -> Progress {
        (self.not_before, self.refusals) = (now, 0);
        let is_further = self.steps_taken() > self.furthest;
        self.furthest = self.furthest.max(self.steps_taken());
        if is_further || self.goal == Goal::Unmake {
            self.failures = 0;
        }
        if is_further && self.goal == Goal::Make { Progress::Further } else { Progress::Aside }
    }

    fn succeeded(&mut self, call: &Call, answer: Answer) -> Progress {
        let next = match (call, answer, &self.stage) {
            (Call::Register, Answer::Registered { runner_id, jit_config }, _) => {
                Stage::Registered { runner_id, jit_config }
            }
            (Call::FindAgent, Answer::Agent(found), Stage::Unverified { runner_id }) => {
                if found != Some(*runner_id) {
                    self.goal = Goal::Unmake;
                }
                Stage::Stored { runner_id: *runner_id }
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
                found => {
                    let next = looked(stage, found);
                    if !matches!(next, Stage::Stored { .. } | Stage::Unverified { .. }) {
                        // Without a complete Secret nobody is posting it.
                        self.doubtful_until = None;
                        // Once made anew it could live and go before the earlier leader's last calls are carried out,
                        // and nobody would look for what these leave: another name takes its place.
                        if self.is_inherited {
                            self.goal = Goal::Unmake;
                        }
                    }
                    next
                }
            },
            (Call::DeleteSecret, Answer::Done, stage) => {
                let next = deleted(stage);
                self.is_last_look = false;
                next
            }
            (_, answer, _) => return self.runner_succeeded(call, answer),
        };
        self.stage = next;
        Progress::Further
    }

    /// The same for what is about the EphemeralRunner.
    fn runner_succeeded(&mut self, call: &Call, answer: Answer) -> Progress {
        let next = match (call, answer, &self.stage) {
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
                // It was there and has gone, or was looked for in order to be unmade.
                self.goal = Goal::Unmake;
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
            (
                Call::SetStatus { .. } | Call::CreatePod { .. },
                Trouble::NotFound,
                Stage::Posted { .. } | Stage::Named { .. },
            ) => {
                self.vanished();
                return Progress::Further;
            }
            // The Secret goes with the EphemeralRunner.
            (Call::OwnSecret { .. }, Trouble::NotFound, Stage::Made { .. }) => {
                self.goal = Goal::Unmake;
                Stage::Absent
            }
            (Call::CreatePod { .. }, Trouble::Exists, Stage::Named { uid }) => {
                Stage::Made { uid: uid.clone() }
            }
            // ARC tries it as well, in its own time; nobody else has to wait for it.
            (
                Call::CreatePod { .. },
                Trouble::Obstructed(_) | Trouble::TimedOut | Trouble::Failed { .. },
                Stage::Named { .. },
            ) if self.failures >= MOST_POD_FAILURES => {
                self.leave_to_arc();
                return Progress::Further;
            }
            (_, Trouble::Quota(_) | Trouble::Refused(_), _) => {
                self.refusals += 1;
                self.refused(call);
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

    /// What we may not do ARC does, once there is an EphemeralRunner.
    fn refused(&mut self, call: &Call) {
        match (call, &self.stage) {
            (Call::SetStatus { .. }, Stage::Posted { uid, .. })
            | (Call::CreatePod { .. }, Stage::Named { uid }) => {
                self.is_left_to_arc = true;
                self.stage = Stage::Made { uid: uid.clone() };
            }
            // ARC deletes the Secret by its name all the same.
            (Call::OwnSecret { .. }, Stage::Made { .. }) => self.stage = Stage::Settled,
            (Call::CreateRunner { .. }, _) if self.doubtful_until.is_some() => {
                // An earlier post may still be carried out; this one tells nothing of it.
                self.goal = Goal::Unmake;
                self.failures += 1;
            }
            (Call::CreateRunner { .. }, _) => {
                self.stamp = None;
                self.failures += 1;
            }
            _ => self.failures += 1,
        }
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
        (_, Some(Some(runner_id))) => Stage::Unverified { runner_id },
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
