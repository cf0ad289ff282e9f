//! Trouble that lasts: logged when it begins or changes and when it is over, not at every try.

use std::fmt::Display;

/// What goes wrong with one thing that is tried again and again.
#[derive(Debug, Default)]
pub struct Trouble {
    current: Option<String>,
}

impl Trouble {
    /// Takes note of a failure; whether it is another one than before.
    pub fn is_news(&mut self, error: &impl Display) -> bool {
        let text = error.to_string();
        let news = self.current.as_ref() != Some(&text);
        self.current = Some(text);
        news
    }

    /// Takes note of a success; whether it ends trouble.
    pub fn is_over(&mut self) -> bool {
        self.current.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_news() {
        let mut trouble = Trouble::default();
        assert!(!trouble.is_over());
        assert!(trouble.is_news(&"down"));
        assert!(!trouble.is_news(&"down"));
        assert!(trouble.is_news(&"forbidden"));
        assert!(trouble.is_over());
        assert!(!trouble.is_over());
        assert!(trouble.is_news(&"forbidden"));
    }
}
