//! Log flags and set-up: structured lines on standard error, as text or JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// The Kubernetes client logs every failed call; so do its callers, once and with the cause. A filter may undo this.
const SILENT: &str = "kube_client::client::builder=off";

/// Flags for logging.
#[derive(Clone, Debug, clap::Args)]
pub struct LogArgs {
    /// What to log: error, warn, info, debug, or a filter such as `info,headstart_webhook=debug`
    #[arg(long, global = true, env = "HEADSTART_LOG", default_value = "info", value_parser = parse_filter)]
    pub log: String,

    /// How log lines look
    #[arg(long, global = true, env = "HEADSTART_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One readable line per event; colours only on a terminal.
    Text,
    /// One JSON object per event.
    Json,
}

/// The filter is kept as text, since it cannot be cloned, but it is checked with the other flags.
fn parse_filter(text: &str) -> Result<String, ParseError> {
    text.parse::<EnvFilter>().map(|_| text.to_owned())
}

impl LogArgs {
    /// Starts logging for the whole process; a second call changes nothing.
    pub fn init(&self) {
        let filter = EnvFilter::new(format!("{SILENT},{}", self.log));
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
        let started = match self.log_format {
            LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
            LogFormat::Json => builder.json().flatten_event(true).try_init(),
        };
        if started.is_err() {
            tracing::debug!("logging was started before");
        }
    }
}
