//! EphemeralRunner: registration, Secret, status, Pod, and its end (arc.md §4.1).

use std::time::Duration;

use super::cache::Cache;
use super::calls::{Answer, Call, Creation, End, Failure, RunnerPatch, Step};
use super::flags::{Flags, Generation, LATER, POD_EXISTS, QUOTA_PATIENCE};
use super::line::{Else, Line};
use super::objects::{
    Container, Key, Kind, Meta, Phase, Pod, REGISTRATION_FINALIZER, RUNNER_FINALIZER, Runner, Secret,
};

/// One pass over a runner.
#[derive(Clone, Debug)]
pub struct RunnerPass {
    runner: Option<Runner>,
    at: At,
}

/// The call that the pass waits for.
#[derive(Clone, Debug)]
enum At {
    Begin,
    Secret,
    Credentials,
    Registration,
    Namesake,
    NewSecret(i64),
    Status,
    NewPod,
    Rest(Line),
}

/// What a pod means for its runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    Wait,
    /// Its phase and readiness are the runner's.
    Copy,
    /// The runner has done its work.
    Success,
    /// The runner is too old for the service.
    Outdated,
    /// The pod is of no use.
    Failure,
}

impl RunnerPass {
    /// Begins a pass.
    pub fn begin(key: &Key, cache: &Cache) -> Self {
        Self { runner: cache.runner(key).cloned(), at: At::Begin }
    }

    /// The next call, or the end. What is in the cache is read when it is needed.
    pub fn step(&mut self, cache: &Cache, flags: &Flags, now: Duration, answer: Option<&Answer>) -> Step {
        let Some(runner) = self.runner.clone() else { return Step::End(End::Done) };
        if let At::Rest(line) = &mut self.at {
            return line.next(answer);
        }
        let given = answer.cloned().unwrap_or(Answer::Done);
        match std::mem::replace(&mut self.at, At::Begin) {
            At::Secret => self.with_secret(&runner, cache, now, given),
            At::Credentials => match given {
                Answer::Failed(_) => Step::End(End::Backoff),
                _ => self.call(At::Registration, Call::Register(runner.scale_set_id, runner.meta.key.name)),
            },
            At::Registration => self.registered(&runner, given),
            At::Namesake => self.namesake(&runner, &given),
            At::NewSecret(id) => match given {
                Answer::Failed(_) => Step::End(End::Backoff),
                _ => self.with_id(&runner, cache, now, Some(id)),
            },
            At::Status => match given {
                Answer::Failed(_) => Step::End(End::Backoff),
                _ => self.pod(&runner, cache, now),
            },
            At::NewPod => self.pod_made(&runner, now, &given),
            At::Begin | At::Rest(_) => self.first(&runner, flags),
        }
    }

    fn call(&mut self, at: At, call: Call) -> Step {
        self.at = at;
        Step::Call(call)
    }

    fn rest(&mut self, items: impl IntoIterator<Item = (Call, Else)>, end: End) -> Step {
        let mut line = Line::new(items, end);
        let first = line.next(None);
        self.at = At::Rest(line);
        first
    }

    fn first(&mut self, runner: &Runner, flags: &Flags) -> Step {
        let key = &runner.meta.key;
        if runner.meta.deleting {
            let work = if runner.meta.has(RUNNER_FINALIZER) { end_of(runner) } else { vec![] };
            return self.rest(work, End::Done);
        }
        if runner.status.phase.done() {
            return self.rest(belongings(key), End::Done);
        }
        let missing =
            [RUNNER_FINALIZER, REGISTRATION_FINALIZER].into_iter().filter(|name| !runner.meta.has(name));
        // Master stops after the first that it adds.
        let most = if flags.generation == Generation::Master { 1 } else { 2 };
        let missing: Vec<&str> = missing.take(most).collect();
        if !missing.is_empty() {
            let all = runner.meta.finalizers.iter().cloned().chain(missing.into_iter().map(Into::into));
            let add = Call::Finalizers(Kind::Runner, key.clone(), all.collect());
            return self.rest([(add, Else::Stop)], End::Done);
        }
        self.call(At::Secret, Call::ReadSecret(key.clone()))
    }

    fn with_secret(&mut self, runner: &Runner, cache: &Cache, now: Duration, given: Answer) -> Step {
        match given {
            Answer::Secret(secret) => self.with_id(runner, cache, now, secret.runner_id),
            Answer::Failed(Failure::NotFound) => {
                self.call(At::Credentials, Call::ReadCredentials(runner.meta.key.clone()))
            }
            _ => Step::End(End::Backoff),
        }
    }

    fn registered(&mut self, runner: &Runner, given: Answer) -> Step {
        let name = &runner.meta.key.name;
        match given {
            Answer::Agent(id) => {
                let meta = Meta::new(runner.meta.key.clone()).owned(Kind::Runner, &runner.meta);
                let secret = Secret { meta, runner_id: Some(id), runner_name: name.clone() };
                self.call(At::NewSecret(id), Call::Create(Box::new(Creation::Secret(secret))))
            }
            Answer::Failed(Failure::AgentExists) => self.call(At::Namesake, Call::FindAgent(name.clone())),
            _ => Step::End(End::Backoff),
        }
    }

    /// A runner of this name is registered: ours is made anew, another scale set's is the end of this one.
    fn namesake(&mut self, runner: &Runner, given: &Answer) -> Step {
        match given {
            Answer::Found(Some((id, set))) if *set == runner.scale_set_id => {
                self.rest([(Call::RemoveAgent(*id), Else::Stop)], End::Backoff)
            }
            Answer::Found(Some(_)) => self.rest([(delete(runner), Else::Stop)], End::Done),
            _ => Step::End(End::Backoff),
        }
    }

    fn with_id(&mut self, runner: &Runner, cache: &Cache, now: Duration, id: Option<i64>) -> Step {
        let key = &runner.meta.key;
        match id {
            _ if runner.status.runner_id != 0 => self.pod(runner, cache, now),
            Some(id) => {
                let patch = RunnerPatch::Registered(id, key.name.clone());
                self.call(At::Status, Call::RunnerStatus(key.clone(), patch))
            }
            None => self.rest([(Call::Delete(Kind::Secret, key.clone()), Else::Stop)], End::Backoff),
        }
    }

    fn pod(&mut self, runner: &Runner, cache: &Cache, now: Duration) -> Step {
        let key = &runner.meta.key;
        if runner.status.failures.len() > 5 {
            return self.rest([(delete(runner), Else::Stop)], End::Done);
        }
        if let Some(rest) = back_off(runner, now) {
            return Step::End(End::After(rest));
        }
        let Some(pod) = cache.pod(key) else {
            let meta = Meta::new(key.clone()).owned(Kind::Runner, &runner.meta);
            let pod = Pod { meta, phase: Phase::Empty, ready: false, container: Container::Unknown };
            return self.call(At::NewPod, Call::Create(Box::new(Creation::Pod(pod))));
        };
        let status = |patch| Call::RunnerStatus(key.clone(), patch);
        let id = runner.status.runner_id;
        match verdict(pod) {
            Verdict::Wait => Step::End(End::Done),
            Verdict::Copy if (runner.status.phase, runner.status.ready) == (pod.phase, pod.ready) => {
                Step::End(End::Done)
            }
            Verdict::Copy => {
                self.rest([(status(RunnerPatch::Phase(pod.phase, pod.ready)), Else::Stop)], End::Done)
            }
            Verdict::Success => self.rest([(delete(runner), Else::Stop)], End::Done),
            Verdict::Outdated => {
                let phase = (status(RunnerPatch::Phase(Phase::Outdated, false)), Else::Stop);
                self.rest([phase, credentials(key), (Call::RemoveAgent(id), Else::Stop)], End::Done)
            }
            Verdict::Failure if runner.status.has_job => {
                let items =
                    [(delete(runner), Else::Stop), credentials(key), (Call::RemoveAgent(id), Else::Ignore)];
                self.rest(items, End::Done)
            }
            Verdict::Failure => {
                let failure = (status(RunnerPatch::Failure(pod.meta.uid.clone(), now)), Else::Stop);
                self.rest([(Call::Delete(Kind::Pod, key.clone()), Else::Stop), failure], End::Done)
            }
        }
    }

    fn pod_made(&mut self, runner: &Runner, now: Duration, given: &Answer) -> Step {
        let key = &runner.meta.key;
        match given {
            Answer::Failed(Failure::AlreadyExists) => Step::End(End::After(POD_EXISTS)),
            Answer::Failed(Failure::Quota) if now > runner.meta.created + QUOTA_PATIENCE => {
                self.rest([(delete(runner), Else::Stop)], End::Done)
            }
            Answer::Failed(Failure::Quota) => Step::End(End::After(LATER)),
            Answer::Failed(Failure::Invalid | Failure::Forbidden) => {
                let patch = RunnerPatch::Phase(Phase::Failed, false);
                let failed = (Call::RunnerStatus(key.clone(), patch), Else::Stop);
                let remove = (Call::RemoveAgent(runner.status.runner_id), Else::Stop);
                self.rest([failed, credentials(key), remove], End::Done)
            }
            Answer::Failed(_) => Step::End(End::Backoff),
            _ => Step::End(End::Done),
        }
    }
}

/// What a pod says of its runner.
pub fn verdict(pod: &Pod) -> Verdict {
    match pod.container {
        Container::Exited(0) => Verdict::Success,
        Container::Exited(7) => Verdict::Outdated,
        Container::Exited(_) => Verdict::Failure,
        _ if pod.phase == Phase::Failed => Verdict::Failure,
        Container::Unknown => Verdict::Wait,
        Container::Alive => Verdict::Copy,
    }
}

/// How long to wait until the next pod after those that failed.
fn back_off(runner: &Runner, now: Duration) -> Option<Duration> {
    let last = runner.status.failures.values().max()?;
    let seconds = [0, 5, 10, 20, 40, 80].get(runner.status.failures.len()).copied().unwrap_or(80);
    let until = *last + Duration::from_secs(seconds);
    until.checked_sub(now).filter(|rest| !rest.is_zero())
}

fn delete(runner: &Runner) -> Call {
    Call::Delete(Kind::Runner, runner.meta.key.clone())
}

fn credentials(key: &Key) -> (Call, Else) {
    (Call::ReadCredentials(key.clone()), Else::Stop)
}

/// Pod and Secret, by name.
fn belongings(key: &Key) -> Vec<(Call, Else)> {
    let calls = [
        Call::Delete(Kind::Pod, key.clone()),
        Call::ReadSecret(key.clone()),
        Call::Delete(Kind::Secret, key.clone()),
    ];
    calls.into_iter().map(|call| (call, Else::Stop)).collect()
}

/// A runner that is being deleted: registration, Pod, Secret; each finalizer when its part is done.
fn end_of(runner: &Runner) -> Vec<(Call, Else)> {
    let (key, mut left) = (&runner.meta.key, runner.meta.finalizers.clone());
    let mut work = vec![];
    if runner.meta.has(REGISTRATION_FINALIZER) {
        left = runner.meta.without(REGISTRATION_FINALIZER);
        work.push(credentials(key));
        work.push((Call::RemoveAgent(runner.status.runner_id), Else::Busy));
        work.push((Call::Finalizers(Kind::Runner, key.clone(), left.clone()), Else::Stop));
    }
    work.extend(belongings(key));
    left.retain(|name| &**name != RUNNER_FINALIZER);
    work.push((Call::Finalizers(Kind::Runner, key.clone(), left), Else::Stop));
    work
}
