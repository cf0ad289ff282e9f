//! SourceRecord: what a stage run left on a node for one version; a contract between `headstart-cachesync stage` and
//! the agent, versioned.
//!
//! Readers ignore fields they do not know and read unknown words as `Unknown`.

use serde::{Deserialize, Serialize};

use crate::fault::FaultReason;
use crate::names::API_VERSION;
use crate::version::VersionName;

/// Where a version was staged from and how that went; written last, so its presence says that the run was finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceRecord {
    /// [`API_VERSION`].
    pub api_version: String,
    /// `StagedSource`.
    pub kind: String,
    /// The runner image in which the stage ran, as its pod spells it.
    pub image: String,
    /// The version that it is for.
    pub version: VersionName,
    /// How it went.
    pub outcome: StageOutcome,
}

/// How a stage run went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum StageOutcome {
    /// The kept entries lie beside the record.
    Staged {
        /// Digest of the tree, as in a manifest.
        tree_sha256: String,
        /// What was seen in the image besides.
        findings: Findings,
    },
    /// The image cannot be the source; nothing lies beside the record.
    Refused {
        /// The reason code.
        reason: FaultReason,
        /// The path, and the cause.
        message: String,
    },
}

/// What a stage run saw in its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    /// Whether the image brings a hook template of its own.
    pub own_template: TemplateFinding,
}

/// Whether a hook template was found in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TemplateFinding {
    /// There is none.
    None,
    /// There is one, or nobody can say that there is none.
    Present,
    /// A finding that only a newer program knows; read, never written.
    #[serde(other)]
    Unknown,
}

impl SourceRecord {
    /// The record of a run in `image` for `version`.
    pub fn new(image: &str, version: &VersionName, outcome: StageOutcome) -> Self {
        Self {
            api_version: API_VERSION.to_owned(),
            kind: "StagedSource".to_owned(),
            image: image.to_owned(),
            version: version.clone(),
            outcome,
        }
    }

    /// Reads a record; the error says what is wrong in words.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let record: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if record.api_version != API_VERSION || record.kind != "StagedSource" {
            return Err(format!("is a {} of {}", record.kind, record.api_version));
        }
        Ok(record)
    }

    /// Digest and findings, if `version` was staged from exactly this `image`.
    pub fn staged_from(&self, image: &str, version: &VersionName) -> Option<(&str, Findings)> {
        match &self.outcome {
            StageOutcome::Staged { tree_sha256, findings }
                if self.image == image && self.version == *version =>
            {
                Some((tree_sha256, *findings))
            }
            _ => None,
        }
    }
}
