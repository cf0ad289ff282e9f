//! Which revision a stage run is for: pure, and never a guess, since what is staged under a name is what pods get.

use headstart_externals::config::{Config, Profile, Revision, Source};

/// What the flags ask for.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The profile.
    pub(super) profile: &'a str,
    /// The revision, if it is named.
    pub(super) revision: Option<&'a str>,
    /// The image that the stage runs in.
    pub(super) image: &'a str,
}

/// A revision whose source is a runner image; not always the image that was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Choice<'c> {
    /// Its profile.
    pub(super) profile: &'c Profile,
    /// The revision.
    pub(super) revision: &'c Revision,
    /// The image that the configuration names.
    pub(super) image: &'c str,
    /// The externals folder inside that image.
    pub(super) path: &'c str,
}

/// The one revision that is meant; the error says in words why there is none.
pub(super) fn choose<'c>(config: &'c Config, wanted: Wanted<'_>) -> Result<Choice<'c>, String> {
    let Some(profile) = config.profiles.iter().find(|profile| profile.name == wanted.profile) else {
        let known = list(config.profiles.iter().map(|profile| profile.name.as_str()));
        return Err(format!("there is no profile {:?} (--profile); there is {known}", wanted.profile));
    };
    match wanted.revision {
        Some(name) => named(profile, name),
        None => by_image(profile, wanted.image),
    }
}

fn named<'c>(profile: &'c Profile, name: &str) -> Result<Choice<'c>, String> {
    let Some(revision) = profile.revisions.iter().find(|revision| revision.revision.as_deref() == Some(name))
    else {
        let known = list(profile.revisions.iter().filter_map(|revision| revision.revision.as_deref()));
        return Err(format!("{} has no revision {name:?} (--revision); there is {known}", profile.name));
    };
    choice(profile, revision).ok_or_else(|| {
        format!(
            "the source of revision {name:?} of {} is no runnerImage; nothing is to be staged",
            profile.name
        )
    })
}

/// A single revision is meant also where its image is another one, so that the agent can tell about it.
fn by_image<'c>(profile: &'c Profile, image: &str) -> Result<Choice<'c>, String> {
    let all: Vec<Choice<'c>> =
        profile.revisions.iter().filter_map(|revision| choice(profile, revision)).collect();
    let equal: Vec<&Choice<'c>> = all.iter().filter(|choice| choice.image == image).collect();
    match (equal.as_slice(), all.as_slice()) {
        ([one], _) => Ok(**one),
        ([], [one]) => Ok(*one),
        ([], []) => Err(format!("no revision of {} has a runnerImage as its source", profile.name)),
        ([], _) => {
            let known = list(all.iter().map(|choice| choice.image));
            Err(format!("no revision of {} is from {image} (--image); there is {known}", profile.name))
        }
        _ => Err(format!("several revisions of {} are from {image}; name one with --revision", profile.name)),
    }
}

fn choice<'c>(profile: &'c Profile, revision: &'c Revision) -> Option<Choice<'c>> {
    match &revision.source {
        Source::RunnerImage { image, path } => Some(Choice { profile, revision, image, path }),
        Source::Directory { .. } | Source::Archive { .. } => None,
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let text = "apiVersion: headstart.dev/v1
profiles:
  - name: one
    preset: node16
    revisions:
      - {revision: a, source: {runnerImage: {image: 'runner:1'}}}
      - {revision: folder, source: {directory: {path: /srv/externals}}}
  - name: two
    preset: node16
    revisions:
      - {revision: a, source: {runnerImage: {image: 'runner:1'}}}
      - {revision: b, source: {runnerImage: {image: 'runner:2'}}}
      - {revision: c, source: {runnerImage: {image: 'runner:2', path: /externals}}}
";
        Config::parse(text).unwrap()
    }

    /// Name of the revision and image of the configuration, or the problem.
    fn chosen(profile: &str, revision: Option<&str>, image: &str) -> Result<(String, String), String> {
        let config = config();
        let choice = choose(&config, Wanted { profile, revision, image })?;
        Ok((choice.revision.revision.clone().unwrap(), choice.image.to_owned()))
    }

    #[test]
    fn the_image_or_the_name_says_which_revision_is_meant() {
        let found = |revision: &str, image: &str| Ok((revision.to_owned(), image.to_owned()));
        assert_eq!(chosen("two", None, "runner:1"), found("a", "runner:1"));
        assert_eq!(chosen("two", Some("c"), "runner:2"), found("c", "runner:2"));
        assert_eq!(chosen("one", None, "runner:9"), found("a", "runner:1"), "one revision is meant anyway");
        assert_eq!(chosen("two", Some("b"), "runner:9"), found("b", "runner:2"));
    }

    #[test]
    fn nothing_is_guessed() {
        for (profile, revision, image, words) in [
            ("three", None, "runner:1", "there is one, two"),
            ("two", Some("z"), "runner:1", "there is a, b, c"),
            ("one", Some("folder"), "runner:1", "no runnerImage"),
            ("two", None, "runner:2", "several revisions"),
            ("two", None, "runner:9", "there is runner:1, runner:2, runner:2"),
        ] {
            let problem = chosen(profile, revision, image).unwrap_err();
            assert!(problem.contains(words), "{problem}");
        }
    }
}
