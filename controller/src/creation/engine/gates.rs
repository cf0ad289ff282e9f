//! Through whose gate a call goes, and which gates there are. Pure.

use super::{Engine, InFlight};
use crate::creation::call::Upstream;

/// Whose gate a call goes through.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GateKey {
    /// The API server's.
    Kubernetes,
    /// That of an Actions service.
    Service(String),
}

impl Engine {
    /// Gates of services that no set has any more.
    pub(super) fn drop_gates(&mut self) {
        let Self { gates, services, calls, .. } = self;
        gates.retain(|key, _| match key {
            GateKey::Kubernetes => true,
            GateKey::Service(name) => {
                let is_used = |call: &InFlight| call.permit.as_ref().is_some_and(|(used, _)| used == key);
                services.values().any(|service| service == name) || calls.values().any(is_used)
            }
        });
    }

    /// That of a call for a set.
    pub(super) fn key(&self, uid: &str, upstream: Upstream) -> GateKey {
        match upstream {
            Upstream::Kubernetes => GateKey::Kubernetes,
            Upstream::Service => GateKey::Service(self.services.get(uid).cloned().unwrap_or_default()),
        }
    }
}
