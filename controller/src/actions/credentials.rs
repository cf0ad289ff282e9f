//! The credentials in the Secret of a runner set: a token, or a GitHub App with its key.

use std::collections::BTreeMap;
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use k8s_openapi::ByteString;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use serde::Serialize;
use x509_parser::asn1_rs::{FromDer as _, Integer, OctetString, Oid, Sequence};
use x509_parser::oid_registry::OID_PKCS1_RSAENCRYPTION;

const TOKEN: &str = "github_token";
const APP_ID: &str = "github_app_id";
const INSTALLATION: &str = "github_app_installation_id";
const PRIVATE_KEY: &str = "github_app_private_key";

/// How long before now an App's token begins to be valid, for clocks that are late.
const LEEWAY: Duration = Duration::from_secs(60);

/// How long it is valid after that; GitHub allows ten minutes.
const VALIDITY: Duration = Duration::from_secs(9 * 60);

/// Why a Secret holds no credentials. Nothing of what it holds is in the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Neither kind.
    #[error(
        "it has neither {TOKEN} nor {APP_ID}, {INSTALLATION} and {PRIVATE_KEY}; set one of the two kinds"
    )]
    None,
    /// Both kinds.
    #[error("it has both {TOKEN} and {0}; remove {TOKEN}, or the three keys of the GitHub App")]
    Both(&'static str),
    /// A part of an App.
    #[error(
        "it has keys of a GitHub App, but {0} is missing or empty; set all of {APP_ID}, {INSTALLATION} and {PRIVATE_KEY}"
    )]
    Incomplete(&'static str),
    /// A value is not what it must be.
    #[error("its key {0} {1}")]
    Malformed(&'static str, &'static str),
}

/// Who asks.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A personal access token, or another one that may manage runners.
    Token(SecretString),
    /// A GitHub App.
    App(App),
}

/// An installation of a GitHub App.
#[derive(Clone, Debug)]
pub struct App {
    /// The App's id, or its client id.
    id: String,
    installation: u64,
    /// Its RSA key, DER of PKCS#1.
    key: SecretSlice<u8>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iat: u64,
    exp: u64,
    iss: &'a str,
}

impl Credentials {
    /// Reads the data of a Secret. Space around values, such as the line end that editors leave, does not count.
    pub fn read(data: &BTreeMap<String, ByteString>) -> Result<Self, CredentialsError> {
        let app = [APP_ID, INSTALLATION, PRIVATE_KEY];
        let mut values = Vec::new();
        for name in app {
            values.push(text(data, name)?);
        }
        let some = app.iter().zip(&values).find_map(|(name, value)| value.map(|_| *name));
        match (text(data, TOKEN)?, some) {
            (Some(_), Some(name)) => Err(CredentialsError::Both(name)),
            (None, None) => Err(CredentialsError::None),
            (Some(token), None) if token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Ok(Self::Token(token.into()))
            }
            (Some(_), None) => {
                Err(CredentialsError::Malformed(TOKEN, "is not one line of ASCII; write the token alone"))
            }
            (None, Some(_)) => {
                let complete: Option<Vec<&str>> = values.iter().copied().collect();
                let missing =
                    app.iter().zip(&values).find_map(|(name, value)| value.is_none().then_some(*name));
                match complete.as_deref() {
                    Some([id, installation, key]) => App::read(id, installation, key).map(Self::App),
                    _ => Err(CredentialsError::Incomplete(missing.unwrap_or(APP_ID))),
                }
            }
        }
    }
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Token(one), Self::Token(other)) => one.expose_secret() == other.expose_secret(),
            (Self::App(one), Self::App(other)) => one == other,
            _ => false,
        }
    }
}

impl PartialEq for App {
    fn eq(&self, other: &Self) -> bool {
        let Self { id, installation, key } = self;
        *id == other.id
            && *installation == other.installation
            && key.expose_secret() == other.key.expose_secret()
    }
}

impl App {
    fn read(id: &str, installation: &str, pem: &str) -> Result<Self, CredentialsError> {
        let malformed = CredentialsError::Malformed;
        let installation = installation.parse().map_err(|_| {
            malformed(INSTALLATION, "is no whole number; copy it from the installation's address")
        })?;
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
            malformed(PRIVATE_KEY, "is no PEM text with a private key; use the file that GitHub gave")
        })?;
        let key = match &key {
            PrivateKeyDer::Pkcs1(key) => Some(key.secret_pkcs1_der().to_vec()),
            PrivateKeyDer::Pkcs8(key) => rsa_key(key.secret_pkcs8_der()),
            _ => None,
        };
        let key = key.ok_or(malformed(PRIVATE_KEY, "is no RSA key; GitHub Apps have RSA keys"))?.into();
        let app = Self { id: id.to_owned(), installation, key };
        // A key that cannot sign is found here, and not when the first runner is due.
        app.token(LEEWAY)
            .map_err(|_| malformed(PRIVATE_KEY, "cannot be used to sign; use the file that GitHub gave"))?;
        Ok(app)
    }

    /// The number of the installation.
    pub fn installation(&self) -> u64 {
        self.installation
    }

    /// The token by which the App identifies itself at `now`, counted from 1970.
    pub fn token(&self, now: Duration) -> Result<SecretString, jsonwebtoken::errors::Error> {
        let begin = now.saturating_sub(LEEWAY);
        let claims = Claims { iat: begin.as_secs(), exp: (begin + VALIDITY).as_secs(), iss: &self.id };
        let key = EncodingKey::from_rsa_der(self.key.expose_secret());
        jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &key).map(Into::into)
    }
}

/// What a value says; nothing if there is none.
fn text<'a>(
    data: &'a BTreeMap<String, ByteString>,
    name: &'static str,
) -> Result<Option<&'a str>, CredentialsError> {
    let Some(value) = data.get(name) else { return Ok(None) };
    let text = str::from_utf8(&value.0).map_err(|_| CredentialsError::Malformed(name, "is not UTF-8"))?;
    Ok(Some(text.trim()).filter(|text| !text.is_empty()))
}

/// The PKCS#1 key within PKCS#8: a version, the algorithm, and the key as a string of bytes.
fn rsa_key(pkcs8: &[u8]) -> Option<Vec<u8>> {
    let (_, outer) = Sequence::from_der(pkcs8).ok()?;
    let (rest, _version) = Integer::from_der(&outer.content).ok()?;
    let (rest, algorithm) = Sequence::from_der(rest).ok()?;
    let (_, kind) = Oid::from_der(&algorithm.content).ok()?;
    let (_, key) = OctetString::from_der(rest).ok()?;
    (kind == OID_PKCS1_RSAENCRYPTION).then(|| key.as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use base64::Engine as _;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
    use jsonwebtoken::{DecodingKey, Validation};
    use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData as _};
    use serde_json::Value;

    use super::*;

    static RSA: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap());

    fn read(data: &[(&str, &str)]) -> Result<Credentials, CredentialsError> {
        let value = |text: &&str| ByteString(text.as_bytes().to_vec());
        Credentials::read(&data.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect())
    }

    fn app(key: &str) -> Result<Credentials, CredentialsError> {
        read(&[(APP_ID, "Iv1.abc"), (INSTALLATION, "42\n"), (PRIVATE_KEY, key)])
    }

    fn pkcs1() -> String {
        let der = rsa_key(RSA.serialized_der()).unwrap();
        let text = BASE64_STANDARD.encode(der);
        format!("-----BEGIN RSA PRIVATE KEY-----\n{text}\n-----END RSA PRIVATE KEY-----\n")
    }

    #[test]
    fn a_token_is_read_without_its_line_end() {
        let Credentials::Token(token) = read(&[(TOKEN, " ghp_x\n"), (APP_ID, "")]).unwrap() else { panic!() };
        assert_eq!(token.expose_secret(), "ghp_x");
    }

    #[test]
    fn an_app_signs_with_either_form_of_its_key() {
        let now = Duration::from_secs(1_800_000_000);
        assert!(app(&pkcs1()).unwrap() == app(&RSA.serialize_pem()).unwrap());
        for key in [pkcs1(), RSA.serialize_pem()] {
            let Credentials::App(app) = app(&key).unwrap() else { panic!() };
            assert_eq!(app.installation(), 42);
            let token = app.token(now).unwrap();
            let mut validation = Validation::new(Algorithm::RS256);
            validation.validate_exp = false;
            let public = DecodingKey::from_rsa_der(RSA.der_bytes());
            let claims =
                jsonwebtoken::decode::<Value>(token.expose_secret(), &public, &validation).unwrap().claims;
            assert_eq!(claims["iss"], "Iv1.abc");
            assert_eq!(
                (claims["iat"].as_u64(), claims["exp"].as_u64()),
                (Some(1_799_999_940), Some(1_800_000_480))
            );
        }
    }

    #[test]
    fn what_cannot_be_used_is_named_and_not_shown() {
        let ec = KeyPair::generate().unwrap().serialize_pem();
        let broken = format!(
            "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----\n",
            BASE64_STANDARD.encode("s3cret")
        );
        for (data, words) in [
            (&[][..], "neither github_token nor github_app_id"),
            (&[(TOKEN, " \n")], "neither"),
            (&[(TOKEN, "s3cret"), (APP_ID, "1")], "both github_token and github_app_id"),
            (&[(TOKEN, "s3cret"), (PRIVATE_KEY, "s3cret")], "both github_token and github_app_private_key"),
            (&[(TOKEN, "s3cret\ns3cret")], "not one line"),
            (&[(APP_ID, "1")], "github_app_installation_id is missing"),
            (&[(INSTALLATION, "1"), (PRIVATE_KEY, "s3cret")], "github_app_id is missing"),
            (&[(APP_ID, "1"), (INSTALLATION, "1")], "github_app_private_key is missing"),
            (&[(APP_ID, "1"), (INSTALLATION, "s3cret"), (PRIVATE_KEY, "k")], "no whole number"),
            (&[(APP_ID, "1"), (INSTALLATION, "1"), (PRIVATE_KEY, "s3cret")], "no PEM"),
            (&[(APP_ID, "1"), (INSTALLATION, "1"), (PRIVATE_KEY, &ec)], "no RSA key"),
            (&[(APP_ID, "1"), (INSTALLATION, "1"), (PRIVATE_KEY, &broken)], "cannot be used to sign"),
        ] {
            let error = read(data).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("s3cret"), "{error}");
        }
        let binary = BTreeMap::from([(TOKEN.to_owned(), ByteString(vec![0xff]))]);
        assert!(Credentials::read(&binary).unwrap_err().to_string().contains("github_token is not UTF-8"));
    }

    #[test]
    fn credentials_show_nothing_and_are_compared_by_what_they_hold() {
        let token = |text| read(&[(TOKEN, text)]).unwrap();
        assert!(token("s3cret") == token("s3cret") && token("s3cret") != token("other"));
        assert!(token("s3cret") != app(&pkcs1()).unwrap());
        assert!(!format!("{:?}", token("s3cret")).contains("s3cret"));
        let shown = format!("{:?}", app(&pkcs1()).unwrap());
        let key = BASE64_URL_SAFE_NO_PAD.encode(rsa_key(RSA.serialized_der()).unwrap());
        assert!(!shown.contains(&key[..20]) && !shown.contains("48, 130"), "{shown}");
    }
}
