//! The recorded AdmissionReviews that the demo sends, and what the answers make of their pods.

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use headstart_externals::names::VERSION_LABEL;
use serde_json::{Value, json};

/// What each review is, and its body.
const RECORDED: [(&str, &str); 8] = [
    (
        "runner pod, hooks that copy (chart mode kubernetes)",
        include_str!("../../../tests/fixtures/admission/runner-kubernetes.json"),
    ),
    (
        "runner pod, hooks that do not copy (kubernetes-novolume)",
        include_str!("../../../tests/fixtures/admission/runner-novolume.json"),
    ),
    ("runner pod, Docker in Docker", include_str!("../../../tests/fixtures/admission/runner-dind.json")),
    (
        "workflow pod of hooks 0.8.1",
        include_str!("../../../tests/fixtures/admission/workflow-current-v0.8.1.json"),
    ),
    ("workflow pod of hooks 0.7.0", LEGACY_WORKFLOW),
    (
        "container step of hooks 0.7.0",
        include_str!("../../../tests/fixtures/admission/step-legacy-v0.7.0.json"),
    ),
    (
        "container step of current hooks",
        include_str!("../../../tests/fixtures/admission/step-current-HEAD.json"),
    ),
    (
        "a pod that has nothing to do with it",
        include_str!("../../../tests/fixtures/admission/bystander.json"),
    ),
];

const LEGACY_WORKFLOW: &str = include_str!("../../../tests/fixtures/admission/workflow-legacy-v0.7.0.json");

/// One review.
pub(crate) struct Review {
    pub(crate) title: String,
    pub(crate) body: Value,
}

/// What became of its pod.
pub(crate) struct Answer {
    /// Rule and reason.
    pub(crate) decision: String,
    pub(crate) before: Value,
    pub(crate) after: Value,
}

/// All reviews; the legacy workflow pod also with the version label that a paired runner's template sets.
pub(crate) fn all(status: &Value) -> anyhow::Result<Vec<Review>> {
    let mut reviews = Vec::new();
    for (title, text) in RECORDED {
        reviews.push(Review { title: title.to_owned(), body: serde_json::from_str(text)? });
    }
    let mut body: Value = serde_json::from_str(LEGACY_WORKFLOW)?;
    body["request"]["object"]["metadata"]["labels"][VERSION_LABEL] = status["versions"][0]["name"].clone();
    let labelled = Review { title: "the same, with its runner's version label".to_owned(), body };
    let at =
        RECORDED.iter().position(|(_, text)| *text == LEGACY_WORKFLOW).map_or(reviews.len(), |at| at + 1);
    reviews.insert(at, labelled);
    Ok(reviews)
}

/// A review that can be sent by hand.
pub(crate) fn sample() -> &'static str {
    RECORDED[0].1
}

impl Answer {
    /// Reads the webhook's answer and applies its patch, as the API server would.
    pub(crate) fn read(review: &Review, answer: Value) -> anyhow::Result<Self> {
        let response = &answer["response"];
        anyhow::ensure!(response["allowed"] == json!(true), "the webhook denied a pod: {answer}");
        anyhow::ensure!(
            response["uid"] == review.body["request"]["uid"],
            "the answer is for another request"
        );
        let before = review.body["request"]["object"].clone();
        let mut after = before.clone();
        if let Some(patch) = response["patch"].as_str() {
            let patch: json_patch::Patch = serde_json::from_slice(&BASE64_STANDARD.decode(patch)?)?;
            json_patch::patch(&mut after, &patch).context("the patch does not apply")?;
        }
        let decision = response["auditAnnotations"]["decision"].as_str().unwrap_or_default().to_owned();
        Ok(Self { decision, before, after })
    }
}
