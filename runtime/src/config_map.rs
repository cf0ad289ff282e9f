//! Following one ConfigMap: read again and again, and at once when a watch says that it changed. Whoever needs several of its
//! keys gets them from the same read.
//!
//! Only reads count. A watch may hang or lag behind without a sign, so it is a hint when to read, never a source.

use std::collections::BTreeMap;
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

/// Longest time by which one of many followers lets others go first after a change.
const SPREAD: Duration = Duration::from_secs(2);

/// How many follow the same ConfigMap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followers {
    /// A few, who want to know at once.
    Few,
    /// One per node, who must not all read in the same moment.
    Many,
}

/// Which ConfigMap to follow.
#[derive(Clone, Debug)]
pub struct ConfigMapName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What a successful read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The ConfigMap's texts, by key.
    Data(BTreeMap<String, String>),
    /// There is no such ConfigMap.
    Gone,
}

/// Calls `take` after every successful read until the shutdown; failed reads are only logged.
pub async fn follow(
    client: Client,
    what: ConfigMapName,
    followers: Followers,
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
                take(found.map_or(Reading::Gone, |found| Reading::Data(found.data.unwrap_or_default())));
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
            () = hinted(&mut hints, &mut watch_trouble, followers) => {}
            () = tokio::time::sleep(shortened(wait)) => {}
        }
    }
}

/// Waits until the watch has seen something, and for one's turn.
async fn hinted(
    hints: &mut (impl Stream<Item = watcher::Result<Option<ConfigMap>>> + Unpin),
    trouble: &mut Trouble,
    followers: Followers,
) {
    next_hint(hints, trouble).await;
    if followers == Followers::Many {
        tokio::time::sleep(SPREAD.mul_f64(fastrand::f64())).await;
    }
}

/// Up to a fifth less, so that those who began together do not go on so.
fn shortened(wait: Duration) -> Duration {
    wait.mul_f64(1.0 - fastrand::f64() / 5.0)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn changed() -> impl Stream<Item = watcher::Result<Option<ConfigMap>>> + Unpin {
        futures::stream::iter([Ok(None)])
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_read_at_once_and_many_one_after_the_other() {
        let begun = tokio::time::Instant::now();
        hinted(&mut changed(), &mut Trouble::default(), Followers::Few).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        let mut waited = Vec::new();
        for _ in 0..20 {
            let begun = tokio::time::Instant::now();
            hinted(&mut changed(), &mut Trouble::default(), Followers::Many).await;
            waited.push(begun.elapsed());
        }
        waited.sort();
        waited.dedup();
        assert!(
            waited.len() > 10 && waited.iter().all(|waited| *waited <= SPREAD + Duration::from_millis(1))
        );
    }

    #[test]
    fn the_pause_between_two_reads_is_never_longer_than_said() {
        let waits: Vec<Duration> = (0..100).map(|_| shortened(PERIOD)).collect();
        assert!(waits.iter().all(|wait| (PERIOD * 4 / 5..=PERIOD).contains(wait)));
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }
}
