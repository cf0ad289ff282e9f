//! How many calls may be in flight at once: more while the upstream keeps up and we need it, fewer when it does not.

use std::num::NonZeroU32;
use std::time::Duration;

use super::latency::Latency;

/// Where the limit starts: the default ceiling, which every upstream is meant to stand.
const START: u32 = 10;

/// What remains of the limit at a decrease. Half, as TCP once had it, would throw away twenty-five of fifty calls, which come
/// back one per round trip; with this the limit stays between 0.7 and 1 of what the upstream bears, and an
/// upstream that bears much less is still reached within a few round trips.
const DECREASE: f64 = 0.7;

/// The limit of one upstream.
#[derive(Debug)]
pub(super) struct Limit {
    ceiling: f64,
    /// Between 1 and the ceiling; what is behind the point is on its way to the next whole call.
    value: f64,
    /// Whether it still doubles: until the first decrease, and never again, since then its own value is what is known of the
    /// upstream.
    is_slow_start: bool,
    /// Counts decreases. A call that began before the last one says nothing about what holds since.
    epoch: u64,
    /// Whether a call of this epoch succeeded.
    has_succeeded: bool,
    /// Counts calls.
    begun: u64,
    /// The last call with which the limit was reached.
    reached: u64,
    latency: Latency,
}

/// What a call has to remember for the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    nth: u64,
    epoch: u64,
}

impl Limit {
    pub(super) fn new(ceiling: NonZeroU32) -> Self {
        let ceiling = ceiling.get();
        Self {
            ceiling: f64::from(ceiling),
            value: f64::from(ceiling.min(START)),
            is_slow_start: true,
            epoch: 0,
            has_succeeded: false,
            begun: 0,
            reached: 0,
            latency: Latency::default(),
        }
    }

    /// How many calls may be in flight.
    pub(super) const fn get(&self) -> u32 {
        self.value as u32
    }

    /// A call begins, and with it `in_flight` are.
    pub(super) const fn begin(&mut self, in_flight: u32) -> Slot {
        self.begun += 1;
        if in_flight >= self.get() {
            self.reached = self.begun;
        }
        Slot { nth: self.begun, epoch: self.epoch }
    }

    /// A call succeeded.
    pub(super) fn succeeded(&mut self, slot: Slot, latency: Duration) {
        let is_rising = self.latency.is_rising(latency);
        if slot.epoch != self.epoch {
            return;
        }
        self.has_succeeded = true;
        if is_rising {
            self.latency.answered();
            self.decrease(slot);
        } else if self.reached >= slot.nth {
            self.increase();
        }
    }

    /// The upstream said that it is too much, or did not answer in time. All calls of one round trip say so once.
    pub(super) fn decrease(&mut self, slot: Slot) {
        if slot.epoch != self.epoch {
            return;
        }
        self.value = (self.value * DECREASE).max(1.0);
        self.is_slow_start = false;
        self.has_succeeded = false;
        self.epoch += 1;
    }

    /// The upstream was not there for a call. Between successes this sheds load; without any it is an outage, in which the
    /// limit would only be lost: that is the breaker's matter.
    pub(super) fn unavailable(&mut self, slot: Slot) {
        if self.has_succeeded {
            self.decrease(slot);
        }
    }

    /// For one success while the limit was used: one more per round trip, or twice as many in slow start.
    fn increase(&mut self) {
        let step = if self.is_slow_start { 1.0 } else { 1.0 / self.value };
        self.value = (self.value + step).min(self.ceiling);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(150);

    fn limit(ceiling: u32) -> Limit {
        Limit::new(NonZeroU32::new(ceiling).unwrap())
    }

    /// `count` calls at once.
    fn begin(limit: &mut Limit, count: u32) -> Vec<Slot> {
        (1..=count).map(|in_flight| limit.begin(in_flight)).collect()
    }

    /// One round trip of as many calls as may be, all successful; the limit after it.
    fn round_trip(limit: &mut Limit) -> u32 {
        let count = limit.get();
        for slot in begin(limit, count) {
            limit.succeeded(slot, QUICK);
        }
        limit.get()
    }

    #[test]
    fn it_starts_low_and_doubles_to_the_ceiling() {
        for (ceiling, course) in [
            (1, vec![1, 1]),
            (4, vec![4, 4]),
            (10, vec![10, 10]),
            (12, vec![10, 12, 12]),
            (50, vec![10, 20, 40, 50, 50]),
        ] {
            let mut limit = limit(ceiling);
            assert_eq!(limit.get(), course[0]);
            for expected in &course[1..] {
                assert_eq!(round_trip(&mut limit), *expected, "{ceiling}");
            }
        }
    }

    #[test]
    fn after_the_first_push_back_it_grows_by_one_per_round_trip() {
        let mut limit = limit(50);
        let slots = begin(&mut limit, 10);
        limit.decrease(slots[0]);
        assert_eq!(limit.get(), 7);
        let mut course: Vec<u32> = (0..43 + 20).map(|_| round_trip(&mut limit)).collect();
        assert!(course.is_sorted() && course.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{course:?}");
        assert_eq!(course.pop(), Some(50));
        assert!((15..=18).contains(&course[9]), "{course:?}");
    }

    #[test]
    fn slow_start_is_over_once_the_ceiling_was_reached() {
        let mut limit = limit(20);
        round_trip(&mut limit);
        let slots = begin(&mut limit, 20);
        limit.decrease(slots[0]);
        assert_eq!((limit.get(), round_trip(&mut limit)), (14, 14), "14 and something");
        assert_eq!(round_trip(&mut limit), 15);
    }

    #[test]
    fn a_limit_that_is_not_used_does_not_grow() {
        let mut limit = limit(50);
        for _ in 0..100 {
            for slot in begin(&mut limit, 9) {
                limit.succeeded(slot, QUICK);
            }
        }
        assert_eq!(limit.get(), 10);
    }

    #[test]
    fn it_was_used_if_it_was_reached_while_the_call_was_in_flight() {
        let mut limit = limit(50);
        let early = limit.begin(1);
        let late = (2..=10).map(|in_flight| limit.begin(in_flight)).last().unwrap();
        limit.succeeded(early, QUICK);
        assert_eq!(limit.get(), 11);
        limit.succeeded(late, QUICK);
        assert_eq!(limit.get(), 12);
        let after = limit.begin(9);
        limit.succeeded(after, QUICK);
        assert_eq!(limit.get(), 12);
    }

    #[test]
    fn all_calls_of_one_round_trip_decrease_it_once() {
        let mut limit = limit(10);
        let slots = begin(&mut limit, 10);
        for slot in &slots {
            limit.decrease(*slot);
        }
        assert_eq!(limit.get(), 7);
        let next = begin(&mut limit, 7);
        limit.decrease(next[3]);
        assert_eq!(limit.get(), 4);
        limit.succeeded(next[0], QUICK);
        limit.succeeded(slots[0], QUICK);
        assert_eq!(limit.get(), 4, "what began before a decrease does not undo it");
    }

    #[test]
    fn it_never_falls_below_one_and_comes_back_from_there() {
        let mut limit = limit(10);
        for _ in 0..100 {
            let slot = limit.begin(1);
            limit.decrease(slot);
            assert!(limit.get() >= 1);
        }
        assert_eq!(limit.get(), 1);
        let back = (1..100).find(|_| round_trip(&mut limit) == 10);
        assert!(back.is_some_and(|rounds| rounds <= 20), "{back:?}");
    }

    #[test]
    fn rising_latency_is_a_reason_and_steady_latency_is_none() {
        let mut limit = limit(10);
        let slow = Duration::from_secs(3);
        for _ in 0..20 {
            for slot in begin(&mut limit, 10) {
                limit.succeeded(slot, slow);
            }
        }
        assert_eq!(limit.get(), 10);
        for slot in begin(&mut limit, 10) {
            limit.succeeded(slot, slow * 10);
        }
        assert_eq!(limit.get(), 7, "once per round trip");
    }

    #[test]
    fn an_outage_costs_the_limit_once_and_shed_load_costs_it_each_round_trip() {
        let mut outage = limit(10);
        round_trip(&mut outage);
        for _ in 0..50 {
            for slot in begin(&mut outage, 5) {
                outage.unavailable(slot);
            }
        }
        assert_eq!(outage.get(), 7);
        let mut shed = limit(10);
        for expected in [7, 5, 3] {
            let slots = begin(&mut shed, 10);
            shed.succeeded(slots[0], QUICK);
            shed.unavailable(slots[1]);
            shed.unavailable(slots[2]);
            assert_eq!(shed.get(), expected);
        }
    }
}
