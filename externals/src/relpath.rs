//! Relative paths that cannot leave the folder they are relative to.

use std::borrow::Borrow;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, de};

/// A non-empty, relative, `/`-separated UTF-8 path without `.`, `..`, empty components or control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RelPath(String);

/// Why a text is not a [`RelPath`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelPathError {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// Starts with `/`.
    #[error("is absolute; write it relative to the externals folder")]
    Absolute,
    /// Has a `..` component.
    #[error("leaves the tree through `..`")]
    Parent,
    /// Has an empty or `.` component, a backslash, a NUL or another control character, or is not UTF-8.
    #[error("has an empty, `.` or unprintable component")]
    Malformed,
}

impl RelPath {
    /// Checks `text` as it stands; nothing is normalised but one trailing `/`.
    pub fn new(text: &str) -> Result<Self, RelPathError> {
        let text = text.strip_suffix('/').unwrap_or(text);
        if text.is_empty() {
            return Err(RelPathError::Empty);
        }
        if text.starts_with('/') {
            return Err(RelPathError::Absolute);
        }
        for component in text.split('/') {
            match component {
                ".." => return Err(RelPathError::Parent),
                "" | "." => return Err(RelPathError::Malformed),
                c if c.contains('\\') || c.chars().any(char::is_control) => {
                    return Err(RelPathError::Malformed);
                }
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first component: inside a tree, the entry.
    pub fn entry(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// What follows the first component, if anything does.
    pub fn inside_entry(&self) -> Option<&str> {
        self.0.split_once('/').map(|(_, rest)| rest)
    }

    /// Every proper ancestor, outermost first.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> + '_ {
        self.0.match_indices('/').map(|(at, _)| Self(self.0[..at].to_owned()))
    }

    /// What is left of this path below `base`; `None` where it is not below it.
    pub fn below(&self, base: &Self) -> Option<Self> {
        self.0.strip_prefix(&base.0)?.strip_prefix('/').map(|rest| Self(rest.to_owned()))
    }

    /// Where a symbolic link at this path with text `target` leads; `None` where that leaves the tree or cannot be told.
    ///
    /// `..` counts at the beginning of a target only: after a name, which may itself be a link, nobody can say from
    /// the text alone where it leads.
    pub fn resolve_link(&self, target: &str) -> Option<String> {
        if target.is_empty() || target.starts_with('/') || target.chars().any(char::is_control) {
            return None;
        }
        let mut at: Vec<&str> = self.0.split('/').collect();
        at.pop();
        let mut rest = target.split('/').filter(|part| !matches!(*part, "" | ".")).peekable();
        while rest.next_if_eq(&"..").is_some() {
            at.pop()?;
        }
        for name in rest {
            if name == ".." {
                return None;
            }
            at.push(name);
        }
        Some(at.join("/"))
    }
}

impl AsRef<Path> for RelPath {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl Borrow<str> for RelPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(|error| de::Error::custom(format!("path {text:?} {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_tree_are_refused_by_name() {
        assert_eq!(RelPath::new("../x"), Err(RelPathError::Parent));
        assert_eq!(RelPath::new("a/../../x"), Err(RelPathError::Parent));
        assert_eq!(RelPath::new("/etc/passwd"), Err(RelPathError::Absolute));
        assert_eq!(RelPath::new(""), Err(RelPathError::Empty));
        assert_eq!(RelPath::new("a//b"), Err(RelPathError::Malformed));
        assert_eq!(RelPath::new("a/./b"), Err(RelPathError::Malformed));
        assert_eq!(RelPath::new("a\nb"), Err(RelPathError::Malformed));
        assert_eq!(RelPath::new("node16/bin/").map(|p| p.as_str().to_owned()), Ok("node16/bin".to_owned()));
    }

    #[test]
    fn links_resolve_inside_the_tree_or_not_at_all() {
        let npm = RelPath::new("node16/bin/npm").unwrap();
        assert_eq!(npm.resolve_link("../lib/npm-cli.js").as_deref(), Some("node16/lib/npm-cli.js"));
        assert_eq!(npm.resolve_link("../../node20").as_deref(), Some("node20"));
        assert_eq!(npm.resolve_link("../../../etc"), None);
        assert_eq!(npm.resolve_link("/etc/passwd"), None);
        assert_eq!(npm.resolve_link("up/../../../root"), None, "`up` may be a link to anywhere in the tree");
        assert_eq!(npm.resolve_link(""), None);
        assert_eq!(npm.resolve_link("a\nb"), None);
    }

    #[test]
    fn below_compares_whole_components() {
        let base = RelPath::new("externals").unwrap();
        let inside = RelPath::new("externals/node16").unwrap();
        let beside = RelPath::new("externals2/node16").unwrap();
        assert_eq!(inside.below(&base), Some(RelPath::new("node16").unwrap()));
        assert_eq!(beside.below(&base), None);
        assert_eq!(base.below(&base), None);
    }
}
