//! The certificates and identities of a control plane: an authority, its servers, its clients, their kubeconfigs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

/// A certificate authority in a folder of its own files.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
    name: String,
}

impl Authority {
    /// Makes one and writes `<name>.crt` and `<name>.key`.
    pub fn create(folder: &Path, name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("bed {name}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        write(folder, name, &params.self_signed(&key)?.pem(), &key)?;
        Ok(Self { issuer: Issuer::new(params, key), folder: folder.to_owned(), name: name.to_owned() })
    }

    /// A certificate for a server that is reached under these names and addresses.
    pub fn server(&self, name: &str, reached_as: &[&str]) -> Result<()> {
        let names: Vec<String> = reached_as.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(name, params)
    }

    /// A certificate for a client; Kubernetes takes the user from the common name and a group from the organization.
    pub fn client(&self, name: &str, user: &str, group: Option<&str>) -> Result<()> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(name, params)
    }

    /// A client with a kubeconfig, `<name>.kubeconfig`.
    pub fn user(&self, name: &str, user: &str, group: Option<&str>, server: &str) -> Result<PathBuf> {
        self.client(name, user, group)?;
        let encoded = |file: String| -> Result<String> {
            let path = self.folder.join(file);
            Ok(BASE64.encode(fs::read(&path).with_context(|| format!("{}", path.display()))?))
        };
        let cluster = json!({
            "server": server,
            "certificate-authority-data": encoded(format!("{}.crt", self.name))?,
        });
        let user = json!({
            "client-certificate-data": encoded(format!("{name}.crt"))?,
            "client-key-data": encoded(format!("{name}.key"))?,
        });
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "bed", "cluster": cluster}],
            "users": [{"name": "bed", "user": user}],
            "contexts": [{"name": "bed", "context": {"cluster": "bed", "user": "bed"}}],
            "current-context": "bed",
        });
        let path = self.folder.join(format!("{name}.kubeconfig"));
        fs::write(&path, serde_json::to_vec_pretty(&kubeconfig)?)?;
        Ok(path)
    }

    fn issue(&self, name: &str, mut params: CertificateParams) -> Result<()> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        write(&self.folder, name, &params.signed_by(&key, &self.issuer)?.pem(), &key)
    }
}

/// The pair of keys that ServiceAccount tokens are signed with: `sa.key`, `sa.pub`.
pub fn service_account_keys(folder: &Path) -> Result<()> {
    let key = KeyPair::generate()?;
    fs::write(folder.join("sa.key"), key.serialize_pem())?;
    Ok(fs::write(folder.join("sa.pub"), key.public_key_pem())?)
}

fn write(folder: &Path, name: &str, certificate: &str, key: &KeyPair) -> Result<()> {
    fs::write(folder.join(format!("{name}.crt")), certificate)?;
    Ok(fs::write(folder.join(format!("{name}.key")), key.serialize_pem())?)
}
