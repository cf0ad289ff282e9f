//! The agent's flags, and its start from them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::ArgGroup;
use headstart_externals::arch::Arch;
use headstart_externals::config::Config;
use headstart_runtime::admin;
use headstart_runtime::cluster;
use headstart_runtime::log::LogArgs;
use headstart_runtime::process::ProcessCollector;
use headstart_runtime::program::Tasks;
use headstart_runtime::server::{Server, ServerLimits};
use headstart_runtime::shutdown::Shutdown;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use crate::api;
use crate::copy_program::CopyProgramArgs;
use crate::install::CanaryRoot;
use crate::metrics::Metrics;
use crate::progress::OnStep;
use crate::published::Published;
use crate::purge::PurgeArgs;
use crate::report::Reporter;
use crate::source::{Fetcher, SourceArgs};
use crate::stage::StageArgs;
use crate::status::StatusBoard;
use crate::sync::{Agent, Options};

/// Keeps the runner's externals on a node: populated, verified and reported.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "headstart-cachesync", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
}

/// What the program can do.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// Keep the configured versions below a root folder
    Run(RunArgs),
    /// Copy the externals of the runner image that this runs in to the node, for the agent; then end
    Stage(StageArgs),
    /// Remove the whole cache of this node, unless pods use it
    Purge(PurgeArgs),
    /// Copy this program into a folder
    CopyProgram(CopyProgramArgs),
    /// Do nothing until a signal comes
    Idle,
}

/// Flags of `run`.
#[derive(Clone, Debug, clap::Args)]
#[command(group = ArgGroup::new("cluster").required(true).args(["standalone", "namespace"]))]
pub struct RunArgs {
    /// Root folder of the cache as this process sees it, created if it is not there; by default `hostRoot` of the
    /// configuration
    #[arg(long, env = "HEADSTART_ROOT", value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Configuration file; reloaded when its content changes
    #[arg(long, env = "HEADSTART_CONFIG", value_name = "FILE")]
    pub config: PathBuf,

    /// Where the exec canary sees the root, such as a second, read-only mount of it; by default the root itself
    #[arg(long, env = "HEADSTART_CANARY_ROOT", value_name = "DIR")]
    pub canary_root: Option<PathBuf>,

    /// Name of this node in status and reports; standalone by default the host name
    #[arg(long, env = "HEADSTART_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,

    /// Address of the HTTP port with /v1/status, /livez, /readyz and /metrics
    #[arg(long, env = "HEADSTART_ADMIN_LISTEN", default_value = "127.0.0.1:8081")]
    pub admin_listen: SocketAddr,

    /// Work without Kubernetes: nothing is reported but the status
    #[arg(long)]
    pub standalone: bool,

    /// Namespace of the Lease that carries this node's report, and of the published state; needs --node-name
    #[arg(long, env = "HEADSTART_NAMESPACE", value_name = "NAME", requires = "node_name")]
    pub namespace: Option<String>,

    /// ConfigMap with the published state, which tells what no pod needs any more
    #[arg(long, env = "HEADSTART_PUBLISHED_STATE", default_value = "headstart-state", value_name = "NAME")]
    pub published_state: String,

    /// How archives are fetched
    #[command(flatten)]
    pub source: SourceArgs,
}

/// An agent that has its port and is ready to run.
pub struct Prepared {
    /// Where the status is served.
    pub address: SocketAddr,
    tasks: Tasks,
}

impl Prepared {
    /// Runs until the shutdown.
    pub async fn run(self) -> anyhow::Result<()> {
        self.tasks.run().await
    }
}

/// Checks the configuration and takes the port; `on_step` is called at every step of an install.
pub async fn prepare(args: RunArgs, on_step: OnStep, shutdown: Shutdown) -> anyhow::Result<Prepared> {
    let RunArgs {
        root,
        config,
        canary_root,
        node_name,
        admin_listen,
        namespace,
        published_state,
        source,
        ..
    } = args;
    let arch = Arch::host().context("this architecture is not supported; use amd64 or arm64")?;
    let root = root.unwrap_or(PathBuf::from(read_config(&config)?.host_root));
    // The canary runs in another folder, so paths must not depend on this one.
    let root = std::path::absolute(&root).with_context(|| format!("{} is not a path", root.display()))?;
    let canary_root =
        canary_root.map(std::path::absolute).transpose().context("--canary-root is not a path")?;
    let node = node_name.unwrap_or_else(host_name);
    let published = Published::default();
    let board = StatusBoard::new(node, arch, root.display().to_string(), published.clone());
    let registry = Registry::new();
    registry.register(Box::new(ProcessCollector::new()?))?;
    let metrics = Metrics::new(&registry, board.clone())?;
    let fetcher = Fetcher::new(source, Handle::current())?;
    let canary_root = CanaryRoot(canary_root.unwrap_or_else(|| root.clone()));
    let options = Options { root, config, canary_root, arch, published: published.clone(), on_step };
    let agent = Agent::new(options, board.clone(), metrics, fetcher);

    let mut tasks = Tasks::new(shutdown.clone());
    if let Some(namespace) = namespace {
        let client = cluster::connect().await?;
        let reporter = Reporter::new(client.clone(), &namespace, board.clone(), &registry)?;
        tasks.add("reports", reporter.run(shutdown.clone()));
        tasks.add("published state", published.run(client, namespace, published_state, shutdown.clone()));
    }
    let listener = TcpListener::bind(admin_listen)
        .await
        .with_context(|| format!("failed to listen on {admin_listen}; choose another --admin-listen"))?;
    let address = listener.local_addr()?;
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "status on http://{address}/v1/status");
    let ready = board.clone();
    let admin = admin::routes(Arc::new(move || ready.readiness()), registry, shutdown.clone());
    let routes = admin.merge(api::routes(board));
    tasks.add(
        "status server",
        Server::new(listener, None, ServerLimits::default()).serve(routes, shutdown.clone()),
    );
    tasks.add("cache", agent.run(shutdown));
    Ok(Prepared { address, tasks })
}

/// A bad configuration at start is an error; one that turns bad later is only reported.
pub(crate) fn read_config(path: &Path) -> anyhow::Result<Config> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("failed to read the configuration {} (--config)", path.display()))?;
    Config::parse(&text).with_context(|| format!("bad configuration {}", path.display()))
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
