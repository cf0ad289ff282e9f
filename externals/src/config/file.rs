//! How the configuration looks in its file: every field optional here, so that all gaps are reported at once.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de};

use super::problem::Problems;
use super::{ArchiveFormat, Level, OwnTemplate};

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FileConfig {
    pub(super) api_version: Option<String>,
    pub(super) host_root: Option<String>,
    pub(super) node_selector: BTreeMap<String, String>,
    pub(super) limits: FileLimits,
    pub(super) verify: FileVerify,
    pub(super) rollout: FileRollout,
    pub(super) startup_taints: Vec<String>,
    pub(super) runner_creation: FileRunnerCreation,
    pub(super) profiles: Vec<FileProfile>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FileLimits {
    pub(super) archive_bytes: Option<u64>,
    pub(super) unpacked_bytes: Option<u64>,
    pub(super) files: Option<u64>,
    pub(super) cache_bytes: Option<u64>,
    pub(super) reserve_bytes: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FileVerify {
    pub(super) interval_seconds: Option<u64>,
    pub(super) bytes_per_second: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FileRollout {
    pub(super) percent: Option<u8>,
    pub(super) wait_seconds: Option<u64>,
    pub(super) grace_seconds: Option<u64>,
    pub(super) keep_seconds: Option<u64>,
    pub(super) paused: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FileRunnerCreation {
    pub(super) namespaces: Vec<String>,
    pub(super) level: Level,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FileProfile {
    pub(super) name: Option<String>,
    pub(super) preset: Option<String>,
    pub(super) images: Option<Vec<String>>,
    pub(super) entries: Option<FileEntries>,
    pub(super) omit: Option<Vec<String>>,
    pub(super) hooks: Option<FileHooks>,
    pub(super) revisions: Vec<FileRevision>,
    pub(super) offer: Option<String>,
}

pub(super) enum FileEntries {
    Word(String),
    Named(BTreeMap<String, Vec<String>>),
}

/// By hand, since derived untagged enums do not say what they expect.
impl<'de> Deserialize<'de> for FileEntries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(word) => Ok(Self::Word(word)),
            value => serde_json::from_value(value).map(Self::Named).map_err(|_| {
                de::Error::custom("`entries` must be `all`, or a map from entry names to lists of paths")
            }),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FileHooks {
    pub(super) legacy: Vec<String>,
    pub(super) read_templates: bool,
    pub(super) own_template: OwnTemplate,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FileRevision {
    pub(super) revision: Option<String>,
    pub(super) images: Option<Vec<String>>,
    pub(super) source: FileSource,
    pub(super) volume_image: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FileSource {
    pub(super) directory: Option<FileDirectory>,
    pub(super) archive: Option<FileArchive>,
    pub(super) runner_image: Option<FileRunnerImage>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FileRunnerImage {
    pub(super) image: Option<String>,
    pub(super) path: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FileDirectory {
    pub(super) path: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FileArchive {
    pub(super) path: Option<String>,
    pub(super) amd64: Option<FileDownload>,
    pub(super) arm64: Option<FileDownload>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FileDownload {
    pub(super) url: Option<String>,
    pub(super) mirrors: Vec<FileMirror>,
    pub(super) auth: Option<FileAuth>,
    pub(super) sha256: Option<String>,
    pub(super) format: Option<ArchiveFormat>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FileMirror {
    pub(super) url: Option<String>,
    pub(super) auth: Option<FileAuth>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FileAuth {
    pub(super) bearer: Option<FileSecret>,
    pub(super) basic: Option<FileSecret>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FileSecret {
    pub(super) secret: Option<String>,
}

/// Reads the text; fields that nobody knows are listed as problems, a text that cannot be read at all is one.
pub(super) fn read(text: &str) -> Result<(FileConfig, Problems), Problems> {
    let mut problems = Problems::default();
    let read = serde_saphyr::with_deserializer_from_str(text, |deserializer| {
        serde_ignored::deserialize(deserializer, |path| {
            problems.add(field_path(&path), "unknown field; remove it or correct its spelling");
        })
    });
    match read {
        Ok(config) => Ok((config, problems)),
        Err(error) => {
            let place = error.location().map_or_else(
                || "configuration".to_owned(),
                |at| format!("line {}, column {}", at.line(), at.column()),
            );
            problems.add(place, format!("cannot be read: {}", first_line(&error.to_string())));
            Err(problems)
        }
    }
}

/// The first line of a message, without the position that stands before it: what follows is a picture of the text.
fn first_line(message: &str) -> &str {
    let line = message.lines().next().unwrap_or(message).trim_start_matches("error: ");
    match line.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) {
        Some((position, rest)) if position.contains("column") => rest,
        _ => line,
    }
}

/// A path in the form `profiles[0].name`, without the markers for optional values.
fn field_path(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", field_path(parent)),
        Path::Map { parent, key } => match field_path(parent) {
            parent if parent.is_empty() => key.clone(),
            parent => format!("{parent}.{key}"),
        },
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            field_path(parent)
        }
    }
}
