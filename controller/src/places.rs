//! The objects that rounds look at or tell about: namespaces that opted in, and the configuration's ConfigMap.

use std::sync::Arc;
use std::time::Duration;

use headstart_runtime::cluster::within;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ObjectReference};
use kube::{Api, Client, Resource as _, ResourceExt as _};

use crate::probe::{Candidate, Wish, candidates};
use crate::round::Objects;

/// Longest time for one call.
const CALL: Duration = Duration::from_secs(5);

/// Where to find them.
pub struct Places {
    config_maps: Api<ConfigMap>,
    objects: Objects,
}

/// What the namespaces that opted in ask for.
pub struct Wanted {
    /// Pairs of namespace and volume kind.
    pub candidates: Vec<Candidate>,
    /// Namespaces that leave the choice to us.
    pub wishes: Vec<Wish>,
}

impl Places {
    /// In this cluster.
    pub fn new(client: Client, objects: &Objects) -> Self {
        Self { config_maps: Api::namespaced(client, &objects.namespace), objects: objects.clone() }
    }

    /// What namespaces ask for that are there to stay.
    pub fn wanted(&self, namespaces: &[Arc<Namespace>]) -> Wanted {
        let staying = || namespaces.iter().filter(|found| found.metadata.deletion_timestamp.is_none());
        let asked = staying().flat_map(|namespace| {
            let version = namespace.resource_version().unwrap_or_default();
            candidates(&namespace.name_any(), &version, namespace.labels())
        });
        let wishes = staying().filter_map(|found| Wish::of(&found.name_any(), found.labels()));
        Wanted { candidates: asked.collect(), wishes: wishes.collect() }
    }

    /// A namespace, so that its Events lie in it: whoever runs jobs there can read them.
    pub fn namespace(&self, namespaces: &[Arc<Namespace>], name: &str) -> Option<ObjectReference> {
        let found = namespaces.iter().find(|namespace| namespace.name_any() == name)?;
        Some(ObjectReference { namespace: Some(name.to_owned()), ..found.object_ref(&()) })
    }

    /// The ConfigMap with the configuration. Its UID is only there for those who describe it; where it cannot be read, the
    /// Event is told without.
    pub async fn configuration(&self) -> ObjectReference {
        let Objects { namespace, config, .. } = &self.objects;
        let found = within(CALL, self.config_maps.get_metadata_opt(config)).await.ok().flatten();
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("ConfigMap".to_owned()),
            name: Some(config.clone()),
            namespace: Some(namespace.clone()),
            uid: found.and_then(|found| found.metadata.uid),
            ..ObjectReference::default()
        }
    }
}
