//! The syntax of Kubernetes labels and namespaces: what goes into a pod's affinity must be something that the API server
//! accepts, and a namespace that cannot exist is a typing error.

/// Longest name and longest value.
const MAX: usize = 63;

/// Longest prefix, a DNS subdomain.
const MAX_PREFIX: usize = 253;

/// Whether `key` may be a label key: an optional DNS prefix and a name.
pub(super) fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_prefix(prefix) && is_name(name),
        None => is_name(key),
    }
}

/// Whether `value` may be a label value, which may also be empty.
pub(super) fn is_value(value: &str) -> bool {
    value.is_empty() || is_name(value)
}

/// Whether `name` may be the name of a namespace.
pub(super) fn is_dns_label(name: &str) -> bool {
    name.len() <= MAX && !name.contains('.') && is_prefix(name)
}

fn is_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    name.len() <= MAX && bytes.iter().all(|b| inner(*b)) && edge(bytes.first()) && edge(bytes.last())
}

fn is_prefix(prefix: &str) -> bool {
    let lower = prefix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b));
    prefix.len() <= MAX_PREFIX && lower && prefix.split('.').all(|part| is_name(part) && !part.contains('_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_judged_as_the_api_server_does() {
        assert!(
            is_key("pool")
                && is_key("node.kubernetes.io/instance-type")
                && is_value("")
                && is_value("m5.large")
        );
        for wrong in ["", "a b/c d", "/x", "a/b/c", "-x", "Prefix.io/x", &"x".repeat(64)] {
            assert!(!is_key(wrong), "{wrong}");
        }
        assert!(!is_value("x y z") && !is_value("x-"));
    }

    #[test]
    fn namespaces_are_judged_as_the_api_server_does() {
        assert!(["a", "7", "arc-runners", &"x".repeat(63)].into_iter().all(is_dns_label));
        for wrong in ["", "-a", "a-", "a.b", "A", "a_b", "a b", "*", "ä", &"x".repeat(64)] {
            assert!(!is_dns_label(wrong), "{wrong}");
        }
    }
}
