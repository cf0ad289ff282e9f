//! The command lines of a control plane's services. Decides only; others make the files and start the programs.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::boxed::NODE;
use super::network::{KUBERNETES_SERVICE, Network, SERVICES};
use super::place::Place;
use super::programs::Programs;
use super::protocol::Service;

/// Addresses and files of one control plane.
pub struct Plan {
    /// Programs by their names.
    pub programs: Programs,
    /// The bed's folder.
    pub folder: PathBuf,
    /// Where the API server is reached.
    pub host: String,
    /// Its port.
    pub api_port: u16,
    /// Further ports on loopback: etcd for clients, etcd for peers, controller manager.
    pub ports: [u16; 3],
    /// Whether a node belongs to it.
    pub node: bool,
}

impl Plan {
    /// Everything follows from the place.
    pub fn new(place: &Place, programs: Programs, node: bool) -> Self {
        let host = if node { Network::new(place.index).node() } else { "127.0.0.1".to_owned() };
        Self {
            programs,
            folder: place.folder.clone(),
            host,
            api_port: place.port(0),
            ports: [1, 2, 3].map(|number| place.port(number)),
            node,
        }
    }

    /// The URL of the API server.
    pub fn server(&self) -> String {
        format!("https://{}:{}", self.host, self.api_port)
    }

    /// Names and addresses under which the API server is reached.
    pub fn server_names(&self) -> [&str; 7] {
        let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", "127.0.0.1"];
        [names[0], names[1], names[2], names[3], names[4], KUBERNETES_SERVICE, &self.host]
    }

    /// The folder of certificates and kubeconfigs.
    pub fn pki(&self) -> PathBuf {
        self.folder.join("pki")
    }

    /// A service whose flags are given as `name=value`.
    pub fn service(&self, program: &str, flags: &[String]) -> Result<Service> {
        let path = self.programs.path(program)?.display().to_string();
        let flags = flags.iter().map(|flag| format!("--{flag}"));
        Ok(Service {
            name: program.to_owned(),
            words: std::iter::once(path).chain(flags).collect(),
            path: vec![],
        })
    }

    /// etcd; what it holds is not worth a wait for the disk.
    pub fn etcd(&self) -> Result<Service> {
        let [clients, peers, _] = self.ports.map(|port| format!("http://127.0.0.1:{port}"));
        let flags = [
            format!("data-dir={}", self.folder.join("etcd").display()),
            format!("listen-client-urls={clients}"),
            format!("advertise-client-urls={clients}"),
            format!("listen-peer-urls={peers}"),
            format!("initial-advertise-peer-urls={peers}"),
            format!("initial-cluster=default={peers}"),
            "unsafe-no-fsync=true".to_owned(),
            "log-level=warn".to_owned(),
        ];
        self.service("etcd", &flags)
    }

    /// The API server with everything a test of shipped manifests needs: RBAC, Node, tokens, default admission.
    pub fn api_server(&self) -> Result<Service> {
        let pki = self.pki();
        let file = |flag: &str, name: &str| format!("{flag}={}", pki.join(name).display());
        let mut flags = vec![
            format!("etcd-servers=http://127.0.0.1:{}", self.ports[0]),
            format!("secure-port={}", self.api_port),
            file("tls-cert-file", "apiserver.crt"),
            file("tls-private-key-file", "apiserver.key"),
            file("client-ca-file", "ca.crt"),
            "service-account-issuer=https://kubernetes.default.svc".to_owned(),
            file("service-account-key-file", "sa.pub"),
            file("service-account-signing-key-file", "sa.key"),
            "authorization-mode=Node,RBAC".to_owned(),
            "enable-admission-plugins=NodeRestriction".to_owned(),
            "allow-privileged=true".to_owned(),
            format!("service-cluster-ip-range={SERVICES}"),
            file("requestheader-client-ca-file", "front-proxy-ca.crt"),
            "requestheader-allowed-names=front-proxy-client".to_owned(),
            "requestheader-username-headers=X-Remote-User".to_owned(),
            "requestheader-group-headers=X-Remote-Group".to_owned(),
            "requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
            file("proxy-client-cert-file", "front-proxy.crt"),
            file("proxy-client-key-file", "front-proxy.key"),
        ];
        flags.extend(self.reachability(&file));
        self.service("kube-apiserver", &flags)
    }

    /// With a node the API server is found by pods and speaks to the kubelet; else loopback is all there is.
    fn reachability(&self, file: &dyn Fn(&str, &str) -> String) -> Vec<String> {
        if !self.node {
            // Endpoints may not be on loopback, and nobody needs them: an address that nobody has, and none published.
            let flags =
                ["bind-address=127.0.0.1", "advertise-address=192.0.2.1", "endpoint-reconciler-type=none"];
            return flags.map(str::to_owned).to_vec();
        }
        vec![
            "bind-address=0.0.0.0".to_owned(),
            format!("advertise-address={}", self.host),
            "endpoint-reconciler-type=master-count".to_owned(),
            file("kubelet-client-certificate", "apiserver-kubelet.crt"),
            file("kubelet-client-key", "apiserver-kubelet.key"),
            file("kubelet-certificate-authority", "ca.crt"),
            "kubelet-preferred-address-types=InternalIP".to_owned(),
        ]
    }

    /// The controllers of Kubernetes itself.
    pub fn controller_manager(&self) -> Result<Service> {
        let pki = self.pki();
        let file = |flag: &str, name: &str| format!("{flag}={}", pki.join(name).display());
        let mut flags = self.client_flags("kube-controller-manager", self.ports[2]);
        flags.extend([
            file("service-account-private-key-file", "sa.key"),
            file("root-ca-file", "ca.crt"),
            file("cluster-signing-cert-file", "ca.crt"),
            file("cluster-signing-key-file", "ca.key"),
            "use-service-account-credentials=true".to_owned(),
            "concurrent-serviceaccount-token-syncs=10".to_owned(),
            "kube-api-qps=100".to_owned(),
            "kube-api-burst=200".to_owned(),
            "node-monitor-period=1s".to_owned(),
        ]);
        self.service("kube-controller-manager", &flags)
    }

    /// The scheduler.
    pub fn scheduler(&self) -> Result<Service> {
        self.service("kube-scheduler", &self.client_flags("kube-scheduler", 10_259))
    }

    /// The kubelet, from its configuration file.
    pub fn kubelet(&self) -> Result<Service> {
        let flags = [
            format!("config={}", self.folder.join("kubelet.json").display()),
            format!("kubeconfig={}", self.pki().join("kubelet.kubeconfig").display()),
            format!("hostname-override={NODE}"),
            format!("node-ip={}", self.host),
            "v=2".to_owned(),
        ];
        self.service("kubelet", &flags)
    }

    /// kube-proxy, from its configuration file.
    pub fn proxy(&self) -> Result<Service> {
        let config = format!("config={}", self.folder.join("kube-proxy.json").display());
        self.service("kube-proxy", &[config])
    }

    /// containerd, which finds its shim in the search path.
    pub fn containerd(&self) -> Result<Service> {
        let config = format!("config={}", self.folder.join("containerd.toml").display());
        let path = vec![folder_of(&self.programs, "containerd")?];
        Ok(Service { path, ..self.service("containerd", &[config])? })
    }

    fn client_flags(&self, name: &str, port: u16) -> Vec<String> {
        let kubeconfig = self.pki().join(format!("{name}.kubeconfig"));
        let kubeconfig = kubeconfig.display();
        vec![
            format!("kubeconfig={kubeconfig}"),
            format!("authentication-kubeconfig={kubeconfig}"),
            format!("authorization-kubeconfig={kubeconfig}"),
            "leader-elect=false".to_owned(),
            format!("secure-port={port}"),
            "bind-address=127.0.0.1".to_owned(),
        ]
    }
}

/// The folder of a program, as text.
pub fn folder_of(programs: &Programs, program: &str) -> Result<String> {
    let folder: &Path = programs.folder(program)?;
    Ok(folder.display().to_string())
}
