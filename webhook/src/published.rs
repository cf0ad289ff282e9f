//! The newest published state and how old it is; in immediate mode it comes from the configuration file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwapOption;
use headstart_externals::config::Config;
use headstart_externals::state::PublishedState;
use headstart_runtime::age::Age;
use headstart_runtime::poll;
use headstart_runtime::shutdown::Shutdown;

use crate::reason::Reason;

/// How often the file is compared.
const POLL: Duration = Duration::from_secs(5);

/// How long a watched state may be used without being read again. By then the cluster may have moved on.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// The newest published state, for readers that must never wait.
#[derive(Clone, Default)]
pub struct Published {
    state: Arc<ArcSwapOption<PublishedState>>,
    read: Age,
    stale_after: Option<Duration>,
}

impl Published {
    /// For a state that has to be read from the API server again and again; [`Published::default`] is never stale.
    pub fn watched() -> Self {
        Self { stale_after: Some(STALE_AFTER), ..Self::default() }
    }

    /// The newest state, or why no pod may be changed by it. How long ago it was published does not matter.
    pub fn get(&self) -> Result<Arc<PublishedState>, Reason> {
        // The age first: it is renewed after the state was stored, so it is never younger than the state.
        let age = self.read.get();
        let state = self.state.load_full().ok_or(Reason::StateUnknown)?;
        match (self.stale_after, age) {
            (Some(limit), Some(age)) if age > limit => Err(Reason::StateStale),
            _ => Ok(state),
        }
    }

    /// Takes over a state that was read now.
    pub fn set(&self, state: PublishedState) {
        self.state.store(Some(Arc::new(state)));
        self.read.renew();
    }

    /// The state was read again and is as it was.
    pub fn renew(&self) {
        self.read.renew();
    }

    /// There is no state any more.
    pub fn clear(&self) {
        self.state.store(None);
    }

    /// How long ago the state was read.
    pub fn age(&self) -> &Age {
        &self.read
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
