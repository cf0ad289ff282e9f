//! What decides the content of a version: enough to build it on a node, also where the configuration forgot it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::config::{Config, Profile, Revision, Source};
use crate::selection::Selection;
use crate::state::{Phase, PublishedState, PublishedVersion};
use crate::version::VersionName;

/// How to build one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recipe {
    /// What is kept of the source.
    pub selection: Selection,
    /// The administrator's name for the revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Where the content comes from.
    pub source: Source,
}

/// A recipe as it is published. One that this program does not understand is kept as it is, word for word: it makes no
/// version here, and is not lost where an older program writes the state again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedRecipe {
    text: Value,
    known: Option<Recipe>,
}

impl PublishedRecipe {
    /// What it says; `None` where only a newer program knows.
    pub fn known(&self) -> Option<&Recipe> {
        self.known.as_ref()
    }
}

impl From<Recipe> for PublishedRecipe {
    fn from(recipe: Recipe) -> Self {
        // It is made of strings, lists and maps by string, which all can be said in JSON.
        Self { text: serde_json::to_value(&recipe).unwrap_or_default(), known: Some(recipe) }
    }
}

impl Serialize for PublishedRecipe {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PublishedRecipe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Value::deserialize(deserializer)?;
        let known = Recipe::deserialize(&text).ok();
        Ok(Self { text, known })
    }
}

/// A version that belongs on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub version: VersionName,
    /// How to build it.
    pub recipe: Recipe,
}

impl Recipe {
    /// The recipe of a configured revision.
    pub fn of(profile: &Profile, revision: &Revision) -> Self {
        Self {
            selection: profile.selection.clone(),
            revision: revision.revision.clone(),
            source: revision.source.clone(),
        }
    }

    /// The version that this recipe makes in `profile`.
    pub fn version(&self, profile: &str) -> VersionName {
        VersionName::of(profile, &self.selection, self.revision.as_deref(), &self.source.identity())
    }
}

impl Wanted {
    fn configured(profile: &Profile, revision: &Revision) -> Self {
        Self { version: revision.version.clone(), recipe: Recipe::of(profile, revision) }
    }

    /// A published version that the configuration forgot; a recipe that makes something else is not believed.
    fn forgotten(published: &PublishedVersion) -> Option<Self> {
        let recipe = published.recipe.as_ref()?.known()?.clone();
        let is_sound = recipe.version(published.name.profile()) == published.name;
        is_sound.then(|| Self { version: published.name.clone(), recipe })
    }
}

/// The versions that belong on every node, in the order in which they are to be installed: the ones that profiles
/// mean to offer first.
///
/// Older revisions belong there too until the published state says that no pod names them any more, and so do
/// versions that pods may still name although the configuration forgot them. Without a published state everything
/// that is configured does.
pub fn wanted(config: &Config, state: Option<&PublishedState>) -> Vec<Wanted> {
    let published = state.map_or(&[][..], |state| &state.versions);
    let is_retired =
        |name: &VersionName| published.iter().any(|old| old.name == *name && old.phase == Phase::Retired);
    let (mut targets, mut older) = (Vec::new(), Vec::new());
    for profile in &config.profiles {
        for (at, revision) in profile.revisions.iter().enumerate() {
            if at == profile.target() {
                targets.push(Wanted::configured(profile, revision));
            } else if !is_retired(&revision.version) {
                older.push(Wanted::configured(profile, revision));
            }
        }
    }
    let is_configured = |name: &VersionName| config.revisions().any(|(_, known)| known.version == *name);
    let in_use = |old: &&PublishedVersion| matches!(old.phase, Phase::Offered | Phase::Retiring);
    let forgotten = published.iter().filter(in_use).filter(|old| !is_configured(&old.name));
    targets.into_iter().chain(older).chain(forgotten.filter_map(Wanted::forgotten)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(revisions: &[&str], offer: Option<&str>) -> Config {
        let revisions: String = revisions
            .iter()
            .map(|name| format!("      - {{revision: {name}, source: {{directory: {{path: /x}}}}}}\n"))
            .collect();
        let offer = offer.map_or(String::new(), |name| format!("    offer: {name}\n"));
        let text = format!(
            "apiVersion: headstart.dev/v1\nprofiles:\n  - name: node16\n    preset: node16\n{offer}    revisions:\n{revisions}"
        );
        Config::parse(&text).unwrap()
    }

    fn names(wanted: &[Wanted]) -> Vec<&str> {
        wanted.iter().filter_map(|wanted| wanted.recipe.revision.as_deref()).collect()
    }

    /// What follows from `config` at once, with the phase of the oldest version changed.
    fn state(config: &Config, oldest: Phase) -> PublishedState {
        let mut state = PublishedState::immediate(config);
        state.versions[0].phase = oldest;
        state
    }

    #[test]
    fn older_revisions_are_wanted_until_they_are_retired() {
        let both = config(&["a", "b"], None);
        assert_eq!(names(&wanted(&both, None)), ["b", "a"], "what is to be offered comes first");
        assert_eq!(names(&wanted(&both, Some(&state(&both, Phase::Retiring)))), ["b", "a"]);
        assert_eq!(names(&wanted(&both, Some(&state(&both, Phase::Retired)))), ["b"]);
    }

    #[test]
    fn a_revision_that_is_to_be_offered_again_is_wanted_even_if_it_was_retired() {
        let back = config(&["a", "b"], Some("a"));
        assert_eq!(names(&wanted(&back, Some(&state(&back, Phase::Retired)))), ["a", "b"]);
    }

    #[test]
    fn a_revision_that_was_taken_out_too_early_stays_wanted() {
        let both = config(&["a", "b"], None);
        let later = config(&["b"], None);
        assert_eq!(names(&wanted(&later, Some(&state(&both, Phase::Retiring)))), ["b", "a"]);
        assert_eq!(names(&wanted(&later, Some(&state(&both, Phase::Retired)))), ["b"]);
        let mut forged = state(&both, Phase::Retiring);
        let mut recipe = forged.versions[0].recipe.as_ref().unwrap().known().unwrap().clone();
        recipe.revision = Some("other".to_owned());
        forged.versions[0].recipe = Some(recipe.into());
        assert_eq!(names(&wanted(&later, Some(&forged))), ["b"], "it would make another version");
    }
}
