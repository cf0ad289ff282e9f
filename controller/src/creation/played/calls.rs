//! How calls fare in a played world.

use super::*;
use crate::creation::call::{Call, Trouble};

/// How long the engine's calls may take.
const DEADLINE: u64 = 3_000;

/// How long after that a call may still take effect.
const LATE: u64 = 8_000;

impl World {
    /// A call leaves; what becomes of it is drawn.
    pub(super) fn dispatch(&mut self, order: Order) {
        self.tell(format!("call {}: {} {}", order.id.0, order.task.call.code(), order.task.runner));
        self.flying.insert(order.id, order.task.runner.clone());
        let epoch = self.seen.get(&order.place.uid).map_or(0, |(_, epoch)| *epoch);
        let (term, id) = (self.term, order.id);
        let takes = 1 + self.rng.u64(..self.manners.latency);
        let is_fine = self.now > END || self.rng.u64(..100) >= self.manners.faults;
        let reply = is_fine.then(|| 1 + self.rng.u64(..self.manners.latency / 4));
        let carry_out = |reply, is_late| Event::CarryOut(Flight { term, order, epoch, reply, is_late });
        if is_fine {
            return self.push(takes, carry_out(reply, false));
        }
        let asked = self.rng.bool().then(|| Duration::from_secs(1));
        let (after, trouble, effect) = match self.rng.u8(..6) {
            0 => (takes, Trouble::PushedBack { retry_after: asked }, None),
            1 => (takes, Trouble::Unavailable { retry_after: asked }, None),
            2 => (takes, Trouble::Failed { retry_after: None, why: "reset".to_owned() }, Some(takes)),
            3 => (DEADLINE, Trouble::TimedOut, Some(takes)),
            4 => (DEADLINE, Trouble::TimedOut, None),
            _ => (DEADLINE, Trouble::TimedOut, Some(DEADLINE + self.rng.u64(..LATE))),
        };
        if let Some(effect) = effect {
            self.push(effect, carry_out(None, effect > DEADLINE));
        }
        self.push(after, Event::Answered { term, id, answer: Answer::Trouble(trouble) });
    }

    pub(super) fn carry_out(&mut self, flight: Flight) {
        let Flight { term, order, epoch, reply, is_late } = flight;
        if term != self.term && !is_late {
            // The leader that made it is dead: it is lost, carried out, or carried out late.
            let is_removal = matches!(order.task.call, Call::DeleteSecret | Call::RemoveAgent(_));
            match self.rng.u8(..3) {
                0 => return,
                // A removal that comes after the next leader's look cannot be told from damage done on purpose.
                1 if is_removal => return,
                1 => {
                    let at = self.rng.u64(..LATE);
                    return self
                        .push(at, Event::CarryOut(Flight { term, order, epoch, reply, is_late: true }));
                }
                _ => {}
            }
        }
        // Servers give up soon after we do: nothing of a name is made once its runner was there, this late.
        let is_creation =
            matches!(order.task.call, Call::Register | Call::CreateSecret { .. } | Call::CreateRunner { .. });
        if is_late && is_creation && self.owners.contains_key(&order.task.runner) {
            return;
        }
        let answer = self.store.carry_out(&order, epoch);
        let told = match &answer {
            Answer::Trouble(trouble) => trouble.to_string(),
            Answer::Registered { runner_id, .. } => format!("registered {runner_id}"),
            answer => format!("{answer:?}"),
        };
        self.tell(format!("  call {} of leader {term} takes effect: {told}", order.id.0));
        if let Some(after) = reply {
            self.push(after, Event::Answered { term, id: order.id, answer });
        }
    }

    pub(super) fn answered(&mut self, id: CallId, answer: Answer) {
        if let Answer::Trouble(trouble) = &answer {
            self.tell(format!("  call {} fails: {trouble}", id.0));
        }
        self.flying.remove(&id);
        let (now, unix) = (self.moment(), self.unix());
        if let Some(engine) = &mut self.engine {
            engine.answered(id, answer, now, unix);
            self.step_soon();
        }
    }
}
