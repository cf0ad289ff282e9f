//! Who a program is in a test's cluster: kubeconfigs with the tokens of ServiceAccounts, and chains of certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::{Value, json};

use crate::bed::ControlPlane;

/// A kubeconfig with a token of `account`, as a pod on `node` would get it.
pub fn kubeconfig(control_plane: &ControlPlane, account: &str, node: Option<&str>, folder: &Path) -> PathBuf {
    kubeconfig_in(control_plane, "headstart-system", (account, node), folder)
}

/// As [`kubeconfig`], for a ServiceAccount of any namespace.
pub fn kubeconfig_in(
    control_plane: &ControlPlane,
    namespace: &str,
    (account, node): (&str, Option<&str>),
    folder: &Path,
) -> PathBuf {
    let mut words = vec!["create", "token", account, "--namespace", namespace];
    let bound =
        node.map(|node| ["--bound-object-kind=Node".to_owned(), format!("--bound-object-name={node}")]);
    words.extend(bound.iter().flatten().map(String::as_str));
    let token = control_plane.kubectl(&words).unwrap();
    kubeconfig_with(control_plane, token.trim(), &folder.join(format!("{account}.kubeconfig")))
}

/// A kubeconfig with that token, at that path.
pub fn kubeconfig_with(control_plane: &ControlPlane, token: &str, path: &Path) -> PathBuf {
    let authority = std::fs::read(control_plane.authority()).unwrap();
    let cluster = json!({
        "server": control_plane.server(), "certificate-authority-data": BASE64_STANDARD.encode(authority),
    });
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{ "name": "it", "cluster": cluster }],
        "users": [{ "name": "it", "user": { "token": token } }],
        "contexts": [{ "name": "it", "context": { "cluster": "it", "user": "it" } }],
    });
    std::fs::write(path, config.to_string()).unwrap();
    path.to_owned()
}

/// Checks, as a TLS client would, that a Secret's `tls.crt` serves `name` and was signed by its `ca.crt`.
pub fn verify_chain(data: &Value, name: &str) {
    headstart_runtime::program::install_crypto();
    let certificate = |key: &str| {
        let pem = BASE64_STANDARD.decode(data[key].as_str().unwrap()).unwrap();
        CertificateDer::from_pem_slice(&pem).unwrap()
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate("ca.crt")).unwrap();
    let verifier = WebPkiServerVerifier::builder(Arc::new(roots)).build().unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    verifier.verify_server_cert(&certificate("tls.crt"), &[], &name, &[], UnixTime::now()).unwrap();
}
