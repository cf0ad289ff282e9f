//! The model of ARC as scenarios drive it, in place of the real one: its manager and listeners run in the test's own runtime,
//! its listeners with the identity and the rights that ARC gives them.

use std::sync::{Arc, Mutex};

use kube::Client;
use kube::api::{DeleteParams, DynamicObject, ListParams};
use serde_json::{Value, json};

use super::{ArcManager, CRDS, PlayedListener, Task, crds_are_there};
use crate::actions_service::ActionsService;
use crate::arc::model::{Flags, Generation, Key};
use crate::arc::objects::{self, NODE};
use crate::arc::under_test::listener_of;
use crate::arc::{
    ARC_NAMESPACE, Asked, IsSetUp, LISTENERS, RUNNER_SETS, Runs, SCALE_SETS, Tuning, UnderTest, api,
};
use crate::bed::ControlPlane;
use crate::bed::control_plane::client_of;
use crate::identity::kubeconfig_in;
use crate::kwok::{self, Kwok};
use crate::wait::until;

/// The model in a cluster, with the service at which it registers runners.
pub struct Modelled<'c> {
    control_plane: &'c ControlPlane,
    client: Client,
    service: Arc<ActionsService>,
    generation: Generation,
}

/// Its manager; it ends when dropped.
pub struct ModelledManager {
    start: Box<dyn Fn() -> ArcManager + Send + Sync>,
    running: Mutex<Option<ArcManager>>,
}

/// A listener; it ends when dropped.
pub struct ModelledListener {
    start: Box<dyn Fn() -> PlayedListener + Send + Sync>,
    running: Mutex<Option<PlayedListener>>,
}

/// A scale set with its listener.
pub struct ModelledSet {
    client: Client,
    namespace: String,
    name: String,
    listener: ModelledListener,
    /// What its listener does, and as whom.
    task: Task,
    identity: Client,
    url: String,
}

impl<'c> Modelled<'c> {
    /// Makes ARC's kinds known, and starts a node that plays what runs on it.
    pub async fn install(control_plane: &ControlPlane) {
        crds_are_there(control_plane, CRDS).await;
        let namespace =
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": ARC_NAMESPACE } });
        control_plane.apply(&namespace.to_string()).unwrap();
        let client = control_plane.client().await.unwrap();
        Kwok::start(control_plane).unwrap().play(&client, &[kwok::node(NODE)]).await.unwrap();
    }

    /// Installs it.
    pub async fn on(
        control_plane: &'c ControlPlane,
        generation: Generation,
        service: Arc<ActionsService>,
    ) -> Self {
        Self::install(control_plane).await;
        Self::there(control_plane, &service, generation).await
    }

    /// Where it is installed.
    pub async fn there(
        control_plane: &'c ControlPlane,
        service: &Arc<ActionsService>,
        generation: Generation,
    ) -> Self {
        let client = control_plane.client().await.unwrap();
        Self { control_plane, client, service: Arc::clone(service), generation }
    }

    /// A client with the rights that ARC gives a listener.
    async fn identity(&self, listener: &str, namespace: &str) -> Client {
        let account = json!({ "kind": "ServiceAccount", "name": listener, "namespace": ARC_NAMESPACE });
        let resources = ["ephemeralrunnersets", "ephemeralrunners", "ephemeralrunners/status"];
        let rule =
            json!({ "apiGroups": ["actions.github.com"], "verbs": ["get", "patch"], "resources": resources });
        let role = json!({ "kind": "Role", "name": listener, "apiGroup": "rbac.authorization.k8s.io" });
        let items = [
            json!({
                "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": { "name": listener, "namespace": ARC_NAMESPACE },
            }),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
                "metadata": { "name": listener, "namespace": namespace }, "rules": [rule],
            }),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": { "name": listener, "namespace": namespace },
                "subjects": [account], "roleRef": role,
            }),
        ];
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
        self.control_plane.apply(&list.to_string()).unwrap();
        let folder = &self.control_plane.bed().place().folder;
        client_of(&kubeconfig_in(self.control_plane, ARC_NAMESPACE, (listener, None), folder)).await.unwrap()
    }
}

/// Waits until the manager has made a listener for a scale set: its name, and that of its runner set.
async fn is_set_up(client: &Client, namespace: &str, name: &str) -> (String, String) {
    let listeners = api(client, ARC_NAMESPACE, LISTENERS);
    let sets = api(client, namespace, RUNNER_SETS);
    until(&format!("the model sets {namespace}/{name} up"), || async {
        let all = listeners.list(&ListParams::default()).await.ok()?;
        let (listener, set) = listener_of(all, namespace, name)?;
        let is_watched =
            |set: &DynamicObject| set.metadata.finalizers.as_ref().is_some_and(|all| !all.is_empty());
        sets.get(&set).await.ok().filter(is_watched)?;
        Some((listener, set))
    })
    .await
}

impl UnderTest for Modelled<'_> {
    type Manager = ModelledManager;
    type ScaleSet = ModelledSet;

    fn name(&self) -> &'static str {
        "model"
    }

    fn manager(&self, tuning: Tuning) -> ModelledManager {
        let flags = match tuning {
            Tuning::Default => Flags::stock(self.generation),
            Tuning::Tuned => Flags::tuned(self.generation),
        };
        let (client, url) = (self.client.clone(), self.service.config_url());
        let start = Box::new(move || ArcManager::start(&client, flags, ARC_NAMESPACE, None, &url));
        let running = Mutex::new(Some(start()));
        ModelledManager { start, running }
    }

    async fn scale_set(&self, asked: &Asked<'_>) -> ModelledSet {
        let id = self.service.with(|service, _| service.add_set(asked.name, 1));
        let mut objects: Value = objects::scale_set(asked);
        let metadata = &mut objects["items"][1]["metadata"];
        metadata["annotations"] = json!({ "runner-scale-set-id": id.to_string() });
        self.control_plane.apply(&objects.to_string()).unwrap();
        let (name, runner_set) = is_set_up(&self.client, asked.namespace, asked.name).await;
        let identity = self.identity(&name, asked.namespace).await;
        let task = Task {
            runner_set: Key::new(asked.namespace, &runner_set),
            scale_set_id: id,
            min: asked.at_least.into(),
            max: asked.at_most.into(),
        };
        ModelledSet {
            client: self.client.clone(),
            namespace: asked.namespace.to_owned(),
            name: asked.name.to_owned(),
            listener: ModelledListener::new(&identity, asked.url, &task),
            task,
            identity,
            url: asked.url.to_owned(),
        }
    }
}

impl ModelledListener {
    fn new(client: &Client, url: &str, task: &Task) -> Self {
        let (client, url, task) = (client.clone(), url.to_owned(), task.clone());
        let start = Box::new(move || PlayedListener::start(client.clone(), &url, task.clone()));
        let running = Mutex::new(Some(start()));
        Self { start, running }
    }
}

impl ModelledManager {
    /// Looks at the manager, if it runs.
    pub fn with<T>(&self, look: impl FnOnce(&ArcManager) -> T) -> Option<T> {
        self.running.lock().unwrap().as_ref().map(look)
    }
}

impl Runs for ModelledManager {
    fn crash(&self) {
        self.kill();
        self.start_again();
    }

    fn kill(&self) {
        *self.running.lock().unwrap() = None;
    }

    fn start_again(&self) {
        *self.running.lock().unwrap() = Some((self.start)());
    }

    fn log(&self) -> String {
        String::new()
    }

    fn process(&self) -> Option<u32> {
        None
    }
}

impl Runs for ModelledListener {
    fn crash(&self) {
        self.kill();
        self.start_again();
    }

    fn kill(&self) {
        *self.running.lock().unwrap() = None;
    }

    fn start_again(&self) {
        *self.running.lock().unwrap() = Some((self.start)());
    }

    fn log(&self) -> String {
        String::new()
    }

    fn process(&self) -> Option<u32> {
        None
    }
}

impl IsSetUp for ModelledSet {
    fn runner_set(&self) -> &str {
        &self.task.runner_set.name
    }

    fn listener(&self) -> &dyn Runs {
        &self.listener
    }

    async fn listen_anew(&mut self) {
        let (_, runner_set) = is_set_up(&self.client, &self.namespace, &self.name).await;
        self.task.runner_set = Key::new(&self.namespace, &runner_set);
        self.listener = ModelledListener::new(&self.identity, &self.url, &self.task);
    }

    async fn delete(self) {
        let sets = api(&self.client, &self.namespace, SCALE_SETS);
        sets.delete(&self.name, &DeleteParams::default()).await.unwrap();
        self.listener.kill();
        until("the scale set goes", || async {
            sets.get_opt(&self.name).await.unwrap().is_none().then_some(())
        })
        .await;
    }
}
