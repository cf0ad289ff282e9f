//! The envelope: AdmissionReview v1 in and out, read without copying and answered with the request's own uid.
//!
//! The answer type is our own: the API documents the patch as base64 text, which the client library's type is not.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use json_patch::PatchOperation;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// A request as posted by the API server; the pod itself stays unread.
#[derive(Debug, Deserialize)]
struct ReviewIn<'a> {
    #[serde(rename = "apiVersion", borrow, default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    request: Option<Request<'a>>,
}

/// What a decision needs of a request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request<'a> {
    /// Must be in the answer; never empty.
    #[serde(borrow, default)]
    pub uid: Cow<'a, str>,
    /// Empty for cluster-wide objects.
    #[serde(borrow, default)]
    pub namespace: Cow<'a, str>,
    /// `CREATE`, `UPDATE`, …
    #[serde(borrow, default)]
    pub operation: Cow<'a, str>,
    /// The type of the object.
    #[serde(borrow, default)]
    pub kind: GroupVersionKind<'a>,
    /// The object, unread; absent for deletions.
    #[serde(borrow)]
    pub object: Option<&'a RawValue>,
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
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    api_version: &'static str,
    kind: &'static str,
    response: Response,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: BTreeMap<&'static str, String>,
}

impl<'a> Request<'a> {
    /// Reads the envelope of `body`.
    pub fn parse(body: &'a [u8]) -> Result<Self, NotAReview> {
        let review: ReviewIn<'a> =
            serde_json::from_slice(body).map_err(|error| NotAReview::Shape(error.to_string()))?;
        if review.kind != KIND || review.api_version != API_VERSION {
            let (kind, api_version) = (review.kind.into_owned(), review.api_version.into_owned());
            return Err(NotAReview::Kind { kind, api_version });
        }
        review.request.filter(|request| !request.uid.is_empty()).ok_or(NotAReview::NoUid)
    }

    /// Whether this creates a pod.
    pub fn creates_pod(&self) -> bool {
        let kind = &self.kind;
        self.operation == "CREATE" && kind.kind == "Pod" && kind.version == "v1" && kind.group.is_empty()
    }
}

impl Answer {
    /// Allows the request, with `patch` if it is not empty; `note` goes into the audit log.
    pub fn allow(uid: &str, patch: &[PatchOperation], note: String) -> Self {
        let text = (!patch.is_empty()).then(|| serde_json::to_vec(patch).ok()).flatten();
        let response = Response {
            uid: uid.to_owned(),
            allowed: true,
            patch_type: text.is_some().then_some("JSONPatch"),
            patch: text.map(|text| BASE64_STANDARD.encode(text)),
            audit_annotations: BTreeMap::from([("decision", note)]),
        };
        Self { api_version: API_VERSION, kind: KIND, response }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<(String, bool), NotAReview> {
        Request::parse(body.as_bytes()).map(|request| (request.uid.to_string(), request.creates_pod()))
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
        let answer = serde_json::to_value(Answer::allow("u", &[], "not-arc".to_owned())).unwrap();
        let expected = serde_json::json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "response": {"uid": "u", "allowed": true, "auditAnnotations": {"decision": "not-arc"}},
        });
        assert_eq!(answer, expected);
    }
}
