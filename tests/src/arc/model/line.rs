//! Calls one after another, and what the failure of each means for the pass.

use std::collections::VecDeque;

use super::calls::{Answer, Call, End, Failure, Step};
use super::flags::LATER;

/// What follows if a call fails. That a thing is already gone is no failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Else {
    /// The pass ends with a back-off.
    Stop,
    /// The rest is done; the pass ends with a back-off.
    Collect,
    /// The next call is left out; only if it was not a busy runner there is a back-off at the end.
    SkipNext,
    /// Busy runners are tried again later, for the rest as [`Else::Stop`].
    Busy,
    /// Nothing.
    Ignore,
}

/// What is left to do in a pass that decides nothing more.
#[derive(Clone, Debug)]
pub struct Line {
    items: VecDeque<(Call, Else)>,
    last: Option<Call>,
    waiting: Option<Else>,
    failed: bool,
    end: End,
}

impl Line {
    /// These calls, then this end.
    pub fn new(items: impl IntoIterator<Item = (Call, Else)>, end: End) -> Self {
        Self { items: items.into_iter().collect(), last: None, waiting: None, failed: false, end }
    }

    /// One more call at the end, left out after any failure; if it fails there is a back-off.
    pub fn finally(mut self, call: Option<Call>) -> Self {
        self.last = call;
        self
    }

    /// What is next, given what the call before brought.
    pub fn next(&mut self, answer: Option<&Answer>) -> Step {
        if let (Some(policy), Some(Answer::Failed(failure))) = (self.waiting.take(), answer)
            && *failure != Failure::NotFound
        {
            match policy {
                Else::Busy if *failure == Failure::JobStillRunning => return Step::End(End::After(LATER)),
                Else::Stop | Else::Busy => return Step::End(End::Backoff),
                Else::Collect => self.failed = true,
                Else::SkipNext => {
                    self.items.pop_front();
                    self.failed |= *failure != Failure::JobStillRunning;
                }
                Else::Ignore => {}
            }
        }
        if let Some((call, policy)) = self.items.pop_front() {
            self.waiting = Some(policy);
            return Step::Call(call);
        }
        if self.failed {
            return Step::End(End::Backoff);
        }
        match self.last.take() {
            Some(call) => {
                self.waiting = Some(Else::Stop);
                Step::Call(call)
            }
            None => Step::End(self.end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arc::model::{Key, Kind};

    fn delete(name: &str) -> Call {
        Call::Delete(Kind::Pod, Key::new("n", name))
    }

    #[test]
    fn each_failure_means_what_was_said() {
        let fail = |failure| Some(Answer::Failed(failure));
        let mut line = Line::new(
            [(delete("a"), Else::SkipNext), (delete("b"), Else::Stop), (delete("c"), Else::Collect)],
            End::Done,
        )
        .finally(Some(delete("d")));
        assert_eq!(line.next(None), Step::Call(delete("a")));
        let mut quiet = line.clone();
        assert_eq!(quiet.next(fail(Failure::JobStillRunning).as_ref()), Step::Call(delete("c")));
        assert_eq!(quiet.next(fail(Failure::NotFound).as_ref()), Step::Call(delete("d")));
        assert_eq!(quiet.next(Some(&Answer::Done)), Step::End(End::Done));
        assert_eq!(line.next(Some(&Answer::Done)), Step::Call(delete("b")));
        assert_eq!(line.clone().next(fail(Failure::Other).as_ref()), Step::End(End::Backoff));
        assert_eq!(line.next(Some(&Answer::Done)), Step::Call(delete("c")));
        assert_eq!(line.next(fail(Failure::Other).as_ref()), Step::End(End::Backoff), "and d is left out");
    }
}
