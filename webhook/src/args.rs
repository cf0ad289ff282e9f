//! The webhook's flags, and its start from them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use headstart_runtime::admin::{self, Readiness};
use headstart_runtime::log::LogArgs;
use headstart_runtime::process::ProcessCollector;
use headstart_runtime::program::Tasks;
use headstart_runtime::server::{Server, ServerLimits};
use headstart_runtime::shutdown::Shutdown;
use headstart_runtime::tls::{TlsArgs, TlsSource};
use prometheus::Registry;
use tokio::net::TcpListener;

use crate::metrics::Metrics;
use crate::published::{ImmediateState, Published};
use crate::server::{Webhook, routes};

/// Mutating admission webhook that mounts the node's externals cache into runner and workflow pods.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "headstart-webhook", version)]
pub struct Args {
    /// Configuration file; the published state follows from it at once
    #[arg(long, env = "HEADSTART_CONFIG", value_name = "FILE")]
    pub config: PathBuf,

    /// Address of the HTTPS port that the API server calls
    #[arg(long, env = "HEADSTART_LISTEN", default_value = "0.0.0.0:8443")]
    pub listen: SocketAddr,

    /// Address of the plain HTTP port with /livez, /readyz and /metrics
    #[arg(long, env = "HEADSTART_ADMIN_LISTEN", default_value = "127.0.0.1:8082")]
    pub admin_listen: SocketAddr,

    /// Longest time for one request in milliseconds; keep it below the timeoutSeconds of the webhook configuration
    #[arg(long, env = "HEADSTART_DEADLINE_MS", default_value = "1500", value_name = "MS")]
    pub deadline_ms: u64,

    /// Most connections at once
    #[arg(long, env = "HEADSTART_MAX_CONNECTIONS", default_value = "1024", value_name = "N")]
    pub max_connections: usize,

    /// How long to go on accepting connections after a shutdown began, in milliseconds
    #[arg(long, env = "HEADSTART_DRAIN_DELAY_MS", default_value = "0", value_name = "MS")]
    pub drain_delay_ms: u64,

    /// Certificate files.
    #[command(flatten)]
    pub tls: TlsArgs,

    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Runs the webhook until the shutdown.
pub async fn run(args: Args, shutdown: Shutdown) -> anyhow::Result<()> {
    let registry = Registry::new();
    registry.register(Box::new(ProcessCollector::new()?))?;
    let published = Published::default();
    let state = ImmediateState::load(&args.config, published.clone())?;
    let (tls, reloader) = TlsSource::load(&args.tls)?;
    let webhook = Webhook {
        published,
        metrics: Metrics::new(&registry)?,
        deadline: Duration::from_millis(args.deadline_ms),
    };
    let listener = bind(args.listen, "--listen").await?;
    let admin_listener = bind(args.admin_listen, "--admin-listen").await?;
    tracing::info!(
        https = %listener.local_addr()?,
        admin = %admin_listener.local_addr()?,
        version = env!("CARGO_PKG_VERSION"),
        "serving"
    );
    let limits = ServerLimits {
        connections: args.max_connections,
        drain_delay: Duration::from_millis(args.drain_delay_ms),
        ..ServerLimits::default()
    };
    let readiness = Readiness::not_yet("starting");
    readiness.set_ready();
    let admin = admin::routes(readiness, registry, shutdown.clone());
    let mut tasks = Tasks::new(shutdown.clone());
    tasks.add("webhook server", Server::new(listener, Some(tls), limits).serve(routes(webhook), shutdown.clone()));
    let admin_server = Server::new(admin_listener, None, ServerLimits { drain_delay: limits.drain_delay, ..ServerLimits::default() });
    tasks.add("admin server", admin_server.serve(admin, shutdown.clone()));
    tasks.add("certificate reload", reloader.run(shutdown.clone()));
    tasks.add("configuration reload", state.run(shutdown));
    tasks.run().await
}

async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("failed to listen on {address}; choose another {flag}"))
}
