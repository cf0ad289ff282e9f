//! Reads the Secrets and the ConfigMap that a runner set names.

use std::collections::BTreeMap;
use std::time::Duration;

use headstart_runtime::cluster::{CallError, within};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};

use super::credentials::{Credentials, CredentialsError};
use super::inputs::{Inputs, Login};
use super::spec::{KeyReference, ProxyServer, Spec};

/// Longest time for one object.
const CALL: Duration = Duration::from_secs(5);

/// Why something that a set names cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It is not there.
    #[error("{kind} {place} is not there; create it, or correct `{field}` of the runner set")]
    Missing {
        /// `Secret` or `ConfigMap`.
        kind: &'static str,
        /// Namespace and name.
        place: String,
        /// The field of the set that names it.
        field: &'static str,
    },
    /// The API server does not give it.
    #[error("failed to read {kind} {place}")]
    Call {
        /// `Secret` or `ConfigMap`.
        kind: &'static str,
        /// Namespace and name.
        place: String,
        /// Why.
        #[source]
        source: CallError,
    },
    /// A key is not there, or is no text.
    #[error("{kind} {place} has no text under the key {key}; add it, or correct `{field}` of the runner set")]
    Key {
        /// `Secret` or `ConfigMap`.
        kind: &'static str,
        /// Namespace and name.
        place: String,
        /// The key.
        key: String,
        /// The field of the set that names the object.
        field: &'static str,
    },
    /// The Secret holds no credentials.
    #[error("Secret {place} cannot be used: {cause}")]
    Credentials {
        /// Namespace and name.
        place: String,
        /// Why; part of the message, since it says what to do.
        cause: CredentialsError,
    },
}

impl SourceError {
    /// Whether it may be read later, without anybody doing something.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Call { source, .. } => {
                !matches!(source, CallError::Refused(status) if status.is_forbidden())
            }
            _ => false,
        }
    }
}

/// What is read, and for which field of the set.
#[derive(Clone, Copy)]
struct Place<'a> {
    client: &'a Client,
    kind: &'static str,
    namespace: &'a str,
    name: &'a str,
    field: &'static str,
}

/// Reads everything that `spec` names in the namespace of its set.
pub async fn read(client: &Client, namespace: &str, spec: &Spec) -> Result<Inputs, SourceError> {
    let place = |kind, name, field| Place { client, kind, namespace, name, field };
    let secret = place("Secret", spec.secret.as_str(), "githubConfigSecret");
    let proxy = spec.proxy.as_ref();
    let login = |server: Option<&ProxyServer>, field| {
        let name = server.and_then(|server| server.secret.clone());
        async move {
            match &name {
                Some(name) => login(Place { client, kind: "Secret", namespace, name, field }).await.map(Some),
                None => Ok(None),
            }
        }
    };
    let (credentials, http_login, https_login, authority) = tokio::try_join!(
        credentials(secret),
        login(proxy.and_then(|proxy| proxy.http.as_ref()), "proxy.http.credentialSecretRef"),
        login(proxy.and_then(|proxy| proxy.https.as_ref()), "proxy.https.credentialSecretRef"),
        authority(client, namespace, spec.authority.as_ref()),
    )?;
    let (namespace, spec) = (namespace.to_owned(), spec.clone());
    Ok(Inputs { namespace, spec, credentials, http_login, https_login, authority })
}

async fn credentials(place: Place<'_>) -> Result<Credentials, SourceError> {
    let data = place.secret().await?;
    Credentials::read(&data).map_err(|cause| SourceError::Credentials { place: place.shown(), cause })
}

async fn login(place: Place<'_>) -> Result<Login, SourceError> {
    let data = place.secret().await?;
    let text = |key: &str| {
        let value = data.get(key).and_then(|value| String::from_utf8(value.0.clone()).ok());
        value.ok_or_else(|| place.without(key))
    };
    Ok(Login { username: text("username")?, password: text("password")?.into() })
}

async fn authority(
    client: &Client,
    namespace: &str,
    reference: Option<&KeyReference>,
) -> Result<Option<String>, SourceError> {
    let Some(KeyReference { name, key }) = reference else { return Ok(None) };
    let field = "githubServerTLS.certificateFrom.configMapKeyRef";
    let place = Place { client, kind: "ConfigMap", namespace, name, field };
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let map = within(CALL, api.get(name)).await.map_err(|error| place.unread(error))?;
    let text = map.data.and_then(|mut data| data.remove(key));
    text.map(Some).ok_or_else(|| place.without(key))
}

impl Place<'_> {
    fn shown(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    async fn secret(&self) -> Result<BTreeMap<String, ByteString>, SourceError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), self.namespace);
        let secret = within(CALL, api.get(self.name)).await.map_err(|error| self.unread(error))?;
        Ok(secret.data.unwrap_or_default())
    }

    fn unread(&self, source: CallError) -> SourceError {
        let (kind, place, field) = (self.kind, self.shown(), self.field);
        if source.is_not_found() {
            return SourceError::Missing { kind, place, field };
        }
        SourceError::Call { kind, place, source }
    }

    fn without(&self, key: &str) -> SourceError {
        let (kind, place, field, key) = (self.kind, self.shown(), self.field, key.to_owned());
        SourceError::Key { kind, place, key, field }
    }
}
