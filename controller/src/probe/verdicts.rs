//! Which pairs of namespace and volume kind are to be tried, and for how long a verdict counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use headstart_externals::names::NAMESPACE_LABEL;
use headstart_externals::state::{Allowed, MountKind, Phase, PublishedState, PublishedVersion};

use super::outcome::Outcome;

/// How long a verdict is believed. A policy that begins to forbid the volume makes creations fail for no longer.
const GOOD_FOR: Duration = Duration::from_secs(60);

/// How long after an attempt that showed nothing the next one is made.
const RETRY: Duration = Duration::from_secs(15);

/// A pair to try.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    /// The namespace's name.
    pub namespace: String,
    /// The volume kind.
    pub kind: MountKind,
}

/// A pair that is asked for, and what its verdict depends on: when this changes, it is tried anew at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What to try.
    pub pair: Pair,
    /// The namespace's resource version: policies often follow its labels.
    pub resource_version: String,
}

/// The pairs that a namespace's labels ask for. Where Pod Security forbids a hostPath none is asked for: the webhook
/// would not be called for it.
pub fn candidates(
    namespace: &str,
    resource_version: &str,
    labels: &BTreeMap<String, String>,
) -> Vec<Candidate> {
    let is_strict = is_strict(labels);
    let kinds: &[MountKind] = match labels.get(NAMESPACE_LABEL).map_or("", String::as_str) {
        "hostpath" if !is_strict => &[MountKind::HostPath],
        "auto" if !is_strict => &[MountKind::HostPath, MountKind::Image],
        "image" | "auto" => &[MountKind::Image],
        _ => &[],
    };
    let candidate = |kind: &MountKind| Candidate {
        pair: Pair { namespace: namespace.to_owned(), kind: *kind },
        resource_version: resource_version.to_owned(),
    };
    kinds.iter().map(candidate).collect()
}

/// Whether a namespace that lost the hostPath still forbids or asks for it. Elsewhere nobody wants it any more, and the
/// API server admits it as before.
pub fn refuses_host_path(labels: &BTreeMap<String, String>) -> bool {
    let asks = matches!(labels.get(NAMESPACE_LABEL).map(String::as_str), Some("hostpath" | "auto"));
    asks || is_strict(labels)
}

/// Label by which Pod Security enforces a level.
pub(super) const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// Whether Pod Security forbids a hostPath there.
pub(super) fn is_strict(labels: &BTreeMap<String, String>) -> bool {
    let level = labels.get(ENFORCE).map(String::as_str);
    matches!(level, Some("baseline" | "restricted"))
}

/// What was found out, and when. Only a definite answer changes whether a pair works.
#[derive(Default)]
pub(super) struct Verdicts(HashMap<Pair, Verdict>);

struct Verdict {
    works: bool,
    /// The images of versions with which it was found to work.
    images: BTreeSet<String>,
    /// When the last attempt was made.
    at: Option<Instant>,
    /// What came of it in this leader's term.
    outcome: Option<Outcome>,
    /// What was tried last, and when the next attempt is due.
    tried: Option<Tried>,
    due: Option<Instant>,
}

/// What a verdict depends on besides the pair.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Tried {
    host_root: String,
    images: BTreeSet<String>,
    resource_version: String,
}

impl Tried {
    pub(super) fn new(state: &PublishedState, candidate: &Candidate) -> Self {
        Self {
            host_root: state.host_root.clone(),
            images: images(state),
            resource_version: candidate.resource_version.clone(),
        }
    }
}

/// The versions that pods can be given.
pub(super) fn live(state: &PublishedState) -> impl Iterator<Item = &PublishedVersion> {
    let is_live = |version: &&PublishedVersion| matches!(version.phase, Phase::Offered | Phase::Retiring);
    state.versions.iter().filter(is_live)
}

/// The images that they can be shown by.
fn images(state: &PublishedState) -> BTreeSet<String> {
    live(state).filter_map(|version| version.volume_image.clone()).collect()
}

impl Verdicts {
    /// What an earlier leader found counts until it is tried again, with the images that it published.
    pub(super) fn inherit(&mut self, before: &PublishedState) {
        let Allowed::Namespaces(pairs) = &before.allowed else { return };
        for (namespace, kinds) in pairs {
            for kind in kinds {
                let pair = Pair { namespace: namespace.clone(), kind: *kind };
                let known = || Verdict {
                    works: true,
                    images: images(before),
                    at: None,
                    outcome: None,
                    tried: None,
                    due: None,
                };
                self.0.entry(pair).or_insert_with(known);
            }
        }
    }

    /// When the pair was tried last.
    pub(super) fn last(&self, pair: &Pair) -> Option<Instant> {
        self.0.get(pair)?.at
    }

    /// Whether the pair has to be tried now.
    pub(super) fn is_due(&self, pair: &Pair, tried: &Tried, now: Instant) -> bool {
        self.0.get(pair).is_none_or(|verdict| {
            verdict.tried.as_ref() != Some(tried) || verdict.due.is_none_or(|due| now >= due)
        })
    }

    /// Keeps an answer, or takes note that there was none; whether it is news. The words of one that is not stay what they
    /// were: many name the pod that was tried, which never is the same.
    pub(super) fn keep(&mut self, pair: &Pair, outcome: &Outcome, tried: Tried, now: Instant) -> bool {
        let (before, answer) = (self.0.get(pair), outcome.verdict());
        let works = answer.unwrap_or(before.is_some_and(|before| before.works));
        let is_news =
            before.is_none_or(|before| before.works != works || before.tried.as_ref() != Some(&tried));
        let old = before.and_then(|before| before.outcome.clone()).filter(|_| !is_news);
        let is_clearer = |old: &Outcome| old.verdict().is_some() || answer.is_none();
        let outcome = Some(old.filter(is_clearer).unwrap_or_else(|| outcome.clone()));
        let due = now + if answer.is_some() { GOOD_FOR } else { RETRY };
        let images = match answer {
            Some(_) => tried.images.clone(),
            None => before.map_or_else(BTreeSet::new, |before| before.images.clone()),
        };
        let verdict = Verdict { works, images, at: Some(now), outcome, tried: Some(tried), due: Some(due) };
        self.0.insert(pair.clone(), verdict);
        is_news
    }

    /// What came of trying a pair in this leader's term.
    pub(super) fn outcome(&self, pair: &Pair) -> Option<&Outcome> {
        self.0.get(pair)?.outcome.as_ref()
    }

    /// Forgets pairs that nobody asks for any more.
    pub(super) fn retain(&mut self, candidates: &[Candidate]) {
        let asked: BTreeSet<(&str, MountKind)> =
            candidates.iter().map(|known| (known.pair.namespace.as_str(), known.pair.kind)).collect();
        self.0.retain(|pair, _| asked.contains(&(pair.namespace.as_str(), pair.kind)));
    }

    /// The pairs that work with all that `state` gives to pods: an image that was not admitted yet may be refused, and
    /// the pod with it.
    pub(super) fn allowed(&self, state: &PublishedState) -> Allowed {
        let images = images(state);
        let works = |(pair, verdict): &(&Pair, &Verdict)| {
            verdict.works && (pair.kind != MountKind::Image || images.is_subset(&verdict.images))
        };
        let mut pairs: BTreeMap<String, BTreeSet<MountKind>> = BTreeMap::new();
        for (pair, _) in self.0.iter().filter(works) {
            pairs.entry(pair.namespace.clone()).or_default().insert(pair.kind);
        }
        Allowed::Namespaces(pairs)
    }
}

#[cfg(test)]
mod tests {
    use headstart_externals::config::Config;

    use super::*;

    fn labels(wish: &str, enforced: &str) -> BTreeMap<String, String> {
        BTreeMap::from([
            (NAMESPACE_LABEL.to_owned(), wish.to_owned()),
            ("pod-security.kubernetes.io/enforce".to_owned(), enforced.to_owned()),
        ])
    }

    fn kinds(wish: &str, enforced: &str) -> Vec<MountKind> {
        candidates("arc", "1", &labels(wish, enforced)).into_iter().map(|found| found.pair.kind).collect()
    }

    fn state() -> PublishedState {
        PublishedState::immediate(&Config::embedded().unwrap())
    }

    fn unclear() -> Outcome {
        Outcome::Inconclusive("nobody answered".to_owned())
    }

    #[test]
    fn the_words_of_an_answer_stay_while_it_does() {
        let (state, now) = (state(), Instant::now());
        let candidate = candidates("arc", "7", &labels("hostpath", "")).remove(0);
        let (pair, tried) = (&candidate.pair, Tried::new(&state, &candidate));
        let mut verdicts = Verdicts::default();
        let refused = |pod: &str| Outcome::Refused(format!("pod {pod} is forbidden"));
        assert!(verdicts.keep(pair, &refused("a"), tried.clone(), now));
        assert!(!verdicts.keep(pair, &refused("b"), tried.clone(), now));
        assert_eq!(verdicts.outcome(pair), Some(&refused("a")));
        verdicts.keep(pair, &unclear(), tried.clone(), now);
        assert_eq!(verdicts.outcome(pair), Some(&refused("a")));
        assert!(verdicts.keep(pair, &Outcome::Works, tried, now));
        assert_eq!(verdicts.outcome(pair), Some(&Outcome::Works));
    }

    #[test]
    fn what_is_asked_for_follows_both_labels() {
        use MountKind::{HostPath, Image};
        assert_eq!(kinds("hostpath", "privileged"), [HostPath]);
        assert_eq!(kinds("auto", ""), [HostPath, Image]);
        assert_eq!(kinds("auto", "baseline"), [Image]);
        assert_eq!(kinds("image", "restricted"), [Image]);
        assert_eq!(kinds("hostpath", "baseline"), []);
        assert_eq!(kinds("yes please", ""), []);
    }

    #[test]
    fn a_pair_is_tried_again_after_a_while_and_at_once_when_something_changed() {
        let (state, now) = (state(), Instant::now());
        let candidate = candidates("arc", "7", &labels("hostpath", "")).remove(0);
        let (pair, tried) = (&candidate.pair, Tried::new(&state, &candidate));
        let mut verdicts = Verdicts::default();
        assert!(verdicts.is_due(pair, &tried, now));
        assert!(verdicts.keep(pair, &Outcome::Works, tried.clone(), now));
        assert!(!verdicts.is_due(pair, &tried, now + RETRY));
        assert!(verdicts.is_due(pair, &tried, now + GOOD_FOR));
        assert!(!verdicts.keep(pair, &Outcome::Works, tried.clone(), now), "the same verdict is no news");
        let elsewhere = PublishedState { host_root: "/elsewhere".to_owned(), ..state.clone() };
        assert!(verdicts.is_due(pair, &Tried::new(&elsewhere, &candidate), now));
        let touched = Candidate { resource_version: "8".to_owned(), ..candidate.clone() };
        assert!(verdicts.is_due(pair, &Tried::new(&state, &touched), now));
    }

    #[test]
    fn an_attempt_that_shows_nothing_leaves_the_verdict_as_it_was() {
        let (state, now) = (state(), Instant::now());
        let candidate = candidates("arc", "7", &labels("hostpath", "")).remove(0);
        let (pair, tried) = (&candidate.pair, Tried::new(&state, &candidate));
        let works =
            Allowed::Namespaces(BTreeMap::from([("arc".to_owned(), BTreeSet::from([MountKind::HostPath]))]));
        let mut verdicts = Verdicts::default();
        verdicts.inherit(&PublishedState { allowed: works.clone(), ..state.clone() });
        assert!(verdicts.is_due(pair, &tried, now), "what was inherited is tried at once");
        verdicts.keep(pair, &unclear(), tried.clone(), now);
        assert_eq!(verdicts.allowed(&state), works);
        assert!(verdicts.is_due(pair, &tried, now + RETRY));
        verdicts.keep(pair, &Outcome::Refused("no".to_owned()), tried, now);
        assert_eq!(verdicts.allowed(&state), Allowed::Namespaces(BTreeMap::new()));
        let mut new = Verdicts::default();
        new.keep(pair, &unclear(), Tried::new(&state, &candidate), now);
        assert_eq!(new.allowed(&state), Allowed::Namespaces(BTreeMap::new()), "nothing is assumed");
    }

    #[test]
    fn what_nobody_asks_for_any_more_is_not_allowed() {
        let mut verdicts = Verdicts::default();
        let both = candidates("arc", "1", &labels("auto", ""));
        for candidate in &both {
            verdicts.keep(&candidate.pair, &Outcome::Works, Tried::new(&state(), candidate), Instant::now());
        }
        verdicts.retain(&both[1..]);
        let only = BTreeMap::from([("arc".to_owned(), BTreeSet::from([MountKind::Image]))]);
        assert_eq!(verdicts.allowed(&state()), Allowed::Namespaces(only));
    }

    #[test]
    fn an_image_is_allowed_only_once_it_was_admitted_itself() {
        let with = |images: &[&str]| {
            let mut state = state();
            let version = state.versions.remove(0);
            let shown = images
                .iter()
                .map(|image| PublishedVersion { volume_image: Some((*image).to_owned()), ..version.clone() });
            PublishedState { versions: shown.collect(), ..state }
        };
        let (old, both) = (with(&["a"]), with(&["a", "b"]));
        let candidate = candidates("arc", "7", &labels("image", "")).remove(0);
        let mut verdicts = Verdicts::default();
        let only = BTreeMap::from([("arc".to_owned(), BTreeSet::from([MountKind::Image]))]);
        let works = Allowed::Namespaces(only);
        verdicts.inherit(&PublishedState { allowed: works.clone(), ..old.clone() });
        assert_eq!(verdicts.allowed(&old), works, "an earlier leader tried it");
        let mut keep = |state: &PublishedState, outcome: &Outcome| {
            verdicts.keep(&candidate.pair, outcome, Tried::new(state, &candidate), Instant::now());
            (verdicts.allowed(&old), verdicts.allowed(&both))
        };
        let nothing = Allowed::Namespaces(BTreeMap::new());
        assert_eq!(keep(&both, &unclear()), (works.clone(), nothing.clone()));
        assert_eq!(keep(&both, &Outcome::Works), (works.clone(), works));
        let mut retired = both.clone();
        retired.versions[0].phase = Phase::Retired;
        assert_eq!(images(&retired), BTreeSet::from(["b".to_owned()]), "no pod gets it any more");
        assert_eq!(keep(&both, &Outcome::Refused("b".to_owned())), (nothing.clone(), nothing));
    }
}
