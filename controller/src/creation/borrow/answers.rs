//! What an answer means for its runner set. Pure.

use std::time::Duration;

use headstart_externals::pin::Generation;

use super::{Borrow, Context, Phase, Written};
use crate::creation::call::{Answer, Call, CallId, Task, Trouble};
use crate::creation::journal::Journal;
use crate::creation::report::Stop;
use crate::creation::runner::{Goal, Progress, Stage};

/// After so many refusals in a row, which takes five minutes, nothing is left to be cleaned up where the set is gone.
const MOST_REFUSALS: u32 = 20;

impl Borrow {
    /// A call that this set wished for was begun.
    pub fn begin(&mut self, id: CallId, task: &Task, now: Duration) {
        match &task.call {
            Call::HandBack(_) => {
                (self.hand_back.calling, self.hand_back.is_tried) = (Some(id), true);
                self.returning.get_or_insert(now);
            }
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
        if let Answer::Trouble(trouble) = &answer
            && trouble.is_a_failure()
        {
            self.cause = Some(format!("{}: {trouble}", task.call.code()));
        }
        match &task.call {
            Call::HandBack(generation) => self.hand_back_answered(*generation, answer, pause, context),
            Call::CreateJournal(journal) => self.journal_written(&journal.name, answer, pause, context),
            Call::DeleteJournal(name) => self.journal_deleted(name, answer, pause, context.now),
            _ => self.runner_answered(task, answer, pause, context),
        }
    }

    fn hand_back_answered(
        &mut self,
        tried: Generation,
        answer: Answer,
        pause: Duration,
        context: &mut Context<'_>,
    ) {
        self.hand_back.calling = None;
        if let Answer::Returned { generation } = answer {
            self.returned = self.returned.max(generation);
            let is_news = self
                .view
                .as_ref()
                .is_none_or(|view| view.generation < generation || view.stored.pinned().is_none());
            if let Phase::Returning { .. } = self.phase
                && is_news
            {
                self.phase = Phase::Returned;
            }
            return;
        }
        let Phase::Returning { generation, .. } = &self.phase else { return };
        if *generation != tried {
            return;
        }
        // After a conflict the watch will show what it stores now.
        let is_conflict = matches!(answer, Answer::Trouble(Trouble::Conflict | Trouble::NotFound));
        self.hand_back.failures += 1;
        let pause = if is_conflict { context.timing.quiet_limit } else { pause };
        self.hand_back.not_before = context.now + pause;
    }

    fn journal_written(&mut self, name: &str, answer: Answer, pause: Duration, context: &mut Context<'_>) {
        let Some(written) = self.journals.iter_mut().find(|written| written.journal.name == name) else {
            return;
        };
        written.calling = None;
        match answer {
            Answer::Done | Answer::Trouble(Trouble::Exists) => {
                (written.is_written, written.failures) = (true, 0);
                for name in &written.journal.runners {
                    if let Some(runner) = self.ours.get_mut(name) {
                        runner.is_journaled = true;
                    }
                }
                self.progress = context.now;
            }
            Answer::Trouble(trouble) => {
                written.failures += 1;
                written.not_before = context.now + pause;
                if trouble.is_doubtful() {
                    written.doubtful_until = context.now + context.timing.patience;
                }
                if let Trouble::Quota(why) | Trouble::Refused(why) = trouble {
                    self.stop(Stop::Refused(why), context);
                }
            }
            _ => {}
        }
    }

    fn journal_deleted(&mut self, name: &str, answer: Answer, pause: Duration, now: Duration) {
        let Some(at) = self.journals.iter().position(|written| written.journal.name == name) else { return };
        let Some(written) = self.journals.get_mut(at) else { return };
        written.calling = None;
        match answer {
            // A write of it may still be carried out.
            Answer::Done | Answer::Trouble(Trouble::NotFound) if now < written.doubtful_until => {
                written.not_before = written.doubtful_until;
            }
            Answer::Done | Answer::Trouble(Trouble::NotFound) => {
                self.journals.remove(at);
            }
            _ => {
                written.failures += 1;
                written.not_before = now + pause;
            }
        }
    }

    fn runner_answered(&mut self, task: &Task, answer: Answer, pause: Duration, context: &mut Context<'_>) {
        let (name, call) = (task.runner.as_str(), &task.call);
        let Some(runner) = self.ours.get_mut(name) else { return };
        let (now, patience) = (context.now, context.timing.patience);
        let progress = runner.answered(call, answer, now, patience);
        if let Some(view) = self.runners.get(name) {
            runner.appeared(&view.uid);
        }
        match progress {
            Progress::Further => self.progress = now,
            // That names get settled is progress before the making, and none in it.
            Progress::Aside if !matches!(self.phase, Phase::Making(_)) => self.progress = now,
            Progress::Aside => {}
            Progress::Again => runner.not_before = now + pause,
            Progress::Hopeless(trouble) => self.is_hopeless(name, trouble, pause, context),
        }
    }

    /// A call was refused. What was to be made is not made then; what only cleans up is tried again, seldom.
    fn is_hopeless(&mut self, name: &str, trouble: Trouble, pause: Duration, context: &mut Context<'_>) {
        let is_gone = self.view.is_none();
        let Some(runner) = self.ours.get_mut(name) else { return };
        if runner.goal == Goal::Make && matches!(self.phase, Phase::Making(_)) {
            runner.not_before = context.now + pause;
            let why = match trouble {
                Trouble::Quota(why) => Stop::Quota(why),
                trouble => Stop::Refused(trouble.to_string()),
            };
            return self.stop(why, context);
        }
        // Where the set is gone, the service has removed what belonged to it.
        if is_gone && runner.refusals > MOST_REFUSALS {
            runner.stage = Stage::Settled;
        }
        runner.not_before = context.now + pause.max(context.timing.progress_limit);
    }

    /// Ends the making, if it is under way.
    pub fn stop(&mut self, why: Stop, context: &mut Context<'_>) {
        if let Phase::Making(generation) = self.phase {
            self.give_back(generation, Some(why), context);
        }
    }
}
