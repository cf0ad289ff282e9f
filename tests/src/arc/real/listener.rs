//! ARC's listener of one scale set as a service of the bed. It reads its token at a fixed path and knows no other way to
//! the API server than that of a pod, so it gets a view of files of its own.

use std::fs;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client};

use super::Real;
use super::manager::{process, remembered};
use crate::arc::objects::ARC_NAMESPACE;
use crate::arc::under_test::Runs;
use crate::bed::ControlPlane;
use crate::bed::protocol::Service;
use crate::wait::until;

/// Puts token and authority where a pod finds them, in a file system of its own, and becomes the listener. What it needs
/// is read before the mount may hide it.
const BOXED: &str = r#"set -e
token=$(cat "$1") authority=$(cat "$2") config=$(cat "$3") listener=$4
mount -t tmpfs -o mode=755 tmpfs /var/run
mkdir -p /var/run/secrets/kubernetes.io/serviceaccount
printf %s "$token" > /var/run/secrets/kubernetes.io/serviceaccount/token
printf '%s\n' "$authority" > /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
printf %s "$config" > "$LISTENER_CONFIG_PATH"
exec "$listener""#;

const CONFIG_PATH: &str = "/var/run/listener.json";

/// A running listener; it stops when this is dropped. As the manager would see to it, it comes back when it ends.
pub struct Listener<'c> {
    control_plane: &'c ControlPlane,
    service: String,
}

impl<'c> Listener<'c> {
    /// Waits until the manager has made everything that the listener of that name needs, and starts it.
    pub(super) async fn start(real: &Real, control_plane: &'c ControlPlane, name: &str) -> Self {
        let listener = Self { control_plane, service: name.to_owned() };
        listener.begin(real).await;
        listener
    }

    /// The same once more, after it was stopped or killed, with what the manager has made since then.
    pub(super) async fn begin(&self, real: &Real) {
        let Self { control_plane, service: name } = self;
        let client = control_plane.client().await.unwrap();
        let config = config(&client, name).await;
        let place = control_plane.bed().place();
        let write = |what: &str, content: &[u8]| {
            let path = place.path(&format!("{name}.{what}"));
            fs::write(&path, content).unwrap();
            path.display().to_string()
        };
        let token = control_plane.kubectl(&["create", "token", name, "--namespace", ARC_NAMESPACE]).unwrap();
        let files = [
            write("token", token.trim().as_bytes()),
            control_plane.authority().display().to_string(),
            write("config.json", &config),
            real.listener.display().to_string(),
        ];
        let server = control_plane.server();
        let (host, port) = server.trim_start_matches("https://").rsplit_once(':').unwrap();
        let variables = [
            format!("KUBERNETES_SERVICE_HOST={host}"),
            format!("KUBERNETES_SERVICE_PORT={port}"),
            format!("LISTENER_CONFIG_PATH={CONFIG_PATH}"),
        ];
        let own_view = ["unshare", "--mount", "--propagation=private", "sh", "-c", BOXED, "listener"];
        let words = remembered(control_plane, name, &variables)
            .into_iter()
            .chain(own_view.map(str::to_owned))
            .chain(files)
            .collect();
        control_plane.bed().start(Service { name: name.to_owned(), words, path: vec![] }).unwrap();
    }

    /// The name of its ServiceAccount, Pod and AutoscalingListener.
    pub fn name(&self) -> &str {
        &self.service
    }

    /// Asks it to end, so that it closes its session; it stays away until it is started again.
    pub fn stop(&self) {
        self.control_plane.stop(&self.service).unwrap();
    }
}

impl Runs for Listener<'_> {
    fn crash(&self) {
        self.control_plane.crash(&self.service).unwrap();
    }

    fn kill(&self) {
        self.control_plane.kill(&self.service).unwrap();
    }

    fn start_again(&self) {
        self.control_plane.start_again(&self.service).unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.control_plane.bed().log(&self.service)).unwrap_or_default()
    }

    fn process(&self) -> Option<u32> {
        process(self.control_plane, &self.service)
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            crate::bed::command::say(&self.control_plane.bed().tails(&[&self.service]));
        }
        let _ = self.control_plane.stop(&self.service);
    }
}

/// The listener's configuration, once its pod is there: the manager makes that last, after identity and rights.
async fn config(client: &Client, name: &str) -> Vec<u8> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), ARC_NAMESPACE);
    until(&format!("the pod of listener {name}"), || async { pods.get_opt(name).await.unwrap() }).await;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), ARC_NAMESPACE);
    let secret = secrets.get(&format!("{name}-config")).await.unwrap();
    secret.data.unwrap()["config.json"].0.clone()
}
