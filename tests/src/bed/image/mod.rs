//! Container images as OCI archives, written without a daemon; the same input gives the same digest everywhere.

mod archive;
mod document;
mod layer;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::BufWriter;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::Value;

use archive::Archive;
pub(crate) use document::architecture;
pub use layer::{Content, Layer, Owner, ROOT};

/// What an image is made from.
#[derive(Debug, Default)]
pub struct Image {
    /// The name under which it is imported, with its tag.
    pub name: String,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
    /// What a container of it starts with.
    pub config: Config,
}

/// What a container starts with where the pod says nothing else.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The program and its first arguments; empty if every pod names its own.
    pub entrypoint: Vec<String>,
    /// `NAME=value`, beside a usual `PATH`.
    pub env: Vec<String>,
    /// User or `user:group`; empty for root.
    pub user: String,
    /// The working folder; empty for `/`.
    pub working_dir: String,
}

/// Size of the buffer in front of the archive.
const BUFFER: usize = 1 << 20;

impl Image {
    /// Writes the archive, whole or not at all, and gives the digest of the image's manifest.
    pub fn write(&self, path: &Path) -> anyhow::Result<String> {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
        let readable = fs::Permissions::from_mode(0o644);
        let beside = tempfile::Builder::new().permissions(readable).tempfile_in(folder)?;
        let digest = self
            .write_to(beside.as_file())
            .with_context(|| format!("failed to write image {} to {}", self.name, path.display()))?;
        beside.persist(path).with_context(|| format!("failed to replace {}", path.display()))?;
        Ok(digest)
    }

    fn write_to(&self, file: &File) -> anyhow::Result<String> {
        let mut archive = Archive::new(BufWriter::with_capacity(BUFFER, file));
        let mut layers = Vec::new();
        for layer in &self.layers {
            layers.push(archive.blob(|sink| layer.write(sink))?);
        }
        let config = archive.bytes(&document::config(&self.config, &layers))?;
        let manifest = archive.bytes(&document::manifest(&config, &layers))?;
        archive.file(document::INDEX, &document::index(&self.name, &manifest))?;
        archive.file(document::DOCKER, &document::docker(&self.name, &config, &layers))?;
        archive.file(document::LAYOUT, &document::layout())?;
        archive.finish()?;
        Ok(manifest.digest)
    }
}

/// The digest of the manifest of the image in an archive.
pub fn digest(archive: &Path) -> anyhow::Result<String> {
    let read = || -> anyhow::Result<String> {
        let mut archive = tar::Archive::new(File::open(archive)?);
        let mut members = archive.entries_with_seek()?.filter_map(Result::ok);
        let index = members.find(|member| member.path_bytes() == document::INDEX.as_bytes());
        let index: Value = serde_json::from_reader(index.context("no index")?)?;
        let digest = index["manifests"][0]["digest"].as_str();
        Ok(digest.context("no manifest in the index")?.to_owned())
    };
    read().with_context(|| format!("{} is not an image archive", archive.display()))
}
