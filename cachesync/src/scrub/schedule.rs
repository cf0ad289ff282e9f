//! Which version is read next.

use std::time::Duration;

use headstart_externals::version::VersionName;

/// The version whose turn it is at `now`: one that was never read as a whole, else the one that was not for longest, if
/// that is at least `interval` ago.
pub fn next<'v>(
    versions: impl Iterator<Item = (&'v VersionName, Option<Duration>)>,
    interval: Duration,
    now: Duration,
) -> Option<&'v VersionName> {
    let due = versions.filter(|(_, read)| read.is_none_or(|read| now.saturating_sub(read) >= interval));
    due.min_by_key(|(_, read)| *read).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_was_not_read_for_longest_comes_first() {
        let [a, b, c]: [VersionName; 3] =
            ["a", "b", "c"].map(|p| format!("{p}-0123456789ab").parse().unwrap());
        let at = |seconds| Some(Duration::from_secs(seconds));
        let turn = |versions: &[(&VersionName, Option<Duration>)]| {
            let turn = next(versions.iter().copied(), Duration::from_secs(100), Duration::from_secs(1000));
            turn.map(ToString::to_string)
        };
        assert_eq!(turn(&[(&a, at(900)), (&b, at(899)), (&c, at(950))]), Some(b.to_string()));
        assert_eq!(turn(&[(&a, at(1)), (&b, None)]), Some(b.to_string()), "never read");
        assert_eq!(turn(&[(&a, at(901)), (&b, at(2000))]), None);
    }
}
