//! ARC's kinds, with only the fields that are needed here: the rest, pod templates above all, is passed over unread.

use std::borrow::Cow;

use headstart_externals::pin::Stored;
use kube::core::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

use super::view::{PATCH_ID, RunnerView, SetView};

/// An AutoscalingRunnerSet.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Owner {
    /// Its metadata.
    pub metadata: ObjectMeta,
}

/// An AutoscalingListener.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Listener {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Whom it listens for.
    #[serde(default)]
    pub spec: ListenerSpec,
}

/// Whom a listener listens for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListenerSpec {
    /// Namespace of the AutoscalingRunnerSet.
    pub autoscaling_runner_set_namespace: String,
    /// Its name.
    pub autoscaling_runner_set_name: String,
    /// The EphemeralRunnerSet that it writes.
    pub ephemeral_runner_set_name: String,
}

/// An EphemeralRunnerSet.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct RunnerSet {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What it asks for; kept as it is, since runners are made from it.
    #[serde(default)]
    pub spec: Value,
    /// What ARC has counted.
    #[serde(default)]
    pub status: SetStatus,
}

/// What ARC says of a set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SetStatus {
    /// `currentReplicas`.
    pub current_replicas: i64,
    /// `phase`.
    pub phase: String,
}

/// An EphemeralRunner.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Runner {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// How far it is.
    #[serde(default)]
    pub status: RunnerStatus,
}

/// How far a runner is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RunnerStatus {
    /// `phase`.
    pub phase: String,
}

/// Kinds of `actions.github.com/v1alpha1`.
macro_rules! kinds {
    ($($type:ident, $kind:literal, $plural:literal;)+) => {
        $(impl kube::Resource for $type {
            type DynamicType = ();
            type Scope = kube::core::NamespaceResourceScope;

            fn kind(_: &()) -> Cow<'_, str> {
                $kind.into()
            }

            fn group(_: &()) -> Cow<'_, str> {
                "actions.github.com".into()
            }

            fn version(_: &()) -> Cow<'_, str> {
                "v1alpha1".into()
            }

            fn plural(_: &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        })+
    };
}

kinds! {
    Owner, "AutoscalingRunnerSet", "autoscalingrunnersets";
    Listener, "AutoscalingListener", "autoscalinglisteners";
    RunnerSet, "EphemeralRunnerSet", "ephemeralrunnersets";
    Runner, "EphemeralRunner", "ephemeralrunners";
}

/// Name and UID of the controlling owner, if it is of that kind.
fn controller(metadata: &ObjectMeta, kind: &str) -> Option<(String, String)> {
    let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    (owner.kind == kind).then(|| (owner.name.clone(), owner.uid.clone()))
}

impl RunnerSet {
    /// As decisions see it; `None` if it is nobody's.
    pub fn view(&self) -> Option<SetView> {
        let number = |field: &str| self.spec[field].as_i64().unwrap_or(0);
        let metadata = &self.metadata;
        Some(SetView {
            uid: metadata.uid.clone()?,
            namespace: metadata.namespace.clone()?,
            name: metadata.name.clone()?,
            owner: controller(metadata, "AutoscalingRunnerSet")?.0,
            stored: Stored::read(number("replicas"), number("patchID")),
            generation: metadata.generation.unwrap_or(0),
            counted: usize::try_from(self.status.current_replicas).unwrap_or(0),
            is_deleting: metadata.deletion_timestamp.is_some(),
            is_outdated: self.status.phase == "Outdated",
        })
    }

    /// The whole object again, to make runners from.
    pub fn object(&self) -> Value {
        serde_json::json!({ "metadata": self.metadata, "spec": self.spec })
    }
}

impl Runner {
    /// As decisions see it; `None` if it belongs to no set.
    pub fn view(&self) -> Option<RunnerView> {
        let metadata = &self.metadata;
        let stamp = metadata.annotations.as_ref().and_then(|annotations| annotations.get(PATCH_ID));
        let is_done = matches!(self.status.phase.as_str(), "Succeeded" | "Outdated");
        Some(RunnerView {
            name: metadata.name.clone()?,
            uid: metadata.uid.clone()?,
            set: controller(metadata, "EphemeralRunnerSet")?.1,
            stamp: stamp.and_then(|stamp| stamp.parse().ok()),
            is_live: metadata.deletion_timestamp.is_none() && !is_done,
        })
    }
}

#[cfg(test)]
mod tests {
    use headstart_externals::pin::Generation;
    use serde_json::json;

    use super::*;

    fn set(change: impl FnOnce(&mut Value)) -> Option<SetView> {
        let mut set = json!({
            "metadata": {
                "name": "s", "namespace": "n", "uid": "u", "generation": 3,
                "ownerReferences": [{
                    "apiVersion": "x", "kind": "AutoscalingRunnerSet", "name": "a", "uid": "x", "controller": true,
                }],
            },
            "spec": { "patchID": 7, "replicas": 5, "ephemeralRunnerSpec": {} },
        });
        change(&mut set);
        serde_json::from_value::<RunnerSet>(set).unwrap().view()
    }

    #[test]
    fn absent_fields_of_a_set_mean_zero() {
        let view = set(|_| {}).unwrap();
        assert_eq!((view.stored, view.counted), (Stored::Raw { replicas: 5, patch_id: 7 }, 0));
        assert!(!view.is_deleting && !view.is_outdated);
        let generation = Generation { replicas: 9, patch_id: 4 };
        let view = set(|set| {
            set["spec"] = json!({ "patchID": generation.pinned() });
            set["status"] = json!({ "currentReplicas": 2, "phase": "Outdated" });
            set["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        })
        .unwrap();
        assert_eq!((view.stored, view.counted), (Stored::Pinned(generation), 2));
        assert!(view.is_deleting && view.is_outdated && view.owner == "a");
        assert_eq!(set(|set| set["metadata"]["ownerReferences"] = json!([])), None);
    }

    #[test]
    fn what_arc_counts_is_live() {
        let runner = |phase: &str, is_deleting: bool| {
            let mut runner = json!({
                "metadata": {
                    "name": "r", "uid": "v", "annotations": { PATCH_ID: "6" },
                    "ownerReferences": [{
                        "apiVersion": "x", "kind": "EphemeralRunnerSet", "name": "s", "uid": "u", "controller": true,
                    }],
                },
                "status": { "phase": phase },
            });
            if is_deleting {
                runner["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            }
            serde_json::from_value::<Runner>(runner).unwrap().view().unwrap()
        };
        let live = ["", "Pending", "Running", "Failed"].map(|phase| (phase, true));
        let done = ["Succeeded", "Outdated"].map(|phase| (phase, false));
        for (phase, is_live) in live.into_iter().chain(done) {
            assert_eq!(runner(phase, false).is_live, is_live, "{phase}");
            assert!(!runner(phase, true).is_live);
        }
        assert_eq!((runner("", false).stamp, runner("", false).set), (Some(6), "u".to_owned()));
    }
}
