//! A virtual API server: objects with UID, resourceVersion, finalizers and a log of events, for a virtual clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::model::calls::Failure;
use super::model::manager::Change;
use super::model::objects::{Key, Kind, Object, Text};

/// All objects, and everything that ever happened to them.
#[derive(Clone, Debug)]
pub struct Store {
    objects: BTreeMap<(Kind, Key), Arc<Object>>,
    log: Vec<Change>,
    version: u64,
    names: fastrand::Rng,
    quota: Option<usize>,
}

/// The characters of generated names.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

impl Store {
    /// An empty one; the seed decides over generated names.
    pub fn new(seed: u64) -> Self {
        let names = fastrand::Rng::with_seed(seed);
        Self { objects: BTreeMap::new(), log: vec![], version: 0, names, quota: None }
    }

    /// No more pods than that are admitted.
    pub fn set_pod_quota(&mut self, most: Option<usize>) {
        self.quota = most;
    }

    /// Creates it and gives it as it is stored.
    pub fn create(&mut self, mut object: Object, now: Duration) -> Result<Arc<Object>, Failure> {
        let kind = object.kind();
        if kind == Kind::Pod && self.quota.is_some_and(|most| self.of_kind(Kind::Pod).count() >= most) {
            return Err(Failure::Quota);
        }
        if object.key().name.ends_with('-') {
            let suffix: String =
                (0..5).map(|_| char::from(ALPHABET[self.names.usize(..ALPHABET.len())])).collect();
            let name = format!("{}{suffix}", object.key().name);
            object.meta_mut().key.name = name.into();
        }
        let at = (kind, object.key().clone());
        if self.objects.contains_key(&at) {
            return Err(Failure::AlreadyExists);
        }
        let meta = object.meta_mut();
        meta.uid = Text::from(format!("uid-{}", self.version + 1));
        meta.created = now;
        meta.deleting = false;
        Ok(self.put(object))
    }

    /// Changes it by a patch; with a version given only if that is the stored one. What changes nothing is no event.
    pub fn update(
        &mut self,
        kind: Kind,
        key: &Key,
        version: Option<u64>,
        patch: impl FnOnce(&mut Object) -> Result<(), Failure>,
    ) -> Result<Arc<Object>, Failure> {
        let old = self.objects.get(&(kind, key.clone())).ok_or(Failure::NotFound)?;
        if version.is_some_and(|version| version != old.meta().version) {
            return Err(Failure::Conflict);
        }
        let mut new = Object::clone(old);
        patch(&mut new)?;
        if new == **old {
            return Ok(Arc::clone(old));
        }
        if new.meta().deleting && new.meta().finalizers.is_empty() {
            self.gone(kind, key);
            return Ok(Arc::new(new));
        }
        Ok(self.put(new))
    }

    /// Deletes it; with finalizers it stays until they are gone.
    pub fn delete(&mut self, kind: Kind, key: &Key) -> Result<(), Failure> {
        let object = self.get(kind, key).ok_or(Failure::NotFound)?;
        if object.meta().finalizers.is_empty() {
            self.gone(kind, key);
        } else if !object.meta().deleting {
            let mut object = object.clone();
            object.meta_mut().deleting = true;
            self.put(object);
        }
        Ok(())
    }

    /// An object.
    pub fn get(&self, kind: Kind, key: &Key) -> Option<&Object> {
        self.objects.get(&(kind, key.clone())).map(Arc::as_ref)
    }

    /// All objects of a kind, by key.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.objects.iter().filter(move |((own, _), _)| *own == kind).map(|(_, object)| object.as_ref())
    }

    /// How many events there were; a watch keeps this number and asks for those after it.
    pub fn events(&self) -> usize {
        self.log.len()
    }

    /// The events from a number on.
    pub fn since(&self, from: usize) -> &[Change] {
        self.log.get(from..).unwrap_or_default()
    }

    /// What the garbage collector does at some time: objects whose owner is gone go.
    pub fn collect(&mut self) -> usize {
        let lost = |object: &&Arc<Object>| {
            let owner = object.meta().owner.as_ref();
            owner.is_some_and(|owner| {
                let key =
                    Key { namespace: Arc::clone(&object.key().namespace), name: Arc::clone(&owner.name) };
                self.get(owner.kind, &key).is_none_or(|found| found.meta().uid != owner.uid)
            })
        };
        let lost: Vec<(Kind, Key)> =
            self.objects.values().filter(lost).map(|object| (object.kind(), object.key().clone())).collect();
        lost.iter().filter(|(kind, key)| self.delete(*kind, key).is_ok()).count()
    }

    fn put(&mut self, mut object: Object) -> Arc<Object> {
        self.version += 1;
        object.meta_mut().version = self.version;
        let object = Arc::new(object);
        self.objects.insert((object.kind(), object.key().clone()), Arc::clone(&object));
        self.log.push(Change::Put(Arc::clone(&object)));
        object
    }

    fn gone(&mut self, kind: Kind, key: &Key) {
        self.version += 1;
        self.objects.remove(&(kind, key.clone()));
        self.log.push(Change::Gone(kind, key.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arc::model::objects::{ConfigMap, Meta};

    fn map(name: &str, finalizers: &[&str]) -> Object {
        let meta = Meta::new(Key::new("n", name)).finalized(finalizers);
        Object::ConfigMap(ConfigMap { meta, data: BTreeMap::new() })
    }

    fn fill(object: &mut Object) -> Result<(), Failure> {
        object.config_map_mut().unwrap().data.insert("k".into(), "v".into());
        Ok(())
    }

    #[test]
    fn names_are_unique_and_generated() {
        let mut store = Store::new(1);
        store.create(map("a", &[]), Duration::ZERO).unwrap();
        assert_eq!(store.create(map("a", &[]), Duration::ZERO), Err(Failure::AlreadyExists));
        let made = store.create(map("a-", &[]), Duration::ZERO).unwrap();
        assert_eq!(made.key().name.len(), 7);
        assert_eq!(store.of_kind(Kind::ConfigMap).count(), 2);
    }

    #[test]
    fn a_change_is_an_event_and_no_change_is_none() {
        let mut store = Store::new(1);
        let made = store.create(map("a", &[]), Duration::ZERO).unwrap();
        let version = made.meta().version;
        let changed = store.update(Kind::ConfigMap, made.key(), Some(version), fill).unwrap();
        store.update(Kind::ConfigMap, made.key(), None, fill).unwrap();
        assert_eq!(store.since(1), [Change::Put(changed)]);
        assert_eq!(store.update(Kind::ConfigMap, made.key(), Some(version), fill), Err(Failure::Conflict));
        assert_eq!(store.update(Kind::ConfigMap, &Key::new("n", "x"), None, fill), Err(Failure::NotFound));
    }

    #[test]
    fn finalizers_keep_what_is_deleted() {
        let mut store = Store::new(1);
        let made = store.create(map("a", &["f"]), Duration::ZERO).unwrap();
        store.delete(Kind::ConfigMap, made.key()).unwrap();
        assert!(store.get(Kind::ConfigMap, made.key()).unwrap().meta().deleting);
        let events = store.events();
        store.delete(Kind::ConfigMap, made.key()).unwrap();
        assert_eq!(store.events(), events);
        let free = |object: &mut Object| -> Result<(), Failure> {
            object.meta_mut().finalizers.clear();
            Ok(())
        };
        store.update(Kind::ConfigMap, made.key(), None, free).unwrap();
        assert!(store.get(Kind::ConfigMap, made.key()).is_none());
        assert_eq!(store.since(events), [Change::Gone(Kind::ConfigMap, made.key().clone())]);
    }

    #[test]
    fn children_of_nobody_are_collected() {
        let mut store = Store::new(1);
        let parent = store.create(map("a", &[]), Duration::ZERO).unwrap();
        let mut child = map("b", &[]);
        *child.meta_mut() = Meta::new(Key::new("n", "b")).owned(Kind::ConfigMap, parent.meta());
        store.create(child, Duration::ZERO).unwrap();
        assert_eq!(store.collect(), 0);
        store.delete(Kind::ConfigMap, parent.key()).unwrap();
        store.create(map("a", &[]), Duration::ZERO).unwrap();
        assert_eq!(store.collect(), 1, "a namesake of the owner is not the owner");
    }
}
