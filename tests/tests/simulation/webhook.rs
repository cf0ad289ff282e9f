//! The webhook: its own decision, over what one replica knows at that moment.

use std::sync::Arc;
use std::time::Duration;

use headstart_tests::arc::model::{Key, Kind, Object};
use headstart_webhook::runner_sets::decide::decide;
use headstart_webhook::runner_sets::known::{Known, Sign};
use headstart_webhook::runner_sets::review::Review;
use serde_json::{Value, json};

use super::broken::Broken;
use super::world::{World, ms};

/// How often a replica reads the Lease, and a leader renews it.
const PERIOD: Duration = Duration::from_secs(2);

impl World {
    /// What the webhook makes of a listener's write: `replicas` and `patchID` as they are stored.
    pub(crate) fn admit(&mut self, which: usize, key: &Key, patch: (i64, i64)) -> (i64, i64) {
        if self.is_alone {
            return patch;
        }
        let known = self.known();
        let Some(review) = self.review(which, key, patch) else { return patch };
        let body = review.to_string();
        let asked = Review::parse(body.as_bytes(), true).unwrap().asked.unwrap();
        let decision = decide(&asked, &known.trust(self.now));
        self.tell(|_| format!("the webhook says {:?}", decision.reason));
        let mut object = review["request"]["object"].clone();
        json_patch::patch(&mut object, &decision.patch()).unwrap();
        let number = |field: &str| object["spec"][field].as_i64().unwrap();
        (number("replicas"), number("patchID"))
    }

    /// What the API server asks the webhook.
    fn review(&self, which: usize, key: &Key, (replicas, patch_id): (i64, i64)) -> Option<Value> {
        let set = self.set(key)?;
        let owed = if self.broken == Broken::OwedIgnored { 0 } else { set.replicas };
        let object = |replicas: i64, patch_id: i64| {
            json!({
                "metadata": {
                    "uid": *set.meta.uid,
                    "deletionTimestamp": set.meta.deleting.then_some("2026-01-01T00:00:00Z"),
                },
                "spec": { "replicas": replicas, "patchID": patch_id },
                "status": set.status.map(|status| {
                    json!({ "currentReplicas": status.current, "phase": status.phase.text() })
                }),
            })
        };
        Some(json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "request", "operation": "UPDATE", "namespace": *key.namespace, "name": *key.name,
                "kind": { "group": "actions.github.com", "version": "v1alpha1", "kind": "EphemeralRunnerSet" },
                "userInfo": { "username": self.user(which)? },
                "object": object(replicas, patch_id), "oldObject": object(owed, set.patch_id),
            },
        }))
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
