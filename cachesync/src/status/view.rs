//! What `/v1/status` answers; its schema is `docs/status-v1.schema.json`.

use std::collections::BTreeMap;
use std::time::Duration;

use headstart_externals::arch::Arch;
use headstart_externals::names::API_VERSION;
use headstart_externals::report::VersionState;
use headstart_externals::staged::TemplateFinding;
use headstart_externals::version::VersionName;
use serde::Serialize;

use crate::fault::Fault;
use crate::ledger::{Entry, Ledger};
use crate::plan::Standing;
use crate::progress::{Progress, Snapshot};
use crate::scrub::ScrubProgress;
use crate::tree::canary::Canary;

/// The answer of `/v1/status`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// [`API_VERSION`].
    pub api_version: &'static str,
    /// `NodeStatus`.
    pub kind: &'static str,
    /// Name of the node.
    pub node: String,
    /// Its architecture.
    pub arch: Arch,
    /// Version of the agent.
    pub agent: &'static str,
    /// Seconds since the agent started.
    pub uptime_seconds: f64,
    /// The root folder.
    pub root: String,
    /// Free bytes on the root's file system; absent where that cannot be told.
    pub free_bytes: Option<u64>,
    /// Bytes of all versions on disk.
    pub used_bytes: u64,
    /// Whether every wanted version is ready.
    pub ready: bool,
    /// What is wrong with the root folder itself.
    pub fault: Option<Fault>,
    /// What is wrong with the newest configuration file; the last good one is in force.
    pub config_problem: Option<String>,
    /// What the controller has published; absent while nothing is known of that, so that nothing is deleted.
    pub published: Option<PublishedStatus>,
    /// The version that is being read again; absent while none is.
    pub scrub: Option<ScrubProgress>,
    /// All versions that are wanted or on disk, wanted ones first.
    pub versions: Vec<VersionStatus>,
}

/// What the agent knows of the published state.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishedStatus {
    /// Its generation.
    pub generation: u64,
    /// How long ago it was read, in seconds.
    pub age_seconds: f64,
}

/// One version in the status.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VersionStatus {
    /// Its name.
    pub name: VersionName,
    /// Whether it belongs on this node.
    pub wanted: bool,
    /// What it is doing.
    pub state: VersionState,
    /// Whether its tree is known to be damaged.
    pub damaged: bool,
    /// How many files of it are missing, foreign or changed; 0 while it is not damaged.
    pub damaged_files: usize,
    /// How often damage was repaired since the agent started.
    pub repairs: u32,
    /// Trees that gave way to it and stay until it is retired, since running pods may use them.
    pub replaced: u32,
    /// Regular files and links in the tree; 0 while there is none.
    pub files: usize,
    /// Bytes in the tree; 0 while there is none.
    pub bytes: u64,
    /// Digest of the tree.
    pub tree_sha256: Option<String>,
    /// By entry, what its Node.js said when it was run.
    pub nodes: BTreeMap<String, Canary>,
    /// Seconds that the install or the look at start took.
    pub seconds: Option<f64>,
    /// Seconds since all of it was last read and found sound.
    pub verified_seconds_ago: Option<f64>,
    /// Seconds since it is known that no pod names it any more; it is deleted some time after.
    pub retired_seconds_ago: Option<f64>,
    /// Failed attempts in a row.
    pub failures: u32,
    /// Why the last attempt failed, or what is damaged.
    pub fault: Option<Fault>,
    /// Seconds until it is tried again.
    pub retry_in_seconds: Option<f64>,
    /// The attempt that is under way.
    pub progress: Option<Snapshot>,
    /// Whether the stage found a hook template of the image's own; absent where no stage looked.
    pub own_template: Option<TemplateFinding>,
}

impl NodeStatus {
    /// What the ledger says at `now`; what it does not know is left out.
    pub(super) fn of(ledger: &Ledger, now: Duration) -> Self {
        Self {
            api_version: API_VERSION,
            kind: "NodeStatus",
            node: ledger.node.clone(),
            arch: ledger.arch,
            agent: env!("CARGO_PKG_VERSION"),
            uptime_seconds: now.as_secs_f64(),
            root: String::new(),
            free_bytes: None,
            used_bytes: ledger.used_bytes(),
            ready: ledger.readiness().is_ok(),
            fault: ledger.fault.clone(),
            config_problem: ledger.config_problem.clone(),
            published: None,
            scrub: None,
            versions: ledger.versions.iter().map(|entry| VersionStatus::of(entry, now)).collect(),
        }
    }
}

impl VersionStatus {
    fn of(entry: &Entry, now: Duration) -> Self {
        let manifest = entry.manifest.as_ref();
        let ago = |at: Option<Duration>| at.map(|at| now.saturating_sub(at).as_secs_f64());
        Self {
            name: entry.name.clone(),
            wanted: entry.wanted,
            state: entry.state(),
            damaged: matches!(entry.standing, Standing::Damaged { .. }),
            damaged_files: entry.damage.as_ref().map_or(0, |damage| damage.files),
            repairs: entry.repairs,
            replaced: entry.replaced,
            files: manifest.map_or(0, |manifest| manifest.files.len()),
            bytes: manifest.map_or(0, |manifest| manifest.bytes),
            tree_sha256: manifest.map(|manifest| manifest.tree_sha256.clone()),
            nodes: entry.nodes.clone(),
            seconds: entry.seconds,
            verified_seconds_ago: ago(entry.verified_at),
            retired_seconds_ago: ago(entry.retired_since),
            failures: entry.failures,
            fault: entry.fault.clone(),
            retry_in_seconds: entry.retry_at().map(|at| at.saturating_sub(now).as_secs_f64()),
            progress: entry.progress.as_ref().map(Progress::snapshot),
            own_template: entry.staged.own_template,
        }
    }
}
