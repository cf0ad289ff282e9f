//! How a runner set goes from one phase to the next. Pure.

use std::time::Duration;

use headstart_externals::pin::{Generation, Stored};

use super::plan;
use super::{Borrow, Context, Pending, Phase, Written};
use crate::creation::journal::{Heading, Journal};
use crate::creation::names;
use crate::creation::report::{News, Stop};
use crate::creation::runner::{Goal, Runner, Stage};

impl Borrow {
    /// Decides where the set stands, as often as it changes.
    pub fn update(&mut self, context: &mut Context<'_>) {
        self.look_again(context);
        // Each phase leads to a later one, or to `Raw`.
        for _ in 0..5 {
            let before = self.phase.clone();
            self.turn(context);
            if self.phase == before {
                break;
            }
        }
        self.forget(context);
        self.tell_progress(context);
    }

    fn turn(&mut self, context: &mut Context<'_>) {
        let Some(view) = &self.view else { return self.stand_down(Stop::Gone, context) };
        if view.generation < self.returned {
            return;
        }
        match view.stored {
            _ if view.is_deleting => self.stand_down(Stop::Deleting, context),
            _ if view.is_outdated => self.stand_down(Stop::Outdated, context),
            Stored::Raw { replicas, patch_id } => self.is_raw(replicas, patch_id, context),
            Stored::Pinned(_) if !self.is_known => {}
            Stored::Pinned(_) if !self.is_attended => self.stand_down(Stop::Unattended, context),
            Stored::Pinned(generation) => self.is_pinned(generation, context),
        }
    }

    fn is_raw(&mut self, replicas: i64, patch_id: i64, context: &mut Context<'_>) {
        let is_ours = |generation: &Generation| {
            (i64::from(generation.replicas), i64::from(generation.patch_id)) == (replicas, patch_id)
        };
        match &self.phase {
            Phase::Returned => self.finish(context),
            // The watch was faster than the answer, or there is none.
            Phase::Returning { generation, .. } if self.hand_back.is_tried && is_ours(generation) => {
                self.finish(context);
            }
            _ => self.stand_down(Stop::Raw, context),
        }
        (self.pinned, self.was_quiet, self.was_raw, self.stopped) = (None, false, false, None);
        (self.returning, self.cause) = (None, None);
    }

    fn is_pinned(&mut self, generation: Generation, context: &mut Context<'_>) {
        let now = context.now;
        if std::mem::take(&mut self.was_raw) {
            self.is_pinned_anew(context);
        }
        match &self.phase {
            Phase::Raw if self.stopped == Some(generation) => self.give_back(generation, None, context),
            Phase::Raw | Phase::Returned => {
                self.resume(generation, context);
                self.phase = Phase::Waiting;
            }
            Phase::Waiting => self.wait(generation, context),
            Phase::Making(planned) if *planned != generation => self.plan(generation, context),
            Phase::Making(_) if !self.is_enabled => self.give_back(generation, Some(Stop::Disabled), context),
            Phase::Making(_) if self.is_complete() => self.give_back(generation, None, context),
            Phase::Making(_) if now >= self.progress + context.timing.progress_limit => {
                self.give_back(generation, Some(Stop::NoProgress), context);
            }
            Phase::Making(_) => self.doubt(wanted(generation), self.alive()),
            Phase::Returning { generation: planned, why: None, .. } if *planned != generation => {
                self.plan(generation, context);
            }
            Phase::Returning { generation: planned, since, why: Some(why) } if *planned != generation => {
                self.phase = Phase::Returning { generation, since: *since, why: Some(why.clone()) };
                self.abandon(true);
            }
            Phase::Returning { since, .. } if self.is_stuck(*since, context) => {
                self.abandon(true);
                // If nobody takes it back, it must not be lent again: what the listener writes next is stored as it is.
                if !self.is_suspended(now) {
                    self.suspended_until = Some(now + context.timing.suspension);
                    self.told.count(self.left());
                    self.tell_stop(Stop::Stuck, context);
                }
            }
            // To post again is the fastest way to learn what became of a post; but not for ever.
            Phase::Returning { since, .. } if now >= *since + context.timing.count_limit => {
                self.abandon(true);
            }
            Phase::Returning { .. } => {}
        }
    }

    /// Whether the set should have been handed back long ago.
    fn is_stuck(&self, since: Duration, context: &Context<'_>) -> bool {
        let limit = context.timing.progress_limit;
        let is_refused =
            self.hand_back.failures > 0 && self.returning.is_some_and(|first| context.now >= first + limit);
        is_refused || context.now >= since + limit * 2
    }

    /// Something raw was stored in between: ARC may be inside its own loop again.
    fn is_pinned_anew(&mut self, context: &mut Context<'_>) {
        if let Phase::Returning { why: None, .. } | Phase::Returned = &self.phase {
            self.finish(context);
        }
        if self.phase != Phase::Raw {
            (self.phase, self.progress) = (Phase::Waiting, context.now);
        }
        (self.pinned, self.was_quiet, self.stopped, self.returning) = (None, false, None, None);
    }

    /// A generation begins; one that an earlier leader had begun goes on.
    fn resume(&mut self, generation: Generation, context: &Context<'_>) {
        self.progress = context.now;
        let is_of_it = |written: &Written| written.journal.generation() == generation;
        self.was_quiet = self.pinned.is_some() && self.journals.iter().any(is_of_it);
        if !self.was_quiet {
            self.pinned = Some(context.now);
        }
    }

    fn wait(&mut self, generation: Generation, context: &mut Context<'_>) {
        let now = context.now;
        let since = *self.pinned.get_or_insert(now);
        let is_unclear = self.ours.values().any(|runner| runner.is_unclear(now));
        let stop = match () {
            () if !self.is_enabled => Some(Stop::Disabled),
            () if self.is_suspended(now) => Some(Stop::Suspended),
            // Each of these names may become a runner yet; what is missing is known only when they are settled.
            () if is_unclear && now >= self.progress + context.timing.progress_limit => {
                Some(Stop::NoProgress)
            }
            () if is_unclear => None,
            () if self.was_quiet || self.is_quiet(context) => {
                self.was_quiet = true;
                return self.plan(generation, context);
            }
            () if now >= since + context.timing.quiet_limit => Some(Stop::NoQuiet),
            () => None,
        };
        if stop.is_some() {
            self.give_back(generation, stop, context);
        }
    }

    /// Whether ARC is surely not inside its own loop: it has counted what we see, and makes none. If it has counted more, a watch
    /// of ours is late, or its count is: what is missing is known when they agree.
    fn is_quiet(&self, context: &Context<'_>) -> bool {
        let counted = self.view.as_ref().map_or(0, |view| view.counted);
        self.live() == counted && context.now >= self.foreign + context.timing.quiet
    }

    /// Fixes what is missing for a generation: what exists, or may, counts; what was begun is gone on with first.
    fn plan(&mut self, generation: Generation, context: &mut Context<'_>) {
        self.told.count(self.left());
        let (wanted, alive) = (wanted(generation), self.alive());
        let need = wanted.saturating_sub(alive);
        let begun = self.trim(wanted, alive);
        let drawn: Vec<String> =
            (begun..need).map(|_| names::runner(&self.place.name, context.rng)).collect();
        self.draw(generation, drawn, context);
        // A listener that keeps changing its mind is no progress.
        if !self.is_making() {
            self.progress = context.now;
        }
        self.phase = Phase::Making(generation);
        let left = self.left();
        if left > 0 {
            // The listener was faster with a word of its own; nobody refuses anything.
            self.returning = None;
        }
        if self.told.plan(left, context.now) {
            context.news.push((self.place.clone(), News::Started { need: left, generation }));
        }
    }

    /// With so many alive, of what was begun no more is gone on with than is missing. Gives how many were begun.
    fn trim(&mut self, wanted: usize, alive: usize) -> usize {
        self.doubt(wanted, alive);
        let begun = plan::begun(&self.ours);
        for name in begun.iter().skip(wanted.saturating_sub(alive)) {
            if let Some(runner) = self.ours.get_mut(name) {
                runner.give_up();
            }
        }
        begun.len()
    }

    /// Somebody else made a runner in the middle of a batch, as ARC does that was later than we waited for it: it is one of
    /// those that were missing. One that goes is never replaced.
    pub(super) fn joined(&mut self) {
        if let Phase::Making(generation) = self.phase {
            self.trim(wanted(generation), self.alive());
        }
    }

    /// Of what may or may not be posted, nothing is posted again that would be too much.
    fn doubt(&mut self, wanted: usize, alive: usize) {
        let is_given_up = |runner: &&Runner| runner.is_posting() && runner.goal == Goal::Unmake;
        let given_up = self.ours.values().filter(is_given_up).count();
        let is_in_doubt =
            |runner: &&mut Runner| runner.is_left() && runner.is_posting() && runner.calling.is_none();
        let too_many = alive.saturating_sub(wanted).saturating_sub(given_up);
        self.ours.values_mut().filter(is_in_doubt).take(too_many).for_each(Runner::give_up);
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

    /// How many are still to be made.
    fn left(&self) -> usize {
        self.ours.values().filter(|runner| runner.is_left()).count()
    }

    fn is_complete(&self) -> bool {
        !self.ours.values().any(Runner::is_left)
    }

    /// Ends the making: what is posted is finished, the rest unmade, and ARC gets the set back.
    pub(super) fn give_back(&mut self, generation: Generation, why: Option<Stop>, context: &mut Context<'_>) {
        self.told.count(self.left());
        // What an earlier leader left in doubt may be too much for this generation.
        self.abandon(self.phase == Phase::Waiting);
        if let Some(why) = &why {
            if why.suspends() {
                self.suspended_until = Some(context.now + context.timing.suspension);
            }
            self.tell_stop(why.clone(), context);
        }
        self.hand_back = Pending { calling: self.hand_back.calling, ..Pending::default() };
        self.phase = Phase::Returning { generation, since: context.now, why };
    }

    /// Stops at once: ARC owns the set, or is about to end it.
    fn stand_down(&mut self, why: Stop, context: &mut Context<'_>) {
        if why.is_an_end() {
            // ARC takes its runners away, and makes no Pods for them any more.
            self.ours.values_mut().for_each(Runner::leave_to_arc);
        }
        if let (Phase::Making(generation) | Phase::Returning { generation, .. }, Stop::Unattended) =
            (&self.phase, &why)
        {
            self.stopped = Some(*generation);
        }
        if self.phase != Phase::Raw {
            self.told.count(self.left());
            self.tell_stop(why, context);
            self.phase = Phase::Raw;
        }
        // Also what an earlier leader had begun.
        self.abandon(true);
    }

    /// Unmakes what was begun. While the set is ours, a post without an answer is repeated until it has one.
    fn abandon(&mut self, with_doubtful: bool) {
        let is_begun = |runner: &&mut Runner| {
            runner.is_left() && !runner.has_runner() && (with_doubtful || !runner.is_posted())
        };
        self.ours.values_mut().filter(is_begun).for_each(Runner::give_up);
    }

    fn finish(&mut self, context: &mut Context<'_>) {
        self.phase = Phase::Raw;
        self.told.count(self.left());
        if let Some(told) = std::mem::take(&mut self.told).ended() {
            let took = context.now.saturating_sub(told.begun);
            context.news.push((self.place.clone(), News::Finished { made: told.made, took }));
        }
    }

    fn tell_stop(&mut self, why: Stop, context: &mut Context<'_>) {
        let told = std::mem::take(&mut self.told).ended();
        if told.is_none() && !why.is_worth_telling() {
            return;
        }
        let (made, need) = told.map_or((0, 0), |told| (told.made, told.need));
        let cause = self.cause.clone().filter(|_| why.needs_a_cause());
        context.news.push((self.place.clone(), News::Stopped { made, need, why, cause }));
    }

    fn tell_progress(&mut self, context: &mut Context<'_>) {
        self.told.count(self.left());
        if let Some(news) = self.told.advanced(context.now) {
            context.news.push((self.place.clone(), news));
        }
    }

    /// What was absent for long is looked for a last time.
    fn look_again(&mut self, context: &Context<'_>) {
        for runner in self.ours.values_mut() {
            let is_due = context.now >= runner.tried + context.timing.absence;
            if matches!(runner.stage, Stage::Absent) && runner.calling.is_none() && is_due {
                runner.look_again();
            }
        }
    }

    /// What has come to its end. A runner counts until the watch has shown it, or should have.
    fn forget(&mut self, context: &Context<'_>) {
        let (now, patience) = (context.now, context.timing.patience);
        self.ours.retain(|_, runner| {
            !runner.is_settled() || (runner.is_unseen() && now < runner.tried + patience)
        });
        let ours = &self.ours;
        self.journals.retain(|written| {
            written.is_tried || written.journal.runners.iter().any(|name| ours.contains_key(name))
        });
    }
}

/// How many runners a generation asks for.
fn wanted(generation: Generation) -> usize {
    usize::try_from(generation.replicas).unwrap_or(usize::MAX)
}
