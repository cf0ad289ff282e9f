//! The model of ARC, driven on a real API server, as one that is under test: the scenarios of the real one run on it.

use std::sync::{Arc, Mutex};

use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use kube::{Api, Client, ResourceExt as _};

use super::installed::prepare;
use super::objects::{LISTENERS, RUNNER_SETS, SCALE_SETS, api, scale_set};
use super::{ARC_NAMESPACE, Asked, IsSetUp, Runs, Tuning, UnderTest};
use crate::actions_service::ActionsService;
use crate::arc::driver::{ArcManager, CRDS, PlayedListener, Task, crds_are_there};
use crate::arc::model::{Flags, Generation, Key};
use crate::bed::ControlPlane;
use crate::wait::until;

/// Where the scale set's id at the service stands; the model registers none itself.
const ID: &str = "runner-scale-set-id";

/// The model of one generation of ARC, installed.
#[derive(Clone)]
pub struct Modelled {
    client: Client,
    generation: Generation,
    service: Arc<ActionsService>,
}

/// Something that runs in this process, and how it is started.
pub struct InProcess<T> {
    start: Box<dyn Fn() -> T>,
    running: Mutex<Option<T>>,
}

/// A scale set that the model has set up.
pub struct ModelledSet {
    client: Client,
    namespace: String,
    name: String,
    runner_set: String,
    listener: InProcess<PlayedListener>,
}

impl Modelled {
    /// Installs the kinds and a node that plays whatever runs on it; runners are registered at `service`.
    pub async fn on(
        control_plane: &ControlPlane,
        generation: Generation,
        service: Arc<ActionsService>,
    ) -> Self {
        crds_are_there(control_plane, CRDS).await;
        let client = prepare(control_plane).await;
        Self { client, generation, service }
    }

    /// The same with another service, or of another generation.
    pub fn with(&self, generation: Generation, service: Arc<ActionsService>) -> Self {
        Self { client: self.client.clone(), generation, service }
    }
}

impl UnderTest for Modelled {
    type Manager = InProcess<ArcManager>;
    type ScaleSet = ModelledSet;

    fn name(&self) -> &'static str {
        match self.generation {
            Generation::Master => "model M",
            Generation::Release => "model R",
        }
    }

    fn manager(&self, tuning: Tuning) -> InProcess<ArcManager> {
        let flags = match tuning {
            Tuning::Default => Flags::stock(self.generation),
            Tuning::Tuned => Flags::tuned(self.generation),
        };
        let (client, url) = (self.client.clone(), self.service.config_url());
        InProcess::start(move || ArcManager::start(&client, flags, ARC_NAMESPACE, None, &url))
    }

    async fn scale_set(&self, asked: &Asked<'_>) -> ModelledSet {
        let id = self.service.with(|service, _| service.add_set(asked.name, 1));
        let mut objects: Vec<DynamicObject> =
            serde_json::from_value(scale_set(asked)["items"].take()).unwrap();
        let mut set = objects.pop().unwrap();
        set.annotations_mut().insert(ID.to_owned(), id.to_string());
        let sets = api(&self.client, asked.namespace, SCALE_SETS);
        sets.create(&PostParams::default(), &set).await.unwrap();
        let listeners = api(&self.client, ARC_NAMESPACE, LISTENERS);
        let runner_set = until("the model makes an AutoscalingListener", || async {
            let all = listeners.list(&ListParams::default()).await.unwrap();
            let ours = all.into_iter().find(|listener| asked.is_served_by(listener))?;
            Some(ours.data["spec"]["ephemeralRunnerSetName"].as_str()?.to_owned())
        })
        .await;
        let task = Task {
            runner_set: Key::new(asked.namespace, &runner_set),
            scale_set_id: id,
            min: asked.at_least.into(),
            max: asked.at_most.into(),
        };
        let (client, url) = (self.client.clone(), self.service.config_url());
        ModelledSet {
            client: self.client.clone(),
            namespace: asked.namespace.to_owned(),
            name: asked.name.to_owned(),
            runner_set,
            listener: InProcess::start(move || PlayedListener::start(client.clone(), &url, task.clone())),
        }
    }
}

impl IsSetUp for ModelledSet {
    fn runner_set(&self) -> &str {
        &self.runner_set
    }

    fn listener(&self) -> &dyn Runs {
        &self.listener
    }

    async fn delete(self) {
        let sets: Api<DynamicObject> = api(&self.client, &self.namespace, SCALE_SETS);
        sets.delete(&self.name, &DeleteParams::default()).await.unwrap();
        self.listener.kill();
        until("the scale set goes", || async {
            sets.get_opt(&self.name).await.unwrap().is_none().then_some(())
        })
        .await;
        let runner_sets = api(&self.client, &self.namespace, RUNNER_SETS);
        assert_eq!(runner_sets.list(&ListParams::default()).await.unwrap().items.len(), 0);
    }
}

impl<T> InProcess<T> {
    fn start(start: impl Fn() -> T + 'static) -> Self {
        let running = Mutex::new(Some(start()));
        Self { start: Box::new(start), running }
    }

    /// Looks at it while it runs.
    pub fn with<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        self.running.lock().unwrap().as_ref().map(look)
    }
}

impl<T> Runs for InProcess<T> {
    fn crash(&self) {
        self.kill();
        self.start_again();
    }

    fn kill(&self) {
        self.running.lock().unwrap().take();
    }

    fn start_again(&self) {
        let started = (self.start)();
        self.running.lock().unwrap().replace(started);
    }

    fn log(&self) -> String {
        String::new()
    }

    fn process(&self) -> Option<u32> {
        None
    }
}
