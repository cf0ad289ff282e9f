//! What the manager's watches have shown so far: it may lag behind what is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::objects::{Key, Kind, ListenerObject, Object, Pod, Runner, RunnerSet, ScaleSet};

/// Objects by kind and key, and runners by the *name* of their set.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    objects: BTreeMap<(Kind, Key), Arc<Object>>,
    children: BTreeMap<Key, BTreeSet<Key>>,
}

impl Cache {
    /// An object is there, or has changed. Gives whether that is news.
    pub fn put(&mut self, object: Arc<Object>) -> bool {
        let at = (object.kind(), object.key().clone());
        if let Some(set) = owner(&object) {
            self.children.entry(set).or_default().insert(at.1.clone());
        }
        let version = object.meta().version;
        let old = self.objects.insert(at, object);
        old.is_none_or(|old| old.meta().version != version)
    }

    /// An object is gone.
    pub fn remove(&mut self, kind: Kind, key: &Key) -> Option<Arc<Object>> {
        let old = self.objects.remove(&(kind, key.clone()))?;
        if let Some(set) = owner(&old)
            && let Some(children) = self.children.get_mut(&set)
        {
            children.remove(key);
        }
        Some(old)
    }

    /// An object.
    pub fn get(&self, kind: Kind, key: &Key) -> Option<&Object> {
        self.objects.get(&(kind, key.clone())).map(Arc::as_ref)
    }

    /// A scale set.
    pub fn scale_set(&self, key: &Key) -> Option<&ScaleSet> {
        self.get(Kind::ScaleSet, key)?.scale_set()
    }

    /// A runner set.
    pub fn runner_set(&self, key: &Key) -> Option<&RunnerSet> {
        self.get(Kind::RunnerSet, key)?.runner_set()
    }

    /// A runner.
    pub fn runner(&self, key: &Key) -> Option<&Runner> {
        self.get(Kind::Runner, key)?.runner()
    }

    /// A pod.
    pub fn pod(&self, key: &Key) -> Option<&Pod> {
        self.get(Kind::Pod, key)?.pod()
    }

    /// The runners whose owner has the name of this set, by name.
    pub fn runners_of<'c>(&'c self, set: &Key) -> impl Iterator<Item = &'c Runner> {
        let children = self.children.get(set).into_iter().flatten();
        children.filter_map(|key| self.runner(key))
    }

    /// The runner sets of a scale set.
    pub fn sets_of<'c>(&'c self, scale_set: &'c Key) -> impl Iterator<Item = &'c RunnerSet> {
        let all = self.of_kind(Kind::RunnerSet).filter_map(Object::runner_set);
        all.filter(|set| set.meta.owner_of(Kind::ScaleSet).as_ref() == Some(scale_set))
    }

    /// The listeners of a scale set.
    pub fn listeners_of<'c>(&'c self, scale_set: &'c Key) -> impl Iterator<Item = &'c ListenerObject> {
        let all = self.of_kind(Kind::Listener).filter_map(Object::listener);
        all.filter(move |listener| listener.scale_set == *scale_set)
    }

    /// All objects of a kind.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.objects.iter().filter(move |((own, _), _)| *own == kind).map(|(_, object)| object.as_ref())
    }
}

fn owner(object: &Object) -> Option<Key> {
    object.runner()?.meta.owner_of(Kind::RunnerSet)
}
