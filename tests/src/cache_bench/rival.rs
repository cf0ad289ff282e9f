//! What an administrator would type instead of running an agent: the same kept files, on disk when the command ends.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::source::{Kind, Sources};
use super::usage::{Counters, Usage};

/// Brings the kept files into the new folder `to`.
pub fn install(sources: &Sources, kind: Kind, to: &Path) -> Usage {
    std::fs::create_dir_all(to).unwrap();
    let script = match kind {
        Kind::Directory | Kind::Staged => "cd externals && cp -a --parents \"$@\" \"$0\" && sync -f \"$0\"",
        Kind::Archive => "tar -xzf release.tar.gz -C \"$0\" \"$@\" && sync -f \"$0\"",
    };
    let paths = sources.kept.iter().map(|path| match kind {
        Kind::Archive => format!("externals/{path}"),
        Kind::Directory | Kind::Staged => path.clone(),
    });
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(to).args(paths).current_dir(&sources.folder);
    measured(command)
}

/// Reads the kept files below `folder` as `sha256sum` does.
pub fn hash(sources: &Sources, folder: &Path) -> Usage {
    let mut command = Command::new("sh");
    command.args(["-c", "sha256sum \"$@\" > /dev/null", "sh"]).args(&sources.kept).current_dir(folder);
    measured(command)
}

fn measured(mut command: Command) -> Usage {
    let (before, begun) = (Counters::of("self"), Instant::now());
    assert!(command.status().unwrap().success(), "{command:?}");
    before.until(Counters::of("self"), begun.elapsed())
}
