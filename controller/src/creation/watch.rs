//! What is watched: in each namespace where runners may be made the runner sets, their runners and their owners; listeners in
//! all namespaces, since ARC keeps them in its own. A watch that begins anew tells what is gone meanwhile.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use futures::stream::{BoxStream, SelectAll};
use futures::{StreamExt as _, stream};
use headstart_externals::names::CREATION_LABEL;
use headstart_runtime::trouble::Trouble;
use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::seen::Known;
pub(super) use super::seen::{Kind, Seen};

/// How long the API server keeps a watch, in seconds: shorter than a connection may be silent.
const WATCH: u32 = 45;

/// What is watched: a kind in a namespace, or in all.
type Subject = (Kind, Option<String>);

/// What a watch brought, or that it failed.
type Stream = BoxStream<'static, (Subject, Option<Vec<Seen>>)>;

/// How long a watch may fail before what it brought counts for nothing.
const BROKEN: Duration = Duration::from_secs(10);

/// A watch that did not fail for so long works, although it may have nothing to tell: that it was resumed is not told. Longer
/// than the longest pause before the next try, which is 30 s and which chance may double.
const MENDED: Duration = Duration::from_secs(75);

/// A watch that fails again and again.
#[derive(Clone, Copy, Debug)]
struct Failing {
    since: Instant,
    last: Instant,
}

impl Failing {
    fn begins(now: Instant) -> Self {
        Self { since: now, last: now }
    }

    fn goes_on(&mut self, now: Instant) {
        if self.is_mended(now) {
            self.since = now;
        }
        self.last = now;
    }

    fn is_mended(&self, now: Instant) -> bool {
        now >= self.last + MENDED
    }

    fn is_broken(&self, now: Instant) -> bool {
        !self.is_mended(now) && self.last >= self.since + BROKEN
    }
}

/// What was listed once.
#[derive(Debug, Default)]
struct Listed {
    /// Kinds in all namespaces.
    everywhere: HashSet<Kind>,
    /// Kinds in each namespace that is watched.
    namespaces: BTreeMap<String, HashSet<Kind>>,
}

impl Listed {
    fn note(&mut self, kind: Kind, place: Option<&str>) {
        let kinds = match place {
            Some(namespace) => self.namespaces.entry(namespace.to_owned()).or_default(),
            None => &mut self.everywhere,
        };
        kinds.insert(kind);
    }

    /// Whether all is that says what is in a namespace and what is wanted of it. A namespace may be known by a journal before
    /// its labels are; to judge it by what is known then would take its runners for unwanted.
    fn is_whole(&self, namespace: &str) -> bool {
        let is_listed = |kinds: &HashSet<Kind>, all: &[Kind]| all.iter().all(|kind| kinds.contains(kind));
        let inside = self.namespaces.get(namespace);
        is_listed(&self.everywhere, &[Kind::Listener, Kind::Namespace])
            && inside.is_some_and(|kinds| is_listed(kinds, &[Kind::Set, Kind::Runner, Kind::Owner]))
    }
}

/// All watches.
pub(super) struct Watches {
    client: Client,
    listed: Listed,
    /// Watches that failed since they last brought something.
    failing: HashMap<Subject, Failing>,
    streams: SelectAll<Stream>,
}

impl Watches {
    /// Begins to watch namespaces that carry our label.
    pub(super) fn new(client: Client) -> Self {
        let labelled = lasting().labels(CREATION_LABEL);
        let namespaces =
            follow(Api::all(client.clone()), labelled, (Kind::Namespace, None), |namespace: Namespace| {
                Seen::Namespace(Box::new(namespace.metadata))
            });
        let streams = stream::select_all([namespaces]);
        Self { client, listed: Listed::default(), failing: HashMap::new(), streams }
    }

    /// Watches these namespaces too from now on; others stay watched, since what was begun there has to be ended.
    pub(super) fn include<'n>(&mut self, namespaces: impl IntoIterator<Item = &'n String>) {
        for namespace in namespaces {
            if self.listed.namespaces.contains_key(namespace) {
                continue;
            }
            if self.listed.namespaces.is_empty() {
                // Not before anybody asks: without ARC there is nothing to watch, and no right to.
                let listeners = Api::all(self.client.clone());
                let listeners = follow(listeners, lasting(), (Kind::Listener, None), |listener| {
                    Seen::Listener(Box::new(listener))
                });
                self.streams.push(listeners);
            }
            self.listed.namespaces.insert(namespace.clone(), HashSet::new());
            let client = &self.client;
            let place = |kind| (kind, Some(namespace.clone()));
            let sets = Api::namespaced(client.clone(), namespace);
            self.streams.push(follow(sets, lasting(), place(Kind::Set), |set| Seen::Set(Box::new(set))));
            let runners = Api::namespaced(client.clone(), namespace);
            self.streams.push(follow(runners, lasting(), place(Kind::Runner), |runner| {
                Seen::Runner(Box::new(runner))
            }));
            let owners = Api::namespaced(client.clone(), namespace);
            self.streams
                .push(follow(owners, lasting(), place(Kind::Owner), |owner| Seen::Owner(Box::new(owner))));
        }
    }

    /// Whether everything in a namespace was listed once, and so were all listeners and the labels of namespaces.
    pub(super) fn is_listed(&self, namespace: &str) -> bool {
        self.listed.is_whole(namespace)
    }

    /// Whether all watches that matter to a namespace work.
    pub(super) fn is_sound(&self, namespace: &str) -> bool {
        let matters = |(_, place): &Subject| place.as_deref().is_none_or(|place| place == namespace);
        let now = Instant::now();
        !self.failing.iter().any(|(subject, failing)| matters(subject) && failing.is_broken(now))
    }

    /// The next things that are seen.
    pub(super) async fn next(&mut self) -> anyhow::Result<Vec<Seen>> {
        let Some((subject, seen)) = self.streams.next().await else { anyhow::bail!("the watches ended") };
        let Some(seen) = seen else {
            let now = Instant::now();
            self.failing.entry(subject).or_insert_with(|| Failing::begins(now)).goes_on(now);
            return Ok(Vec::new());
        };
        // Only that it is begun anew is no success yet.
        if !seen.is_empty() {
            self.failing.remove(&subject);
        }
        for seen in &seen {
            if let Seen::Listed(kind, place) = seen {
                self.listed.note(*kind, place.as_deref());
            }
        }
        Ok(seen)
    }
}

fn lasting() -> watcher::Config {
    watcher::Config::default().timeout(WATCH)
}

/// Follows one kind in one place.
fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    (kind, place): (Kind, Option<String>),
    seen: fn(K) -> Seen,
) -> Stream
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let events = watcher(api, config).default_backoff();
    let events = events.modify(|object| object.meta_mut().managed_fields = None);
    let mut known = Known::default();
    let mut trouble = Trouble::default();
    let of = place.clone();
    let events = events.map(move |event| match event {
        Ok(event) => {
            if !matches!(event, Event::Init) && trouble.is_over() {
                tracing::info!(kind = %K::kind(&()), namespace = of.as_deref(), "the watch works again");
            }
            ((kind, of.clone()), Some(known.take(event, kind, of.as_deref(), seen)))
        }
        Err(error) => {
            let error = format!("{:#}", anyhow::Error::new(error));
            if trouble.is_news(&error) {
                tracing::warn!(kind = %K::kind(&()), namespace = of.as_deref(), error, "watch failed; trying again");
            }
            ((kind, of.clone()), None)
        }
    });
    events.boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_known_whole_once_its_labels_are_known_too() {
        let mut listed = Listed::default();
        for kind in [Kind::Set, Kind::Runner, Kind::Owner] {
            listed.note(kind, Some("runners"));
        }
        listed.note(Kind::Listener, None);
        assert!(!listed.is_whole("runners"), "its labels may come last");
        listed.note(Kind::Namespace, None);
        assert!(listed.is_whole("runners"));
        assert!(!listed.is_whole("others"));
    }

    #[test]
    fn a_watch_is_broken_while_it_goes_on_failing_and_no_longer() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut failing = Failing::begins(begun);
        failing.goes_on(at(9));
        assert!(!failing.is_broken(at(12)), "it was a moment, and may be resumed");
        failing.goes_on(at(13));
        assert!(failing.is_broken(at(13)));
        failing.goes_on(at(70));
        assert!(failing.is_broken(at(144)), "the next failure may be under way");
        assert!(!failing.is_broken(at(145)), "nothing failed since: it was resumed");
        failing.goes_on(at(200));
        assert!(!failing.is_broken(at(209)), "another time");
    }
}
