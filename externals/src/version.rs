//! Names of versions: `<profile>-<key>`, computed from configuration alone.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};
use sha2::{Digest, Sha256};

use crate::selection::Selection;

/// Number of the on-disk layout that this program writes; part of every key.
pub const LAYOUT: u32 = 1;

/// Hex digits of a key: 48 bits, so two of a million versions collide with a chance of about 1 in 500.
const KEY_DIGITS: usize = 12;

/// Lengths that are read: a newer program may write longer keys.
const KEY_LENGTHS: std::ops::RangeInclusive<usize> = 8..=20;

/// Longest profile name: with its key it must fit a Kubernetes label value of 63 characters.
pub const PROFILE_NAME_MAX: usize = 40;

/// The name of one immutable tree; also a folder name and a Kubernetes label value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct VersionName(String);

/// Everything that decides the content of a tree, in the order in which it is hashed.
#[derive(Serialize)]
struct KeyInput<'a> {
    layout: u32,
    selection: &'a Selection,
    revision: Option<&'a str>,
    source: &'a serde_json::Value,
}

impl VersionName {
    /// The name of the version that `revision` of `profile` stands for; `source` is what of its source decides the
    /// content.
    pub fn of(
        profile: &str,
        selection: &Selection,
        revision: Option<&str>,
        source: &serde_json::Value,
    ) -> Self {
        let input = KeyInput { layout: LAYOUT, selection, revision, source };
        // Maps and sets in the input are sorted ones, so the text is the same on every machine.
        let text = serde_json::to_string(&input).unwrap_or_default();
        let digest = hex(&Sha256::digest(text.as_bytes()));
        Self(format!("{profile}-{}", &digest[..KEY_DIGITS]))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The profile that the version belongs to.
    pub fn profile(&self) -> &str {
        self.0.rsplit_once('-').map_or("", |(profile, _)| profile)
    }
}

/// Whether `name` may name a profile: lower-case letters, digits and inner dashes, at most [`PROFILE_NAME_MAX`].
pub fn is_profile_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !name.is_empty()
        && name.len() <= PROFILE_NAME_MAX
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Lower-case hex of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A text that does not name a version.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a version name; it looks like node16-0123456789ab")]
pub struct NotAVersionName(String);

impl FromStr for VersionName {
    type Err = NotAVersionName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = text.rsplit_once('-').is_some_and(|(profile, key)| {
            is_profile_name(profile)
                && KEY_LENGTHS.contains(&key.len())
                && key.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        });
        if valid { Ok(Self(text.to_owned())) } else { Err(NotAVersionName(text.to_owned())) }
    }
}

impl fmt::Display for VersionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for VersionName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_only_in_their_own_form() {
        let name: VersionName = "my-profile-0123456789ab".parse().unwrap();
        assert_eq!(name.profile(), "my-profile");
        for wrong in
            ["", "node16", "node16-0123", "node16-0123456789AB", "-0123456789ab", "a/../b-0123456789ab"]
        {
            assert!(wrong.parse::<VersionName>().is_err(), "{wrong}");
        }
    }
}
