//! What to do with the versions of a root: pure, so that every case is a line of a table.

use headstart_externals::manifest::Manifest;

use crate::store::Found;

/// What to do with one version.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// It is wanted and not there.
    Install,
    /// It is wanted and claims to be there: look whether that is true.
    Verify(Box<Manifest>),
    /// It is wanted, but something else lies under its name: build it and exchange the two.
    Replace(String),
    /// Nobody wants it; without the word of the controller nothing is ever deleted.
    Leave,
}

/// Decides over one version from what was found under its name.
pub fn decide(wanted: bool, found: Option<Found>) -> Action {
    match (wanted, found) {
        (false, _) => Action::Leave,
        (true, None) => Action::Install,
        (true, Some(Found::Complete(manifest))) => Action::Verify(manifest),
        (true, Some(Found::Foreign(cause))) => Action::Replace(cause),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use headstart_externals::arch::Arch;

    use super::*;

    #[test]
    fn only_wanted_versions_are_touched() {
        let manifest = || Manifest::new("node16-0123456789ab".parse().unwrap(), Arch::Amd64, BTreeMap::new());
        let complete = || Some(Found::Complete(Box::new(manifest())));
        let foreign = || Some(Found::Foreign("no manifest".to_owned()));
        assert_eq!(decide(true, None), Action::Install);
        assert_eq!(decide(true, complete()), Action::Verify(Box::new(manifest())));
        assert_eq!(decide(true, foreign()), Action::Replace("no manifest".to_owned()));
        for found in [None, complete(), foreign()] {
            assert_eq!(decide(false, found), Action::Leave);
        }
    }
}
