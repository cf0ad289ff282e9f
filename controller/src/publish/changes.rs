//! What a new state means for people: the Events of a rollout.

use headstart_externals::config::{Config, Profile};
use headstart_externals::state::{Phase, PublishedState, PublishedVersion};
use headstart_externals::version::VersionName;

use super::forgotten::{is_configured, is_leftover};
use super::phases::phase_of;
use crate::news::News;

/// What changed from `before` to `after`. Leftovers are not worth an Event: there may be many, and nobody published them.
pub(super) fn changes(config: &Config, before: &[PublishedVersion], after: &[PublishedVersion]) -> Vec<News> {
    let mut found = Vec::new();
    for version in after.iter().filter(|version| !is_leftover(version)) {
        let old = phase_of(before, &version.name);
        if old != Some(version.phase) {
            found.extend(turned(config, before, &version.name, old, version.phase));
        }
    }
    let is_gone = |old: &&PublishedVersion| !is_leftover(old) && phase_of(after, &old.name).is_none();
    found.extend(before.iter().filter(is_gone).map(|old| {
        News::normal("VersionGone", format!("{} is gone: no pod carries it and no node reports it", old.name))
    }));
    found
}

fn turned(
    config: &Config,
    before: &[PublishedVersion],
    name: &VersionName,
    old: Option<Phase>,
    new: Phase,
) -> Option<News> {
    match (old, new) {
        (_, Phase::Offered) => Some(match replaced(config, before, name) {
            Some(newer) => News::normal(
                "VersionRolledBack",
                format!("new pods are given {name} again, in place of {newer}"),
            ),
            None => News::normal("VersionOffered", format!("new pods are given {name}")),
        }),
        (Some(Phase::Offered), Phase::Retiring) => Some(News::normal(
            "VersionRetiring",
            format!("new pods are not given {name} any more; it stays for those that carry it"),
        )),
        (Some(Phase::Retired), Phase::Retiring) => Some(News::warning(
            "VersionInUseAgain",
            format!("a pod carries {name} although it was retired; it is kept until none does"),
        )),
        (_, Phase::Retired) if is_configured(config, name) => Some(News::normal(
            "VersionRetired",
            format!(
                "no pod carries {name}; nodes may delete it, and its revision may be taken out of the configuration"
            ),
        )),
        (_, Phase::Retired) => {
            Some(News::normal("VersionRetired", format!("no pod carries {name}; nodes may delete it")))
        }
        _ => None,
    }
}

/// The newer revision of the same profile that was offered until now.
fn replaced<'c>(
    config: &'c Config,
    before: &[PublishedVersion],
    name: &VersionName,
) -> Option<&'c VersionName> {
    let place = |profile: &Profile| profile.revisions.iter().position(|known| known.version == *name);
    let (profile, at) = config.profiles.iter().find_map(|profile| Some((profile, place(profile)?)))?;
    let mut newer = profile.revisions[at + 1..].iter().map(|revision| &revision.version);
    newer.rfind(|newer| phase_of(before, newer) == Some(Phase::Offered))
}

/// Whether the configuration asks for another root than the one that is published, and pods may still come to mount there.
pub(super) fn keeps_root(config: &Config, before: Option<&PublishedState>) -> bool {
    before.is_some_and(|state| {
        let is_live = |version: &PublishedVersion| matches!(version.phase, Phase::Offered | Phase::Retiring);
        state.host_root != config.host_root && state.versions.iter().any(is_live)
    })
}

#[cfg(test)]
mod tests {
    use super::super::played::{Leader, configured, ready};
    use super::*;

    /// The reasons of what is told about one round.
    fn round(leader: &mut Leader, config: &Config, nodes: &[&[&str]]) -> Vec<&'static str> {
        let before = leader.published.clone();
        let nodes: Vec<_> = nodes.iter().map(|revisions| ready(revisions)).collect();
        leader.round(config, &nodes);
        changes(config, &before, &leader.published).into_iter().map(|news| news.reason).collect()
    }

    #[test]
    fn every_step_of_a_version_is_told_once() {
        let (both, back) = (configured(&["a", "b"], None, ""), configured(&["a", "b"], Some("a"), ""));
        let (first, last) = (configured(&["a"], None, ""), configured(&["b"], None, ""));
        let mut leader = Leader::default();
        assert_eq!(round(&mut leader, &first, &[&["a"]]), ["VersionOffered"]);
        assert!(round(&mut leader, &first, &[&["a"]]).is_empty());
        assert_eq!(round(&mut leader, &both, &[&["a", "b"]]), ["VersionRetiring", "VersionOffered"]);
        assert_eq!(round(&mut leader, &back, &[&["a", "b"]]), ["VersionRolledBack", "VersionRetiring"]);
        assert_eq!(round(&mut leader, &both, &[&["a", "b"]]), ["VersionRetiring", "VersionOffered"]);
        leader.after(&both, 300);
        assert_eq!(round(&mut leader, &both, &[&["a", "b"]]), ["VersionRetired"]);
        leader.pods = vec![super::super::played::version("a")];
        assert_eq!(round(&mut leader, &both, &[&["a", "b"]]), ["VersionInUseAgain"]);
        leader.pods.clear();
        assert_eq!(round(&mut leader, &last, &[&["a", "b"]]), ["VersionRetired"]);
        assert_eq!(round(&mut leader, &last, &[&["b"]]), ["VersionGone"]);
    }
}
