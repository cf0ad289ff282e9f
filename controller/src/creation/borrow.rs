//! The life of one runner set with us: one generation at a time is borrowed from ARC, made, and handed back. Pure.
//!
//! Raw: ARC owns the set, and we finish or unmake what we began. Pinned: we wait until ARC is quiet, make what is missing, wait
//! until ARC has counted it, and hand back. Whatever goes wrong leads to a hand-back of what there is: since all but the last
//! runner carry an older stamp, ARC makes the rest at once.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use headstart_externals::pin::{Generation, Stored};

use super::call::{Answer, Call, CallId, Task, Trouble};
use super::journal::{Heading, Journal};
use super::names;
use super::plan::{self, Wish};
use super::report::{News, Stop};
use super::runner::{Goal, Progress, Runner, Stage};
use super::view::{RunnerView, SetView};

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

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// For how long nobody else may have made a runner before we begin.
    pub quiet: Duration,
    /// How long we wait for that.
    pub quiet_limit: Duration,
    /// How long ARC may take to count our runners before we hand back all the same.
    pub count_limit: Duration,
    /// The same where a runner carries a stamp above the generation, so that ARC goes by its count alone.
    pub count_limit_unshielded: Duration,
    /// How long we go on without any progress.
    pub progress_limit: Duration,
    /// How long a set is left to ARC after a failure.
    pub suspension: Duration,
    /// How long nothing of a runner may be there before it is looked for a last time.
    pub absence: Duration,
    /// How long a call without an answer may still be carried out.
    pub patience: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(300),
            quiet_limit: Duration::from_secs(2),
            count_limit: Duration::from_secs(2),
            count_limit_unshielded: Duration::from_secs(15),
            progress_limit: Duration::from_secs(15),
            suspension: Duration::from_secs(300),
            absence: Duration::from_secs(300),
            patience: Duration::from_secs(30),
        }
    }
}

/// What all sets share in one step.
pub struct Context<'e> {
    /// Now, since an origin of the caller's choice.
    pub now: Duration,
    /// The same moment in milliseconds of the Unix epoch, for journals.
    pub unix_ms: i64,
    /// How long things may take.
    pub timing: &'e Timing,
    /// Whether Pods are made too.
    pub with_pods: bool,
    /// Most runners that may be registered and not yet posted.
    pub most_under_way: usize,
    /// For names and pauses.
    pub rng: &'e mut Rng,
    /// What people are told.
    pub news: &'e mut Vec<(Place, News)>,
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

/// A journal and how far it is.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) journal: Journal,
    pub(super) is_written: bool,
    /// Whether it may be there.
    pub(super) is_tried: bool,
    pub(super) calling: Option<CallId>,
    pub(super) not_before: Duration,
}

impl Written {
    fn new(journal: Journal, is_written: bool) -> Self {
        Self { journal, is_written, is_tried: is_written, calling: None, not_before: Duration::ZERO }
    }
}

/// One set.
#[derive(Clone, Debug)]
pub struct Borrow {
    pub(super) place: Place,
    pub(super) view: Option<SetView>,
    /// Whether its listener and its owner are there to stay.
    pub(super) is_attended: bool,
    /// Whether we may make runners for it.
    pub(super) is_enabled: bool,
    pub(super) runners: BTreeMap<String, RunnerView>,
    pub(super) ours: BTreeMap<String, Runner>,
    pub(super) journals: Vec<Written>,
    pub(super) phase: Phase,
    /// When it was first pinned since it was last raw.
    pub(super) pinned: Option<Duration>,
    /// Whether ARC was quiet since then.
    was_quiet: bool,
    /// When a runner last appeared that is not ours.
    foreign: Duration,
    /// When something last went on.
    progress: Duration,
    suspended_until: Option<Duration>,
    /// Views of older generations of the object are older than our hand-back.
    returned: i64,
    pub(super) hand_back: Pending,
    told: plan::Told,
}

/// A call about the set itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pending {
    pub(super) calling: Option<CallId>,
    pub(super) not_before: Duration,
    pub(super) failures: u32,
}

impl Borrow {
    /// A set of which nothing is known yet.
    pub fn new(place: Place, now: Duration) -> Self {
        Self {
            place,
            view: None,
            is_attended: false,
            is_enabled: false,
            runners: BTreeMap::new(),
            ours: BTreeMap::new(),
            journals: Vec::new(),
            phase: Phase::Raw,
            pinned: None,
            was_quiet: false,
            foreign: now,
            progress: now,
            suspended_until: None,
            returned: 0,
            hand_back: Pending::default(),
            told: plan::Told::default(),
        }
    }

    /// Takes over the journal of an earlier leader, written `age` ago.
    pub fn inherit(&mut self, journal: Journal, age: Duration, context: &Context<'_>) {
        let doubtful = context.now + context.timing.patience;
        for name in &journal.runners {
            let runner = Runner::inherited(name.clone(), context.with_pods, doubtful);
            self.ours.entry(name.clone()).or_insert(runner);
        }
        let pinned = context.now.saturating_sub(age);
        self.pinned = Some(self.pinned.map_or(pinned, |known| known.max(pinned)));
        self.journals.push(Written::new(journal, true));
    }

    /// The set is stored like this.
    pub fn observe(&mut self, view: SetView) {
        // Watches may begin anew with something older.
        if self.view.as_ref().is_none_or(|known| known.generation <= view.generation) {
            self.view = Some(view);
        }
    }

    /// The set is not there any more.
    pub fn set_gone(&mut self) {
        self.view = None;
    }

    /// One of its runners is stored like this.
    pub fn runner(&mut self, view: RunnerView, now: Duration) {
        if let Some(ours) = self.ours.get_mut(&view.name) {
            ours.appeared(&view.uid);
        } else if !self.runners.contains_key(&view.name) {
            self.foreign = now;
        }
        self.runners.insert(view.name.clone(), view);
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
            _ => self.ours.get(&task.runner).map_or(0, |runner| runner.failures),
        }
    }

    /// Whether its runners are being made now.
    pub fn is_making(&self) -> bool {
        matches!(self.phase, Phase::Making(_))
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

    /// Decides where the set stands, as often as it changes.
    pub fn update(&mut self, context: &mut Context<'_>) {
        self.settle(context);
        // Each phase leads to a later one, or to `Raw`.
        for _ in 0..4 {
            let before = self.phase.clone();
            self.turn(context);
            if self.phase == before {
                break;
            }
        }
        self.tell_progress(context);
    }

    fn turn(&mut self, context: &mut Context<'_>) {
        let Some(view) = &self.view else { return self.stand_down(Stop::Gone, context) };
        if view.generation < self.returned {
            return;
        }
        let stop = match () {
            () if view.is_deleting => Some(Stop::Deleting),
            () if view.is_outdated => Some(Stop::Outdated),
            () if !self.is_attended => Some(Stop::Unattended),
            () => None,
        };
        let stored = view.stored.pinned();
        match (stop, stored) {
            (Some(stop), _) => self.stand_down(stop, context),
            (None, None) => self.is_raw(context),
            (None, Some(generation)) => self.is_pinned(generation, context),
        }
    }

    fn is_raw(&mut self, context: &mut Context<'_>) {
        if self.phase == Phase::Returned {
            self.finish(context);
        } else {
            self.stand_down(Stop::Raw, context);
        }
        (self.pinned, self.was_quiet) = (None, false);
    }

    fn is_pinned(&mut self, generation: Generation, context: &mut Context<'_>) {
        let now = context.now;
        match &self.phase {
            Phase::Raw | Phase::Returned => {
                self.resume(generation, now);
                self.phase = Phase::Waiting;
            }
            Phase::Waiting if !self.is_enabled => self.give_back(generation, Some(Stop::Disabled), context),
            Phase::Waiting if self.is_suspended(now) => {
                self.give_back(generation, Some(Stop::Suspended), context)
            }
            Phase::Waiting if self.was_quiet || self.is_quiet(context) => {
                self.was_quiet = true;
                self.plan(generation, context);
            }
            Phase::Waiting => {
                let since = *self.pinned.get_or_insert(now);
                if now >= since + context.timing.quiet_limit {
                    self.give_back(generation, Some(Stop::NoQuiet), context);
                }
            }
            Phase::Making(planned) if *planned != generation => self.plan(generation, context),
            Phase::Making(_) if !self.is_enabled => self.give_back(generation, Some(Stop::Disabled), context),
            Phase::Making(_) if self.is_complete() => self.give_back(generation, None, context),
            Phase::Making(_) if now >= self.progress + context.timing.progress_limit => {
                self.give_back(generation, Some(Stop::NoProgress), context);
            }
            Phase::Making(_) => {}
            Phase::Returning { generation: planned, why: None, .. } if *planned != generation => {
                self.plan(generation, context);
            }
            Phase::Returning { generation: planned, since, why: Some(why) } if *planned != generation => {
                self.phase = Phase::Returning { generation, since: *since, why: Some(why.clone()) };
            }
            Phase::Returning { .. } => {}
        }
    }

    /// A generation begins; one that an earlier leader had begun goes on.
    fn resume(&mut self, generation: Generation, now: Duration) {
        self.progress = now;
        let is_of_it = |written: &Written| written.journal.generation() == generation;
        self.was_quiet = self.pinned.is_some() && self.journals.iter().any(is_of_it);
        if !self.was_quiet {
            self.pinned = Some(now);
        }
    }

    /// Whether ARC is surely not inside its own loop: it has counted all that we see, and makes none.
    fn is_quiet(&self, context: &Context<'_>) -> bool {
        let counted = self.view.as_ref().map_or(0, |view| view.counted);
        self.live() <= counted && context.now >= self.foreign + context.timing.quiet
    }

    /// Fixes what is missing for a generation: what exists, or may, counts; what was begun is gone on with first.
    fn plan(&mut self, generation: Generation, context: &mut Context<'_>) {
        let wanted = usize::try_from(generation.replicas).unwrap_or(usize::MAX);
        let need = wanted.saturating_sub(self.alive());
        let begun = plan::begun(&self.ours);
        for name in begun.iter().skip(need) {
            if let Some(runner) = self.ours.get_mut(name) {
                runner.give_up();
            }
        }
        let drawn: Vec<String> =
            (begun.len()..need).map(|_| names::runner(&self.place.name, context.rng)).collect();
        self.draw(generation, drawn, context);
        self.progress = context.now;
        self.phase = Phase::Making(generation);
        if need > 0 {
            self.told = plan::Told::begin(need, context.now);
            context.news.push((self.place.clone(), News::Started { need, generation }));
        }
    }

    fn draw(&mut self, generation: Generation, drawn: Vec<String>, context: &mut Context<'_>) {
        let since_pin = context.now.saturating_sub(self.pinned.unwrap_or(context.now));
        let heading = Heading {
            set: self.place.uid.clone(),
            namespace: self.place.namespace.clone(),
            set_name: self.place.name.clone(),
            owner: self.place.owner.clone(),
            generation,
            pinned_at: context.unix_ms - i64::try_from(since_pin.as_millis()).unwrap_or(0),
        };
        let journals = Journal::of(&heading, &drawn, || names::journal(context.rng));
        self.journals.extend(journals.into_iter().map(|journal| Written::new(journal, false)));
        for name in drawn {
            self.ours.insert(name.clone(), Runner::drawn(name, context.with_pods));
        }
    }

    /// How many runners there are, those included whose EphemeralRunner we posted and do not see yet.
    pub(super) fn alive(&self) -> usize {
        self.live() + self.ours.values().filter(|runner| runner.is_posted() && !runner.is_seen).count()
    }

    /// Whether nothing is left to be made.
    fn is_complete(&self) -> bool {
        let is_left =
            |runner: &&Runner| runner.goal == Goal::Make && !runner.is_made() && !runner.is_settled();
        self.ours.values().find(is_left).is_none()
    }

    /// Ends the making: what is posted is finished, the rest unmade, and ARC gets the set back.
    pub(super) fn give_back(&mut self, generation: Generation, why: Option<Stop>, context: &mut Context<'_>) {
        self.abandon(false);
        if let Some(why) = &why {
            if why.suspends() {
                self.suspended_until = Some(context.now + context.timing.suspension);
            }
            self.tell_stop(why.clone(), context);
        }
        self.hand_back = Pending::default();
        self.phase = Phase::Returning { generation, since: context.now, why };
    }

    /// Stops at once: ARC owns the set, or is about to end it.
    fn stand_down(&mut self, why: Stop, context: &mut Context<'_>) {
        if why.is_an_end() {
            // ARC takes its runners away, and makes no Pods for them any more.
            self.ours.values_mut().for_each(Runner::leave_to_arc);
        }
        if self.phase != Phase::Raw {
            self.tell_stop(why, context);
            self.phase = Phase::Raw;
        }
        // Also what an earlier leader had begun.
        self.abandon(true);
    }

    /// Unmakes what was begun. While the set is ours, a post without an answer is repeated until it has one.
    fn abandon(&mut self, with_doubtful: bool) {
        let is_begun = |runner: &&mut Runner| {
            let is_ours = runner.goal == Goal::Make && !runner.has_runner() && !runner.is_settled();
            is_ours && (with_doubtful || !runner.is_posted())
        };
        self.ours.values_mut().filter(is_begun).for_each(Runner::give_up);
    }

    fn finish(&mut self, context: &mut Context<'_>) {
        self.phase = Phase::Raw;
        if let Some(told) = std::mem::take(&mut self.told).ended() {
            let seconds = context.now.saturating_sub(told.begun);
            let made = told.made;
            context.news.push((self.place.clone(), News::Finished { made, took: seconds }));
        }
    }

    fn tell_stop(&mut self, why: Stop, context: &mut Context<'_>) {
        let told = std::mem::take(&mut self.told).ended();
        let (made, need) = told.map_or((0, 0), |told| (told.made, told.need));
        if need > 0 || why.is_worth_telling() {
            context.news.push((self.place.clone(), News::Stopped { made, need, why }));
        }
    }

    fn tell_progress(&mut self, context: &mut Context<'_>) {
        let left = self.ours.values().filter(|runner| runner.goal == Goal::Make && !runner.is_made());
        let left = left.filter(|runner| !runner.is_settled()).count();
        if let Some(news) = self.told.advanced(left, context.now) {
            context.news.push((self.place.clone(), news));
        }
    }

    /// What has come to its end, and what has to be looked for a last time.
    fn settle(&mut self, context: &Context<'_>) {
        for runner in self.ours.values_mut() {
            let is_due = context.now >= runner.tried + context.timing.absence;
            if matches!(runner.stage, Stage::Absent) && runner.calling.is_none() && is_due {
                runner.look_again();
            }
        }
        self.ours.retain(|_, runner| !runner.is_settled());
        let ours = &self.ours;
        self.journals.retain(|written| {
            written.is_tried || written.journal.runners.iter().any(|name| ours.contains_key(name))
        });
    }
}

impl Borrow {
    /// A call that this set wished for was begun.
    pub fn begin(&mut self, id: CallId, task: &Task, now: Duration) {
        match &task.call {
            Call::HandBack(_) => self.hand_back.calling = Some(id),
            Call::CreateJournal(Journal { name, .. }) | Call::DeleteJournal(name) => {
                let named = |written: &&mut Written| written.journal.name == *name;
                if let Some(written) = self.journals.iter_mut().find(named) {
                    written.calling = Some(id);
                    written.is_tried = true;
                }
            }
            call => {
                if let Some(runner) = self.ours.get_mut(&task.runner) {
                    runner.begin(id, call, now);
                }
            }
        }
    }

    /// Takes the answer to such a call.
    pub fn answered(&mut self, task: &Task, answer: Answer, pause: Duration, context: &mut Context<'_>) {
        match &task.call {
            Call::HandBack(_) => self.hand_back_answered(answer, pause, context),
            Call::CreateJournal(journal) => self.journal_written(&journal.name, answer, pause, context),
            Call::DeleteJournal(name) => self.journal_deleted(name, answer, context.now + pause),
            call => self.runner_answered(&task.runner, call, answer, pause, context),
        }
    }

    fn hand_back_answered(&mut self, answer: Answer, pause: Duration, context: &mut Context<'_>) {
        self.hand_back.calling = None;
        match answer {
            Answer::Returned { generation } => {
                self.returned = generation;
                self.phase = Phase::Returned;
            }
            // The watch will show what it stores now.
            Answer::Trouble(Trouble::Conflict | Trouble::NotFound) => {
                self.hand_back.not_before = context.now + context.timing.quiet_limit;
            }
            _ => {
                self.hand_back.failures += 1;
                self.hand_back.not_before = context.now + pause;
            }
        }
    }

    fn journal_written(&mut self, name: &str, answer: Answer, pause: Duration, context: &mut Context<'_>) {
        let Some(written) = self.journals.iter_mut().find(|written| written.journal.name == name) else {
            return;
        };
        written.calling = None;
        match answer {
            Answer::Done | Answer::Trouble(Trouble::Exists) => {
                written.is_written = true;
                for name in &written.journal.runners {
                    if let Some(runner) = self.ours.get_mut(name) {
                        runner.is_journaled = true;
                    }
                }
                self.progress = context.now;
            }
            Answer::Trouble(Trouble::Quota(why) | Trouble::Refused(why)) => {
                self.stop(Stop::Refused(why), context)
            }
            _ => written.not_before = context.now + pause,
        }
    }

    fn journal_deleted(&mut self, name: &str, answer: Answer, not_before: Duration) {
        let is_gone = matches!(answer, Answer::Done | Answer::Trouble(Trouble::NotFound));
        if is_gone {
            self.journals.retain(|written| written.journal.name != name);
        }
        for written in self.journals.iter_mut().filter(|written| written.journal.name == name) {
            (written.calling, written.not_before) = (None, not_before);
        }
    }

    fn runner_answered(
        &mut self,
        name: &str,
        call: &Call,
        answer: Answer,
        pause: Duration,
        context: &mut Context<'_>,
    ) {
        let Some(runner) = self.ours.get_mut(name) else { return };
        let (now, patience) = (context.now, context.timing.patience);
        let progress = runner.answered(call, answer, now, patience);
        if let Some(view) = self.runners.get(name) {
            runner.appeared(&view.uid);
        }
        match progress {
            Progress::Further => self.progress = now,
            Progress::Again => runner.not_before = now + pause,
            Progress::Hopeless(_) if runner.goal == Goal::Unmake && !runner.has_runner() => {
                // Where the set is gone, the service has removed what belonged to it.
                if self.view.is_none() && runner.failures > 3 {
                    runner.stage = Stage::Settled;
                }
                runner.not_before = now + pause.max(context.timing.progress_limit);
            }
            Progress::Hopeless(Trouble::Quota(why)) => self.stop(Stop::Quota(why), context),
            Progress::Hopeless(trouble) => self.stop(Stop::Refused(trouble.to_string()), context),
        }
    }

    /// Ends the making, if it is under way.
    pub fn stop(&mut self, why: Stop, context: &mut Context<'_>) {
        if let Phase::Making(generation) = self.phase {
            self.give_back(generation, Some(why), context);
        }
    }

    /// What it wishes to be done now, most urgent first is not said.
    pub fn wishes(&self, context: &Context<'_>) -> Vec<Wish> {
        plan::wishes(self, context)
    }

    /// When it has to be looked at again although nothing happens.
    pub fn wake(&self, now: Duration, timing: &Timing) -> Option<Duration> {
        let set = match &self.phase {
            Phase::Waiting => {
                vec![self.pinned.unwrap_or(now) + timing.quiet_limit, self.foreign + timing.quiet]
            }
            Phase::Making(_) => vec![self.progress + timing.progress_limit],
            Phase::Returning { since, .. } => {
                vec![*since + self.count_limit(timing), self.hand_back.not_before]
            }
            Phase::Raw | Phase::Returned => vec![],
        };
        let journals = self.journals.iter().map(|written| written.not_before);
        let runners = self.ours.values().filter(|runner| runner.calling.is_none()).flat_map(|runner| {
            let absence = matches!(runner.stage, Stage::Absent).then(|| runner.tried + timing.absence);
            [Some(runner.not_before), runner.doubtful_until, absence]
        });
        let moments = set.into_iter().chain(journals).chain(runners.flatten());
        moments.filter(|moment| *moment > now).min()
    }

    /// How long ARC may take to count.
    pub(super) fn count_limit(&self, timing: &Timing) -> Duration {
        let Phase::Returning { generation, .. } = &self.phase else { return timing.count_limit };
        let above = |stamp: i64| stamp > i64::from(generation.patch_id);
        let is_unshielded = self.runners.values().any(|runner| runner.stamp.is_some_and(above));
        if is_unshielded { timing.count_limit_unshielded } else { timing.count_limit }
    }

    /// Whether the set can be handed back now.
    pub(super) fn is_counted(&self, context: &Context<'_>) -> bool {
        let Phase::Returning { since, .. } = &self.phase else { return false };
        // What may still be posted would come on top of what ARC makes.
        if self.ours.values().any(Runner::is_posting) {
            return false;
        }
        let counted = self.view.as_ref().map_or(0, |view| view.counted);
        counted >= self.alive() || context.now >= *since + self.count_limit(context.timing)
    }
}
