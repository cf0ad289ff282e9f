//! How the certificates lie in their two Secrets.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::issue::{Certified, Window, window};
use super::plan::HeldLeaf;

/// The CAs, as in the Secret that only the controller reads.
#[derive(Clone, Default)]
pub(super) struct Authorities {
    pub(super) signing: Option<Certified>,
    pub(super) next: Option<Certified>,
    /// A certificate alone: it never signs again.
    pub(super) previous: Option<String>,
}

impl Authorities {
    /// What cannot be read counts as absent.
    pub(super) fn read(secret: &Secret) -> Self {
        let certified = |name: &str| {
            let certificate = text(secret, &format!("{name}.crt"))?;
            window(&certificate)?;
            Some(Certified { certificate, key: text(secret, &format!("{name}.key"))? })
        };
        let previous = text(secret, "previous.crt").filter(|pem| window(pem).is_some());
        Self { signing: certified("signing"), next: certified("next"), previous }
    }

    pub(super) fn data(&self) -> BTreeMap<String, ByteString> {
        let mut data = BTreeMap::new();
        for (name, certified) in [("signing", &self.signing), ("next", &self.next)] {
            if let Some(Certified { certificate, key }) = certified {
                data.insert(format!("{name}.crt"), ByteString(certificate.clone().into_bytes()));
                data.insert(format!("{name}.key"), ByteString(key.clone().into_bytes()));
            }
        }
        if let Some(previous) = &self.previous {
            data.insert("previous.crt".to_owned(), ByteString(previous.clone().into_bytes()));
        }
        data
    }

    /// What the API server is to trust, in an order that never changes by itself.
    pub(super) fn bundle(&self) -> String {
        let certificate =
            |certified: &Option<Certified>| certified.as_ref().map(|known| known.certificate.clone());
        let all = [self.previous.clone(), certificate(&self.signing), certificate(&self.next)];
        all.into_iter().flatten().collect()
    }
}

/// The webhook's certificate, as in the Secret that it mounts.
pub(super) fn held_leaf(secret: &Secret, signing: Option<&Certified>, names: &[String]) -> Option<HeldLeaf> {
    let (window, found) = window(&text(secret, "tls.crt")?)?;
    text(secret, "tls.key")?;
    let signed_by = text(secret, "ca.crt");
    let is_current =
        signed_by.is_some() && signed_by.as_deref() == signing.map(|known| known.certificate.as_str());
    Some(HeldLeaf { window, is_current: is_current && found == names })
}

pub(super) fn leaf_data(leaf: &Certified, signing: &Certified) -> BTreeMap<String, ByteString> {
    let part = |name: &str, text: &str| (name.to_owned(), ByteString(text.as_bytes().to_vec()));
    BTreeMap::from([
        part("tls.crt", &leaf.certificate),
        part("tls.key", &leaf.key),
        part("ca.crt", &signing.certificate),
    ])
}

pub(super) fn window_of(certificate: Option<&str>) -> Option<Window> {
    window(certificate?).map(|(window, _)| window)
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::super::issue::{authority, leaf};
    use super::*;

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn authorities_survive_the_secret_and_nonsense_counts_as_absent() {
        let first = authority(NOW).unwrap();
        let known = Authorities {
            previous: Some(authority(NOW - 5).unwrap().certificate),
            signing: Some(first.clone()),
            next: None,
        };
        let secret = Secret { data: Some(known.data()), ..Secret::default() };
        let read = Authorities::read(&secret);
        assert!(read.signing == known.signing && read.next.is_none() && read.previous == known.previous);
        assert_eq!(read.bundle().matches("BEGIN CERTIFICATE").count(), 2);
        let mut broken = known.data();
        broken.insert("signing.crt".to_owned(), ByteString(b"nonsense".to_vec()));
        assert!(Authorities::read(&Secret { data: Some(broken), ..Secret::default() }).signing.is_none());
    }

    #[test]
    fn a_leaf_of_another_authority_or_for_other_names_is_not_current() {
        let (ours, other) = (authority(NOW).unwrap(), authority(NOW + 1).unwrap());
        let names = vec!["a.b.svc".to_owned()];
        let leaf = leaf(&ours, &names, NOW).unwrap();
        let secret = Secret { data: Some(leaf_data(&leaf, &ours)), ..Secret::default() };
        let is_current = |signing: &Certified, names: &[String]| {
            held_leaf(&secret, Some(signing), names).unwrap().is_current
        };
        assert!(is_current(&ours, &names));
        assert!(!is_current(&other, &names));
        assert!(!is_current(&ours, &["c.b.svc".to_owned()]));
        assert!(held_leaf(&Secret::default(), Some(&ours), &names).is_none());
    }
}
