//! The flags for sources that are fetched: whom to trust, what to say to them, how long to wait.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::Certificate;

/// Seconds that a server may be silent.
const SILENCE: u64 = 30;

/// Flags for archives.
#[derive(Clone, Debug, clap::Args)]
pub struct SourceArgs {
    /// Folder with one folder for each Secret that archives name under `auth`: with the file `token`, or with `username`
    /// and `password`; read anew for each request
    #[arg(long, env = "HEADSTART_CREDENTIALS_DIR", value_name = "DIR")]
    pub credentials: Option<PathBuf>,

    /// Certificates (PEM) of authorities to trust for HTTPS besides the system's; read anew for each download
    #[arg(long, env = "HEADSTART_CA_BUNDLE", value_name = "FILE")]
    pub ca_bundle: Option<PathBuf>,

    /// Seconds after which the server of an archive that sends nothing is given up
    #[arg(
        long,
        env = "HEADSTART_SOURCE_SILENCE",
        value_name = "SECONDS",
        default_value_t = SILENCE,
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    pub source_silence: u64,
}

impl Default for SourceArgs {
    fn default() -> Self {
        Self { credentials: None, ca_bundle: None, source_silence: SILENCE }
    }
}

impl SourceArgs {
    /// Longest silence of a server.
    pub(super) fn silence(&self) -> Duration {
        Duration::from_secs(self.source_silence)
    }

    /// The authorities besides the system's.
    pub(super) fn authorities(&self) -> anyhow::Result<Vec<Certificate>> {
        let Some(path) = &self.ca_bundle else { return Ok(Vec::new()) };
        let at = path.display();
        let text = std::fs::read(path).with_context(|| format!("failed to read {at} (--ca-bundle)"))?;
        let found = Certificate::from_pem_bundle(&text)
            .with_context(|| format!("{at} (--ca-bundle) is not PEM with certificates"))?;
        anyhow::ensure!(!found.is_empty(), "{at} (--ca-bundle) holds no PEM certificate");
        Ok(found)
    }
}
