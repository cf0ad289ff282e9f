//! Scale-ups of runner sets: the predicate and its order, the route, and how long what is known may be trusted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod freshness;
mod order;
mod route;
mod sound;

use std::sync::Arc;

use headstart_externals::runner_sets::{PublishedRunnerSet, PublishedRunnerSets};
use headstart_webhook::runner_sets::decide::{Old, PinRequest};
use serde_json::{Value, json};

pub(crate) const SET: &str = "0b1c2d3e";
pub(crate) const LISTENER: &str = "system:serviceaccount:arc-systems:set-754b578d-listener";
pub(crate) const LEADER: &str = "headstart-controller-1_0f";

/// What a leader publishes that has one set.
pub(crate) fn published() -> Arc<PublishedRunnerSets> {
    let set = PublishedRunnerSet { uid: SET.to_owned(), listener: LISTENER.to_owned() };
    Arc::new(PublishedRunnerSets::new(LEADER, vec![set]))
}

/// A scale-up from 3 runners to 5, which nothing speaks against.
pub(crate) fn scale_up() -> PinRequest<'static> {
    PinRequest {
        uid: SET.into(),
        user: LISTENER.into(),
        is_dry_run: false,
        replicas: 5,
        patch_id: 7,
        is_deleting: false,
        is_outdated: false,
        old: Old { replicas: 3, patch_id: 6, current_replicas: 3 },
    }
}

/// The same as the API server posts it.
pub(crate) fn review() -> Value {
    let set = |spec: Value| {
        json!({
            "apiVersion": "actions.github.com/v1alpha1", "kind": "EphemeralRunnerSet",
            "metadata": { "uid": SET, "name": "set", "namespace": "jobs", "managedFields": [{ "manager": "x" }] },
            "spec": spec,
            "status": { "currentReplicas": 3, "runningEphemeralRunners": 3, "phase": "Running" },
        })
    };
    let template = json!({ "githubConfigUrl": "https://example.com/o", "spec": { "containers": [{ "name": "runner" }] } });
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "9f8e", "operation": "UPDATE", "namespace": "jobs", "name": "set", "dryRun": false,
            "kind": { "group": "actions.github.com", "version": "v1alpha1", "kind": "EphemeralRunnerSet" },
            "resource": { "group": "actions.github.com", "version": "v1alpha1", "resource": "ephemeralrunnersets" },
            "userInfo": { "username": LISTENER, "groups": ["system:serviceaccounts"] },
            "object": set(json!({ "replicas": 5, "patchID": 7, "ephemeralRunnerSpec": template })),
            "oldObject": set(json!({ "replicas": 3, "patchID": 6, "ephemeralRunnerSpec": template })),
        },
    })
}
