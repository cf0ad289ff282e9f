//! What came of trying a volume kind in a namespace.

/// Longest cause that is kept: it is published, and some policies answer with pages.
const LONGEST: usize = 300;

/// The answer of a dry run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All pods were admitted as they are.
    Works,
    /// One was refused for our volume, or came back without it; with the cause.
    Refused(String),
    /// No version can be shown in this way.
    Impossible,
    /// Pods are refused here with and without our volume, or nobody answered: nothing follows from it.
    Inconclusive(String),
}

impl Outcome {
    /// Whether the pair works; `None` where nothing can be concluded.
    pub(super) fn verdict(&self) -> Option<bool> {
        match self {
            Self::Works => Some(true),
            Self::Refused(_) | Self::Impossible => Some(false),
            Self::Inconclusive(_) => None,
        }
    }

    /// In metrics.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Refused(_) => "refused",
            Self::Impossible => "impossible",
            Self::Inconclusive(_) => "inconclusive",
        }
    }

    /// For people, after the name of a volume kind.
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Works => "is admitted".to_owned(),
            Self::Refused(why) => format!("is refused: {}", shortened(why)),
            Self::Impossible => "is not possible: no version has a volumeImage".to_owned(),
            Self::Inconclusive(why) => format!("could not be tried: {}", shortened(why)),
        }
    }
}

fn shortened(why: &str) -> &str {
    &why[..why.floor_char_boundary(LONGEST)]
}
