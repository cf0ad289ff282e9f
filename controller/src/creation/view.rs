//! Runner sets and runners as decisions see them: the few fields that count, read from the objects that watches bring.

use headstart_externals::pin::Stored;
use serde::Deserialize;

/// Annotation of an EphemeralRunner: the generation that it was made for.
pub const PATCH_ID: &str = "actions.github.com/patch-id";

/// An EphemeralRunnerSet as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetView {
    /// Its UID.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Name of the AutoscalingRunnerSet that owns it.
    pub owner: String,
    /// What it asks for.
    pub stored: Stored,
    /// `metadata.generation`: grows with every change of the spec.
    pub generation: i64,
    /// How many runners ARC has counted; 0 while it has not.
    pub counted: usize,
    /// Whether it is being deleted.
    pub is_deleting: bool,
    /// Whether ARC has given it up.
    pub is_outdated: bool,
}

/// An EphemeralRunner as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerView {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// UID of the set that it belongs to.
    pub set: String,
    /// The generation that it was made for; `None` where that cannot be read, as ARC reads it.
    pub stamp: Option<i64>,
    /// Whether ARC counts it: neither being deleted, nor succeeded, nor outdated.
    pub is_live: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
    uid: String,
    #[serde(default)]
    generation: i64,
    deletion_timestamp: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    owner_references: Vec<Owner>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Owner {
    kind: String,
    name: String,
    uid: String,
    #[serde(default)]
    controller: bool,
}

impl Metadata {
    fn controller(&self, kind: &str) -> Option<&Owner> {
        self.owner_references.iter().find(|owner| owner.controller && owner.kind == kind)
    }
}

#[derive(Deserialize)]
struct Set {
    metadata: Metadata,
    spec: SetSpec,
    #[serde(default)]
    status: SetStatus,
}

#[derive(Deserialize)]
struct SetSpec {
    #[serde(default)]
    replicas: i64,
    #[serde(default, rename = "patchID")]
    patch_id: i64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SetStatus {
    current_replicas: i64,
    phase: String,
}

#[derive(Deserialize)]
struct Runner {
    metadata: Metadata,
    #[serde(default)]
    status: RunnerStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RunnerStatus {
    phase: String,
}

impl SetView {
    /// Reads an EphemeralRunnerSet; `None` if it is none, or nobody's.
    pub fn read(object: &serde_json::Value) -> Option<Self> {
        let Set { metadata, spec, status } = Set::deserialize(object).ok()?;
        Some(Self {
            owner: metadata.controller("AutoscalingRunnerSet")?.name.clone(),
            uid: metadata.uid,
            namespace: metadata.namespace,
            name: metadata.name,
            stored: Stored::read(spec.replicas, spec.patch_id),
            generation: metadata.generation,
            counted: usize::try_from(status.current_replicas).unwrap_or(0),
            is_deleting: metadata.deletion_timestamp.is_some(),
            is_outdated: status.phase == "Outdated",
        })
    }
}

impl RunnerView {
    /// Reads an EphemeralRunner; `None` if it is none, or belongs to no set.
    pub fn read(object: &serde_json::Value) -> Option<Self> {
        let Runner { metadata, status } = Runner::deserialize(object).ok()?;
        let is_done = matches!(status.phase.as_str(), "Succeeded" | "Outdated");
        Some(Self {
            set: metadata.controller("EphemeralRunnerSet")?.uid.clone(),
            stamp: metadata.annotations.get(PATCH_ID).and_then(|stamp| stamp.parse().ok()),
            is_live: metadata.deletion_timestamp.is_none() && !is_done,
            name: metadata.name,
            uid: metadata.uid,
        })
    }
}

#[cfg(test)]
mod tests {
    use headstart_externals::pin::Generation;
    use serde_json::{Value, json};

    use super::*;

    fn set(change: impl FnOnce(&mut Value)) -> Value {
        let mut set = json!({
            "metadata": {
                "name": "s", "namespace": "n", "uid": "u", "generation": 3,
                "ownerReferences": [{ "kind": "AutoscalingRunnerSet", "name": "a", "uid": "x", "controller": true }],
            },
            "spec": { "patchID": 7, "replicas": 5, "ephemeralRunnerSpec": {} },
        });
        change(&mut set);
        set
    }

    #[test]
    fn absent_fields_of_a_set_mean_zero() {
        let view = SetView::read(&set(|_| {})).unwrap();
        assert_eq!((view.stored, view.counted), (Stored::Raw { replicas: 5, patch_id: 7 }, 0));
        assert!(!view.is_deleting && !view.is_outdated);
        let generation = Generation { replicas: 9, patch_id: 4 };
        let view = SetView::read(&set(|set| {
            set["spec"] = json!({ "patchID": generation.pinned() });
            set["status"] = json!({ "currentReplicas": 2, "phase": "Outdated" });
            set["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }))
        .unwrap();
        assert_eq!((view.stored, view.counted), (Stored::Pinned(generation), 2));
        assert!(view.is_deleting && view.is_outdated && view.owner == "a");
        assert_eq!(SetView::read(&set(|set| set["metadata"]["ownerReferences"] = json!([]))), None);
    }

    #[test]
    fn what_arc_counts_is_live() {
        let runner = |phase: &str, deleting: bool| {
            let mut runner = json!({
                "metadata": {
                    "name": "r", "uid": "v", "annotations": { PATCH_ID: "6" },
                    "ownerReferences": [{ "kind": "EphemeralRunnerSet", "name": "s", "uid": "u", "controller": true }],
                },
                "status": { "phase": phase },
            });
            if deleting {
                runner["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            }
            RunnerView::read(&runner).unwrap()
        };
        for (phase, is_live) in [
            ("", true),
            ("Pending", true),
            ("Running", true),
            ("Failed", true),
            ("Succeeded", false),
            ("Outdated", false),
        ] {
            assert_eq!(runner(phase, false).is_live, is_live, "{phase}");
            assert!(!runner(phase, true).is_live);
        }
        assert_eq!((runner("", false).stamp, runner("", false).set), (Some(6), "u".to_owned()));
    }
}
