//! The webhook: its own decision, over what one replica knows at that moment.

use std::sync::Arc;
use std::time::Duration;

use headstart_externals::pin::Generation;
use headstart_tests::arc::model::{Key, Kind, Object, Phase};
use headstart_webhook::runner_sets::decide::{Old, PinRequest, decide};
use headstart_webhook::runner_sets::known::{Known, Sign};

use super::broken::Broken;
use super::world::{World, ms};

/// How often a replica reads the Lease, and a leader renews it.
const PERIOD: Duration = Duration::from_secs(2);

impl World {
    /// What the webhook makes of a listener's write.
    pub(crate) fn admit(
        &mut self,
        which: usize,
        key: &Key,
        (replicas, patch_id): (i64, i64),
    ) -> Option<Generation> {
        if self.is_alone {
            return None;
        }
        let known = self.known();
        let set = self.set(key)?;
        let status = set.status.unwrap_or_default();
        let owed = if self.broken == Broken::OwedIgnored { 0 } else { set.replicas };
        let request = PinRequest {
            uid: set.meta.uid.as_ref().into(),
            user: self.user(which)?.into(),
            is_dry_run: false,
            replicas,
            patch_id,
            is_deleting: set.meta.deleting,
            is_outdated: status.phase == Phase::Outdated,
            old: Old { replicas: owed, patch_id: set.patch_id, current_replicas: status.current },
        };
        let decision = decide(&request, &known.trust(self.now));
        self.tell(|_| format!("the webhook says {:?}", decision.reason));
        decision.pinned
    }

    /// A listener's pod runs as the ServiceAccount of its own name.
    fn user(&self, which: usize) -> Option<String> {
        let mut all = self.store.of_kind(Kind::Listener).filter_map(Object::listener);
        let own = all.find(|listener| listener.scale_set == self.played[which].key)?;
        Some(format!("system:serviceaccount:{}:{}", own.meta.key.namespace, own.meta.key.name))
    }

    /// What a replica has read, as late as it likes to be.
    fn known(&mut self) -> Known {
        let mut known = Known::default();
        let offset = self.between(0, 2_000);
        for back in (0..8).rev() {
            if let Some(at) = self.now.checked_sub(PERIOD * back + offset) {
                known.read_lease(self.sign(at), at);
            }
        }
        let lag = if self.rng.u8(..20) == 0 { self.between(500, 15_000) } else { self.between(2, 300) };
        let read = self.now.saturating_sub(lag);
        let last = self.published.iter().rev().find(|(at, _)| *at <= read);
        known.read_list(last.map(|(_, sets)| Arc::clone(sets)), read);
        known
    }

    /// What the Lease says at a time.
    fn sign(&self, at: Duration) -> Option<Sign> {
        let reign = self.reigns.iter().rev().find(|reign| reign.from <= at)?;
        let until = match reign.until {
            // As if nobody minded whether it is renewed.
            Some(until) if self.broken != Broken::SilenceIgnored => at.min(until),
            _ => at,
        };
        let renewals = until.saturating_sub(reign.from).as_millis() / PERIOD.as_millis();
        Some(Sign { holder: reign.holder.clone(), renewal: format!("{renewals} after {:?}", reign.from) })
    }

    /// How long a list takes to be published.
    pub(crate) fn publishing(&mut self) -> Duration {
        let wait = self.between(5, 200);
        wait.max(ms(1))
    }
}
