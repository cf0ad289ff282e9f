//! The circuit breaker: an upstream that fails and goes on failing is left alone for a while, and then tried with one call.

use std::time::Duration;

use fastrand::Rng;

use super::backoff::full_jitter;

/// Fewer failures are bad luck.
const FAILURES: u32 = 5;

/// For so long nothing may have succeeded: many calls at once fail in one moment, when a connection breaks or one of
/// several servers restarts.
const PERSISTS: Duration = Duration::from_secs(3);

/// A failure is forgotten after so long without another: what happened before a long rest says nothing about now. More than
/// a call of the default deadline and the longest wait between two take together.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Bound of the first cool-down.
const FIRST: Duration = Duration::from_secs(5);

/// Bound of every cool-down; after an outage nobody wants to wait longer.
const LAST: Duration = Duration::from_secs(60);

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Calls pass.
    Closed,
    /// No call passes before `until`; the first one after that is the probe.
    Open {
        /// End of the cool-down.
        until: Duration,
    },
    /// The probe is in flight, and nothing else passes until it has ended.
    HalfOpen,
}

/// What a call that ended shows of the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It works.
    Alive,
    /// It is there, but busy: no failure, and no proof that it works.
    Busy,
    /// It failed, or was not there.
    Failed,
}

/// The breaker of one upstream.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    /// Counts changes of the state. A call that was let through in an earlier one says nothing in this one.
    generation: u64,
    /// Failures since the last success.
    failures: u32,
    /// When the first and the last of them were.
    first: Duration,
    last: Duration,
    /// Bound of the next cool-down.
    cool_down: Duration,
}

impl Breaker {
    pub(super) const fn new() -> Self {
        Self {
            state: State::Closed,
            generation: 0,
            failures: 0,
            first: Duration::ZERO,
            last: Duration::ZERO,
            cool_down: FIRST,
        }
    }

    pub(super) const fn state(&self) -> State {
        self.state
    }

    /// Lets a call through; the caller has looked at the state. The value is for [`Self::end`].
    pub(super) const fn begin(&mut self) -> u64 {
        if matches!(self.state, State::Open { .. }) {
            self.turn(State::HalfOpen);
        }
        self.generation
    }

    /// A call that [`Self::begin`] let through has ended.
    pub(super) fn end(&mut self, generation: u64, outcome: Outcome, now: Duration, rng: &mut Rng) {
        if generation != self.generation {
            return;
        }
        match (self.state, outcome) {
            (State::Closed, Outcome::Alive) => self.failures = 0,
            (State::Closed, Outcome::Failed) => self.failed(now, rng),
            // Also a busy upstream is there again; the limit and its pause are for that.
            (State::HalfOpen, Outcome::Alive | Outcome::Busy) => self.close(),
            (State::HalfOpen, Outcome::Failed) => {
                self.cool_down = self.cool_down.saturating_mul(2).min(LAST);
                self.open(now, rng);
            }
            (State::Closed, Outcome::Busy) | (State::Open { .. }, _) => {}
        }
    }

    fn failed(&mut self, now: Duration, rng: &mut Rng) {
        if self.failures == 0 || now.saturating_sub(self.last) > FORGOTTEN {
            (self.failures, self.first) = (0, now);
        }
        self.failures = self.failures.saturating_add(1);
        self.last = now;
        if self.failures >= FAILURES && now.saturating_sub(self.first) >= PERSISTS {
            self.open(now, rng);
        }
    }

    fn open(&mut self, now: Duration, rng: &mut Rng) {
        let until = now.saturating_add(full_jitter(self.cool_down, rng));
        self.turn(State::Open { until });
    }

    const fn close(&mut self) {
        self.turn(State::Closed);
        self.failures = 0;
        self.cool_down = FIRST;
    }

    const fn turn(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A breaker to which things happen at moments in milliseconds.
    struct Played {
        breaker: Breaker,
        rng: Rng,
    }

    impl Played {
        fn new(seed: u64) -> Self {
            Self { breaker: Breaker::new(), rng: Rng::with_seed(seed) }
        }

        /// One that has just been opened, 3 s after the beginning.
        fn opened(seed: u64) -> Self {
            let mut played = Self::new(seed);
            for at in [0, 0, 0, 0, 3_000] {
                played.call(at, Outcome::Failed);
            }
            assert!(matches!(played.breaker.state(), State::Open { .. }));
            played
        }

        /// A call that ends at once.
        fn call(&mut self, at: u64, outcome: Outcome) -> State {
            let generation = self.breaker.begin();
            self.end(generation, at, outcome)
        }

        fn end(&mut self, generation: u64, at: u64, outcome: Outcome) -> State {
            self.breaker.end(generation, outcome, Duration::from_millis(at), &mut self.rng);
            self.breaker.state()
        }
    }

    #[test]
    fn it_opens_only_when_failures_persist() {
        use Outcome::{Alive, Busy, Failed};
        let again = |at: u64, outcome, count| vec![(at, outcome); count];
        for (story, calls, opens) in [
            ("many at once", again(0, Failed, 100), false),
            ("few in a long time", [again(0, Failed, 3), again(9_000, Failed, 1)].concat(), false),
            ("not long enough", [again(0, Failed, 4), again(2_999, Failed, 1)].concat(), false),
            ("five in three seconds", [again(0, Failed, 4), again(3_000, Failed, 1)].concat(), true),
            (
                "a success in between",
                [again(0, Failed, 9), again(1_000, Alive, 1), again(3_900, Failed, 9)].concat(),
                false,
            ),
            (
                "and then three seconds more",
                [
                    again(0, Failed, 9),
                    again(1_000, Alive, 1),
                    again(2_000, Failed, 4),
                    again(5_000, Failed, 1),
                ]
                .concat(),
                true,
            ),
            ("busy is no failure", [again(0, Busy, 50), again(9_000, Busy, 50)].concat(), false),
            (
                "and no success",
                [again(0, Failed, 4), again(1_000, Busy, 1), again(3_000, Failed, 1)].concat(),
                true,
            ),
            ("a long rest in between", [again(0, Failed, 9), again(60_001, Failed, 1)].concat(), false),
            (
                "one slow failure after another",
                (0..5).flat_map(|nth| again(nth * 40_000, Failed, 1)).collect(),
                true,
            ),
        ] {
            let mut played = Played::new(1);
            let last = calls.into_iter().map(|(at, outcome)| played.call(at, outcome)).last().unwrap();
            assert_eq!(last != State::Closed, opens, "{story}");
        }
    }

    #[test]
    fn what_the_probe_finds_decides() {
        for (outcome, is_closed) in [(Outcome::Alive, true), (Outcome::Busy, true), (Outcome::Failed, false)]
        {
            let mut played = Played::opened(2);
            let probe = played.breaker.begin();
            assert_eq!(played.breaker.state(), State::HalfOpen);
            let state = played.end(probe, 9_000, outcome);
            assert_eq!(state == State::Closed, is_closed, "{outcome:?}");
            assert_ne!(state, State::HalfOpen);
        }
    }

    #[test]
    fn calls_from_before_it_opened_decide_nothing() {
        let mut played = Played::new(3);
        let early: Vec<u64> = (0..4).map(|_| played.breaker.begin()).collect();
        for at in [0, 0, 0, 0, 3_000] {
            played.call(at, Outcome::Failed);
        }
        let open = played.breaker.state();
        assert_eq!(played.end(early[0], 3_100, Outcome::Alive), open);
        assert_eq!(played.end(early[1], 3_100, Outcome::Failed), open);
        let probe = played.breaker.begin();
        assert_eq!(played.end(early[2], 9_000, Outcome::Alive), State::HalfOpen);
        assert_eq!(played.end(probe, 9_000, Outcome::Alive), State::Closed);
        for at in [9_000, 9_000, 9_000, 9_000] {
            played.call(at, Outcome::Failed);
        }
        assert_eq!(played.end(early[3], 30_000, Outcome::Failed), State::Closed, "a late one does not count");
    }

    #[test]
    fn cool_downs_double_to_a_cap_with_full_jitter_and_begin_anew() {
        let mut longest = [0; 7];
        let mut shortest = [u64::MAX; 7];
        for seed in 0..300 {
            let mut played = Played::opened(seed);
            let mut now = 3_000;
            for nth in 0..7 {
                let State::Open { until } = played.breaker.state() else { panic!("{seed}") };
                let waited = u64::try_from(until.as_millis()).unwrap() - now;
                longest[nth] = waited.max(longest[nth]);
                shortest[nth] = waited.min(shortest[nth]);
                now += 100_000;
                let outcome = if nth == 5 { Outcome::Alive } else { Outcome::Failed };
                played.call(now, outcome);
                for at in [0, 0, 0, 0, 3_000].into_iter().filter(|_| nth == 5) {
                    played.call(now + at, Outcome::Failed);
                }
                now += if nth == 5 { 3_000 } else { 0 };
            }
        }
        for (nth, bound) in [5_000, 10_000, 20_000, 40_000, 60_000, 60_000, 5_000].into_iter().enumerate() {
            assert!(longest[nth] <= bound && longest[nth] > bound * 9 / 10, "{nth}: {longest:?}");
            assert!(shortest[nth] < bound / 10, "{nth}: {shortest:?}");
        }
    }
}
