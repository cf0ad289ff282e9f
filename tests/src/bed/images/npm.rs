//! Packages of the npm registry: pinned, verified, kept.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use base64::Engine as _;
use sha2::{Digest as _, Sha512};

/// The versions that the test bed is made from.
const VERSIONS: &str = include_str!("../../../bed/versions.toml");

/// Packages with known content.
pub(super) struct Packages {
    folder: PathBuf,
    /// Integrity by `name@version`.
    pins: BTreeMap<String, String>,
}

impl Packages {
    /// The pinned packages; downloads are kept in `folder`.
    pub(super) fn new(folder: PathBuf) -> anyhow::Result<Self> {
        let versions: toml::Table = VERSIONS.parse().context("tests/bed/versions.toml")?;
        let table = versions.get("npm").and_then(toml::Value::as_table);
        let table = table.context("tests/bed/versions.toml has no section npm")?;
        let pins = table.iter().filter_map(|(name, pin)| Some((name.clone(), pin.as_str()?.to_owned())));
        Ok(Self { folder, pins: pins.collect() })
    }

    /// Names and integrity of all.
    pub(super) fn pins(&self) -> impl Iterator<Item = &str> {
        self.pins.iter().flat_map(|(name, pin)| [name.as_str(), pin.as_str()])
    }

    /// Whether a package is among the pinned ones.
    pub(super) fn has(&self, package: &str) -> bool {
        self.pins.contains_key(package)
    }

    /// Unpacks `name@version`, without its outermost folder.
    pub(super) fn unpack(&self, package: &str, into: &Path) -> anyhow::Result<()> {
        let archive = self.fetch(package)?;
        unpack(&archive, into).with_context(|| format!("failed to unpack {}", archive.display()))
    }

    fn fetch(&self, package: &str) -> anyhow::Result<PathBuf> {
        let pin = self.pins.get(package);
        let pin =
            pin.with_context(|| format!("{package} is not in section npm of tests/bed/versions.toml"))?;
        let kept = self.folder.join(package.replace('/', "-")).with_added_extension("tgz");
        if kept.is_file() && integrity(&kept)? == *pin {
            return Ok(kept);
        }
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("failed to create {}", self.folder.display()))?;
        eprintln!("… downloading {package}");
        let work = tempfile::tempdir_in(&self.folder)?;
        let mut npm = Command::new("npm");
        npm.args(["pack", "--silent", package]).current_dir(work.path());
        let output = npm.output().context("failed to run npm; install Node.js with npm")?;
        let message = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "npm pack {package} failed: {}", message.trim());
        let name = String::from_utf8_lossy(&output.stdout);
        let got = work.path().join(name.trim());
        let found = integrity(&got)?;
        anyhow::ensure!(found == *pin, "the registry's {package} has integrity {found}, expected {pin}");
        fs::rename(&got, &kept).with_context(|| format!("failed to keep {}", kept.display()))?;
        Ok(kept)
    }
}

/// The hash of a file as package registries write it.
fn integrity(path: &Path) -> anyhow::Result<String> {
    let content = fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
    Ok(format!("sha512-{}", base64::engine::general_purpose::STANDARD.encode(Sha512::digest(content))))
}

/// Modes are not taken over: the layer sets them. What is executable stays so.
fn unpack(archive: &Path, into: &Path) -> anyhow::Result<()> {
    let packed = flate2::read::GzDecoder::new(File::open(archive)?);
    for entry in tar::Archive::new(packed).entries()? {
        let mut entry = entry?;
        let path: PathBuf = entry.path()?.components().skip(1).collect();
        if path.as_os_str().is_empty() || entry.header().entry_type().is_dir() {
            continue;
        }
        let target = into.join(&path);
        fs::create_dir_all(target.parent().unwrap_or(into))?;
        entry.unpack(&target).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_is_not_pinned_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let packages = Packages::new(dir.path().to_owned()).unwrap();
        let error = packages.unpack("npm@0.0.0", dir.path()).unwrap_err();
        assert!(error.to_string().contains("npm@0.0.0 is not in section npm"), "{error}");
    }

    #[test]
    fn packages_unpack_without_their_outermost_folder() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("package.tgz");
        let tar = crate::archive::Tar::default().file("package/bin/node", b"program", 0o755);
        fs::write(&archive, tar.file("package/LICENSE", b"text", 0o644).packed("tgz")).unwrap();
        unpack(&archive, &dir.path().join("into")).unwrap();
        assert_eq!(fs::read(dir.path().join("into/bin/node")).unwrap(), b"program");
        assert_eq!(fs::read(dir.path().join("into/LICENSE")).unwrap(), b"text");
    }

    #[test]
    fn integrity_is_written_as_registries_write_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("empty");
        fs::write(&path, "").unwrap();
        let empty =
            "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==";
        assert_eq!(integrity(&path).unwrap(), empty);
    }
}
