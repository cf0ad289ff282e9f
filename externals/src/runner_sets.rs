//! PublishedRunnerSets: the runner sets whose scale-ups the webhook may pin; the second part of what is published.
//!
//! It lies in the ConfigMap of the published state under a key of its own, because it changes at other times: a set is taken
//! out at once when its creation fails. The controller's leader is its only writer, and its name is in it: where another
//! process holds the leader's Lease, perhaps one of a release that knows nothing of runner sets, nothing is pinned. Readers
//! ignore fields that they do not know, so fields may be added within `v1` but never change their meaning.

use serde::{Deserialize, Serialize};

use crate::names::API_VERSION;

const KIND: &str = "PublishedRunnerSets";

/// Which sets may be pinned, and on whose word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishedRunnerSets {
    /// [`API_VERSION`].
    pub api_version: String,
    /// `PublishedRunnerSets`.
    pub kind: String,
    /// The leader that wrote it, as it is named in the leader's Lease.
    pub leader: String,
    /// The sets, by UID.
    pub sets: Vec<PublishedRunnerSet>,
}

/// One set whose scale-ups may be pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishedRunnerSet {
    /// UID of the EphemeralRunnerSet.
    pub uid: String,
    /// User name of its listener, as `system:serviceaccount:<namespace>:<name>`; only its writes may be pinned.
    pub listener: String,
}

impl PublishedRunnerSets {
    /// What `leader` publishes.
    pub fn new(leader: impl Into<String>, mut sets: Vec<PublishedRunnerSet>) -> Self {
        sets.sort_by(|one, other| one.uid.cmp(&other.uid));
        Self { api_version: API_VERSION.to_owned(), kind: KIND.to_owned(), leader: leader.into(), sets }
    }

    /// Reads them; the error says what is wrong in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let sets: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if sets.api_version != API_VERSION || sets.kind != KIND {
            return Err(format!("is a {} of {}", sets.kind, sets.api_version));
        }
        Ok(sets)
    }

    /// The set with this UID, if it may be pinned.
    pub fn get(&self, uid: &str) -> Option<&PublishedRunnerSet> {
        self.sets.iter().find(|set| set.uid == uid)
    }
}
