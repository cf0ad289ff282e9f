//! `headstart demo`: agent and webhook at work in this process, on real input, beside the copy that they replace.

mod copy;
mod present;
mod reviews;
mod setup;
mod source;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use headstart_runtime::shutdown::Shutdown;
use tempfile::TempDir;

use crate::demo::setup::Running;

/// Bytes that the demo may need at once: the source, the cache and one full copy.
const NEEDED_BYTES: u64 = 2 << 30;

/// How often removing the folder is tried while the last writes into it end.
const REMOVE_TRIES: u32 = 50;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// A runner's externals folder to use in place of one made from this machine's Node.js
    #[arg(long, value_name = "DIR")]
    externals: Option<PathBuf>,

    /// Folder in which the demo makes one of its own, on the disk to measure; by default the one for temporary files
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Keep agent and webhook running at the end, and print how to talk to them
    #[arg(long)]
    serve: bool,

    /// What agent and webhook log
    #[command(flatten)]
    log: headstart_runtime::log::LogArgs,
}

/// Runs the demo and removes everything that it made, also after a signal.
pub(crate) async fn run(args: Args, shutdown: Shutdown) -> anyhow::Result<()> {
    args.log.init();
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let parent = parent
        .canonicalize()
        .with_context(|| format!("{} is not a folder; choose another with --dir", parent.display()))?;
    anyhow::ensure!(
        parent.to_str().is_some(),
        "{} is not UTF-8; choose another with --dir",
        parent.display()
    );
    check_space(&parent)?;
    let folder = TempDir::with_prefix_in("headstart-demo-", &parent).with_context(|| {
        format!("failed to create a folder in {}; choose another with --dir", parent.display())
    })?;
    let outcome = show(&args, folder.path(), &shutdown).await;
    let interrupted = shutdown.has_begun();
    shutdown.begin();
    remove(folder).await?;
    match outcome {
        Err(error) if crate::explain::is_closed_pipe(&error) => Ok(()),
        Err(_) if interrupted => anyhow::bail!("interrupted; everything was removed"),
        outcome => outcome,
    }
}

async fn show(args: &Args, folder: &Path, shutdown: &Shutdown) -> anyhow::Result<()> {
    present::headline("1. A runner's externals folder")?;
    let (source, stop) = (source::Source::choose(args.externals.as_deref(), folder)?, shutdown.clone());
    let source = tokio::task::spawn_blocking(move || source.build(&stop)).await??;
    present::source(&source)?;

    present::headline("2. Agent and webhook, in this process on loopback")?;
    let running = Running::start(&source, folder, &args.log, shutdown).await?;
    let status = running.wait_until_ready(shutdown, present::progress).await?;
    present::status(&running, &status)?;

    present::headline("3. What pods become")?;
    for review in reviews::all(&status)? {
        let answer = running.ask(&review).await?;
        present::answer(&review, &answer)?;
    }

    present::headline("4. The stock hook's copy and Headstart's way, on this disk")?;
    let (from, tree, stop) = (source.path.clone(), running.tree(&status)?, shutdown.clone());
    let to = folder.join("copies");
    let comparison =
        tokio::task::spawn_blocking(move || copy::compare([&from, &tree], &to, &stop, present::round))
            .await??;
    present::comparison(&comparison)?;

    if args.serve {
        present::serving(&running, folder)?;
        shutdown.begun().await;
        return Ok(());
    }
    running.stop(shutdown).await
}

fn check_space(parent: &Path) -> anyhow::Result<()> {
    let free = headstart_cachesync::store::free_bytes(parent)
        .with_context(|| format!("{} is not a folder; choose another with --dir", parent.display()))?;
    anyhow::ensure!(
        free >= NEEDED_BYTES,
        "{} has {} MB free, the demo needs {} MB; choose another folder with --dir",
        parent.display(),
        free >> 20,
        NEEDED_BYTES >> 20
    );
    Ok(())
}

/// Removes the folder; after an interruption blocking work may still be writing its last file.
async fn remove(folder: TempDir) -> anyhow::Result<()> {
    let path = folder.keep();
    for _ in 0..REMOVE_TRIES {
        if std::fs::remove_dir_all(&path).is_ok() || !path.exists() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("failed to remove {}; please remove it", path.display())
}
