//! What comes next for a runner, in the only order that is safe. Pure.

use std::time::Duration;

use super::{Goal, Runner, Stage};
use crate::creation::call::Call;

impl Runner {
    /// What comes next, if anything is due; posting its EphemeralRunner is the caller's decision, see [`Self::is_ready`].
    pub fn next(&self, now: Duration) -> Option<Call> {
        if self.calling.is_some() || now < self.not_before || !self.is_journaled {
            return None;
        }
        match self.goal {
            Goal::Make => self.make(),
            Goal::Unmake => self.unmake(now),
        }
    }

    fn make(&self) -> Option<Call> {
        match &self.stage {
            Stage::Drawn => Some(Call::Register),
            Stage::Registered { runner_id, jit_config } => {
                Some(Call::CreateSecret { runner_id: *runner_id, jit_config: jit_config.clone() })
            }
            Stage::Stored { .. } | Stage::Absent => None,
            _ => self.go_on(),
        }
    }

    fn unmake(&self, now: Duration) -> Option<Call> {
        match &self.stage {
            // Its Secret may be there after a failure.
            Stage::Registered { .. } if self.failures > 0 => Some(Call::GetSecret),
            Stage::Registered { runner_id, .. } => Some(Call::RemoveAgent(*runner_id)),
            Stage::Stored { .. } => match self.doubtful_until {
                Some(until) if now < until => None,
                Some(_) => Some(Call::GetRunner),
                None => Some(Call::DeleteSecret),
            },
            Stage::Drawn | Stage::Absent => None,
            _ => self.go_on(),
        }
    }

    /// What is the same whether it is to be made or unmade.
    fn go_on(&self) -> Option<Call> {
        match &self.stage {
            Stage::Unknown | Stage::Clashing { .. } => Some(Call::GetSecret),
            Stage::Unregistered | Stage::Unverified { .. } => Some(Call::FindAgent),
            Stage::Stale { runner_id } => Some(Call::RemoveAgent(*runner_id)),
            Stage::Foreign { .. } => Some(Call::DeleteSecret),
            Stage::Taken { .. } => Some(Call::GetRunner),
            Stage::Posted { runner_id, .. } => Some(Call::SetStatus { runner_id: *runner_id }),
            Stage::Named { uid } => Some(Call::CreatePod { owner: uid.clone(), stamp: self.stamp }),
            _ => None,
        }
    }

    /// When it may be made independent of us, if nothing happens to it until then: whether ARC was deleting it while we wrote
    /// its status shows a little later.
    pub fn is_free_at(&self, rest: Duration) -> Option<Duration> {
        matches!(self.stage, Stage::Made { .. }).then(|| self.not_before.max(self.tried + rest))
    }

    /// The call that makes it independent of us, once it is made.
    pub fn last(&self, now: Duration, rest: Duration) -> Option<Call> {
        let is_due = self.calling.is_none() && self.is_free_at(rest).is_some_and(|at| now >= at);
        match &self.stage {
            Stage::Made { uid } if is_due => Some(Call::OwnSecret { owner: uid.clone() }),
            _ => None,
        }
    }
}
