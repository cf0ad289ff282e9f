//! PublishedState: what the webhook may mount; a contract between programs, versioned.
//!
//! The controller's leader is its only writer. Without a controller ("immediate" mode: demo, tests, a single node)
//! it is derived from configuration. Readers ignore fields they do not know, so fields may be added within `v1`
//! but never change their meaning.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::arch::Arch;
use crate::config::{Config, Hooks, Profile, Revision};
use crate::image::ImagePattern;
use crate::names::API_VERSION;
use crate::recipe::{PublishedRecipe, Recipe};
use crate::version::VersionName;

/// Everything that an admission decision depends on, besides the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishedState {
    /// [`API_VERSION`].
    pub api_version: String,
    /// `PublishedState`.
    pub kind: String,
    /// Grows with every change of content; 0 in immediate mode.
    pub generation: u64,
    /// The cache's root folder on every node, absolute.
    pub host_root: String,
    /// The node labels that the agent's DaemonSet selects; empty for all nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Where which volume kind may be used.
    pub allowed: Allowed,
    /// What `auto` means in the namespaces that ask for it, for people; the webhook goes by `allowed`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub auto: BTreeMap<String, AutoKind>,
    /// All versions that pods may carry, in the order of the configuration; then those that agents may delete.
    pub versions: Vec<PublishedVersion>,
}

/// The volume kind that a namespace labelled `auto` gets, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AutoKind {
    /// The kind; absent where pods are left as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<MountKind>,
    /// For people.
    pub reason: String,
}

/// One version and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishedVersion {
    /// Its name; the profile is part of it.
    pub name: VersionName,
    /// Where it is in its life.
    pub phase: Phase,
    /// The runner images that it may stand for, published together with it.
    pub images: Vec<ImagePattern>,
    /// Patterns of the entries that its tree knowingly leaves out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omit: Vec<String>,
    /// What those images' container hooks are like.
    pub hooks: Hooks,
    /// The externals image with the same content, pinned by digest; absent where only hostPath is possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_image: Option<String>,
    /// The architectures that it is made for; empty for all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub arches: BTreeSet<Arch>,
    /// How agents build it where the configuration forgot it although pods may still name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<PublishedRecipe>,
}

/// The life of a version in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// New pods are given this version.
    Offered,
    /// A newer version is offered; pods that name this one still get it.
    Retiring,
    /// No pod names it any more; agents may delete it, and pods never get it.
    Retired,
    /// A phase that only a newer program knows; read, never written, and never given to pods.
    #[serde(other)]
    Unknown,
}

/// How a tree gets into a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A `hostPath` volume of the node's own copy.
    HostPath,
    /// An `image` volume of the externals image.
    Image,
    /// A kind that only a newer program knows; read, never written, never used.
    #[serde(other)]
    Unknown,
}

/// In which namespaces which volume kinds were found to work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Allowed {
    /// Every kind in every namespace: immediate mode.
    Everywhere,
    /// Only these pairs.
    Namespaces(BTreeMap<String, BTreeSet<MountKind>>),
}

impl PublishedState {
    /// The state that follows from configuration alone: every revision is there, the newest of each profile offered.
    pub fn immediate(config: &Config) -> Self {
        let versions = config.profiles.iter().flat_map(|profile| {
            profile.revisions.iter().enumerate().map(move |(at, revision)| {
                let phase = if at == profile.target() { Phase::Offered } else { Phase::Retiring };
                PublishedVersion::of(profile, revision, phase)
            })
        });
        Self {
            api_version: API_VERSION.to_owned(),
            kind: "PublishedState".to_owned(),
            generation: 0,
            host_root: config.host_root.clone(),
            node_selector: config.node_selector.clone(),
            allowed: Allowed::Everywhere,
            auto: BTreeMap::new(),
            versions: versions.collect(),
        }
    }

    /// Reads a state; the error says what is wrong in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let state: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if state.api_version != API_VERSION || state.kind != "PublishedState" {
            return Err(format!("is a {} of {}", state.kind, state.api_version));
        }
        Ok(state)
    }

    /// Whether `kind` may be used in `namespace`.
    pub fn allows(&self, namespace: &str, kind: MountKind) -> bool {
        match &self.allowed {
            Allowed::Everywhere => true,
            Allowed::Namespaces(pairs) => pairs.get(namespace).is_some_and(|kinds| kinds.contains(&kind)),
        }
    }

    /// The version that a pod's label names, if pods may carry it.
    pub fn named(&self, label: &str) -> Option<&PublishedVersion> {
        let usable = |version: &&PublishedVersion| matches!(version.phase, Phase::Offered | Phase::Retiring);
        self.versions.iter().filter(usable).find(|version| version.name.as_str() == label)
    }

    /// Every offered version that may stand for `image`; more than one means that nobody can say which.
    pub fn offered_for<'s>(&'s self, image: &str) -> impl Iterator<Item = &'s PublishedVersion> {
        let offered = self.versions.iter().filter(|version| version.phase == Phase::Offered);
        offered.filter(move |version| version.images.iter().any(|pattern| pattern.matches(image)))
    }
}

impl PublishedVersion {
    /// What the configuration says of a revision.
    pub fn of(profile: &Profile, revision: &Revision, phase: Phase) -> Self {
        let arches = revision.source.arches();
        Self {
            name: revision.version.clone(),
            phase,
            images: revision.images.clone(),
            omit: profile.selection.omit.clone(),
            hooks: profile.hooks.clone(),
            volume_image: revision.volume_image.clone(),
            arches: if Arch::ALL.iter().all(|arch| arches.contains(arch)) { BTreeSet::new() } else { arches },
            recipe: Some(Recipe::of(profile, revision).into()),
        }
    }
}

impl fmt::Display for MountKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostPath => "hostpath",
            Self::Image => "image",
            Self::Unknown => "unknown",
        })
    }
}
