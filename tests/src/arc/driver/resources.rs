//! How the kinds of the model are named in the API, and their definitions.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};

use crate::arc::model::Kind;
use crate::bed::ControlPlane;
use crate::wait::within;

/// Our own minimal definitions of ARC's four kinds.
pub const CRDS: &str = include_str!("../../../bed/arc/crds.yaml");

/// Group, version and names of a kind.
pub fn resource(kind: Kind) -> ApiResource {
    let (group, version, name, plural) = match kind {
        Kind::ScaleSet => ("actions.github.com", "v1alpha1", "AutoscalingRunnerSet", "autoscalingrunnersets"),
        Kind::RunnerSet => ("actions.github.com", "v1alpha1", "EphemeralRunnerSet", "ephemeralrunnersets"),
        Kind::Runner => ("actions.github.com", "v1alpha1", "EphemeralRunner", "ephemeralrunners"),
        Kind::Listener => ("actions.github.com", "v1alpha1", "AutoscalingListener", "autoscalinglisteners"),
        Kind::Secret => ("", "v1", "Secret", "secrets"),
        Kind::Pod => ("", "v1", "Pod", "pods"),
        Kind::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
    };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, name), plural)
}

/// The API of a kind in a namespace.
pub fn api(client: &Client, kind: Kind, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, &resource(kind))
}

/// Makes ARC's kinds known and waits until they can be listed.
pub async fn crds_are_there(control_plane: &ControlPlane, definitions: &str) {
    control_plane.apply(definitions).unwrap();
    let client = control_plane.client().await.unwrap();
    let known: Api<CustomResourceDefinition> = Api::all(client.clone());
    let served = || async {
        let found = known.list(&Default::default()).await.ok()?;
        (found.items.len() >= 4).then_some(())?;
        for kind in [Kind::ScaleSet, Kind::RunnerSet, Kind::Runner, Kind::Listener] {
            api(&client, kind, "default").list(&Default::default()).await.ok()?;
        }
        Some(())
    };
    within(Duration::from_secs(60), served).await.expect("ARC's kinds are not served");
}
