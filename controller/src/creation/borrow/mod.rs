//! The life of one runner set with us: one generation at a time is borrowed from ARC, made, and handed back. Pure.
//!
//! Raw: ARC owns the set, and we finish or unmake what we began. Pinned: we wait until ARC is quiet, make what is missing, wait
//! until ARC has counted it, and hand back. Whatever goes wrong leads to a hand-back of what there is: since all but the last
//! runner carry an older stamp, ARC makes the rest at once.

mod answers;
mod pending;
mod plan;
mod timing;
mod turn;

use std::collections::BTreeMap;
use std::time::Duration;

use headstart_externals::pin::{Generation, Stored};

use crate::creation::call::{Call, Task};
use crate::creation::journal::Journal;
use crate::creation::report::Stop;
use crate::creation::runner::{Goal, Runner, Stage};
use crate::creation::view::{RunnerView, SetView};
use pending::{Pending, Written};
pub use plan::Wish;
pub use timing::{Context, Timing};

/// Where a set lies; known also when the set is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// UID of the set.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Name of its AutoscalingRunnerSet.
    pub owner: String,
}

/// Where a set stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Phase {
    /// ARC owns it.
    Raw,
    /// It is pinned; ARC may still be at work.
    Waiting,
    /// Its runners are being made.
    Making(Generation),
    /// They are made, or cannot be; ARC counts them.
    Returning { generation: Generation, since: Duration, why: Option<Stop> },
    /// It was handed back; the watch has not shown it yet.
    Returned,
}

/// One set.
#[derive(Clone, Debug)]
pub struct Borrow {
    place: Place,
    view: Option<SetView>,
    /// Whether the next two are known.
    pub(super) is_known: bool,
    /// Whether its listener and its owner are there to stay.
    pub(super) is_attended: bool,
    /// Whether we may make runners for it.
    pub(super) is_enabled: bool,
    runners: BTreeMap<String, RunnerView>,
    pub(super) ours: BTreeMap<String, Runner>,
    journals: Vec<Written>,
    phase: Phase,
    /// When it was first pinned since it was last raw.
    pinned: Option<Duration>,
    /// Whether ARC was quiet since then.
    was_quiet: bool,
    /// Whether something raw was stored, or may have been, since we last decided.
    was_raw: bool,
    /// The generation that was being made when its listener or owner went: it is never counted anew.
    stopped: Option<Generation>,
    /// When a runner last appeared that is not ours.
    foreign: Duration,
    /// When something last went on.
    progress: Duration,
    /// The call that failed last since it was last raw, and how.
    cause: Option<String>,
    suspended_until: Option<Duration>,
    /// Views of older generations of the object are older than our hand-back.
    returned: i64,
    hand_back: Pending,
    /// When it was first tried to hand the set back since it was last raw: the listener may write again and again meanwhile.
    returning: Option<Duration>,
    told: plan::Told,
}

impl Borrow {
    /// A set of which nothing is known yet.
    pub fn new(place: Place, now: Duration) -> Self {
        Self {
            place,
            view: None,
            is_known: false,
            is_attended: false,
            is_enabled: false,
            runners: BTreeMap::new(),
            ours: BTreeMap::new(),
            journals: Vec::new(),
            phase: Phase::Raw,
            pinned: None,
            was_quiet: false,
            was_raw: false,
            stopped: None,
            foreign: now,
            progress: now,
            cause: None,
            suspended_until: None,
            returned: 0,
            hand_back: Pending::default(),
            returning: None,
            told: plan::Told::default(),
        }
    }

    /// Takes over the journal of an earlier leader, written `age` ago. One that is known already changes nothing.
    pub fn inherit(&mut self, journal: Journal, age: Duration, context: &Context<'_>) {
        if self.journals.iter().any(|known| known.journal.name == journal.name) {
            return;
        }
        let doubtful = context.now + context.timing.patience;
        for name in &journal.runners {
            // A Pod that is missing to what is there already may have ended: ARC knows, and makes it otherwise.
            let with_pod = context.with_pods && !self.runners.contains_key(name);
            let runner = self.ours.entry(name.clone());
            let runner = runner.or_insert_with(|| Runner::inherited(name.clone(), with_pod, doubtful));
            if let Some(view) = self.runners.get(name) {
                runner.appeared(&view.uid);
            }
            if self.phase != Phase::Raw {
                // It came to light late; what is under way does not need it.
                runner.give_up();
            }
        }
        let pinned = context.now.saturating_sub(age);
        self.pinned = Some(self.pinned.map_or(pinned, |known| known.max(pinned)));
        self.journals.push(Written::new(journal, true));
    }

    /// The set is stored like this.
    pub fn observe(&mut self, view: SetView, now: Duration) {
        let known = self.view.as_ref().map(|known| known.generation);
        // Watches may begin anew with something older.
        if known.is_some_and(|known| view.generation < known) {
            return;
        }
        let is_missed = known.is_some_and(|known| view.generation > known + 1);
        let is_new = known != Some(view.generation);
        if let Stored::Raw { replicas, .. } = view.stored {
            self.was_raw = true;
            // ARC may begin to make them although it shows none yet.
            if is_new && usize::try_from(replicas).is_ok_and(|replicas| replicas > view.counted) {
                self.foreign = now;
            }
        }
        if is_missed {
            (self.was_raw, self.foreign) = (true, now);
        }
        self.view = Some(view);
    }

    /// The set is not there any more.
    pub fn set_gone(&mut self) {
        self.view = None;
    }

    /// One of its runners is stored like this.
    pub fn runner(&mut self, view: RunnerView, now: Duration) {
        let is_known = self.runners.contains_key(&view.name) || self.ours.contains_key(&view.name);
        if let Some(ours) = self.ours.get_mut(&view.name) {
            ours.appeared(&view.uid);
        }
        self.runners.insert(view.name.clone(), view);
        if !is_known {
            self.foreign = now;
            self.joined();
        }
    }

    /// One of its runners is not there any more.
    pub fn runner_gone(&mut self, name: &str) {
        self.runners.remove(name);
        if let Some(ours) = self.ours.get_mut(name) {
            ours.vanished();
        }
    }

    /// Whether it is left to ARC for a while.
    pub fn is_suspended(&self, now: Duration) -> bool {
        self.suspended_until.is_some_and(|until| now < until)
    }

    /// Whether it is gone, and nothing of it needs us any more.
    pub fn is_gone(&self) -> bool {
        self.view.is_none() && self.ours.is_empty() && self.journals.is_empty()
    }

    /// Whether this name stands in one of its journals.
    pub fn has(&self, runner: &str) -> bool {
        self.ours.contains_key(runner)
    }

    /// Whether a runner of that name is there.
    pub fn sees(&self, runner: &str) -> bool {
        self.runners.contains_key(runner)
    }

    /// Where it lies.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What is wanted of a runner.
    pub fn goal(&self, runner: &str) -> Option<Goal> {
        self.ours.get(runner).map(|runner| runner.goal)
    }

    /// How often what this task is about has failed in a row.
    pub fn failures(&self, task: &Task) -> u32 {
        match &task.call {
            Call::HandBack(_) => self.hand_back.failures,
            Call::CreateJournal(Journal { name, .. }) | Call::DeleteJournal(name) => {
                self.journals.iter().find(|written| written.journal.name == *name).map_or(0, |it| it.failures)
            }
            _ => self.ours.get(&task.runner).map_or(0, |runner| runner.failures),
        }
    }

    /// Whether its runners are being made now.
    pub fn is_making(&self) -> bool {
        matches!(self.phase, Phase::Making(_))
    }

    /// Whether a pinned generation is stored.
    pub fn holds_a_pin(&self) -> bool {
        self.view.as_ref().is_some_and(|view| matches!(view.stored, Stored::Pinned(_)))
    }

    /// ARC's own count of what we see.
    pub fn live(&self) -> usize {
        self.runners.values().filter(|runner| runner.is_live).count()
    }

    /// How many runners its listener asks for.
    pub fn asked(&self) -> Option<usize> {
        let replicas = match self.view.as_ref()?.stored {
            Stored::Raw { replicas, .. } => replicas,
            Stored::Pinned(generation) => i64::from(generation.replicas),
        };
        usize::try_from(replicas).ok()
    }

    /// How many runners there are, those included whose EphemeralRunner we posted and do not see yet.
    pub(super) fn alive(&self) -> usize {
        self.live() + self.ours.values().filter(|runner| runner.is_unseen()).count()
    }

    /// What it wishes to be done now; how urgent each wish is, it says itself.
    pub fn wishes(&self, context: &Context<'_>) -> Vec<Wish> {
        plan::wishes(self, context)
    }

    /// When it has to be looked at again although nothing happens.
    pub fn wake(&self, now: Duration, timing: &Timing) -> Option<Duration> {
        let set = match &self.phase {
            Phase::Waiting => {
                let limit = self.progress + timing.progress_limit;
                vec![self.pinned.unwrap_or(now) + timing.quiet_limit, self.foreign + timing.quiet, limit]
            }
            Phase::Making(_) => vec![self.progress + timing.progress_limit],
            Phase::Returning { since, .. } => {
                let (counted, limit) = (self.count_limit(timing), timing.progress_limit);
                let stuck = [*since + limit * 2, self.returning.unwrap_or(*since) + limit];
                let counted = [*since + counted, *since + timing.count_limit, *since + limit];
                counted.into_iter().chain(stuck).chain([self.hand_back.not_before]).collect()
            }
            Phase::Raw | Phase::Returned => vec![],
        };
        let journals = self.journals.iter().filter(|written| written.calling.is_none());
        let journals = journals.map(|written| written.not_before);
        let runners = self.ours.values().filter(|runner| runner.calling.is_none());
        let runners = runners.flat_map(|runner| {
            let rest = match runner.stage {
                Stage::Absent => Some(runner.tried + timing.absence),
                Stage::Settled => Some(runner.tried + timing.patience),
                Stage::Made { .. } => runner.is_free_at(timing.quiet_limit),
                _ => None,
            };
            [Some(runner.not_before), runner.doubtful_until, rest]
        });
        let moments = set.into_iter().chain(self.suspended_until).chain(journals).chain(runners.flatten());
        moments.filter(|moment| *moment > now).min()
    }

    /// How long ARC may take to count.
    pub(super) fn count_limit(&self, timing: &Timing) -> Duration {
        let Phase::Returning { generation, .. } = &self.phase else { return timing.count_limit };
        let highest = self.runners.values().filter_map(|runner| runner.stamp).max();
        let is_shielded = highest == Some(i64::from(generation.patch_id));
        if is_shielded { timing.count_limit } else { timing.count_limit_unshielded }
    }

    /// Whether the set can be handed back now.
    pub(super) fn is_counted(&self, context: &Context<'_>) -> bool {
        let Phase::Returning { since, .. } = &self.phase else { return false };
        let now = context.now;
        // What may still be posted would come on top of what ARC makes; but not for ever.
        let is_open = |runner: &Runner| runner.is_posting() || runner.is_unclear(now);
        if now < *since + context.timing.progress_limit && self.ours.values().any(is_open) {
            return false;
        }
        let counted = self.view.as_ref().map_or(0, |view| view.counted);
        counted >= self.alive() || now >= *since + self.count_limit(context.timing)
    }
}
