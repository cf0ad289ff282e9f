//! The gate in front of one upstream, the API server or one Actions service: whether a call may begin now, and what follows
//! from how calls end.
//!
//! It puts together what is known of the upstream: how many calls it bears (`limit`, which also looks at `latency`), whether
//! it asked for a pause (`pause`), and whether it is there at all ([`breaker`]). [`backoff`] is for the single call that
//! is tried again; the gate is for all of them. Nothing here reads a clock: moments are given, as the time since an origin
//! of the caller's choice, and two may be equal.

pub mod backoff;
pub mod breaker;
mod latency;
mod limit;
mod pause;

use std::num::NonZeroU32;
use std::time::Duration;

use fastrand::Rng;

use breaker::{Breaker, Outcome, State};
use limit::{Limit, Slot};
use pause::Pause;

/// What is known of one upstream.
#[derive(Debug)]
pub struct Gate {
    limit: Limit,
    breaker: Breaker,
    pause: Pause,
    in_flight: u32,
}

/// The right to make one call, and what has to be known of it when it ends. Each ends in [`Gate::finish`], whatever became
/// of the call: the gate counts it as in flight until then.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit that is not given back by `finish` takes the place of a call for ever"]
pub struct Permit {
    started: Duration,
    slot: Slot,
    generation: u64,
}

impl Permit {
    /// When the call was let through.
    pub const fn started(&self) -> Duration {
        self.started
    }
}

/// Whether a call may begin.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "it may hold a permit"]
pub enum Admission {
    /// Now.
    Go(Permit),
    /// Not yet.
    Wait {
        /// When to ask again; without it, as soon as a call has ended. Then it is worth asking in any case.
        until: Option<Duration>,
    },
    /// The upstream is down: the circuit breaker is open.
    Open {
        /// When one call may try whether it still is.
        until: Duration,
    },
}

/// How a call ended, as far as it says something about the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Well.
    Success {
        /// How long it took.
        latency: Duration,
    },
    /// With an answer that is about the request and not about the upstream: not found, already there, forbidden.
    Neutral,
    /// The upstream asks for fewer calls: 429.
    PushedBack {
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// 503: the upstream sheds load, or there is none behind its load balancer.
    Unavailable {
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The upstream is broken or could not be reached: 5xx, connections that are refused or break.
    Failed {
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// No answer in time.
    TimedOut,
}

impl Signal {
    const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::PushedBack { retry_after }
            | Self::Unavailable { retry_after }
            | Self::Failed { retry_after } => retry_after,
            Self::Success { .. } | Self::Neutral | Self::TimedOut => None,
        }
    }

    const fn outcome(self) -> Outcome {
        match self {
            Self::Success { .. } | Self::Neutral => Outcome::Alive,
            Self::PushedBack { .. } => Outcome::Busy,
            Self::Unavailable { .. } | Self::Failed { .. } | Self::TimedOut => Outcome::Failed,
        }
    }
}

impl Gate {
    /// A gate that never lets more than `ceiling` calls be in flight.
    pub fn new(ceiling: NonZeroU32) -> Self {
        Self { limit: Limit::new(ceiling), breaker: Breaker::new(), pause: Pause::default(), in_flight: 0 }
    }

    /// Asks for one call.
    pub fn admit(&mut self, now: Duration) -> Admission {
        match self.breaker.state() {
            // A pause that lasts longer holds for the probe as well.
            State::Open { until } => {
                let until = self.pause.until().map_or(until, |paused| paused.max(until));
                if now < until {
                    return Admission::Open { until };
                }
            }
            State::HalfOpen => return Admission::Wait { until: None },
            State::Closed => {}
        }
        let limit = self.limit.get();
        if self.in_flight >= limit {
            return Admission::Wait { until: None };
        }
        let opens = self.pause.opens(self.in_flight, limit);
        if now < opens {
            return Admission::Wait { until: Some(opens) };
        }
        self.in_flight += 1;
        let (slot, generation) = (self.limit.begin(self.in_flight), self.breaker.begin());
        Admission::Go(Permit { started: now, slot, generation })
    }

    /// The call of `permit` has ended.
    pub fn finish(&mut self, permit: Permit, signal: Signal, now: Duration, rng: &mut Rng) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match signal {
            Signal::Success { latency } => self.limit.succeeded(permit.slot, latency),
            Signal::PushedBack { .. } | Signal::TimedOut => self.limit.decrease(permit.slot),
            Signal::Unavailable { .. } => self.limit.unavailable(permit.slot),
            Signal::Neutral | Signal::Failed { .. } => {}
        }
        if let Some(retry_after) = signal.retry_after() {
            self.pause.hold(retry_after, now, rng);
        }
        self.breaker.end(permit.generation, signal.outcome(), now, rng);
    }

    /// How many calls may be in flight.
    pub const fn limit(&self) -> u32 {
        self.limit.get()
    }

    /// How many calls are.
    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// How the circuit breaker stands.
    pub const fn breaker(&self) -> State {
        self.breaker.state()
    }

    /// When the last pause that the upstream asked for ends or ended.
    pub const fn paused_until(&self) -> Option<Duration> {
        self.pause.until()
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod simulated;

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    const FAILED: Signal = Signal::Failed { retry_after: None };

    /// A gate for ten calls, with chance that is always the same.
    struct Played(Gate, Rng);

    impl Played {
        fn new() -> Self {
            Self(Gate::new(NonZeroU32::new(10).unwrap()), Rng::with_seed(5))
        }

        fn go(&mut self, now: Duration) -> Permit {
            match self.0.admit(now) {
                Admission::Go(permit) => permit,
                other => panic!("{other:?}"),
            }
        }

        /// A call that takes no time.
        fn call(&mut self, now: Duration, signal: Signal) {
            let permit = self.go(now);
            self.0.finish(permit, signal, now, &mut self.1);
        }

        /// Opens the breaker at 3 s; the end of the cool-down.
        fn open(&mut self) -> Duration {
            for at in [0, 0, 0, 0, 3] {
                self.call(secs(at), FAILED);
            }
            match self.0.breaker() {
                State::Open { until } => until,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_each_ending_does_to_limit_pause_and_breaker() {
        let wait = Some(secs(1));
        // (signal, limit after it, whether it pauses, whether five in three seconds open the breaker)
        for (signal, limit, pauses, opens) in [
            (Signal::Success { latency: secs(1) }, 10, false, false),
            (Signal::Neutral, 10, false, false),
            (Signal::PushedBack { retry_after: None }, 7, false, false),
            (Signal::PushedBack { retry_after: wait }, 7, true, false),
            (Signal::Unavailable { retry_after: None }, 7, false, true),
            (Signal::Unavailable { retry_after: wait }, 7, true, true),
            (FAILED, 10, false, true),
            (Signal::Failed { retry_after: wait }, 10, true, true),
            (Signal::TimedOut, 7, false, true),
        ] {
            let mut played = Played::new();
            played.call(secs(0), Signal::Success { latency: secs(1) });
            played.call(secs(0), signal);
            assert_eq!(played.0.limit(), limit, "{signal:?}");
            assert_eq!(played.0.paused_until().is_some(), pauses, "{signal:?}");
            assert_eq!(played.0.breaker(), State::Closed, "{signal:?}");
            for at in [10, 12, 14] {
                played.call(secs(at), signal);
            }
            assert_eq!(played.0.breaker(), State::Closed, "{signal:?}");
            played.call(secs(20), signal);
            assert_eq!(played.0.breaker() != State::Closed, opens, "{signal:?}");
            assert_eq!(played.0.in_flight(), 0);
        }
    }

    #[test]
    fn a_full_gate_waits_for_an_ending() {
        let mut played = Played::new();
        let mut permits: Vec<Permit> = (0..10).map(|_| played.go(secs(1))).collect();
        assert_eq!(played.0.admit(secs(1)), Admission::Wait { until: None });
        let permit = permits.pop().unwrap();
        assert_eq!(permit.started(), secs(1));
        played.0.finish(permit, Signal::Neutral, secs(2), &mut played.1);
        assert!(matches!(played.0.admit(secs(2)), Admission::Go(_)));
    }

    #[test]
    fn an_open_breaker_says_until_when_and_lets_one_probe_through() {
        let mut played = Played::new();
        let until = played.open();
        assert_eq!(played.0.admit(secs(3)), Admission::Open { until });
        assert_eq!(played.0.admit(until - Duration::from_nanos(1)), Admission::Open { until });
        let probe = played.go(until);
        assert_eq!(played.0.breaker(), State::HalfOpen);
        assert_eq!(played.0.admit(until + secs(9)), Admission::Wait { until: None });
        played.0.finish(probe, Signal::Neutral, until + secs(9), &mut played.1);
        assert_eq!(played.0.breaker(), State::Closed);
        assert!(matches!(played.0.admit(until + secs(9)), Admission::Go(_)));
    }

    #[test]
    fn a_probe_needs_a_place_and_waits_for_a_pause() {
        let mut played = Played::new();
        let mut hanging: Vec<Permit> = (0..9).map(|_| played.go(secs(0))).collect();
        let until = played.open();
        let last = hanging.pop().unwrap();
        played.0.finish(last, Signal::PushedBack { retry_after: Some(secs(60)) }, secs(3), &mut played.1);
        let paused = played.0.paused_until().unwrap();
        assert!(paused > until);
        assert_eq!(played.0.admit(until), Admission::Open { until: paused });
        assert_eq!(played.0.limit(), 7);
        assert_eq!(played.0.admit(paused), Admission::Wait { until: None }, "eight of seven are in flight");
        for permit in hanging.drain(1..) {
            played.0.finish(permit, Signal::TimedOut, paused, &mut played.1);
        }
        assert_eq!(played.0.limit(), 7, "they began before the limit fell");
        let Admission::Wait { until: Some(opens) } = played.0.admit(paused) else { panic!("all at once") };
        let _probe = played.go(opens);
        assert_eq!(played.0.breaker(), State::HalfOpen);
    }
}
