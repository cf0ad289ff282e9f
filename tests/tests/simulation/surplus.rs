//! Why there may be more runners than are asked for. A runner that is made when there are enough needs one of the causes that are
//! named here, whoever makes it; one without a cause is a broken rule.

use std::time::Duration;

use headstart_tests::arc::model::Call;
use headstart_tests::arc::model::calls::Creation;

use super::rules::Watched;
use super::world::{World, ms};

/// How long ARC may go on with what it has begun, or with what it has not seen yet.
const AFTERMATH: Duration = Duration::from_secs(5);

/// Who makes a runner.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Maker<'m> {
    /// ARC.
    Arc,
    /// We, by that name, and by what was known since then at the latest.
    We { name: &'m str, since: Duration },
}

/// Why there may be one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Something raw was stored over a generation that was lent: both make what is missing (arc.md §3.8, rule 3).
    Amid,
    /// ARC's manager began anew, and does not know what it had under way.
    ManagerBeganAnew,
    /// The listener has not said yet that a job is over, and ARC goes by what is stored.
    ListenerBehind,
    /// ARC has just made some itself, and its cache does not show them: only one that carries the number of the generation that is
    /// stored would be a shield (arc.md §2.1).
    ArcBehindItself,
    /// ARC made one that we could not see yet.
    ArcUnseen,
    /// A runner has gone that ARC had still counted when it got the set back, in the place of one that it had not.
    GoneCounted,
    /// A post of ours that nobody heard of is carried out when its runner has lived and gone.
    PostedTwice,
}

impl World {
    /// A call of ARC is carried out.
    pub(crate) fn arc_calls(&mut self, call: &Call) {
        if let Call::Create(creation) = call
            && let Creation::Runner(runner) = &**creation
            && let Some(owner) = &runner.meta.owner
        {
            self.tell(|_| format!("ARC makes a runner of {}", owner.name));
            let (now, live) = (self.now, self.live(&owner.uid));
            if let Err(why) = self.is_one_too_many(&owner.uid, live, Maker::Arc) {
                self.violate(why);
            }
            if let Some(watched) = self.watched.get_mut(&*owner.uid) {
                watched.arc_made.push(now);
            }
        }
    }

    /// A runner is made when so many live. If they are enough there must be a cause, and there may be one more from then on.
    pub(crate) fn is_one_too_many(&mut self, uid: &str, live: usize, maker: Maker<'_>) -> Result<(), String> {
        let Some(watched) = self.watched.get(uid) else { return Ok(()) };
        // Where jobs run on runners of an earlier set, nobody can say what is enough.
        let Some(asked) = self.asked(uid).filter(|_| !self.has_sisters(uid)) else { return Ok(()) };
        if live < asked {
            return Ok(());
        }
        let cause = self.cause(watched, live, maker);
        let name = watched.key.name.clone();
        let Some(cause) = cause else {
            return Err(format!("{maker:?} make one more runner of {name}, which has {live} of {asked}"));
        };
        self.tell(|_| format!("one more than the {asked} of {name}: {cause:?}"));
        if let Some(watched) = self.watched.get_mut(uid) {
            watched.surplus += 1;
        }
        Ok(())
    }

    fn cause(&self, watched: &Watched, live: usize, maker: Maker<'_>) -> Option<Cause> {
        let lately = |at: Duration| self.now < at + AFTERMATH;
        let since = match maker {
            Maker::Arc => self.now.saturating_sub(AFTERMATH),
            Maker::We { since, .. } => since,
        };
        if watched.amid.is_some_and(|at| at >= since) {
            return Some(Cause::Amid);
        }
        let most = watched.most_since(since);
        if most > live {
            return Some(Cause::ListenerBehind);
        }
        match maker {
            Maker::We { .. } if live < most + watched.arc_made_since(since) => Some(Cause::ArcUnseen),
            Maker::We { name, .. } => self.lived.contains_key(name).then_some(Cause::PostedTwice),
            Maker::Arc if self.arc_restarted.is_some_and(lately) => Some(Cause::ManagerBeganAnew),
            Maker::Arc if live < most + watched.arc_made_since(since) => Some(Cause::ArcBehindItself),
            Maker::Arc if watched.last_end.is_some_and(|at| self.now < at + self.arcs_lag()) => {
                Some(Cause::GoneCounted)
            }
            Maker::Arc => None,
        }
    }

    /// What was too much is forgotten once it is not: ARC has taken it away, or a job has.
    pub(crate) fn forget_surplus(&mut self, uid: &str) {
        if self.asked(uid).is_some_and(|asked| self.live(uid) <= asked)
            && let Some(watched) = self.watched.get_mut(uid)
        {
            watched.surplus = 0;
        }
    }

    /// How long what ARC has counted may be older than what is there.
    fn arcs_lag(&self) -> Duration {
        ms(2 * (self.manners.arc_lag + self.manners.arc_latency) + 200)
    }

    /// Whether its scale set has, or had, another set: jobs of the one may run on runners of the other.
    pub(crate) fn has_sisters(&self, uid: &str) -> bool {
        let scale_set = self.watched.get(uid).map(|watched| watched.scale_set_id);
        self.watched.values().filter(|watched| Some(watched.scale_set_id) == scale_set).count() > 1
    }

    /// The job of a runner ends. If that was replaced before, when somebody deleted it, no other runner goes with the job.
    pub(crate) fn is_outlived(&mut self, runner: &str, which: usize) {
        let set = self.played[which].runner_set().and_then(|key| self.set(&key));
        let uid = set.map(|set| set.meta.uid.to_string());
        if self.lived.contains_key(runner)
            && let Some(watched) = uid.and_then(|uid| self.watched.get_mut(&uid))
        {
            watched.surplus += 1;
        }
    }
}
