//! ARC's manager as a service of the bed: it is restarted when it ends, can be killed, and goes with the bed.

use serde_json::json;

use super::Real;
use crate::arc::objects::ARC_NAMESPACE;
use crate::arc::under_test::{Runs, Tuning};
use crate::bed::ControlPlane;
use crate::bed::protocol::Service;
use crate::identity::kubeconfig_in;

const SERVICE: &str = "arc-manager";
const ACCOUNT: &str = "arc-manager";
/// Which of the bed's ports gives the manager's metrics.
const METRICS_PORT: u16 = 8;

/// Writes the process id where the owner finds it, and becomes the program.
const REMEMBERED: &str = r#"echo $$ > "$0" && exec "$@""#;

fn tuned(tuning: Tuning) -> &'static [&'static str] {
    match tuning {
        Tuning::Default => &[],
        Tuning::Tuned => &[
            "--k8s-client-rate-limiter-qps=100",
            "--k8s-client-rate-limiter-burst=200",
            "--runner-max-concurrent-reconciles=20",
        ],
    }
}

/// A running manager; it stops when this is dropped.
pub struct Manager<'c> {
    control_plane: &'c ControlPlane,
}

impl<'c> Manager<'c> {
    /// Starts it with all rights, but as somebody for whom API Priority and Fairness holds.
    pub(super) fn start(real: &Real, control_plane: &'c ControlPlane, tuning: Tuning) -> Self {
        let manager = Self { control_plane };
        let place = control_plane.bed().place();
        let kubeconfig = kubeconfig_in(control_plane, ARC_NAMESPACE, (ACCOUNT, None), &place.folder);
        let variables = [
            format!("KUBECONFIG={}", kubeconfig.display()),
            format!("CONTROLLER_MANAGER_POD_NAMESPACE={ARC_NAMESPACE}"),
            "CONTROLLER_MANAGER_CONTAINER_IMAGE=bed.test/arc:1".to_owned(),
        ];
        let program = real.manager.display().to_string();
        let flags = [
            "--auto-scaling-runner-set-only".to_owned(),
            format!("--metrics-addr={}", manager.metrics_address()),
            "--listener-metrics-addr=0".to_owned(),
            "--listener-metrics-endpoint=".to_owned(),
            "--log-format=text".to_owned(),
        ];
        let words = remembered(control_plane, SERVICE, &variables)
            .into_iter()
            .chain([program])
            .chain(flags)
            .chain(tuned(tuning).iter().map(|flag| (*flag).to_owned()))
            .collect();
        let service = Service { name: SERVICE.to_owned(), words, path: vec![] };
        control_plane.bed().start(service).unwrap();
        manager
    }

    /// Host and port of its metrics.
    pub fn metrics_address(&self) -> String {
        format!("127.0.0.1:{}", self.control_plane.bed().place().port(METRICS_PORT))
    }
}

impl Runs for Manager<'_> {
    fn crash(&self) {
        self.control_plane.crash(SERVICE).unwrap();
    }

    fn kill(&self) {
        self.control_plane.kill(SERVICE).unwrap();
    }

    fn start_again(&self) {
        self.control_plane.start_again(SERVICE).unwrap();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.control_plane.bed().log(SERVICE)).unwrap_or_default()
    }

    fn process(&self) -> Option<u32> {
        process(self.control_plane, SERVICE)
    }
}

impl Drop for Manager<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            crate::bed::command::say(&self.control_plane.bed().tails(&[SERVICE]));
        }
        let _ = self.control_plane.kill(SERVICE);
    }
}

/// Who the manager is.
pub(super) fn identity() -> serde_json::Value {
    let account = json!({ "kind": "ServiceAccount", "name": ACCOUNT, "namespace": ARC_NAMESPACE });
    let role =
        json!({ "kind": "ClusterRole", "name": "cluster-admin", "apiGroup": "rbac.authorization.k8s.io" });
    let items = [
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": ARC_NAMESPACE } }),
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "name": ACCOUNT, "namespace": ARC_NAMESPACE },
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": { "name": ACCOUNT }, "subjects": [account], "roleRef": role,
        }),
    ];
    json!({ "apiVersion": "v1", "kind": "List", "items": items })
}

/// The beginning of a command line that keeps the process id. The program sees none of this machine's variables: ARC
/// reads some of them, such as `GITHUB_APP_ID` and those of proxies.
pub(super) fn remembered(control_plane: &ControlPlane, service: &str, variables: &[String]) -> Vec<String> {
    let path = format!("PATH={}", std::env::var("PATH").unwrap_or_default());
    let remembered = control_plane.bed().place().path(&format!("{service}.pid"));
    let words = ["env".to_owned(), "-i".to_owned(), path].into_iter().chain(variables.iter().cloned());
    let script = ["sh", "-c", REMEMBERED].map(str::to_owned);
    words.chain(script).chain([remembered.display().to_string()]).collect()
}

/// The process id that was kept.
pub(super) fn process(control_plane: &ControlPlane, service: &str) -> Option<u32> {
    let remembered = control_plane.bed().place().path(&format!("{service}.pid"));
    std::fs::read_to_string(remembered).ok()?.trim().parse().ok()
}
