//! The webhook's flags, and its start from them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{ArgAction, ArgGroup};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use headstart_runtime::admin::{self, Readiness};
use headstart_runtime::cluster;
use headstart_runtime::lag::Lag;
use headstart_runtime::log::LogArgs;
use headstart_runtime::metrics::{CertificateMetrics, ConnectionMetrics};
use headstart_runtime::process::ProcessCollector;
use headstart_runtime::program::Tasks;
use headstart_runtime::server::{Server, ServerLimits};
use headstart_runtime::shutdown::Shutdown;
use headstart_runtime::tls::{TlsArgs, TlsSource};
use prometheus::Registry;
use tokio::net::TcpListener;

use crate::metrics::Metrics;
use crate::published::{ImmediateState, Published};
use crate::reason::Reason;
use crate::runner_sets::leader;
use crate::runner_sets::reason::PinReason;
use crate::runner_sets::sources::RunnerSets;
use crate::server::{RequestLimits, Webhook, routes};
use crate::watched::WatchedState;

/// Longest wait for a request on the admin port, where nobody keeps connections.
const ADMIN_HEADERS: Duration = Duration::from_secs(10);

/// How long a new replica waits for its first state before it says that it is ready.
const FIRST_STATE: Duration = Duration::from_secs(10);

/// Mutating admission webhook that mounts the node's externals cache into runner and workflow pods.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "headstart-webhook", version)]
#[command(group = ArgGroup::new("state").required(true).args(["config", "published_state"]))]
pub struct Args {
    /// Configuration file; the published state follows from it at once, without a controller
    #[arg(long, env = "HEADSTART_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// ConfigMap with the published state that headstart-controller writes; needs --namespace
    #[arg(long, env = "HEADSTART_PUBLISHED_STATE", value_name = "NAME", requires = "namespace")]
    pub published_state: Option<String>,

    /// Namespace of that ConfigMap, and of the leader's Lease
    #[arg(long, env = "HEADSTART_NAMESPACE", value_name = "NAME")]
    pub namespace: Option<String>,

    /// Lease of the controller's leader, without which no scale-up is left to it
    #[arg(long, env = "HEADSTART_LEADER_LEASE", default_value = "headstart-controller", value_name = "NAME")]
    pub leader_lease: String,

    /// Whether scale-ups of runner sets may be left to the controller, where it is asked for; false leaves them all alone
    #[arg(long, env = "HEADSTART_PARALLEL_CREATION", default_value = "true", value_name = "BOOL",
        action = ArgAction::Set)]
    pub parallel_creation: bool,

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
    #[arg(long, env = "HEADSTART_MAX_CONNECTIONS", default_value = "1024", value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,

    /// Most requests in progress at once; pods of runners and workflows beyond that are left unchanged, with a warning, and so
    /// are scale-ups of runner sets
    #[arg(long, env = "HEADSTART_MAX_IN_FLIGHT", default_value = "512", value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_in_flight: u32,

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

/// A webhook that has its ports and is ready to run.
pub struct Prepared {
    /// Where AdmissionReviews are answered, over HTTPS.
    pub https: SocketAddr,
    /// Where probes and metrics are served, over HTTP.
    pub admin: SocketAddr,
    tasks: Tasks,
}

impl Prepared {
    /// Runs until the shutdown.
    pub async fn run(self) -> anyhow::Result<()> {
        self.tasks.run().await
    }
}

/// Reads configuration and certificate and takes the ports.
pub async fn prepare(args: Args, shutdown: Shutdown) -> anyhow::Result<Prepared> {
    let registry = Registry::new();
    registry.register(Box::new(ProcessCollector::new()?))?;
    let metrics = Metrics::new(&registry)?;
    let Sources { published, runner_sets, tasks: sources } =
        sources(&args, &metrics, &registry, &shutdown).await?;
    let (tls, reloader) = TlsSource::load(&args.tls)?;
    let reloader = reloader.observed(CertificateMetrics::new(&registry)?);
    let observer = ConnectionMetrics::new(&registry)?.observer();
    let request_limits =
        RequestLimits { deadline: Duration::from_millis(args.deadline_ms), in_flight: args.max_in_flight };
    let ready = readiness(&published);
    let lag = Lag::default();
    let webhook = Webhook { published, runner_sets, metrics, limits: request_limits, lag: lag.clone() };
    let listener = bind(args.listen, "--listen").await?;
    let admin_listener = bind(args.admin_listen, "--admin-listen").await?;
    let (https, admin) = (listener.local_addr()?, admin_listener.local_addr()?);
    tracing::info!(%https, %admin, version = env!("CARGO_PKG_VERSION"), "serving");
    let limits = ServerLimits {
        connections: args.max_connections as usize,
        drain_delay: Duration::from_millis(args.drain_delay_ms),
        ..ServerLimits::default()
    };
    let admin_routes = admin::routes(ready, registry, shutdown.clone());
    let admin_server = Server::new(admin_listener, None, ServerLimits { headers: ADMIN_HEADERS, ..limits });
    let server = Server::new(listener, Some(tls), limits).observed(observer);
    let mut tasks = Tasks::new(shutdown.clone());
    tasks.add("webhook server", server.serve(routes(webhook, shutdown.clone()), shutdown.clone()));
    tasks.add("admin server", admin_server.serve(admin_routes, shutdown.clone()));
    tasks.add("measuring of lag", lag.run(shutdown.clone()));
    tasks.add("certificate reload", reloader.run(shutdown.clone()));
    for (name, task) in sources {
        tasks.add(name, task);
    }
    Ok(Prepared { https, admin, tasks })
}

/// Ready once a state was read, so that a rollout loses no pod to a replica that knows nothing yet. After some time a
/// webhook without a state is ready as well: it changes no pod, and a rollout must not wait for the controller.
fn readiness(published: &Published) -> Readiness {
    let (published, started) = (published.clone(), Instant::now());
    Arc::new(move || match published.get() {
        Err(Reason::StateUnknown) if started.elapsed() < FIRST_STATE => {
            Err("no state was read yet".to_owned())
        }
        _ => Ok(()),
    })
}

/// What decisions are made by, and the tasks that keep it up to date.
struct Sources {
    published: Published,
    runner_sets: RunnerSets,
    tasks: Vec<(&'static str, BoxFuture<'static, anyhow::Result<()>>)>,
}

/// Where the flags say that it comes from.
async fn sources(
    args: &Args,
    metrics: &Metrics,
    registry: &Registry,
    shutdown: &Shutdown,
) -> anyhow::Result<Sources> {
    match (&args.config, &args.published_state, &args.namespace) {
        (Some(config), None, _) => {
            let published = Published::default();
            let state = ImmediateState::load(config, published.clone())?;
            let tasks = vec![("published state", state.run(shutdown.clone()).boxed())];
            Ok(Sources { published, runner_sets: RunnerSets::unused(PinReason::NoController), tasks })
        }
        (None, Some(name), Some(namespace)) => {
            let published = Published::watched();
            let help = "How long ago the published state was last read from the API server, in seconds";
            registry.register(published.age().metric("headstart_state_age_seconds", help)?)?;
            let runner_sets = if args.parallel_creation {
                RunnerSets::watched()
            } else {
                RunnerSets::unused(PinReason::SwitchedOff)
            };
            let client = cluster::connect().await?;
            let state = WatchedState::new(published.clone(), runner_sets.clone(), metrics.clone());
            let state = state.run(client.clone(), namespace.clone(), name.clone(), shutdown.clone());
            let mut tasks = vec![("published state", state.boxed())];
            if let Some(seen) = runner_sets.leader_seen() {
                let help =
                    "How long ago the controller's leader was last seen renewing its Lease, in seconds";
                registry.register(seen.metric("headstart_leader_age_seconds", help)?)?;
                let lease = (namespace.clone(), args.leader_lease.clone());
                let leader = leader::follow(client, lease, runner_sets.clone(), shutdown.clone());
                tasks.push(("the leader's Lease", leader.boxed()));
            }
            Ok(Sources { published, runner_sets, tasks })
        }
        _ => anyhow::bail!("give either --config, or --published-state and --namespace"),
    }
}

async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("failed to listen on {address}; choose another {flag}"))
}
