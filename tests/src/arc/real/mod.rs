//! The real ARC: its manager and its listener as processes of this machine, where the environment says where they lie.
//! Nothing of it belongs to this repository; without it, tests say that they are skipped, and why.

mod installed;
mod listener;
mod manager;

use std::path::{Path, PathBuf};

pub use installed::{Installed, ScaleSet};
pub use listener::Listener;
pub use manager::Manager;

use crate::bed::command::say;
use crate::required::is_passed_over;

/// How tables call it.
pub const REAL: &str = "real";

/// What names its parts, in the order of [`Real`].
const VARIABLES: [(&str, &str); 3] = [
    ("HEADSTART_ARC_MANAGER", "the program of its manager"),
    ("HEADSTART_ARC_LISTENER", "the program of its listener"),
    ("HEADSTART_ARC_CRDS", "the folder with its CustomResourceDefinitions"),
];

/// Where its parts lie.
#[derive(Clone, Debug)]
pub struct Real {
    manager: PathBuf,
    listener: PathBuf,
    definitions: PathBuf,
}

impl Real {
    /// The programs that the environment names. `None` where it names none or this machine cannot run them, which is
    /// said; it fails if only some are named, or if one is not there.
    pub fn from_environment() -> Option<Self> {
        let named = VARIABLES.map(|(variable, _)| std::env::var_os(variable).filter(|path| !path.is_empty()));
        let paths = match all_or_none(named) {
            Ok(Some(paths)) => paths.map(|path| std::path::absolute(path).unwrap()),
            Ok(None) => {
                let names = VARIABLES.map(|(variable, _)| variable).join(", ");
                say(&format!("skipped: there is no real ARC to run, since none of {names} is set"));
                return None;
            }
            Err(why) => panic!("{why}"),
        };
        for (path, (variable, what)) in paths.iter().zip(VARIABLES) {
            assert!(path.exists(), "{variable}: {} is not there ({what})", path.display());
        }
        let [manager, listener, definitions] = paths;
        let real = Self { manager, listener, definitions };
        (!is_passed_over("to give ARC's listener a view of files of its own")).then_some(real)
    }

    /// The folder with its CustomResourceDefinitions.
    pub fn definitions(&self) -> &Path {
        &self.definitions
    }
}

/// All values, or none of them: whoever sets only some means the real one, and would take a run on the model for it.
fn all_or_none<T>(values: [Option<T>; 3]) -> Result<Option<[T; 3]>, String> {
    let missing: Vec<String> = values
        .iter()
        .zip(VARIABLES)
        .filter(|(value, _)| value.is_none())
        .map(|(_, (variable, what))| format!("{variable} ({what})"))
        .collect();
    match values {
        [Some(manager), Some(listener), Some(definitions)] => Ok(Some([manager, listener, definitions])),
        _ if missing.len() == VARIABLES.len() => Ok(None),
        _ => Err(format!("to run the real ARC, set {} as well; to run without it, none", missing.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_real_one_is_no_reason_to_skip() {
        assert_eq!(all_or_none([Some(1), Some(2), Some(3)]), Ok(Some([1, 2, 3])));
        assert_eq!(all_or_none::<u8>([None; 3]), Ok(None));
        let why = all_or_none([Some(1), None, Some(3)]).unwrap_err();
        assert!(why.contains("set HEADSTART_ARC_LISTENER (the program of its listener) as well"), "{why}");
    }
}
