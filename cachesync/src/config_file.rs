//! The configuration file as the agent follows it: by content, and the last good one is kept.

use std::path::PathBuf;
use std::sync::Arc;

use headstart_externals::config::Config;
use headstart_externals::recipe::wanted;
use headstart_externals::version::VersionName;

/// The file and what was last taken over from it.
pub(crate) struct ConfigFile {
    path: PathBuf,
    current: Option<(String, Arc<Config>)>,
}

/// What a look at the file brought.
pub(crate) enum Change {
    /// It is as it was.
    None,
    /// A sound one was taken over.
    Taken,
    /// It cannot be used, for this reason.
    Problem(String),
}

impl ConfigFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, current: None }
    }

    /// The configuration in force; `None` before the first good one.
    pub(crate) fn current(&self) -> Option<Arc<Config>> {
        self.current.as_ref().map(|(_, config)| config.clone())
    }

    /// Takes the file over if it changed and is sound.
    pub(crate) fn read(&mut self) -> Change {
        let path = self.path.display();
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) => return Change::Problem(format!("failed to read {path}: {error}")),
        };
        if self.current.as_ref().is_some_and(|(seen, _)| *seen == text) {
            return Change::None;
        }
        match Config::parse(&text) {
            Ok(config) => {
                tracing::info!(config = %path, "configuration taken over");
                self.current = Some((text, Arc::new(config)));
                Change::Taken
            }
            Err(problems) => Change::Problem(format!("{path}: {problems}")),
        }
    }

    /// Whether a sound new file says something else of this version; the next round takes it over.
    pub(crate) fn is_outdated(&self, name: &VersionName) -> bool {
        let text = std::fs::read_to_string(&self.path);
        let Some(new) = text.ok().and_then(|text| Config::parse(&text).ok()) else { return false };
        let of = |config: &Config| {
            let known = wanted(config, None).into_iter().find(|wanted| wanted.version == *name)?;
            Some((known.recipe.source, config.limits))
        };
        // What the file never named is wanted for another reason, which a new file does not change.
        self.current.as_ref().is_some_and(|(_, old)| of(old).is_some() && of(old) != of(&new))
    }
}
