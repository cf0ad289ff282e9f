//! Whether the controller may do in a namespace all that the making of runners takes: asked beforehand, so that nothing is begun
//! that cannot be ended.

use std::time::Duration;

use futures::future::try_join_all;
use headstart_runtime::cluster::{CallError, within};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};

const CALL: Duration = Duration::from_secs(10);

const ARC: &str = "actions.github.com";

/// Group, resource with its subresource, and verb.
const NEEDED: &[(&str, &str, &str)] = &[
    (ARC, "ephemeralrunnersets", "watch"),
    (ARC, "ephemeralrunnersets", "patch"),
    (ARC, "ephemeralrunners", "watch"),
    (ARC, "ephemeralrunners", "create"),
    (ARC, "ephemeralrunners/status", "patch"),
    (ARC, "autoscalingrunnersets", "watch"),
    ("", "secrets", "get"),
    ("", "secrets", "list"),
    ("", "secrets", "create"),
    ("", "secrets", "patch"),
    ("", "secrets", "delete"),
];

const NEEDED_FOR_PODS: (&str, &str, &str) = ("", "pods", "create");

/// What is missing in `namespace`, in words; empty if nothing is.
pub(super) async fn missing(
    client: &Client,
    namespace: &str,
    with_pods: bool,
) -> Result<Vec<String>, CallError> {
    let needed = NEEDED.iter().chain(with_pods.then_some(&NEEDED_FOR_PODS));
    let asked = needed.map(|(group, resource, verb)| async move {
        let is_allowed = is_allowed(client, namespace, (group, resource, verb)).await?;
        Ok::<_, CallError>((!is_allowed).then(|| format!("{verb} {resource}")))
    });
    Ok(try_join_all(asked).await?.into_iter().flatten().collect())
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
