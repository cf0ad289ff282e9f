//! EphemeralRunnerSet: how many runners it makes or ends (arc.md §2.1, all steps in their order).

use super::cache::Cache;
use super::calls::{Answer, Call, Creation, End, Step};
use super::flags::{Flags, Generation};
use super::line::{Else, Line};
use super::objects::{
    Key, Kind, Meta, Phase, REGISTRATION_FINALIZER, RUNNER_FINALIZER, Runner, RunnerSet, RunnerStatus,
    SetStatus,
};

/// One pass over a runner set. All is decided on the snapshot at its beginning.
#[derive(Clone, Debug)]
pub struct SetPass(Line);

/// The runners of a set, sorted as ARC does.
#[derive(Clone, Debug, Default)]
pub struct Children<'c> {
    /// Their phase is Running.
    pub running: Vec<&'c Runner>,
    /// Any other phase that is not at its end.
    pub pending: Vec<&'c Runner>,
    /// Succeeded.
    pub finished: Vec<&'c Runner>,
    /// Failed; they count, and nothing replaces them.
    pub failed: Vec<&'c Runner>,
    /// Outdated.
    pub outdated: Vec<&'c Runner>,
    /// Being deleted.
    pub deleting: usize,
    /// The highest stamp of all, those being deleted included.
    pub latest_patch_id: i64,
}

impl<'c> Children<'c> {
    /// Sorts them.
    pub fn sort(runners: impl Iterator<Item = &'c Runner>) -> Self {
        let mut sorted = Self::default();
        for runner in runners {
            sorted.latest_patch_id = sorted.latest_patch_id.max(runner.patch_id.unwrap_or(0));
            match runner.status.phase {
                _ if runner.meta.deleting => sorted.deleting += 1,
                Phase::Running => sorted.running.push(runner),
                Phase::Succeeded => sorted.finished.push(runner),
                Phase::Failed => sorted.failed.push(runner),
                Phase::Outdated => sorted.outdated.push(runner),
                Phase::Empty | Phase::Pending => sorted.pending.push(runner),
            }
        }
        sorted
    }

    /// Those that count as replicas.
    pub fn total(&self) -> i64 {
        count(&self.pending) + count(&self.running) + count(&self.failed)
    }

    /// Whether there is none at all.
    pub fn none(&self) -> bool {
        self.deleting + self.finished.len() + self.outdated.len() == 0 && self.total() == 0
    }

    fn status(&self, old: Option<SetStatus>) -> SetStatus {
        let phase = match old.map_or(Phase::Empty, |status| status.phase) {
            _ if !self.outdated.is_empty() => Phase::Outdated,
            Phase::Empty => Phase::Running,
            phase => phase,
        };
        let (pending, running, failed) = (count(&self.pending), count(&self.running), count(&self.failed));
        SetStatus { current: pending + running + failed, pending, running, failed, phase }
    }
}

impl SetPass {
    /// Decides.
    pub fn begin(key: &Key, cache: &Cache, flags: &Flags) -> Self {
        let Some(set) = cache.runner_set(key) else { return Self(Line::new([], End::Done)) };
        let children = Children::sort(cache.runners_of(key));
        Self(decide(set, &children, flags))
    }

    /// The next call, or the end.
    pub fn step(&mut self, answer: Option<&Answer>) -> Step {
        self.0.next(answer)
    }
}

fn decide(set: &RunnerSet, children: &Children<'_>, flags: &Flags) -> Line {
    let (key, finalizer) = (&set.meta.key, flags.set_finalizer());
    let finalizers = |all| Call::Finalizers(Kind::RunnerSet, key.clone(), all);
    let master = flags.generation == Generation::Master;
    if set.meta.deleting {
        if !set.meta.has(finalizer) {
            return Line::new([], End::Done);
        }
        let last = children.none().then(|| finalizers(set.meta.without(finalizer)));
        return Line::new(clean_up(set, children, flags), End::Done).finally(last);
    }
    if !set.meta.has(finalizer) {
        return Line::new([(finalizers(set.meta.with(finalizer)), Else::Stop)], End::Done);
    }
    if master && set.hash != set.template {
        let hash = Call::Upgrade(key.clone(), set.template.clone());
        return Line::new(clean_up(set, children, flags), End::Done).finally(Some(hash));
    }
    if set.status.is_some_and(|status| status.phase == Phase::Outdated) {
        let work = if master { clean_up(set, children, flags) } else { vec![] };
        return Line::new(work, End::Done);
    }
    let status = children.status(set.status);
    let status = (set.status != Some(status)).then(|| Call::SetStatus(key.clone(), set.status, status));
    Line::new(scale(set, children), End::Done).finally(status)
}

/// Step 8: creates or ends runners, unless a runner carries the very number of the patch.
fn scale(set: &RunnerSet, children: &Children<'_>) -> Vec<(Call, Else)> {
    if set.patch_id != 0 && set.patch_id == children.latest_patch_id {
        return vec![];
    }
    let mut work = vec![];
    let total = children.total();
    if total < set.replicas {
        let one = || (Call::Create(Box::new(Creation::Runner(new_runner(set)))), Else::Collect);
        work.extend((total..set.replicas).map(|_| one()));
    } else if set.patch_id == 0 && total > set.replicas {
        let surplus = usize::try_from(total - set.replicas).unwrap_or(0);
        work.extend(end_idle(set, children, surplus));
    }
    work.extend(children.finished.iter().map(|runner| (delete(runner), Else::Collect)));
    work
}

/// Ends idle runners: pending before running, oldest first; not those without a registration or with a job.
fn end_idle(set: &RunnerSet, children: &Children<'_>, surplus: usize) -> Vec<(Call, Else)> {
    let idle = by_age(&children.pending).into_iter().chain(by_age(&children.running));
    let idle = idle.filter(|runner| runner.status.runner_id != 0 && !runner.status.has_job);
    let mut work = vec![(Call::ReadCredentials(set.meta.key.clone()), Else::Stop)];
    for runner in idle.take(surplus) {
        work.push((Call::RemoveAgent(runner.status.runner_id), Else::SkipNext));
        work.push((delete(runner), Else::Collect));
    }
    work
}

/// Ends all that has no job.
fn clean_up(set: &RunnerSet, children: &Children<'_>, flags: &Flags) -> Vec<(Call, Else)> {
    let done = [&children.finished, &children.failed, &children.outdated];
    let mut work: Vec<(Call, Else)> =
        done.into_iter().flatten().map(|runner| (delete(runner), Else::Collect)).collect();
    // The releases try all runners and rely on the service to refuse the busy ones.
    let tried = |runner: &&&Runner| flags.generation == Generation::Release || !runner.status.has_job;
    let idle: Vec<&&Runner> = children.pending.iter().chain(children.running.iter().filter(tried)).collect();
    if !idle.is_empty() {
        work.push((Call::ReadCredentials(set.meta.key.clone()), Else::Stop));
    }
    for runner in idle {
        work.push((Call::RemoveAgent(runner.status.runner_id), Else::SkipNext));
        work.push((delete(runner), Else::Collect));
    }
    work
}

/// A runner as ARC makes it.
pub fn new_runner(set: &RunnerSet) -> Runner {
    let meta = Meta::new(set.meta.key.beside(&format!("{}-runner-", set.meta.key.name)));
    Runner {
        meta: meta.owned(Kind::RunnerSet, &set.meta).finalized(&[RUNNER_FINALIZER, REGISTRATION_FINALIZER]),
        patch_id: Some(set.patch_id),
        scale_set_id: set.scale_set_id,
        template: set.template.clone(),
        status: RunnerStatus::default(),
    }
}

fn delete(runner: &Runner) -> Call {
    Call::Delete(Kind::Runner, runner.meta.key.clone())
}

fn count(runners: &[&Runner]) -> i64 {
    i64::try_from(runners.len()).unwrap_or(i64::MAX)
}

fn by_age<'c>(runners: &[&'c Runner]) -> Vec<&'c Runner> {
    let mut sorted = runners.to_vec();
    sorted.sort_by_key(|runner| runner.meta.created);
    sorted
}
