//! The configuration file, followed by content; the last good one is kept.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use headstart_externals::config::Config;
use headstart_runtime::poll;
use headstart_runtime::shutdown::Shutdown;
use headstart_runtime::trouble::Trouble;
use tokio::sync::watch;

/// How often the file is compared.
const POLL: Duration = Duration::from_secs(2);

/// The file and who is told of changes.
pub struct ConfigFile {
    path: PathBuf,
    seen: String,
    trouble: Trouble,
    newest: watch::Sender<Arc<Config>>,
}

impl ConfigFile {
    /// Reads the file for the first time; a bad one is an error here, and only logged later.
    pub fn load(path: &Path) -> anyhow::Result<(Self, watch::Receiver<Arc<Config>>)> {
        let seen = read(path)?;
        let (newest, receiver) = watch::channel(Arc::new(parse(path, &seen)?));
        Ok((Self { path: path.to_owned(), seen, trouble: Trouble::default(), newest }, receiver))
    }

    /// Follows the file until the shutdown begins.
    pub async fn run(mut self, shutdown: Shutdown) -> anyhow::Result<()> {
        poll::every(POLL, shutdown, || self.check()).await
    }

    fn check(&mut self) {
        let taken = read(&self.path).and_then(|text| {
            if text != self.seen {
                self.newest.send_replace(Arc::new(parse(&self.path, &text)?));
                self.seen = text;
                tracing::info!(config = %self.path.display(), "configuration reloaded");
            }
            Ok(())
        });
        match taken {
            Ok(()) if self.trouble.is_over() => tracing::info!("the configuration is sound again"),
            Ok(()) => {}
            Err(error) => {
                let error = format!("{error:#}");
                if self.trouble.is_news(&error) {
                    tracing::warn!(error, "keeping the last good configuration");
                }
            }
        }
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| {
        format!("failed to read the configuration {}; give an existing file with --config", path.display())
    })
}

fn parse(path: &Path, text: &str) -> anyhow::Result<Config> {
    Config::parse(text).with_context(|| format!("bad configuration {}", path.display()))
}
