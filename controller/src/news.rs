//! Something that people should hear of, before it becomes an Event.

/// Longest note that the API server takes, in bytes.
const LONGEST: usize = 1024;

/// What happened to one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Whether somebody may have to do something.
    pub is_warning: bool,
    /// One word, as programs filter by it.
    pub reason: &'static str,
    /// For people.
    pub note: String,
}

impl News {
    /// Something that went as it should.
    pub fn normal(reason: &'static str, note: impl Into<String>) -> Self {
        Self { is_warning: false, reason, note: shortened(note.into()) }
    }

    /// Something that did not.
    pub fn warning(reason: &'static str, note: impl Into<String>) -> Self {
        Self { is_warning: true, reason, note: shortened(note.into()) }
    }
}

fn shortened(mut note: String) -> String {
    const MARK: &str = "…";
    if note.len() > LONGEST {
        note.truncate(note.floor_char_boundary(LONGEST - MARK.len()));
        note.push_str(MARK);
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_fits_and_breaks_no_character() {
        let long = News::normal("X", "ä".repeat(600)).note;
        assert!(long.len() <= LONGEST && long.ends_with("ä…"), "{}", long.len());
        assert_eq!(News::warning("X", "short").note, "short");
    }
}
