//! Namespaces of a term: which ask for it, what was listed there, and whether we may do there what it takes. What is in a
//! namespace is kept back from the engine until all of it is known: half a picture would be acted on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use kube::core::ObjectMeta;

use crate::creation::census::{Place, wish_of_namespace};
use crate::creation::journal::Journal;
use crate::creation::objects::Runner;

/// How long a namespace waits for its rights and services to be known, before it is taken as it is.
const PREPARATION: Duration = Duration::from_secs(10);

/// One namespace.
#[derive(Debug, Default)]
pub(super) struct Namespace {
    /// Since when everything in it is listed.
    listed: Option<Duration>,
    /// Whether the engine knows what is in it.
    pub(super) is_live: bool,
    /// Whether it was deleted, so that nobody can list what is in it: nothing is.
    pub(super) is_gone: bool,
    /// What is missing to our rights; `None` while nobody asked.
    pub(super) missing: Option<Vec<String>>,
    /// Its runners, until it is live.
    pub(super) runners: HashMap<String, Runner>,
    /// Journals of earlier leaders, until it is live.
    pub(super) journals: Vec<Journal>,
}

/// All namespaces that count.
#[derive(Debug, Default)]
pub(super) struct Places {
    labelled: BTreeMap<String, ObjectMeta>,
    configured: BTreeSet<String>,
    pub(super) namespaces: BTreeMap<String, Namespace>,
}

impl Places {
    /// The configuration names these.
    pub(super) fn configure(&mut self, configured: &BTreeSet<String>) {
        self.configured = configured.clone();
        self.extend();
    }

    /// A namespace that carries our label is like this; gives how it was.
    pub(super) fn labelled(&mut self, metadata: ObjectMeta) -> Option<ObjectMeta> {
        let before = self.labelled.insert(metadata.uid.clone().unwrap_or_default(), metadata);
        self.extend();
        before
    }

    /// A namespace lost our label, or is gone.
    pub(super) fn unlabelled(&mut self, uid: &str) {
        self.labelled.remove(uid);
    }

    /// A journal of an earlier leader; given back if its namespace is live already.
    pub(super) fn inherit(&mut self, journal: Journal) -> Option<Journal> {
        let namespace = self.namespaces.entry(journal.namespace.clone()).or_default();
        if namespace.is_live {
            return Some(journal);
        }
        namespace.journals.push(journal);
        None
    }

    fn extend(&mut self) {
        let is_asked = |metadata: &&ObjectMeta| wish_of_namespace(metadata, &self.configured) == Some(true);
        let labelled = self.labelled.values().filter(is_asked).filter_map(|metadata| metadata.name.clone());
        for name in labelled.chain(self.configured.iter().cloned()) {
            self.namespaces.entry(name).or_default();
        }
    }

    /// What is known of a namespace.
    pub(super) fn place(&self, name: &str) -> Place {
        let labelled = self.labelled.values().find(|metadata| metadata.name.as_deref() == Some(name));
        let unlabelled = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let namespace = self.namespaces.get(name);
        Place {
            wish: wish_of_namespace(labelled.unwrap_or(&unlabelled), &self.configured),
            is_listed: namespace.is_some_and(|namespace| namespace.is_live),
            is_permitted: namespace.and_then(|known| known.missing.as_ref()).is_some_and(Vec::is_empty),
        }
    }

    /// Whether the engine knows what is in a namespace.
    pub(super) fn is_live(&self, name: &str) -> bool {
        self.namespaces.get(name).is_some_and(|namespace| namespace.is_live)
    }

    /// Whether a namespace, in which everything is listed, becomes live now.
    pub(super) fn ripens(&mut self, name: &str, is_prepared: bool, now: Duration) -> bool {
        let Some(namespace) = self.namespaces.get_mut(name) else { return false };
        let since = *namespace.listed.get_or_insert(now);
        let is_ready = is_prepared && namespace.missing.is_some();
        let is_due = !namespace.is_live && (is_ready || now >= since + PREPARATION);
        namespace.is_live |= is_due;
        is_due
    }
}
