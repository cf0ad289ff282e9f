//! The configuration files of a node's services. Decides only.

use anyhow::Result;
use serde_json::{Value, json};

use super::boxed::NODE;
use super::plan::{Plan, folder_of};

/// The image of the container that holds a pod's namespaces.
pub const PAUSE: &str = "bed.test/pause:1";

/// Where containerd listens, inside the box.
pub const CONTAINERD: &str = "/run/containerd/containerd.sock";

/// Pod network: point to point, so that also a pod on the same node reaches a pod through a Service.
pub fn pod_network(pods: &str) -> Value {
    let addresses = json!({
        "type": "host-local",
        "dataDir": "/run/cni-ipam",
        "ranges": [[{"subnet": pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    });
    let plugins = json!([
        {"type": "ptp", "ipMasq": false, "ipam": addresses},
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]);
    json!({"cniVersion": "1.0.0", "name": "bed", "plugins": plugins})
}

/// containerd: overlay snapshots, our pause image, and nothing that needs more than a small virtual machine allows.
pub fn containerd(plan: &Plan) -> Result<String> {
    let plugins = folder_of(&plan.programs, "ptp")?;
    let runc = plan.programs.path("runc")?.display();
    let networks = plan.folder.join("cni");
    let networks = networks.display();
    Ok(format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.native", "io.containerd.internal.v1.opt"]
[grpc]
  address = "{CONTAINERD}"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{PAUSE}"
[plugins."io.containerd.cri.v1.runtime"]
  enable_selinux = false
  # Without CAP_SYS_RESOURCE the score of a sandbox, -998, is refused.
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["{plugins}"]
    conf_dir = "{networks}"
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        BinaryName = "{runc}"
        SystemdCgroup = false
"#
    ))
}

/// The kubelet.
pub fn kubelet(plan: &Plan) -> Value {
    let file = |name: &str| plan.pki().join(name).display().to_string();
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        // Version 1 is what many virtual machines still have.
        "failCgroupV1": false,
        "failSwapOn": false,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": "/",
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD}"),
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": file("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": file("kubelet-server.crt"),
        "tlsPrivateKeyFile": file("kubelet-server.key"),
        "address": "0.0.0.0",
        "readOnlyPort": 0,
        "resolvConf": plan.folder.join("resolv.conf").display().to_string(),
        "clusterDNS": [],
        "serializeImagePulls": false,
        "maxPods": 110,
        // A changed ConfigMap is seen in pods after this time, by default a minute.
        "syncFrequency": "2s",
        "registryPullQPS": 0,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        "evictionHard": {
            "memory.available": "200Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "enforceNodeAllocatable": ["pods"],
        "makeIPTablesUtilChains": false,
        // Lower ones need CAP_SYS_RESOURCE.
        "oomScoreAdj": 0,
        // The default lies in a folder of this machine.
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    })
}

/// kube-proxy; in a network namespace it may not set limits of connection tracking.
pub fn proxy(plan: &Plan, pods: &str) -> Value {
    let kubeconfig = plan.pki().join("kube-proxy.kubeconfig").display().to_string();
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": kubeconfig},
        "oomScoreAdj": 0,
        "mode": "nftables",
        "clusterCIDR": pods,
        "hostnameOverride": NODE,
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "nftables": {"minSyncPeriod": "100ms"},
    })
}
