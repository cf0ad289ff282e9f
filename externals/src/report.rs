//! NodeReport: what an agent tells the controller about one node; a contract between programs, versioned.
//!
//! Readers ignore fields they do not know and read unknown words as `Unknown`, so both may be added within `v1` but
//! never change their meaning.

use serde::{Deserialize, Serialize};

use crate::arch::Arch;
use crate::fault::FaultReason;
use crate::names::API_VERSION;
use crate::staged::TemplateFinding;
use crate::version::VersionName;

/// Longest encoded report in bytes: it travels in an annotation and is written by every node.
pub const MAX_BYTES: usize = 4096;

/// Most versions that one report lists.
pub const MAX_VERSIONS: usize = 32;

/// The state of one node's cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeReport {
    /// [`API_VERSION`].
    pub api_version: String,
    /// `NodeReport`.
    pub kind: String,
    /// Name of the Kubernetes node, at most 253 characters.
    pub node: String,
    /// The node's architecture.
    pub arch: Arch,
    /// Version of the agent, as in `0.1.0`.
    pub agent: String,
    /// A fault of the root folder itself; absent while it is usable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultReason>,
    /// How many versions are wanted or on disk, also where the list below is cut.
    pub version_count: usize,
    /// Wanted versions first, then by age.
    pub versions: Vec<VersionReport>,
}

/// The state of one version on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionReport {
    /// Which version.
    pub name: VersionName,
    /// What it is doing.
    pub state: VersionState,
    /// Whether the node's configuration asks for it.
    pub wanted: bool,
    /// Why it is not ready; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<FaultReason>,
    /// The first 16 hex digits of the tree's digest, to compare nodes; absent while there is no tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<String>,
    /// Whether the stage found a hook template of the image's own; absent where no stage looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_template: Option<TemplateFinding>,
    /// How often damage to it was repaired since the agent started.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub repairs: u32,
}

/// The life of a version on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VersionState {
    /// Wanted, not begun.
    Pending,
    /// Being built; nothing of it is visible to pods.
    Installing,
    /// Complete, verified and mountable.
    Ready,
    /// The last attempt failed; it is tried again.
    Failed,
    /// Complete and mountable, but not wanted on this node any more: it stays for the pods that name it.
    Kept,
    /// A state that only a newer program knows; read, never written.
    #[serde(other)]
    Unknown,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl NodeReport {
    /// A report with at most [`MAX_VERSIONS`] versions: wanted ones first, the rest in the order given.
    pub fn new(node: &str, arch: Arch, fault: Option<FaultReason>, mut versions: Vec<VersionReport>) -> Self {
        let version_count = versions.len();
        versions.sort_by_key(|version| !version.wanted);
        versions.truncate(MAX_VERSIONS);
        Self {
            api_version: API_VERSION.to_owned(),
            kind: "NodeReport".to_owned(),
            node: node.to_owned(),
            arch,
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            fault,
            version_count,
            versions,
        }
    }

    /// The report as JSON of at most [`MAX_BYTES`]: versions are left out from the end until it fits.
    pub fn encode(&self) -> String {
        let mut cut = self.clone();
        loop {
            let text = serde_json::to_string(&cut).unwrap_or_default();
            if text.len() <= MAX_BYTES || cut.versions.pop().is_none() {
                return text;
            }
        }
    }

    /// Reads a report; the error says what is wrong in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let report: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if report.api_version != API_VERSION || report.kind != "NodeReport" {
            return Err(format!("is a {} of {}", report.kind, report.api_version));
        }
        Ok(report)
    }
}
