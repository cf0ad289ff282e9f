//! Where everything lies on a node: typed paths below one root, so that no path is put together anywhere else.
//!
//! ```text
//! <root>/lock                          one writer
//! <root>/versions/<version>/manifest.json, tree/…, farm/…
//! <root>/staged/lock                   one stage run at a time; never the agent's
//! <root>/staged/<version>/source.json, tree/…
//! <root>/staged/building/<random>/     stage runs in progress; swept by the next one
//! <root>/replaced/<version>-<n>/       damaged or foreign folders that gave way to a version
//! <root>/staging/<random>/  trash/     same file system as versions; swept at start
//! ```

use std::path::{Path, PathBuf};

use crate::version::VersionName;

/// Where workflow pods see a tree when the runner was given a farm; the text of every farm link starts with it.
pub const LINK_TARGET: &str = "/opt/headstart/externals";

/// The root folder of the cache on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root(PathBuf);

/// The folder of one version, published or still in staging: both have the same inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionDir(PathBuf);

/// What a stage run left for one version, published or still in the making: both have the same inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedDir(PathBuf);

impl Root {
    /// The cache below `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The root itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The folders right below the root; everything that is kept lies in one of them.
    pub fn folders(&self) -> [PathBuf; 5] {
        [self.versions(), self.staging(), self.trash(), self.replaced(), self.staged()]
    }

    /// The lock file: whoever holds it is the only writer.
    pub fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// The folder of published versions.
    pub fn versions(&self) -> PathBuf {
        self.0.join("versions")
    }

    /// One published version.
    pub fn version(&self, name: &VersionName) -> VersionDir {
        VersionDir(self.versions().join(name.as_str()))
    }

    /// Builds in progress; anything here at start is left over from a crash.
    pub fn staging(&self) -> PathBuf {
        self.0.join("staging")
    }

    /// Copies taken from inside runner images; the agent reads here and only stage runs write.
    pub fn staged(&self) -> PathBuf {
        self.0.join("staged")
    }

    /// The copy for one version.
    pub fn staged_source(&self, name: &VersionName) -> StagedDir {
        StagedDir(self.staged().join(name.as_str()))
    }

    /// The lock file of stage runs.
    pub fn stage_lock(&self) -> PathBuf {
        self.staged().join("lock")
    }

    /// Stage runs in progress; like `lock`, no version can have this name.
    pub fn stage_building(&self) -> PathBuf {
        self.staged().join("building")
    }

    /// Folders on their way out; anything here at start is left over from a crash.
    pub fn trash(&self) -> PathBuf {
        self.0.join("trash")
    }

    /// Folders that gave way to a version and may still be in use.
    pub fn replaced(&self) -> PathBuf {
        self.0.join("replaced")
    }
}

impl VersionDir {
    /// The version folder at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The manifest; a version folder without it is not a version.
    pub fn manifest(&self) -> PathBuf {
        self.0.join("manifest.json")
    }

    /// Stands beside the tree while a build is about to take the place of another folder, so that it is known from that.
    pub fn unpublished(&self) -> PathBuf {
        self.0.join("unpublished")
    }

    /// The kept entries.
    pub fn tree(&self) -> PathBuf {
        self.0.join("tree")
    }

    /// One absolute link per entry, to [`LINK_TARGET`].
    pub fn farm(&self) -> PathBuf {
        self.0.join("farm")
    }
}

impl StagedDir {
    /// The folder at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The record of the run; a folder without it is not a source.
    pub fn record(&self) -> PathBuf {
        self.0.join("source.json")
    }

    /// The kept entries.
    pub fn tree(&self) -> PathBuf {
        self.0.join("tree")
    }
}

/// The text of the farm's link for `entry`.
pub fn farm_link(entry: &str) -> String {
    format!("{LINK_TARGET}/{entry}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_folder_below_the_root() {
        let name = "node16-0123456789ab".parse().unwrap();
        let dir = Root::new("/var/lib/headstart").version(&name);
        assert_eq!(dir.tree(), Path::new("/var/lib/headstart/versions/node16-0123456789ab/tree"));
        let staged = Root::new("/root").staged_source(&name);
        assert_eq!(staged.record(), Path::new("/root/staged/node16-0123456789ab/source.json"));
        assert_eq!(farm_link("node16"), "/opt/headstart/externals/node16");
    }
}
