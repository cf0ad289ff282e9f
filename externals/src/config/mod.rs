//! The configuration that all programs read: one YAML file, checked as a whole before anything acts on it.
//!
//! [`Config`] holds validated values only; how they look in the file is in `file`, the rules are in `check`.

mod check;
mod file;
mod preset;
mod problem;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::arch::Arch;
use crate::image::ImagePattern;
use crate::relpath::RelPath;
use crate::selection::Selection;
use crate::version::VersionName;

pub use problem::{Problem, Problems};

/// The configuration that `headstart explain` and `headstart demo` use where none is given: the built-in profile.
const EMBEDDED: &str = include_str!("embedded.yaml");

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The cache's root folder on every node, absolute; default `/var/lib/headstart`.
    pub host_root: String,
    /// Labels of the nodes that run the agent; default: all nodes.
    pub node_selector: BTreeMap<String, String>,
    /// Bounds for what a source may cost.
    pub limits: Limits,
    /// How versions on disk are checked again.
    pub verify: Verify,
    /// How versions are rolled out.
    pub rollout: Rollout,
    /// Keys of the taints that the controller takes from a node once its cache is ready; default none.
    pub startup_taints: BTreeSet<String>,
    /// Where runners are created concurrently, and how much of each.
    pub runner_creation: RunnerCreation,
    /// At least one profile, in the order of the file.
    pub profiles: Vec<Profile>,
}

/// Bounds that keep a wrong or hostile source from filling a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest archive, in bytes as downloaded; default 2 GiB.
    pub archive_bytes: u64,
    /// Largest source, in bytes as unpacked, also of files that are not kept; default 8 GiB.
    pub unpacked_bytes: u64,
    /// Most files, links and folders in a source; default 200,000.
    pub files: u64,
    /// Most bytes that all versions on a node may take together; default 20 GiB.
    pub cache_bytes: u64,
    /// Free bytes on the node's file system that no install may touch; default 512 MiB.
    pub reserve_bytes: u64,
}

/// How versions on disk are read again, to find damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verify {
    /// How often each one is; default a day.
    pub interval: Duration,
    /// Most bytes read per second; default 32 MiB.
    pub bytes_per_second: u64,
}

/// How a new version takes the place of the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// Of a hundred nodes that count, how many must have a version once it has waited for `wait`; default 95.
    pub percent: u8,
    /// How long a version waits for every node that counts; default 10 minutes.
    pub wait: Duration,
    /// How long nobody may have been given a version before it can be retired; default 5 minutes.
    pub grace: Duration,
    /// How long an agent must have known a version to be retired before it deletes it; default 10 minutes.
    pub keep: Duration,
    /// Nothing new is offered and nothing is retired; default false.
    pub paused: bool,
}

/// Where runners are created concurrently, beside the namespaces and runner sets that ask for it by label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunnerCreation {
    /// Namespaces that count as if they were labelled `enabled`; default none. A label of their own wins.
    pub namespaces: BTreeSet<String>,
    /// How far each runner is made; default [`Level::Pods`].
    pub level: Level,
}

/// How far the controller makes each runner before ARC takes over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// Registration, Secret, runner and pod.
    #[default]
    Pods,
    /// Everything but the pod, which ARC makes.
    Runners,
}

/// A named recipe for trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name; part of every version's name.
    pub name: String,
    /// What is kept of a source.
    pub selection: Selection,
    /// What the container hooks of its images are like.
    pub hooks: Hooks,
    /// At least one revision, oldest first.
    pub revisions: Vec<Revision>,
    /// The revision that is meant to be offered instead of the newest, as to roll back.
    pub offer: Option<String>,
}

impl Profile {
    /// Which of the revisions is meant to be offered: an index into them.
    pub fn target(&self) -> usize {
        let named = self.offer.as_ref().and_then(|offer| {
            self.revisions.iter().position(|revision| revision.revision.as_ref() == Some(offer))
        });
        named.unwrap_or(self.revisions.len().saturating_sub(1))
    }
}

/// What the container hooks in a profile's images are like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hooks {
    /// Values of `ACTIONS_RUNNER_CONTAINER_HOOKS` that name a hook which copies externals (releases up to 0.7.0).
    pub legacy: Vec<String>,
    /// Whether these hooks read hook templates (releases from 0.4.0).
    pub read_templates: bool,
    /// Whether the image brings a hook template of its own.
    #[serde(deserialize_with = "published_own_template")]
    pub own_template: OwnTemplate,
}

/// A word that only a newer program knows says nothing about the template; in a configuration file it is an error.
fn published_own_template<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OwnTemplate, D::Error> {
    let word = serde_json::Value::deserialize(deserializer)?;
    Ok(OwnTemplate::deserialize(word).unwrap_or_default())
}

/// Whether an image brings a hook template of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OwnTemplate {
    /// It brings none: the administrator's assertion.
    None,
    /// It brings one.
    Present,
    /// Nobody looked.
    #[default]
    Unknown,
}

/// One state of a profile's content, and the version it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The administrator's name for it; required where the source is not pinned by digest.
    pub revision: Option<String>,
    /// The images that this revision may stand for.
    pub images: Vec<ImagePattern>,
    /// Where the content comes from.
    pub source: Source,
    /// The externals image with the same content, pinned by digest.
    pub volume_image: Option<String>,
    /// The name that all of this leads to.
    pub version: VersionName,
}

/// Where the content of a tree comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Source {
    /// A folder on the node that holds the entries.
    Directory {
        /// Absolute path.
        path: String,
    },
    /// An archive, by architecture.
    Archive {
        /// The folder inside the archive that holds the entries; absent where they lie at its top.
        path: Option<RelPath>,
        /// By architecture, what to download.
        downloads: BTreeMap<Arch, Download>,
    },
    /// A runner image, from which a stage run inside it copies the entries.
    RunnerImage {
        /// The reference, spelled as in the stage's pod.
        image: String,
        /// The folder inside the image that holds the entries, absolute; default `/home/runner/externals`.
        path: String,
    },
}

/// One archive to download.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Download {
    /// `https://…`, `http://…` or `file:///…`.
    pub url: String,
    /// Where else the same archive is, tried in order after `url`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<Mirror>,
    /// What `url` asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Digest of the archive, lower-case hex; makes any transport trustworthy.
    pub sha256: String,
    /// How it is packed.
    pub format: ArchiveFormat,
}

/// Another address of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mirror {
    /// `https://…`, `http://…` or `file:///…`.
    pub url: String,
    /// What it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
}

/// Credentials for one address, sent over https to its own host alone. They lie in files that a Secret is mounted as,
/// never in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Auth {
    /// A bearer token, in the file `token`.
    Bearer {
        /// Name of the folder with the file, below the agent's `--credentials`.
        secret: String,
    },
    /// Basic authentication, from the files `username` and `password`.
    Basic {
        /// Name of the folder with the files, below the agent's `--credentials`.
        secret: String,
    },
}

/// How an archive is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ArchiveFormat {
    /// gzip
    #[serde(rename = "tar.gz")]
    TarGz,
    /// xz
    #[serde(rename = "tar.xz")]
    TarXz,
    /// Zstandard
    #[serde(rename = "tar.zst")]
    TarZst,
}

impl Config {
    /// Reads a configuration file's text; all problems are returned at once.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        let (file, unknown) = file::read(text)?;
        check::check(file, unknown)
    }

    /// The configuration that the programs bring along.
    pub fn embedded() -> Result<Self, Problems> {
        Self::parse(EMBEDDED)
    }

    /// Every revision with its profile, in the order of the file.
    pub fn revisions(&self) -> impl Iterator<Item = (&Profile, &Revision)> {
        self.profiles
            .iter()
            .flat_map(|profile| profile.revisions.iter().map(move |revision| (profile, revision)))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            archive_bytes: 2 << 30,
            unpacked_bytes: 8 << 30,
            files: 200_000,
            cache_bytes: 20 << 30,
            reserve_bytes: 512 << 20,
        }
    }
}

impl Default for Verify {
    fn default() -> Self {
        Self { interval: Duration::from_secs(24 * 3600), bytes_per_second: 32 << 20 }
    }
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            percent: 95,
            wait: Duration::from_secs(600),
            grace: Duration::from_secs(300),
            keep: Duration::from_secs(600),
            paused: false,
        }
    }
}

impl Source {
    /// The architectures that it has something for.
    pub fn arches(&self) -> BTreeSet<Arch> {
        match self {
            Self::Archive { downloads, .. } => downloads.keys().copied().collect(),
            Self::Directory { .. } | Self::RunnerImage { .. } => Arch::ALL.into(),
        }
    }

    /// What of the source decides the content; where an archive is fetched from does not, its digest does.
    pub(crate) fn identity(&self) -> serde_json::Value {
        match self {
            Self::Directory { path } => serde_json::json!({ "directory": path }),
            Self::Archive { path, downloads } => {
                let digests: BTreeMap<String, &str> = downloads
                    .iter()
                    .map(|(arch, download)| (arch.to_string(), download.sha256.as_str()))
                    .collect();
                serde_json::json!({ "archive": { "path": path, "sha256": digests } })
            }
            Self::RunnerImage { image, path } => {
                serde_json::json!({ "runnerImage": { "image": image, "path": path } })
            }
        }
    }
}

impl ArchiveFormat {
    /// The format that a file name promises.
    pub fn of_name(name: &str) -> Option<Self> {
        let ends = |suffixes: [&str; 2]| suffixes.iter().any(|suffix| name.ends_with(suffix));
        if ends([".tar.gz", ".tgz"]) {
            Some(Self::TarGz)
        } else if ends([".tar.xz", ".txz"]) {
            Some(Self::TarXz)
        } else if ends([".tar.zst", ".tzst"]) {
            Some(Self::TarZst)
        } else {
            None
        }
    }
}
