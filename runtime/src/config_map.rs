//! Following one key of one ConfigMap: read again and again, and at once when a watch says that it changed.
//!
//! Only reads count. A watch may hang or lag behind without a sign, so it is a hint when to read, never a source.

use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, runtime::watcher::watch_object};

use crate::cluster::within;
use crate::shutdown::Shutdown;
use crate::trouble::Trouble;

/// Longest time for one read.
const CALL: Duration = Duration::from_secs(10);

/// How often the ConfigMap is read while nothing seems to change.
const PERIOD: Duration = Duration::from_secs(15);

/// How long to wait after a failed read.
const RETRY: Duration = Duration::from_secs(5);

/// Which text to follow.
#[derive(Clone, Debug)]
pub struct ConfigMapKey {
    /// Namespace of the ConfigMap.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The key in its data.
    pub key: &'static str,
}

/// What a successful read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The key's text.
    Text(String),
    /// The ConfigMap does not have the key.
    NoKey,
    /// There is no such ConfigMap.
    Gone,
}

/// Calls `take` after every successful read until the shutdown; failed reads are only logged.
pub async fn follow(
    client: Client,
    what: ConfigMapKey,
    shutdown: Shutdown,
    mut take: impl FnMut(Reading),
) -> anyhow::Result<()> {
    let api: Api<ConfigMap> = Api::namespaced(client, &what.namespace);
    let mut hints = pin!(watch_object(api.clone(), &what.name).default_backoff());
    let (mut trouble, mut watch_trouble) = (Trouble::default(), Trouble::default());
    loop {
        let read = tokio::select! {
            () = shutdown.begun() => return Ok(()),
            read = within(CALL, api.get_opt(&what.name)) => read,
        };
        let (namespace, name) = (&what.namespace, &what.name);
        let wait = match read {
            Ok(found) => {
                if trouble.is_over() {
                    tracing::info!(namespace, name, "the ConfigMap can be read again");
                }
                take(reading(found, what.key));
                PERIOD
            }
            Err(error) => {
                if trouble.is_news(&error) {
                    tracing::warn!(namespace, name, %error, "failed to read the ConfigMap; trying again");
                }
                RETRY
            }
        };
        tokio::select! {
            () = shutdown.begun() => return Ok(()),
            () = next_hint(&mut hints, &mut watch_trouble) => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Waits until the watch has seen something. Where it fails, changes are seen later, by the regular reads.
async fn next_hint(
    hints: &mut (impl Stream<Item = watcher::Result<Option<ConfigMap>>> + Unpin),
    trouble: &mut Trouble,
) {
    loop {
        match hints.next().await {
            Some(Ok(_)) => {
                trouble.is_over();
                return;
            }
            Some(Err(error)) if trouble.is_news(&error) => {
                tracing::info!(%error, "the watch of a ConfigMap failed; it is read every {PERIOD:?} anyway");
            }
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }
}

fn reading(found: Option<ConfigMap>, key: &str) -> Reading {
    let Some(found) = found else { return Reading::Gone };
    found.data.and_then(|mut data| data.remove(key)).map_or(Reading::NoKey, Reading::Text)
}
