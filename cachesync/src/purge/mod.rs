//! `headstart-cachesync purge`: the explicit uninstall. It removes the whole cache of a node, unless pods use it.
//!
//! Everything loses its name first and its bytes then, so that a run that was killed is simply repeated.

mod mounts;
mod users;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ArgGroup;
use headstart_externals::layout::Root;
use headstart_runtime::cluster;
use headstart_runtime::shutdown::Shutdown;

use crate::args::read_config;
use crate::fault::{Fault, Outcome};
use crate::progress::{OnStep, Progress};
use crate::store::Store;
use crate::work::blocking;

/// Flags of `purge`.
#[derive(Clone, Debug, clap::Args)]
#[command(group = ArgGroup::new("place").required(true).args(["root", "config"]).multiple(true))]
#[command(group = ArgGroup::new("asked").required(true).args(["standalone", "node_name"]))]
pub struct PurgeArgs {
    /// Root folder of the cache as this process sees it; by default `hostRoot` of the configuration
    #[arg(long, env = "HEADSTART_ROOT", value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Configuration file, where --root is not given
    #[arg(long, env = "HEADSTART_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The node that this runs on: the API server is asked which of its pods use the cache
    #[arg(long, env = "HEADSTART_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,

    /// Work without Kubernetes: only mounts of processes on this machine are looked at
    #[arg(long)]
    pub standalone: bool,

    /// Remove the cache although pods use it: their Node.js is gone at once
    #[arg(long)]
    pub force: bool,
}

/// Removes the cache; `on_step` is called at every step.
pub async fn run(args: PurgeArgs, on_step: OnStep, shutdown: Shutdown) -> anyhow::Result<()> {
    let PurgeArgs { root, config, node_name, standalone, force } = args;
    let root = match (root, config) {
        (Some(root), _) => root,
        (None, Some(config)) => PathBuf::from(read_config(&config)?.host_root),
        (None, None) => anyhow::bail!("give --root or --config"),
    };
    let root = std::path::absolute(&root).with_context(|| format!("{} is not a path", root.display()))?;
    if !root.is_dir() {
        anyhow::ensure!(
            standalone,
            "{} is not there, so nothing is removed; mount the node's cache there (a hostPath of type \
             DirectoryOrCreate), or correct --root",
            root.display()
        );
        tracing::info!(root = %root.display(), "there is no cache");
        return Ok(());
    }
    // Mounts are known by the names that folders have without links.
    let root = root.canonicalize().with_context(|| format!("failed to look at {}", root.display()))?;
    let mut users = mounts::users(&root)?;
    if let Some(node) = node_name {
        users.extend(users::pods(cluster::connect().await?, &node).await?);
    }
    refuse_if_used(&root, &users, force)?;
    let progress = Progress::new(on_step);
    let (place, seen) = (root.clone(), progress.clone());
    let work = blocking(move || remove_all(Root::new(place), &seen));
    tokio::select! {
        done = work => done.map_err(|fault| refused(&root, &fault))?,
        () = shutdown.begun() => anyhow::bail!("ended by a signal; the next run goes on where this one ended"),
    }
    tracing::info!(root = %root.display(), "the cache is removed");
    Ok(())
}

fn refuse_if_used(root: &Path, users: &[String], force: bool) -> anyhow::Result<()> {
    let (root, count, list) = (root.display(), users.len(), users.join(", "));
    if users.is_empty() {
        return Ok(());
    }
    if !force {
        anyhow::bail!(
            "the cache {root} is in use ({count}): {list}; wait until they have ended, or give --force to take it \
             away from them"
        );
    }
    tracing::warn!(%root, users = list, "removing a cache that is in use, since --force says so");
    Ok(())
}

fn refused(root: &Path, fault: &Fault) -> anyhow::Error {
    let Fault { message, remedy, .. } = fault;
    anyhow::anyhow!("failed to remove the cache {}: {message}; {remedy}", root.display())
}

/// Removes everything that is the agent's below the root; what else lies there stays.
fn remove_all(root: Root, progress: &Progress) -> Outcome<()> {
    let store = Store::open(root)?;
    store.trash_all(progress)?;
    store.delete(progress)?;
    store.remove_folders()
}
