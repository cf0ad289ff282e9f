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

const MANAGER: &str = "HEADSTART_ARC_MANAGER";
const LISTENER: &str = "HEADSTART_ARC_LISTENER";
const DEFINITIONS: &str = "HEADSTART_ARC_CRDS";

/// Where its parts lie.
#[derive(Clone, Debug)]
pub struct Real {
    manager: PathBuf,
    listener: PathBuf,
    definitions: PathBuf,
}

impl Real {
    /// The programs that the environment names. `None` where it names none or this machine cannot run them, which is
    /// said; one that is named but not there fails.
    pub fn from_environment() -> Option<Self> {
        let named = |variable: &str, what: &str| {
            let Some(path) = std::env::var_os(variable).filter(|path| !path.is_empty()) else {
                say(&format!("skipped: {variable} is not set, so there is no real ARC ({what}) to run"));
                return None;
            };
            let path = std::path::absolute(path).unwrap();
            assert!(path.exists(), "{variable}: {} is not there ({what})", path.display());
            Some(path)
        };
        let real = Self {
            manager: named(MANAGER, "the program of its manager")?,
            listener: named(LISTENER, "the program of its listener")?,
            definitions: named(DEFINITIONS, "the folder with its CustomResourceDefinitions")?,
        };
        (!is_passed_over("to give ARC's listener a view of files of its own")).then_some(real)
    }

    /// The folder with its CustomResourceDefinitions.
    pub fn definitions(&self) -> &Path {
        &self.definitions
    }
}
