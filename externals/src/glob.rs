//! The one wildcard of the configuration: `*` stands for any run of characters, everything else for itself.

/// Whether `pattern` holds a wildcard at all.
pub fn is_wild(pattern: &str) -> bool {
    pattern.contains('*')
}

/// Whether `text` matches `pattern` as a whole.
///
/// Linear in `text` for each `*`, so a hostile pattern costs at most `pattern × text` steps.
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|head| text.strip_prefix(head)) else { return false };
    let Some(tail) = parts.next_back() else { return rest.is_empty() };
    for middle in parts {
        match rest.find(middle) {
            Some(at) => rest = &rest[at + middle.len()..],
            None => return false,
        }
    }
    rest.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_patterns_match_only_themselves() {
        assert!(matches("node16", "node16"));
        assert!(!matches("node16", "node16_alpine"));
        assert!(!matches("node16", "anode16"));
    }

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        assert!(matches("node12*", "node12"));
        assert!(matches("node12*", "node12_alpine"));
        assert!(matches("*_alpine", "node12_alpine"));
        assert!(matches("a*b*c", "aXbYbZc"));
        assert!(!matches("a*b*c", "aXcYb"));
        assert!(matches("*", ""));
    }

    #[test]
    fn prefix_and_suffix_never_share_characters() {
        assert!(!matches("ab*ba", "aba"));
        assert!(matches("ab*ba", "abba"));
    }
}
