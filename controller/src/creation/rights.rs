//! Whether the controller may do in a namespace all that the making of runners takes: asked beforehand, so that nothing is begun
//! that cannot be ended.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use headstart_runtime::cluster::{CallError, within};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::{Api, Client};

const CALL: Duration = Duration::from_secs(10);

const ARC: &str = "actions.github.com";

/// Group, resource with its subresource, and verbs: the ClusterRole headstart-runner-creation, but for the ConfigMaps that few
/// sets name.
pub const NEEDED: &[(&str, &str, &[&str])] = &[
    (ARC, "autoscalingrunnersets", &["list", "watch"]),
    (ARC, "ephemeralrunnersets", &["list", "watch", "patch"]),
    (ARC, "ephemeralrunnersets/finalizers", &["update"]),
    (ARC, "ephemeralrunners", &["get", "list", "watch", "create"]),
    (ARC, "ephemeralrunners/status", &["patch"]),
    (ARC, "ephemeralrunners/finalizers", &["update"]),
    ("", "secrets", &["get", "list", "create", "patch", "delete"]),
];

/// Where the controller creates pods too.
pub const NEEDED_FOR_PODS: (&str, &str, &[&str]) = ("", "pods", &["create"]);

/// Questions about one namespace at a time.
const AT_ONCE: usize = 4;

/// What is missing in `namespace`, in words; empty if nothing is.
pub(super) async fn missing(
    client: &Client,
    namespace: &str,
    with_pods: bool,
) -> Result<Vec<String>, CallError> {
    let needed = NEEDED.iter().chain(with_pods.then_some(&NEEDED_FOR_PODS));
    let mut asked = Vec::new();
    for &(group, resource, verbs) in needed {
        for &verb in verbs {
            asked.push(is_missing(client, namespace, (group, resource, verb)));
        }
    }
    let missing: Vec<Option<String>> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
    Ok(missing.into_iter().flatten().collect())
}

/// Whether a namespace is there.
pub(super) async fn is_there(client: &Client, namespace: &str) -> Result<bool, CallError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    within(CALL, namespaces.get_metadata_opt(namespace)).await.map(|found| found.is_some())
}

async fn is_missing(
    client: &Client,
    namespace: &str,
    right: (&'static str, &'static str, &'static str),
) -> Result<Option<String>, CallError> {
    let (_, resource, verb) = right;
    let is_allowed = is_allowed(client, namespace, right).await?;
    Ok((!is_allowed).then(|| format!("{verb} {resource}")))
}

async fn is_allowed(
    client: &Client,
    namespace: &str,
    (group, resource, verb): (&str, &str, &str),
) -> Result<bool, CallError> {
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (resource, None),
    };
    let attributes = ResourceAttributes {
        group: Some(group.to_owned()),
        namespace: Some(namespace.to_owned()),
        resource: Some(resource.to_owned()),
        subresource,
        verb: Some(verb.to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec {
        resource_attributes: Some(attributes),
        ..SelfSubjectAccessReviewSpec::default()
    };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = within(CALL, api.create(&PostParams::default(), &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
