//! A cluster with the example of runner creation and ARC's kinds, where a test acts with the controller's own token.

use headstart_tests::bed::control_plane::client_of;
use headstart_tests::bed::{ControlPlane, Minor};
use headstart_tests::identity::kubeconfig;
use headstart_tests::programs::repository;
use headstart_tests::wait::until;
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::{Api, Client, Error};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The namespace that the example binds.
pub(crate) const RUNNERS: &str = "arc-runners";

/// What a request came to: the object, or the API server's words.
pub(crate) type Answer = Result<Value, String>;

/// The cluster; gone when dropped.
pub(crate) struct World {
    pub(crate) control_plane: ControlPlane,
    /// With all rights.
    pub(crate) admin: Client,
    /// With those of the controller's ServiceAccount.
    pub(crate) controller: Client,
    _folder: TempDir,
}

impl World {
    /// Installs a folder of `deploy/`.
    pub(crate) async fn with(folder: &str) -> Self {
        let control_plane = ControlPlane::start(Minor::Newest).await.unwrap();
        let crds = repository().join("tests/bed/arc/crds.yaml").display().to_string();
        control_plane.kubectl(&["apply", "-f", &crds]).unwrap();
        control_plane
            .kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "-f", &crds])
            .unwrap();
        control_plane.kubectl(&["create", "namespace", RUNNERS]).unwrap();
        let manifests = repository().join("deploy").join(folder).display().to_string();
        control_plane.kubectl(&["apply", "-k", &manifests]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let controller = kubeconfig(&control_plane, "headstart-controller", None, folder.path());
        let controller = client_of(&controller).await.unwrap();
        let admin = control_plane.client().await.unwrap();
        let accounts = resource("ServiceAccount");
        until("pods can be created", || async { api(&admin, &accounts, RUNNERS).get("default").await.ok() })
            .await;
        Self { control_plane, admin, controller, _folder: folder }
    }

    /// What the controller would be told of its own rights, as it asks before it publishes a set.
    pub(crate) async fn can_i(&self, verb: &str, resource: &str, namespace: Option<&str>) -> bool {
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let review = json!({ "spec": { "resourceAttributes": {
            "verb": verb, "group": group, "resource": resource, "subresource": subresource, "namespace": namespace,
        } } });
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.controller.clone());
        let review = serde_json::from_value(review).unwrap();
        let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
        answer.status.unwrap().allowed
    }

    /// Creates an object in its namespace, with all rights.
    pub(crate) async fn given(&self, object: Value) -> Value {
        create(&self.admin, &object, false).await.unwrap()
    }

    /// The controller does it.
    pub(crate) async fn allowed(&self, request: &Request) -> Value {
        let send = || async { send(&self.controller, request, false).await.ok() };
        match send().await {
            Some(answer) => answer,
            // Says why.
            None => panic!("{request:?}: {:?}", send_text(&self.controller, request).await),
        }
    }

    /// The controller would be refused in these words. API servers take over a new policy a moment later.
    pub(crate) async fn refused(&self, request: &Request, words: &str) {
        until(&format!("{request:?} is refused: {words}"), || async {
            let refused = send(&self.controller, request, true).await.err()?;
            refused.contains(words).then_some(())
        })
        .await;
    }
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Create(Value),
    Merge(Target, Value),
    MergeStatus(Target, Value),
    Json(Target, Value),
    Delete(Target),
}

/// Kind, namespace and name of an object.
pub(crate) type Target = (&'static str, &'static str, &'static str);

async fn send_text(client: &Client, request: &Request) -> String {
    send(client, request, true).await.err().unwrap_or_default()
}

async fn send(client: &Client, request: &Request, is_dry: bool) -> Answer {
    let of = |(kind, namespace, _): &Target| api(client, &resource(kind), namespace);
    let params = PatchParams { dry_run: is_dry, ..PatchParams::default() };
    match request {
        Request::Create(object) => create(client, object, is_dry).await,
        Request::Merge(target, patch) => {
            answer(of(target).patch(target.2, &params, &Patch::Merge(patch)).await)
        }
        Request::MergeStatus(target, patch) => {
            answer(of(target).patch_status(target.2, &params, &Patch::Merge(patch)).await)
        }
        Request::Json(target, patch) => {
            let patch = Patch::Json::<()>(serde_json::from_value(patch.clone()).unwrap());
            answer(of(target).patch(target.2, &params, &patch).await)
        }
        Request::Delete(target) => {
            let params = DeleteParams { dry_run: is_dry, ..DeleteParams::default() };
            let deleted = of(target).delete(target.2, &params).await;
            deleted.map(|_| Value::Null).map_err(|error| error.to_string())
        }
    }
}

async fn create(client: &Client, object: &Value, is_dry: bool) -> Answer {
    let (kind, namespace) =
        (object["kind"].as_str().unwrap(), object["metadata"]["namespace"].as_str().unwrap());
    let params = PostParams { dry_run: is_dry, field_manager: None };
    let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    answer(api(client, &resource(kind), namespace).create(&params, &object).await)
}

fn answer(answer: Result<DynamicObject, Error>) -> Answer {
    answer.map(|object| serde_json::to_value(object).unwrap()).map_err(|error| error.to_string())
}

fn api(client: &Client, resource: &ApiResource, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), namespace, resource)
}

fn resource(kind: &str) -> ApiResource {
    let (group, version) = match kind {
        "EphemeralRunnerSet" | "EphemeralRunner" => ("actions.github.com", "v1alpha1"),
        _ => ("", "v1"),
    };
    let plural = format!("{}s", kind.to_lowercase());
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), &plural)
}
