//! A whole cluster with one real node: the control plane, kubelet, containerd, runc and kube-proxy, in a box of private
//! namespaces. Needs root.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Node;
use kube::Api;

use super::boxed::NODE;
use super::command::run;
use super::control_plane::{self, ControlPlane};
use super::images::{self, TestImage};
use super::network::Network;
use super::node_config;
use super::packages::{self, IPROUTE, NFTABLES};
use super::pki::Authority;
use super::plan::Plan;
use super::programs::Programs;
use super::protocol::Service;
use super::supervise::Shape;
use super::versions::Minor;
use super::{cgroup, node_config::CONTAINERD};
use crate::required::all_are_required;
use crate::wait::within;
use crate::{kwok, power};

const PATIENCE: Duration = Duration::from_secs(90);

/// The programs that a control plane alone does not need.
const PROGRAMS: [&str; 11] = [
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "containerd",
    "containerd-shim-runc-v2",
    "ctr",
    "runc",
    "ptp",
    "host-local",
    "loopback",
    "portmap",
];

/// All services, in the order in which one would look at their logs.
pub const SERVICES: [&str; 7] = [
    "kubelet",
    "containerd",
    "kube-apiserver",
    "kube-scheduler",
    "kube-controller-manager",
    "kube-proxy",
    "etcd",
];

/// A running cluster; gone when dropped, and also when its process ends in any other way.
pub struct Cluster {
    control_plane: ControlPlane,
}

/// Builds every program that the tests use on this machine; a test by itself builds what it needs.
pub fn prepare() -> Result<()> {
    let newest = control_plane::SERVICES.into_iter().chain(["kubectl", kwok::PROGRAM]);
    let newest = newest.chain([power::PROGRAM].into_iter().filter(|_| power::unavailable().is_none()));
    let node = PROGRAMS.into_iter().chain(["slowfs"]).filter(|_| node_unavailable().is_none());
    let wanted = newest.chain(node).map(|name| (name, Minor::Newest));
    Programs::obtain_all(wanted.chain([("kube-apiserver", Minor::Oldest)])).map(drop)
}

/// Why this machine cannot have a node, if so. Tests of the node then say so and pass.
///
/// Where all tests are required there is no such reason: then they fail.
pub fn node_unavailable() -> Option<String> {
    if all_are_required() {
        return None;
    }
    static REASON: OnceLock<Option<String>> = OnceLock::new();
    REASON.get_or_init(look_for_a_reason).clone()
}

fn look_for_a_reason() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("a node needs root".to_owned());
    }
    let probe = ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--fork", "true"];
    let namespaces = run(&probe).err().map(|error| format!("a node needs namespaces: {error:#}"));
    namespaces.or_else(cgroup::unavailable)
}

impl Cluster {
    /// Starts one that holds these images (OCI archives), and the one that every pod needs; waits until pods can run.
    pub async fn start(images: &[PathBuf]) -> Result<Self> {
        Self::make(images, false).await
    }

    /// As [`Self::start`]; with `kept`, `bed down` finds it.
    pub(super) async fn make(images: &[PathBuf], kept: bool) -> Result<Self> {
        packages::ensure(&[IPROUTE, NFTABLES])?;
        let control_plane = ControlPlane::begin(Minor::Newest, Shape { node: true, kept }, &PROGRAMS)?;
        let cluster = Self { control_plane };
        cluster.start_containerd(images).await?;
        cluster.usable().await?;
        let plan = cluster.plan();
        for service in [plan.scheduler()?, plan.kubelet()?, plan.proxy()?] {
            cluster.bed().start(service)?;
        }
        cluster.node_is_ready().await?;
        cluster.say_up("cluster");
        Ok(cluster)
    }

    async fn start_containerd(&self, images: &[PathBuf]) -> Result<()> {
        write_configuration(self.plan(), &Network::new(self.bed().place().index).pods())?;
        self.bed().start(self.plan().containerd()?)?;
        self.containerd_answers().await?;
        self.import(&images::archive(TestImage::Pause)?)?;
        images.iter().try_for_each(|image| self.import(image))
    }

    /// Waits until containerd answers; for tests that took it away.
    pub async fn containerd_answers(&self) -> Result<()> {
        let found = within(PATIENCE, || async { self.ctr(&["version"]).ok() }).await;
        found.map(drop).with_context(|| self.failure("containerd does not answer", &["containerd"]))
    }

    /// Waits until the scheduler would place a pod on the node.
    pub async fn node_is_ready(&self) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.client().await?);
        let ready = within(PATIENCE, || async { nodes.get(NODE).await.ok().filter(is_usable) }).await;
        ready.map(drop).with_context(|| self.failure("the node does not become ready", &SERVICES))
    }

    /// Puts an OCI archive into the node's image store.
    pub fn import(&self, archive: &Path) -> Result<()> {
        let path = archive.display().to_string();
        self.ctr(&["images", "import", &path]).map(drop)
    }

    /// Runs containerd's own client on the images and containers of the kubelet.
    pub fn ctr(&self, arguments: &[&str]) -> Result<String> {
        let ctr = self.plan().programs.path("ctr")?.display().to_string();
        let words = [&[ctr.as_str(), "--address", CONTAINERD, "--namespace", "k8s.io"], arguments].concat();
        self.bed().run_inside(&words)
    }

    /// Starts a service of the test's own on the node, such as one that mounts a file system. Its mounts are seen by
    /// the kubelet and go with the box.
    pub fn serve(&self, name: &str, words: &[&str]) -> Result<()> {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        self.bed().start(Service { name: name.to_owned(), words, path: vec![] })
    }

    /// The address under which pods and the API server reach programs on this machine, outside the box.
    pub fn host_address(&self) -> String {
        Network::new(self.bed().place().index).host()
    }
}

impl Deref for Cluster {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        &self.control_plane
    }
}

fn is_usable(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.filter(|condition| condition.type_ == "Ready").any(|it| it.status == "True");
    ready && node.spec.iter().all(|spec| spec.taints.iter().flatten().next().is_none())
}

/// The identities of a node.
pub(super) fn write_identities(authority: &Authority, plan: &Plan) -> Result<()> {
    authority.server("kubelet-server", &[NODE, &plan.host, "127.0.0.1"])?;
    authority.client("apiserver-kubelet", "kube-apiserver-kubelet-client", Some("system:masters"))?;
    authority.user("kubelet", &format!("system:node:{NODE}"), Some("system:nodes"), &plan.server())?;
    Ok(())
}

fn write_configuration(plan: &Plan, pods: &str) -> Result<()> {
    let write = |name: &str, text: String| -> Result<()> { Ok(fs::write(plan.folder.join(name), text)?) };
    fs::create_dir_all(plan.folder.join("cni"))?;
    write("cni/10-bed.conflist", node_config::pod_network(pods).to_string())?;
    write("containerd.toml", node_config::containerd(plan)?)?;
    write("kubelet.json", node_config::kubelet(plan).to_string())?;
    write("kube-proxy.json", node_config::proxy(plan, pods).to_string())?;
    // There is no DNS; Services are reached by environment or address.
    write("resolv.conf", "nameserver 127.0.0.1\n".to_owned())
}
