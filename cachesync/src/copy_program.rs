//! `headstart-cachesync copy-program`: this static program brings itself into a shared folder, so that it can run
//! inside an image that does not hold it.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use headstart_externals::manifest::MODE_EXECUTABLE;

/// Name of the copy.
const NAME: &str = "headstart-cachesync";

/// The program that is running.
const SELF: &str = "/proc/self/exe";

/// Flags of `copy-program`.
#[derive(Clone, Debug, clap::Args)]
pub struct CopyProgramArgs {
    /// The folder to copy to
    #[arg(env = "HEADSTART_PROGRAM_DIR", value_name = "DIR")]
    pub dir: PathBuf,
}

/// Copies the program; it is there whole or not at all.
pub fn run(args: &CopyProgramArgs) -> anyhow::Result<()> {
    let target = args.dir.join(NAME);
    let beside = args.dir.join(format!(".{NAME}.new"));
    copy(&beside)
        .and_then(|()| fs::rename(&beside, &target))
        .and_then(|()| File::open(&args.dir)?.sync_all())
        .with_context(|| format!("failed to copy this program to {}", target.display()))?;
    tracing::info!(program = %target.display(), "copied");
    Ok(())
}

fn copy(to: &Path) -> io::Result<()> {
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::create_new(to)?;
    io::copy(&mut File::open(SELF)?, &mut file)?;
    file.set_permissions(Permissions::from_mode(MODE_EXECUTABLE))?;
    file.sync_all()
}
