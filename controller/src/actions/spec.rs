//! What a runner set says about how the Actions service is reached.

use serde::Deserialize;
use serde_json::Value;

/// Why a set's specification cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Something that only ARC itself can do.
    #[error("`{0}` is set, which Headstart does not support; the runners of this set are left to ARC")]
    Unsupported(&'static str),
    /// A field that must be there is not.
    #[error("`{0}` is missing or empty; set it as the chart gha-runner-scale-set does")]
    Missing(&'static str),
    /// A field is not what it must be.
    #[error(
        "cannot read the specification of the runner set: {0}; compare it with the CRD that is installed"
    )]
    Malformed(String),
}

/// How the service is reached: the part of a specification that AutoscalingRunnerSets and EphemeralRunners have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// `githubConfigUrl`: the repository, organization or enterprise.
    pub url: String,
    /// `githubConfigSecret`: the name of the Secret with the credentials.
    pub secret: String,
    /// `proxy`, if there is one.
    pub proxy: Option<Proxy>,
    /// `githubServerTLS`: where the PEM text of further authorities lies.
    pub authority: Option<KeyReference>,
}

/// `proxy` of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Proxy {
    /// For `http://` addresses.
    pub http: Option<ProxyServer>,
    /// For `https://` addresses.
    pub https: Option<ProxyServer>,
    /// Hosts, domains and networks that are reached without it.
    pub no_proxy: Vec<String>,
}

/// One proxy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyServer {
    /// Its address.
    #[serde(default)]
    pub url: String,
    /// The Secret with its `username` and `password`; empty or absent if it wants none.
    #[serde(default, rename = "credentialSecretRef")]
    pub secret: Option<String>,
}

/// A key of a ConfigMap in the set's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct KeyReference {
    /// Name of the ConfigMap.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// The fields as they are written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    github_config_url: String,
    #[serde(default)]
    github_config_secret: String,
    proxy: Option<Proxy>,
    #[serde(rename = "githubServerTLS")]
    github_server_tls: Option<ServerTls>,
    vault_config: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServerTls {
    certificate_from: Option<CertificateFrom>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CertificateFrom {
    config_map_key_ref: Option<KeyReference>,
}

impl Spec {
    /// Reads `spec` of an AutoscalingRunnerSet or of an EphemeralRunner, or `spec.ephemeralRunnerSpec` of an
    /// EphemeralRunnerSet; other fields are passed over.
    pub fn read(spec: &Value) -> Result<Self, SpecError> {
        let written = Written::deserialize(spec).map_err(|error| SpecError::Malformed(error.to_string()))?;
        if written.vault_config.is_some() {
            return Err(SpecError::Unsupported("vaultConfig"));
        }
        if written.github_config_url.is_empty() {
            return Err(SpecError::Missing("githubConfigUrl"));
        }
        if written.github_config_secret.is_empty() {
            return Err(SpecError::Missing("githubConfigSecret"));
        }
        let authority = written.github_server_tls.map(authority).transpose()?;
        let proxy = written.proxy.map(checked).transpose()?.flatten();
        Ok(Self { url: written.github_config_url, secret: written.github_config_secret, proxy, authority })
    }
}

/// Without it the service's certificate would not be trusted, so that nothing is better than going on.
fn authority(tls: ServerTls) -> Result<KeyReference, SpecError> {
    let missing = SpecError::Missing("githubServerTLS.certificateFrom.configMapKeyRef");
    tls.certificate_from.and_then(|from| from.config_map_key_ref).ok_or(missing)
}

/// A proxy that names no server is none.
fn checked(mut proxy: Proxy) -> Result<Option<Proxy>, SpecError> {
    let servers = [(&mut proxy.http, "proxy.http.url"), (&mut proxy.https, "proxy.https.url")];
    for (server, field) in servers {
        let Some(server) = server else { continue };
        if server.url.is_empty() {
            return Err(SpecError::Missing(field));
        }
        server.secret.take_if(|name| name.is_empty());
    }
    Ok((proxy.http.is_some() || proxy.https.is_some()).then_some(proxy))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(more: &Value) -> Result<Spec, SpecError> {
        let mut spec = json!({ "githubConfigUrl": "https://github.com/o", "githubConfigSecret": "s" });
        let fields = spec.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        Spec::read(&spec)
    }

    #[test]
    fn all_that_a_set_says_is_read_and_the_rest_is_passed_over() {
        let spec = read(&json!({
            "template": { "spec": {} }, "maxRunners": 3, "runnerScaleSetId": 7,
            "proxy": {
                "http": { "url": "http://proxy:1", "credentialSecretRef": "login" },
                "https": { "url": "http://proxy:2", "credentialSecretRef": "" },
                "noProxy": ["a", "b"],
            },
            "githubServerTLS": { "certificateFrom": { "configMapKeyRef": { "name": "ca", "key": "ca.crt" } } },
        }));
        let spec = spec.unwrap();
        let Proxy { http, https, no_proxy } = spec.proxy.unwrap();
        let login = Some("login".to_owned());
        assert_eq!(http, Some(ProxyServer { url: "http://proxy:1".to_owned(), secret: login }));
        assert_eq!(https, Some(ProxyServer { url: "http://proxy:2".to_owned(), secret: None }));
        assert_eq!(no_proxy, ["a", "b"]);
        assert_eq!(spec.authority, Some(KeyReference { name: "ca".to_owned(), key: "ca.crt".to_owned() }));
        assert_eq!((spec.url.as_str(), spec.secret.as_str()), ("https://github.com/o", "s"));
    }

    #[test]
    fn what_is_null_or_names_nothing_is_not_there() {
        for more in [
            json!({}),
            json!({ "proxy": null, "githubServerTLS": null, "vaultConfig": null }),
            json!({ "proxy": { "noProxy": ["a"] } }),
        ] {
            let spec = read(&more).unwrap();
            assert!(spec.proxy.is_none() && spec.authority.is_none(), "{more}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        for (more, words) in [
            (json!({ "vaultConfig": { "type": "azure_key_vault" } }), "`vaultConfig` is set"),
            (json!({ "vaultConfig": {} }), "left to ARC"),
            (json!({ "githubConfigUrl": "" }), "`githubConfigUrl` is missing"),
            (json!({ "githubConfigSecret": "" }), "`githubConfigSecret` is missing"),
            (json!({ "githubConfigUrl": 5 }), "cannot read"),
            (json!({ "githubServerTLS": {} }), "`githubServerTLS.certificateFrom.configMapKeyRef`"),
            (json!({ "proxy": { "http": {} } }), "`proxy.http.url`"),
            (json!({ "proxy": { "https": { "url": "" } } }), "`proxy.https.url`"),
        ] {
            let error = read(&more).unwrap_err().to_string();
            assert!(error.contains(words), "{more}: {error}");
        }
        assert_eq!(Spec::read(&json!({})), Err(SpecError::Missing("githubConfigUrl")));
    }
}
