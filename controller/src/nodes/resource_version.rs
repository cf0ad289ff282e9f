//! Whether one reading of an object is older than another: a watch may lag behind what was written or listed.

/// Whether an object that was read at `read` is at least as new as one at `known`. API servers count up; where somebody
/// else's are no numbers, any other one is taken for newer.
pub(super) fn is_at_least(read: &str, known: &str) -> bool {
    match (read.parse::<u64>(), known.parse::<u64>()) {
        (Ok(read), Ok(known)) => read >= known,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::is_at_least;

    #[test]
    fn versions_are_numbers_where_they_can_be() {
        assert!(is_at_least("10", "9") && is_at_least("9", "9") && !is_at_least("9", "10"));
        assert!(is_at_least("b", "a") && is_at_least("a", "b"));
    }
}
