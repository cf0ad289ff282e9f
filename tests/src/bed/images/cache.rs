//! Where built images are kept: one folder per recipe, so that a change of the recipe builds anew.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use headstart_externals::version::hex;
use sha2::{Digest as _, Sha256};

use super::npm::Packages;
use super::recipes::{self, TestImage};
use crate::bed::image::architecture;
use crate::bed::programs::Cache;

/// All that decides what the images hold, but the machine's own C library and busybox, of which any will do.
const RECIPE: [&str; 7] = [
    include_str!("recipes.rs"),
    include_str!("externals.rs"),
    include_str!("host.rs"),
    include_str!("npm.rs"),
    include_str!("../image/layer.rs"),
    include_str!("../image/document.rs"),
    include_str!("../image/archive.rs"),
];

/// The archive of a test image, built first if it is not in the cache.
pub fn archive(image: TestImage) -> anyhow::Result<PathBuf> {
    let cache = Cache::locate()?.folder().to_owned();
    let packages = Packages::new(cache.join("npm"))?;
    let folder = cache.join(format!("images-{}", recipe(&packages)));
    let path = folder.join(format!("{}.tar", image.file_name()));
    // Files appear whole, so only a builder needs the lock.
    if path.is_file() {
        return Ok(path);
    }
    fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
    let _lock = lock(&folder.join("lock"))?;
    if !path.is_file() {
        eprintln!("… building the test image {}", image.name());
        let work = tempfile::tempdir_in(&cache)?;
        recipes::image(image, &recipes::Inputs { packages, cache: &cache, work: work.path() })?
            .write(&path)?;
    }
    Ok(path)
}

/// Waits for its turn; the turn ends when the file is dropped.
pub(super) fn lock(path: &Path) -> anyhow::Result<File> {
    let file = File::create(path).with_context(|| format!("failed to create {}", path.display()))?;
    file.lock().with_context(|| format!("failed to lock {}", path.display()))?;
    Ok(file)
}

/// What outlives the target folder: downloads and images.
fn recipe(packages: &Packages) -> String {
    let mut hash = Sha256::new();
    let parts = RECIPE.into_iter().chain(recipes::FILES).chain([architecture()]);
    for part in parts.chain(packages.pins()) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())[..16].to_owned()
}
