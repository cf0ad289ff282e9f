//! Who may have its runners made: what is known of runner sets, their owners, listeners and namespaces, and what follows. Pure.

use std::collections::{BTreeMap, BTreeSet};

use headstart_externals::names::{CREATION_DISABLED, CREATION_ENABLED, CREATION_LABEL};
use headstart_externals::runner_sets::PublishedRunnerSet;
use kube::core::ObjectMeta;

use super::objects::{Listener, Owner};

/// Why a set's runners are left to ARC. The order is that in which it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// Switched off for the whole process.
    SwitchedOff,
    /// Nobody asked for it.
    NotAsked,
    /// The AutoscalingRunnerSet is not there, or is being deleted.
    NoOwner,
    /// No listener writes this set.
    NoListener,
    /// Not everything in the namespace was listed yet.
    NotListed,
    /// The controller may not do it in this namespace.
    NoRights,
    /// The set, or how its service is reached, cannot be used by us.
    Unusable,
    /// An earlier failure is not long ago.
    Suspended,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::SwitchedOff,
        Self::NotAsked,
        Self::NoOwner,
        Self::NoListener,
        Self::NotListed,
        Self::NoRights,
        Self::Unusable,
        Self::Suspended,
    ];

    /// Its code in metrics and logs.
    pub const fn code(self) -> &'static str {
        match self {
            Self::SwitchedOff => "switched-off",
            Self::NotAsked => "not-asked",
            Self::NoOwner => "no-owner",
            Self::NoListener => "no-listener",
            Self::NotListed => "not-listed",
            Self::NoRights => "no-rights",
            Self::Unusable => "unusable",
            Self::Suspended => "suspended",
        }
    }
}

/// What is known beside the sets themselves.
#[derive(Debug, Default)]
pub struct Census {
    owners: BTreeMap<String, Owner>,
    listeners: BTreeMap<String, Listener>,
}

/// What is known of one set.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'c> {
    /// Its UID.
    pub uid: &'c str,
    /// Its namespace.
    pub namespace: &'c str,
    /// Its name.
    pub name: &'c str,
    /// Name of its AutoscalingRunnerSet.
    pub owner: &'c str,
    /// What is known of the namespace.
    pub place: Place,
    /// Whether it and its service can be used by us.
    pub is_usable: bool,
    /// Whether an earlier failure is not long ago.
    pub is_suspended: bool,
}

/// What is known of a namespace.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// What its label or the configuration says.
    pub wish: Option<bool>,
    /// Whether everything in it was listed once.
    pub is_listed: bool,
    /// Whether we have the rights that it takes.
    pub is_permitted: bool,
}

/// What follows for one set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Whether its listener and its owner are there to stay.
    pub is_attended: bool,
    /// What the webhook is told of it; or why nothing is.
    pub outcome: Result<PublishedRunnerSet, Refusal>,
}

/// What an object's label says about parallel creation, if it says something.
pub fn wish(metadata: &ObjectMeta) -> Option<bool> {
    match label(metadata)? {
        CREATION_ENABLED => Some(true),
        CREATION_DISABLED => Some(false),
        _ => None,
    }
}

/// The value of an object's label that says nothing: whoever wrote it waits for something to happen.
pub fn unknown_wish(metadata: &ObjectMeta) -> Option<&str> {
    label(metadata).filter(|_| wish(metadata).is_none())
}

fn label(metadata: &ObjectMeta) -> Option<&str> {
    metadata.labels.as_ref()?.get(CREATION_LABEL).map(String::as_str)
}

/// What a namespace asks for: its label, else the configuration.
pub fn wish_of_namespace(metadata: &ObjectMeta, configured: &BTreeSet<String>) -> Option<bool> {
    let name = metadata.name.as_deref().unwrap_or_default();
    wish(metadata).or_else(|| configured.contains(name).then_some(true))
}

impl Census {
    /// An AutoscalingRunnerSet is like this; gives how it was.
    pub fn owner(&mut self, owner: Owner) -> Option<Owner> {
        self.owners.insert(owner.metadata.uid.clone().unwrap_or_default(), owner)
    }

    /// A listener is like this.
    pub fn listener(&mut self, listener: Listener) {
        self.listeners.insert(listener.metadata.uid.clone().unwrap_or_default(), listener);
    }

    /// An object with this UID is gone.
    pub fn gone(&mut self, uid: &str) {
        self.owners.remove(uid);
        self.listeners.remove(uid);
    }

    /// What follows for a set.
    pub fn judge(&self, set: Candidate<'_>, is_switched_on: bool) -> Judgement {
        let owner = self.owner_of(set);
        let is_staying = |metadata: &ObjectMeta| metadata.deletion_timestamp.is_none();
        let owner = owner.filter(|owner| is_staying(&owner.metadata));
        let listener = self.listener_of(set).filter(|listener| is_staying(&listener.metadata));
        // A namespace asks, and may except a set; a set alone cannot ask: nobody watches what is in its namespace.
        let is_excepted = owner.is_some_and(|owner| wish(&owner.metadata) == Some(false));
        let is_asked = set.place.wish == Some(true) && !is_excepted;
        let checks = [
            (!is_switched_on, Refusal::SwitchedOff),
            (!is_asked, Refusal::NotAsked),
            (owner.is_none(), Refusal::NoOwner),
            (listener.is_none(), Refusal::NoListener),
            (!set.place.is_listed, Refusal::NotListed),
            (!set.place.is_permitted, Refusal::NoRights),
            (!set.is_usable, Refusal::Unusable),
            (set.is_suspended, Refusal::Suspended),
        ];
        let refusal = checks.into_iter().find_map(|(is_so, refusal)| is_so.then_some(refusal));
        let published = listener.and_then(|listener| published(set, listener));
        Judgement {
            is_attended: owner.is_some() && listener.is_some(),
            outcome: match (refusal, published) {
                (Some(refusal), _) => Err(refusal),
                (None, Some(published)) => Ok(published),
                (None, None) => Err(Refusal::NoListener),
            },
        }
    }

    /// The AutoscalingRunnerSet of a set, for those who are told of it.
    pub fn owner_of(&self, set: Candidate<'_>) -> Option<&Owner> {
        self.owner_named(set.namespace, set.owner)
    }

    /// An AutoscalingRunnerSet by name.
    pub fn owner_named(&self, namespace: &str, name: &str) -> Option<&Owner> {
        let is_it = |owner: &&Owner| {
            owner.metadata.namespace.as_deref() == Some(namespace)
                && owner.metadata.name.as_deref() == Some(name)
        };
        self.owners.values().find(is_it)
    }

    fn listener_of(&self, set: Candidate<'_>) -> Option<&Listener> {
        let is_it = |listener: &&Listener| {
            let spec = &listener.spec;
            spec.autoscaling_runner_set_namespace == set.namespace
                && spec.autoscaling_runner_set_name == set.owner
                && spec.ephemeral_runner_set_name == set.name
        };
        self.listeners.values().find(is_it)
    }
}

/// A listener's pod runs as the ServiceAccount of its own name.
fn published(set: Candidate<'_>, listener: &Listener) -> Option<PublishedRunnerSet> {
    let (namespace, name) = (listener.metadata.namespace.as_ref()?, listener.metadata.name.as_ref()?);
    let listener = format!("system:serviceaccount:{namespace}:{name}");
    Some(PublishedRunnerSet { uid: set.uid.to_owned(), listener })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn census(label: Option<&str>) -> Census {
        let mut census = Census::default();
        let labels = label.map(|label| json!({ CREATION_LABEL: label }));
        census.owner(
            serde_json::from_value(
                json!({ "metadata": { "uid": "o", "namespace": "n", "name": "a", "labels": labels } }),
            )
            .unwrap(),
        );
        census.listener(
            serde_json::from_value(json!({
                "metadata": { "uid": "l", "namespace": "arc", "name": "a-1-listener" },
                "spec": {
                    "autoscalingRunnerSetNamespace": "n", "autoscalingRunnerSetName": "a",
                    "ephemeralRunnerSetName": "a-x",
                },
            }))
            .unwrap(),
        );
        census
    }

    fn set() -> Candidate<'static> {
        Candidate {
            uid: "u",
            namespace: "n",
            name: "a-x",
            owner: "a",
            place: Place { wish: Some(true), is_listed: true, is_permitted: true },
            is_usable: true,
            is_suspended: false,
        }
    }

    #[test]
    fn a_set_is_published_with_the_account_of_its_listener() {
        let judgement = census(None).judge(set(), true);
        assert!(judgement.is_attended);
        assert_eq!(judgement.outcome.unwrap().listener, "system:serviceaccount:arc:a-1-listener");
    }

    #[test]
    fn whatever_is_missing_leaves_a_set_to_arc() {
        let place = set().place;
        let unlisted = Candidate { place: Place { is_listed: false, ..place }, ..set() };
        let forbidden = Candidate { place: Place { is_permitted: false, ..place }, ..set() };
        let silent = Candidate { place: Place { wish: None, ..place }, ..set() };
        let cases = [
            (unlisted, Refusal::NotListed),
            (forbidden, Refusal::NoRights),
            (silent, Refusal::NotAsked),
            (Candidate { is_usable: false, ..set() }, Refusal::Unusable),
            (Candidate { is_suspended: true, ..set() }, Refusal::Suspended),
            (Candidate { owner: "b", ..set() }, Refusal::NoOwner),
            (Candidate { name: "a-y", ..set() }, Refusal::NoListener),
        ];
        for (candidate, refusal) in cases {
            assert_eq!(census(None).judge(candidate, true).outcome, Err(refusal));
        }
        assert_eq!(census(None).judge(set(), false).outcome, Err(Refusal::SwitchedOff));
        let mut without = census(None);
        without.gone("l");
        assert!(!without.judge(set(), true).is_attended);
    }

    #[test]
    fn a_namespace_asks_and_a_scale_set_may_be_excepted() {
        let of = |label, wish| {
            let place = Place { wish, ..set().place };
            census(label).judge(Candidate { place, ..set() }, true).outcome.is_ok()
        };
        assert!(of(None, Some(true)) && of(Some("enabled"), Some(true)) && of(Some("nonsense"), Some(true)));
        assert!(!of(Some("disabled"), Some(true)));
        for label in [None, Some("enabled"), Some("nonsense")] {
            assert!(!of(label, None) && !of(label, Some(false)), "{label:?}");
        }
    }

    #[test]
    fn a_namespace_asks_by_its_label_or_by_configuration() {
        let metadata = |label: Option<&str>| ObjectMeta {
            name: Some("n".to_owned()),
            labels: label.map(|label| [(CREATION_LABEL.to_owned(), label.to_owned())].into()),
            ..ObjectMeta::default()
        };
        let configured = BTreeSet::from(["n".to_owned()]);
        assert_eq!(wish_of_namespace(&metadata(None), &configured), Some(true));
        assert_eq!(wish_of_namespace(&metadata(Some("disabled")), &configured), Some(false));
        assert_eq!(wish_of_namespace(&metadata(None), &BTreeSet::new()), None);
        assert_eq!(wish_of_namespace(&metadata(Some("true")), &BTreeSet::new()), None);
        assert_eq!(unknown_wish(&metadata(Some("true"))), Some("true"));
        assert_eq!(unknown_wish(&metadata(Some("enabled"))), None);
    }
}
