//! What to do with a wanted version: pure, so that every case is a line of a table. Versions that nobody wants are left
//! alone: without the word of the controller nothing is ever deleted.

use headstart_externals::manifest::Manifest;

use crate::store::Found;

/// What to do with one version.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// It is not there.
    Install,
    /// It claims to be there: look whether that is true.
    Verify(Box<Manifest>),
    /// Something else lies under its name: build it and exchange the two.
    Replace(String),
}

/// Decides over one wanted version from what was found under its name.
pub fn decide(found: Option<Found>) -> Action {
    match found {
        None => Action::Install,
        Some(Found::Complete(manifest)) => Action::Verify(manifest),
        Some(Found::Foreign(cause)) => Action::Replace(cause),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use headstart_externals::arch::Arch;

    use super::*;

    #[test]
    fn what_is_found_decides() {
        let manifest = || Manifest::new("node16-0123456789ab".parse().unwrap(), Arch::Amd64, BTreeMap::new());
        let complete = Found::Complete(Box::new(manifest()));
        assert_eq!(decide(None), Action::Install);
        assert_eq!(decide(Some(complete)), Action::Verify(Box::new(manifest())));
        let foreign = Found::Foreign("no manifest".to_owned());
        assert_eq!(decide(Some(foreign)), Action::Replace("no manifest".to_owned()));
    }
}
