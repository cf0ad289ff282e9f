//! The envelope: AdmissionReview v1 in and out, read without copying and answered with the request's own uid.
//!
//! The answer type is our own: the API documents the patch as base64 text, which the client library's type is not.

use std::borrow::Cow;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use json_patch::PatchOperation;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::object::Unmanaged;
use crate::reason::{Outcome, Reason};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// A review as posted by the API server.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "R: Deserialize<'de>"))]
struct ReviewIn<'a, R> {
    #[serde(rename = "apiVersion", borrow, default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    request: Option<R>,
}

/// What a decision needs of a request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
pub struct Request<'a, O = Object<'a>> {
    /// Must be in the answer; never empty.
    #[serde(borrow, default)]
    pub uid: Cow<'a, str>,
    /// Empty for cluster-wide objects.
    #[serde(borrow, default)]
    pub namespace: Cow<'a, str>,
    /// Empty where the API server is still to make it, from `generateName`.
    #[serde(borrow, default)]
    pub name: Cow<'a, str>,
    /// `CREATE`, `UPDATE`, …
    #[serde(borrow, default)]
    pub operation: Cow<'a, str>,
    /// The type of the object.
    #[serde(borrow, default)]
    pub kind: GroupVersionKind<'a>,
    /// What it is about.
    pub object: O,
}

/// The object of a request.
#[derive(Debug)]
pub enum Object<'a> {
    /// There is none, as with deletions.
    Absent,
    /// Its text, for requests that need no look at it, and where it is no JSON that can be read.
    Unread(&'a RawValue),
    /// The object itself, without its managed fields.
    Read(Value),
}

/// A type of the Kubernetes API.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct GroupVersionKind<'a> {
    /// Empty for the core group.
    #[serde(borrow)]
    pub group: Cow<'a, str>,
    /// As in `v1`.
    #[serde(borrow)]
    pub version: Cow<'a, str>,
    /// As in `Pod`.
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
}

/// Why a body is not a review that can be answered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAReview {
    /// Not JSON, or of another shape.
    #[error("the body is not an AdmissionReview: {0}")]
    Shape(String),
    /// Another kind of document.
    #[error("expected kind AdmissionReview of admission.k8s.io/v1, got {kind:?} of {api_version:?}")]
    Kind {
        /// `kind` of the body.
        kind: String,
        /// `apiVersion` of the body.
        api_version: String,
    },
    /// No request, or one that cannot be answered.
    #[error("the AdmissionReview has no request with a uid")]
    NoUid,
}

/// The answer; always allowed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer<'a> {
    /// That of the request.
    pub uid: &'a str,
    /// The edits; none if the object stays as it is.
    pub patch: &'a [PatchOperation],
    /// What was decided, for the audit log.
    pub decision: &'a str,
    /// The version that the pod was given, for the audit log.
    pub version: Option<&'a str>,
    /// Shown to whoever sent the request.
    pub warning: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReviewOut<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    audit_annotations: AuditAnnotations<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<[&'a str; 1]>,
}

#[derive(Serialize)]
struct AuditAnnotations<'a> {
    decision: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
}

impl<'a> Request<'a> {
    /// Reads the envelope of `body`, and the object in the same pass if `with_object`.
    pub fn parse(body: &'a [u8], with_object: bool) -> Result<Self, NotAReview> {
        let body = text(body)?;
        if with_object && let Ok(request) = parse_as::<Request<'_, Option<Unmanaged>>>(body) {
            return Ok(request.with(|object| object.map_or(Object::Absent, |object| Object::Read(object.0))));
        }
        let request = parse_as::<Request<'_, Option<&RawValue>>>(body)?;
        Ok(request.with(|object| object.map_or(Object::Absent, Object::Unread)))
    }

    /// Whether this creates a pod.
    pub fn creates_pod(&self) -> bool {
        let kind = &self.kind;
        self.operation == "CREATE" && kind.kind == "Pod" && kind.version == "v1" && kind.group.is_empty()
    }

    /// The object's name, or what it is to begin with.
    pub fn object_name(&self) -> Cow<'_, str> {
        if !self.name.is_empty() {
            return Cow::Borrowed(&self.name);
        }
        let Named { metadata } = match &self.object {
            Object::Absent => Named::default(),
            Object::Unread(text) => serde_json::from_str(text.get()).unwrap_or_default(),
            Object::Read(object) => Named::deserialize(object).unwrap_or_default(),
        };
        if metadata.name.is_empty() { metadata.generate_name } else { metadata.name }
    }
}

impl<'a, O> Request<'a, O> {
    fn with<P>(self, object: impl FnOnce(O) -> P) -> Request<'a, P> {
        let Self { uid, namespace, name, operation, kind, object: old } = self;
        Request { uid, namespace, name, operation, kind, object: object(old) }
    }
}

/// What every request has.
pub(crate) trait Identified {
    /// Its uid; empty where there is none.
    fn uid(&self) -> &str;
}

impl<O> Identified for Request<'_, O> {
    fn uid(&self) -> &str {
        &self.uid
    }
}

/// A body as text, checked once for all strings in it.
pub(crate) fn text(body: &[u8]) -> Result<&str, NotAReview> {
    std::str::from_utf8(body).map_err(|error| NotAReview::Shape(error.to_string()))
}

/// The request in a review, as far as somebody needs it.
pub(crate) fn parse_as<'a, R: Deserialize<'a> + Identified>(body: &'a str) -> Result<R, NotAReview> {
    let review: ReviewIn<'a, R> =
        serde_json::from_str(body).map_err(|error| NotAReview::Shape(error.to_string()))?;
    if review.kind != KIND || review.api_version != API_VERSION {
        let (kind, api_version) = (review.kind.into_owned(), review.api_version.into_owned());
        return Err(NotAReview::Kind { kind, api_version });
    }
    review.request.filter(|request| !request.uid().is_empty()).ok_or(NotAReview::NoUid)
}

/// The part of an object that names it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Named<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    generate_name: Cow<'a, str>,
}

/// What an answer takes besides its patch.
const ENVELOPE: usize = 512;

impl Answer<'_> {
    /// The answer as JSON. An empty patch is left out, as is its type: the API server wants both or neither.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let patch = match self.patch {
            [] => None,
            patch => Some(BASE64_STANDARD.encode(serde_json::to_vec(patch)?)),
        };
        let mut text = Vec::with_capacity(ENVELOPE + patch.as_ref().map_or(0, String::len));
        let response = Response {
            uid: self.uid,
            allowed: true,
            patch_type: patch.as_ref().map(|_| "JSONPatch"),
            patch,
            audit_annotations: AuditAnnotations { decision: self.decision, version: self.version },
            warnings: self.warning.map(|warning| [warning]),
        };
        serde_json::to_writer(&mut text, &ReviewOut { api_version: API_VERSION, kind: KIND, response })?;
        Ok(text)
    }
}

/// The API server cuts off what is longer, in characters.
const MAX_WARNING: usize = 256;

/// What to tell whoever creates a pod: that it was left alone, where its namespace asked for the cache.
pub fn warning(reason: Reason) -> Option<String> {
    (reason.outcome() == Outcome::Withheld).then(|| {
        let (meaning, remedy) = (reason.meaning(), reason.remedy());
        shortened(format!("headstart: pod left unchanged ({reason}): {meaning}; {remedy}"))
    })
}

fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_WARNING) {
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<(String, bool), NotAReview> {
        Request::parse(body.as_bytes(), false).map(|request| (request.uid.to_string(), request.creates_pod()))
    }

    fn review(request: &str) -> String {
        format!(r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{request}}}"#)
    }

    #[test]
    fn only_creations_of_pods_are_looked_at() {
        let pod = r#""kind":{"group":"","version":"v1","kind":"Pod"}"#;
        let request = |operation: &str| review(&format!(r#"{{"uid":"u","operation":"{operation}",{pod}}}"#));
        assert_eq!(parse(&request("CREATE")), Ok(("u".to_owned(), true)));
        assert_eq!(parse(&request("UPDATE")), Ok(("u".to_owned(), false)));
    }

    #[test]
    fn bodies_that_cannot_be_answered_say_why() {
        assert!(matches!(parse("<html>"), Err(NotAReview::Shape(_))));
        assert!(matches!(parse("[]"), Err(NotAReview::Shape(_) | NotAReview::Kind { .. })));
        assert!(matches!(parse(r#"{"kind":"Pod","apiVersion":"v1"}"#), Err(NotAReview::Kind { .. })));
        assert_eq!(parse(&review("{}")), Err(NotAReview::NoUid));
        assert_eq!(parse(&review(r#"{"uid":""}"#)), Err(NotAReview::NoUid));
        assert_eq!(parse(&review("null")), Err(NotAReview::NoUid));
    }

    #[test]
    fn an_answer_without_a_patch_has_neither_patch_nor_type() {
        let answer = Answer { uid: "u", decision: "not-arc", ..Answer::default() };
        let expected = serde_json::json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "response": {"uid": "u", "allowed": true, "auditAnnotations": {"decision": "not-arc"}},
        });
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&answer.to_json().unwrap()).unwrap(),
            expected
        );
    }

    #[test]
    fn an_object_that_cannot_be_read_leaves_a_review_that_can_be_answered() {
        let object = |text: &str| review(&format!(r#"{{"uid":"u","object":{text}}}"#));
        let parse = |body: &str| format!("{:?}", Request::parse(body.as_bytes(), true).unwrap().object);
        assert!(parse(&object(r#"{"a":"b"}"#)).starts_with("Read"));
        assert!(parse(&object(r#"{"a":"\ud800"}"#)).starts_with("Unread"), "half a character");
        assert_eq!(parse(&object("null")), "Absent");
        assert_eq!(parse(&review(r#"{"uid":"u"}"#)), "Absent");
    }

    #[test]
    fn pods_are_named_by_what_is_known_of_them() {
        let name = |name: &str, metadata: &str| {
            let body =
                review(&format!(r#"{{"uid":"u","name":"{name}","object":{{"metadata":{metadata}}}}}"#));
            let names = [true, false]
                .map(|read| Request::parse(body.as_bytes(), read).unwrap().object_name().into_owned());
            assert_eq!(names[0], names[1]);
            names[0].clone()
        };
        assert_eq!(name("a", r#"{"name":"b"}"#), "a");
        assert_eq!(name("", r#"{"name":"b","generateName":"c-"}"#), "b");
        assert_eq!(name("", r#"{"generateName":"c-","labels":{"d":"e"}}"#), "c-");
        assert_eq!(name("", "7"), "");
    }

    #[test]
    fn warnings_come_exactly_where_the_cache_was_withheld_and_are_never_cut_off() {
        for reason in Reason::ALL {
            let warning = warning(*reason);
            assert_eq!(warning.is_some(), reason.outcome() == Outcome::Withheld, "{reason}");
            if let Some(text) = warning {
                assert!(text.starts_with(&format!("headstart: pod left unchanged ({reason}): ")), "{text}");
                assert!(text.ends_with(reason.remedy()), "{text} is too long");
                assert!(text.chars().count() <= MAX_WARNING, "{text}");
            }
        }
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(shortened("ü".repeat(300)), "ü".repeat(MAX_WARNING));
        assert_eq!(shortened("ü".repeat(MAX_WARNING)), "ü".repeat(MAX_WARNING));
    }
}
