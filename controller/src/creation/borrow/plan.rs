//! What a set wishes to be done next, and in which order runners come. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::pending::Written;
use super::{Borrow, Context, Phase};
use crate::creation::call::{Call, Task};
use crate::creation::report::News;
use crate::creation::runner::{Goal, Runner, Stage};

/// How often people hear of progress at least, while something goes on.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// A task, and how urgent it is: lower goes first.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Its urgency.
    pub urgency: u8,
    /// What to do.
    pub task: Task,
}

impl Wish {
    fn of(urgency: u8, runner: &str, call: Call) -> Self {
        Self { urgency, task: Task { runner: runner.to_owned(), call } }
    }
}

/// The names of runners that were begun and whose EphemeralRunner does not exist, those that are furthest first.
pub(super) fn begun(ours: &BTreeMap<String, Runner>) -> Vec<String> {
    let mut begun: Vec<&Runner> = ours.values().filter(|runner| runner.is_begun()).collect();
    begun.sort_by_key(|runner| match runner.stage {
        Stage::Stored { .. } => 0,
        Stage::Registered { .. } | Stage::Clashing { .. } => 1,
        Stage::Drawn if runner.calling.is_none() => 3,
        _ => 2,
    });
    begun.into_iter().map(|runner| runner.name.clone()).collect()
}

/// Everything that may be done now.
pub(super) fn wishes(borrow: &Borrow, context: &Context<'_>) -> Vec<Wish> {
    let mut wishes = Vec::new();
    hand_back(borrow, context, &mut wishes);
    journals(borrow, context, &mut wishes);
    posts(borrow, context, &mut wishes);
    steps(borrow, context, &mut wishes);
    wishes
}

fn hand_back(borrow: &Borrow, context: &Context<'_>, wishes: &mut Vec<Wish>) {
    let Phase::Returning { generation, .. } = &borrow.phase else { return };
    let is_free = borrow.hand_back.calling.is_none() && context.now >= borrow.hand_back.not_before;
    if is_free && borrow.is_counted(context) {
        wishes.push(Wish::of(0, "", Call::HandBack(*generation)));
    }
}

fn journals(borrow: &Borrow, context: &Context<'_>, wishes: &mut Vec<Wish>) {
    let is_free = |written: &&Written| written.calling.is_none() && context.now >= written.not_before;
    for written in borrow.journals.iter().filter(is_free) {
        let journal = &written.journal;
        let is_needed = journal
            .runners
            .iter()
            .any(|name| borrow.ours.get(name).is_some_and(|runner| !runner.is_settled()));
        if !is_needed {
            wishes.push(Wish::of(9, "", Call::DeleteJournal(journal.name.clone())));
        } else if !written.is_written && borrow.is_making() {
            wishes.push(Wish::of(1, "", Call::CreateJournal(journal.clone())));
        }
    }
}

/// Posts of EphemeralRunners. All carry the stamp before the generation's own but the last, which is posted once all others
/// are there: so ARC makes what is missing after a hand-back that comes early, and nothing after one that does not.
fn posts(borrow: &Borrow, context: &Context<'_>, wishes: &mut Vec<Wish>) {
    let (Phase::Making(generation) | Phase::Returning { generation, .. }) = &borrow.phase else { return };
    let last = i64::from(generation.patch_id);
    let mut post = |runner: &Runner, stamp: i64| {
        wishes.push(Wish::of(4, &runner.name, Call::CreateRunner { stamp: runner.stamp.unwrap_or(stamp) }));
    };
    let ready = || borrow.ours.values().filter(|runner| runner.is_ready(context.now));
    ready().filter(|runner| runner.is_posting()).for_each(|runner| post(runner, last - 1));
    if !borrow.is_making() {
        return;
    }
    let left = borrow.ours.values().filter(|runner| runner.is_left() && !runner.is_posted()).count();
    let mut fresh = ready().filter(|runner| !runner.is_posting());
    if left > 1 {
        fresh.take(left - 1).for_each(|runner| post(runner, last - 1));
    } else if borrow.ours.values().all(|runner| !runner.is_posted() || runner.has_runner()) {
        fresh.next().into_iter().for_each(|runner| post(runner, last));
    }
}

fn steps(borrow: &Borrow, context: &Context<'_>, wishes: &mut Vec<Wish>) {
    let under_way = borrow.ours.values().filter(|runner| runner.is_under_way()).count();
    let mut room = context.most_under_way.saturating_sub(under_way);
    for runner in borrow.ours.values() {
        let next = runner.next(context.now);
        // One that is being deleted comes to its end, and what is left of it then is looked for.
        let is_ending = || borrow.runners.get(&runner.name).is_some_and(|view| !view.is_live);
        let last = || runner.last(context.now, context.timing.quiet_limit);
        let last = || last().filter(|_| !borrow.is_making() && !is_ending());
        let Some(call) = next.or_else(last) else { continue };
        if let Call::Register = call {
            if room == 0 {
                continue;
            }
            room -= 1;
        }
        wishes.push(Wish::of(urgency(runner, &call), &runner.name, call));
    }
}

/// Whoever is furthest goes first, so that the first runners start early; what only cleans up goes last.
fn urgency(runner: &Runner, call: &Call) -> u8 {
    match call {
        Call::CreatePod { .. } => 2,
        Call::SetStatus { .. } => 3,
        Call::OwnSecret { .. } => 7,
        // Nothing is made before these names are clear.
        _ if runner.doubtful_until.is_some() => 4,
        _ if runner.goal == Goal::Unmake => 8,
        Call::CreateSecret { .. } => 5,
        _ => 6,
    }
}

/// What was told of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// Whether it began: it may turn out that nothing is needed any more.
    is_begun: bool,
    pub(super) need: usize,
    pub(super) made: usize,
    pub(super) begun: Duration,
    told: Duration,
    last: usize,
    percent: u8,
}

impl Told {
    /// So many are to be made by a new plan, on top of what is made already. Says whether a batch begins.
    pub(super) fn plan(&mut self, left: usize, now: Duration) -> bool {
        let is_new = !self.is_begun;
        if is_new {
            *self = Self { is_begun: left > 0, begun: now, told: now, ..Self::default() };
        }
        // What is left of the old plan is part of the new one.
        self.need = self.made + left;
        is_new && self.is_begun
    }

    /// The batch, if there was one.
    pub(super) fn ended(self) -> Option<Self> {
        self.is_begun.then_some(self)
    }

    /// So many are left.
    pub(super) fn count(&mut self, left: usize) {
        self.made = self.need.saturating_sub(left);
    }

    /// What is to be told of what is made.
    pub(super) fn advanced(&mut self, now: Duration) -> Option<News> {
        let (made, need) = (self.made, self.need);
        if need == 0 || made == self.last {
            return None;
        }
        let share = made * 100 / need;
        let percent = [75, 50, 25].into_iter().find(|quarter| share >= usize::from(*quarter)).unwrap_or(0);
        let is_quarter = percent > self.percent && made < need;
        if !is_quarter && now < self.told + TELL_EVERY {
            return None;
        }
        (self.percent, self.told, self.last) = (percent, now, made);
        let took = now.saturating_sub(self.begun);
        Some(News::Progress { made, need, took, percent: is_quarter.then_some(percent) })
    }
}
