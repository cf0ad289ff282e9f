//! The write-ahead journal: which runners may exist because of us. It is on disk before the first of them is registered, and
//! goes when each of them is settled; whatever happens in between, the next leader finds the names.
//!
//! A journal is never changed once it was written: what became of a name shows in the cluster itself.

use headstart_externals::pin::Generation;
use serde::{Deserialize, Serialize};

/// Most names in one journal; more names take more journals.
pub const MOST_NAMES: usize = 500;

/// Key of the journal's text in its ConfigMap.
pub const KEY: &str = "journal.json";

const FORMAT: u32 = 1;

/// The runners of one plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Journal {
    format: u32,
    /// Name of its ConfigMap.
    #[serde(skip)]
    pub name: String,
    /// UID of the runner set.
    pub set: String,
    /// Namespace of the runner set.
    pub namespace: String,
    /// Name of the runner set.
    pub set_name: String,
    /// Name of the AutoscalingRunnerSet: by it the service can still be found when the runner set is gone.
    pub owner: String,
    /// The generation that it was planned for.
    pub replicas: u32,
    /// Its number.
    pub patch_id: u32,
    /// How many runners were missing.
    pub need: usize,
    /// When the set was first pinned since it was last raw, in milliseconds of the Unix epoch.
    pub pinned_at: i64,
    /// The runners' names.
    pub runners: Vec<String>,
}

/// What a journal says beside the names of runners.
#[derive(Clone, Debug)]
pub struct Heading {
    /// UID of the runner set.
    pub set: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub set_name: String,
    /// Name of the AutoscalingRunnerSet.
    pub owner: String,
    /// The generation.
    pub generation: Generation,
    /// See [`Journal::pinned_at`].
    pub pinned_at: i64,
}

impl Journal {
    /// As many journals as these runners take. `draw` gives the names of their ConfigMaps.
    pub fn of(heading: &Heading, runners: &[String], mut draw: impl FnMut() -> String) -> Vec<Self> {
        let journal = |runners: &[String]| {
            let Heading { set, namespace, set_name, owner, generation, pinned_at } = heading.clone();
            Self {
                format: FORMAT,
                name: draw(),
                set,
                namespace,
                set_name,
                owner,
                replicas: generation.replicas,
                patch_id: generation.patch_id,
                need: runners.len(),
                pinned_at,
                runners: runners.to_vec(),
            }
        };
        runners.chunks(MOST_NAMES).map(journal).collect()
    }

    /// Reads the journal in the ConfigMap `name`; the error says what is wrong in words.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let journal: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if journal.format != FORMAT {
            return Err(format!("is of format {}, and this release knows {FORMAT}", journal.format));
        }
        Ok(Self { name: name.to_owned(), ..journal })
    }

    /// The text to be written.
    pub fn text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// The generation that it was planned for.
    pub fn generation(&self) -> Generation {
        Generation { replicas: self.replicas, patch_id: self.patch_id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journals(count: usize) -> Vec<Journal> {
        let heading = Heading {
            set: "u".to_owned(),
            namespace: "n".to_owned(),
            set_name: "s".to_owned(),
            owner: "a".to_owned(),
            generation: Generation { replicas: 1200, patch_id: 7 },
            pinned_at: 1_700_000_000_000,
        };
        let runners: Vec<String> = (0..count).map(|number| format!("s-runner-{number}")).collect();
        let mut drawn = 0;
        Journal::of(&heading, &runners, || {
            drawn += 1;
            format!("journal-{drawn}")
        })
    }

    #[test]
    fn many_runners_take_several_journals_that_fit_config_maps() {
        let sizes = |count| journals(count).iter().map(|journal| journal.need).collect::<Vec<_>>();
        assert_eq!(sizes(0), Vec::<usize>::new());
        assert_eq!(sizes(500), [500]);
        assert_eq!(sizes(1200), [500, 500, 200]);
        let names: Vec<String> = journals(501).into_iter().map(|journal| journal.name).collect();
        assert_eq!(names, ["journal-1", "journal-2"]);
    }

    #[test]
    fn a_journal_is_read_as_it_was_written_and_others_are_refused() {
        let journal = journals(3).remove(0);
        let text = journal.text().unwrap();
        assert_eq!(Journal::parse("journal-1", &text).unwrap(), journal);
        assert!(
            Journal::parse("x", &text.replace("\"format\":1", "\"format\":2"))
                .unwrap_err()
                .contains("format 2")
        );
        assert!(Journal::parse("x", "{}").is_err());
    }
}
