//! The manifest of a version: every file with size, mode and digest, so that a tree can be checked at any time.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::arch::Arch;
use crate::names::API_VERSION;
use crate::relpath::RelPath;
use crate::version::{LAYOUT, VersionName, hex};

/// Mode of folders and of executables.
pub const MODE_EXECUTABLE: u32 = 0o755;

/// Mode of all other files.
pub const MODE_PLAIN: u32 = 0o644;

/// What one version holds; written last inside staging, so its presence says that the build was finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// [`API_VERSION`].
    pub api_version: String,
    /// `Manifest`.
    pub kind: String,
    /// The version that this folder holds.
    pub version: VersionName,
    /// [`LAYOUT`] of the program that wrote it.
    pub layout: u32,
    /// The architecture that the tree is for.
    pub arch: Arch,
    /// sha256 over all files, see [`tree_digest`].
    pub tree_sha256: String,
    /// Sum of the sizes of all regular files, in bytes.
    pub bytes: u64,
    /// By path below `tree/`, what must be there; folders follow from the paths and nothing else may be there.
    pub files: BTreeMap<RelPath, FileRecord>,
}

/// What must be at one path of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", untagged)]
pub enum FileRecord {
    /// A regular file.
    File {
        /// Size in bytes.
        size: u64,
        /// Whether the mode is [`MODE_EXECUTABLE`] rather than [`MODE_PLAIN`].
        executable: bool,
        /// Digest of the content, lower-case hex.
        sha256: String,
    },
    /// A symbolic link that stays inside the tree.
    Link {
        /// The text of the link.
        target: String,
    },
}

impl Manifest {
    /// The manifest of `version` for what was found in its tree.
    pub fn new(version: VersionName, arch: Arch, files: BTreeMap<RelPath, FileRecord>) -> Self {
        let bytes = files.values().map(FileRecord::bytes).sum();
        Self {
            api_version: API_VERSION.to_owned(),
            kind: "Manifest".to_owned(),
            version,
            layout: LAYOUT,
            arch,
            tree_sha256: tree_digest(&files),
            bytes,
            files,
        }
    }

    /// Reads a manifest; the error says what is wrong in words.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if manifest.api_version != API_VERSION || manifest.kind != "Manifest" || manifest.layout != LAYOUT {
            let Self { kind, layout, api_version, .. } = manifest;
            return Err(format!("is a {kind} with layout {layout} of {api_version}"));
        }
        if manifest.tree_sha256 != tree_digest(&manifest.files) {
            return Err("its list of files does not have the digest that it states".to_owned());
        }
        Ok(manifest)
    }

    /// The entries of the tree, sorted.
    pub fn entries(&self) -> BTreeSet<&str> {
        self.files.keys().map(RelPath::entry).collect()
    }
}

impl FileRecord {
    /// Bytes of content; 0 for links.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::File { size, .. } => *size,
            Self::Link { .. } => 0,
        }
    }
}

/// One digest for a whole tree: sha256 over a line per path, `<path>\0<mode>\0<sha256>\n`, or `<path>\0link\0<target>\n`.
pub fn tree_digest(files: &BTreeMap<RelPath, FileRecord>) -> String {
    let mut hasher = Sha256::new();
    for (path, record) in files {
        let (kind, content) = match record {
            FileRecord::File { executable: true, sha256, .. } => ("755", sha256),
            FileRecord::File { executable: false, sha256, .. } => ("644", sha256),
            FileRecord::Link { target } => ("link", target),
        };
        hasher.update(format!("{path}\0{kind}\0{content}\n"));
    }
    hex(&hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let node = FileRecord::File { size: 3, executable: true, sha256: "ab".repeat(32) };
        let link = FileRecord::Link { target: "node".to_owned() };
        let files = BTreeMap::from([
            (RelPath::new("node16/bin/node").unwrap(), node),
            (RelPath::new("node16/bin/nodejs").unwrap(), link),
        ]);
        Manifest::new("node16-0123456789ab".parse().unwrap(), Arch::Amd64, files)
    }

    #[test]
    fn a_manifest_survives_writing_and_reading() {
        let text = serde_json::to_vec_pretty(&manifest()).unwrap();
        assert_eq!(Manifest::parse(&text), Ok(manifest()));
        assert_eq!(manifest().bytes, 3);
    }

    #[test]
    fn a_changed_list_is_noticed() {
        let mut changed = manifest();
        changed.files.remove("node16/bin/nodejs");
        let text = serde_json::to_vec(&changed).unwrap();
        assert!(Manifest::parse(&text).unwrap_err().contains("digest"));
        assert!(Manifest::parse(b"{").is_err());
    }
}
