//! Where the webhook gets its published state from: in immediate mode, from the configuration file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwapOption;
use headstart_externals::config::Config;
use headstart_externals::state::PublishedState;
use headstart_runtime::poll;
use headstart_runtime::shutdown::Shutdown;

/// How often the file is compared.
const POLL: Duration = Duration::from_secs(5);

/// The newest published state, for readers that must never wait.
#[derive(Clone, Default)]
pub struct Published(Arc<ArcSwapOption<PublishedState>>);

impl Published {
    /// The newest state; `None` while nothing was read.
    pub fn get(&self) -> Option<Arc<PublishedState>> {
        self.0.load_full()
    }

    /// Takes over a state.
    pub fn set(&self, state: PublishedState) {
        self.0.store(Some(Arc::new(state)));
    }
}

/// Derives the state from a configuration file and follows its content.
pub struct ImmediateState {
    path: PathBuf,
    seen: String,
    published: Published,
}

impl ImmediateState {
    /// Reads the file for the first time; a bad one is an error here, and only logged later.
    pub fn load(path: &Path, published: Published) -> anyhow::Result<Self> {
        let seen = read(path)?;
        let mut this = Self { path: path.to_owned(), seen: String::new(), published };
        this.take(seen)?;
        Ok(this)
    }

    /// Follows the file until the shutdown begins; the last good state is kept.
    pub async fn run(mut self, shutdown: Shutdown) -> anyhow::Result<()> {
        poll::every(POLL, shutdown, || self.check()).await
    }

    fn check(&mut self) {
        let taken = read(&self.path).and_then(|text| {
            if text == self.seen {
                return Ok(());
            }
            self.take(text)?;
            tracing::info!(config = %self.path.display(), "configuration reloaded");
            Ok(())
        });
        if let Err(error) = taken {
            tracing::warn!(error = %format!("{error:#}"), "keeping the last good configuration");
        }
    }

    fn take(&mut self, text: String) -> anyhow::Result<()> {
        let config =
            Config::parse(&text).with_context(|| format!("bad configuration {}", self.path.display()))?;
        self.published.set(PublishedState::immediate(&config));
        self.seen = text;
        Ok(())
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| {
        format!("failed to read the configuration {}; give an existing file with --config", path.display())
    })
}
