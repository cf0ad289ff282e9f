//! The controller's flags, and its start from them.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use headstart_externals::config::Config;
use headstart_runtime::lease::{self, LeaseConfig};
use headstart_runtime::log::LogArgs;
use headstart_runtime::process::ProcessCollector;
use headstart_runtime::program::Tasks;
use headstart_runtime::server::{Server, ServerLimits};
use headstart_runtime::shutdown::Shutdown;
use headstart_runtime::{admin, cluster};
use kube::Client;
use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::actions::Services;
use crate::certificates::{Keeper, Names};
use crate::config::ConfigFile;
use crate::creation::term::{CreationSettings, Means};
use crate::lead::Duties;
use crate::metrics::Metrics;
use crate::round::{Clients, ClusterDuty, Objects};
use crate::watched::Watched;

/// Companion controller of Headstart: publishes what pods may mount, issues the webhook's certificates, and tells nodes
/// what is known of their cache.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "headstart-controller", version)]
pub struct Args {
    /// Configuration file; reloaded when its content changes
    #[arg(long, env = "HEADSTART_CONFIG", value_name = "FILE")]
    pub config: PathBuf,

    /// Headstart's own namespace
    #[arg(long, env = "HEADSTART_NAMESPACE", value_name = "NAME")]
    pub namespace: String,

    /// Name of this replica in the leader's Lease, by default the host name with something random
    #[arg(long, env = "HEADSTART_IDENTITY", value_name = "NAME")]
    pub identity: Option<String>,

    /// Address of the HTTP port with /livez, /readyz and /metrics
    #[arg(long, env = "HEADSTART_ADMIN_LISTEN", default_value = "127.0.0.1:8083")]
    pub admin_listen: SocketAddr,

    /// Who issues the webhook's certificate and writes the CA bundle
    #[arg(long, env = "HEADSTART_CERTIFICATES", value_enum, default_value_t = Certificates::Issue)]
    pub certificates: Certificates,

    /// Creation of runners.
    #[command(flatten)]
    pub creation: CreationArgs,

    /// Names of the objects that it writes.
    #[command(flatten)]
    pub objects: ObjectArgs,

    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Who issues the webhook's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Certificates {
    /// The controller
    Issue,
    /// Something else, such as cert-manager; the controller leaves Secrets and webhook configuration alone
    External,
}

/// How runners are created.
#[derive(Clone, Debug, clap::Args)]
pub struct CreationArgs {
    /// Whether runners are created at once where a namespace or the configuration asks for it; `false` leaves all of them to
    /// ARC
    #[arg(long, env = "HEADSTART_PARALLEL_CREATION", default_value_t = true, value_name = "BOOL",
        action = clap::ArgAction::Set)]
    pub parallel_creation: bool,

    /// Most calls at once, each to the API server and to the Actions service
    #[arg(long, env = "HEADSTART_RUNNER_CREATION_CONCURRENCY", default_value = "10", value_name = "N",
        value_parser = concurrency)]
    pub runner_creation_concurrency: NonZeroU32,

    /// Longest time for a single call, such as 30s or 1500ms
    #[arg(long, env = "HEADSTART_RUNNER_CREATION_TIMEOUT", default_value = "30s", value_name = "TIME",
        value_parser = call_timeout)]
    pub runner_creation_timeout: Duration,

    /// Take every GitHub host for a GitHub Enterprise Server, as ARC does with the same variable
    #[arg(long, env = "GITHUB_ACTIONS_FORCE_GHES", value_name = "ANY")]
    pub force_ghes: Option<String>,
}

/// Most that may be asked for: beyond it, connections cost more than they gain.
const MOST_CONCURRENT: u32 = 500;

fn concurrency(text: &str) -> Result<NonZeroU32, String> {
    let number: NonZeroU32 =
        text.parse().map_err(|error| format!("{error}; give a number from 1 to {MOST_CONCURRENT}"))?;
    if number.get() > MOST_CONCURRENT {
        return Err(format!("must be at most {MOST_CONCURRENT}"));
    }
    Ok(number)
}

/// A time with its unit; between one second and ten minutes.
fn call_timeout(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration =
        text.parse().map_err(|error| format!("{error}; give a time such as 30s"))?;
    let time = Duration::try_from(span).map_err(|error| error.to_string())?;
    if !(Duration::from_secs(1)..=Duration::from_secs(600)).contains(&time) {
        return Err("must be between 1s and 10m".to_owned());
    }
    Ok(time)
}

/// Names of objects; the defaults are those of the manifests.
#[derive(Clone, Debug, clap::Args)]
pub struct ObjectArgs {
    /// ConfigMap with the published state
    #[arg(long, env = "HEADSTART_PUBLISHED_STATE", default_value = "headstart-state", value_name = "NAME")]
    pub published_state: String,

    /// ConfigMap with the configuration; Events of the rollout are about it
    #[arg(long, env = "HEADSTART_CONFIG_MAP", default_value = "headstart-config", value_name = "NAME")]
    pub config_map: String,

    /// Lease by which replicas agree on a leader
    #[arg(long, env = "HEADSTART_LEADER_LEASE", default_value = "headstart-controller", value_name = "NAME")]
    pub leader_lease: String,

    /// Service of the webhook
    #[arg(long, env = "HEADSTART_WEBHOOK_SERVICE", default_value = "headstart-webhook", value_name = "NAME")]
    pub webhook_service: String,

    /// MutatingWebhookConfiguration that gets the CA bundle
    #[arg(long, env = "HEADSTART_WEBHOOK_CONFIGURATION", default_value = "headstart", value_name = "NAME")]
    pub webhook_configuration: String,

    /// Secret with the CA's keys; a Role and a policy in deploy/ name it too
    #[arg(long, env = "HEADSTART_CA_SECRET", default_value = "headstart-ca", value_name = "NAME")]
    pub ca_secret: String,

    /// Secret with the webhook's certificate; a Role and a policy in deploy/ name it too
    #[arg(long, env = "HEADSTART_TLS_SECRET", default_value = "headstart-webhook-tls", value_name = "NAME")]
    pub tls_secret: String,

    /// ServiceAccount as which pods are tried, always as a dry run
    #[arg(long, env = "HEADSTART_PROBE_ACCOUNT", default_value = "headstart-probe", value_name = "NAME")]
    pub probe_account: String,
}

/// A controller that has its port and is ready to run.
pub struct Prepared {
    /// Where probes and metrics are served.
    pub admin: SocketAddr,
    tasks: Tasks,
}

impl Prepared {
    /// Runs until the shutdown.
    pub async fn run(self) -> anyhow::Result<()> {
        self.tasks.run().await
    }
}

/// Reads the configuration, finds the cluster and takes the port.
pub async fn prepare(args: Args, shutdown: Shutdown) -> anyhow::Result<Prepared> {
    let registry = Registry::new();
    registry.register(Box::new(ProcessCollector::new()?))?;
    let metrics = Metrics::new(&registry)?;
    let (config_file, config) = ConfigFile::load(&args.config)?;
    let client = cluster::connect().await?;
    let probe = format!("system:serviceaccount:{}:{}", args.namespace, args.objects.probe_account);
    let probe = cluster::connect_as(&probe).await?;
    let listener = TcpListener::bind(args.admin_listen).await.with_context(|| {
        format!("failed to listen on {}; choose another --admin-listen", args.admin_listen)
    })?;
    let admin = listener.local_addr()?;
    tracing::info!(%admin, version = env!("CARGO_PKG_VERSION"), "serving");
    let (watched, watching) = Watched::new(&cluster::connect_to_watch().await?, &args.namespace);
    let routes = admin::routes(Arc::new(|| Ok(())), registry, shutdown.clone());
    let mut tasks = Tasks::new(shutdown.clone());
    tasks.add(
        "admin server",
        Server::new(listener, None, ServerLimits::default()).serve(routes, shutdown.clone()),
    );
    tasks.add("configuration reload", config_file.run(shutdown.clone()));
    tasks.add("watches", watching.run(shutdown.clone()));
    let lease = LeaseConfig {
        namespace: args.namespace.clone(),
        name: args.objects.leader_lease.clone(),
        identity: args.identity.clone().unwrap_or_else(lease::identity),
        timing: Default::default(),
    };
    let creation = means(&args, &lease.identity, config.clone(), &metrics).await?;
    let replica = Replica { args, client: client.clone(), probe, watched, config, metrics, creation };
    let work = move |leading: lease::Leading| replica.duties().run(leading.over);
    tasks.add("leadership", lease::run(client, lease, shutdown, work));
    Ok(Prepared { admin, tasks })
}

/// What creating runners takes. Its calls have a client of their own, which may keep many connections.
async fn means(
    args: &Args,
    identity: &str,
    config: watch::Receiver<Arc<Config>>,
    metrics: &Metrics,
) -> anyhow::Result<Means> {
    let CreationArgs { parallel_creation, runner_creation_concurrency, runner_creation_timeout, force_ghes } =
        &args.creation;
    Ok(Means {
        watching: cluster::connect_to_watch().await?,
        client: cluster::connect().await?,
        namespace: args.namespace.clone(),
        published_state: args.objects.published_state.clone(),
        identity: identity.to_owned(),
        settings: CreationSettings {
            is_switched_on: *parallel_creation,
            concurrency: *runner_creation_concurrency,
            timeout: *runner_creation_timeout,
        },
        config,
        metrics: metrics.clone(),
        services: Arc::new(Services::new(*runner_creation_timeout, force_ghes.is_some())),
    })
}

/// What every term of this replica begins with.
struct Replica {
    creation: Means,
    args: Args,
    client: Client,
    probe: Client,
    watched: Watched,
    config: watch::Receiver<Arc<Config>>,
    metrics: Metrics,
}

impl Replica {
    fn duties(&self) -> Duties {
        let Args { namespace, objects, .. } = &self.args;
        let names = Names {
            namespace: namespace.clone(),
            service: objects.webhook_service.clone(),
            authority_secret: objects.ca_secret.clone(),
            leaf_secret: objects.tls_secret.clone(),
            webhooks: objects.webhook_configuration.clone(),
        };
        let written = Objects {
            namespace: namespace.clone(),
            published_state: objects.published_state.clone(),
            config: objects.config_map.clone(),
        };
        let issues = self.args.certificates == Certificates::Issue;
        let clients = Clients { own: self.client.clone(), probe: self.probe.clone() };
        let metrics = &self.metrics;
        Duties {
            keeper: issues.then(|| Keeper::new(self.client.clone(), names, metrics.clone())),
            creation: Some(self.creation.clone()),
            cluster: ClusterDuty::new(&clients, &self.watched, self.config.clone(), &written, metrics),
        }
    }
}
