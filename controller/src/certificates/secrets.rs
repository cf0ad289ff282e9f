//! How the certificates lie in their two Secrets. What cannot be read, or does not belong together, counts as absent.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::issue::{Certified, window};
use super::vault::{Leaf, Vault};

type Data = BTreeMap<String, ByteString>;

/// The CAs, from the Secret that only the controller reads, and the leaf, from the one that the webhook mounts.
pub(super) fn read(authorities: Option<&Secret>, leaf: Option<&Secret>) -> Vault {
    let authority = |name: &str| {
        let certificate = text(authorities?, &format!("{name}.crt"))?;
        let certified = Certified { certificate, key: text(authorities?, &format!("{name}.key"))? };
        certified.is_pair().then_some(certified)
    };
    let previous = authorities.and_then(|secret| text(secret, "previous.crt"));
    let leaf = leaf.and_then(|secret| {
        let certified = Certified { certificate: text(secret, "tls.crt")?, key: text(secret, "tls.key")? };
        Some(Leaf { certified, signed_by: text(secret, "ca.crt")? })
    });
    Vault {
        signing: authority("signing"),
        next: authority("next"),
        previous: previous.filter(|pem| window(pem).is_some()),
        leaf,
        published: String::new(),
    }
}

/// The data of the CAs' Secret.
pub(super) fn authority_data(vault: &Vault) -> Data {
    let mut data = Data::new();
    for (name, certified) in [("signing", &vault.signing), ("next", &vault.next)] {
        if let Some(Certified { certificate, key }) = certified {
            data.insert(format!("{name}.crt"), bytes(certificate));
            data.insert(format!("{name}.key"), bytes(key));
        }
    }
    if let Some(previous) = &vault.previous {
        data.insert("previous.crt".to_owned(), bytes(previous));
    }
    data
}

/// The data of the leaf's Secret, as every Secret of type `kubernetes.io/tls` has it.
pub(super) fn leaf_data(leaf: &Leaf) -> Data {
    let Leaf { certified: Certified { certificate, key }, signed_by } = leaf;
    let parts = [("tls.crt", certificate), ("tls.key", key), ("ca.crt", signed_by)];
    parts.into_iter().map(|(name, text)| (name.to_owned(), bytes(text))).collect()
}

fn bytes(text: &str) -> ByteString {
    ByteString(text.as_bytes().to_vec())
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::super::issue::authority;
    use super::super::plan::Step;
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn secret(data: Data) -> Secret {
        Secret { data: Some(data), ..Secret::default() }
    }

    #[test]
    fn everything_survives_the_secrets() {
        let names = ["a.b.svc".to_owned()];
        let steps = [Step::CreateSigning, Step::IssueLeaf, Step::CreateNext, Step::Promote, Step::CreateNext];
        let mut vault = Vault::default();
        for step in steps {
            vault = vault.after(step, &names, NOW).unwrap();
        }
        let leaf = leaf_data(vault.leaf.as_ref().unwrap());
        assert!(read(Some(&secret(authority_data(&vault))), Some(&secret(leaf))) == vault);
    }

    #[test]
    fn nonsense_and_pairs_that_do_not_belong_together_count_as_absent() {
        let vault = Vault { signing: Some(authority(NOW).unwrap()), ..Vault::default() };
        let foreign = authority(NOW).unwrap().key;
        for (key, content) in
            [("signing.crt", "nonsense"), ("signing.key", "nonsense"), ("signing.key", &foreign)]
        {
            let mut data = authority_data(&vault);
            data.insert(key.to_owned(), bytes(content));
            assert!(read(Some(&secret(data)), None).signing.is_none(), "{key}");
        }
        assert!(read(None, None) == Vault::default());
    }
}
