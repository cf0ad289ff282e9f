//! What `auto` means in a namespace, and why: Pod Security leaves a choice or not, and dry runs tell what else forbids.

use std::collections::BTreeMap;

use headstart_externals::names::NAMESPACE_LABEL;
use headstart_externals::state::{Allowed, AutoKind, MountKind, PublishedState};

use super::outcome::Outcome;
use super::verdicts::{ENFORCE, is_strict};
use crate::news::News;

/// What is said of a kind that no dry run was made with.
const UNTRIED: &str = "is not tried yet";

/// A namespace that leaves the choice to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Its name.
    pub namespace: String,
    /// The level that Pod Security enforces there, where that leaves only image volumes.
    pub strict: Option<String>,
}

impl Wish {
    /// `None` for a namespace that asks for something else.
    pub fn of(namespace: &str, labels: &BTreeMap<String, String>) -> Option<Self> {
        let is_auto = labels.get(NAMESPACE_LABEL).is_some_and(|wish| wish == "auto");
        let strict = labels.get(ENFORCE).filter(|_| is_strict(labels)).cloned();
        is_auto.then(|| Self { namespace: namespace.to_owned(), strict })
    }

    /// The kinds that are possible, most wanted first.
    fn kinds(&self) -> &'static [MountKind] {
        if self.strict.is_some() { &[MountKind::Image] } else { &[MountKind::HostPath, MountKind::Image] }
    }
}

/// What a wish comes to, by what is allowed and what was found out in this leader's term. As long as nothing was, what an
/// earlier leader said stands.
pub(super) fn resolve<'o>(
    wish: &Wish,
    allowed: &Allowed,
    found: impl Fn(MountKind) -> Option<&'o Outcome>,
    before: Option<&AutoKind>,
) -> AutoKind {
    let works = |kind: &MountKind| match allowed {
        Allowed::Everywhere => true,
        Allowed::Namespaces(pairs) => pairs.get(&wish.namespace).is_some_and(|kinds| kinds.contains(kind)),
    };
    let kind = wish.kinds().iter().copied().find(works);
    let is_new = wish.kinds().iter().any(|kind| found(*kind).is_some());
    if let Some(before) = before.filter(|before| !is_new && before.kind == kind) {
        return before.clone();
    }
    let level =
        wish.strict.as_ref().map(|level| format!("Pod Security enforces {level}, which forbids hostPath"));
    // The first that works decides; those after it do not matter.
    let last = wish.kinds().iter().position(works).map_or(wish.kinds().len(), |at| at + 1);
    let tried = wish.kinds()[..last].iter().map(|kind| match found(*kind) {
        Some(Outcome::Inconclusive(_)) if works(kind) => format!("{kind} was admitted before"),
        Some(outcome) => format!("{kind} {}", outcome.in_words()),
        None if works(kind) => format!("{kind} was admitted before"),
        None => format!("{kind} {UNTRIED}"),
    });
    AutoKind { kind, reason: level.into_iter().chain(tried).collect::<Vec<_>>().join("; ") }
}

/// Most bytes of all reasons together: what is published must fit a ConfigMap.
const MOST: usize = 128 * 1024;

/// The reasons as far as there is room for all of them.
pub(super) fn bounded(mut auto: BTreeMap<String, AutoKind>) -> BTreeMap<String, AutoKind> {
    let all: usize = auto.values().map(|auto| auto.reason.len()).sum();
    if all > MOST {
        let share = MOST / auto.len();
        for AutoKind { reason, .. } in auto.values_mut() {
            reason.truncate(reason.floor_char_boundary(share));
        }
    }
    auto
}

/// What is worth telling the namespaces: another kind, or the first one. That nothing was tried yet is not.
pub fn choices(before: Option<&PublishedState>, after: &PublishedState) -> Vec<(String, News)> {
    let known = |namespace: &String| before.and_then(|state| state.auto.get(namespace)).map(|auto| auto.kind);
    let is_new = |(namespace, auto): &(&String, &AutoKind)| {
        known(namespace).unwrap_or_default() != auto.kind
            || (auto.kind.is_none() && known(namespace).is_none() && !auto.reason.ends_with(UNTRIED))
    };
    let told = after.auto.iter().filter(is_new).map(|(namespace, AutoKind { kind, reason })| {
        let news = match kind {
            Some(kind) => News::normal("VolumeKindChosen", format!("auto means {kind} here: {reason}")),
            None => News::warning(
                "NoVolumeKind",
                format!("pods stay as they are, no volume kind works: {reason}"),
            ),
        };
        (namespace.clone(), news)
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use headstart_externals::config::Config;

    use super::*;

    fn wish(level: &str) -> Wish {
        let labels = BTreeMap::from([
            (NAMESPACE_LABEL.to_owned(), "auto".to_owned()),
            (ENFORCE.to_owned(), level.to_owned()),
        ]);
        Wish::of("arc", &labels).unwrap()
    }

    fn allowed(kinds: &[MountKind]) -> Allowed {
        Allowed::Namespaces(BTreeMap::from([(
            "arc".to_owned(),
            kinds.iter().copied().collect::<BTreeSet<_>>(),
        )]))
    }

    fn resolved(
        level: &str,
        kinds: &[MountKind],
        host_path: Option<Outcome>,
        image: Option<Outcome>,
    ) -> AutoKind {
        let found = |kind| if kind == MountKind::HostPath { host_path.as_ref() } else { image.as_ref() };
        resolve(&wish(level), &allowed(kinds), found, None)
    }

    #[test]
    fn the_reason_says_what_decided() {
        use MountKind::{HostPath, Image};
        let both = resolved("", &[HostPath, Image], Some(Outcome::Works), Some(Outcome::Works));
        assert_eq!((both.kind, both.reason.as_str()), (Some(HostPath), "hostpath is admitted"));
        let refused = Some(Outcome::Refused("no hostPath here".to_owned()));
        let image = resolved("privileged", &[Image], refused.clone(), Some(Outcome::Works));
        assert_eq!(image.kind, Some(Image));
        assert_eq!(image.reason, "hostpath is refused: no hostPath here; image is admitted");
        let none = resolved("", &[], refused, Some(Outcome::Impossible));
        assert_eq!(none.kind, None);
        assert!(none.reason.ends_with("image is not possible: no version has a volumeImage"), "{none:?}");
        let strict = resolved("baseline", &[], None, None);
        assert_eq!(strict.kind, None);
        assert_eq!(
            strict.reason,
            "Pod Security enforces baseline, which forbids hostPath; image is not tried yet"
        );
    }

    #[test]
    fn what_an_earlier_leader_found_stands_until_something_is_tried() {
        let said = AutoKind { kind: Some(MountKind::HostPath), reason: "as it was found".to_owned() };
        let inherited = allowed(&[MountKind::HostPath]);
        assert_eq!(resolve(&wish(""), &inherited, |_| None, Some(&said)), said);
        let lost = resolve(&wish("baseline"), &allowed(&[]), |_| None, Some(&said));
        assert_eq!(lost.kind, None, "Pod Security has changed");
        let unclear = Outcome::Inconclusive("timeout".to_owned());
        let still = resolve(&wish(""), &inherited, |_| Some(&unclear), Some(&said));
        assert_eq!(
            (still.kind, still.reason.as_str()),
            (Some(MountKind::HostPath), "hostpath was admitted before")
        );
    }

    #[test]
    fn reasons_are_shortened_where_there_are_too_many() {
        let of = |count: usize| {
            let auto = AutoKind { kind: None, reason: "ä".repeat(300) };
            let all = (0..count).map(|number| (number.to_string(), auto.clone()));
            bounded(all.collect()).values().map(|auto| auto.reason.len()).sum::<usize>()
        };
        assert_eq!(of(200), 200 * 600);
        assert!(of(1000) <= MOST && of(1000) > MOST / 2);
    }

    #[test]
    fn a_choice_is_told_once_and_not_before_anything_was_tried() {
        let state = |kind: Option<MountKind>, reason: &str| {
            let mut state = PublishedState::immediate(&Config::embedded().unwrap());
            state.auto.insert("arc".to_owned(), AutoKind { kind, reason: reason.to_owned() });
            state
        };
        let told = |before: Option<&PublishedState>, after: &PublishedState| {
            choices(before, after).into_iter().map(|(_, news)| news.reason).collect::<Vec<_>>()
        };
        let untried = state(None, "hostpath is not tried yet");
        let works = state(Some(MountKind::HostPath), "hostpath is admitted");
        let refused = state(None, "hostpath is refused");
        assert!(told(None, &untried).is_empty());
        assert_eq!(told(Some(&untried), &works), ["VolumeKindChosen"]);
        assert!(told(Some(&works), &works).is_empty());
        assert_eq!(told(Some(&works), &refused), ["NoVolumeKind"]);
        assert!(told(Some(&refused), &refused).is_empty());
        assert_eq!(told(None, &refused), ["NoVolumeKind"]);
    }
}
