//! Making keys and certificates, and reading how long they count. Times are seconds since the Unix epoch.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use rcgen::PublicKeyData as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

const DAY: i64 = 24 * 3600;

/// How long a CA counts.
pub(super) const AUTHORITY_LIFE: i64 = 365 * DAY;

/// How long a leaf counts; shorter than what is left of its CA when that stops signing.
pub(super) const LEAF_LIFE: i64 = 90 * DAY;

/// Certificates count from a little before they were made, for clocks that are behind.
pub(super) const BACKDATED: i64 = 300;

/// A certificate with its private key, both as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Certified {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl Certified {
    /// Whether the key is that of the certificate.
    pub fn is_pair(&self) -> bool {
        let Ok(key) = KeyPair::from_pem(&self.key) else { return false };
        parsed(&self.certificate, |certificate| certificate.public_key().raw == key.subject_public_key_info())
            .unwrap_or(false)
    }

    /// Whether the key of the certificate `authority` signed it.
    pub fn is_signed_by(&self, authority: &str) -> bool {
        let checked = parsed(authority, |authority| {
            parsed(&self.certificate, |own| own.verify_signature(Some(authority.public_key())).is_ok())
        });
        checked.flatten().unwrap_or(false)
    }
}

/// When a certificate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First second.
    pub from: i64,
    /// Last second.
    pub until: i64,
}

impl Window {
    /// Whether it is over.
    pub fn is_over(self, now: i64) -> bool {
        now >= self.until
    }

    /// Whether two thirds of it are over, the time to renew. A clock that was set back far makes it due, too.
    pub fn is_due(self, now: i64) -> bool {
        now >= self.from + (self.until - self.from) / 3 * 2 || now < self.from
    }
}

/// A new CA.
pub fn authority(now: i64) -> anyhow::Result<Certified> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Every CA has a name of its own, so that nobody takes one for another.
    params.distinguished_name = named(&format!("headstart webhook CA {now}"));
    set_window(&mut params, now, AUTHORITY_LIFE);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(Certified { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// A serving certificate for `names`, signed by `authority`.
pub fn leaf(authority: &Certified, names: &[String], now: i64) -> anyhow::Result<Certified> {
    let signing_key = KeyPair::from_pem(&authority.key).context("the CA's key cannot be read")?;
    let issuer =
        Issuer::from_ca_cert_pem(&authority.certificate, signing_key).context("the CA cannot be read")?;
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name = named("headstart webhook");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set_window(&mut params, now, LEAF_LIFE);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Certified { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// When a certificate counts, and for which DNS names; `None` if it cannot be read.
pub fn window(pem: &str) -> Option<(Window, Vec<String>)> {
    parsed(pem, |certificate| {
        let validity = certificate.validity();
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        let window = Window { from: validity.not_before.timestamp(), until: validity.not_after.timestamp() };
        (window, names.collect())
    })
}

fn parsed<T>(pem: &str, look: impl FnOnce(&X509Certificate<'_>) -> T) -> Option<T> {
    let (_, block) = parse_x509_pem(pem.as_bytes()).ok()?;
    block.parse_x509().ok().map(|certificate| look(&certificate))
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn set_window(params: &mut CertificateParams, now: i64, life: i64) {
    let at = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.max(0).unsigned_abs());
    params.not_before = at(now - BACKDATED).into();
    params.not_after = at(now + life).into();
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn a_leaf_counts_for_its_names_and_ends_before_its_authority() {
        let authority = authority(NOW).unwrap();
        let names = vec!["headstart-webhook.headstart-system.svc".to_owned()];
        let late = NOW + AUTHORITY_LIFE / 3 * 2;
        let leaf = leaf(&authority, &names, late).unwrap();
        let (of_authority, _) = window(&authority.certificate).unwrap();
        let (of_leaf, found) = window(&leaf.certificate).unwrap();
        assert_eq!(found, names);
        assert_eq!(of_leaf, Window { from: late - BACKDATED, until: late + LEAF_LIFE });
        assert!(of_leaf.until < of_authority.until);
        assert!(!of_leaf.is_due(late) && of_leaf.is_due(late + LEAF_LIFE / 3 * 2));
    }

    #[test]
    fn what_is_no_certificate_has_no_window() {
        assert!(window("").is_none());
        assert!(window("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_none());
    }
}
