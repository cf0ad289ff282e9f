//! A review of a runner set, read without copying. Of the set, which is large since it holds a pod template, and of the set
//! as it was, only the few fields are looked at that a decision needs; the rest is passed over.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::decide::{Old, PinRequest};
use super::reason::PinReason;
use crate::review::{GroupVersionKind, Identified, NotAReview, parse_as, text};

/// A request about a runner set, as far as it is needed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
struct Request<'a, O> {
    #[serde(borrow, default)]
    uid: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Cow<'a, str>,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    operation: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: GroupVersionKind<'a>,
    #[serde(borrow, default)]
    sub_resource: Cow<'a, str>,
    #[serde(default)]
    dry_run: Option<bool>,
    #[serde(borrow, default)]
    user_info: User<'a>,
    object: Option<O>,
    old_object: Option<O>,
}

#[derive(Default, Deserialize)]
struct User<'a> {
    #[serde(borrow, default)]
    username: Cow<'a, str>,
}

/// What is looked at of a set.
#[derive(Deserialize)]
struct Set<'a> {
    #[serde(borrow)]
    metadata: Strict<Metadata<'a>>,
    spec: Strict<Spec>,
    #[serde(borrow)]
    status: Option<Strict<Status<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    #[serde(borrow)]
    uid: Cow<'a, str>,
    deletion_timestamp: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Spec {
    replicas: Option<i64>,
    #[serde(rename = "patchID")]
    patch_id: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    current_replicas: Option<i64>,
    #[serde(borrow, default)]
    phase: Cow<'a, str>,
}

/// A map, and nothing else: a struct may be read from a list as well, to which an edit would not apply.
struct Strict<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Strict<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OfMap(PhantomData)).map(Self)
    }
}

struct OfMap<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OfMap<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// A review that can be answered.
pub struct Review<'a> {
    /// Must be in the answer.
    pub uid: Cow<'a, str>,
    /// Of the set.
    pub namespace: Cow<'a, str>,
    /// Of the set.
    pub name: Cow<'a, str>,
    /// What to decide over, or why there is nothing.
    pub asked: Result<PinRequest<'a>, PinReason>,
}

impl<O> Identified for Request<'_, O> {
    fn uid(&self) -> &str {
        &self.uid
    }
}

impl<'a> Review<'a> {
    /// Reads a body; with the sets in it only if there is to be a decision.
    pub fn parse(body: &'a [u8], with_sets: bool) -> Result<Self, NotAReview> {
        let body = text(body)?;
        if with_sets && let Ok(request) = parse_as::<Request<'_, Strict<Set<'_>>>>(body) {
            return Ok(request.review(|request| {
                let (Some(new), Some(old)) = (&request.object, &request.old_object) else {
                    return Err(PinReason::Unreadable);
                };
                Ok(asked(request, &new.0, &old.0))
            }));
        }
        let request = parse_as::<Request<'_, IgnoredAny>>(body)?;
        Ok(request.review(|_| Err(PinReason::Unreadable)))
    }
}

impl<'a, O> Request<'a, O> {
    /// Whether this may change the spec of a runner set.
    fn writes_a_spec(&self) -> bool {
        let GroupVersionKind { group, kind, .. } = &self.kind;
        let is_set = group == "actions.github.com" && kind == "EphemeralRunnerSet";
        is_set && self.operation == "UPDATE" && self.sub_resource.is_empty()
    }

    fn review(self, asked: impl FnOnce(&Self) -> Result<PinRequest<'a>, PinReason>) -> Review<'a> {
        let asked = if self.writes_a_spec() { asked(&self) } else { Err(PinReason::NotARunnerSet) };
        Review { uid: self.uid, namespace: self.namespace, name: self.name, asked }
    }
}

fn asked<'a>(request: &Request<'a, Strict<Set<'a>>>, new: &Set<'a>, old: &Set<'a>) -> PinRequest<'a> {
    let is_outdated = |set: &Set<'_>| set.status.as_ref().is_some_and(|status| status.0.phase == "Outdated");
    let current = old.status.as_ref().and_then(|status| status.0.current_replicas);
    PinRequest {
        uid: old.metadata.0.uid.clone(),
        user: request.user_info.username.clone(),
        is_dry_run: request.dry_run.unwrap_or_default(),
        replicas: new.spec.0.replicas.unwrap_or_default(),
        patch_id: new.spec.0.patch_id,
        is_deleting: new.metadata.0.deletion_timestamp.is_some()
            || old.metadata.0.deletion_timestamp.is_some(),
        is_outdated: is_outdated(new) || is_outdated(old),
        old: Old {
            replicas: old.spec.0.replicas.unwrap_or_default(),
            patch_id: old.spec.0.patch_id,
            current_replicas: current.unwrap_or_default(),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn review() -> Value {
        let kind =
            json!({ "group": "actions.github.com", "version": "v1alpha1", "kind": "EphemeralRunnerSet" });
        let set = |spec: Value| {
            json!({
                "metadata": { "uid": "s", "name": "set", "managedFields": [{}] }, "spec": spec,
                "status": { "currentReplicas": 3, "phase": "Running" },
            })
        };
        json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "u", "operation": "UPDATE", "kind": kind, "namespace": "n", "name": "set", "dryRun": false,
                "userInfo": { "username": "system:serviceaccount:arc:l", "groups": ["g"] },
                "object": set(json!({ "replicas": 5, "patchID": 7, "ephemeralRunnerSpec": { "spec": {} } })),
                "oldObject": set(json!({ "replicas": 3, "patchID": 6 })),
            },
        })
    }

    fn asked(review: &Value) -> Result<PinRequest<'static>, PinReason> {
        let text = review.to_string();
        let review = Review::parse(text.as_bytes(), true).unwrap();
        assert_eq!(review.uid, "u");
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        review.asked.map(|asked| PinRequest { uid: own(asked.uid), user: own(asked.user), ..asked })
    }

    fn with(path: &str, value: Value) -> Result<PinRequest<'static>, PinReason> {
        let mut review = review();
        *review.pointer_mut(path).unwrap() = value;
        asked(&review)
    }

    #[test]
    fn what_is_needed_is_read() {
        let expected = PinRequest {
            uid: "s".into(),
            user: "system:serviceaccount:arc:l".into(),
            is_dry_run: false,
            replicas: 5,
            patch_id: 7,
            is_deleting: false,
            is_outdated: false,
            old: Old { replicas: 3, patch_id: 6, current_replicas: 3 },
        };
        assert_eq!(asked(&review()), Ok(expected.clone()));
        let changed = |path, value| with(path, value).unwrap();
        assert_eq!(changed("/request/object/spec/replicas", json!(null)).replicas, 0);
        assert!(changed("/request/dryRun", json!(true)).is_dry_run);
        let deleting = json!({ "uid": "s", "deletionTimestamp": "2026-01-01T00:00:00Z" });
        assert!(changed("/request/object/metadata", deleting.clone()).is_deleting);
        assert!(changed("/request/oldObject/metadata", deleting).is_deleting);
        assert!(changed("/request/oldObject/status/phase", json!("Outdated")).is_outdated);
        assert!(changed("/request/object/status/phase", json!("Outdated")).is_outdated);
        for (path, status) in
            [("/request/oldObject/status", json!(null)), ("/request/oldObject/status", json!({}))]
        {
            assert_eq!(changed(path, status).old.current_replicas, 0);
        }
        let mut bare = review();
        for object in ["object", "oldObject"] {
            bare["request"][object].as_object_mut().unwrap().remove("status");
        }
        assert_eq!(asked(&bare).unwrap().old, Old { current_replicas: 0, ..expected.old });
    }

    #[test]
    fn other_requests_are_none_of_ours() {
        for (path, value) in [
            ("/request/operation", json!("CREATE")),
            ("/request/operation", json!("DELETE")),
            ("/request/kind/kind", json!("EphemeralRunner")),
            ("/request/kind/group", json!("")),
        ] {
            assert_eq!(with(path, value.clone()), Err(PinReason::NotARunnerSet), "{path} {value}");
        }
        let mut status = review();
        status["request"]["subResource"] = json!("status");
        assert_eq!(asked(&status), Err(PinReason::NotARunnerSet));
    }

    #[test]
    fn sets_that_cannot_be_read_leave_a_review_that_can_be_answered() {
        for path in ["/request/object", "/request/oldObject"] {
            for (below, value) in [
                ("", json!(null)),
                ("", json!([])),
                ("/spec", json!([5, 7])),
                ("/spec", json!(null)),
                ("/spec/patchID", json!("7")),
                ("/spec/replicas", json!(5.5)),
                ("/metadata", json!(["s"])),
                ("/metadata/uid", json!(null)),
                ("/status", json!([3])),
            ] {
                let path = format!("{path}{below}");
                assert_eq!(with(&path, value.clone()), Err(PinReason::Unreadable), "{path} {value}");
            }
        }
        assert!(Review::parse(review().to_string().as_bytes(), false).unwrap().asked.is_err());
    }

    #[test]
    fn what_is_no_review_is_refused() {
        for body in [
            &b"{}"[..],
            b"<html>",
            b"\xff",
            br#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#,
        ] {
            assert!(Review::parse(body, true).is_err());
        }
    }
}
