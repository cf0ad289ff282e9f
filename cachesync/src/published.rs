//! What the controller has published, as far as it concerns this node: which versions it needs, and which nobody does.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use headstart_externals::names::STATE_KEY;
use headstart_externals::state::{Phase, PublishedState};
use headstart_externals::version::VersionName;
use headstart_runtime::config_map::{self, ConfigMapName, Followers, Reading};
use headstart_runtime::shutdown::Shutdown;
use headstart_runtime::trouble::Trouble;
use kube::Client;
use tokio::sync::Notify;

/// How long a state may be used for deleting without being read again.
const FRESH: Duration = Duration::from_secs(60);

/// The newest published state; empty without a controller.
#[derive(Clone, Default)]
pub struct Published {
    state: Arc<Mutex<Option<Known>>>,
    changed: Arc<Notify>,
}

struct Known {
    state: Arc<PublishedState>,
    read: Instant,
}

impl Published {
    /// The last state that could be read, however long ago.
    pub fn state(&self) -> Option<Arc<PublishedState>> {
        self.known(|known| known.state.clone())
    }

    /// How long ago it was read.
    pub fn age(&self) -> Option<Duration> {
        self.known(|known| known.read.elapsed())
    }

    /// The versions that no pod names any more; none where that is not known for certain now.
    pub fn retired(&self) -> BTreeSet<VersionName> {
        let Some(state) = self.known(|known| (known.read.elapsed() <= FRESH).then(|| known.state.clone()))
        else {
            return BTreeSet::new();
        };
        let versions = state.iter().flat_map(|state| &state.versions);
        let retired = versions.filter(|version| version.phase == Phase::Retired);
        retired.map(|version| version.name.clone()).collect()
    }

    /// Waits until another state was read.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Follows the ConfigMap `name` until the shutdown begins.
    pub async fn run(
        self,
        client: Client,
        namespace: String,
        name: String,
        shutdown: Shutdown,
    ) -> anyhow::Result<()> {
        let what = ConfigMapName { namespace, name };
        let mut trouble = Trouble::default();
        config_map::follow(client, what, Followers::Many, shutdown, |reading| {
            self.take(reading, &mut trouble)
        })
        .await
    }

    fn take(&self, reading: Reading, trouble: &mut Trouble) {
        let parsed = match reading {
            Reading::Data(data) => match data.get(STATE_KEY) {
                Some(text) => PublishedState::parse(text),
                None => Err(format!("it has no key {STATE_KEY}")),
            },
            // Before the controller's first word that is no trouble.
            Reading::Gone => return self.set(None),
        };
        match parsed {
            Ok(state) => {
                trouble.is_over();
                self.set(Some(state));
            }
            // What cannot be understood was not read: the last one is used on, and nothing is deleted.
            Err(problem) => {
                if trouble.is_news(&problem) {
                    tracing::warn!(
                        problem,
                        "the published state cannot be read; nothing is deleted meanwhile"
                    );
                }
            }
        }
    }

    fn set(&self, state: Option<PublishedState>) {
        let mut known = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.take();
        let is_news = before.as_ref().map(|known| &*known.state) != state.as_ref();
        *known = state.map(|state| Known { state: Arc::new(state), read: Instant::now() });
        drop(known);
        if is_news {
            self.changed.notify_one();
        }
    }

    fn known<T>(&self, look: impl FnOnce(&Known) -> T) -> Option<T> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(look)
    }
}
