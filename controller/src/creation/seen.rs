//! What watches bring, in one word for what is there and what is gone: a list that is read anew tells by what it lacks what
//! went unseen. Pure.

use std::collections::HashSet;

use kube::Resource;
use kube::core::ObjectMeta;
use kube::runtime::watcher::Event;

use super::objects::{Listener, Owner, Runner, RunnerSet};

/// Something that a watch brought.
#[derive(Debug)]
pub enum Seen {
    /// A runner set.
    Set(Box<RunnerSet>),
    /// A runner.
    Runner(Box<Runner>),
    /// An AutoscalingRunnerSet.
    Owner(Box<Owner>),
    /// A listener.
    Listener(Box<Listener>),
    /// A namespace that carries our label.
    Namespace(Box<ObjectMeta>),
    /// An object that is not there any more, as it was last seen.
    Gone(Kind, String),
    /// All objects of a kind in a place were listed once.
    Listed(Kind, Option<String>),
}

/// The kinds that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// EphemeralRunnerSets.
    Set,
    /// EphemeralRunners.
    Runner,
    /// AutoscalingRunnerSets.
    Owner,
    /// AutoscalingListeners.
    Listener,
    /// Namespaces that carry our label.
    Namespace,
}

/// The objects of one watch, by UID, so that what is gone after a new list is told.
#[derive(Debug, Default)]
pub struct Known {
    there: HashSet<String>,
    listed: HashSet<String>,
}

impl Known {
    /// What an event of the watch means; `seen` puts an object into our words.
    pub fn take<K: Resource>(
        &mut self,
        event: Event<K>,
        kind: Kind,
        place: Option<&str>,
        seen: fn(K) -> Seen,
    ) -> Vec<Seen> {
        match event {
            Event::Apply(object) => {
                self.there.insert(uid(&object));
                vec![seen(object)]
            }
            Event::Delete(object) => {
                self.there.remove(&uid(&object));
                vec![Seen::Gone(kind, uid(&object))]
            }
            Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                self.listed.insert(uid(&object));
                vec![seen(object)]
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let before = std::mem::replace(&mut self.there, listed);
                let gone = before.into_iter().filter(|uid| !self.there.contains(uid));
                let mut all: Vec<Seen> = gone.map(|uid| Seen::Gone(kind, uid)).collect();
                all.push(Seen::Listed(kind, place.map(str::to_owned)));
                all
            }
        }
    }
}

fn uid<K: Resource>(object: &K) -> String {
    object.meta().uid.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_new_list_lacks_is_gone() {
        let runner = |uid: &str| {
            let metadata = ObjectMeta { uid: Some(uid.to_owned()), ..ObjectMeta::default() };
            Runner { metadata, ..Runner::default() }
        };
        let mut known = Known::default();
        let mut take =
            |event| known.take(event, Kind::Runner, Some("n"), |runner| Seen::Runner(Box::new(runner)));
        for uid in ["a", "b"] {
            assert!(matches!(&take(Event::Apply(runner(uid)))[..], [Seen::Runner(_)]));
        }
        assert!(take(Event::Init).is_empty(), "nothing is gone before the list is whole");
        assert!(matches!(&take(Event::InitApply(runner("b")))[..], [Seen::Runner(_)]));
        let seen = take(Event::InitDone);
        assert!(
            matches!(&seen[..], [Seen::Gone(Kind::Runner, uid), Seen::Listed(Kind::Runner, Some(_))] if uid == "a"),
            "{seen:?}"
        );
        assert!(
            matches!(&take(Event::Delete(runner("b")))[..], [Seen::Gone(Kind::Runner, uid)] if uid == "b")
        );
    }
}
