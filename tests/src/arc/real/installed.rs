//! A control plane with ARC's kinds in it, a played node for its runners, and the scale sets that users ask for.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use kube::Client;
use kube::api::{DeleteParams, ListParams};

use super::{Listener, Manager, REAL, Real, manager};
use crate::arc::objects::{self, ARC_NAMESPACE, LISTENERS, NODE, RUNNER_SETS, SCALE_SETS, api};
use crate::arc::under_test::{Asked, IsSetUp, Runs, Tuning, UnderTest, listener_of};
use crate::bed::ControlPlane;
use crate::kwok::{self, Kwok};
use crate::wait::{until, within};

/// The manager starts with a large program and fills many caches; on a busy machine that takes a while.
const PATIENCE: Duration = Duration::from_secs(240);

/// For how long nothing may change any more: the manager, whose caches lag, may make a runner set or two too many at first, and
/// deletes them again.
const CALM: Duration = Duration::from_secs(1);

/// ARC, installed; its manager is started apart, since its flags differ.
pub struct Installed<'c> {
    real: Real,
    control_plane: &'c ControlPlane,
    client: Client,
}

/// A scale set that ARC has set up, with its running listener.
pub struct ScaleSet<'c> {
    real: Real,
    namespace: String,
    name: String,
    runner_set: String,
    listener: Listener<'c>,
    client: Client,
}

/// The namespace and identity of ARC, and a node that plays whatever runs on it.
async fn prepare(control_plane: &ControlPlane) {
    control_plane.apply(&manager::identity().to_string()).unwrap();
    let client = control_plane.client().await.unwrap();
    Kwok::start(control_plane).unwrap().play(&client, &[kwok::node(NODE)]).await.unwrap();
}

impl<'c> Installed<'c> {
    /// Installs the kinds, the manager's identity, and a node that plays whatever runs on it.
    pub async fn on(control_plane: &'c ControlPlane, real: &Real) -> Self {
        Self::install(control_plane, real).await;
        Self::there(control_plane, real).await
    }

    /// Where it is installed already.
    pub async fn there(control_plane: &'c ControlPlane, real: &Real) -> Self {
        Self { real: real.clone(), control_plane, client: control_plane.client().await.unwrap() }
    }

    /// Only the first half of [`Self::on`].
    pub async fn install(control_plane: &ControlPlane, real: &Real) {
        let definitions = real.definitions().display().to_string();
        // Applied by the server: some are larger than the annotation that the client would write.
        control_plane.kubectl(&["apply", "--server-side", "-f", &definitions]).unwrap();
        control_plane.kubectl(&["wait", "--for=condition=Established", "-f", &definitions]).unwrap();
        prepare(control_plane).await;
    }

    pub(super) fn start_manager(&self, tuning: Tuning) -> Manager<'c> {
        Manager::start(&self.real, self.control_plane, tuning)
    }

    pub(super) async fn set_up(&self, asked: &Asked<'_>) -> ScaleSet<'c> {
        self.control_plane.apply(&objects::scale_set(asked).to_string()).unwrap();
        let (listener, runner_set) = is_set_up(&self.client, asked.namespace, asked.name).await;
        ScaleSet {
            real: self.real.clone(),
            namespace: asked.namespace.to_owned(),
            name: asked.name.to_owned(),
            runner_set,
            listener: Listener::start(&self.real, self.control_plane, &listener).await,
            client: self.client.clone(),
        }
    }
}

/// Waits until the manager has made a listener for a scale set, and changes nothing any more: its name, and that of its runner
/// set.
async fn is_set_up(client: &Client, namespace: &str, name: &str) -> (String, String) {
    let listeners = api(client, ARC_NAMESPACE, LISTENERS);
    let runner_sets = api(client, namespace, RUNNER_SETS);
    let (calm, last) = (Cell::new(Instant::now()), RefCell::new(None));
    let found = within(PATIENCE, || async {
        let listed = listeners.list(&ListParams::default()).await.unwrap();
        let seen = match listener_of(listed, namespace, name) {
            Some((listener, set)) => {
                let is_there = runner_sets.get_opt(&set).await.unwrap().is_some();
                Some((listener, set, is_there))
            }
            None => None,
        };
        if last.replace(seen.clone()) != seen {
            calm.set(Instant::now());
        }
        let (listener, set, is_there) = seen.filter(|_| calm.get().elapsed() >= CALM)?;
        if is_there {
            return Some((listener, set));
        }
        // It made the runner set anew, and lets the listener follow the old one for good: whoever runs ARC deletes such a listener.
        let _ = listeners.delete(&listener, &DeleteParams::default()).await;
        None
    });
    match found.await {
        Some(found) => found,
        None => panic!("the manager set nothing up for {namespace}/{name} in {PATIENCE:?}"),
    }
}

impl IsSetUp for ScaleSet<'_> {
    fn runner_set(&self) -> &str {
        &self.runner_set
    }

    fn listener(&self) -> &dyn Runs {
        &self.listener
    }

    async fn listen_anew(&mut self) {
        (_, self.runner_set) = is_set_up(&self.client, &self.namespace, &self.name).await;
        self.listener.begin(&self.real).await;
    }

    async fn delete(self) {
        let sets = api(&self.client, &self.namespace, SCALE_SETS);
        sets.delete(&self.name, &DeleteParams::default()).await.unwrap();
        // As the kubelet would do it to the pod that the manager deletes.
        self.listener.stop();
        until("the scale set goes", || async {
            sets.get_opt(&self.name).await.unwrap().is_none().then_some(())
        })
        .await;
        let runner_sets = api(&self.client, &self.namespace, RUNNER_SETS);
        assert_eq!(runner_sets.list(&ListParams::default()).await.unwrap().items.len(), 0);
    }
}

impl<'c> UnderTest for Installed<'c> {
    type Manager = Manager<'c>;
    type ScaleSet = ScaleSet<'c>;

    fn name(&self) -> &'static str {
        REAL
    }

    fn manager(&self, tuning: Tuning) -> Manager<'c> {
        self.start_manager(tuning)
    }

    async fn scale_set(&self, asked: &Asked<'_>) -> ScaleSet<'c> {
        self.set_up(asked).await
    }
}
