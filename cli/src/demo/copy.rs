//! The comparison: what the stock hook copies per job, and what is left of it with Headstart, on the same disk in the
//! same run.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Instant;

use headstart_runtime::shutdown::Shutdown;

use super::source::Size;

/// How often each copy is made, one after the other in turns.
const ROUNDS: usize = 3;

/// One way, measured.
pub(crate) struct Measured {
    pub(crate) size: Size,
    /// Seconds of each round, sorted.
    pub(crate) seconds: Vec<f64>,
}

/// Both ways.
pub(crate) struct Comparison {
    pub(crate) stock: Measured,
    pub(crate) lean: Measured,
}

impl Measured {
    pub(crate) fn median(&self) -> f64 {
        self.seconds.get(self.seconds.len() / 2).copied().unwrap_or_default()
    }
}

/// Copies the whole externals folder and the cached tree, in turns; `after_round` is told the round and their number.
pub(crate) fn compare(
    [stock, lean]: [&Path; 2],
    to: &Path,
    shutdown: &Shutdown,
    after_round: fn(usize, usize),
) -> anyhow::Result<Comparison> {
    let mut measured = [stock, lean].map(|_| Measured { size: Size::default(), seconds: Vec::new() });
    for round in 1..=ROUNDS {
        for (measured, from) in measured.iter_mut().zip([stock, lean]) {
            fs::create_dir_all(to)?;
            let begun = Instant::now();
            measured.size = copy(from, &to.join("externals"), shutdown)?;
            measured.seconds.push(begun.elapsed().as_secs_f64());
            fs::remove_dir_all(to)?;
        }
        after_round(round, ROUNDS);
    }
    for measured in &mut measured {
        measured.seconds.sort_by(f64::total_cmp);
    }
    let [stock, lean] = measured;
    Ok(Comparison { stock, lean })
}

/// What the `cp` of the hook's library does, entry by entry: folders and files get the mode of what they copy, links
/// are made anew. It is done here without Node.js, which favours the stock way.
fn copy(from: &Path, to: &Path, shutdown: &Shutdown) -> anyhow::Result<Size> {
    anyhow::ensure!(!shutdown.has_begun(), "interrupted");
    let metadata = fs::symlink_metadata(from)?;
    if metadata.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
        return Ok(Size { files: 1, bytes: 0 });
    }
    if metadata.is_file() {
        let bytes = fs::copy(from, to)?;
        fs::set_permissions(to, fs::Permissions::from_mode(metadata.permissions().mode()))?;
        return Ok(Size { files: 1, bytes });
    }
    fs::create_dir(to)?;
    let mut size = Size::default();
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        let below = copy(&from.join(&name), &to.join(&name), shutdown)?;
        size = Size { files: size.files + below.files, bytes: size.bytes + below.bytes };
    }
    fs::set_permissions(to, fs::Permissions::from_mode(metadata.permissions().mode()))?;
    Ok(size)
}
