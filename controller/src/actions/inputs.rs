//! Everything that decides how the Actions service is reached, already read.

use secrecy::{ExposeSecret as _, SecretString};

use super::credentials::Credentials;
use super::spec::Spec;
use super::url::UrlError;

/// Everything that decides how the service is reached. Equal inputs share one [`super::Service`].
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    /// Namespace of the set.
    pub namespace: String,
    /// What the set says.
    pub spec: Spec,
    /// What its Secret holds.
    pub credentials: Credentials,
    /// For the proxy of `http://` addresses.
    pub http_login: Option<Login>,
    /// For the proxy of `https://` addresses.
    pub https_login: Option<Login>,
    /// Certificates of further authorities, PEM.
    pub authority: Option<String>,
}

/// A user of a proxy.
#[derive(Clone, Debug)]
pub struct Login {
    /// The name.
    pub username: String,
    /// The password.
    pub password: SecretString,
}

impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        let Self { username, password } = self;
        *username == other.username && password.expose_secret() == other.password.expose_secret()
    }
}

impl Inputs {
    /// Where the credentials are, for messages.
    pub fn secret(&self) -> String {
        format!("{}/{}", self.namespace, self.spec.secret)
    }
}

/// Why inputs cannot be used; somebody has to change them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// The address leads nowhere.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The authorities are no certificates.
    #[error(
        "key {1} of ConfigMap {0} is no PEM text with certificates; githubServerTLS names it, so correct it"
    )]
    Authority(String, String),
    /// A proxy's address is none.
    #[error("{0} is no address of a proxy; write it like http://proxy.example:3128")]
    Proxy(&'static str),
    /// The client cannot be made.
    #[error("failed to set up HTTPS: {0}; check that the image has the system's certificates")]
    Client(String),
}
