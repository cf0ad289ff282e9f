//! What holds for every order of calls, endings and moments.

use std::num::NonZeroU32;
use std::time::Duration;

use fastrand::Rng;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::breaker::State;
use super::{Admission, Gate, Permit, Signal};

/// Longer than any pause or cool-down.
const LONG: Duration = Duration::from_secs(400);

#[derive(Clone, Debug)]
enum Step {
    /// So many calls are asked for at once.
    Ask(u8),
    /// One that is in flight ends.
    End(Index, Signal),
    /// Time passes; none is a time, too.
    Passes(Duration),
    /// Until the moment for which the gate said to ask again.
    PassesUntilTold,
}

fn a_time() -> impl Strategy<Value = Duration> {
    select(vec![
        0,
        0,
        1,
        5_000_000,
        150_000_000,
        1_000_000_000,
        3_000_000_000,
        30_000_000_000,
        400_000_000_000,
    ])
    .prop_map(Duration::from_nanos)
}

fn a_signal() -> impl Strategy<Value = Signal> {
    let asked = || proptest::option::weighted(0.2, prop_oneof![9 => a_time(), 1 => Just(Duration::MAX)]);
    let latency = prop_oneof![9 => a_time(), 1 => Just(Duration::MAX)];
    prop_oneof![
        4 => latency.prop_map(|latency| Signal::Success { latency }),
        1 => Just(Signal::Neutral),
        1 => asked().prop_map(|retry_after| Signal::PushedBack { retry_after }),
        1 => asked().prop_map(|retry_after| Signal::Unavailable { retry_after }),
        6 => asked().prop_map(|retry_after| Signal::Failed { retry_after }),
        1 => Just(Signal::TimedOut),
    ]
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1_u8..20).prop_map(Step::Ask),
        8 => (any::<Index>(), a_signal()).prop_map(|(which, signal)| Step::End(which, signal)),
        2 => a_time().prop_map(Step::Passes),
        2 => Just(Step::PassesUntilTold),
    ]
}

/// A gate, and what its user knows.
struct Played {
    gate: Gate,
    rng: Rng,
    now: Duration,
    ceiling: u32,
    permits: Vec<Permit>,
    told: Option<Duration>,
    /// Calls since the breaker was last not closed.
    probes: u32,
}

impl Played {
    fn new(ceiling: u32, seed: u64) -> Self {
        let gate = Gate::new(NonZeroU32::new(ceiling).unwrap());
        let (rng, now) = (Rng::with_seed(seed), Duration::ZERO);
        Self { gate, rng, now, ceiling, permits: vec![], told: None, probes: 0 }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Ask(count) => (0..count).for_each(|_| {
                self.ask();
            }),
            Step::End(_, _) if self.permits.is_empty() => {}
            Step::End(which, signal) => {
                let permit = self.permits.swap_remove(which.index(self.permits.len()));
                self.end(permit, signal);
            }
            Step::Passes(time) => self.now += time,
            Step::PassesUntilTold => self.now = self.told.take().map_or(self.now, |told| told.max(self.now)),
        }
        assert_eq!(self.gate.in_flight() as usize, self.permits.len());
        assert!((1..=self.ceiling).contains(&self.gate.limit()));
    }

    fn end(&mut self, permit: Permit, signal: Signal) {
        let before = self.gate.breaker();
        self.gate.finish(permit, signal, self.now, &mut self.rng);
        if before == State::HalfOpen && self.gate.breaker() != State::HalfOpen {
            self.probes = 0;
        }
    }

    /// Asks for a call; whether it may begin.
    fn ask(&mut self) -> bool {
        let (breaker, in_flight, limit) = (self.gate.breaker(), self.gate.in_flight(), self.gate.limit());
        let admission = self.gate.admit(self.now);
        match admission {
            Admission::Go(permit) => {
                assert_eq!(permit.started(), self.now);
                self.permits.push(permit);
                assert!(in_flight < limit, "{in_flight} of {limit}");
                assert!(self.gate.paused_until().is_none_or(|until| until <= self.now), "in a pause");
                self.probes += u32::from(breaker != State::Closed);
                assert!(self.probes <= 1, "two probes");
                assert_eq!(self.gate.breaker() == State::HalfOpen, breaker != State::Closed);
                return true;
            }
            Admission::Wait { until: None } => {
                assert!(!self.permits.is_empty(), "nothing to wait for");
                assert!(in_flight >= limit || breaker == State::HalfOpen);
            }
            Admission::Wait { until: Some(until) } => {
                assert!(until > self.now && until < self.now + LONG);
                self.told = Some(until);
            }
            Admission::Open { until } => {
                assert!(until > self.now && until < self.now + LONG);
                assert!(matches!(breaker, State::Open { .. }));
                self.told = Some(until);
            }
        }
        assert_eq!((in_flight, breaker), (self.gate.in_flight(), self.gate.breaker()), "no is no change");
        false
    }

    /// From whatever state, calls that are asked for when told get through, and successes bring everything back.
    fn recovers(&mut self) {
        let latency = Duration::from_millis(100);
        for _ in 0..10 * self.ceiling * self.ceiling + 100 {
            while self.ask() {}
            if let Some(permit) = self.permits.pop() {
                self.end(permit, Signal::Success { latency });
            } else {
                self.step(Step::PassesUntilTold);
            }
            self.now += latency;
        }
        while let Some(permit) = self.permits.pop() {
            self.end(permit, Signal::Success { latency });
        }
        assert_eq!(self.gate.in_flight(), 0);
        assert_eq!(self.gate.breaker(), State::Closed);
        assert_eq!(self.gate.limit(), self.ceiling);
    }
}

proptest! {
    #[test]
    fn no_order_of_things_breaks_the_gate(
        ceiling in select(vec![1_u32, 2, 10, 13, 40]),
        seed in any::<u64>(),
        steps in proptest::collection::vec(a_step(), 0..200),
    ) {
        let mut played = Played::new(ceiling, seed);
        for step in steps {
            played.step(step);
        }
        played.recovers();
    }

    #[test]
    fn a_clock_that_jumps_anywhere_does_no_harm(
        seed in any::<u64>(),
        steps in proptest::collection::vec((any::<u64>(), any::<bool>(), any::<Index>(), a_signal()), 0..200),
    ) {
        let (mut gate, mut rng) = (Gate::new(NonZeroU32::new(10).unwrap()), Rng::with_seed(seed));
        let mut permits = vec![];
        for (now, asks, which, signal) in steps {
            // Up to where a duration can hold no more.
            let now = Duration::from_secs(now);
            if asks {
                if let Admission::Go(permit) = gate.admit(now) {
                    permits.push(permit);
                }
            } else if !permits.is_empty() {
                gate.finish(permits.swap_remove(which.index(permits.len())), signal, now, &mut rng);
            }
            prop_assert_eq!(gate.in_flight() as usize, permits.len());
            prop_assert!((1..=10).contains(&gate.limit()) && gate.in_flight() <= 10);
        }
    }
}
