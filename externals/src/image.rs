//! Container image references: which images a profile stands for, and images pinned by digest.

use serde::{Deserialize, Serialize};

use crate::glob;

/// A runner image that a profile may stand for: a literal reference, or one with `*` wildcards.
///
/// A wildcard never matches an image without a tag or with the tag `latest`, since such a name says nothing about
/// the runner inside. Naming such an image literally is the administrator's assertion.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImagePattern(String);

impl ImagePattern {
    /// Takes any text; [`ImagePattern::problem`] tells whether it can ever be useful.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is wrong with the pattern, in words; `None` for a sound one.
    pub fn problem(&self) -> Option<&'static str> {
        if self.0.is_empty() {
            return Some("is empty; name an image such as ghcr.io/actions/actions-runner:2.304.0");
        }
        if self.0.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Some("holds white space; an image reference has none");
        }
        if glob::is_wild(&self.0) && self.0.chars().all(|c| c == '*') {
            return Some("would match every image; name at least the repository");
        }
        None
    }

    /// Whether this profile may stand for `image`, the field of a container as posted.
    pub fn matches(&self, image: &str) -> bool {
        if !glob::is_wild(&self.0) {
            return self.0 == image;
        }
        let telling_tag = tag(image).is_some_and(|tag| tag != "latest");
        telling_tag && glob::matches(&self.0, image)
    }
}

/// The tag of an image reference, without its digest; `None` where it has none.
pub fn tag(image: &str) -> Option<&str> {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let last = name.rsplit('/').next().unwrap_or(name);
    last.split_once(':').map(|(_, tag)| tag)
}

/// Whether `image` is pinned by a sha256 digest: `<name>@sha256:<64 lower-case hex digits>`.
pub fn is_pinned(image: &str) -> bool {
    image.split_once("@sha256:").is_some_and(|(name, digest)| {
        !name.is_empty() && is_sha256(digest) && !name.contains(char::is_whitespace)
    })
}

/// What is wrong with `text` as the reference of one image, in words; `None` for a sound one.
pub fn reference_problem(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        Some("is empty; name an image such as ghcr.io/actions/actions-runner:2.304.0")
    } else if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        Some("holds white space; an image reference has none")
    } else if glob::is_wild(text) {
        Some("holds a wildcard; name the one image that the stage runs in")
    } else if text.contains('@') && !is_pinned(text) {
        Some("has a digest that is not @sha256:<64 lower-case hex digits>")
    } else {
        None
    }
}

/// Whether `text` is a sha256 digest in lower-case hex.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, image: &str) -> bool {
        ImagePattern::new(pattern).matches(image)
    }

    #[test]
    fn wildcards_never_match_latest_or_untagged_images() {
        let pattern = "ghcr.io/actions/actions-runner*";
        assert!(matches(pattern, "ghcr.io/actions/actions-runner:2.304.0"));
        assert!(!matches(pattern, "ghcr.io/actions/actions-runner:latest"));
        assert!(!matches(pattern, "ghcr.io/actions/actions-runner"));
        assert!(!matches(pattern, &format!("ghcr.io/actions/actions-runner@sha256:{}", "a".repeat(64))));
        assert!(!matches(
            pattern,
            &format!("ghcr.io/actions/actions-runner:latest@sha256:{}", "a".repeat(64))
        ));
    }

    #[test]
    fn a_literal_latest_is_the_administrators_assertion() {
        assert!(matches("ghcr.io/actions/actions-runner:latest", "ghcr.io/actions/actions-runner:latest"));
        assert!(matches("runner", "runner"));
    }

    #[test]
    fn a_registry_port_is_not_a_tag() {
        assert_eq!(tag("registry.example.com:5000/runner"), None);
        assert_eq!(tag("registry.example.com:5000/runner:2.304.0"), Some("2.304.0"));
        assert!(!matches("registry.example.com:5000/*", "registry.example.com:5000/runner"));
    }

    #[test]
    fn pinned_means_a_full_lower_case_sha256() {
        assert!(is_pinned(&format!("a/b@sha256:{}", "0".repeat(64))));
        assert!(!is_pinned(&format!("a/b@sha256:{}", "0".repeat(63))));
        assert!(!is_pinned(&format!("a/b@sha256:{}", "A".repeat(64))));
        assert!(!is_pinned("a/b:tag"));
    }
}
