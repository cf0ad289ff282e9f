//! Whole batches through a gate to upstreams of all kinds, in virtual time: how long they take, and what the upstream feels.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::num::NonZeroU32;
use std::time::Duration;

use fastrand::Rng;

use super::backoff::Backoff;
use super::breaker::State;
use super::{Admission, Gate, Permit, Signal};

/// Deadline of a call.
const DEADLINE: Duration = Duration::from_secs(30);

/// An answer that costs the upstream no work comes after so long.
const AT_ONCE: Duration = Duration::from_millis(5);

/// Chances that every story is played with.
const SEEDS: std::ops::Range<u64> = 0..20;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// What an upstream does with a call that begins at some moment.
#[derive(Clone, Copy)]
enum Does {
    /// Serves it, which is work of so long.
    Serves(Duration),
    /// Answers at once.
    Says(Signal),
    /// Nothing.
    IsSilent,
}

/// One upstream, and what is asked of it.
struct Link {
    ceiling: u32,
    /// Calls that must succeed in the end.
    jobs: u32,
    /// Calls that are served at the same time.
    slots: u32,
    /// Whether further ones wait; otherwise they are refused.
    queues: bool,
    does: fn(Duration) -> Does,
}

/// How it was at one moment.
struct Seen {
    at: Duration,
    limit: u32,
    in_flight: u32,
    breaker: State,
}

/// What happened.
struct Story {
    seen: Vec<Seen>,
    /// When calls began.
    begun: Vec<Duration>,
    /// When calls succeeded.
    created: Vec<Duration>,
    gate: Gate,
}

impl Story {
    fn took(&self) -> Duration {
        *self.created.last().unwrap()
    }

    fn limits(&self, from: Duration, to: Duration) -> impl Iterator<Item = u32> {
        self.seen.iter().filter(move |seen| (from..to).contains(&seen.at)).map(|seen| seen.limit)
    }

    fn has_opened(&self) -> bool {
        self.seen.iter().any(|seen| matches!(seen.breaker, State::Open { .. }))
    }

    /// How many of `moments` lie there.
    fn count(moments: &[Duration], from: Duration, to: Duration) -> usize {
        moments.iter().filter(|at| (from..to).contains(*at)).count()
    }

    /// Successes per second in the middle half of the batch.
    fn rate(&self) -> f64 {
        let (from, to) = (self.created.len() / 4, self.created.len() * 3 / 4);
        (to - from) as f64 / (self.created[to] - self.created[from]).as_secs_f64()
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The call of this number ends.
    Ends(u64),
    /// This job may be tried.
    Ready(u32),
    /// The gate said to ask again.
    Ask,
}

struct Played<'a> {
    link: &'a Link,
    rng: Rng,
    story: Story,
    events: BinaryHeap<Reverse<(Duration, Event)>>,
    calls: BTreeMap<u64, (Permit, Signal, u32)>,
    ready: VecDeque<u32>,
    failures: Vec<u32>,
    /// When each slot of the upstream is free.
    free: Vec<Duration>,
}

impl Link {
    fn play(&self, seed: u64) -> Story {
        let gate = Gate::new(NonZeroU32::new(self.ceiling).unwrap());
        let mut played = Played {
            link: self,
            rng: Rng::with_seed(seed),
            story: Story { seen: vec![], begun: vec![], created: vec![], gate },
            events: BinaryHeap::from([Reverse((Duration::ZERO, Event::Ask))]),
            calls: BTreeMap::new(),
            ready: (0..self.jobs).collect(),
            failures: vec![0; self.jobs as usize],
            free: vec![Duration::ZERO; self.slots as usize],
        };
        while let Some(Reverse((now, event))) = played.events.pop() {
            played.happens(event, now);
            played.ask(now);
            let gate = &played.story.gate;
            let (limit, in_flight, breaker) = (gate.limit(), gate.in_flight(), gate.breaker());
            assert!(in_flight <= self.ceiling && in_flight as usize == played.calls.len());
            played.story.seen.push(Seen { at: now, limit, in_flight, breaker });
            assert!(played.story.begun.len() < 1_000_000, "seed {seed}: no end");
        }
        assert_eq!(played.story.created.len(), self.jobs as usize, "seed {seed}");
        assert_eq!(played.story.gate.in_flight(), 0, "seed {seed}");
        played.story
    }

    fn stories(&self) -> impl Iterator<Item = (u64, Story)> {
        SEEDS.map(|seed| (seed, self.play(seed)))
    }
}

impl Played<'_> {
    fn happens(&mut self, event: Event, now: Duration) {
        match event {
            Event::Ask => {}
            Event::Ready(job) => self.ready.push_back(job),
            Event::Ends(nth) => {
                let (permit, signal, job) = self.calls.remove(&nth).unwrap();
                self.story.gate.finish(permit, signal, now, &mut self.rng);
                if matches!(signal, Signal::Success { .. }) {
                    self.story.created.push(now);
                    return;
                }
                let failures = &mut self.failures[job as usize];
                *failures += 1;
                let wait = Backoff::default().delay(*failures, signal.retry_after(), &mut self.rng);
                self.events.push(Reverse((now + wait, Event::Ready(job))));
            }
        }
    }

    fn ask(&mut self, now: Duration) {
        while let Some(job) = self.ready.front().copied() {
            match self.story.gate.admit(now) {
                Admission::Go(permit) => {
                    self.ready.pop_front();
                    self.story.begun.push(now);
                    let (end, signal) = self.call(now);
                    let nth = self.story.begun.len() as u64;
                    self.calls.insert(nth, (permit, signal, job));
                    self.events.push(Reverse((end, Event::Ends(nth))));
                }
                Admission::Wait { until: None } => {
                    assert!(!self.calls.is_empty(), "nothing to wait for");
                    return;
                }
                Admission::Wait { until: Some(until) } | Admission::Open { until } => {
                    assert!(until > now, "asked again at once");
                    self.events.push(Reverse((until, Event::Ask)));
                    return;
                }
            }
        }
    }

    /// When a call that begins now ends, and how.
    fn call(&mut self, now: Duration) -> (Duration, Signal) {
        let work = match (self.link.does)(now) {
            Does::Serves(work) => work.mul_f64(0.9 + 0.2 * self.rng.f64()),
            Does::Says(signal) => return (now + AT_ONCE, signal),
            Does::IsSilent => return (now + DEADLINE, Signal::TimedOut),
        };
        let slot = self.free.iter_mut().min().unwrap();
        if *slot > now && !self.link.queues {
            return (now + AT_ONCE, Signal::PushedBack { retry_after: None });
        }
        let end = work + now.max(*slot);
        *slot = end;
        let latency = end - now;
        if latency > DEADLINE {
            return (now + DEADLINE, Signal::TimedOut);
        }
        (end, Signal::Success { latency })
    }
}

const BROKEN: Does = Does::Says(Signal::Failed { retry_after: None });
const UNAVAILABLE: Does = Does::Says(Signal::Unavailable { retry_after: None });

#[test]
fn a_hundred_runners_from_a_cold_start_at_three_seconds_each() {
    let does = |_| Does::Serves(secs(3));
    for (ceiling, most) in [(12, secs(30)), (20, secs(20)), (50, secs(14))] {
        let link = Link { ceiling, jobs: 100, slots: 1_000, queues: false, does };
        for (seed, story) in link.stories() {
            assert!(story.took() < most, "seed {seed}: {:?} at {ceiling}", story.took());
            let limits: Vec<u32> = story.limits(secs(0), secs(100)).collect();
            assert!(limits.is_sorted(), "seed {seed}: slow is no reason: {limits:?}");
        }
    }
}

#[test]
fn slow_start_reaches_a_high_ceiling_within_a_few_round_trips() {
    let does = |_| Does::Serves(millis(150));
    let link = Link { ceiling: 50, jobs: 100, slots: 1_000, queues: false, does };
    for (seed, story) in link.stories() {
        assert!(story.took() < millis(800), "seed {seed}: {:?}", story.took());
    }
}

#[test]
fn the_limit_converges_to_what_an_upstream_bears_that_refuses_the_rest() {
    let does = |_| Does::Serves(millis(150));
    for slots in [1, 3, 8, 20, 45] {
        let link = Link { ceiling: 50, jobs: 2_000, slots, queues: false, does };
        for (seed, story) in link.stories().take(5) {
            let full = f64::from(slots) / 0.15;
            assert!(story.rate() > 0.7 * full, "seed {seed}: {} of {full} per second", story.rate());
            let settled: Vec<u32> = story.limits(story.took() / 4, story.took() * 3 / 4).collect();
            let (least, most) = (*settled.iter().min().unwrap(), *settled.iter().max().unwrap());
            assert!(most <= slots + 2 && least >= slots / 2, "seed {seed}: {least}..{most} of {slots}");
            let refused = u32::try_from(story.begun.len()).unwrap() - link.jobs;
            assert!(refused < 2_000 / slots, "seed {seed}: {refused} calls refused");
        }
    }
}

#[test]
fn an_upstream_that_queues_is_used_fully_and_not_drowned() {
    let does = |_| Does::Serves(millis(100));
    for slots in [1, 5, 12] {
        let link = Link { ceiling: 100, jobs: 2_000, slots, queues: true, does };
        for (seed, story) in link.stories().take(5) {
            let full = f64::from(slots) / 0.1;
            assert!(story.rate() > 0.9 * full, "seed {seed}: {} of {full} per second", story.rate());
            let most = story.limits(story.took() / 2, story.took()).max().unwrap();
            assert!(most < 80, "seed {seed}: the latency of {slots} slots was no reason at {most}");
        }
    }
}

#[test]
fn a_short_burst_of_errors_costs_its_own_time_and_no_limit() {
    let does = |now| if (secs(1)..secs(3)).contains(&now) { BROKEN } else { Does::Serves(millis(150)) };
    let link = Link { ceiling: 10, jobs: 500, slots: 1_000, queues: false, does };
    for (seed, story) in link.stories() {
        assert!(!story.has_opened(), "seed {seed}");
        assert!(story.limits(secs(0), secs(100)).all(|limit| limit == 10), "seed {seed}");
        // 7.5 s of work, 2 s of errors, and the last waits.
        assert!(story.took() < secs(14), "seed {seed}: {:?}", story.took());
    }
}

#[test]
fn an_outage_is_left_alone_and_its_end_is_noticed() {
    for (does, what) in [
        (
            (|now| if (secs(1)..secs(61)).contains(&now) { BROKEN } else { Does::Serves(millis(150)) })
                as fn(_) -> _,
            "5xx",
        ),
        (
            |now| if (secs(1)..secs(61)).contains(&now) { UNAVAILABLE } else { Does::Serves(millis(150)) },
            "503",
        ),
    ] {
        let link = Link { ceiling: 10, jobs: 200, slots: 1_000, queues: false, does };
        for (seed, story) in link.stories() {
            assert!(story.has_opened(), "seed {seed}, {what}");
            // Until it opens every runner is tried some times; then there are probes only.
            let (before, after) = (secs(1), secs(6));
            assert!(Story::count(&story.begun, before, after) < 200 * 12, "seed {seed}, {what}");
            let probes = Story::count(&story.begun, after, secs(61));
            assert!((1..=15).contains(&probes), "seed {seed}, {what}: {probes} probes");
            let back = story.created.iter().find(|at| **at > secs(61)).unwrap();
            assert!(*back < secs(61 + 61), "seed {seed}, {what}: {back:?}");
            // All that is left, after the longest wait of one call.
            assert!(story.took() < *back + secs(15), "seed {seed}, {what}: {:?}", story.took());
            assert!(story.limits(secs(0), secs(200)).all(|limit| limit >= 7), "seed {seed}, {what}");
        }
    }
}

#[test]
fn silence_of_a_minute_ends_and_everything_is_made() {
    let does = |now| {
        if (millis(500)..secs(61)).contains(&now) { Does::IsSilent } else { Does::Serves(millis(150)) }
    };
    let link = Link { ceiling: 10, jobs: 200, slots: 1_000, queues: false, does };
    for (seed, story) in link.stories() {
        // One last call may hang, one cool-down may pass, and the rest grows from a small limit.
        assert!(story.took() < secs(61) + DEADLINE + secs(25), "seed {seed}: {:?}", story.took());
        assert!(Story::count(&story.begun, millis(500), secs(61)) <= 30, "seed {seed}");
    }
}

#[test]
fn retry_after_stops_everybody_and_they_come_back_one_by_one() {
    let does = |now| {
        let asks = Does::Says(Signal::PushedBack { retry_after: Some(secs(5)) });
        if (secs(1)..millis(1_200)).contains(&now) { asks } else { Does::Serves(millis(150)) }
    };
    let link = Link { ceiling: 10, jobs: 200, slots: 1_000, queues: false, does };
    for (seed, story) in link.stories() {
        let first = *story.begun.iter().find(|at| **at >= secs(1)).unwrap() + AT_ONCE;
        assert_eq!(Story::count(&story.begun, first + millis(1), first + secs(5)), 0, "seed {seed}");
        let until = story.gate.paused_until().unwrap();
        assert!((first + secs(5)..first + secs(7)).contains(&until), "seed {seed}: {until:?}");
        let soon = story.seen.iter().filter(|seen| (until..until + millis(100)).contains(&seen.at));
        assert!(soon.map(|seen| seen.in_flight).max() == Some(1), "seed {seed}: all at once");
        let then = story.seen.iter().filter(|seen| seen.at > until + secs(1));
        assert!(then.map(|seen| seen.in_flight).max() >= Some(7), "seed {seed}");
        assert!(story.took() < until + secs(6), "seed {seed}: {:?}", story.took());
    }
}

#[test]
fn latency_times_ten_does_not_make_it_collapse_and_passes() {
    let does = |now| Does::Serves(millis(if (secs(2)..secs(32)).contains(&now) { 1_500 } else { 150 }));
    let link = Link { ceiling: 10, jobs: 800, slots: 1_000, queues: false, does };
    for (seed, story) in link.stories() {
        let slow: Vec<u32> = story.limits(secs(2), secs(32)).collect();
        assert!(slow.iter().any(|limit| *limit < 10), "seed {seed}: nothing was noticed");
        assert!(slow.iter().all(|limit| *limit >= 4), "seed {seed}: {slow:?}");
        let made = Story::count(&story.created, secs(2), secs(32));
        assert!(made > 100, "seed {seed}: {made} of 200");
        assert_eq!(story.limits(secs(37), secs(100)).min(), Some(10), "seed {seed}");
    }
}

#[test]
fn single_slow_calls_are_no_reason() {
    let does = |now: Duration| Does::Serves(millis(if now.as_nanos() % 97 == 1 { 5_000 } else { 150 }));
    let link = Link { ceiling: 10, jobs: 1_000, slots: 1_000, queues: false, does };
    for (seed, story) in link.stories() {
        assert!(story.begun.iter().any(|at| at.as_nanos() % 97 == 1), "seed {seed}: none was slow");
        // In the end only slow ones are left, which then are not single any more.
        let busy = *story.begun.last().unwrap();
        assert!(story.limits(secs(0), busy).all(|limit| limit == 10), "seed {seed}");
    }
}
