//! The programs as they are shipped, built from the same tree as the tests.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Once, OnceLock};

static BUILT: Once = Once::new();

/// What a benchmark measures, instead of what was built with it.
static MEASURED: OnceLock<Vec<PathBuf>> = OnceLock::new();

/// From now on [`program`] gives these where their names are asked for.
pub fn measure(programs: Vec<PathBuf>) {
    MEASURED.set(programs).unwrap();
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The path of one of the workspace's programs, built first if it is not up to date.
pub fn program(name: &str) -> PathBuf {
    if let Some(given) = MEASURED.get().into_iter().flatten().find(|path| path.ends_with(name)) {
        return given.clone();
    }
    let own = std::env::current_exe().unwrap();
    let folder = own.parent().unwrap();
    // Tests lie one folder below programs.
    let profile = folder.parent().filter(|_| folder.ends_with("deps")).unwrap_or(folder).to_owned();
    BUILT.call_once(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--workspace", "--bins"]).current_dir(repository());
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success(), "the programs do not build");
    });
    profile.join(name)
}
