//! Who leads when: leaders start and die, cannot renew their Lease any more, or are cut off from everything for a while.

use std::time::Duration;

use super::people::Act;
use super::world::{Event, Reign, World};

/// From the end of one leader to the next one, at least.
const HAND_OVER: Duration = Duration::from_secs(4);

/// How long a leader goes on that cannot renew its Lease, and when another one takes over.
const STEP_DOWN: Duration = Duration::from_secs(10);
const TAKE_OVER: Duration = Duration::from_secs(17);

impl World {
    /// Something happens to who leads.
    pub(crate) fn act_on_leader(&mut self, act: Act) {
        match act {
            // The Lease expires first, or its holder lets go of it once its calls are done.
            Act::LeaderStarts if !self.is_alone => match self.died.map(|died| died + HAND_OVER) {
                Some(free) if self.now < free => self.at(free, Event::Act(Act::LeaderStarts)),
                _ => self.leader_starts(),
            },
            Act::LeaderDies => self.leader_dies(),
            Act::RenewalsStop => {
                self.renewals_stop();
                let wait = self.between(2_000, 8_000);
                if self.leader.is_some() && self.now + wait < self.manners.end {
                    self.after(wait, Event::Act(Act::LeaderDies));
                }
            }
            Act::Cut(until) => self.cut_off(until),
            Act::StepsDown(term) if self.cut == Some(term) => self.leader_dies(),
            Act::Healed => {
                if self.is_cut_off() && self.leader.is_some() {
                    self.reign();
                }
                self.cut = None;
            }
            _ => {}
        }
    }

    /// The leader is cut off: no call, no watch, no renewal and nothing published gets through.
    fn cut_off(&mut self, until: Duration) {
        if self.leader.is_none() {
            return;
        }
        let (now, term) = (self.now, self.term);
        self.cut = Some(term);
        self.cut_watches(until);
        self.renewals_stop();
        self.after(STEP_DOWN, Event::Act(Act::StepsDown(term)));
        if now + TAKE_OVER < self.manners.end {
            self.after(TAKE_OVER, Event::Act(Act::LeaderStarts));
        }
    }

    /// The leader's Lease begins to be renewed.
    pub(crate) fn reign(&mut self) {
        let holder = format!("leader-{}", self.term);
        self.reigns.push(Reign { holder, from: self.now, until: None });
    }

    /// Nobody renews the Lease any more.
    pub(crate) fn renewals_stop(&mut self) {
        let now = self.now;
        self.reigns.iter_mut().for_each(|reign| _ = reign.until.get_or_insert(now));
    }
}
